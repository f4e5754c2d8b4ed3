//! Lists and counts of runs.

use super::run_scan::{Listed, Scan, Scanned};
use super::{Engine, Parts};
use crate::journal::failure::of_store;
use crate::stream_service::EngineError;
use futures::future::{BoxFuture, FutureExt as _, join_all};
use tape_api::JournalError;
use tape_api::argument::{self, RUNS};
use tape_api::query::{RunCounts, RunPage, RunQuery};
use tape_core::id::{Holder, StreamId};
use tape_core::limits::{RUNS_LOOKED_AT_MAX, STATES_PER_PAGE_MAX};
use tape_core::run::Driver;
use tape_core::time::Now;
use tape_store::contract::{PageToken, RunFilter};

/// How many runs are looked at together where not all of them may fit.
const AT_ONCE_MIN: u32 = 64;
const AT_ONCE_MAX: u32 = 512;

impl Engine {
    /// A page of at most `limit` runs that fit a query, newest first.
    ///
    /// A page may be short, or empty, and not be the last: it looks at no more than
    /// [`RUNS_LOOKED_AT_MAX`] runs that the store's index finds, and of a query with a driver at no more than
    /// [`STATES_PER_PAGE_MAX`], whose states it reads. A run that cannot be read has no known driver and is not returned then.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] where the token is not of this list.
    pub async fn list_runs(
        &self,
        query: &RunQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<RunPage, JournalError> {
        let limit = RUNS.of(limit);
        let at_once = match is_found_by_index(query) {
            true => limit,
            false => limit.clamp(AT_ONCE_MIN, AT_ONCE_MAX),
        };
        let scan = Scan {
            filter: filter(query),
            limit: limit as usize,
            at_once,
            looked_at_max: looked_at_max(query),
        };
        let scanned = self.scan_for(query, scan, from).await?;
        Ok(RunPage {
            runs: scanned.found,
            next: scanned.next.map(|token| token.0),
        })
    }

    /// How many runs fit a query, by status: of one page of the runs, the first or the one that begins at `from`. A caller adds the pages
    /// up.
    ///
    /// A page looks at as many runs as one of [`Engine::list_runs`] at most, and costs as much.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] where the token is not of this count.
    pub async fn count_runs(&self, query: &RunQuery, from: Option<&str>) -> Result<RunCounts, JournalError> {
        let scan = Scan {
            filter: filter(query),
            limit: usize::MAX,
            at_once: AT_ONCE_MAX,
            looked_at_max: looked_at_max(query),
        };
        let scanned = self.scan_for(query, scan, from).await?;
        let mut counts = RunCounts {
            looked_at: scanned.looked_at.into(),
            next: scanned.next.map(|token| token.0),
            ..RunCounts::default()
        };
        for (_, summary) in scanned.found {
            *counts.by_status.entry(summary.status).or_default() += 1;
        }
        Ok(counts)
    }

    async fn scan_for(
        &self,
        query: &RunQuery,
        scan: Scan,
        from: Option<&str>,
    ) -> Result<Scanned<Listed>, JournalError> {
        let from = argument::token(from).map(|from| PageToken(from.to_owned()));
        let now = self.read_clock().await.map_err(of_store)?;
        let look = |runs| self.0.fitting(query.clone(), now, runs);
        Ok(self.0.scan(scan, from, look).await?)
    }
}

/// The part of a query that stores search for in an index.
fn filter(query: &RunQuery) -> RunFilter {
    let app = query.app.as_ref();
    RunFilter {
        tenant: query.tenant.clone(),
        app: app.or_else(|| query.prefix.as_ref()?.app()).cloned(),
        statuses: query.statuses.clone(),
        label: query.label.clone(),
        begun_from: query.begun_from,
        begun_before: query.begun_before,
    }
}

/// Whether every run fits the query that the store finds for it.
fn is_found_by_index(query: &RunQuery) -> bool {
    query.prefix.is_none() && query.driver.is_none()
}

fn looked_at_max(query: &RunQuery) -> u32 {
    match query.driver {
        Some(_) => STATES_PER_PAGE_MAX,
        None => RUNS_LOOKED_AT_MAX,
    }
}

/// Whether a run that the index finds fits, whatever its driver is.
fn fits(query: &RunQuery, (run, _): &Listed) -> bool {
    query.prefix.as_ref().is_none_or(|prefix| prefix.is_of(run))
}

impl Parts {
    /// Which of these runs fit.
    fn fitting(
        &self,
        query: RunQuery,
        now: Now,
        runs: Vec<Listed>,
    ) -> BoxFuture<'_, Result<Vec<Vec<Listed>>, EngineError>> {
        async move {
            let looks = runs.into_iter().map(async |listed| {
                let fits = fits(&query, &listed)
                    && match &query.driver {
                        Some(driver) => self.is_driven(&listed, driver, now).await?,
                        None => true,
                    };
                Ok(fits.then_some(listed).into_iter().collect())
            });
            join_all(looks).await.into_iter().collect()
        }
        .boxed()
    }

    async fn is_driven(&self, (run, summary): &Listed, by: &Holder, now: Now) -> Result<bool, EngineError> {
        if summary.status.is_final() {
            return Ok(false);
        }
        match self.runs.state(&StreamId::Run(run.clone())).await {
            Ok(state) => Ok(state.is_some_and(
                |run| matches!(run.driver(now), Driver::Driven { holder, .. } if holder == *by),
            )),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
