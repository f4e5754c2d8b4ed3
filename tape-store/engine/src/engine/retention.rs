//! Retention: runs that ended long ago are retired, and their entries dropped.
//!
//! An entry that holds what outlives the others retires a run, and only then are the others dropped. If a step in between is interrupted,
//! the retired run stays in the list until its entries are dropped, so the next pass finds it. Several processes may do the same work at
//! once, since a run is retired once and dropping again changes nothing.
//!
//! Before anything is dropped, the run's whole journal is read and verified: a damaged run is left as it is, as the proof.

use super::Parts;
use crate::stream_service::{EngineError, damaged};
use std::collections::BTreeSet;
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::command::{Command, ExternalCommand, RunCommand};
use tape_core::decider::Decider as _;
use tape_core::entry::Entry;
use tape_core::id::{Principal, RequestId, RunId, Seq, StreamId, Tenant};
use tape_core::limits::RETIRED_PER_PAGE_MAX;
use tape_core::payload::ContentDigest;
use tape_core::run::Run;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;
use tape_store::contract::{PageToken, RunFilter};
use tape_store::error::StoreError;

/// How often a run is looked at again because others changed it meanwhile.
const ATTEMPTS_MAX: u32 = 16;

/// Which runs to retire, for which principal and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Runs of this tenant.
    pub tenant: Tenant,
    /// Runs that ended before this time.
    pub ended_before: Timestamp,
    /// The principal that retires them, where it is known.
    pub principal: Option<Principal>,
    /// Why.
    pub reason: String,
    /// Whether only to report what would be done.
    pub dry_run: bool,
}

/// The result for a page of runs.
#[derive(Clone, Debug, Default)]
pub struct RetiredPage {
    /// How many runs were retired and dropped, or would be.
    pub runs: u64,
    /// How many entries of these were dropped, or would be.
    pub entries: u64,
    /// Runs that were left as they are, and why.
    pub failed: Vec<(RunId, EngineError)>,
    /// Where the next page begins; none at the end.
    pub next: Option<PageToken>,
}

/// A run that can be dropped.
struct Leaving {
    stream: StreamId,
    /// The first entry that is kept.
    first: Seq,
    entries: u64,
}

