//! Lists of gates that wait, over the runs that have not ended.

use super::run_scan::{Listed, Scan};
use super::{Engine, Parts};
use crate::journal::failure::of_store;
use crate::stream_service::EngineError;
use futures::future::{BoxFuture, FutureExt as _, join_all};
use tape_api::JournalError;
use tape_api::argument::{self, GATES};
use tape_api::query::{DamagedStream, GatePage, GateQuery, OpenGate};
use tape_core::causes::Causes;
use tape_core::id::{RunId, StreamId};
use tape_core::limits::STATES_PER_PAGE_MAX;
use tape_core::run::{Gate, Phase, Run};
use tape_core::status::RunStatus;
use tape_store::contract::{PageToken, RunFilter};
use tape_store::error::StoreError;

/// The statuses of runs that may have a gate that waits. A run that is ending reads no gate any more.
const STATUSES: [RunStatus; 3] = [RunStatus::Suspended, RunStatus::Running, RunStatus::Stuck];
/// How many states are read at the same time.
const AT_ONCE: u32 = 32;

/// A gate, or a run that cannot be read.
type Found = Result<OpenGate, DamagedStream>;

/// Where a page begins: in the list of the runs with a status.
struct Place {
    status: RunStatus,
    token: Option<PageToken>,
}

impl Place {
    fn read(token: Option<&str>) -> Result<Self, StoreError> {
        let Some(token) = argument::token(token) else {
            let [status, ..] = STATUSES;
            return Ok(Self { status, token: None });
        };
        let (status, rest) = token.split_once(' ').unwrap_or((token, ""));
        let status = STATUSES.into_iter().find(|known| known.as_str() == status);
        let token = argument::token(Some(rest)).map(|rest| PageToken(rest.to_owned()));
        let problem = "it was not made here".to_owned();
        let what = "page token";
        let status = status.ok_or(StoreError::Invalid { what, problem })?;
        Ok(Self { status, token })
    }

    fn token(&self) -> String {
        let rest = self.token.as_ref().map_or("", |token| &token.0);
        format!("{} {rest}", self.status.as_str())
    }

    /// The place after what was looked at; none at the end.
    fn after(&self, token: Option<PageToken>) -> Option<Self> {
        let status = match token {
            Some(_) => self.status,
            None => STATUSES
                .into_iter()
                .skip_while(|known| *known != self.status)
                .nth(1)?,
        };
        Some(Self { status, token })
    }
}

impl Engine {
    /// A page of about `limit` gates that wait for a signal, over the runs of a tenant that have not ended. All gates of one run are on one
    /// page, so a page may have more, by as many as one run has.
    ///
    /// A page reads the states of at most [`STATES_PER_PAGE_MAX`] runs, and the entry that opened each gate. So it may be short, or empty,
    /// and not be the last. All pages together cost the states of the tenant's runs that have not ended, whatever ended. A run that changes
    /// its status meanwhile may be missed or returned twice.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] where the token is not of this list. A run that is damaged is in the page as such.
    pub async fn open_gates(
        &self,
        query: &GateQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<GatePage, JournalError> {
        let mut place = Place::read(from).map_err(of_store)?;
        let limit = GATES.of(limit) as usize;
        let (mut page, mut left) = (GatePage::default(), STATES_PER_PAGE_MAX);
        loop {
            let scan = Scan {
                filter: RunFilter {
                    app: query.app.clone(),
                    status: Some(place.status),
                    ..RunFilter::all(query.tenant.clone())
                },
                limit: limit - page.gates.len(),
                at_once: AT_ONCE,
                looked_at_max: left,
            };
            let look = |runs| self.0.gates_of(runs);
            let scanned = self.0.scan(scan, place.token.clone(), look).await?;
            left = left.saturating_sub(scanned.looked_at);
            for found in scanned.found {
                match found {
                    Ok(gate) => page.gates.push(gate),
                    Err(damaged) => page.damaged.push(damaged),
                }
            }
            let Some(next) = place.after(scanned.next) else {
                return Ok(page);
            };
            if left == 0 || page.gates.len() >= limit {
                page.next = Some(next.token());
                return Ok(page);
            }
            place = next;
        }
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
                    Err(error @ EngineError::Damaged { .. }) => Ok(vec![Err(DamagedStream {
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
