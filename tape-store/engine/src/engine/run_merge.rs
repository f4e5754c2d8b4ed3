//! The list of the runs in any of several statuses, put together from the lists of each: it costs these runs, however many ended.

use super::Parts;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;
use tape_store::contract::{PageToken, RunFilter, RunPage};
use tape_store::error::StoreError;

/// Where a page begins.
#[derive(Serialize, Deserialize)]
struct Place {
    /// The runs that the pages before have began then or later, in microseconds. A run that comes into another list afterwards is passed
    /// over there.
    down_to: i64,
    /// The lists, each with where it continues; those at their end, too, since runs may come into them.
    lists: Vec<List>,
}

/// One of the lists.
#[derive(Clone, Serialize, Deserialize)]
struct List {
    status: RunStatus,
    from: Option<String>,
    /// Whether all of its runs that began by then are on the pages before.
    ended: bool,
}

impl List {
    const fn new(status: RunStatus, from: Option<String>, ended: bool) -> Self {
        Self { status, from, ended }
    }

    /// The list after a page of it that ends here.
    fn after(&self, next: Option<PageToken>) -> Self {
        let ended = next.is_none();
        Self::new(self.status, next.map(|token| token.0), ended)
    }

    /// The list from where the last page of it began.
    fn again(&self) -> Self {
        Self::new(self.status, self.from.clone(), false)
    }
}

impl Place {
    fn read(token: Option<&PageToken>, statuses: &BTreeSet<RunStatus>) -> Result<Self, StoreError> {
        let Some(token) = token else {
            let lists = statuses.iter().map(|status| List::new(*status, None, false));
            return Ok(Self {
                down_to: i64::MAX,
                lists: lists.collect(),
            });
        };
        let place: Option<Self> = serde_json::from_str(&token.0).ok();
        // In their order, each once: so they are written.
        let is_ours = |place: &Self| place.lists.iter().map(|list| &list.status).eq(statuses);
        place.filter(is_ours).ok_or_else(|| StoreError::Invalid {
            what: "page token",
            problem: "it was not made for this list".to_owned(),
        })
    }

    fn token(&self) -> PageToken {
        PageToken(serde_json::to_string(self).expect("texts and numbers are JSON"))
    }

    fn filter(&self, of: &RunFilter, list: &List) -> RunFilter {
        let before = self.down_to.checked_add(i64::from(!list.ended));
        let from_pages = before.map(Timestamp::from_micros);
        RunFilter {
            status: Some(list.status),
            begun_before: [of.begun_before, from_pages].into_iter().flatten().min(),
            ..of.clone()
        }
    }
}

impl Parts {
    /// Runs that fit a filter and are in one of these statuses, or in any where there are none: the latest begun first.
    ///
    /// A run that goes from one of the statuses to another between two pages is found once, unless it began in the same microsecond as
    /// the last run of a page. One that does so while a page is read may be missed.
    pub(super) async fn runs_in(
        &self,
        filter: &RunFilter,
        statuses: &BTreeSet<RunStatus>,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        if statuses.len() <= 1 {
            let status = statuses.first().copied();
            let filter = RunFilter {
                status,
                ..filter.clone()
            };
            return self.store.runs(&filter, from, limit).await;
        }
        let place = Place::read(from, statuses)?;
        let pages = place
            .lists
            .iter()
            .map(|list| self.list(&place, filter, list, limit));
        let pages = try_join_all(pages).await?;
        let taken = take(&pages, limit as usize);
        let (mut runs, mut lists) = (Vec::new(), Vec::new());
        for ((list, page), taken) in place.lists.iter().zip(pages).zip(taken) {
            lists.push(self.go_on(&place, filter, list, &page, taken).await?);
            runs.extend(page.runs.into_iter().take(taken));
        }
        runs.sort_by_key(|(_, summary)| Reverse(summary.begun_at));
        let last = runs.last().map(|(_, summary)| summary.begun_at.as_micros());
        let down_to = last.unwrap_or(place.down_to);
        let is_end = lists.iter().all(|list| list.ended);
        let next = (!is_end).then(|| Place { down_to, lists }.token());
        Ok(RunPage { runs, next })
    }

