//! `tape export`: what is written verifies by docs/format.md alone, and what cannot be written is told.

use crate::outsider::{Verified, verify};
use crate::seeded::{DONE, Seeded};
use std::process::Output;

const STREAM: &str = "acme/run/treasury/ann/s1/done";

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What an outsider finds of the run that is done.
fn found(file: &str) -> Result<Verified, String> {
    verify(file)?.remove(STREAM).unwrap()
}

fn export(seeded: &Seeded) -> String {
    let output = seeded.tape(&["export", DONE]);
    assert!(output.status.success(), "{}", err(&output));
    out(&output)
}

/// The head of the run as `tape verify` prints it.
fn head(seeded: &Seeded) -> String {
    let said = out(&seeded.tape(&["verify", DONE]));
    said.lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned()
}

fn head_of(verified: &Verified) -> String {
    format!("{}:{}", verified.last, verified.digest)
}

#[tokio::test]
async fn a_run_that_is_exported_verifies_without_tape() {
    let seeded = Seeded::new().await;
    let output = seeded.tape(&["export", DONE]);
    let verified = found(&out(&output)).unwrap();
    assert_eq!((verified.first, verified.last, verified.erased.len()), (1, 7, 0));
    assert_eq!(head_of(&verified), head(&seeded));
    // What was found is said beside it.
    assert_eq!(
        err(&output),
        format!(
            "ok      {DONE}  head {}\n1 run, 7 entries verified, 0 payloads erased, 0 broken\n",
            head(&seeded)
        )
    );
}

#[tokio::test]
async fn runs_and_whole_tenants_are_exported_to_a_file() {
    let seeded = Seeded::new().await;
    let path = seeded.dir.path().join("export.jsonl");
    let file = path.to_str().unwrap();
    let waiting = "acme/treasury/ann/s1/waiting";
    for (what, streams) in [
        (&["--tenant", "acme"][..], 3),
        // A run that is named twice is in it once.
        (&[DONE, waiting, DONE], 2),
    ] {
        let output = seeded.tape(&[&["export", "--out", file], what].concat());
        assert!(output.status.success(), "{}", err(&output));
        assert!(out(&output).ends_with(" 0 broken\n"), "{}", out(&output));
        let verified = verify(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(verified.len(), streams);
        assert!(verified.values().all(Result::is_ok), "{verified:?}");
    }
}

#[tokio::test]
async fn erased_bytes_are_not_exported_and_are_accounted_for() {
    let seeded = Seeded::new().await;
    let erase = [
        "--as",
        "olga",
        "erase",
        DONE,
        "1",
        "--reason",
        "asked for",
        "--yes",
    ];
    assert!(seeded.tape(&erase).status.success());
    let file = export(&seeded);
    let verified = found(&file).unwrap();
    assert_eq!(
        (verified.first, verified.last, verified.erased.clone()),
        (1, 9, vec![1])
    );
    assert_eq!(
        verified.snapshot,
        Some(8),
        "the snapshot that the erasure replaced"
    );
    assert_eq!(head_of(&verified), head(&seeded));
    // Without the entry that says so, they were destroyed.
    let destroyed = file.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["seq"] == 2 {
            line.as_object_mut().unwrap().remove("payload");
        }
        line.to_string() + "\n"
    });
    assert_eq!(
        found(&destroyed.collect::<String>()).unwrap_err(),
        "the bytes of {2} were destroyed"
    );
}

#[tokio::test]
async fn a_retired_run_is_exported_from_the_entry_that_stands_for_it() {
    let seeded = Seeded::new().await;
    let retention = [
        "--as",
        "mia",
        "--yes",
        "retention",
        "--tenant",
        "acme",
        "--older-than",
        "1s",
        "--reason",
        "old",
    ];
    assert!(seeded.tape(&retention).status.success());
    let verified = found(&export(&seeded)).unwrap();
    assert_eq!((verified.first, verified.last), (8, 8));
    assert_eq!(head_of(&verified), head(&seeded));
}

