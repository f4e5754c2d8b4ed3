//! The filter of a reader of the feed.

use std::borrow::Cow;
use tape_core::codec::{DecodeError, kind};
use tape_core::id::{StreamId, Tenant};
use tape_core::subject::{Pattern, Subject};
use tape_store::contract::{DamagedEntry, FeedEntry};

/// Chooses entries by tenant and subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Only entries of this tenant, where one is named.
    pub tenant: Option<Tenant>,
    /// Only entries whose subjects fit.
    pub pattern: Pattern,
}

impl Filter {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self {
            tenant: None,
            pattern: Pattern::all(),
        }
    }

    /// Whether a reader with this filter gets reports of damage to a stream. Damage to an unknown stream is reported to every reader of all
    /// tenants.
    #[must_use]
    pub fn concerns(&self, stream: Option<&StreamId>) -> bool {
        match (&self.tenant, stream) {
            (None, _) => true,
            (Some(tenant), Some(stream)) => tenant == stream.tenant(),
            (Some(_), None) => false,
        }
    }

    /// Whether it chooses an entry.
    ///
    /// # Errors
    /// [`DecodeError`] where the entry's kind is needed and cannot be read.
    pub fn chooses(&self, feed: &FeedEntry) -> Result<bool, DecodeError> {
        if self
            .tenant
            .as_ref()
            .is_some_and(|tenant| tenant != feed.stream.tenant())
        {
            return Ok(false);
        }
        if self.pattern == Pattern::all() {
            return Ok(true);
        }
        Ok(self
            .pattern
            .matches(&Subject::new(&feed.stream, &kind(&feed.entry)?)))
    }

    /// Adds the entries that it chooses to `chosen`, and those that it would have to read and cannot to `damaged`.
    pub(crate) fn sift<'a>(
        &self,
        entries: impl IntoIterator<Item = Cow<'a, FeedEntry>>,
        chosen: &mut Vec<FeedEntry>,
        damaged: &mut Vec<DamagedEntry>,
    ) {
        for entry in entries {
            match self.chooses(&entry) {
                Ok(true) => chosen.push(entry.into_owned()),
                Ok(false) => {}
                Err(error) => damaged.push(unreadable(entry.stream.clone(), &error)),
            }
        }
    }
}

fn unreadable(stream: StreamId, error: &DecodeError) -> DamagedEntry {
    let cause = std::error::Error::source(error);
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    DamagedEntry {
        stream: Some(stream),
        problem: format!("{error}{cause}"),
    }
}
