//! Lists of gates that wait, over the runs that have not ended.

use super::run_scan::{Listed, Scan};
use super::{Engine, Parts};
use crate::stream_service::EngineError;
use futures::future::{BoxFuture, FutureExt as _, join_all};
use std::collections::BTreeSet;
use tape_api::JournalError;
use tape_api::argument::{self, GATES};
use tape_api::query::{DamagedStream, GatePage, GateQuery, OpenGate};
use tape_core::causes::Causes;
use tape_core::id::{RunId, StreamId};
use tape_core::limits::STATES_PER_PAGE_MAX;
use tape_core::run::{Gate, Phase, Run};
use tape_core::status::RunStatus;
use tape_store::contract::{PageToken, RunFilter};

/// The statuses of runs that may have a gate that waits. A run that is ending reads no gate any more.
const STATUSES: [RunStatus; 3] = [RunStatus::Suspended, RunStatus::Running, RunStatus::Stuck];
/// How many states are read at the same time.
const AT_ONCE: u32 = 32;

/// A gate, or a run that cannot be read.
type Found = Result<OpenGate, DamagedStream>;

impl Engine {
    /// A page of at most `limit` gates that wait for a signal, over the runs of a tenant that have not ended. All gates of one run are on one
    /// page, so a page of a single run may have more.
    ///
    /// A page reads the states of at most [`STATES_PER_PAGE_MAX`] runs, and the entry that opened each gate. So it may be short, or empty,
    /// and not be the last. All pages together cost the states of the tenant's runs that have not ended, whatever ended. A run that changes
    /// its status while a page is read may be missed where the store is Bigtable.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] where the token is not of this list. A run that is damaged is in the page as such.
    pub async fn open_gates(
        &self,
        query: &GateQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<GatePage, JournalError> {
        let scan = Scan {
            filter: RunFilter {
                app: query.app.clone(),
                statuses: BTreeSet::from(STATUSES),
                ..RunFilter::all(query.tenant.clone())
            },
            limit: GATES.of(limit) as usize,
            at_once: AT_ONCE,
            looked_at_max: STATES_PER_PAGE_MAX,
        };
        let from = argument::token(from).map(|from| PageToken(from.to_owned()));
        let look = |runs| self.0.gates_of(runs);
        let scanned = self.0.scan(scan, from, look).await?;
        let mut page = GatePage {
            next: scanned.next.map(|token| token.0),
            ..GatePage::default()
        };
        for found in scanned.found {
            match found {
                Ok(gate) => page.gates.push(gate),
                Err(damaged) => page.damaged.push(damaged),
            }
        }
        Ok(page)
    }
}

impl Parts {
    /// The gates of each of these runs that wait.
    fn gates_of(&self, runs: Vec<Listed>) -> BoxFuture<'_, Result<Vec<Vec<Found>>, EngineError>> {
        async move {
            let looks = runs
                .into_iter()
                .map(async |(run, _)| match self.gates(&run).await {
                    Ok(gates) => Ok(gates.into_iter().map(Ok).collect()),
                    Err(error) if error.is_damage() => Ok(vec![Err(DamagedStream {
                        stream: StreamId::Run(run),
                        problem: Causes(&error).to_string(),
                    })]),
                    Err(error) => Err(error),
                });
            join_all(looks).await.into_iter().collect()
        }
        .boxed()
    }

    async fn gates(&self, run: &RunId) -> Result<Vec<OpenGate>, EngineError> {
        let stream = StreamId::Run(run.clone());
        let Some(state) = self.runs.state(&stream).await?.filter(|state| reads_gates(state)) else {
            return Ok(Vec::new());
        };
        let suspended = matches!(state.phase(), Phase::Suspended { .. });
        let mut gates = Vec::new();
        for (gate, is) in state.gates() {
            let Gate::Open { deadline, opened, .. } = is else {
                continue;
            };
            gates.push(OpenGate {
                run: run.clone(),
                gate: gate.clone(),
                opened: *opened,
                opened_at: self.recorded_at(&stream, *opened).await?,
                deadline: *deadline,
                suspended,
            });
        }
        Ok(gates)
    }
}

/// Whether a signal for a gate of the run would be accepted.
fn reads_gates(run: &Run) -> bool {
    matches!(run.phase(), Phase::Running | Phase::Suspended { .. }) && run.cancel_requested().is_none()
}
