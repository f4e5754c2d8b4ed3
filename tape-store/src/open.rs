//! Opens a store by its URL.

use crate::contract::JournalStore;
use crate::error::StoreError;
use crate::memory::MemoryStore;
use std::sync::Arc;

/// Opens the store that `url` names: `memory:` for an empty one in memory, `sqlite:PATH` for a file, which is made where there
/// is none. Which URLs are known depends on the features of this build.
///
/// # Errors
/// [`StoreError::Invalid`] where the URL is none of these; otherwise what stands in the way of opening the store.
pub async fn open(url: &str) -> Result<Arc<dyn JournalStore>, StoreError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(MemoryStore::new())),
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) if !path.is_empty() => Ok(Arc::new(
            crate::sqlite::SqliteStore::open(std::path::Path::new(path)).await?,
        )),
        _ => {
            let sqlite = if cfg!(feature = "sqlite") {
                " and sqlite:PATH"
            } else {
                ""
            };
            let problem = format!("'{url}' names no store that this build knows: those are memory:{sqlite}");
            Err(StoreError::Invalid {
                what: "store URL",
                problem,
            })
        }
    }
}
