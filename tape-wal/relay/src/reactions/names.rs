//! Names of what a reaction does. They follow from the reaction and the entry alone, so that what is done again is known as the same.

use std::fmt::Write as _;
use tape_core::id::{
    App, BusinessKey, Invocation, ReactionName, RunId, Seq, SessionName, SignalId, StreamId, User,
};
use tape_core::payload::Digest;

/// The user of runs that a reaction begins for no user.
const USER: &str = "reaction";
/// How business keys of effects of reactions begin.
const KEYS: &str = "tape.reaction/";
/// Digits of the digest of a stream that names have: 128 bits, so that no two streams of a journal have the same.
const DIGITS: usize = 32;

/// An entry, as names of what it caused have it.
#[derive(Clone, Debug)]
pub(super) struct Names<'a> {
    reaction: &'a ReactionName,
    stream: &'a StreamId,
    seq: Seq,
}

impl<'a> Names<'a> {
    pub(super) const fn new(reaction: &'a ReactionName, stream: &'a StreamId, seq: Seq) -> Self {
        Self {
            reaction,
            stream,
            seq,
        }
    }

    /// The run that it begins. The same name in another app is another run: a reaction whose app is changed reacts anew to what comes again.
    pub(super) fn run(&self, app: &App, user: Option<&User>) -> RunId {
        RunId {
            tenant: self.stream.tenant().clone(),
            app: app.clone(),
            user: user
                .cloned()
                .unwrap_or_else(|| User::new(USER).expect("a word is a name")),
            session: SessionName::new(self.reaction.as_str()).expect("a session's name may be longer"),
            invocation: Invocation::new(self.entry()).expect("digits and a hyphen are a name"),
        }
    }

    /// The signal that it sends.
    pub(super) fn signal(&self) -> SignalId {
        let name = format!("{}/{}", self.reaction, self.entry());
        SignalId::new(name).expect("both parts together are short enough")
    }

    /// The business key of the effect that it puts into the outbox.
    pub(super) fn business_key(&self) -> BusinessKey {
        let key = format!("{KEYS}{}/{}", self.reaction, self.entry());
        BusinessKey::new(key).expect("all parts together are short enough")
    }

    /// The beginning of the digest of the stream's full name, and the number of the entry.
    fn entry(&self) -> String {
        let mut text = Digest::of(self.stream.to_string().as_bytes()).to_string();
        text.truncate(DIGITS);
        let _ = write!(text, "-{}", self.seq);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use tape_core::id::{App, ReactionName, Seq, StreamId};
    use tape_core::limits::REACTION_NAME_BYTES_MAX;

    #[test]
    fn the_longest_names_are_names() {
        let reaction = ReactionName::new("r".repeat(REACTION_NAME_BYTES_MAX)).unwrap();
        let stream: StreamId = "acme/value/price".parse().unwrap();
        let names = Names::new(&reaction, &stream, Seq(u64::MAX));
        let app = App::new("audit").unwrap();
        assert_eq!(names.run(&app, None), names.run(&app, None));
        assert!(names.signal().as_str().len() <= names.business_key().as_str().len());
    }

    #[test]
    fn other_entries_and_reactions_have_other_names() {
        let [one, two] = ["one", "two"].map(|name| ReactionName::new(name).unwrap());
        let [a, b]: [StreamId; 2] = ["acme/value/a", "acme/value/b"].map(|name| name.parse().unwrap());
        let app = App::new("audit").unwrap();
        let all = [(&one, &a, 1), (&two, &a, 1), (&one, &b, 1), (&one, &a, 2)];
        let all = all.map(|(reaction, stream, seq)| {
            let names = Names::new(reaction, stream, Seq(seq));
            (names.run(&app, None).to_string(), names.signal().to_string())
        });
        for (n, name) in all.iter().enumerate() {
            assert!(
                all[..n]
                    .iter()
                    .all(|other| other.0 != name.0 && other.1 != name.1)
            );
        }
    }
}
