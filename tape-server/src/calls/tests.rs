use super::{CONNECTION_KIB, Calls, MESSAGE_KIB, Room, serve};
use crate::memory::{ALL_KIB, TIMEOUT};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::failure::Failure;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};

/// Calls of one peer: more than its share has room for.
const PEERS_CALLS: usize = 100;

/// A message whose header has its length.
fn message(length: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(length + 5);
    message.put_u8(0);
    message.put_u32(u32::try_from(length).unwrap());
    message.put_bytes(0, length);
    message.freeze()
}

fn body(chunks: Vec<Bytes>, ends: bool) -> Body {
    let chunks = stream::iter(chunks).map(|chunk| Ok::<_, Status>(Frame::data(chunk)));
    match ends {
        true => Body::new(StreamBody::new(chunks)),
        false => Body::new(StreamBody::new(chunks.chain(stream::pending()))),
    }
}

/// Reads its request and answers with a message of a length, as a generated server does.
struct Answering(usize);

impl Service<http::Request<Body>> for Answering {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let length = self.0;
        Box::pin(async move {
            let read = request.into_body().collect().await;
            Ok(match read {
                Ok(_) => http::Response::new(body(vec![message(length)], true)),
                Err(status) => status.into_http(),
            })
        })
    }
}

type Called = BoxFuture<Body, Failure>;

/// Calls a service that answers with `answer` bytes.
fn call(room: &Room, path: &'static str, request: Body, answer: usize) -> Called {
    let room = room.clone();
    Box::pin(async move {
        let mut request = http::Request::new(request);
        *request.uri_mut() = http::Uri::from_static(path);
        let response = serve(&mut Answering(answer), request, &room).await?;
        match Status::from_header_map(response.headers()) {
            Some(status) => Err(Failure::from(&status)),
            None => Ok(response.into_body()),
        }
    })
}

fn put(room: &Room, request: Body) -> Called {
    call(room, "/tape.v1.ValueService/PutValue", request, 10)
}

fn get_by(room: &Room, request: Body) -> Called {
    call(room, "/tape.v1.ValueService/GetValue", request, 1 << 20)
}

fn get(room: &Room) -> Called {
    get_by(room, whole(20))
}

fn whole(bytes: usize) -> Body {
    body(vec![message(bytes)], true)
}

/// The largest message but for its last bytes, which do not come.
struct Cut(Bytes);

impl Cut {
    fn new() -> Self {
        Self(message(MESSAGE_BYTES_MAX).slice(..MESSAGE_BYTES_MAX))
    }

    fn body(&self) -> Body {
        body(vec![self.0.clone()], false)
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_do_not_come_whole_take_the_part_of_their_connection_and_only_for_a_while() {
    let calls = Calls::default();
    let room = calls.of(None);
    let (cut, mut under_way) = (Cut::new(), Vec::new());
    for _ in 0..PEERS_CALLS {
        let mut half = put(&room, cut.body());
        match (&mut half).now_or_never() {
            None => under_way.push(half),
            Some(Err(Failure::Overloaded { .. })) => {}
            Some(told) => panic!("{told:?}"),
        }
    }
    assert_eq!(under_way.len(), CONNECTION_KIB / MESSAGE_KIB);
    put(&room, whole(100))
        .await
        .expect("what is small is not held up");
    let other = calls.of(None);
    put(&other, whole(MESSAGE_BYTES_MAX))
        .await
        .expect("another connection has a part of its own");
    for half in under_way {
        let told = half.await.map(drop);
        assert_eq!(told, Err(Failure::Deadline));
    }
    assert_eq!(room.free_kib(), ALL_KIB);
    put(&room, whole(MESSAGE_BYTES_MAX)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_without_their_requests_take_no_memory_and_hold_up_nobody() {
    let calls = Calls::default();
    let header = message(MESSAGE_BYTES_MAX).slice(..5);
    let mut open = Vec::new();
    for part in [Vec::new(), vec![header]] {
        let room = calls.of(None);
        for _ in 0..PEERS_CALLS {
            for begin in [put, get_by] {
                let mut call = begin(&room, body(part.clone(), false));
                assert!((&mut call).now_or_never().is_none(), "it waits for the rest");
                open.push(call);
            }
        }
        assert_eq!(room.free_kib(), ALL_KIB);
        let told = get(&room).now_or_never().expect("it waits for nobody");
        told.expect("there is room for its answer");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_do_not_come_whole_make_room_soon_for_others() {
    let (calls, cut) = (Calls::default(), Cut::new());
    let mut under_way = Vec::new();
    for _ in 0..=ALL_KIB / CONNECTION_KIB {
        let room = calls.of(None);
        let halves = (0..CONNECTION_KIB / MESSAGE_KIB).map(|_| tokio::spawn(put(&room, cut.body())));
        under_way.extend(halves);
    }
    // By then all of them have run.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let room = calls.of(None);
    assert!(room.free_kib() < MESSAGE_KIB);
    let asked = Instant::now();
    get(&room).await.expect("it has room in time");
    assert!(asked.elapsed() < TIMEOUT / 5, "{:?}", asked.elapsed());
    for half in under_way {
        let told = half.await.unwrap().map(drop);
        // Once there is room again, those that are left have their time.
        let ended = matches!(told, Err(Failure::Overloaded { .. } | Failure::Deadline));
        assert!(ended, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_hold_memory_do_not_wait_for_more() {
    let (calls, cut) = (Calls::default(), Cut::new());
    let room = calls.of(None);
    let mut under_way = Vec::new();
    while room.free_kib() > ALL_KIB - CONNECTION_KIB + 2 * MESSAGE_KIB {
        let mut half = put(&room, cut.body());
        assert!((&mut half).now_or_never().is_none());
        under_way.push(half);
    }
    let told = get_by(&room, whole(MESSAGE_BYTES_MAX)).now_or_never();
    assert!(matches!(told, Some(Err(Failure::Overloaded { .. }))));
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_takes_take_the_part_of_their_connection_and_only_for_a_while() {
    let calls = Calls::default();
    let room = calls.of(None);
    let mut untaken = Vec::new();
    for _ in 0..PEERS_CALLS {
        untaken.extend(get(&room).now_or_never().map(Result::unwrap));
    }
    let kept = untaken.len() << 10;
    assert!(CONNECTION_KIB / 2 < kept && kept <= CONNECTION_KIB, "{kept} KiB");
    get(&calls.of(None))
        .await
        .expect("another connection has a part of its own");
    tokio::time::sleep(TIMEOUT * 2).await;
    assert_eq!(room.free_kib(), ALL_KIB);
    for answer in untaken {
        let collected = answer.collect().await.unwrap();
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        let told = Failure::from(&status);
        assert!(matches!(told, Failure::SlowReader { .. }), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_a_reader_that_goes_on() {
    let room = Calls::default().of(None);
    let mut answer = get(&room).await.unwrap();
    let mut taken = BytesMut::new();
    while let Some(frame) = answer.frame().await {
        taken.extend(frame.unwrap().into_data().unwrap());
        tokio::time::sleep(TIMEOUT / 2).await;
    }
    assert_eq!(taken.freeze(), message(1 << 20));
    assert_eq!(room.free_kib(), ALL_KIB);
}
