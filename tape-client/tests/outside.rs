//! The agent of the README in a crate of its own, outside the workspace, with the client's default features, as an embedder builds it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod outside_crate;

use outside_crate::{OutsideCrate, blocks, target};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tape_api::recovery::{Handover, Redrive, Taken};
use tape_client::core::id::Holder;
use tape_client::{RunId, Tape};
use tape_engine::Engine;
use tape_environment::machine;

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

/// The program that a `tape-reactor` starts, with the agent of the getting-started page.
fn command_agent() -> OutsideCrate {
    let page = "docs/getting-started.md";
    let agent = blocks(page, "rust")[0].replace("async fn pay_bills", "pub async fn pay_bills");
    let program = blocks("docs/reactors.md", "rust")[0].clone();
    let main = format!("{program}\nuse bills::pay_bills;\n#[allow(dead_code)]\nmod bills {{\n{agent}\n}}\n");
    let client = env!("CARGO_MANIFEST_DIR");
    let dependencies = blocks(page, "toml")[0].replace("../tape/tape-client", client);
    let serde = "serde = { version = \"1\", features = [\"derive\"] }\n";
    OutsideCrate::new("command-agent", &(dependencies + serde), &main)
}

#[tokio::test]
async fn the_command_agent_of_the_page_adopts_a_run_and_drives_it_to_its_end() {
    command_agent().cargo(&["build", "--quiet"]);
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("bills.db").display());
    let store = tape_store::open::open(&url).await.unwrap();
    let engine = Engine::start_in(store, machine());
    let tape = Tape::over(engine.clone()).connect().await.unwrap();
    let id = RunId::new("acme", "bills", "ann", "accounts", "march").unwrap();
    let bills = json!([{ "to": "Northwind", "cents": 12_050 }]);
    let run = tape.run(id.clone()).input_json(&bills).begin().await.unwrap();
    run.driving().unwrap().release(Duration::ZERO).await.unwrap();
    let recovery = Holder::new("recovery").unwrap();
    let handover = Handover::new(Arc::new(engine), recovery, Duration::from_secs(30));
    let Taken::Held(epoch) = handover.take(&id).await.unwrap() else {
        panic!("it is due");
    };
    let redrive = serde_json::to_string(&Redrive::new(id.clone(), epoch)).unwrap();
    let mut program = Command::new(target().join("debug/command-agent"));
    program.current_dir(dir.path()).env("TAPE_URL", &url);
    assert!(program.env("TAPE_REDRIVE", redrive).status().unwrap().success());
    let begun = tape.run(id).begin().await.unwrap();
    let tape_client::Begun::Ended(result) = begun else {
        panic!("it has ended");
    };
    assert_eq!(result.output::<usize>().unwrap(), 1);
}
