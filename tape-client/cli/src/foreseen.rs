//! Checks a command against the rules of its run before asking for consent, so that a refusal comes before the question.

use crate::{Context, Failure};
use tape_client::Error;
use tape_client::core::command::{Command, ExternalCommand, RunCommand};
use tape_client::core::decider::Decider as _;
use tape_client::core::id::RequestId;
use tape_client::core::run::Run;

/// Asks for consent to a command, if the run as it was read would accept it. A repeat changes nothing and needs no consent.
///
/// # Errors
/// The refusal of the run's rules; otherwise as [`Consent::ask`](crate::consent::Consent::ask).
pub(crate) fn ask(
    context: &mut Context<'_>,
    state: &Run,
    told: ExternalCommand,
    what: &str,
) -> Result<(), Failure> {
    let now = context.tape.now();
    let request = RequestId::new(now, context.tape.environment().random());
    match state.decide(&Command::new(request, RunCommand::External(told)), now) {
        Ok(decided) if decided.entries.is_empty() => {
            context.consent.needless();
            Ok(())
        }
        // The clock of this machine may be wrong; the journal's clock decides.
        Err(refusal) if !refusal.is_for_its_age() => Err(Error::from(refusal).into()),
        Ok(_) | Err(_) => context.consent.ask(what),
    }
}
