//! Readers of streams. The messages that wait for them are bounded, for each reader and for all of them together.
//!
//! Messages wait in a queue until the transport takes them. A reader that takes none for a while is told where it can continue, and its
//! waiting messages are dropped to free memory for others.

use crate::memory::{Memory, kib};
use futures::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use tape_proto::failure::Failure;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tonic::Status;

/// Messages that wait for one reader; then its stream waits too.
const MESSAGES_WAITING_MAX: usize = 4;
/// The most memory of a page of a store, in KiB: 8 MiB, and the entry that goes over.
const PAGE_KIB: u32 = 12 * 1024;
/// The memory of all readers of a server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers(Memory);

/// Memory that a reader holds.
pub(super) struct Held(OwnedSemaphorePermit);

/// Why a message was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The reader is gone.
    Gone,
    /// The reader is too slow.
    Slow,
}

impl Default for Readers {
    fn default() -> Self {
        Self(Memory::new(PAGE_KIB as usize))
    }
}

impl Readers {
    /// The memory for a page that is about to be read. Waits until there is some.
    pub(super) async fn page(&self) -> Held {
        Held(self.0.take(PAGE_KIB).await)
    }
}

impl Held {
    /// Gives back memory that the page does not need.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let excess = self.0.num_permits().saturating_sub(kib(bytes) as usize);
        drop(self.0.split(excess));
    }

    fn split(&mut self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = (kib(bytes) as usize).min(self.0.num_permits());
        self.0.split(kib)
    }
}

struct Queue<T> {
    state: Mutex<State<T>>,
    taken: Notify,
    gone: Notify,
}

/// A message in a queue.
struct Waiting<T> {
    message: Result<T, Status>,
    /// Its part of the memory.
    _memory: Option<OwnedSemaphorePermit>,
    /// Where a reader that has it goes on.
    place: Option<String>,
}

struct State<T> {
    waiting: VecDeque<Waiting<T>>,
    /// The place of the last message that was taken: what waits may be dropped. Empty where none was.
    resume: String,
    reader: Option<Waker>,
    is_reader_gone: bool,
    is_done: bool,
}

/// The end of a queue that messages are put in.
pub(super) struct Writer<T> {
    queue: Arc<Queue<T>>,
    readers: Readers,
}

/// The messages of a stream, for the transport.
pub(crate) struct Messages<T>(Arc<Queue<T>>);

/// A queue for one reader.
pub(super) fn queue<T>(readers: &Readers) -> (Writer<T>, Messages<T>) {
    let queue = Arc::new(Queue {
        state: Mutex::new(State {
            waiting: VecDeque::new(),
            resume: String::new(),
            reader: None,
            is_reader_gone: false,
            is_done: false,
        }),
        taken: Notify::new(),
        gone: Notify::new(),
    });
    let writer = Writer {
        queue: Arc::clone(&queue),
        readers: readers.clone(),
    };
    (writer, Messages(queue))
}

impl<T> Queue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics while it holds a queue")
    }
}

