//! The closed lists that rejections choose from: what is missing, which limit, which field.

use std::fmt;

/// A word of a closed list.
pub trait Word: Copy + PartialEq + fmt::Display + 'static {
    /// The list.
    const LIST: &'static str;
    /// All words that this build knows.
    const ALL: &'static [Self];
    /// Stands for a word that a newer build knows and this one does not.
    const UNRECOGNIZED: Self;

    /// The name of the word in its list, in camel case. Its text is what `Display` writes.
    fn name(self) -> &'static str;
}

/// A list of words, each a variant with its text.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$word_doc])* $word,)+
            /// One that a newer build knows and this one does not.
            Unrecognized,
        }

        impl Word for $name {
            const LIST: &'static str = stringify!($name);
            const ALL: &'static [Self] = &[$(Self::$word),+];
            const UNRECOGNIZED: Self = Self::Unrecognized;

            fn name(self) -> &'static str {
                match self {
                    $(Self::$word => stringify!($word),)+
                    Self::Unrecognized => "Unrecognized",
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$word => $text,)+
                    Self::Unrecognized => "(unknown)",
                })
            }
        }
    };
}

words! {
    /// The missing subject of a command.
    Missing {
        /// A run.
        Run = "run",
        /// A driver: the run has none.
        Driver = "driver",
        /// A session.
        Session = "session",
        /// A value.
        Value = "value",
        /// A stream of any kind.
        Stream = "stream",
        /// An effect of the run.
        Effect = "effect",
        /// An obligation of the run.
        Obligation = "obligation",
        /// A gate of the run.
        Gate = "gate",
        /// A gate that is open.
        OpenGate = "open gate",
        /// A timer of the run.
        Timer = "timer",
        /// A budget of the run.
        Budget = "budget",
        /// The claim of a worker.
        Claim = "claim",
        /// A lease of a driver, or the claim of a worker.
        LeaseOrClaim = "lease or claim",
        /// An entry of the stream.
        Entry = "entry",
        /// The owner of a business key.
        BusinessKey = "owner of the business key",
        /// What a relay's sink refused.
        Refusal = "refusal",
    }
}

words! {
    /// Why nothing new may begin in a run.
    ClosingPhase {
        /// It waits without a driver.
        Suspended = "suspended",
        /// Its cancellation was requested, and its driver has not accepted that yet.
        Cancelling = "cancelling",
        /// Its effects are being undone.
        Compensating = "compensating",
        /// It waits for a person.
        Stuck = "stuck",
    }
}

words! {
    /// What has versions.
    Versioned {
        /// A session; its version is its last event's entry.
        Session = "session",
        /// A value.
        Value = "value",
    }
}

words! {
    /// Which bound of [`crate::limits`] is reached.
    Limit {
        /// The bytes of a text that an entry carries inline.
        TextBytes = "bytes of a text",
        /// The bytes of the name of a model or a policy.
        ModelNameBytes = "bytes of a model's or policy's name",
        /// The parts of a fingerprint.
        FingerprintParts = "parts of a fingerprint",
        /// The bytes of a text in a fingerprint.
        FingerprintTextBytes = "bytes of a fingerprint's text",
        /// The labels of a run.
        Labels = "labels of a run",
        /// The scopes of a run.
        Scopes = "scopes of a run",
        /// The effects of a run that are not settled.
        EffectsUnderWay = "effects under way",
        /// The obligations of a run.
        Obligations = "obligations",
        /// The gates of a run.
        Gates = "gates of a run",
        /// The signals of a run that came before their gates.
        BufferedSignals = "signals that wait for their gate",
        /// The timers of a run.
        Timers = "timers of a run",
        /// The budgets of a run.
        Budgets = "budgets of a run",
        /// The budgets above a budget.
        BudgetDepth = "depth of a budget tree",
        /// The decisions of a run that hold a reservation.
        ReservedDecisions = "decisions with a reservation",
        /// The calls that a decision may authorise.
        DecisionCalls = "calls of a decision",
        /// The budgets that one command reserves or spends from.
        Spends = "spends at once",
        /// The units of a budget.
        BudgetUnits = "units of a budget",
        /// The milliseconds before a released run is driven again.
        RedriveDelay = "milliseconds before a re-drive",
        /// The keys of a change of state.
        DeltaKeys = "keys of a change of state",
        /// The keys of a state.
        StateKeys = "keys of state",
        /// The bytes of a state.
        StateBytes = "bytes of state",
        /// The changes of shared state that are not merged yet.
        SharedChanges = "changes of shared state under way",
        /// The entries that one command erases.
        ErasedAtOnce = "the most entries erased at once",
        /// The erasures of a stream that are not finished.
        ErasuresUnderWay = "erasures under way",
        /// The entries that one command appends.
        CommandEntries = "the most entries of one command",
        /// The bytes of the entries that one command appends.
        CommandBytes = "the most bytes of one command's entries",
        /// The bytes of a session's state in one message of the wire.
        SessionMessageBytes = "bytes of a session's state in one message",
        /// The relays of a tenant, or those of all tenants, that have a place.
        Relays = "relays of one tenant, or of all tenants, that have a place",
    }
}

words! {
    /// Which field of a command is invalid.
    Field {
        /// The command as a whole.
        Command = "command",
        /// The stream that it is sent to.
        Stream = "stream",
        /// A run.
        Run = "run",
        /// A session.
        Session = "session",
        /// A connector.
        Connector = "connector",
        /// A business key.
        BusinessKey = "business key",
        /// A scope.
        Scope = "scope",
        /// A position.
        Position = "position",
        /// The reason for an action.
        Reason = "reason",
        /// Why an outcome is unknown.
        Cause = "cause",
        /// What went wrong.
        Error = "error",
        /// Why an observation says what it says.
        Why = "why",
        /// A label's value.
        Label = "label",
        /// The mode of an effect.
        Mode = "mode",
        /// The policy of an effect.
        Policy = "policy",
        /// How an effect is undone.
        Undo = "undo",
        /// An obligation.
        Obligation = "obligation",
        /// A cancellation.
        Cancel = "cancel",
        /// When a suspended run continues.
        Resume = "resume",
        /// The last entry that the sender has seen.
        Seen = "seen",
        /// The end of a claim, as the sender has seen it.
        Until = "until",
        /// The length of a lease or claim.
        LeaseLength = "lease or claim length",
        /// The parent of a budget.
        Parent = "parent",
        /// The last entry of a run that is retired.
        LastEntry = "last entry",
        /// An entry.
        Entry = "entry",
        /// How often something was tried.
        Attempts = "attempts",
        /// The entries to erase.
        Entries = "entries",
        /// The author of an event.
        Author = "author",
        /// A change of state.
        State = "state",
        /// Where a session is rewound to.
        To = "to",
    }
}

#[cfg(test)]
mod tests {
    use super::{ClosingPhase, Field, Limit, Missing, Versioned, Word};
    use std::collections::BTreeSet;

    fn have_texts_of_their_own<W: Word>() {
        let texts: BTreeSet<String> = W::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), W::ALL.len(), "{}", W::LIST);
    }

    #[test]
    fn each_word_of_a_list_has_a_text_of_its_own() {
        have_texts_of_their_own::<Missing>();
        have_texts_of_their_own::<ClosingPhase>();
        have_texts_of_their_own::<Versioned>();
        have_texts_of_their_own::<Limit>();
        have_texts_of_their_own::<Field>();
    }
}