/// The reader of these tests is none that takes everything.
#[tokio::test]
async fn every_change_of_a_file_is_found() {
    let file = export(&Seeded::new().await);
    let lines: Vec<&str> = file.lines().collect();
    let whole = |lines: &[String]| found(&(lines.join("\n") + "\n"));
    for n in 1..=7 {
        let owned = || lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut without = owned();
        without.remove(n);
        assert!(whole(&without).is_err(), "entry {n} is missing");
        for member in ["seq", "digest", "envelope", "payload"] {
            let mut changed = owned();
            let mut line: serde_json::Value = serde_json::from_str(lines[n]).unwrap();
            line[member] = match &line[member] {
                serde_json::Value::String(text) if member == "envelope" => {
                    text.replacen("\"at\":", "\"at\": ", 1).into()
                }
                serde_json::Value::String(text) if member == "digest" => {
                    text.chars().rev().collect::<String>().into()
                }
                serde_json::Value::String(text) => format!("AAAA{text}").into(),
                seq => (seq.as_u64().unwrap() + 1).into(),
            };
            changed[n] = line.to_string();
            assert!(whole(&changed).is_err(), "{member} of entry {n} was changed");
        }
    }
    for end in 0..lines.len() {
        let cut: Vec<String> = lines[..end].iter().map(ToString::to_string).collect();
        assert!(
            verify(&(cut.join("\n") + "\n")).is_err(),
            "cut off after {end} lines"
        );
    }
}

#[tokio::test]
async fn what_is_gone_or_cannot_be_read_is_told_in_the_file_and_by_the_exit_code() {
    for damage in [
        "DELETE FROM entry WHERE seq = 4 AND stream = ID",
        "DELETE FROM entry WHERE seq = 7 AND stream = ID",
        "DELETE FROM entry WHERE stream = ID",
        "DELETE FROM head WHERE stream = ID",
        "UPDATE entry SET payload = NULL WHERE seq = 4 AND stream = ID",
        "UPDATE entry SET payload = x'00' WHERE seq = 4 AND stream = ID",
        "UPDATE entry SET envelope = x'7b7d' WHERE seq = 4 AND stream = ID",
        "UPDATE entry SET envelope = x'ff' WHERE seq = 4 AND stream = ID",
    ] {
        let seeded = Seeded::new().await;
        let id = format!("(SELECT id FROM stream WHERE name = '{STREAM}')");
        seeded.execute(&damage.replace("ID", &id)).await;
        for args in [&["export", "--tenant", "acme"][..], &["export", DONE]] {
            let output = seeded.tape(args);
            assert_eq!(output.status.code(), Some(1), "{damage}: {}", err(&output));
            assert!(
                err(&output).contains(&format!("BROKEN  {DONE}  ")),
                "{damage}: {}",
                err(&output)
            );
            let mut verified = verify(&out(&output)).unwrap();
            assert!(verified.remove(STREAM).unwrap().is_err(), "{damage}");
            assert!(verified.values().all(Result::is_ok), "{damage}: {verified:?}");
        }
    }
}

