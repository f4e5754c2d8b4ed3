//! Lists of sessions and values, by an index of their names.

use super::link::{Link, Question};
use super::read::get;
use crate::contract::{NamePage, PageToken};
use crate::error::StoreError;
use crate::named::{Bounds, page};
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;
use tape_core::id::StreamPrefix;

pub(super) async fn named(
    link: &Link,
    prefix: &StreamPrefix,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<NamePage, StoreError> {
    let Bounds { from, before } = Bounds::of(prefix, from)?;
    let range = KeyRange::closed_open(key![from], key![before]);
    let keys = KeySet::builder().add_range(range).build();
    let request = ReadRequest::builder("tape_stream", ["named"])
        .with_index("tape_named", keys)
        .set_limit(limit.into());
    let name = |row: &Row| get::<String>(row, 0);
    let names = link
        .ask("lists names", Question::Keys(request.build()), name)
        .await?;
    Ok(page(names, limit))
}
