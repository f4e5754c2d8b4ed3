//! Rows of streams that were deleted from outside.

use super::{NEVER, lost_head, store, table};
use crate::bigtable::keys;
use crate::bigtable::table::{Change, unset_row};

#[tokio::test]
async fn the_feed_goes_on_after_a_stream_whose_row_is_lost() {
    let Some(table) = table().await else {
        return;
    };
    lost_head::is_told_and_holds_up_nothing(&store(&table, NEVER), async |stream| {
        let deleted = Change {
            key: keys::stream(stream),
            mutations: vec![unset_row()],
        };
        table.mutate(vec![deleted]).await.remove(0).unwrap();
    })
    .await;
}
