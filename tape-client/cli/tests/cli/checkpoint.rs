//! `tape heads` and `tape verify --checkpoint`: heads are published as a checkpoint of a log, and what is cut or replaced behind it is found.

use crate::seeded::Seeded;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use tape_client::core::id::{Tenant, ValueName};
use tape_client::{Payload, Tape};

const ORIGIN: &str = "tape/acme";

/// A store with three runs and a value, a key, and a log that has nothing yet.
struct Publisher {
    seeded: Seeded,
}

impl Publisher {
    async fn new() -> Self {
        let publisher = Self {
            seeded: Seeded::new().await,
        };
        publisher.put("acme", &["1.07", "1.08"]).await;
        publisher.keygen("key", ORIGIN);
        publisher
    }

    /// Writes a value anew.
    async fn put(&self, tenant: &str, rates: &[&str]) {
        let tape = Tape::at(&self.seeded.url()).connect().await.unwrap();
        let value = tape.value(Tenant::new(tenant).unwrap(), ValueName::new("rate").unwrap());
        for rate in rates {
            let payload = Payload::new("text/plain", (*rate).to_owned()).unwrap();
            value.put(payload).await.unwrap();
        }
    }

    /// Removes the value and all that the store knows of it.
    async fn remove(&self) {
        let of = "stream = (SELECT id FROM stream WHERE name = 'acme/value/rate')";
        let tables =
            ["entry", "agenda", "head", "snapshot"].map(|table| format!("DELETE FROM {table} WHERE {of};"));
        let statements = tables.concat() + "DELETE FROM stream WHERE name = 'acme/value/rate'";
        self.seeded.execute(&statements).await;
    }

    fn at(&self, file: &str) -> PathBuf {
        self.seeded.dir.path().join(file)
    }

