//! Opens a store by its URL.

use crate::contract::JournalStore;
use crate::error::StoreError;
use crate::memory::MemoryStore;
use std::sync::Arc;

/// Opens the store that `url` names: `memory:` for an empty one in memory.
///
/// # Errors
/// [`StoreError::Invalid`] where the URL is none of these; otherwise what stands in the way of opening the store.
pub async fn open(url: &str) -> Result<Arc<dyn JournalStore>, StoreError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(MemoryStore::new())),
        _ => {
            let problem = format!("'{url}' names no store that this build knows");
            Err(StoreError::Invalid {
                what: "store URL",
                problem,
            })
        }
    }
}
