//! The agent of the README in a crate of its own, outside the workspace, with the client's default features, as an embedder builds it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const MAIN: &str = r#"
#[tokio::main]
async fn main() {
    let order = json!({ "amount": "12.50" });
    for _ in 0..2 {
        println!("{:?}", agent(order.clone()).await.unwrap());
    }
}
"#;

/// The crate's manifest. Its profile is the workspace's, so that dependencies are built once for both.
fn manifest() -> String {
    let client = env!("CARGO_MANIFEST_DIR");
    format!(
        r#"[package]
name = "embedder"
version = "0.0.0"
edition = "2024"
publish = false

[workspace]

[dependencies]
serde_json = "1"
tape-client = {{ path = "{client}" }}
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}

[profile.dev]
debug = "line-tables-only"
[profile.dev.package."*"]
debug = false
"#
    )
}

/// Most third-party crates that an embedder builds.
const CRATES_MAX: usize = 100;

/// The first example in Rust of the README.
fn example() -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, example) = readme.split_once("```rust\n").unwrap();
    example.split_once("```").unwrap().0.to_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Beside the programs of this build: what the crate needs is built once for many runs of this test.
fn target() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(3).unwrap().join("outside")
}

/// What cargo prints on its two outputs.
fn cargo(dir: &Path, args: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .arg("--offline")
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", target())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (said, errors) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{errors}");
    (said, errors)
}

#[test]
fn the_agent_of_the_readme_runs_in_a_crate_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("src")).unwrap();
    std::fs::write(dir.path().join("Cargo.toml"), manifest()).unwrap();
    std::fs::write(dir.path().join("src/main.rs"), example() + MAIN).unwrap();
    std::fs::copy(root().join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();

    let (said, errors) = cargo(dir.path(), &["run", "--quiet"]);
    assert_eq!(errors, "", "a build with the default features warns of nothing");
    let lines: Vec<&str> = said.lines().collect();
    // At the second start the run has ended, and returns its result.
    assert_eq!(lines.len(), 2, "{said}");
    assert_eq!(lines[0], lines[1]);
    assert!(lines[0].starts_with("Completed"), "{said}");

    let (tree, _) = cargo(
        dir.path(),
        &["tree", "--edges", "normal,build", "--prefix", "none"],
    );
    let crates = tree.lines().map(|line| line.trim_end_matches(" (*)"));
    let of_others: BTreeSet<&str> = crates.filter(|line| !line.contains('/')).collect();
    assert!(
        of_others.len() <= CRATES_MAX,
        "{} crates: {of_others:#?}",
        of_others.len()
    );
}