impl Parts {
    /// Retires a page of runs, all at the same time, so that they share commits.
    pub(super) async fn retire_page(
        &self,
        retirement: &Retirement,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RetiredPage, EngineError> {
        let place = Place::read(from)?;
        let filter = RunFilter {
            statuses: BTreeSet::from([place.status]),
            // What ended before a time began before it.
            begun_before: Some(retirement.ended_before),
            ..RunFilter::all(retirement.tenant.clone())
        };
        let limit = limit.clamp(1, RETIRED_PER_PAGE_MAX);
        let listed = self.store.runs(&filter, place.token.as_ref(), limit).await?;
        let due = listed
            .runs
            .iter()
            .filter(|(_, summary)| summary.changed_at < retirement.ended_before);
        let retired = due.map(|(run, _)| self.retire(run, retirement));
        let mut page = RetiredPage {
            next: place.after(listed.next),
            ..RetiredPage::default()
        };
        let mut drops = Vec::new();
        for outcome in futures::future::join_all(retired).await {
            match outcome {
                Ok(None) => {}
                Ok(Some(leaving)) => {
                    page.runs += 1;
                    page.entries += leaving.entries;
                    drops.push((leaving.stream, leaving.first));
                }
                Err(failed) => page.failed.push(failed),
            }
        }
        if !retirement.dry_run && !drops.is_empty() {
            self.store.drop_before(&drops).await?;
        }
        Ok(page)
    }

    /// Retires a run that is due by its own state, not only by the list.
    async fn retire(
        &self,
        run: &RunId,
        retirement: &Retirement,
    ) -> Result<Option<Leaving>, (RunId, EngineError)> {
        self.try_retire(run, retirement)
            .await
            .map_err(|error| (run.clone(), error))
    }

    /// Before a run is returned to be dropped, all its entries were read and verified: a damaged run stays as it is.
    async fn try_retire(&self, run: &RunId, retirement: &Retirement) -> Result<Option<Leaving>, EngineError> {
        let stream = StreamId::Run(run.clone());
        let leaving = |first: Seq| Leaving {
            stream: stream.clone(),
            first,
            entries: first.0.saturating_sub(1),
        };
        for _ in 0..ATTEMPTS_MAX {
            let state = self.runs.state(&stream).await?;
            let Some(state) = state.filter(|state| is_due(state, retirement)) else {
                return Ok(None);
            };
            if !retirement.dry_run && !state.is_retired() {
                self.finish_erasures(&stream).await?;
            }
            let verified = self.audit(&stream).await?;
            if let Some(retired) = state.retired_in() {
                return Ok(Some(leaving(retired)));
            }
            if retirement.dry_run {
                return Ok(Some(leaving(state.seq().next())));
            }
            let (last, ended) = self.ends(&stream).await?;
            let end = last.as_ref().map(|last| (last.seq, last.digest));
            if end != Some(verified.head) {
                // Another process erased something of it, or retired it.
                continue;
            }
            let command = Command {
                request: request(&stream, state.as_ref()),
                principal: retirement.principal.clone(),
                trace: None,
                body: RunCommand::External(ExternalCommand::Retire {
                    reason: retirement.reason.clone(),
                    last,
                    ended,
                }),
            };
            let reply = self.runs.command(&stream, command).await?;
            return Ok(Some(leaving(reply.seq)));
        }
        Err(EngineError::Contended {
            stream,
            attempts: ATTEMPTS_MAX,
        })
    }

    /// The entry at the end of a run's stream and the one that ended the run, which the rules need to retire it; none where
    /// there are no such entries.
    pub(super) async fn ends(
        &self,
        stream: &StreamId,
    ) -> Result<(Option<Box<Entry>>, Option<Box<Entry>>), EngineError> {
        let Some(state) = self.runs.state(stream).await? else {
            return Ok((None, None));
        };
        let last = self.entry(stream, state.seq()).await?.map(Box::new);
        let ended = match state.ended_in() {
            Some(ended) => self.entry(stream, ended).await?.map(Box::new),
            None => None,
        };
        Ok((last, ended))
    }

    /// An entry of a stream; none where there is none, or it was dropped.
    pub(super) async fn entry(&self, stream: &StreamId, seq: Seq) -> Result<Option<Entry>, EngineError> {
        let before = Seq(seq.0.saturating_sub(1));
        let page = self.store.read(stream, before, 1).await?;
        let stored = page.first().filter(|stored| stored.seq == seq);
        let entry = stored.map(decode).transpose();
        entry.map_err(|error| damaged(stream, Arc::new(error)))
    }
}

/// Whether a run ended long enough ago by its own state.
fn is_due(state: &Arc<Run>, retirement: &Retirement) -> bool {
    let summary = state.summary();
    summary.is_some_and(|summary| summary.status.is_final() && summary.changed_at < retirement.ended_before)
}

/// The id of the request that retires this run; every server derives the same one. A run is retired once, so the request needs no
/// place among those that the run remembers.
fn request(stream: &StreamId, state: &Run) -> RequestId {
    let ended_at = state.summary().map(|summary| summary.changed_at);
    let digest = ContentDigest::of(&("tape retire", stream.to_string())).0;
    RequestId::new(ended_at.unwrap_or_default(), u128::from_be_bytes(digest))
}

/// A place in the lists of ended runs, one list for each way to end. Its token is the status, a colon, and the list's own token.
struct Place {
    status: RunStatus,
    token: Option<PageToken>,
}

impl Place {
    fn ended() -> impl Iterator<Item = RunStatus> {
        RunStatus::ALL.into_iter().filter(|status| status.is_final())
    }

    fn read(token: Option<&PageToken>) -> Result<Self, StoreError> {
        let Some(token) = token else {
            return Ok(Self {
                status: RunStatus::Completed,
                token: None,
            });
        };
        let read = token.0.split_once(':').and_then(|(word, rest)| {
            let status = Self::ended().find(|status| status.as_str() == word)?;
            let token = (!rest.is_empty()).then(|| PageToken(rest.to_owned()));
            // The first page has no token.
            let is_first = token.is_none() && status == RunStatus::Completed;
            (!is_first).then_some(Self { status, token })
        });
        read.ok_or_else(|| StoreError::Invalid {
            what: "page token",
            problem: "it was not made by a page of retired runs".to_owned(),
        })
    }

    /// The place after a page of this one's list.
    fn after(&self, next: Option<PageToken>) -> Option<PageToken> {
        let (status, rest) = match next {
            Some(token) => (self.status, token.0),
            None => {
                let later = Self::ended().skip_while(|status| *status != self.status).nth(1);
                (later?, String::new())
            }
        };
        Some(PageToken(format!("{}:{rest}", status.as_str())))
    }
}
