//! The wire contract of Tape: the messages and services of `proto/tape/v1/tape.proto`, and how they map onto the words
//! of [`tape_core`].
//!
//! Read the `.proto` file for the contract itself. This crate must not know how a journal is stored or how a client retries.

#[allow(rustdoc::all, missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::large_futures, reason = "generated")]
/// Messages, clients and servers of the package `tape.v1`.
pub mod v1 {
    tonic::include_proto!("tape.v1");
}

/// The contract as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tape.v1.bin"));