    async fn list(
        &self,
        place: &Place,
        filter: &RunFilter,
        list: &List,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        let from = list.from.clone().map(PageToken);
        let filter = place.filter(filter, list);
        self.store.runs(&filter, from.as_ref(), limit).await
    }

    /// The list after the first `taken` runs of its page.
    ///
    /// Tokens of a store stand at the ends of pages, so a page of these runs is read. Where the list has others meanwhile, it continues
    /// where it did, and what was taken is passed over by when it began.
    async fn go_on(
        &self,
        place: &Place,
        filter: &RunFilter,
        list: &List,
        page: &RunPage,
        taken: usize,
    ) -> Result<List, StoreError> {
        if taken == page.runs.len() {
            return Ok(list.after(page.next.clone()));
        }
        if taken == 0 {
            return Ok(list.again());
        }
        let again = self
            .list(place, filter, list, u32::try_from(taken).unwrap_or(u32::MAX))
            .await?;
        let same = again
            .runs
            .iter()
            .map(|(run, _)| run)
            .eq(page.runs[..taken].iter().map(|(run, _)| run));
        Ok(if same {
            list.after(again.next)
        } else {
            list.again()
        })
    }
}

/// How many of the first runs of each page are the latest begun of all, at most `limit` together. None is taken that began before a run
/// which the next page of a list may have.
fn take(pages: &[RunPage], limit: usize) -> Vec<usize> {
    let with_more = pages.iter().filter(|page| page.next.is_some());
    let last = |page: &RunPage| {
        page.runs
            .last()
            .map_or(Timestamp::MAX, |(_, summary)| summary.begun_at)
    };
    let floor = with_more.map(last).max().unwrap_or(Timestamp::MIN);
    let mut places: Vec<(Reverse<Timestamp>, usize)> = Vec::new();
    for (nth, page) in pages.iter().enumerate() {
        let began = page.runs.iter().map(|(_, summary)| summary.begun_at);
        let late = began.filter(|began| *began >= floor);
        places.extend(late.map(|began| (Reverse(began), nth)));
    }
    places.sort();
    let mut taken = vec![0; pages.len()];
    for (_, nth) in places.into_iter().take(limit) {
        taken[nth] += 1;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::take;
    use std::collections::BTreeMap;
    use tape_core::id::RunId;
    use tape_core::status::{RunStatus, Summary};
    use tape_core::time::Timestamp;
    use tape_store::contract::{PageToken, RunPage};

    fn page(began: &[i64], more: bool) -> RunPage {
        let run = RunId::new("t", "a", "u", "s", "i").unwrap();
        let summary = |at: i64| Summary {
            status: RunStatus::Running,
            labels: BTreeMap::new(),
            begun_at: Timestamp::from_micros(at),
            changed_at: Timestamp::from_micros(at),
        };
        RunPage {
            runs: began.iter().map(|at| (run.clone(), summary(*at))).collect(),
            next: more.then(|| PageToken("more".to_owned())),
        }
    }

    #[test]
    fn the_latest_of_all_lists_are_taken() {
        assert_eq!(take(&[page(&[9, 5, 1], false), page(&[7, 6], false)], 3), [1, 2]);
        assert_eq!(
            take(&[page(&[9, 5], true), page(&[7, 6, 4], false)], 5),
            [2, 2],
            "4 may not be the next"
        );
        assert_eq!(
            take(&[page(&[], true), page(&[7], false)], 5),
            [0, 0],
            "anything may be the next"
        );
        assert_eq!(take(&[page(&[], false), page(&[7], false)], 5), [0, 1]);
    }
}
