//! Lists, page by page. An empty or cut list says so.

use crate::name::path;
use crate::remedy::Remedy;
use crate::{Context, Failure};
use serde_json::json;
use tape_client::core::id::StreamId;
use tape_client::core::status::Summary;
use tape_client::{
    DamagedStream, Error, GateQuery, OpenGate, RunId, RunQuery, SessionQuery, SessionSummary, Tape,
    ValueQuery, ValueSummary,
};

/// A query whose answer comes in pages.
pub(crate) trait Query {
    /// What is listed.
    type Item;

    /// A page of about `most` items.
    async fn page(&self, tape: &Tape, from: Option<String>, most: u32) -> Result<Page<Self::Item>, Error>;
}

/// A page of a list.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// What cannot be read.
    pub(crate) damaged: Vec<DamagedStream>,
    next: Option<String>,
}

impl Query for RunQuery {
    type Item = (RunId, Summary);

    async fn page(&self, tape: &Tape, from: Option<String>, most: u32) -> Result<Page<Self::Item>, Error> {
        let page = tape.runs(self, from, most).await?;
        Ok(Page {
            items: page.runs,
            damaged: Vec::new(),
            next: page.next,
        })
    }
}

impl Query for GateQuery {
    type Item = OpenGate;

    async fn page(&self, tape: &Tape, from: Option<String>, most: u32) -> Result<Page<OpenGate>, Error> {
        let page = tape.open_gates(self, from, most).await?;
        Ok(Page {
            items: page.gates,
            damaged: page.damaged,
            next: page.next,
        })
    }
}

impl Query for SessionQuery {
    type Item = SessionSummary;

    async fn page(
        &self,
        tape: &Tape,
        from: Option<String>,
        most: u32,
    ) -> Result<Page<SessionSummary>, Error> {
        let page = tape.sessions(self, from, most).await?;
        Ok(Page {
            items: page.sessions,
            damaged: page.damaged,
            next: page.next,
        })
    }
}

impl Query for ValueQuery {
    type Item = ValueSummary;

    async fn page(&self, tape: &Tape, from: Option<String>, most: u32) -> Result<Page<ValueSummary>, Error> {
        let page = tape.values(self, from, most).await?;
        Ok(Page {
            items: page.values,
            damaged: page.damaged,
            next: page.next,
        })
    }
}

/// What matches a query, as much as requested.
pub(crate) struct Pages<'a, Q> {
    query: &'a Q,
    next: Option<String>,
    begun: bool,
}

impl<'a, Q: Query> Pages<'a, Q> {
    pub(crate) const fn of(query: &'a Q) -> Self {
        Self {
            query,
            next: None,
            begun: false,
        }
    }

    /// The next page, of about `most` items; none at the end.
    pub(crate) async fn next(
        &mut self,
        context: &Context<'_>,
        most: u32,
    ) -> Result<Option<Page<Q::Item>>, Failure> {
        if self.is_over() {
            return Ok(None);
        }
        let mut page = self.query.page(&context.tape, self.next.take(), most).await?;
        (self.begun, self.next) = (true, page.next.take());
        Ok(Some(page))
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.begun && self.next.is_none()
    }
}

/// Lists what matches a query, `limit` lines at most, and how the list ends.
pub(crate) async fn all<Q: Query>(
    context: &mut Context<'_>,
    query: &Q,
    limit: u32,
    tell: impl Fn(&mut Context<'_>, Q::Item) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut pages, mut listed, mut cut) = (Pages::of(query), 0, false);
    let limit_lines = usize::try_from(limit).unwrap_or(usize::MAX);
    while listed < limit_lines
        && let Some(page) = pages
            .next(context, limit - u32::try_from(listed).unwrap_or(limit))
            .await?
    {
        // A page may have more than was asked for.
        let left = limit_lines - listed;
        let read = page.items.len();
        for item in page.items.into_iter().take(left) {
            tell(context, item)?;
        }
        // What cannot be read must not hide: it is listed beside the others, whatever the limit is.
        for damaged in &page.damaged {
            tell_damaged(context, damaged)?;
        }
        cut |= read > left;
        listed += read.min(left) + page.damaged.len();
    }
    cut |= !pages.is_over();
    end(context, listed, cut.then(|| more(listed)).as_deref())
}

/// Why a list is cut that `--limit` ends.
pub(crate) fn more(listed: usize) -> String {
    format!("{listed} are listed, and there may be more; --limit N lists more")
}

/// Names what cannot be read, and what to do about it.
pub(crate) fn tell_damaged(context: &mut Context<'_>, damaged: &DamagedStream) -> Result<(), Failure> {
    let DamagedStream { stream, problem } = damaged;
    let (name, remedy) = match stream {
        StreamId::Run(run) => (path(run), Remedy::new("verify").name(path(run))),
        other => (other.to_string(), Remedy::new("verify").option("--stream", other)),
    };
    if context.print.json {
        return context.value(
            &json!({"stream": stream.to_string(), "damaged": problem, "remedies": [remedy.to_string()]}),
        );
    }
    context.line(&format!("{name}  DAMAGED: {problem}"))?;
    context.line(&format!("  tape {remedy}"))
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
