//! Results that cannot be kept or read: the effect is confirmed once, and the agent gets the same error in each drive.

use crate::world::{World, id};
use serde::Serialize;
use std::sync::atomic::{AtomicU32, Ordering};
use tape_client::core::id::{ConnectorName, RunId};
use tape_client::core::reply::{Missing, Rejection};
use tape_client::{Answer, Begun, CallError, Error, Payload, Run, Tape};

async fn driving(tape: &Tape) -> Run {
    match tape.run(id()).begin().await.unwrap() {
        Begun::Driving(run) => run,
        other => panic!("{other:?}"),
    }
}

/// Runs one effect with a result, in two drives of the run: what the agent gets in each, and how often the upstream was called.
async fn in_two_drives<T>(result: impl Fn() -> T) -> ([Result<T, Error>; 2], u32)
where
    T: Serialize + serde::de::DeserializeOwned,
{
    let world = World::new();
    let calls = AtomicU32::new(0);
    let drive = async |process: &str| {
        let tape = world.process(process, world.store.clone()).await;
        let run = driving(&tape).await;
        let decision = run.decide(&"pay", || async { Answer::json(&1) }).await.unwrap();
        let got = run
            .effect(&decision, "bank", "statement")
            .run(|_call| {
                calls.fetch_add(1, Ordering::Relaxed);
                let result = result();
                async move { Ok::<_, CallError>(result) }
            })
            .await;
        run.release(std::time::Duration::ZERO).await.unwrap();
        got
    };
    let both = [drive("one").await, drive("two").await];
    (both, calls.load(Ordering::Relaxed))
}

fn unreadable<T>(got: &Result<T, Error>) -> (&str, &Payload) {
    match got {
        Err(Error::Unreadable { problem, payload, .. }) => (problem, payload),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was read"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_over_the_limit_is_confirmed_once_and_its_size_named() {
    let (drives, calls) = in_two_drives(|| "x".repeat(1 << 20)).await;
    assert_eq!(calls, 1, "the upstream is not called again");
    for got in &drives {
        let (problem, payload) = unreadable(got);
        assert!(problem.contains("1048578 bytes"), "{problem}");
        let unkept = payload.as_unkept().unwrap();
        assert_eq!(
            (unkept.len, unkept.content_type.as_str()),
            (1_048_578, Payload::JSON)
        );
        assert!(unkept.head.0.starts_with(b"\"xxx"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_without_a_json_form_is_confirmed_once() {
    let keyed = || std::collections::BTreeMap::from([((1, 2), 3)]);
    let (drives, calls) = in_two_drives(keyed).await;
    assert_eq!(calls, 1);
    for got in &drives {
        unreadable(got);
    }
}

#[test]
fn what_is_no_fault_of_a_call_is_not_answered_by_mending_it() {
    let next = |rejection: Rejection| Error::from(rejection).next();
    let unsettled = next(Rejection::Unsettled {
        what: "effect #0.0".to_owned(),
    });
    assert!(unsettled.contains("re-driven"), "{unsettled}");
    let taken = next(Rejection::BusinessKeyTaken {
        connector: ConnectorName::new("bank").unwrap(),
        key: "invoice 1".to_owned(),
        run: RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap(),
        effect: "#0.0".parse().unwrap(),
        status: None,
        settled: None,
    });
    assert!(taken.contains("Tape::outcome"), "{taken}");
    assert_eq!(next(Rejection::not_found(Missing::Run)), "mend the call");
}
