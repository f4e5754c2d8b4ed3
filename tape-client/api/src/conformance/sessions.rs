//! Sessions: their state, their events, and shared state.

use super::agent::{run_id, text};
use crate::{Journal, JournalError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::command::{Command, Rewind, SessionCommand};
use tape_core::id::{EventId, Key, RunId, Seq, SessionId};
use tape_core::reply::Reply;
use tape_core::state::{Delta, Json};

pub(super) async fn ask(
    journal: &Arc<dyn Journal>,
    session: &SessionId,
    body: SessionCommand,
) -> Result<Reply, JournalError> {
    let command = Command::new(journal.request_id(), body);
    journal.session(session, command).await
}

fn delta(key: &str, json: &str) -> Delta {
    let json = Json::try_from(json.to_owned()).unwrap();
    Delta(BTreeMap::from([(Key::new(key).unwrap(), Some(json))]))
}

pub(super) async fn create(journal: &Arc<dyn Journal>, session: &SessionId) {
    let create = SessionCommand::Create {
        session: session.clone(),
        state: Delta::default(),
    };
    ask(journal, session, create).await.unwrap();
}

pub(super) async fn append(
    journal: &Arc<dyn Journal>,
    session: &SessionId,
    event: &str,
    delta: Delta,
) -> Seq {
    let append = SessionCommand::Append {
        event: EventId::new(event).unwrap(),
        expected: None,
        invocation: None,
        author: "user".to_owned(),
        delta,
        content: text(event),
    };
    ask(journal, session, append).await.unwrap().seq
}

pub(super) async fn a_session_is_what_its_events_made_it(journal: Arc<dyn Journal>) {
    let session = run_id("t", "i").session();
    create(&journal, &session).await;
    let mut places = Vec::new();
    for n in 0..5 {
        let mood = delta("mood", &n.to_string());
        places.push(append(&journal, &session, &format!("e{n}"), mood).await);
    }
    let again = append(&journal, &session, "e1", delta("mood", "1")).await;
    assert_eq!(again, places[1], "an event that is repeated counts once");
    let view = journal.session_view(&session, 2).await.unwrap().unwrap();
    assert_eq!(view.seq, places[4]);
    assert_eq!(view.state["mood"].as_str(), "4");
    let mut events: Vec<Seq> = view.events.iter().map(|event| event.seq).collect();
    assert_eq!(events, places[3..], "the newest, oldest first");
    let mut older = view.older;
    while let Some(from) = older {
        let page = journal.session_events(&session, from, 2).await.unwrap();
        events.splice(0..0, page.events.iter().map(|event| event.seq));
        older = page.older;
    }
    assert_eq!(events, places);
    let to = Rewind {
        to: places[1],
        expected: None,
    };
    let rewind = Command::new(journal.request_id(), to);
    journal.rewind(&session, rewind).await.unwrap();
    let view = journal.session_view(&session, 10).await.unwrap().unwrap();
    assert_eq!(view.state["mood"].as_str(), "1");
    assert_eq!(view.events.len(), 2);
    ask(&journal, &session, SessionCommand::Delete).await.unwrap();
    assert_eq!(journal.session_view(&session, 10).await.unwrap(), None);
}

pub(super) async fn shared_state_is_carried_over(journal: Arc<dyn Journal>) {
    let session = |name: &str| RunId::new("t", "app", "user", name, "i").unwrap().session();
    let (one, two) = (session("one"), session("two"));
    create(&journal, &one).await;
    create(&journal, &two).await;
    append(&journal, &one, "e", delta("app:rate", "7")).await;
    journal.merge(&one).await.unwrap();
    journal.merge(&one).await.unwrap();
    let view = journal.session_view(&two, 0).await.unwrap().unwrap();
    assert_eq!(view.state["app:rate"].as_str(), "7");
}