impl<T> State<T> {
    fn end(&mut self, failure: Failure) {
        self.waiting.push_back(Waiting {
            message: Err(failure.into()),
            _memory: None,
            place: None,
        });
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl<T: prost::Message> Writer<T> {
    /// Puts a message into the queue, with its part of the memory that is held. Waits while the queue is full. A reader that is dropped once
    /// it has the message continues after `place`.
    pub(super) async fn send(
        &self,
        message: T,
        held: Option<&mut Held>,
        place: Option<String>,
    ) -> Result<(), Unsent> {
        let memory = held.and_then(|held| held.split(message.encoded_len()));
        let room = async {
            loop {
                let taken = self.queue.taken.notified();
                {
                    let state = self.queue.state();
                    if state.is_reader_gone {
                        return Err(Unsent::Gone);
                    }
                    if state.waiting.len() < MESSAGES_WAITING_MAX {
                        return Ok(());
                    }
                }
                taken.await;
            }
        };
        tokio::select! {
            // A reader that makes room in the last moment is not too slow.
            biased;
            room = room => room?,
            () = self.readers.0.timeout() => return Err(Unsent::Slow),
        }
        let mut state = self.queue.state();
        state.waiting.push_back(Waiting {
            message: Ok(message),
            _memory: memory,
            place,
        });
        state.wake();
        Ok(())
    }
}

impl<T> Writer<T> {
    /// Ends the stream with a failure, after the waiting messages.
    pub(super) fn fail(&self, failure: Failure) {
        self.queue.state().end(failure);
    }

    /// Drops the messages that wait, and tells the reader that it is too slow. Returns where it goes on.
    pub(super) fn cut(&self) -> String {
        let mut state = self.queue.state();
        state.waiting.clear();
        let resume = state.resume.clone();
        state.end(Failure::SlowReader {
            resume: resume.clone(),
        });
        resume
    }

    /// Waits until the reader is gone.
    pub(super) async fn gone(&self) {
        loop {
            let gone = self.queue.gone.notified();
            if self.queue.state().is_reader_gone {
                return;
            }
            gone.await;
        }
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.is_done = true;
        state.wake();
    }
}

impl<T> Stream for Messages<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state();
        if let Some(Waiting { message, place, .. }) = state.waiting.pop_front() {
            if let Some(place) = place {
                state.resume = place;
            }
            self.0.taken.notify_one();
            return Poll::Ready(Some(message));
        }
        if state.is_done {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Messages<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_reader_gone = true;
        state.waiting.clear();
        drop(state);
        self.0.taken.notify_one();
        self.0.gone.notify_waiters();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::{Messages, PAGE_KIB, Readers, Unsent, Writer, queue};
    use crate::memory::ALL_KIB;
    use futures::{FutureExt as _, StreamExt as _};
    use tape_proto::failure::Failure;
    use tape_proto::v1::ReclaimSpaceResponse as Message;

    const MESSAGE: Message = Message { more: true };

    fn filled(readers: &Readers) -> (Writer<Message>, Messages<Message>) {
        let (writer, messages) = queue(readers);
        let mut sent = 0;
        while matches!(send(&writer, sent + 1).now_or_never(), Some(Ok(()))) {
            sent += 1;
        }
        (writer, messages)
    }

    /// Sends a message after which the reader continues after the `n`-th entry.
    async fn send(writer: &Writer<Message>, n: u32) -> Result<(), Unsent> {
        writer.send(MESSAGE, None, Some(format!("entry {n}"))).await
    }

    /// How the stream ends.
    async fn end(mut messages: Messages<Message>) -> Failure {
        Failure::from(&messages.next().await.unwrap().unwrap_err())
    }

    #[tokio::test(start_paused = true)]
    async fn messages_come_in_order_and_end_with_the_writer() {
        let (writer, mut messages) = queue(&Readers::default());
        let reading = tokio::spawn(async move {
            let mut read = 0;
            while let Some(message) = messages.next().await {
                assert_eq!(message.unwrap(), MESSAGE);
                read += 1;
            }
            read
        });
        for _ in 0..100 {
            writer.send(MESSAGE, None, None).await.unwrap();
        }
        drop(writer);
        assert_eq!(reading.await.unwrap(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_dropped_and_what_waited_for_it() {
        let (writer, messages) = filled(&Readers::default());
        assert_eq!(send(&writer, 9).await, Err(Unsent::Slow));
        assert_eq!(writer.cut(), "");
        let resume = String::new();
        assert_eq!(end(messages).await, Failure::SlowReader { resume });
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_dropped_goes_on_after_the_last_message_that_it_took() {
        let (writer, mut messages) = filled(&Readers::default());
        for _ in 0..2 {
            messages.next().await.unwrap().unwrap();
        }
        // A message without a place changes nothing, and those that are dropped do not either.
        writer.send(MESSAGE, None, None).await.unwrap();
        send(&writer, 6).await.unwrap();
        assert_eq!(send(&writer, 7).await, Err(Unsent::Slow));
        assert_eq!(writer.cut(), "entry 2");
        let resume = "entry 2".to_owned();
        assert_eq!(end(messages).await, Failure::SlowReader { resume });
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_goes_is_noticed() {
        let (writer, messages) = filled(&Readers::default());
        drop(messages);
        writer.gone().await;
        assert_eq!(send(&writer, 9).await, Err(Unsent::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn pages_of_all_readers_are_bounded_and_freed_as_they_are_taken() {
        let readers = Readers::default();
        let pages = ALL_KIB / PAGE_KIB as usize;
        let mut held: Vec<_> = (0..pages)
            .map(|_| readers.page().now_or_never().unwrap())
            .collect();
        assert!(readers.page().now_or_never().is_none(), "there is no more memory");
        let (writer, mut messages) = queue(&readers);
        writer.send(MESSAGE, held.last_mut(), None).await.unwrap();
        for held in &mut held {
            held.shrink_to(0);
        }
        let before = readers.0.free_kib();
        messages.next().await.unwrap().unwrap();
        assert_eq!(readers.0.free_kib(), before + 1);
        assert!(readers.page().now_or_never().is_some());
    }
}
