//! Sinks that are broken on purpose: each fails the test of the conformance suite that is named for it, and passes it without the defect.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_trait::async_trait;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use tape_relay::by_stream::by_stream;
use tape_relay::conformance::{Fault, Fixture, Received, TESTS, run};
use tape_relay::event::Event;
use tape_relay::sink::{Sink, SinkError};

/// What is wrong with a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// Nothing.
    None,
    /// It has no answer for the last event.
    AnswersTooFew,
    /// It has an answer where there is no event.
    AnswersNothing,
    /// It confirms what it delivers with its next call.
    ConfirmsEarly,
    /// It confirms everything, whatever became of it.
    ConfirmsAll,
    /// It begins with the last event.
    Backwards,
    /// It goes on in a stream after an event that failed.
    GoesOn,
    /// It delivers everything of a stream, and says that it did not.
    SaysBehind,
    /// It stops all streams at the first event that fails.
    StopsAll,
    /// It stops a stream at an event that is refused.
    StopsAtRefused,
    /// It says of what fails for now that it is refused for good.
    RefusesWhatFails,
    /// It says of what is refused for good that it fails for now.
    RetriesWhatIsRefused,
    /// It goes on trying a system that is gone.
    IgnoresGone,
    /// It refuses an event that came before.
    RefusesRepeated,
    /// It takes few events at once.
    TakesFew,
    /// It reads numbers as doubles.
    BendsNumbers,
    /// It drops what it takes for an empty payload.
    DropsText,
    /// It takes no calls after one was dropped.
    StuckAfterDrop,
    /// It forgets what was not flushed where it is not closed.
    LosesUnlessClosed,
    /// Calls share a place for the answers.
    MixesCalls,
    /// It confirms everything once it is closed.
    ConfirmsWhenClosed,
}

/// The other system: a list in memory.
#[derive(Debug, Default)]
struct System {
    taken: Mutex<Vec<Received>>,
    fault: Mutex<Fault>,
}

impl System {
    fn take(&self, event: &Event) -> Result<(), SinkError> {
        match &*self.fault.lock().unwrap() {
            Fault::Down => return Err(SinkError::unavailable("down")),
            Fault::FailsAt(id) if id == event.id() => return Err(SinkError::unavailable("not this one")),
            Fault::Refuses(id) if id == event.id() => return Err(SinkError::refused("never")),
            Fault::Gone => return Err(SinkError::disabled("gone")),
            _ => {}
        }
        self.taken
            .lock()
            .unwrap()
            .push(Received::from_json(&event.to_json()));
        Ok(())
    }
}

#[derive(Debug)]
struct Broken {
    defect: Defect,
    system: Arc<System>,
    held: Mutex<Vec<Event>>,
    answers: Mutex<Vec<Result<(), SinkError>>>,
    busy: Mutex<bool>,
    closed: Mutex<bool>,
}

impl Broken {
    fn new(defect: Defect, system: &Arc<System>) -> Self {
        Self {
            defect,
            system: Arc::clone(system),
            held: Mutex::default(),
            answers: Mutex::default(),
            busy: Mutex::default(),
            closed: Mutex::default(),
        }
    }

    async fn whole(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        by_stream(events, 4, |event| async move {
            tokio::task::yield_now().await;
            self.system.take(event)
        })
        .await
    }

    fn bent(&self, change: impl Fn(&mut serde_json::Value)) {
        let mut taken = self.system.taken.lock().unwrap();
        taken.iter_mut().for_each(|one| change(&mut one.event));
    }

    async fn one_after_the_other(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        events.iter().map(|event| self.system.take(event)).collect()
    }
}

