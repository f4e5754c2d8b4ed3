//! What the rules of a run say of what it is about to be told: a refusal comes before anything final is asked about.

use crate::{Context, Failure};
use tape_client::Error;
use tape_client::core::command::{Command, ExternalCommand, RunCommand};
use tape_client::core::decider::Decider as _;
use tape_client::core::id::RequestId;
use tape_client::core::run::Run;

/// Asks for consent to tell a run something, where the run as it was read would take it. A repeat changes nothing and needs none.
///
/// # Errors
/// What the run's rules refuse; else as [`Consent::ask`](crate::consent::Consent::ask).
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
        // The clock of this machine may be off; that of the journal says in the end.
        Err(refusal) if !refusal.is_for_its_age() => Err(Error::from(refusal).into()),
        Ok(_) | Err(_) => context.consent.ask(what),
    }
}