#[tokio::test]
async fn nothing_to_export_is_an_error() {
    let seeded = Seeded::new().await;
    for args in [
        &["export", "acme/treasury/ann/s1/missing"][..],
        &["export", "--tenant", "other"],
        &["export", "--out", "/nowhere/to/be/found", DONE],
    ] {
        let output = seeded.tape(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", err(&output));
        assert!(!out(&output).contains("\"streams\""), "{args:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_named_twice_is_exported_and_counted_once() {
    let seeded = Seeded::new().await;
    let output = seeded.tape(&["export", DONE, DONE]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output), export(&seeded));
    assert!(err(&output).ends_with("\n1 run, 7 entries verified, 0 payloads erased, 0 broken\n"));
}

#[tokio::test]
async fn an_export_that_fails_says_of_which_run_or_file() {
    let seeded = Seeded::new().await;
    let missing = "acme/treasury/ann/s1/missing";
    let refused = seeded.tape(&["export", DONE, missing]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).ends_with(&format!("tape: there is no run '{missing}'\n")));
    let nowhere = seeded.dir.path().join("none/export.jsonl");
    let refused = seeded.tape(&["export", DONE, "--out", nowhere.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        err(&refused).contains(nowhere.to_str().unwrap()),
        "{}",
        err(&refused)
    );
}

/// The names in the directory of the store and of exports, without those of the store.
fn files(seeded: &Seeded) -> Vec<String> {
    let names = std::fs::read_dir(seeded.dir.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("book.db")).collect()
}

#[tokio::test]
async fn an_export_that_ends_early_leaves_the_one_before() {
    let seeded = Seeded::new().await;
    let path = seeded.dir.path().join("export.jsonl");
    let file = path.to_str().unwrap();
    assert!(seeded.tape(&["export", "--out", file, DONE]).status.success());
    let before = std::fs::read_to_string(&path).unwrap();
    let missing = "acme/treasury/ann/s1/missing";
    let away = "--store=tape://127.0.0.1:1";
    for args in [
        &["export", "--out", file, missing][..],
        &["export", "--out", file, DONE, missing],
        &["export", "--out", file, "--tenant", "other"],
        &["export", "--out", file, away, DONE],
    ] {
        let output = seeded.tape(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", err(&output));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before, "{args:?}");
        assert_eq!(files(&seeded), ["export.jsonl"], "{args:?}");
    }
    // The reader of what is said about it is gone: it is cut short, too.
    let mut cut = seeded.command(&["export", "--out", file, DONE]);
    let status = cut.stdout(closed()).status().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert_eq!(files(&seeded), ["export.jsonl"]);
}

/// A pipe whose reader is gone.
fn closed() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

#[tokio::test]
async fn what_is_cut_short_is_no_success() {
    let seeded = Seeded::new().await;
    for args in [&["export", DONE][..], &["verify", DONE], &["agenda", "check"]] {
        let status = seeded.command(args).stdout(closed()).status().unwrap();
        assert_eq!(status.code(), Some(1), "{args:?}");
    }
    // What only shows is read as far as the reader likes.
    let mut runs = seeded.command(&["runs", "--tenant", "acme"]);
    assert!(runs.stdout(closed()).status().unwrap().success());
}

/// What `tape verify --file` says of a file, without a journal: its code and its output.
fn of_file(seeded: &Seeded, file: &str, args: &[&str]) -> (Option<i32>, String) {
    let path = seeded.dir.path().join("given.jsonl");
    std::fs::write(&path, file).unwrap();
    let mut command = seeded.command(&[&["verify", "--file", path.to_str().unwrap()], args].concat());
    let output = command.env_remove("TAPE_URL").output().unwrap();
    assert!(output.stderr.is_empty(), "{}", err(&output));
    (output.status.code(), out(&output))
}

#[tokio::test]
async fn a_file_is_verified_without_a_journal_and_as_one() {
    let seeded = Seeded::new().await;
    let exported = seeded.tape(&["export", "--tenant", "acme"]);
    let file = out(&exported);
    for json in [&["--json"][..], &[]] {
        let journal = out(&seeded.tape(&[&["verify", "--tenant", "acme"], json].concat()));
        let mut journal: Vec<&str> = journal.lines().collect();
        let (code, said) = of_file(&seeded, &file, json);
        let mut said: Vec<&str> = said.lines().collect();
        assert_eq!((code, said.pop()), (Some(0), journal.pop()));
        said.sort_unstable();
        journal.sort_unstable();
        assert_eq!(said, journal);
    }
    let mut command = seeded.command(&["verify", "--file", "-"]);
    let path = seeded.dir.path().join("given.jsonl");
    let piped = command
        .stdin(std::fs::File::open(path).unwrap())
        .output()
        .unwrap();
    assert_eq!(out(&piped), of_file(&seeded, &file, &[]).1);
}

#[tokio::test]
async fn a_file_must_have_what_was_published_and_what_is_named() {
    let seeded = Seeded::new().await;
    let (file, head) = (export(&seeded), head(&seeded));
    assert_eq!(of_file(&seeded, &file, &[DONE, "--head", &head]).0, Some(0));
    let cut = file.replace(file.lines().nth(7).unwrap(), "");
    let cut = cut.replace("\n\n", "\n");
    let sixth: serde_json::Value = serde_json::from_str(cut.lines().nth(6).unwrap()).unwrap();
    let old = head.split_once(':').unwrap().1;
    let cut = cut.replace(
        &format!("{{\"seq\":7,\"digest\":\"{old}\"}}"),
        &serde_json::json!({"seq": 6, "digest": sixth["digest"]}).to_string(),
    );
    assert_eq!(
        of_file(&seeded, &cut, &[]).0,
        Some(0),
        "only the published head tells"
    );
    let (code, said) = of_file(&seeded, &cut, &[DONE, "--head", &head]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("the journal ends at entry 6, before the published head at entry 7"),
        "{said}"
    );
    let waiting = "acme/treasury/ann/s1/waiting";
    let (code, said) = of_file(&seeded, &file, &[waiting]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("BROKEN  {waiting}  ")), "{said}");
    let misused = seeded.tape(&["verify", "--file", "/nowhere", "--head", &head]);
    assert_eq!(misused.status.code(), Some(2), "{}", err(&misused));
    for other in ["--all", "--quick"] {
        assert_eq!(
            seeded.tape(&["verify", "--file", "x", other]).status.code(),
            Some(2)
        );
    }
    assert_eq!(
        seeded
            .tape(&["verify", "--file", "/nowhere/to/be/found"])
            .status
            .code(),
        Some(2)
    );
}

/// A name that is none may have any length.
#[tokio::test]
async fn a_name_of_any_length_is_told_in_short() {
    let seeded = Seeded::new().await;
    let name = "a".repeat(1_000_000);
    let file = export(&seeded).replace(STREAM, &name);
    for args in [&[][..], &["--json"]] {
        let (code, said) = of_file(&seeded, &file, args);
        assert_eq!(code, Some(1));
        assert!(said.len() < 20_000, "{} bytes", said.len());
    }
}

/// No entry has the number 0, and the file has no form for a snapshot of it.
#[tokio::test]
async fn a_snapshot_of_no_entry_is_damage() {
    let seeded = Seeded::new().await;
    let statement =
        format!("INSERT OR REPLACE INTO snapshot SELECT id, 0, x'5b5d' FROM stream WHERE name = '{STREAM}'");
    seeded.execute(&statement).await;
    let verified = seeded.tape(&["verify", DONE]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(
        out(&verified).contains("the snapshot is of entry 0"),
        "{}",
        out(&verified)
    );
    let exported = seeded.tape(&["export", DONE]);
    assert_eq!(exported.status.code(), Some(1));
    let file = out(&exported);
    assert!(
        file.lines().next().unwrap().contains("\"snapshot\":null"),
        "{file}"
    );
    assert_eq!(of_file(&seeded, &file, &[]).0, Some(1));
}

/// A tenant that is typed narrows nothing in silence; one of the environment is not meant where a file is named.
#[tokio::test]
async fn a_tenant_that_is_typed_must_be_that_of_the_file() {
    let seeded = Seeded::new().await;
    assert_eq!(
        of_file(&seeded, &export(&seeded), &["--tenant", "acme"]).0,
        Some(0)
    );
    let path = seeded.dir.path().join("given.jsonl");
    let verify = ["verify", "--file", path.to_str().unwrap()];
    let refused = seeded.tape(&[&verify[..], &["--tenant", "other"]].concat());
    assert_eq!((refused.status.code(), out(&refused)), (Some(2), String::new()));
    assert!(err(&refused).contains("is of another"), "{}", err(&refused));
    let mut command = seeded.command(&verify);
    assert!(command.env("TAPE_TENANT", "other").status().unwrap().success());
}

#[tokio::test]
async fn the_file_of_a_damaged_journal_is_broken_and_says_nothing_of_the_machine() {
    for damage in [
        "DELETE FROM entry WHERE seq = 4 AND stream = ID",
        "DELETE FROM head WHERE stream = ID",
        "UPDATE entry SET digest = x'00' WHERE seq = 4 AND stream = ID",
        "UPDATE entry SET payload = x'00' WHERE seq = 4 AND stream = ID",
        "UPDATE head SET seq = 9 WHERE stream = ID",
    ] {
        let seeded = Seeded::new().await;
        let id = format!("(SELECT id FROM stream WHERE name = '{STREAM}')");
        seeded.execute(&damage.replace("ID", &id)).await;
        let file = out(&seeded.tape(&["export", "--tenant", "acme"]));
        for told in [seeded.dir.path().to_str().unwrap(), "book.db", "row ", "table "] {
            assert!(!file.contains(told), "{damage}: {told}: {file}");
        }
        let (code, said) = of_file(&seeded, &file, &[]);
        assert_eq!(code, Some(1), "{damage}: {said}");
        assert!(
            said.contains(&format!("BROKEN  {DONE}  the export says: "))
                || said.contains(&format!("BROKEN  {DONE}  ")),
            "{damage}: {said}"
        );
    }
}

/// An entry of a newer build proves neither that the run is damaged nor that it is whole.
#[tokio::test]
async fn what_a_newer_build_wrote_is_not_proved() {
    let seeded = Seeded::new().await;
    seeded
        .execute(&format!(
            "UPDATE entry SET envelope = CAST(replace(CAST(envelope AS TEXT), '\"v\":2', '\"v\":3') AS BLOB) WHERE seq = 4 \
             AND stream = (SELECT id FROM stream WHERE name = '{STREAM}')"
        ))
        .await;
    let journal = seeded.tape(&["verify", DONE]);
    let told = "not proved: entry 4 cannot be read: entry 4 has version 3, this build knows 2: a newer build wrote it; \
                nothing from there on is verified";
    assert_eq!(journal.status.code(), Some(3), "{}", out(&journal));
    assert!(
        out(&journal).starts_with(&format!("PARTLY  {DONE}  {told}  head 3:")),
        "{}",
        out(&journal)
    );
    let exported = seeded.tape(&["export", DONE]);
    assert_eq!(exported.status.code(), Some(3), "{}", err(&exported));
    let file = out(&exported);
    assert!(
        file.contains("\"seq\":7,"),
        "a newer build can verify all of it: {file}"
    );
    assert!(
        file.ends_with(&format!(
            "{{\"broken\":null,\"end\":\"{STREAM}\"}}\n{{\"broken\":0,\"streams\":1}}\n"
        )),
        "{file}"
    );
    let (code, said) = of_file(&seeded, &file, &[]);
    assert_eq!((code, said), (Some(3), out(&journal)));
}
