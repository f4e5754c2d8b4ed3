//! Reactions: added, listed, resting, removed.

use crate::seeded::Seeded;
use serde_json::Value;

fn lines(seeded: &Seeded, args: &[&str]) -> Vec<Value> {
    let output = seeded.tape(&[&["--as", "mia", "--json", "reactions"], args].concat());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn refused(seeded: &Seeded, args: &[&str]) -> String {
    let output = seeded.tape(&[&["--as", "mia", "reactions"], args].concat());
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

const ADD: &[&str] = &["add", "audit", "--tenant", "acme", "--when", "acme.run.>"];

#[tokio::test]
async fn one_is_added_once_and_listed_as_it_is_kept() {
    let seeded = Seeded::new().await;
    let begins = [
        "--begin",
        "audit",
        "--debounce",
        "5s",
        "--concurrency",
        "3",
        "--rate",
        "10/1m",
    ];
    let add = [ADD, &begins].concat();
    assert_eq!(lines(&seeded, &add)[0]["is"], "added");
    let again = refused(&seeded, &add);
    assert!(
        again.contains("is there already; to change it, add --replace"),
        "{again}"
    );
    let replace = [ADD, &["--signal", "go", "--run", "same", "--replace"]].concat();
    assert_eq!(lines(&seeded, &replace)[0]["version"], 2);
    let listed = lines(&seeded, &["list", "--tenant", "acme"]);
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(listed[0]["definition"]["then"]["signal"]["run"], "same");
    assert_eq!(listed[1]["listed"], 1);
}

#[tokio::test]
async fn one_rests_goes_on_and_is_removed() {
    let seeded = Seeded::new().await;
    let add = [
        ADD,
        &["--outbox", "ledger/post", "--request", "{\"amount\":1.10}"],
    ]
    .concat();
    lines(&seeded, &add);
    let named = |what: &'static str| [what, "audit", "--tenant", "acme"];
    assert_eq!(lines(&seeded, &named("pause"))[0]["is"], "rests");
    let listed = lines(&seeded, &["list", "--tenant", "acme"]);
    assert_eq!(listed[0]["definition"]["paused"], true);
    assert_eq!(lines(&seeded, &named("resume"))[0]["is"], "goes on");
    assert_eq!(lines(&seeded, &named("remove"))[0]["is"], "removed");
    assert!(refused(&seeded, &named("remove")).contains("'audit' is none of tenant 'acme'"));
    assert_eq!(lines(&seeded, &["list", "--tenant", "acme"]).len(), 1);
    // Its name is free again.
    lines(&seeded, &add);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_kept_nowhere() {
    let seeded = Seeded::new().await;
    let cases: [(&[&str], &str); 7] = [
        (
            &["--begin", "a", "--predicate", "1 +"],
            "`when.predicate` does not hold",
        ),
        (&["--begin", "tape.reaction"], "the journal's own app"),
        (
            &["--begin", "a", "--rate", "10"],
            "a rate is a number of runs and a time",
        ),
        (
            &["--begin", "a", "--signal", "g", "--run", "same"],
            "cannot be used with",
        ),
        (&["--signal", "g"], "--run <RUN>"),
        (
            &["--signal", "g", "--run", "same", "--concurrency", "1"],
            "is for reactions that begin runs",
        ),
        (&[], "required"),
    ];
    for (args, said) in cases {
        let problem = refused(&seeded, &[ADD, args].concat());
        assert!(problem.contains(said), "{args:?}: {problem}");
    }
    assert_eq!(lines(&seeded, &["list", "--tenant", "acme"]).len(), 1);
}
