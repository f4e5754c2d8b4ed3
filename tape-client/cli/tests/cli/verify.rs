//! `tape verify`: changes behind the journal's back are found, and erased or dropped entries are not mistaken for them.

use crate::seeded::{DONE, Seeded};
use expect_test::expect;

const STREAM: &str = "(SELECT id FROM stream WHERE name = 'acme/run/treasury/ann/s1/done')";

#[tokio::test]
async fn an_erased_payload_leaves_the_chain_whole_and_a_truncated_journal_is_found() {
    let seeded = Seeded::new().await;
    let said = || String::from_utf8(seeded.tape(&["verify", DONE]).stdout).unwrap();
    let head_of = |said: &str| {
        said.lines()
            .next()
            .unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let published = said();
    let head = head_of(&published);
    assert_eq!(
        published,
        format!("ok      {DONE}  head {head}\n1 run, 7 entries verified, 0 payloads erased, 0 broken\n")
    );
    seeded.says(
        &[
            "--as",
            "olga",
            "erase",
            DONE,
            "1",
            "--reason",
            "asked for",
            "--yes",
        ],
        &expect![[r#"
        entry 8: records what was erased
    "#]],
    );
    let (erased, now) = (said(), head_of(&said()));
    assert_eq!(
        erased,
        format!(
            "ok      {DONE}  1 payload erased  head {now}\n\
             1 run, 9 entries verified, 1 snapshot verified, 1 payload erased, 0 broken\n"
        )
    );
    let verify = |head: &str| seeded.tape(&["verify", DONE, "--head", head]);
    assert!(verify(&head_of(&published)).status.success());
    let (seq, digest) = now
        .split_once(':')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let beyond = verify(&format!("{}:{digest}", seq.parse::<u64>().unwrap() + 1));
    assert_eq!(beyond.status.code(), Some(1));
    let broken = String::from_utf8(beyond.stdout).unwrap();
    assert!(broken.contains("before the published head"), "{broken}");
    let all = seeded.tape(&["verify", "--tenant", "acme"]);
    assert!(all.status.success());
    let all = String::from_utf8(all.stdout).unwrap();
    assert_eq!(all.lines().count(), 4, "{all}");
    assert!(
        all.ends_with("3 runs, 18 entries verified, 1 snapshot verified, 1 payload erased, 0 broken\n"),
        "{all}"
    );
    let json = String::from_utf8(seeded.tape(&["verify", DONE, "--json"]).stdout).unwrap();
    assert!(
        json.ends_with(
            "{\"broken\":0,\"doubted\":0,\"dropped\":0,\"entries\":9,\"erased\":1,\"heads\":0,\"heads_left_out\":0,\"runs\":1,\"snapshots\":1,\"streams\":0,\"uncovered\":0,\"unproved\":0}\n"
        ),
        "{json}"
    );
}

/// Each damage is reported with the run, the entry and the cause, and the other runs are still verified.
#[tokio::test]
async fn damage_of_one_run_is_told_and_the_others_are_verified() {
    let row = "row 4 of acme/run/treasury/ann/s1/done of table entry: ";
    for (damage, tells) in [
        (
            "UPDATE entry SET payload = NULL WHERE seq = 4 AND stream = ID",
            row.to_owned() + "its payload is gone, and it was not erased",
        ),
        (
            "UPDATE entry SET payload = x'00' WHERE seq = 4 AND stream = ID",
            "the payload of entry 4 was changed".to_owned(),
        ),
        (
            "UPDATE entry SET envelope = x'7b7d' WHERE seq = 4 AND stream = ID",
            "entry 4 was changed".to_owned(),
        ),
        (
            "UPDATE entry SET digest = x'00' WHERE seq = 4 AND stream = ID",
            row.to_owned() + "its digest has 1 bytes",
        ),
        (
            "DELETE FROM entry WHERE seq = 4 AND stream = ID",
            row.to_owned() + "the entry is not where it should be",
        ),
        (
            "DELETE FROM entry WHERE seq = 7 AND stream = ID",
            "row 7 of acme/run/treasury/ann/s1/done".to_owned(),
        ),
        (
            "UPDATE head SET seq = 5 WHERE stream = ID",
            "its last entry, 5, is not there".to_owned(),
        ),
        (
            "UPDATE head SET seq = 9 WHERE stream = ID",
            "row 9 of acme/run/treasury/ann/s1/done".to_owned(),
        ),
        (
            "UPDATE head SET seq = 5, pos = (SELECT pos FROM entry WHERE seq = 5 AND stream = ID) WHERE stream = ID",
            "its entries end at 5, the feed is at entry 7".to_owned(),
        ),
        (
            "DELETE FROM run WHERE stream = ID",
            "it is not in the list of runs".to_owned(),
        ),
        (
            "DELETE FROM head WHERE stream = ID",
            "its entries end at 0, the feed is at entry 7".to_owned(),
        ),
    ] {
        let seeded = Seeded::new().await;
        seeded.execute(&damage.replace("ID", STREAM)).await;
        let output = seeded.tape(&["verify", "--tenant", "acme"]);
        let said = String::from_utf8(output.stdout).unwrap();
        let said = said.replace(&format!("{}/book.db: ", seeded.dir.path().display()), "");
        assert_eq!(output.status.code(), Some(1), "{damage}: {said}");
        let broken = said
            .lines()
            .find(|line| line.starts_with(&format!("BROKEN  {DONE}  ")));
        assert!(
            broken.is_some_and(|line| line.contains(&tells)),
            "{damage}: {said}"
        );
        for other in ["waiting", "unknown"] {
            assert!(
                said.contains(&format!("ok      acme/treasury/ann/s1/{other}  head ")),
                "{damage}: {said}"
            );
        }
        assert!(
            said.lines()
                .last()
                .unwrap()
                .starts_with("3 runs, 9 entries verified, 0 payloads erased, "),
            "{damage}: {said}"
        );
        let one = seeded.tape(&["verify", DONE]);
        // A run that is asked for by its name need not be listed.
        let found = damage.starts_with("DELETE FROM run");
        assert_eq!(one.status.code(), Some(i32::from(!found)), "{damage}");
    }
}

/// A stream that is truncated together with its head is found with the feed, and not without it.
#[tokio::test]
async fn quick_verification_does_without_the_feed() {
    let seeded = Seeded::new().await;
    seeded
        .execute(
            "UPDATE head SET seq = 5, pos = (SELECT pos FROM entry e WHERE e.seq = 5 AND e.stream = head.stream) \
             WHERE stream = (SELECT id FROM stream WHERE name = 'acme/run/treasury/ann/s1/done')",
        )
        .await;
    let thorough = seeded.tape(&["verify", "--tenant", "acme"]);
    assert_eq!(thorough.status.code(), Some(1));
    let quick = seeded.tape(&["verify", "--tenant", "acme", "--quick"]);
    let said = String::from_utf8(quick.stdout).unwrap();
    assert!(quick.status.success(), "{said}");
    assert!(
        said.ends_with("3 runs, 14 entries verified, 0 payloads erased, 0 broken\n"),
        "{said}"
    );
}

#[tokio::test]
async fn a_run_that_lists_cannot_show_is_told() {
    let seeded = Seeded::new().await;
    seeded
        .execute("UPDATE run SET status = 'dancing' WHERE rowid = 1")
        .await;
    let output = seeded.tape(&["verify", "--tenant", "acme"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("BROKEN  {DONE}  it is not in the list of runs\n")),
        "{said}"
    );
    assert!(said.lines().last().unwrap().starts_with("3 runs, "), "{said}");
}

#[tokio::test]
async fn nothing_to_verify_is_an_error() {
    let seeded = Seeded::new().await;
    seeded.refuses(
        &["verify", "--tenant", "other"],
        &expect![[r#"
        tape: tenant 'other' has no streams: there is nothing to verify
    "#]],
    );
    seeded.refuses(
        &["verify", "acme/treasury/ann/s1/missing"],
        &expect![[r#"
        tape: there is no run 'acme/treasury/ann/s1/missing'
    "#]],
    );
    seeded.refuses(
        &["verify"],
        &expect![[r#"
        error: the following required arguments were not provided:
          <RUN>

        Usage: tape verify [OPTIONS] <RUN>
               tape verify [OPTIONS] --stream <STREAM>
               tape verify [OPTIONS] --tenant <TENANT>
               tape verify [OPTIONS] --all
               tape verify [OPTIONS] --file <FILE>
               tape verify [OPTIONS] --checkpoint <FILE> --heads <FILE> --key <KEY>

        For more information, try '--help'.
    "#]],
    );
}

/// A reader of the feed has to see that an entry is missing from it.
#[tokio::test]
async fn a_feed_with_a_damaged_entry_says_so_and_ends_with_the_code_of_damage() {
    for damage in [
        "UPDATE entry SET envelope = x'7b7d' WHERE seq = 4 AND stream = ID",
        "UPDATE entry SET digest = x'00' WHERE seq = 4 AND stream = ID",
    ] {
        let seeded = Seeded::new().await;
        seeded.execute(&damage.replace("ID", STREAM)).await;
        let tail = ["tail", "--from-start", "--once"];
        let text = seeded.tape(&tail);
        assert_eq!(text.status.code(), Some(4), "{damage}");
        let told = String::from_utf8(text.stderr).unwrap();
        assert!(told.contains("cannot be read: "), "{told}");
        let json = seeded.tape(&[&tail[..], &["--json"]].concat());
        assert_eq!(json.status.code(), Some(4), "{damage}");
        let lines = String::from_utf8(json.stdout).unwrap();
        let damaged: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &serde_json::Value| line["damaged"].is_string())
            .collect();
        assert_eq!(damaged.len(), 1, "{lines}");
        assert_eq!(
            lines.lines().count(),
            String::from_utf8(text.stdout).unwrap().lines().count() + 1
        );
    }
}

#[tokio::test]
async fn heads_that_would_not_be_compared_are_refused_and_the_others_counted() {
    let seeded = Seeded::new().await;
    let heads = seeded.dir.path().join("heads");
    let verify = |args: &[&str]| {
        let heads = ["verify", "--heads", heads.to_str().unwrap()];
        let output = seeded.tape(&[&heads, args].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let print = |args: &[&str]| std::fs::write(&heads, seeded.tape(args).stdout).unwrap();
    print(&["verify", DONE, "--json"]);
    for (args, told) in [
        (&["--tenant", "acme"][..], "verified, 1 published head compared, "),
        (&["--all"], "1 published head compared, "),
        (&[DONE], "1 published head compared, "),
    ] {
        let (code, said) = verify(args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        assert!(said.contains(told), "{args:?}: {said}");
    }
    for args in [&["--tenant", "other"][..], &["acme/treasury/ann/s1/waiting"]] {
        assert_eq!(verify(args), (Some(2), String::new()), "{args:?}");
    }
    print(&["heads", "--tenant", "acme"]);
    let (code, said) = verify(&[DONE]);
    assert_eq!(code, Some(0));
    let told = "1 published head compared, 2 of other streams not compared, ";
    assert!(said.contains(told), "{said}");
    for empty in ["", "{\"broken\":0}\n"] {
        std::fs::write(&heads, empty).unwrap();
        assert_eq!(verify(&["--all"]), (Some(2), String::new()), "{empty}");
    }
}

#[tokio::test]
async fn a_tenant_that_is_typed_must_be_that_of_the_run() {
    let seeded = Seeded::new().await;
    let other = expect![[r#"
        tape: tenant: is 'other', and acme/treasury/ann/s1/done is of another
    "#]];
    for command in ["verify", "export"] {
        seeded.refuses(&[command, DONE, "--tenant", "other"], &other);
        let same = seeded.tape(&[command, DONE, "--tenant", "acme"]);
        assert!(same.status.success(), "{command}");
        // That of the environment is only what is meant where nothing is named.
        let mut command = seeded.command(&[command, DONE]);
        assert!(command.env("TAPE_TENANT", "other").status().unwrap().success());
    }
    let stream = "acme/run/treasury/ann/s1/done";
    seeded.refuses(&["verify", "--stream", stream, "--tenant", "other"], &other);
    seeded.refuses(
        &["verify", "--all", "--tenant", "acme"],
        &expect![[r#"
        tape: tenant: is one, and --all means all of them: say one of the two
    "#]],
    );
    let mut all = seeded.command(&["verify", "--all"]);
    assert!(all.env("TAPE_TENANT", "other").status().unwrap().success());
}
