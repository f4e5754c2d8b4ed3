//! Looks at the states of many streams, some at a time.

use crate::stream_service::EngineError;
use futures::future::join_all;
use tape_api::query::DamagedStream;
use tape_core::causes::Causes;
use tape_core::id::StreamId;

/// How many states are read at the same time.
const AT_ONCE: usize = 32;

/// What was seen, in the order of the streams, and the streams that cannot be read.
pub(super) struct Looked<T> {
    pub(super) seen: Vec<T>,
    pub(super) damaged: Vec<DamagedStream>,
}

/// Looks at each of these streams. One that is damaged does not hold up the others.
pub(super) async fn look_at<T, F>(
    streams: Vec<StreamId>,
    look: impl Fn(StreamId) -> F,
) -> Result<Looked<T>, EngineError>
where
    F: Future<Output = Result<Option<T>, EngineError>>,
{
    let (mut seen, mut damaged) = (Vec::new(), Vec::new());
    for streams in streams.chunks(AT_ONCE) {
        let looks = streams.iter().cloned().map(&look);
        for (stream, looked) in streams.iter().zip(join_all(looks).await) {
            match looked {
                Ok(looked) => seen.extend(looked),
                Err(error) if error.is_damage() => damaged.push(DamagedStream {
                    stream: stream.clone(),
                    problem: Causes(&error).to_string(),
                }),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Looked { seen, damaged })
}
