//! The agent of the README in a crate of its own, outside the workspace, with the client's default features, as an embedder builds it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod outside_crate;

use outside_crate::{OutsideCrate, blocks};
use std::collections::BTreeSet;

const MAIN: &str = r#"
#[tokio::main]
async fn main() {
    let order = json!({ "amount": "12.50" });
    for _ in 0..2 {
        println!("{:?}", pay(order.clone()).await.unwrap());
    }
}
"#;

fn dependencies() -> String {
    let client = env!("CARGO_MANIFEST_DIR");
    format!(
        r#"[dependencies]
serde_json = "1"
tape-client = {{ path = "{client}" }}
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}
"#
    )
}

/// Most third-party crates that an embedder builds.
const CRATES_MAX: usize = 100;

#[test]
fn the_agent_of_the_readme_runs_in_a_crate_of_its_own() {
    let main = blocks("README.md", "rust")[0].clone() + MAIN;
    let embedder = OutsideCrate::new("embedder", &dependencies(), &main);
    let (said, errors) = embedder.cargo(&["run", "--quiet"]);
    assert_eq!(errors, "", "a build with the default features warns of nothing");
    let lines: Vec<&str> = said.lines().collect();
    // At the second start the run has ended, and returns its result.
    assert_eq!(lines.len(), 2, "{said}");
    assert_eq!(lines[0], lines[1]);
    assert!(lines[0].starts_with("Completed"), "{said}");

    let (tree, _) = embedder.cargo(&["tree", "--edges", "normal,build", "--prefix", "none"]);
    let crates = tree.lines().map(|line| line.trim_end_matches(" (*)"));
    let of_others: BTreeSet<&str> = crates.filter(|line| !line.contains('/')).collect();
    assert!(
        of_others.len() <= CRATES_MAX,
        "{} crates: {of_others:#?}",
        of_others.len()
    );
}
