//! Lists of runs, page by page. An empty or cut list says so.

use crate::{Context, Failure};
use serde_json::json;
use tape_client::core::limits::PAGE_ENTRIES_MAX;
use tape_client::core::status::Summary;
use tape_client::{RunId, RunQuery};

/// The runs that match a query, as many as requested.
pub(crate) struct Pages<'a> {
    query: &'a RunQuery,
    next: Option<String>,
    begun: bool,
}

impl<'a> Pages<'a> {
    pub(crate) const fn of(query: &'a RunQuery) -> Self {
        Self {
            query,
            next: None,
            begun: false,
        }
    }

    /// At most `most` further runs; none at the end.
    pub(crate) async fn next(
        &mut self,
        context: &Context<'_>,
        most: u32,
    ) -> Result<Option<Vec<(RunId, Summary)>>, Failure> {
        if self.is_over() {
            return Ok(None);
        }
        let most = most.min(PAGE_ENTRIES_MAX);
        let page = context.tape.runs(self.query, self.next.take(), most).await?;
        (self.begun, self.next) = (true, page.next);
        Ok(Some(page.runs))
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.begun && self.next.is_none()
    }
}

/// Prints the length of a list: for people only if it is empty or cut, for programs always.
pub(crate) fn end(context: &mut Context<'_>, listed: usize, cut: Option<&str>) -> Result<(), Failure> {
    if context.print.json {
        return context.value(&json!({"listed": listed, "cut": cut.is_some()}));
    }
    match cut {
        Some(why) => context.line(&format!("cut: {why}")),
        None if listed == 0 => context.line("none"),
        None => Ok(()),
    }
}
