//! The layers of the workspace: arrows point down only, and the core reaches nothing of the outside world.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// What the core must not depend on, directly or indirectly.
const OUTSIDE_WORLD: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "mio",
    "sqlx",
    "rusqlite",
    "hyper",
    "reqwest",
    "tonic",
    "axum",
    "rand",
    "rand_core",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
    "jiff",
    "libsqlite3-sys",
    "socket2",
    "rustix",
    "nix",
];

/// Words of the standard library that reach the outside world.
const OUTSIDE_WORDS: &[&str] = &[
    "SystemTime",
    "Instant::",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "async fn",
    ".await",
    "RandomState",
    "HashMap",
    "HashSet",
    "thread_rng",
    "new_v4",
    "println!",
    "eprintln!",
];

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    // A machine that has built the workspace has no crates of other platforms.
    let options = ["--offline", "--locked", "--filter-platform", &host()].map(str::to_owned);
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(options)
        .exec();
    metadata.expect("cargo describes the workspace")
}

/// The platform that cargo builds for unless told otherwise.
fn host() -> String {
    let version = Command::new(env!("CARGO"))
        .arg("-vV")
        .output()
        .expect("cargo tells its version");
    let version = String::from_utf8(version.stdout).expect("cargo writes UTF-8");
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("cargo tells its platform").to_owned()
}

/// Crates of the workspace by name, and those that each depends on.
type Layers = BTreeMap<String, BTreeSet<String>>;

/// The layers as they are documented.
fn documented() -> Layers {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("the map is there");
    let rows = text.lines().filter(|line| line.starts_with("| tape-"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let on = cells[3].split(", ").filter(|name| !name.is_empty());
        (cells[1].to_owned(), on.map(str::to_owned).collect())
    };
    rows.map(row).collect()
}

/// The layers as declared in the manifests, optional ones included, without those that only tests need.
fn declared() -> Layers {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let layer = |package: &&cargo_metadata::Package| {
        let built = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development);
        let on = built.map(|dependency| dependency.name.as_str());
        let on = on.filter(|name| names.contains(name)).map(str::to_owned);
        (package.name.to_string(), on.collect())
    };
    packages.iter().map(layer).collect()
}

#[test]
fn the_map_has_every_crate_and_what_it_stands_on() {
    assert_eq!(declared(), documented());
}

#[test]
fn arrows_point_down_only() {
    let mut left = declared();
    while !left.is_empty() {
        let lowest = left
            .iter()
            .find(|(_, on)| on.iter().all(|name| !left.contains_key(name)))
            .map(|(name, _)| name.clone());
        let lowest = lowest.unwrap_or_else(|| panic!("these stand on each other: {left:?}"));
        left.remove(&lowest);
    }
}

#[test]
fn the_core_reaches_no_outside_world() {
    // The core built by itself: features that other crates enable on shared dependencies are not its own.
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "tape-core",
            "-e",
            "no-dev",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("cargo writes text");
    let reached: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(
        reached.contains("tape-core") && reached.contains("serde"),
        "the tree is that of the core: {tree}"
    );
    for name in OUTSIDE_WORLD {
        assert!(!reached.contains(name), "tape-core reaches {name}");
    }
}

#[test]
fn the_core_names_no_outside_world() {
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                std::fs::read_dir(&path)
                    .expect("a readable folder")
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let found = OUTSIDE_WORDS.iter().find(|word| line.contains(**word));
            assert!(
                found.is_none(),
                "{} names {}: {line}",
                path.display(),
                found.unwrap_or(&"")
            );
        }
    }
}
