//! Opens a journal by its URL.

use crate::error::Error;
use crate::url::StoreUrl;
use std::sync::Arc;
use std::time::Duration;
use tape_api::Journal;

#[cfg_attr(
    not(feature = "remote"),
    expect(
        unused_variables,
        reason = "a store in this process is asked for no sign of life"
    )
)]
/// Opens the journal at `url` for holders of leases of a length. A store in this process is opened now; a server is connected to when
/// it is first needed.
///
/// # Errors
/// [`Error::Invalid`] where this build does not open such URLs or something in one makes no sense, [`Error::Unavailable`] or [`Error::Damaged`] where a store cannot be
/// opened.
pub async fn open(url: &StoreUrl, lease: Duration) -> Result<Arc<dyn Journal>, Error> {
    match url {
        #[cfg(feature = "embedded")]
        StoreUrl::Embedded(url) => {
            let store = tape_store::open::open(url).await.map_err(unopened)?;
            Ok(Arc::new(tape_engine::Engine::start(store)))
        }
        #[cfg(not(feature = "embedded"))]
        StoreUrl::Embedded(_) => Err(Error::invalid(
            "store URL",
            "names a store in this process, and this build has none: give `tape-client` the feature `sqlite`, `postgres`, `bigtable` or `spanner`",
        )),
        #[cfg(feature = "remote")]
        StoreUrl::Server(authority) => Ok(Arc::new(crate::remote::Remote::new(authority, lease)?)),
        #[cfg(not(feature = "remote"))]
        StoreUrl::Server(_) => Err(Error::invalid(
            "store URL",
            "names a server, and this build connects to none: give `tape-client` the feature `remote`",
        )),
    }
}

/// The same for a journal that has to be there already: none is made of a misspelt name. That a server has one is for its operator
/// to see to.
///
/// # Errors
/// Those of [`open`], and [`Error::Invalid`] where a store has no journal.
pub async fn open_existing(url: &StoreUrl, lease: Duration) -> Result<Arc<dyn Journal>, Error> {
    #[cfg(feature = "embedded")]
    if let StoreUrl::Embedded(url) = url {
        tape_store::open::check_exists(url).await.map_err(absent)?;
    }
    open(url, lease).await
}

#[cfg(feature = "embedded")]
fn absent(error: tape_store::error::StoreError) -> Error {
    match error {
        tape_store::error::StoreError::Invalid { what, problem } => Error::Invalid { what, problem },
        other => unopened(other),
    }
}

#[cfg(feature = "embedded")]
fn unopened(error: tape_store::error::StoreError) -> Error {
    use tape_store::error::{STORE_URL, StoreError};
    match error {
        StoreError::Unavailable { .. } => Error::Unavailable { source: error.into() },
        StoreError::Invalid {
            what: what @ STORE_URL,
            problem,
        } => Error::invalid(what, problem),
        other => Error::damaged(other),
    }
}
