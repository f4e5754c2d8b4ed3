//! Looks through lists of runs for what no index finds, a bounded number of runs a call.

use super::Parts;
use crate::stream_service::EngineError;
use futures::future::BoxFuture;
use tape_core::id::RunId;
use tape_core::status::Summary;
use tape_store::contract::{PageToken, RunFilter};

/// A run as lists show it.
pub(super) type Listed = (RunId, Summary);

/// What a call looks through.
pub(super) struct Scan {
    /// The runs that an index finds.
    pub(super) filter: RunFilter,
    /// Most things that are returned, unless a single run has more.
    pub(super) limit: usize,
    /// How many runs are looked at together.
    pub(super) at_once: u32,
    /// Most runs that are looked at.
    pub(super) looked_at_max: u32,
}

/// What was found.
pub(super) struct Scanned<T> {
    pub(super) found: Vec<T>,
    /// How many runs were looked at.
    pub(super) looked_at: u32,
    /// Where the next call continues; none at the end. It begins with the first run of which nothing was returned.
    pub(super) next: Option<PageToken>,
}

impl Parts {
    /// What `look` finds in runs from a place on, for each run in their order.
    ///
    /// Tokens of a store stand at the ends of pages. Where the limit is reached within a page, a shorter page is read once more.
    pub(super) async fn scan<'a, T: Send>(
        &'a self,
        scan: Scan,
        from: Option<PageToken>,
        look: impl Fn(Vec<Listed>) -> BoxFuture<'a, Result<Vec<Vec<T>>, EngineError>> + Send + Sync,
    ) -> Result<Scanned<T>, EngineError> {
        let mut scanned = Scanned {
            found: Vec::new(),
            looked_at: 0,
            next: from,
        };
        let mut left = scan.looked_at_max.max(1);
        loop {
            let mut rows = scan.at_once.clamp(1, left);
            let (page, looked) = loop {
                let from = scanned.next.as_ref();
                let page = self.store.runs(&scan.filter, from, rows).await?;
                let looked = look(page.runs.clone()).await?;
                let room = scan.limit.saturating_sub(scanned.found.len());
                match leading(&looked, room, scanned.found.is_empty()) {
                    fit if fit == looked.len() => break (page, looked),
                    0 => return Ok(scanned),
                    fit => rows = u32::try_from(fit).unwrap_or(rows),
                }
            };
            // A page of rows that cannot be read counts, too, so that the loop ends.
            let many = u32::try_from(page.runs.len()).unwrap_or(left);
            scanned.looked_at += many;
            left = left.saturating_sub(many.max(1));
            scanned.found.extend(looked.into_iter().flatten());
            scanned.next = page.next;
            if scanned.next.is_none() || left == 0 || scanned.found.len() >= scan.limit {
                return Ok(scanned);
            }
        }
    }
}

/// How many of the first runs have room for what was found in them. The very first run has, whatever was found in it.
fn leading<T>(looked: &[Vec<T>], room: usize, is_first: bool) -> usize {
    let mut total = 0;
    let fits = |found: &&Vec<T>| {
        let has_room = found.is_empty() || total + found.len() <= room || (is_first && total == 0);
        total += found.len();
        has_room
    };
    looked.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::leading;

    #[test]
    fn a_page_ends_where_the_next_run_has_no_room() {
        let looked = [vec![1, 2], vec![], vec![3], vec![4, 5, 6]];
        let fit = |room, is_first| leading(&looked, room, is_first);
        assert_eq!(
            [
                fit(6, false),
                fit(5, false),
                fit(3, false),
                fit(2, false),
                fit(1, false)
            ],
            [4, 3, 3, 2, 0]
        );
        assert_eq!([fit(6, true), fit(1, true), fit(0, true)], [4, 2, 2]);
    }
}
