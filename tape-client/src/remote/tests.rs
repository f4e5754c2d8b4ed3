//! Servers that hang behind a connection that looks healthy.

mod mute;

use super::{Journal as _, JournalError, Remote, watch};
use crate::{Error, Tape};
use futures::StreamExt as _;
use mute::{Mute, Reads};
use std::fmt::Debug;
use std::time::Duration;
use tape_api::query::{OlderEvents, Retirement, RunQuery, Tail, Until};
use tape_core::agenda::Queue;
use tape_core::command::{
    Command, DriverCommand, ExternalCommand, Rewind, RunCommand, SessionCommand, ValueCommand,
};
use tape_core::entry::obligation::ObligationId;
use tape_core::erasure::Erasure;
use tape_core::id::{EffectId, Epoch, Position, RunId, Scope, Seq, StreamId, Tenant, ValueName};
use tape_core::payload::Payload;

/// The time for an answer: none of these servers ever gives one, so it may be short.
const ANSWER: Duration = Duration::from_millis(50);
/// The time for an answer that does come.
const PATIENCE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(30);

fn remote(mute: &Mute) -> Remote {
    let machine = tape_environment::machine();
    Remote::answered_within(ANSWER, &mute.address, LEASE, machine).unwrap()
}

fn run_id() -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap()
}

