//! The tests that every sink has to pass, exported so that sinks elsewhere can be held to them too.
//!
//! A sink's test file is a [`Fixture`], which sees what the other system has, and one macro call:
//!
//! ```no_run
//! use async_trait::async_trait;
//! use std::sync::Arc;
//! use tape_relay::conformance::{Fault, Fixture, Received};
//! use tape_relay::sink::Sink;
//! use tape_relay::sinks::null::Null;
//!
//! #[derive(Debug)]
//! struct Nothing;
//!
//! #[async_trait]
//! impl Fixture for Nothing {
//!     fn sink(&self) -> Arc<dyn Sink> {
//!         Arc::new(Null)
//!     }
//!     async fn received(&self) -> Option<Vec<Received>> {
//!         None
//!     }
//! }
//!
//! tape_relay::conformance!(|| async { Nothing });
//! # fn main() {}
//! ```
//!
//! The tests are listed once, below. Where a fixture cannot make a fault, or cannot see what was received, the test says so on standard error
//! and passes. Each test is a plain function that panics where the sink breaks its promise, so a deliberately broken sink can be seen to
//! fail the test that is named for it.

mod delivery;
mod faults;
pub mod pen;
mod usable;

use crate::event::Event;
use crate::sink::Sink;
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

/// A fresh sink to be tested, and the system that it delivers to.
#[async_trait]
pub trait Fixture: Debug + Send + Sync + 'static {
    /// The sink, always the same.
    fn sink(&self) -> Arc<dyn Sink>;

    /// Everything that the other system has, in the order in which it took it, repetitions included; none where that cannot be seen.
    async fn received(&self) -> Option<Vec<Received>>;

    /// Makes the other system fail from now on, instead of any fault before. Says whether it can.
    async fn fail(&self, fault: Fault) -> bool {
        fault == Fault::None
    }

    /// A new sink to the same system, as another process would make it after this one was killed: the sink before is dropped without being
    /// closed. None where what was received does not outlive the sink.
    async fn reopen(&self) -> Option<Arc<dyn Sink>> {
        None
    }
}

/// How the other system fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// It takes nothing for now.
    Down,
    /// It does not take the event with this `id` for now.
    FailsAt(String),
    /// It refuses the event with this `id` for good.
    Refuses(String),
    /// It is gone for good.
    Gone,
}

/// An event as the other system has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The attribute `id`.
    pub id: String,
    /// The event in structured mode, as a value.
    pub event: serde_json::Value,
}

impl Received {
    /// An event that was received in structured mode.
    ///
    /// # Panics
    /// Where it is no JSON object with an `id`.
    #[must_use]
    pub fn from_json(json: &[u8]) -> Self {
        let event: serde_json::Value = serde_json::from_slice(json).expect("an event is JSON");
        let id = event["id"].as_str().expect("an event has an id").to_owned();
        Self { id, event }
    }
}

/// One of the tests.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// The test; panics where the sink breaks a promise.
    pub body: fn(Arc<dyn Fixture>) -> BoxFuture<'static, ()>,
}

/// Runs one of the tests in a runtime of its own; for the macro.
///
/// # Panics
/// Where the sink breaks a promise, or there is no such test.
pub fn run<X: Fixture, F: Future<Output = X>>(name: &str, factory: impl FnOnce() -> F) {
    let test = TESTS.iter().find(|test| test.name == name);
    let test = test.expect("the macro and the table have the same list");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("the machine has room for two threads");
    runtime.block_on(async { (test.body)(Arc::new(factory().await)).await });
}

/// Says on standard error that a test was not run.
fn not_tested(fixture: &dyn Fixture, what: &str) {
    eprintln!("NOT TESTED on {fixture:?}: {what}");
}

/// What was received, without repetitions: the first of each event. None, and a word on it, where that cannot be seen.
async fn first_received(fixture: &dyn Fixture) -> Option<Vec<Received>> {
    let received = fixture.received().await;
    if received.is_none() {
        not_tested(fixture, "what was received cannot be seen");
    }
    let mut seen = BTreeSet::new();
    let first = received?.into_iter().filter(|one| seen.insert(one.id.clone()));
    Some(first.collect())
}

/// The names of those events of `events` that are in `received`, which must be in order within each stream.
fn in_order(events: &[Event], received: &[Received]) -> BTreeSet<String> {
    let place = |event: &Event| received.iter().position(|one| one.id == event.id());
    for (n, later) in events.iter().enumerate() {
        for earlier in events[..n]
            .iter()
            .filter(|earlier| earlier.stream() == later.stream())
        {
            if let (Some(before), Some(after)) = (place(earlier), place(later)) {
                assert!(
                    before < after,
                    "{} was received before {}",
                    later.id(),
                    earlier.id()
                );
            }
        }
    }
    let there = events.iter().filter(|event| place(event).is_some());
    there.map(|event| event.id().to_owned()).collect()
}

/// The `id`s of events.
fn ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeSet<String> {
    events.into_iter().map(|event| event.id().to_owned()).collect()
}

/// Two streams of three events each, interleaved.
fn two_streams() -> Vec<Event> {
    let mut pens = [
        pen::Pen::new("acme/value/a"),
        pen::Pen::new("acme/run/treasury/ann/s1/i1"),
    ];
    let mut events = Vec::new();
    for n in 0..3 {
        for pen in &mut pens {
            events.push(pen.event(&serde_json::json!({"n": n})));
        }
    }
    events
}

/// Delivers events that must all be confirmed.
async fn deliver_all(sink: &dyn Sink, events: &[Event]) {
    let answers = sink.deliver(events).await;
    assert_eq!(answers, vec![Ok(()); events.len()], "every event is confirmed");
}

/// The list of tests: `module::name`.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    (($($with:tt)*) $($arg:tt)*) => {
        $($with)*! { [$($arg)*]
            delivery::every_event_has_its_answer;
            delivery::what_is_confirmed_is_there;
            delivery::events_of_a_stream_arrive_in_order;
            delivery::an_event_arrives_as_it_is;
            delivery::an_event_that_comes_again_is_confirmed_again;
            delivery::a_full_call_is_taken;
            faults::nothing_is_confirmed_while_the_system_is_down;
            faults::a_stream_stops_at_an_event_that_fails;
            faults::a_refused_event_holds_up_nothing;
            faults::a_system_that_is_gone_disables_the_sink;
            usable::an_abandoned_call_leaves_the_sink_usable;
            usable::calls_at_once_are_kept_apart;
            usable::what_is_confirmed_outlives_the_sink;
            usable::a_closed_sink_confirms_nothing_that_it_has_not_delivered;
        }
    };
}

macro_rules! table {
    ([] $($module:ident :: $name:ident;)*) => {
        /// All tests.
        pub const TESTS: &[Test] = &[$(Test {
            name: stringify!($name),
            body: |fixture| Box::pin($module::$name(fixture)),
        }),*];
    };
}
crate::__conformance_list! { (table) }

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$factory:expr] $($module:ident :: $name:ident;)*) => {
        $(#[test]
        fn $name() {
            $crate::conformance::run(stringify!($name), $factory);
        })*
    };
}

/// Makes a `#[test]` of each conformance test. Takes an asynchronous factory of fixtures: `|| async { fixture }`.
#[macro_export]
macro_rules! conformance {
    ($factory:expr) => {
        $crate::__conformance_list! { ($crate::__conformance_tests) $factory }
    };
}
