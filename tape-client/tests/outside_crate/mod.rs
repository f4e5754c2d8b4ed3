//! A crate outside the workspace, whose code stands in a page of the documentation: what an embedder has.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates of this build, so that dependencies are built once for both.
const PROFILE: &str = r#"
[profile.dev]
debug = "line-tables-only"
[profile.dev.package."*"]
debug = false
"#;

/// A crate in a directory of its own.
pub(crate) struct OutsideCrate {
    pub(crate) dir: tempfile::TempDir,
}

impl OutsideCrate {
    /// A crate of `name` with these `[dependencies]`.
    pub(crate) fn new(name: &str, dependencies: &str, main: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n[workspace]\n\n{dependencies}{PROFILE}"
        );
        std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
        std::fs::write(dir.path().join("src/main.rs"), main).unwrap();
        std::fs::copy(root().join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
        Self { dir }
    }

    /// What cargo prints on its two outputs.
    pub(crate) fn cargo(&self, args: &[&str]) -> (String, String) {
        let output = Command::new(env!("CARGO"))
            .args(args)
            .arg("--offline")
            .current_dir(self.dir.path())
            .env("CARGO_TARGET_DIR", target())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (said, errors) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{errors}");
        (said, errors)
    }
}

/// The blocks of a language in a page.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let begin = format!("```{language}\n");
    text.split(&begin)
        .skip(1)
        .map(|block| block.split_once("```").unwrap().0.to_owned())
        .collect()
}

/// The workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Beside the programs of this build: what the crate needs is built once for many runs of a test.
pub(crate) fn target() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(3).unwrap().join("outside")
}
