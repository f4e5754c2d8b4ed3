//! Writes the messages and services of the contract into `src/generated` of `tape-proto`, without protoc. They are checked in, so
//! that a build of `tape-proto` needs no compiler of contracts. Run it after a change of the contract:
//!
//! ```sh
//! cargo run -p tape-generate
//! ```

use anyhow::Context as _;
use prost::Message as _;
use std::path::{Path, PathBuf};

/// The folder of the contract's files, below the folder of all of them.
const CONTRACT: &str = "tape/v1";

fn proto() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The contract's files, in the order of their names.
fn files() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(proto().join("proto").join(CONTRACT))? {
        let name = file?.file_name();
        let name = name.to_str().context("a file's name is no text")?;
        if name.ends_with(".proto") {
            names.push(format!("{CONTRACT}/{name}"));
        }
    }
    names.sort();
    Ok(names)
}

fn generate(into: &Path) -> anyhow::Result<()> {
    let set = protox::compile(files()?, [proto().join("proto")])?;
    // Comments become documentation of the code; who asks a server for its contract needs none.
    let mut bare = set.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    std::fs::write(into.join("tape.v1.bin"), bare.encode_to_vec())?;
    // Payloads are taken out of received messages without copying them, and maps keep one order on the wire.
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .emit_rerun_if_changed(false)
        .out_dir(into)
        .compile_fds(set)?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let into = proto().join("src/generated");
    generate(&into).with_context(|| format!("cannot write the code of {CONTRACT} into {}", into.display()))
}

#[cfg(test)]
mod tests {
    use super::{generate, proto};

    #[test]
    fn what_is_checked_in_is_what_the_contract_gives() {
        let made = tempfile::tempdir().unwrap();
        generate(made.path()).unwrap();
        for name in ["tape.v1.rs", "tape.v1.bin"] {
            let kept = std::fs::read(proto().join("src/generated").join(name)).unwrap();
            let made = std::fs::read(made.path().join(name)).unwrap();
            assert!(
                kept == made,
                "{name} is not what the contract gives: `cargo run -p tape-generate` writes it"
            );
        }
    }
}