#[async_trait]
impl Sink for Broken {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        match self.defect {
            Defect::None => self.whole(events).await,
            Defect::AnswersTooFew => {
                let mut answers = self.whole(events).await;
                answers.pop();
                answers
            }
            Defect::AnswersNothing if events.is_empty() => vec![Ok(())],
            Defect::ConfirmsEarly => {
                let before = std::mem::replace(&mut *self.held.lock().unwrap(), events.to_vec());
                self.whole(&before).await;
                vec![Ok(()); events.len()]
            }
            Defect::ConfirmsAll => {
                self.whole(events).await;
                vec![Ok(()); events.len()]
            }
            Defect::Backwards => {
                let backwards: Vec<Event> = events.iter().rev().cloned().collect();
                let mut answers = self.one_after_the_other(&backwards).await;
                answers.reverse();
                answers
            }
            Defect::GoesOn => self.one_after_the_other(events).await,
            Defect::SaysBehind => {
                let answers = self.whole(events).await;
                self.one_after_the_other(events).await;
                let fault = std::mem::take(&mut *self.system.fault.lock().unwrap());
                self.one_after_the_other(events).await;
                *self.system.fault.lock().unwrap() = fault;
                answers
            }
            Defect::StopsAll => {
                let mut stopped = false;
                let one = |event| {
                    let answer = if stopped {
                        Err(SinkError::Behind)
                    } else {
                        self.system.take(event)
                    };
                    stopped |= answer.is_err();
                    answer
                };
                events.iter().map(one).collect()
            }
            Defect::StopsAtRefused => {
                let mut answers = self.whole(events).await;
                let refused = answers
                    .iter()
                    .position(|answer| matches!(answer, Err(SinkError::Refused { .. })));
                if let Some(refused) = refused {
                    for (n, event) in events.iter().enumerate().skip(refused + 1) {
                        if event.stream() == events[refused].stream() {
                            answers[n] = Err(SinkError::Behind);
                        }
                    }
                }
                answers
            }
            Defect::RefusesWhatFails => {
                let change = |answer| match answer {
                    Err(SinkError::Unavailable { reason, .. }) => Err(SinkError::refused(reason)),
                    other => other,
                };
                self.whole(events).await.into_iter().map(change).collect()
            }
            Defect::RetriesWhatIsRefused => {
                let change = |answer| match answer {
                    Err(SinkError::Refused { reason }) => Err(SinkError::unavailable(reason)),
                    other => other,
                };
                self.whole(events).await.into_iter().map(change).collect()
            }
            Defect::IgnoresGone => {
                let change = |answer| match answer {
                    Err(SinkError::Disabled { reason }) => Err(SinkError::unavailable(reason)),
                    other => other,
                };
                self.whole(events).await.into_iter().map(change).collect()
            }
            Defect::RefusesRepeated => {
                let one = |event: &Event| {
                    let known = self
                        .system
                        .taken
                        .lock()
                        .unwrap()
                        .iter()
                        .any(|one| one.id == event.id());
                    if known {
                        Err(SinkError::refused("known"))
                    } else {
                        self.system.take(event)
                    }
                };
                events.iter().map(one).collect()
            }
            Defect::TakesFew => {
                let mut answers = self.whole(&events[..events.len().min(100)]).await;
                answers.resize(events.len(), Err(SinkError::Behind));
                answers
            }
            Defect::BendsNumbers => {
                let answers = self.whole(events).await;
                self.bent(|event| {
                    let parts = event["data"]["payloads"].as_array_mut().unwrap();
                    for part in parts {
                        let text = part["text"].as_str().unwrap_or_default();
                        let bent = text.replace("9007199254740993", "9007199254740992");
                        if bent != text {
                            part["text"] = bent.into();
                        }
                    }
                });
                answers
            }
            Defect::DropsText => {
                let answers = self.whole(events).await;
                self.bent(|event| {
                    let part = &mut event["data"]["payloads"][0];
                    if part["text"] == "" {
                        part.as_object_mut().unwrap().remove("text");
                    }
                });
                answers
            }
            Defect::StuckAfterDrop => {
                if std::mem::replace(&mut *self.busy.lock().unwrap(), true) {
                    return vec![Err(SinkError::unavailable("busy")); events.len()];
                }
                let answers = self.whole(events).await;
                *self.busy.lock().unwrap() = false;
                answers
            }
            Defect::LosesUnlessClosed => {
                self.held.lock().unwrap().extend_from_slice(events);
                self.whole(events).await
            }
            Defect::MixesCalls => {
                self.answers.lock().unwrap().clear();
                for event in events {
                    let answer = self.system.take(event);
                    self.answers.lock().unwrap().push(answer);
                    tokio::task::yield_now().await;
                }
                self.answers.lock().unwrap().clone()
            }
            Defect::ConfirmsWhenClosed if *self.closed.lock().unwrap() => vec![Ok(()); events.len()],
            Defect::AnswersNothing | Defect::ConfirmsWhenClosed => self.whole(events).await,
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        *self.closed.lock().unwrap() = true;
        self.held.lock().unwrap().clear();
        Ok(())
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if self.defect == Defect::LosesUnlessClosed {
            let held = std::mem::take(&mut *self.held.lock().unwrap());
            let lost = |one: &Received| held.iter().any(|event| event.id() == one.id);
            self.system.taken.lock().unwrap().retain(|one| !lost(one));
        }
    }
}