async fn gives_up<T: Debug>(
    remote: &Remote,
    what: &str,
    called: impl Future<Output = Result<T, JournalError>>,
) {
    let before = remote.connection();
    let told = Box::pin(called).await;
    assert!(
        matches!(told, Err(JournalError::Unavailable(_))),
        "{what}: {told:?}"
    );
    assert_eq!(remote.connection(), before + 1, "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_out_of_reach_and_another_connection_is_taken() {
    let machine = tape_environment::machine();
    let remote = Remote::new("127.0.0.1:1", LEASE, machine).unwrap();
    let before = remote.connection();
    let told = remote.link.answer(std::future::pending::<Result<(), _>>()).await;
    assert!(matches!(told, Err(JournalError::Unavailable(_))), "{told:?}");
    assert_eq!(remote.connection(), before + 1);
}

#[tokio::test]
async fn every_call_that_writes_gives_up_a_server_that_hangs() {
    let mute = Mute::start(Reads::Unanswered).await;
    let (remote, run) = (remote(&mute), run_id());
    let command = |body| Command::new(remote.request_id(), body);
    let cancel = RunCommand::External(ExternalCommand::Cancel {
        reason: "not wanted".to_owned(),
    });
    gives_up(&remote, "cancel", remote.run(&run, command(cancel))).await;
    let session = run.session();
    let delete = Command::new(remote.request_id(), SessionCommand::Delete);
    gives_up(&remote, "delete", remote.session(&session, delete)).await;
    let rewind = Rewind {
        to: Seq(1),
        expected: None,
    };
    let rewind = Command::new(remote.request_id(), rewind);
    gives_up(&remote, "rewind", remote.rewind(&session, rewind)).await;
    let (tenant, name) = (acme(), limit());
    for change in [
        ValueCommand::Delete { expected: None },
        ValueCommand::Put {
            value: Payload::empty(),
            expected: None,
        },
    ] {
        let change = Command::new(remote.request_id(), change);
        gives_up(&remote, "a value", remote.value(&tenant, &name, change)).await;
    }
    let erasure = Erasure {
        entries: vec![Seq(1)],
        reason: "asked for".to_owned(),
    };
    let (stream, erasure) = (
        StreamId::Run(run.clone()),
        Command::new(remote.request_id(), erasure),
    );
    gives_up(&remote, "erase", remote.erase(&stream, erasure)).await;
    gives_up(&remote, "finish", remote.finish_erasures(&stream)).await;
    gives_up(&remote, "merge", remote.merge(&session)).await;
    let retirement = Retirement {
        tenant,
        older_than: Duration::ZERO,
        reason: "old".to_owned(),
        dry_run: false,
    };
    gives_up(&remote, "retire", remote.retire(&retirement, None, None)).await;
    gives_up(&remote, "reclaim", remote.reclaim()).await;
}

#[tokio::test]
async fn every_call_that_reads_gives_up_a_server_that_hangs() {
    let mute = Mute::start(Reads::Unanswered).await;
    let (remote, run) = (remote(&mute), run_id());
    let (session, stream) = (run.session(), StreamId::Run(run.clone()));
    gives_up(&remote, "head", remote.head(&run)).await;
    gives_up(&remote, "driver", remote.driver(&run)).await;
    gives_up(&remote, "view", remote.session_view(&session, 1)).await;
    let older = OlderEvents("9.9".to_owned());
    gives_up(&remote, "events", remote.session_events(&session, older, 1)).await;
    gives_up(&remote, "value", remote.value_state(&acme(), &limit())).await;
    gives_up(&remote, "read", remote.read(&run, Seq::ZERO, 1)).await;
    gives_up(&remote, "end", remote.stream_end(&stream)).await;
    let due = remote.due(Queue::Outbox, Duration::ZERO, None, 1);
    gives_up(&remote, "due", due).await;
    let position = Position {
        scope: Scope::root(),
        k: 0,
    };
    let effect = EffectId { position, call: 0 };
    gives_up(&remote, "an effect", remote.due_effect(&run, &effect)).await;
    let obligation = ObligationId { effect, copy: 0 };
    let due = remote.due_obligation(&run, &obligation);
    gives_up(&remote, "an obligation", due).await;
    let all = RunQuery::all(acme());
    gives_up(&remote, "runs", remote.runs(&all, None, 1)).await;
    gives_up(&remote, "streams", remote.streams(None)).await;
    gives_up(&remote, "an index", remote.check_index(None, false)).await;
}

#[tokio::test]
async fn every_stream_gives_up_a_server_that_does_not_open_it() {
    let mute = Mute::start(Reads::Unanswered).await;
    let (remote, run) = (remote(&mute), run_id());
    for until in [Until::End, Until::Forever] {
        let mut pages = remote.entries(&run, Seq::ZERO, until);
        gives_up(&remote, "entries", async { pages.next().await.unwrap() }).await;
        assert!(pages.next().await.is_none(), "an error is the last");
    }
    let mut pages = remote.stream_entries(&StreamId::Run(run.clone()));
    gives_up(&remote, "a stream", async { pages.next().await.unwrap() }).await;
    let mut changes = remote.watch(&acme(), &limit(), 0);
    gives_up(&remote, "a value", async { changes.next().await.unwrap() }).await;
    for follow in [false, true] {
        let mut feed = remote.tail(&Tail {
            from_start: true,
            follow,
            ..Tail::new(">".parse().unwrap())
        });
        gives_up(&remote, "the feed", async { feed.next().await.unwrap() }).await;
    }
}

#[tokio::test]
async fn a_page_that_does_not_come_is_waited_for_only_where_there_may_be_none() {
    let mute = Mute::start(Reads::Opened).await;
    let (remote, run) = (remote(&mute), run_id());
    let mut pages = remote.entries(&run, Seq::ZERO, Until::End);
    gives_up(&remote, "a page", async { pages.next().await.unwrap() }).await;
    // A reader that follows waits for as long as its connection is in use.
    let mut pages = remote.entries(&run, Seq::ZERO, Until::Forever);
    let before = mute.reads();
    let given_up = async {
        mute.reads_beyond(before).await;
        gives_up(&remote, "a head", remote.head(&run)).await;
    };
    let (told, ()) = tokio::join!(pages.next(), given_up);
    assert!(
        matches!(told, Some(Err(JournalError::Unavailable(_)))),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_run_whose_journal_does_not_come_is_not_begun() {
    for reads in [Reads::Unanswered, Reads::Opened] {
        let mute = Mute::start(reads).await;
        let tape = Tape::over(remote(&mute)).retry_for(2 * ANSWER);
        let tape = tape.connect().await.unwrap();
        // Until the server was asked: a busy machine may take long to connect.
        while mute.reads() == 0 {
            let told = tape.run(run_id()).begin().await;
            assert!(matches!(told, Err(Error::Unavailable { .. })), "{told:?}");
        }
        // It is read again only as long as the client retries: for the time of two answers.
        assert!(mute.reads() <= 2, "{} reads", mute.reads());
    }
}

fn acme() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn limit() -> ValueName {
    ValueName::new("limit").unwrap()
}

/// A server that has no version in common refuses the client before anything else is asked, and says which side to upgrade.
#[tokio::test]
async fn a_mismatch_of_versions_is_told_at_once_by_every_call() {
    let mute = Mute::start(Reads::Refused).await;
    let machine = tape_environment::machine();
    let remote = Remote::answered_within(PATIENCE, &mute.address, LEASE, machine).unwrap();
    let run = run_id();
    let cancel = RunCommand::External(ExternalCommand::Cancel {
        reason: "not wanted".to_owned(),
    });
    let cancelled = remote.run(&run, Command::new(remote.request_id(), cancel)).await;
    let renewed = RunCommand::Drive(Epoch(1), DriverCommand::AcceptCancel);
    let driven = remote.run(&run, Command::new(remote.request_id(), renewed)).await;
    let read = remote.entries(&run, Seq::ZERO, Until::End).next().await.unwrap();
    for told in [cancelled.map(drop), driven.map(drop), read.map(drop)] {
        let Err(JournalError::Damaged(cause)) = told else {
            panic!("{told:?}");
        };
        let text = cause.to_string();
        for part in [
            "tape-client/",
            "tape-server/9.0.0",
            "7-9",
            "1-1",
            "upgrade the client",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(mute.reads(), 0, "nothing was asked for");
}
