//! The replies that a stream remembers, so that a repeated request gets its first outcome and nothing is executed twice.
//!
//! A reply is remembered for [`REPLY_WINDOW_MS`] of the journal's time, and at most [`REMEMBERED_REPLIES_MAX`] are. The replies to the
//! smallest ids are forgotten first, and the greatest forgotten id is kept. Ids are time-ordered: an id above it is either remembered or
//! new, and an id at or below it may have been executed. A request with such an id is refused and never executed.
//!
//! An id that is dated too far ahead is refused, too. Time within a stream never goes back, but the journal's time may, if the store's
//! clock is set back. So a request is judged by the later of the journal's time and the time of the stream's last entry. Judged by the
//! earlier one, every request would be refused until the clock has caught up: ids below the forgotten ones are too old, and newer ids would
//! be ahead.
//!
//! All of this is folded from the entries and their times alone, so every server gives the same answer, also after a restart.

use crate::command::{Command, CommandBody};
use crate::entry::{Entry, EntryBody};
use crate::id::{RequestId, Seq};
use crate::limits::{REMEMBERED_REPLIES_MAX, REPLY_WINDOW_MS, REQUEST_AHEAD_MS_MAX};
use crate::payload::ContentDigest;
use crate::reply::{Decided, Rejection, Reply, ReplyResult};
use crate::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// The replies of a stream that it remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replies {
    /// The greatest id whose reply was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forgotten: Option<RequestId>,
    /// The time of the last entry.
    at: Timestamp,
    /// Every id in it is above the greatest that was forgotten.
    #[serde(with = "packed")]
    kept: BTreeMap<RequestId, Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    /// What was asked; none in entries of earlier builds.
    command: Option<ContentDigest>,
    /// When its last entry was decided, in milliseconds since 1970.
    at_ms: i64,
    reply: Reply,
}

impl Replies {
    /// The first outcome of a command that was executed before; none where it is new, or is idempotent and not remembered.
    ///
    /// # Errors
    /// [`Rejection::RequestReused`] where the id is that of another command, [`Rejection::RequestTooOld`] where the
    /// command may have been executed, [`Rejection::RequestFromFuture`] and [`Rejection::UnorderedRequest`] where the id cannot be put in
    /// order.
    pub(crate) fn recall<B: CommandBody>(
        &self,
        command: &Command<B>,
        now: Timestamp,
    ) -> Result<Option<Decided>, Rejection> {
        if command.body.is_idempotent() {
            return Ok(None);
        }
        let now = now.max(self.at);
        let request = command.request;
        let made_at = request.check_ordered()?;
        if let Some(kept) = self.kept.get(&request) {
            return match kept.command {
                Some(first) if first != command.digest() => Err(Rejection::RequestReused { request }),
                _ => Ok(Some(Decided {
                    entries: Vec::new(),
                    reply: kept.reply.clone(),
                })),
            };
        }
        if let Some(forgotten) = self.forgotten.filter(|forgotten| request <= *forgotten) {
            return Err(Rejection::RequestTooOld {
                request,
                forgotten,
                now,
            });
        }
        if made_at > now.plus_millis(REQUEST_AHEAD_MS_MAX) {
            return Err(Rejection::RequestFromFuture { request, now });
        }
        Ok(None)
    }

    /// Removes the contents of erased entries from remembered replies.
    pub(crate) fn erase(&mut self, entries: &[Seq]) {
        let kept = self.kept.values_mut();
        for kept in kept.filter(|kept| entries.contains(&kept.reply.seq)) {
            if let ReplyResult::Ended { ending } = &mut kept.reply.result
                && let Some(words) = ending.words_mut()
            {
                words.erase();
            }
        }
    }

    /// Remembers the reply to an entry's request. A later entry of the same request refines it.
    pub(crate) fn note(&mut self, entry: &Entry) {
        self.at = self.at.max(entry.at);
        // Ids of earlier builds have no order. A repeat of such an id is refused.
        if takes_no_place(&entry.body) || entry.request.made_at().is_none() {
            return;
        }
        let at_ms = entry.at.as_micros().div_euclid(1_000);
        let result = ReplyResult::of(&entry.body);
        let kept = self.kept.entry(entry.request).or_insert_with(|| Kept {
            command: entry.command,
            at_ms,
            reply: Reply {
                seq: entry.seq,
                result: ReplyResult::Recorded,
            },
        });
        (kept.at_ms, kept.reply.seq) = (at_ms, entry.seq);
        if let Some(result) = result {
            kept.reply.result = result;
        }
        self.forget(at_ms);
    }

    fn forget(&mut self, now_ms: i64) {
        let window = i64::try_from(REPLY_WINDOW_MS).unwrap_or(i64::MAX);
        while let Some(first) = self.kept.first_entry() {
            let old = first.get().at_ms < now_ms.saturating_sub(window);
            if !old && self.kept.len() <= REMEMBERED_REPLIES_MAX {
                return;
            }
            let (request, _) = self.kept.pop_first().expect("there is a first");
            self.forgotten = self.forgotten.max(Some(request));
        }
    }
}

/// Whether an entry's command does no harm when it is executed again, so that its reply need not be remembered.
const fn takes_no_place(body: &EntryBody) -> bool {
    matches!(
        body,
        EntryBody::LeaseRenewed(_)
            | EntryBody::EffectClaimRenewed(_)
            | EntryBody::ObligationClaimRenewed(_)
            | EntryBody::SessionMerged(_)
            | EntryBody::SharedMerged(_)
            | EntryBody::RunRetired(_)
            | EntryBody::KeyTaken(_)
            | EntryBody::ErasureFinished(_)
    )
}

/// The form of kept replies in a snapshot. A stream may remember thousands: each is an array of the id and the digest in one
/// text, the milliseconds since the id was made, the entry, and the result unless that is only "recorded".
mod packed {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Row(String, i64, Seq, Option<ReplyResult>);

    pub(super) fn serialize<S: Serializer>(
        kept: &BTreeMap<RequestId, Kept>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(kept.iter().map(|(request, kept)| {
            let digest = kept.command.map(|command| command.0.to_vec()).unwrap_or_default();
            let name = hex::encode([request.0.as_bytes().as_slice(), &digest].concat());
            let result = Some(&kept.reply.result).filter(|result| **result != ReplyResult::Recorded);
            Row(
                name,
                kept.at_ms.saturating_sub(made_ms(*request)),
                kept.reply.seq,
                result.cloned(),
            )
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<RequestId, Kept>, D::Error> {
        Vec::<Row>::deserialize(from)?
            .into_iter()
            .map(|Row(name, after_ms, seq, result)| {
                let bytes = hex::decode(name).map_err(D::Error::custom)?;
                let (request, digest) = bytes
                    .split_first_chunk::<16>()
                    .ok_or_else(|| D::Error::custom("a request id is 16 bytes"))?;
                let command = match digest {
                    [] => None,
                    digest => Some(ContentDigest(digest.try_into().map_err(D::Error::custom)?)),
                };
                let request = RequestId(uuid::Uuid::from_bytes(*request));
                let reply = Reply {
                    seq,
                    result: result.unwrap_or(ReplyResult::Recorded),
                };
                let at_ms = made_ms(request).saturating_add(after_ms);
                Ok((
                    request,
                    Kept {
                        command,
                        at_ms,
                        reply,
                    },
                ))
            })
            .collect()
    }

    fn made_ms(request: RequestId) -> i64 {
        request.made_at().map_or(0, |at| at.as_micros().div_euclid(1_000))
    }
}
