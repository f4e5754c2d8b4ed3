//! Due work.

use super::effect::enums;
use super::field::{InvalidField, known, name, optional_name, required};
use super::stream::Tenants;
use crate::v1;
use crate::v1::hint::Work;
use tape_core::agenda::{Item, Queue};
use tape_core::id::{App, StreamId};
use tape_core::time::Timestamp;

enums! {
    Queue = v1::Queue { Recovery, Outbox, Reconcile, Timers, Compensation }
}

/// Whose due work of which queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueFilter {
    /// The queue.
    pub queue: Queue,
    /// The tenants.
    pub tenants: Tenants,
    /// Only work of runs and sessions of this app.
    pub app: Option<App>,
}

impl DueFilter {
    fn read(queue: i32, tenants: Option<v1::Tenants>, app: Option<&String>) -> Result<Self, InvalidField> {
        Ok(Self {
            queue: known::<v1::Queue, _>("queue", queue)?,
            tenants: required("tenants", tenants)?,
            app: optional_name("app", app)?,
        })
    }
}

/// A page of due work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueList {
    /// Which work.
    pub filter: DueFilter,
    /// Most pieces of the page, of each shard; zero where the server chooses.
    pub page_size: u32,
    /// Where the page begins; none for the first.
    pub page_token: Option<String>,
    /// Whether work is listed that becomes due later, too.
    pub pending: bool,
}

impl TryFrom<v1::ListDueRequest> for DueList {
    type Error = InvalidField;
    fn try_from(wire: v1::ListDueRequest) -> Result<Self, InvalidField> {
        Ok(Self {
            filter: DueFilter::read(wire.queue, wire.tenants, wire.app.as_ref())?,
            page_size: wire.page_size,
            page_token: (!wire.page_token.is_empty()).then_some(wire.page_token),
            pending: wire.pending,
        })
    }
}

impl From<DueList> for v1::ListDueRequest {
    fn from(list: DueList) -> Self {
        Self {
            queue: v1::Queue::from(list.filter.queue).into(),
            tenants: Some(list.filter.tenants.into()),
            app: list.filter.app.map(Into::into),
            page_size: list.page_size,
            page_token: list.page_token.unwrap_or_default(),
            pending: list.pending,
        }
    }
}

/// Due work that is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWatch {
    /// Which work.
    pub filter: DueFilter,
    /// Most hints under way at a time and per shard; zero where the server chooses.
    pub hints_max: u32,
    /// Work that is still due is pushed again after so many milliseconds; none where the server chooses.
    pub repeat_ms: Option<u64>,
}

impl TryFrom<v1::WatchDueRequest> for DueWatch {
    type Error = InvalidField;
    fn try_from(wire: v1::WatchDueRequest) -> Result<Self, InvalidField> {
        if (1..100).contains(&wire.repeat_ms) {
            let problem = format!("is {}, at least 100 are asked for", wire.repeat_ms);
            return Err(InvalidField::new("repeat_ms", problem));
        }
        Ok(Self {
            filter: DueFilter::read(wire.queue, wire.tenants, wire.app.as_ref())?,
            hints_max: wire.hints_max,
            repeat_ms: (wire.repeat_ms != 0).then_some(wire.repeat_ms),
        })
    }
}

impl From<DueWatch> for v1::WatchDueRequest {
    fn from(watch: DueWatch) -> Self {
        Self {
            queue: v1::Queue::from(watch.filter.queue).into(),
            tenants: Some(watch.filter.tenants.into()),
            app: watch.filter.app.map(Into::into),
            hints_max: watch.hints_max,
            repeat_ms: watch.repeat_ms.unwrap_or_default(),
        }
    }
}

/// A piece of due work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueHint {
    /// The stream that has it.
    pub stream: StreamId,
    /// What it is.
    pub item: Item,
    /// When it is due.
    pub due: Timestamp,
}

impl From<DueHint> for v1::Hint {
    fn from(hint: DueHint) -> Self {
        let work = match hint.item {
            Item::Run => Work::Recovery(v1::hint::Recovery {}),
            Item::Effect(effect) => Work::Effect(effect.into()),
            Item::Gate(gate) => Work::Gate(gate.into()),
            Item::Timer(timer) => Work::Timer(timer.into()),
            Item::Obligation(obligation) => Work::Obligation(obligation.into()),
            Item::Merge => Work::Merge(v1::hint::Merge {}),
            Item::Erasure => Work::Erasure(v1::hint::Erasure {}),
        };
        Self {
            stream: Some(hint.stream.into()),
            work: Some(work),
            due_us: hint.due.as_micros(),
        }
    }
}

impl TryFrom<v1::Hint> for DueHint {
    type Error = InvalidField;
    fn try_from(wire: v1::Hint) -> Result<Self, InvalidField> {
        let item = match wire.work.ok_or_else(|| InvalidField::missing("work"))? {
            Work::Recovery(_) => Item::Run,
            Work::Effect(effect) => Item::Effect(required("effect", Some(effect))?),
            Work::Gate(gate) => Item::Gate(name("gate", &gate)?),
            Work::Timer(timer) => Item::Timer(name("timer", &timer)?),
            Work::Obligation(obligation) => Item::Obligation(required("obligation", Some(obligation))?),
            Work::Merge(_) => Item::Merge,
            Work::Erasure(_) => Item::Erasure,
        };
        Ok(Self {
            stream: required("stream", wire.stream)?,
            item,
            due: Timestamp::from_micros(wire.due_us),
        })
    }
}