#[derive(Debug)]
struct Memory {
    system: Arc<System>,
    defect: Defect,
    sink: Mutex<Option<Arc<dyn Sink>>>,
}

impl Memory {
    fn new(defect: Defect) -> Self {
        let system = Arc::new(System::default());
        let sink: Arc<dyn Sink> = Arc::new(Broken::new(defect, &system));
        Self {
            system,
            defect,
            sink: Mutex::new(Some(sink)),
        }
    }
}

#[async_trait]
impl Fixture for Memory {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::clone(self.sink.lock().unwrap().as_ref().unwrap())
    }
    async fn received(&self) -> Option<Vec<Received>> {
        Some(self.system.taken.lock().unwrap().clone())
    }
    async fn fail(&self, fault: Fault) -> bool {
        *self.system.fault.lock().unwrap() = fault;
        true
    }
    async fn reopen(&self) -> Option<Arc<dyn Sink>> {
        let mut sink = self.sink.lock().unwrap();
        *sink = None;
        Some(Arc::clone(
            sink.insert(Arc::new(Broken::new(self.defect, &self.system))),
        ))
    }
}

fn passes(test: &str, defect: Defect) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(test, || async { Memory::new(defect) }))).is_ok()
}

/// Each defect, with the tests that are named for it.
const CAUGHT: &[(Defect, &[&str])] = &[
    (Defect::AnswersTooFew, &["every_event_has_its_answer"]),
    (Defect::AnswersNothing, &["every_event_has_its_answer"]),
    (Defect::ConfirmsEarly, &["what_is_confirmed_is_there"]),
    (
        Defect::ConfirmsAll,
        &[
            "nothing_is_confirmed_while_the_system_is_down",
            "a_stream_stops_at_an_event_that_fails",
            "a_refused_event_holds_up_nothing",
            "a_system_that_is_gone_disables_the_sink",
        ],
    ),
    (Defect::Backwards, &["events_of_a_stream_arrive_in_order"]),
    (
        Defect::GoesOn,
        &[
            "nothing_is_confirmed_while_the_system_is_down",
            "a_stream_stops_at_an_event_that_fails",
        ],
    ),
    (
        Defect::SaysBehind,
        &[
            "nothing_is_confirmed_while_the_system_is_down",
            "a_system_that_is_gone_disables_the_sink",
        ],
    ),
    (
        Defect::StopsAll,
        &[
            "a_stream_stops_at_an_event_that_fails",
            "a_refused_event_holds_up_nothing",
        ],
    ),
    (Defect::StopsAtRefused, &["a_refused_event_holds_up_nothing"]),
    (
        Defect::RefusesWhatFails,
        &["nothing_is_confirmed_while_the_system_is_down"],
    ),
    (
        Defect::RetriesWhatIsRefused,
        &["a_refused_event_holds_up_nothing"],
    ),
    (Defect::IgnoresGone, &["a_system_that_is_gone_disables_the_sink"]),
    (
        Defect::RefusesRepeated,
        &["an_event_that_comes_again_is_confirmed_again"],
    ),
    (Defect::TakesFew, &["a_full_call_is_taken"]),
    (Defect::BendsNumbers, &["an_event_arrives_as_it_is"]),
    (Defect::DropsText, &["an_event_arrives_as_it_is"]),
    (
        Defect::StuckAfterDrop,
        &["an_abandoned_call_leaves_the_sink_usable"],
    ),
    (
        Defect::LosesUnlessClosed,
        &["what_is_confirmed_outlives_the_sink"],
    ),
    (Defect::MixesCalls, &["calls_at_once_are_kept_apart"]),
    (
        Defect::ConfirmsWhenClosed,
        &["a_closed_sink_confirms_nothing_that_it_has_not_delivered"],
    ),
];

#[test]
fn each_broken_sink_is_caught() {
    for (defect, tests) in CAUGHT {
        for test in *tests {
            assert!(!passes(test, *defect), "{test} does not catch {defect:?}");
        }
    }
}

#[test]
fn a_whole_sink_passes_and_every_test_catches_something() {
    for test in TESTS {
        assert!(
            passes(test.name, Defect::None),
            "{} fails on a sink without a defect",
            test.name
        );
        let catches = CAUGHT.iter().any(|(_, tests)| tests.contains(&test.name));
        assert!(
            catches,
            "no broken sink shows that {} catches something",
            test.name
        );
    }
}
