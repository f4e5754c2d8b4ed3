//! The Tape server: the journal over gRPC, on one port.
//!
//! The binary is thin; this library is for programs and tests that run a server in their own process:
//!
//! ```
//! use tape_server::{config::Config, server::Server};
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let config = Config::new("memory:", "127.0.0.1:0".parse().unwrap());
//! let server = Server::bind(config, tape_environment::machine()).await.unwrap();
//! println!("tape://{}", server.address());
//! server.run(async { /* until the server is to stop */ }).await.unwrap();
//! # });
//! ```
//!
//! This crate must not know the rules of streams (tape-core has them), how entries are stored, or which clients call.

mod calls;
pub mod config;
mod drivers;
mod failure;
mod health;
mod memory;
mod port;
mod rare;
pub mod server;
mod service;
pub mod shutdown;
