use super::{CONNECTION_KIB, Calls, MESSAGE_KIB, Room, serve};
use crate::memory::{ALL_KIB, TIMEOUT};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::convert::Infallible;
use std::task::{Context, Poll};
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::failure::Failure;
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

fn put(room: &Room, bytes: usize, whole: bool) -> Called {
    let message = message(bytes);
    let part = match whole {
        true => message,
        false => message.slice(..bytes.min(64)),
    };
    call(
        room,
        "/tape.v1.ValueService/PutValue",
        body(vec![part], whole),
        10,
    )
}

fn get(room: &Room) -> Called {
    call(
        room,
        "/tape.v1.ValueService/GetValue",
        body(vec![message(20)], true),
        1 << 20,
    )
}

#[tokio::test(start_paused = true)]
async fn requests_that_do_not_come_whole_take_the_part_of_their_connection_and_only_for_a_while() {
    let calls = Calls::default();
    let room = calls.of(None);
    let mut under_way = Vec::new();
    for _ in 0..PEERS_CALLS {
        let mut half = put(&room, MESSAGE_BYTES_MAX, false);
        match (&mut half).now_or_never() {
            None => under_way.push(half),
            Some(Err(Failure::Overloaded { .. })) => {}
            Some(told) => panic!("{told:?}"),
        }
    }
    assert_eq!(under_way.len(), CONNECTION_KIB / MESSAGE_KIB);
    put(&room, 100, true).await.expect("what is small is not held up");
    let other = calls.of(None);
    put(&other, MESSAGE_BYTES_MAX, true)
        .await
        .expect("another connection has a part of its own");
    for half in under_way {
        let told = half.await.map(drop);
        assert_eq!(told, Err(Failure::Deadline));
    }
    assert_eq!(room.free_kib(), ALL_KIB);
    put(&room, MESSAGE_BYTES_MAX, true).await.unwrap();
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
