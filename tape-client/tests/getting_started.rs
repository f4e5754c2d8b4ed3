//! The agent of the getting-started page, in a crate of its own: killed at every line that it says, each payment is made once.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod outside_crate;

use outside_crate::{OutsideCrate, blocks, target};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use tape_environment::machine;
use tape_server::config::Config;
use tape_server::server::Server;

const PAGE: &str = "docs/getting-started.md";
/// Months, of which each is killed once, and those that are killed twice: twenty kills in all.
const MONTHS: usize = 11;
const MONTHS_KILLED_AGAIN: usize = 9;
/// Bills of a month.
const BILLS: usize = 3;

/// The program of the page, built once.
static BILLS_PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let bills = OutsideCrate::new("bills", &dependencies(0), &blocks(PAGE, "rust")[0]);
    let (_, errors) = bills.cargo(&["build", "--quiet"]);
    assert_eq!(errors, "", "it warns of nothing");
    target().join("debug/bills")
});

/// The n-th list of dependencies of the page, with the client of this build.
fn dependencies(n: usize) -> String {
    let dependencies = &blocks(PAGE, "toml")[n];
    assert!(dependencies.contains("../tape/tape-client"));
    dependencies.replace("../tape/tape-client", env!("CARGO_MANIFEST_DIR"))
}

/// Where the processes of one test run.
struct Place {
    dir: tempfile::TempDir,
    url: String,
}

impl Place {
    fn start(&self, args: &[&str]) -> Process {
        let mut child = Command::new(&*BILLS_PROGRAM)
            .args(args)
            .current_dir(self.dir.path())
            .env("TAPE_URL", &self.url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Process { child, lines }
    }

    /// Starts a month, and kills it once it has said so many lines.
    fn kill_after(&self, month: &str, lines: usize) {
        let mut process = self.start(&[month]);
        let said = process.lines.by_ref().take(lines).filter(Result::is_ok).count();
        assert_eq!(said, lines, "{month} ended by itself");
        process.child.kill().unwrap();
        assert_eq!(process.child.wait().unwrap().code(), None, "it was killed");
    }

    fn finish(&self, month: &str) {
        let mut process = self.start(&[month]);
        let said: Vec<String> = process.lines.by_ref().map(Result::unwrap).collect();
        assert!(process.child.wait().unwrap().success());
        assert_eq!(said.last().unwrap(), &format!("{month} has ended"));
    }

    /// What the bank did, by what it was: how often.
    fn booked(&self) -> BTreeMap<String, usize> {
        let mut booked = BTreeMap::new();
        for line in std::fs::read_to_string(self.dir.path().join("bank.txt"))
            .unwrap()
            .lines()
        {
            let (_key, bill) = line.split_once(' ').unwrap();
            *booked.entry(bill.to_owned()).or_default() += 1;
        }
        booked
    }
}

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a month after its first line, another after its second, and so on up to the last line before its end, so that each comes where the bank has paid
/// and nothing says so yet. Nine of them are killed again on their way.
fn killed_twenty_times(place: &Place) {
    for month in 1..=MONTHS {
        let name = format!("month-{month}");
        place.kill_after(&name, month);
        if month <= MONTHS_KILLED_AGAIN {
            place.kill_after(&name, 3 + month % 4);
        }
        place.finish(&name);
    }
    let booked = place.booked();
    assert_eq!(booked.len(), BILLS, "{booked:?}");
    assert!(
        booked.values().all(|times| *times == MONTHS),
        "each bill once in each month: {booked:?}"
    );
}

fn on_sqlite(dir: tempfile::TempDir) -> Place {
    let url = format!("sqlite:{}", dir.path().join("bills.db").display());
    Place { dir, url }
}

/// A server over a file, for as long as this process lives.
fn served(dir: &Path) -> String {
    let store = format!("sqlite:{}", dir.join("tape.db").display());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let config = Config::new(&store, "127.0.0.1:0".parse().unwrap());
            let server = Server::bind(config, machine()).await.unwrap();
            tell.send(server.address()).unwrap();
            server.run(std::future::pending()).await.unwrap();
        });
    });
    format!("tape://{}", told.recv().unwrap())
}

#[test]
fn the_agent_of_the_page_pays_each_bill_once_through_twenty_kills_over_a_file() {
    killed_twenty_times(&on_sqlite(tempfile::tempdir().unwrap()));
}

#[test]
fn the_agent_of_the_page_pays_each_bill_once_through_twenty_kills_over_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let url = served(dir.path());
    killed_twenty_times(&Place { dir, url });
}

#[test]
fn a_host_without_a_month_drives_what_a_killed_process_left_and_ends_at_sigterm() {
    let place = on_sqlite(tempfile::tempdir().unwrap());
    let mut host = place.start(&[]);
    // The bank has paid, and nothing says so yet.
    place.kill_after("march", 3);
    let mut said = host.lines.by_ref().map(Result::unwrap);
    assert!(said.any(|line| line == "march: paid \"Fabrikam\""));
    place.finish("march");
    let pid = host.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(host.child.wait().unwrap().success(), "it drains and ends well");
    assert!(place.booked().values().all(|times| *times == 1));
}

#[test]
fn the_test_of_the_page_passes() {
    let code = blocks(PAGE, "rust").concat();
    let dependencies = format!("{}\n{}", dependencies(0), dependencies(1));
    let bills = OutsideCrate::new("bills-tested", &dependencies, &code);
    let (said, _) = bills.cargo(&["test", "--quiet"]);
    assert!(said.contains("1 passed"), "{said}");
}
