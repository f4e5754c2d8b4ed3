//! The wire contract of Tape: the messages and services of `proto/tape/v1`, and how they map onto the types of [`tape_core`].
//!
//! Read the `.proto` files for the contract itself. Only [`convert`] turns messages into commands and replies into messages. Errors are a
//! [`failure::Failure`] on both sides. This crate must not know how a journal is stored or how a client retries.

pub mod codec;
pub mod convert;
pub mod failure;
mod rejection;
mod words;

#[allow(
    rustdoc::all,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::large_futures,
    clippy::missing_errors_doc,
    clippy::or_fun_call,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    reason = "generated"
)]
/// Messages, clients and servers of the package `tape.v1`, as `tape-generate` writes them.
pub mod v1 {
    include!("generated/tape.v1.rs");
}

/// The contract as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/tape.v1.bin");

/// Largest message that either side accepts, in bytes: larger than the largest entry, command or page.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Room that is left in a message for what a stream puts around a request.
const ENVELOPE_BYTES: usize = 64;

/// Checks, before a request is sent, that it is not too large for a server.
///
/// # Errors
/// [`convert::InvalidField`] says how large it is.
pub fn fitting<M: prost::Message>(request: M) -> Result<M, convert::InvalidField> {
    let (bytes, max) = (request.encoded_len(), MESSAGE_BYTES_MAX - ENVELOPE_BYTES);
    if bytes <= max {
        return Ok(request);
    }
    Err(convert::InvalidField::new(
        "request",
        format!("has {bytes} bytes, the limit is {max}"),
    ))
}
