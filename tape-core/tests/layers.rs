//! The layers of the workspace: arrows point down only, and the core reaches nothing of the outside world.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Which crates of the workspace each crate may depend on, outside tests. What a crate must not know is what is not here.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("tape-core", &[]),
    ("tape-store", &["tape-core"]),
    ("tape-wal", &["tape-core", "tape-store"]),
    ("tape-proto", &["tape-core"]),
    (
        "tape-client",
        &["tape-core", "tape-proto", "tape-store", "tape-wal"],
    ),
    ("tape-cli", &["tape-client", "tape-program"]),
    (
        "tape-reactors",
        &[
            "tape-core",
            "tape-store",
            "tape-client",
            "tape-net",
            "tape-program",
        ],
    ),
    ("tape-net", &[]),
    ("tape-program", &[]),
    ("tape-generate", &[]),
    (
        "tape-server",
        &[
            "tape-core",
            "tape-store",
            "tape-wal",
            "tape-proto",
            "tape-net",
            "tape-program",
        ],
    ),
    ("tape-deploy", &[]),
    (
        "tape-examples",
        &[
            "tape-core",
            "tape-store",
            "tape-wal",
            "tape-reactors",
            "tape-proto",
            "tape-client",
            "tape-server",
        ],
    ),
];

/// What the core must not reach, however far down.
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
    // Of other platforms' crates a machine that has built the workspace has nothing.
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

/// For each package, what it depends on in a build: not what only its tests need.
fn graph(metadata: &Metadata) -> BTreeMap<&PackageId, Vec<&PackageId>> {
    let resolve = metadata.resolve.as_ref().expect("the metadata has a graph");
    let built = |kinds: &[cargo_metadata::DepKindInfo]| {
        kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
    };
    let edges = resolve.nodes.iter().map(|node| {
        let deps = node
            .deps
            .iter()
            .filter(|dep| built(&dep.dep_kinds))
            .map(|dep| &dep.pkg)
            .collect();
        (&node.id, deps)
    });
    edges.collect()
}

#[test]
fn arrows_point_down_only() {
    let metadata = metadata();
    let graph = graph(&metadata);
    let members: BTreeMap<&PackageId, &str> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (&package.id, package.name.as_str()))
        .collect();
    let known: BTreeSet<&str> = MAY_DEPEND_ON.iter().map(|(name, _)| *name).collect();
    let there: BTreeSet<&str> = members.values().copied().collect();
    assert_eq!(
        there, known,
        "a crate of the workspace has no place in the layers"
    );
    for (name, allowed) in MAY_DEPEND_ON {
        let (id, _) = members
            .iter()
            .find(|(_, member)| *member == name)
            .expect("it is a member");
        for dependency in graph[*id].iter().filter_map(|id| members.get(*id)) {
            assert!(
                allowed.contains(dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn the_core_reaches_no_outside_world() {
    // The core built by itself: the features that other crates ask of shared dependencies are not its own.
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
