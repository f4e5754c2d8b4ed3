//! The other system fails.

use super::{Fault, Fixture, deliver_all, first_received, ids, in_order, not_tested, two_streams};
use crate::event::Event;
use crate::sink::SinkError;
use std::collections::BTreeSet;
use std::sync::Arc;

type Answers = Vec<Result<(), SinkError>>;

/// Makes a fault and delivers two streams of three events; none where the fixture cannot make it.
async fn delivered_under(
    fixture: &dyn Fixture,
    fault: impl FnOnce(&[Event]) -> Fault,
) -> Option<(Vec<Event>, Answers)> {
    let events = two_streams();
    let fault = fault(&events);
    if !fixture.fail(fault.clone()).await {
        not_tested(fixture, &format!("it cannot make the fault {fault:?}"));
        return None;
    }
    let answers = fixture.sink().deliver(&events).await;
    assert_eq!(answers.len(), events.len(), "there is one answer for each event");
    Some((events, answers))
}

/// Checks that what was confirmed is there, in order, and that nothing is there of what was not begun.
async fn check_received(fixture: &dyn Fixture, events: &[Event], answers: &Answers) {
    let Some(received) = first_received(fixture).await else {
        return;
    };
    let there = in_order(events, &received);
    for (event, answer) in events.iter().zip(answers) {
        match answer {
            Ok(()) => assert!(
                there.contains(event.id()),
                "{} is confirmed and not there",
                event.id()
            ),
            Err(SinkError::Behind) => {
                assert!(
                    !there.contains(event.id()),
                    "{} is there and was said not to be begun",
                    event.id()
                );
            }
            Err(_) => {}
        }
    }
}

/// Ends the fault, and delivers what was not confirmed as a relay does.
async fn recover(fixture: &dyn Fixture, events: &[Event], answers: &Answers) {
    assert!(fixture.fail(Fault::None).await, "a fault ends");
    let rest = events.iter().zip(answers).filter(|(_, answer)| answer.is_err());
    let rest: Vec<Event> = rest.map(|(event, _)| event.clone()).collect();
    deliver_all(&*fixture.sink(), &rest).await;
    if let Some(received) = first_received(fixture).await {
        assert_eq!(in_order(events, &received), ids(events));
    }
}

const fn is_unavailable(answer: &Result<(), SinkError>) -> bool {
    matches!(answer, Err(SinkError::Unavailable { .. }))
}

pub(super) async fn nothing_is_confirmed_while_the_system_is_down(fixture: Arc<dyn Fixture>) {
    let Some((events, answers)) = delivered_under(&*fixture, |_| Fault::Down).await else {
        return;
    };
    let mut begun = BTreeSet::new();
    for (event, answer) in events.iter().zip(&answers) {
        if begun.insert(event.stream()) {
            assert!(
                is_unavailable(answer),
                "the first event of a stream fails for now, not {answer:?}"
            );
        } else {
            assert_eq!(
                answer,
                &Err(SinkError::Behind),
                "later events of the stream are behind"
            );
        }
    }
    check_received(&*fixture, &events, &answers).await;
    recover(&*fixture, &events, &answers).await;
}

pub(super) async fn a_stream_stops_at_an_event_that_fails(fixture: Arc<dyn Fixture>) {
    let fault = |events: &[Event]| Fault::FailsAt(events[2].id().to_owned());
    let Some((events, answers)) = delivered_under(&*fixture, fault).await else {
        return;
    };
    for n in [0, 1, 3, 5] {
        assert_eq!(
            answers[n],
            Ok(()),
            "what is before the event, and the other stream, goes on"
        );
    }
    assert!(
        is_unavailable(&answers[2]),
        "the event fails for now, not {:?}",
        answers[2]
    );
    assert_eq!(
        answers[4],
        Err(SinkError::Behind),
        "what is after it in its stream is behind"
    );
    check_received(&*fixture, &events, &answers).await;
    recover(&*fixture, &events, &answers).await;
}

pub(super) async fn a_refused_event_holds_up_nothing(fixture: Arc<dyn Fixture>) {
    let fault = |events: &[Event]| Fault::Refuses(events[2].id().to_owned());
    let Some((events, answers)) = delivered_under(&*fixture, fault).await else {
        return;
    };
    for (n, answer) in answers.iter().enumerate() {
        if n == 2 {
            assert!(
                matches!(answer, Err(SinkError::Refused { .. })),
                "the event is refused, not {answer:?}"
            );
        } else {
            assert_eq!(answer, &Ok(()), "a refused event holds up nothing");
        }
    }
    check_received(&*fixture, &events, &answers).await;
}

pub(super) async fn a_system_that_is_gone_disables_the_sink(fixture: Arc<dyn Fixture>) {
    let Some((events, answers)) = delivered_under(&*fixture, |_| Fault::Gone).await else {
        return;
    };
    assert!(
        matches!(answers[0], Err(SinkError::Disabled { .. })),
        "the sink is disabled, not {:?}",
        answers[0]
    );
    for answer in &answers {
        let fits = matches!(answer, Err(SinkError::Disabled { .. } | SinkError::Behind));
        assert!(fits, "nothing else is said of any event, such as {answer:?}");
    }
    check_received(&*fixture, &events, &answers).await;
}
