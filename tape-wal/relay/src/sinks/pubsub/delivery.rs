//! The state of one call: which events are confirmed, and which go into the next requests.

use super::failure::Failure;
use super::link::REQUEST_MESSAGES_MAX;
use super::message::{REQUEST_BYTES_MAX, message, ordering_key, size};
use super::settings::Settings;
use crate::event::Event;
use crate::sink::SinkError;
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tape_core::id::StreamId;

/// Events on their way. Each round sends one request for every lane that has events left.
#[derive(Debug)]
pub(super) struct Delivery<'a> {
    settings: &'a Settings,
    events: &'a [Event],
    lanes: Vec<Lane>,
    answers: Vec<Result<(), SinkError>>,
    has_failed: bool,
}

/// Events that go one request after the other: those of a stream, or all of them where messages are not ordered.
#[derive(Debug)]
struct Lane {
    key: String,
    /// The places of the events in the call that have no answer yet.
    rest: VecDeque<usize>,
    /// How many of them the request under way has.
    under_way: usize,
    /// Most events of the next request. It falls where Pub/Sub refuses a request, until the refused event is alone.
    limit: usize,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(settings: &'a Settings, events: &'a [Event]) -> Self {
        let mut lanes: BTreeMap<Option<&StreamId>, Lane> = BTreeMap::new();
        for (n, event) in events.iter().enumerate() {
            let stream = settings.ordered.then_some(event.stream());
            let lane = lanes.entry(stream).or_insert_with(|| Lane::new(stream));
            lane.rest.push_back(n);
        }
        Self {
            settings,
            events,
            lanes: lanes.into_values().collect(),
            answers: vec![Err(SinkError::Behind); events.len()],
            has_failed: false,
        }
    }

    /// Whether events are left to be sent.
    pub(super) fn is_under_way(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.rest.is_empty())
    }

    /// Whether an event was not delivered and comes again.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// The messages of the next request of each lane that has some.
    pub(super) fn requests(&mut self) -> Vec<Vec<Message>> {
        let (events, settings) = (self.events, self.settings);
        let answers = &mut self.answers;
        let request = |lane: &mut Lane| lane.request(events, settings, answers);
        let requests = self.lanes.iter_mut().map(request);
        requests.filter(|messages| !messages.is_empty()).collect()
    }

    /// Takes the answers to [`requests`](Self::requests). Returns the keys to resume: those stopped behind an event that was refused.
    pub(super) fn take(&mut self, answers: Vec<Vec<Result<String, PublishError>>>) -> Vec<String> {
        let mut resumed = Vec::new();
        let waiting = (0..self.lanes.len()).filter(|n| self.lanes[*n].under_way > 0);
        let waiting: Vec<usize> = waiting.collect();
        for (n, answers) in waiting.into_iter().zip(answers) {
            let outcome = self.lanes[n].take(answers, &mut self.answers);
            match outcome {
                Outcome::Confirmed => {}
                Outcome::Resume => {
                    resumed.extend(Some(&self.lanes[n].key).filter(|key| !key.is_empty()).cloned())
                }
                Outcome::Failed(failure) => self.fail_lane(n, &failure),
            }
        }
        resumed
    }

    /// Ends the call: what has no answer yet comes again.
    pub(super) fn fail(&mut self, failure: &Failure) {
        for n in 0..self.lanes.len() {
            self.fail_lane(n, failure);
        }
    }

    /// One answer for each event.
    pub(super) fn answers(self) -> Vec<Result<(), SinkError>> {
        self.answers
    }

    /// Ends a lane: the first event of each stream that has no answer is unavailable, those after it are behind.
    fn fail_lane(&mut self, lane: usize, failure: &Failure) {
        let mut streams = BTreeSet::new();
        for n in self.lanes[lane].rest.drain(..) {
            self.has_failed = true;
            if streams.insert(self.events[n].stream()) {
                self.answers[n] = Err(failure.unavailable(self.settings));
            }
        }
    }
}

/// What became of a request.
enum Outcome {
    /// All of it is confirmed.
    Confirmed,
    /// It was refused. The lane goes on with fewer events, or with those after the one that was refused.
    Resume,
    /// It failed.
    Failed(Failure),
}

