//! Generates the messages and services from the contract, without protoc.

use prost::Message as _;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "tape/v1/tape.proto";
    let set = protox::compile([file], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("tape.v1.bin"), set.encode_to_vec())?;
    // Payloads are taken out of received messages without copying them, and maps keep one order on the wire.
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .compile_fds(set)?;
    println!("cargo:rerun-if-changed=proto/{file}");
    Ok(())
}
