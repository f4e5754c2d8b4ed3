//! `tape retention`: runs that ended long ago make room.

use crate::seeded::{DONE, Seeded, id};
use expect_test::expect;
use tape_client::Tape;

#[tokio::test]
async fn runs_that_ended_long_ago_make_room_and_say_how_they_ended() {
    let seeded = Seeded::new().await;
    let retention = [
        "retention",
        "--tenant",
        "acme",
        "--as",
        "mia",
        "--yes",
        "--reason",
        "quarter closed",
        "--older-than",
    ];
    let with = |more: &[&'static str]| [&retention[..], more].concat();
    seeded.says(
        &with(&["36500d"]),
        &expect![[r#"
        0 runs retired, 0 entries dropped
    "#]],
    );
    let head = String::from_utf8(seeded.tape(&["verify", DONE]).stdout).unwrap();
    let head = head
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    let before = seeded.tape(&["show", DONE]).stdout;
    seeded.says(
        &with(&["1s", "--dry-run"]),
        &expect![[r#"
        1 run would be retired, 7 entries dropped
    "#]],
    );
    assert_eq!(
        seeded.tape(&["show", DONE]).stdout,
        before,
        "a dry run changes nothing"
    );
    seeded.says(
        &with(&["1s"]),
        &expect![[r#"
        1 run retired, 7 entries dropped
    "#]],
    );
    seeded.says(
        &with(&["1s", "--json"]),
        &expect![[r#"
        {"dry_run":false,"entries":0,"left":0,"runs":0}
    "#]],
    );
    let shown = String::from_utf8(seeded.tape(&["show", DONE]).stdout).unwrap();
    for told in [
        "status   completed",
        "begun    2026-11-22 12:00:00.000 UTC",
        "retired  7 entries dropped",
        "7 entries dropped: quarter closed; the run ended 2026-11-22 12:00:01.750, completed",
        "(by mia)",
    ] {
        assert!(shown.contains(told), "'{told}' is not in:\n{shown}");
    }
    let listed = String::from_utf8(seeded.tape(&["runs", "--tenant", "acme"]).stdout).unwrap();
    assert!(!listed.contains(DONE), "{listed}");
    // Its chain verifies from the remaining entry. That does not prove what an earlier published head covered.
    let verified = seeded.tape(&["verify", DONE, "--head", &head]);
    let said = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(3), "{said}");
    assert!(
        said.starts_with(&format!(
            "PARTLY  {DONE}  retired, 7 entries dropped  not covered: what the published head at entry 7 covered was dropped  head 8:"
        )),
        "{said}"
    );
    assert!(
        said.ends_with("7 entries dropped, 1 published head not covered, 0 payloads erased, 0 broken\n"),
        "{said}"
    );
    let all = String::from_utf8(seeded.tape(&["verify", "--tenant", "acme"]).stdout).unwrap();
    assert!(
        all.ends_with("3 runs, 10 entries verified, 7 entries dropped, 0 payloads erased, 0 broken\n"),
        "{all}"
    );
    let other = format!("7:{}", "0".repeat(64));
    assert!(!seeded.tape(&["verify", DONE, "--head", &other]).status.success());
    // A caller that begins the run again is told how it ended.
    let tape = Tape::connect(&seeded.url()).await.unwrap();
    let begun = tape.run(id("done")).begin().await.unwrap();
    let ended = format!("{begun:?}");
    assert!(ended.contains("Completed"), "{ended}");
}

/// A run that ended and is long enough to have a snapshot: it loads without the entries before that.
async fn long_run(url: &str) {
    let tape = Tape::connect(url).await.unwrap();
    let run = tape.run(id("long")).begin().await.unwrap().driving().unwrap();
    for n in 0..300 {
        run.checkpoint("n", &n).await.unwrap();
    }
    run.complete(&"done").await.unwrap();
}

#[tokio::test]
async fn a_run_that_somebody_changed_is_left_as_it_is() {
    const LONG: &str = "acme/treasury/ann/s1/long";
    const STREAM: &str = "acme/run/treasury/ann/s1/long";
    let seeded = Seeded::new().await;
    long_run(&seeded.url()).await;
    seeded
        .execute(&format!(
            "UPDATE entry SET payload = CAST('7' AS BLOB) WHERE seq = 4 AND stream = \
             (SELECT id FROM stream WHERE name = '{STREAM}')"
        ))
        .await;
    let broken = seeded.tape(&["verify", LONG]);
    let said = String::from_utf8_lossy(&broken.stdout);
    assert_eq!(broken.status.code(), Some(1), "{said}");
    for more in [&["--dry-run"][..], &["--reason", "old"]] {
        let retention = [
            "retention",
            "--tenant",
            "acme",
            "--as",
            "mia",
            "--yes",
            "--older-than",
            "0s",
        ];
        let output = seeded.tape(&[&retention[..], more].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let left =
            format!("LEFT  {LONG}  the journal of {STREAM} is damaged: the payload of entry 4 was changed");
        assert!(said.contains(&left), "{said}");
        assert_eq!(seeded.tape(&["verify", LONG]).stdout, broken.stdout);
    }
}

#[tokio::test]
async fn retention_wants_an_age_and_a_reason_that_is_one() {
    let seeded = Seeded::new().await;
    let refused = |args: &[&str]| {
        let output =
            seeded.tape(&[&["retention", "--tenant", "acme", "--as", "mia", "--yes"], args].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = refused(&["--older-than", "90", "--reason", "r"]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("an age is a number with d, h, m or s, such as 90d"),
        "{said}"
    );
    let (code, said) = refused(&["--older-than", "0s", "--reason", ""]);
    assert_eq!(code, Some(1));
    assert!(said.contains("reason"), "{said}");
}