impl Lane {
    fn new(stream: Option<&StreamId>) -> Self {
        Self {
            key: stream.map(ordering_key).unwrap_or_default(),
            rest: VecDeque::new(),
            under_way: 0,
            limit: REQUEST_MESSAGES_MAX,
        }
    }

    /// The messages of the next request. Events that no request has room for are answered at once.
    fn request(
        &mut self,
        events: &[Event],
        settings: &Settings,
        answers: &mut [Result<(), SinkError>],
    ) -> Vec<Message> {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while messages.len() < self.limit
            && let Some(n) = self.rest.get(messages.len()).copied()
        {
            match message(&events[n], settings) {
                Ok(message) => {
                    bytes += size(&message);
                    if bytes > REQUEST_BYTES_MAX {
                        break;
                    }
                    messages.push(message);
                }
                Err(refused) => {
                    answers[n] = Err(refused);
                    self.rest.remove(messages.len());
                }
            }
        }
        self.under_way = messages.len();
        messages
    }

    fn take(
        &mut self,
        results: Vec<Result<String, PublishError>>,
        answers: &mut [Result<(), SinkError>],
    ) -> Outcome {
        let sent: Vec<usize> = self.rest.drain(..self.under_way).collect();
        self.under_way = 0;
        let (mut failed, mut errors) = (Vec::new(), Vec::new());
        for (n, result) in sent.into_iter().zip(results) {
            match result {
                // Without order, one may be confirmed that was sent in another request than a refused one before it.
                Ok(_) => answers[n] = Ok(()),
                Err(error) => {
                    failed.push(n);
                    errors.push(error);
                }
            }
        }
        for n in failed.into_iter().rev() {
            self.rest.push_front(n);
        }
        let mut errors = errors.into_iter();
        let Some(first) = errors.next() else {
            self.limit = self.limit.saturating_mul(2).min(REQUEST_MESSAGES_MAX);
            return Outcome::Confirmed;
        };
        let failure = Failure::from(first);
        if !failure.is_refusal() {
            return Outcome::Failed(failure);
        }
        // The client may have sent the messages in several requests. Those of the one that was refused have its error, those after it have
        // the error of a stopped key.
        let refused = 1 + errors
            .filter(|error| matches!(error, PublishError::Rpc(_)))
            .count();
        if refused == 1
            && let Some(n) = self.rest.pop_front()
        {
            answers[n] = Err(failure.refused());
        }
        self.limit = (refused / 2).max(1);
        Outcome::Resume
    }
}

#[cfg(test)]
mod tests {
    use super::{Lane, Outcome};
    use crate::sink::SinkError;
    use google_cloud_gax::error::rpc::{Code, Status};
    use google_cloud_pubsub::Error;
    use google_cloud_pubsub::error::PublishError;
    use std::sync::Arc;

    fn refused() -> Result<String, PublishError> {
        let status = Status::default().set_code(Code::InvalidArgument);
        Err(PublishError::Rpc(Arc::new(Error::service(status))))
    }

    /// Without order the client may send messages in several requests at once, of which one is refused.
    #[test]
    fn what_is_confirmed_beside_a_refusal_is_not_sent_again() {
        let mut lane = Lane::new(None);
        (lane.rest, lane.under_way) = ((0..6).collect(), 5);
        let mut answers = vec![Err(SinkError::Behind); 6];
        let sent = || Ok("1".to_owned());
        let outcome = lane.take(vec![sent(), refused(), refused(), sent(), sent()], &mut answers);
        assert!(matches!(outcome, Outcome::Resume));
        assert_eq!((lane.rest, lane.limit), ([1, 2, 5].into(), 1));
        let confirmed = answers.iter().map(Result::is_ok).collect::<Vec<_>>();
        assert_eq!(confirmed, [true, false, false, true, true, false]);
    }

    #[test]
    fn an_event_that_is_refused_alone_is_the_one() {
        let mut lane = Lane::new(None);
        (lane.rest, lane.under_way) = ((0..3).collect(), 3);
        let mut answers = vec![Err(SinkError::Behind); 3];
        let sent = || Ok("1".to_owned());
        lane.take(vec![sent(), refused(), sent()], &mut answers);
        assert!(matches!(answers[1], Err(SinkError::Refused { .. })));
        assert!(answers[0].is_ok() && answers[2].is_ok() && lane.rest.is_empty());
    }
}