    fn path(&self, file: &str) -> String {
        self.at(file).to_str().unwrap().to_owned()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.at(file)).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.at(file), text).unwrap();
    }

    fn keygen(&self, file: &str, origin: &str) {
        let made = alone(&["heads", "keygen", "--origin", origin, "--out", &self.path(file)]);
        assert_eq!(made.status.code(), Some(0), "{made:?}");
    }

    /// What publishes the heads of a tenant.
    fn heads(&self, more: &[&str]) -> Output {
        let (log, key) = (self.path("log"), self.path("key"));
        let args = ["heads", "--tenant", "acme", "--log", &log, "--key", &key];
        self.seeded.tape(&[&args, more].concat())
    }

    /// Publishes the heads, and keeps the checkpoint in a file.
    fn publish(&self, file: &str) -> String {
        let output = self.heads(&[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let note = said(&output);
        self.write(file, &note);
        note
    }

    /// Verifies the journal by a checkpoint.
    fn verify(&self, checkpoint: &str, more: &[&str]) -> Output {
        let [checkpoint, log, key] = [checkpoint, "log", "key.pub"].map(|file| self.path(file));
        let args = [
            "verify",
            "--checkpoint",
            &checkpoint,
            "--heads",
            &log,
            "--key",
            &key,
        ];
        self.seeded.tape(&[&args, more].concat())
    }

    /// Asserts that verification ends with a code and says something.
    fn finds(&self, checkpoint: &str, code: i32, told: &str) {
        let found = self.verify(checkpoint, &[]);
        let text = said(&found) + &complained(&found);
        assert_eq!(found.status.code(), Some(code), "{told}: {text}");
        assert!(text.contains(told), "{told}: {text}");
    }
}

/// Runs a command that has no journal.
fn alone(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tape"));
    command.env_clear().args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

/// The hashes of the lines of a log, as RFC 6962 has them.
fn leaves(log: &str) -> Vec<Vec<u8>> {
    log.lines().map(|line| sha256(&[&[0], line.as_bytes()])).collect()
}

fn node(left: &[u8], right: &[u8]) -> Vec<u8> {
    sha256(&[&[1], left, right])
}

#[tokio::test]
async fn heads_are_printed_by_name_as_they_are_verified() {
    let publisher = Publisher::new().await;
    let heads = publisher.seeded.tape(&["heads", "--tenant", "acme"]);
    assert_eq!(heads.status.code(), Some(0));
    let text = said(&heads);
    let names: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    let expected = [
        "acme/run/treasury/ann/s1/done",
        "acme/run/treasury/ann/s1/unknown",
        "acme/run/treasury/ann/s1/waiting",
        "acme/value/rate",
    ];
    assert_eq!(names, expected);
    let verified = said(&publisher.seeded.tape(&["verify", "--tenant", "acme"]));
    for line in text.lines() {
        let head = line.rsplit(' ').next().unwrap();
        assert!(verified.contains(&format!("head {head}\n")), "{head}: {verified}");
    }
    // They are given as they were printed, as text or as JSON.
    let json = said(&publisher.seeded.tape(&["heads", "--tenant", "acme", "--json"]));
    for heads in [text, json] {
        publisher.write("heads", &heads);
        let (tenant, heads) = (["verify", "--tenant", "acme", "--heads"], publisher.path("heads"));
        let all = publisher.seeded.tape(&[&tenant[..], &[&heads]].concat());
        assert_eq!(all.status.code(), Some(0), "{}", said(&all));
    }
    let none = publisher.seeded.tape(&["heads", "--tenant", "acne"]);
    assert_eq!(none.status.code(), Some(1));
    assert_eq!(
        complained(&none),
        "tape: tenant 'acne' has no streams: there is nothing to publish\n"
    );
}

#[tokio::test]
async fn heads_are_published_the_journal_goes_on_and_both_checkpoints_hold() {
    let publisher = Publisher::new().await;
    let first = publisher.publish("first");
    let log = publisher.read("log");
    let l = leaves(&log);
    let root = node(&node(&l[0], &l[1]), &node(&l[2], &l[3]));
    let text = format!("{ORIGIN}\n4\n{}\n\n\u{2014} {ORIGIN} ", STANDARD.encode(&root));
    assert!(first.starts_with(&text), "{first}");
    publisher.finds("first", 0, "0 broken");
    // Nothing went on: nothing is appended, and the checkpoint is the same.
    assert_eq!(publisher.publish("again"), first);
    assert_eq!(publisher.read("log"), log);
    publisher.put("acme", &["1.09"]).await;
    publisher.publish("second");
    let longer = publisher.read("log");
    let more = longer.strip_prefix(&log).unwrap();
    assert!(
        more.starts_with("acme/value/rate 3:") && more.lines().count() == 1,
        "{more}"
    );
    for checkpoint in ["first", "second"] {
        publisher.finds(checkpoint, 0, "3 runs, 1 other stream, ");
    }
    // One stream of the log, and one that it does not have.
    let one = publisher.verify("first", &["--stream", "acme/value/rate"]);
    assert_eq!(one.status.code(), Some(0), "{}", complained(&one));
    let unknown = publisher.verify("first", &["--stream", "acme/value/new"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(complained(&unknown).contains("covers no head of acme/value/new"));
    // The proofs need no journal.
    let path = publisher.path("log");
    let prove = |more: &[&str]| {
        let output = alone(&[&["heads", "--log", &path], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        said(&output)
    };
    let l = leaves(&longer);
    let hashes =
        |hashes: &[&[u8]]| -> String { hashes.iter().map(|hash| STANDARD.encode(hash) + "\n").collect() };
    assert_eq!(prove(&["--consistency", "4"]), hashes(&[&l[4]]));
    let beside = node(&l[0], &l[1]);
    assert_eq!(
        prove(&["--consistency", "3", "--size", "4"]),
        hashes(&[&l[2], &l[3], &beside])
    );
    assert_eq!(
        prove(&["--consistency", "5"]) + &prove(&["--consistency", "0"]),
        ""
    );
    let rate = ["--inclusion", "acme/value/rate"];
    assert_eq!(prove(&rate), format!("index 4\nsize 5\n{}", hashes(&[&root])));
    let before = prove(&[&rate[..], &["--size", "4"]].concat());
    assert_eq!(before, format!("index 3\nsize 4\n{}", hashes(&[&l[2], &beside])));
    let json = prove(&[&rate[..], &["--json"]].concat());
    let expected = STANDARD.encode(&root);
    assert_eq!(
        json,
        format!("{{\"hashes\":[\"{expected}\"],\"index\":4,\"size\":5}}\n")
    );
    for (more, code) in [
        (&["--consistency", "6"][..], 2),
        (&["--consistency", "4", "--inclusion", "acme/value/rate"], 2),
        (&["--tenant", "acme", "--size", "4"], 2),
        (&["--consistency", "4", "--size", "6"], 2),
        (&["--inclusion", "acme/value/new"], 1),
        (&["--inclusion", "acme/value/rate", "--tenant", "other"], 2),
    ] {
        let output = alone(&[&["heads", "--log", &path], more].concat());
        assert_eq!(output.status.code(), Some(code), "{more:?}: {output:?}");
    }
}

#[tokio::test]
async fn a_tail_that_was_cut_after_publication_is_found() {
    let publisher = Publisher::new().await;
    publisher.publish("first");
    let log = publisher.read("log");
    // The last entry is removed everywhere, as one who can write to the database would.
    let of = "stream = (SELECT id FROM stream WHERE name = 'acme/value/rate')";
    let cut = format!(
        "DELETE FROM entry WHERE seq = 2 AND {of}; DELETE FROM snapshot WHERE {of}; \
         UPDATE head SET seq = 1, pos = (SELECT pos FROM entry WHERE seq = 1 AND {of}) WHERE {of}"
    );
    publisher.seeded.execute(&cut).await;
    let alone = publisher.seeded.tape(&["verify", "--tenant", "acme"]);
    assert_eq!(alone.status.code(), Some(0), "{}", said(&alone));
    publisher.finds("first", 1, "BROKEN  acme/value/rate  the journal ends at entry 1");
    let refused = publisher.heads(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let told = complained(&refused);
    assert_eq!(
        told,
        "BROKEN  acme/value/rate  the log has it at entry 2, and it ends at 1\n\
         tape: the journal was cut or replaced behind what the log has of 1 stream: nothing was appended\n"
    );
    assert_eq!(
        (said(&refused), publisher.read("log")),
        (String::new(), log.clone())
    );
    // A stream of the log that is gone altogether.
    publisher.remove().await;
    publisher.finds("first", 1, "BROKEN  acme/value/rate  the journal ends at entry 0");
    let refused = publisher.heads(&[]);
    assert!(complained(&refused).contains("the log has it at entry 2, and it is gone"));
    assert_eq!((refused.status.code(), publisher.read("log")), (Some(1), log));
}

#[tokio::test]
async fn entries_that_were_replaced_after_publication_are_found() {
    let publisher = Publisher::new().await;
    publisher.publish("first");
    let log = publisher.read("log");
    publisher.remove().await;
    publisher.put("acme", &["1.07", "9.99"]).await;
    let alone = publisher.seeded.tape(&["verify", "--tenant", "acme"]);
    assert_eq!(alone.status.code(), Some(0), "{}", said(&alone));
    publisher.finds("first", 1, "BROKEN  acme/value/rate  entry 2 has digest ");
    let refused = publisher.heads(&[]);
    assert!(
        complained(&refused).contains("the log has entry 2 with digest "),
        "{refused:?}"
    );
    assert_eq!((refused.status.code(), publisher.read("log")), (Some(1), log));
    // A history that went on cannot be told by its end: the heads that were published before tell it.
    publisher.put("acme", &["9.98"]).await;
    publisher.publish("second");
    for checkpoint in ["first", "second"] {
        publisher.finds(checkpoint, 1, "BROKEN  acme/value/rate  entry 2 has digest ");
    }
}

#[tokio::test]
async fn a_note_a_log_or_a_key_that_was_changed_proves_nothing() {
    let publisher = Publisher::new().await;
    let note = publisher.publish("first");
    let log = publisher.read("log");
    let with = |from: &str, to: &str| {
        assert!(note.contains(from), "{note}");
        publisher.write("changed", &note.replacen(from, to, 1));
        "changed"
    };
    publisher.finds(with("\n4\n", "\n3\n"), 1, "does not hold");
    publisher.finds(with(ORIGIN, "tape/acne"), 1, "does not hold");
    publisher.finds(
        with("\u{2014} tape/acme", "\u{2014} tape/acne"),
        1,
        "is not signed by tape/acme+",
    );
    publisher.finds(with("\n\n", "\n"), 1, "it is no signed note");
    publisher.finds("missing", 2, "checkpoint: ");
    // A witness signs too.
    let witness = format!("{note}\u{2014} witness.example {}\n", STANDARD.encode([7; 76]));
    publisher.write("witnessed", &witness);
    publisher.finds("witnessed", 0, "0 broken");
    // Another line, one fewer, another order; lines after those that are covered do not count.
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    for (changed, told) in [
        (log.replacen(":", ":0", 1), "its first 4 lines have root "),
        (lines[..3].concat(), "it has fewer than the 4 lines"),
        (log.trim_end().to_owned(), "it has fewer than the 4 lines"),
        (
            [lines[1], lines[0], lines[2], lines[3]].concat(),
            "its first 4 lines have root ",
        ),
    ] {
        publisher.write("log", &changed);
        publisher.finds("first", 1, told);
    }
    for uncovered in [
        "acme/value/rate 99:".to_owned(),
        format!("acme/value/rate 99:{}\nother\n", "0".repeat(64)),
    ] {
        publisher.write("log", &(log.clone() + &uncovered));
        publisher.finds("first", 0, "0 broken");
    }
    publisher.write("log", &log);
    // Another key of the same name, one of another log, and none.
    for (origin, told) in [
        (ORIGIN, "is not signed by tape/acme+"),
        ("tape/other", "is not signed by"),
    ] {
        publisher.keygen("another", origin);
        let key = publisher.path("another.pub");
        let [first, log] = ["first", "log"].map(|file| publisher.path(file));
        let args = ["verify", "--checkpoint", &first, "--heads", &log, "--key", &key];
        let found = publisher.seeded.tape(&args);
        assert_eq!(found.status.code(), Some(1), "{found:?}");
        assert!(complained(&found).contains(told), "{found:?}");
        for file in ["another", "another.pub"] {
            fs::remove_file(publisher.at(file)).unwrap();
        }
    }
    let [first, log] = ["first", "log"].map(|file| publisher.path(file));
    for key in ["tape/acme+00000000+AAAA", "/nowhere"] {
        let args = ["verify", "--checkpoint", &first, "--heads", &log, "--key", key];
        assert_eq!(publisher.seeded.tape(&args).status.code(), Some(2));
    }
    // The key's text is a key too.
    let text = publisher.read("key.pub");
    let args = [
        "verify",
        "--checkpoint",
        &first,
        "--heads",
        &log,
        "--key",
        text.trim_end(),
    ];
    assert_eq!(publisher.seeded.tape(&args).status.code(), Some(0));
}

#[tokio::test]
async fn a_log_and_a_key_are_of_one_tenant() {
    let publisher = Publisher::new().await;
    publisher.put("other", &["2"]).await;
    publisher.publish("first");
    let log = publisher.read("log");
    // The log of one tenant for another, by a key of that other.
    let [path, key] = ["log", "other"].map(|file| publisher.path(file));
    let other = ["heads", "--tenant", "other", "--log", &path, "--key"];
    publisher.keygen("other", "tape/other");
    let refused = publisher.seeded.tape(&[&other[..], &[&key]].concat());
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(complained(&refused).contains("is of another"), "{refused:?}");
    // The key of another log, which signs no line of this one.
    let wrong = publisher
        .seeded
        .tape(&[&other[..], &[&publisher.path("key")]].concat());
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(
        complained(&wrong).contains("the key is of the log tape/acme"),
        "{wrong:?}"
    );
    for args in [&["--tenant", "other"][..], &["--stream", "other/value/rate"]] {
        let found = publisher.verify("first", args);
        assert_eq!(found.status.code(), Some(2), "{found:?}");
        assert!(complained(&found).contains("of another"), "{found:?}");
    }
    // A tenant of the environment gives way to the log.
    let [first, log_path, public] = ["first", "log", "key.pub"].map(|file| publisher.path(file));
    let args = [
        "verify",
        "--checkpoint",
        &first,
        "--heads",
        &log_path,
        "--key",
        &public,
    ];
    let mut command = publisher.seeded.command(&args);
    assert_eq!(
        command.env("TAPE_TENANT", "other").status().unwrap().code(),
        Some(0)
    );
    // A line of another tenant in the log.
    let line = said(&publisher.seeded.tape(&["heads", "--tenant", "other"]));
    publisher.write("log", &(log.clone() + &line));
    let mixed = publisher.heads(&[]);
    assert_eq!(mixed.status.code(), Some(1));
    let told = "line 5: other/value/rate is of another tenant, the log is of 'acme'\n";
    assert!(complained(&mixed).ends_with(told), "{mixed:?}");
    assert_eq!(publisher.read("log"), log + &line);
}

#[tokio::test]
async fn a_line_that_was_not_written_to_its_end_gives_way() {
    let publisher = Publisher::new().await;
    let first = publisher.publish("first");
    let log = publisher.read("log");
    publisher.write("log", &(log.clone() + "acme/value/ra"));
    let output = publisher.heads(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        (said(&output), publisher.read("log")),
        (first.clone(), log.clone())
    );
    let told = "its last line was not written to its end, and is removed\n";
    assert!(complained(&output).ends_with(told), "{output:?}");
    // Whole lines that no checkpoint covers yet are covered by the next.
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    publisher.write("log", &(lines[..2].concat() + lines[2].trim_end()));
    assert_eq!(publisher.publish("first"), first);
    assert_eq!(publisher.read("log"), log);
}

#[tokio::test]
async fn a_damaged_stream_is_left_out_and_the_others_are_published() {
    let publisher = Publisher::new().await;
    let damage =
        "UPDATE head SET seq = 9 WHERE stream = (SELECT id FROM stream WHERE name = 'acme/value/rate')";
    publisher.seeded.execute(damage).await;
    let output = publisher.heads(&[]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(
        complained(&output).starts_with("BROKEN  acme/value/rate  "),
        "{output:?}"
    );
    assert!(said(&output).starts_with("tape/acme\n3\n"), "{output:?}");
    assert_eq!(publisher.read("log").lines().count(), 3);
}

#[tokio::test]
async fn keys_are_made_read_and_kept_secret() {
    let publisher = Publisher::new().await;
    let private = publisher.read("key");
    assert!(private.starts_with("PRIVATE+KEY+tape/acme+"), "a private key");
    let mode = |file: &str| fs::metadata(publisher.at(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("key"), 0o600);
    // A key that is there is not replaced.
    let path = publisher.path("key");
    let again = alone(&["heads", "keygen", "--origin", ORIGIN, "--out", &path]);
    assert_eq!(again.status.code(), Some(1));
    fs::remove_file(publisher.at("key.pub")).unwrap();
    let again = alone(&["heads", "keygen", "--origin", ORIGIN, "--out", &path]);
    assert_eq!(
        (again.status.code(), publisher.read("key")),
        (Some(1), private.clone())
    );
    assert!(
        !publisher.at("key.pub").exists(),
        "no public key of another private one"
    );
    // To the outputs: the private key and the public one apart.
    let printed = alone(&["heads", "keygen", "--origin", "example.com/log"]);
    assert!(said(&printed).starts_with("PRIVATE+KEY+example.com/log+"));
    assert!(complained(&printed).starts_with("example.com/log+"));
    assert_eq!(
        alone(&["heads", "keygen", "--origin", "a b"]).status.code(),
        Some(2)
    );
    // By the environment; what is no key is in no message.
    let log = publisher.path("log");
    let heads = ["heads", "--tenant", "acme", "--log", &log];
    let with = |key: &str| {
        let mut command = publisher.seeded.command(&heads);
        command.env("TAPE_HEADS_KEY", key).output().unwrap()
    };
    let cut = &private.trim_end()[..private.len() - 5];
    let refused = with(cut);
    assert_eq!(refused.status.code(), Some(2));
    let told = complained(&refused);
    assert_eq!(
        told,
        "tape: key: TAPE_HEADS_KEY: it is no private key of Ed25519, PRIVATE+KEY+NAME+ID+BASE64\n"
    );
    assert!(!publisher.at("log").exists(), "nothing was appended");
    let signed = with(&private);
    assert_eq!(said(&signed), publisher.publish("first"));
    // Without a key, the text alone, for a key that is elsewhere.
    let text = said(&with(""));
    assert_eq!(text.lines().count(), 3);
    assert!(said(&signed).starts_with(&format!("{text}\n\u{2014} ")));
}

/// Where OpenSSL is installed: runs the program that the page shows, which shares nothing with the command.
fn program_of_the_page(publisher: &Publisher) -> Option<impl Fn() -> Output> {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("openssl is not installed: skipped");
        return None;
    }
    let page = include_str!("../../../../docs/checkpoints.md");
    let (_, program) = page.split_once("\n```python\n").unwrap();
    let (program, _) = program.split_once("```\n").unwrap();
    publisher.write("verify.py", program);
    let files = ["verify.py", "log", "first", "key.pub"].map(|file| publisher.at(file));
    Some(move || Command::new("python3").args(&files).output().unwrap())
}

#[tokio::test]
async fn the_program_of_the_page_takes_what_is_signed_in_its_one_form_alone() {
    let publisher = Publisher::new().await;
    let Some(run) = program_of_the_page(&publisher) else {
        return;
    };
    publisher.publish("first");
    publisher.write("sign.py", include_str!("sign.py"));
    // The root over one line is its hash.
    let signed = |size: &str, log: &str| {
        publisher.write("log", log);
        let leaf = [b"\0", log.strip_suffix('\n').unwrap().as_bytes()].concat();
        let root = STANDARD.encode(Sha256::digest(leaf));
        publisher.write("text", &format!("{ORIGIN}\n{size}\n{root}\n"));
        let files = ["sign.py", "key", "text", "first"].map(|file| publisher.at(file));
        let sign = Command::new("python3").args(files).output().unwrap();
        assert!(sign.status.success(), "{}", complained(&sign));
        run()
    };
    let whole = format!("acme/value/rate 1:{}\n", "ab".repeat(32));
    let taken = signed("1", &whole);
    assert!(taken.status.success(), "{}", complained(&taken));
    for size in ["01", "+1", "0", " 1", "1_0", ""] {
        let refused = signed(size, &whole);
        assert_eq!(refused.status.code(), Some(1), "{size}");
        assert!(
            complained(&refused).contains("the size is not"),
            "{size}: {refused:?}"
        );
    }
    for (from, to) in [
        (" 1:", " 0:"),
        (" 1:", " 01:"),
        (" 1:", "  1:"),
        ("rate 1:", "rate 1:A"),
        ("\n", "\r\n"),
    ] {
        let refused = signed("1", &whole.replace(from, to));
        assert_eq!(refused.status.code(), Some(1), "{to:?}");
        assert!(
            complained(&refused).contains("a line that is no head"),
            "{to:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn the_program_of_the_page_verifies_a_checkpoint_without_tape() {
    let publisher = Publisher::new().await;
    let Some(run) = program_of_the_page(&publisher) else {
        return;
    };
    let note = publisher.publish("first");
    let log = publisher.read("log");
    let whole = run();
    assert!(whole.status.success(), "{}", complained(&whole));
    assert_eq!(said(&whole), log);
    publisher.write("log", &(log.clone() + "more\n"));
    assert_eq!(said(&run()), log, "what is not covered is not used");
    for (file, text, told) in [
        ("log", log.replacen(":", ":0", 1), "the log was changed"),
        ("log", log.trim_end().to_owned(), "the log was cut"),
        ("first", note.replacen("\n4\n", "\n3\n", 1), "openssl"),
        (
            "first",
            note.replacen("\u{2014} tape", "\u{2014} tope", 1),
            "not signed by this key",
        ),
    ] {
        publisher.write("log", &log);
        publisher.write("first", &note);
        publisher.write(file, &text);
        let refused = run();
        assert_eq!(refused.status.code(), Some(1), "{told}: {refused:?}");
        assert!(complained(&refused).contains(told), "{told}: {refused:?}");
    }
}
