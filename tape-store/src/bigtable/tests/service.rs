//! A service whose table has a change stream, in front of an emulator without one. The test and the commits that pass through make the
//! records of the stream; the emulator answers everything else.

use crate::bigtable::changes::{
    CloseStream, DataChange, ReadChangeStreamResponse, StreamContinuationToken, StreamPartition, StreamRecord,
};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2 as admin;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2 as proto;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use proto::read_change_stream_response::{Heartbeat, MutationChunk, data_change};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic_prost::ProstCodec;

type Said = Result<ReadChangeStreamResponse, Status>;

pub(super) struct Service {
    address: String,
    state: Arc<State>,
    opened: mpsc::UnboundedReceiver<ChangeStream>,
    accepting: JoinHandle<()>,
}

struct State {
    emulator: String,
    partitions: Mutex<Vec<StreamPartition>>,
    /// The answer of the admin service: whether the table has a change stream.
    table: Mutex<Result<bool, Status>>,
    opened: mpsc::UnboundedSender<ChangeStream>,
    telling: Mutex<Vec<mpsc::UnboundedSender<Said>>>,
}

/// A change stream that a client reads.
pub(super) struct ChangeStream {
    pub(super) request: proto::ReadChangeStreamRequest,
    saying: mpsc::UnboundedSender<Said>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// `a-c` for the keys from `a` on and before `c`.
pub(super) fn partition(keys: &str) -> StreamPartition {
    use proto::row_range::{EndKey, StartKey};
    let (begin, end) = keys.split_once('-').unwrap();
    let key = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    StreamPartition {
        row_range: Some(proto::RowRange {
            start_key: Some(StartKey::StartKeyClosed(key(begin))),
            end_key: Some(EndKey::EndKeyOpen(key(end))),
        }),
    }
}

fn token(keys: &str, token: &str) -> StreamContinuationToken {
    StreamContinuationToken {
        partition: Some(partition(keys)),
        token: token.to_owned(),
    }
}

impl Service {
    /// A service in front of an emulator at `HOST:PORT`, whose table has these partitions.
    pub(super) async fn start(emulator: &str, partitions: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, opened) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            emulator: emulator.to_owned(),
            partitions: Mutex::default(),
            table: Mutex::new(Ok(true)),
            opened: sender,
            telling: Mutex::default(),
        });
        let service = Self {
            address: listener.local_addr().unwrap().to_string(),
            accepting: tokio::spawn(accept(listener, Arc::clone(&state))),
            opened,
            state,
        };
        service.divide(partitions);
        service
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// From now on the table has these partitions.
    pub(super) fn divide(&self, partitions: &[&str]) {
        *self.state.partitions.lock().unwrap() = partitions.iter().map(|keys| partition(keys)).collect();
    }

    pub(super) fn say_of_table(&self, said: Result<bool, Status>) {
        *self.state.table.lock().unwrap() = said;
    }

    /// The next stream that is opened.
    pub(super) async fn opened(&mut self) -> ChangeStream {
        self.opened
            .recv()
            .await
            .expect("it is there as long as the service")
    }

    /// The next streams, in the order of their keys.
    pub(super) async fn opened_two(&mut self) -> [ChangeStream; 2] {
        let mut both = [self.opened().await, self.opened().await];
        both.sort_by_key(|stream| format!("{:?}", stream.request.partition));
        both
    }

    pub(super) fn nothing_more_was_opened(&mut self) -> bool {
        self.opened.try_recv().is_err()
    }
}

impl ChangeStream {
    fn say(&self, record: StreamRecord) {
        let response = ReadChangeStreamResponse {
            stream_record: Some(record),
        };
        self.saying.send(Ok(response)).unwrap();
    }

    /// A heartbeat: nothing has happened up to a place.
    pub(super) fn beat(&self, place: &str) {
        let token = StreamContinuationToken {
            partition: self.request.partition.clone(),
            token: place.to_owned(),
        };
        self.say(StreamRecord::Heartbeat(Heartbeat {
            continuation_token: Some(token),
            ..Default::default()
        }));
    }

    /// A change, which ends at a place.
    pub(super) fn change(&self, key: &[u8], mutations: Vec<proto::Mutation>, place: &str) {
        for change in pieces(key, mutations, place) {
            self.say(StreamRecord::DataChange(change));
        }
    }

    /// The keys are in other partitions from now on: each with the keys of this one that are there, and a place.
    pub(super) fn close(&self, coming: &[(&str, &str, &str)]) {
        self.say(StreamRecord::CloseStream(CloseStream {
            status: None,
            new_partitions: coming.iter().map(|(new, ..)| partition(new)).collect(),
            continuation_tokens: coming.iter().map(|(_, keys, place)| token(keys, place)).collect(),
        }));
    }

    pub(super) fn fail(&self, status: Status) {
        self.saying.send(Err(status)).unwrap();
    }

    /// The places where reading begins; empty where it begins at a time.
    pub(super) fn places(&self) -> Vec<String> {
        use proto::read_change_stream_request::StartFrom;
        match self.request.start_from.as_ref().unwrap() {
            StartFrom::StartTime(_) => Vec::new(),
            StartFrom::ContinuationTokens(from) => {
                from.tokens.iter().map(|token| token.token.clone()).collect()
            }
        }
    }

    /// Waits until the client has stopped reading.
    pub(super) async fn left(self) {
        self.saying.closed().await;
    }
}

/// A change in pieces of one mutation each, as the service may send it.
fn pieces(key: &[u8], mutations: Vec<proto::Mutation>, place: &str) -> Vec<DataChange> {
    let last = mutations.len() - 1;
    let piece = |(n, mutation)| DataChange {
        r#type: if n == 0 {
            data_change::Type::User
        } else {
            data_change::Type::Continuation
        }
        .into(),
        row_key: Bytes::copy_from_slice(if n == 0 { key } else { b"" }),
        chunks: vec![MutationChunk {
            mutation: Some(mutation),
            ..Default::default()
        }],
        done: n == last,
        token: if n == last {
            place.to_owned()
        } else {
            String::new()
        },
        ..Default::default()
    };
    mutations.into_iter().enumerate().map(piece).collect()
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let emulator = TcpStream::connect(&state.emulator).await.unwrap();
            let connected =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(emulator));
            let (sender, connection) = connected.await.unwrap();
            tokio::spawn(connection);
            let service = hyper::service::service_fn(|request| {
                let answered = serve(request, sender.clone(), Arc::clone(&state));
                async { Ok::<_, Infallible>(answered.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // It ends with the client.
            let _ = builder.serve_connection(TokioIo::new(client), service).await;
        });
    }
}

async fn serve(
    request: Request<Incoming>,
    emulator: SendRequest<Full<Bytes>>,
    state: Arc<State>,
) -> Response<Body> {
    let method = request
        .uri()
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    match method.as_str() {
        "GenerateInitialChangeStreamPartitions" => {
            let mut grpc = Grpc::new(ProstCodec::default());
            grpc.server_streaming(Partitions(state), request).await
        }
        "ReadChangeStream" => {
            let mut grpc = Grpc::new(ProstCodec::default());
            grpc.server_streaming(Reader(state), request).await
        }
        "GetTable" => {
            Grpc::new(ProstCodec::default())
                .unary(Tables(state), request)
                .await
        }
        _ => pass(request, emulator, &state, method == "CheckAndMutateRow").await,
    }
}

/// Lets the emulator answer. A conditional change that it made goes to the change stream.
async fn pass(
    request: Request<Incoming>,
    mut emulator: SendRequest<Full<Bytes>>,
    state: &State,
    may_commit: bool,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let asked = body.collect().await.unwrap().to_bytes();
    let request = Request::from_parts(head, Full::new(asked.clone()));
    let answer = emulator.send_request(request).await.unwrap();
    if !may_commit {
        return answer.map(Body::new);
    }
    let (head, body) = answer.into_parts();
    let whole = body.collect().await.unwrap();
    let trailers = whole.trailers().cloned().unwrap_or_default();
    let answered = whole.to_bytes();
    tell(state, &asked, &answered);
    let frames = [
        hyper::body::Frame::data(answered),
        hyper::body::Frame::trailers(trailers),
    ];
    let frames = stream::iter(frames.map(Ok::<_, Status>));
    Response::from_parts(head, Body::new(http_body_util::StreamBody::new(frames)))
}

fn tell(state: &State, asked: &Bytes, answered: &Bytes) {
    // A prefix of five bytes, with the length, comes before the message.
    let Some(answer) = answered.get(5..) else { return };
    let asked = proto::CheckAndMutateRowRequest::decode(&asked[5..]).unwrap();
    let matched = proto::CheckAndMutateRowResponse::decode(answer)
        .unwrap()
        .predicate_matched;
    let made = if matched {
        asked.true_mutations
    } else {
        asked.false_mutations
    };
    if made.is_empty() {
        return;
    }
    for change in pieces(&asked.row_key, made, "told") {
        let response = ReadChangeStreamResponse {
            stream_record: Some(StreamRecord::DataChange(change)),
        };
        let mut telling = state.telling.lock().unwrap();
        telling.retain(|stream| stream.send(Ok(response.clone())).is_ok());
    }
}

type Answer<T> = futures::future::Ready<Result<tonic::Response<T>, Status>>;

fn ready<T>(answer: Result<T, Status>) -> Answer<T> {
    futures::future::ready(answer.map(tonic::Response::new))
}

struct Partitions(Arc<State>);

impl ServerStreamingService<proto::GenerateInitialChangeStreamPartitionsRequest> for Partitions {
    type Response = proto::GenerateInitialChangeStreamPartitionsResponse;
    type ResponseStream = BoxStream<'static, Result<Self::Response, Status>>;
    type Future = Answer<Self::ResponseStream>;

    fn call(
        &mut self,
        _: tonic::Request<proto::GenerateInitialChangeStreamPartitionsRequest>,
    ) -> Self::Future {
        let partitions = self.0.partitions.lock().unwrap().clone();
        let answers = partitions.into_iter().map(|partition| {
            Ok(proto::GenerateInitialChangeStreamPartitionsResponse {
                partition: Some(partition),
            })
        });
        ready(Ok(Box::pin(stream::iter(answers.collect::<Vec<_>>()))))
    }
}

struct Reader(Arc<State>);

impl ServerStreamingService<proto::ReadChangeStreamRequest> for Reader {
    type Response = ReadChangeStreamResponse;
    type ResponseStream = BoxStream<'static, Said>;
    type Future = Answer<Self::ResponseStream>;

    fn call(&mut self, request: tonic::Request<proto::ReadChangeStreamRequest>) -> Self::Future {
        let (saying, mut said) = mpsc::unbounded_channel();
        self.0.telling.lock().unwrap().push(saying.clone());
        let stream = ChangeStream {
            request: request.into_inner(),
            saying,
        };
        // Without the test there are no records.
        let _ = self.0.opened.send(stream);
        ready(Ok(Box::pin(stream::poll_fn(move |context| {
            said.poll_recv(context)
        }))))
    }
}

struct Tables(Arc<State>);

impl UnaryService<admin::GetTableRequest> for Tables {
    type Response = admin::Table;
    type Future = Answer<admin::Table>;

    fn call(&mut self, _: tonic::Request<admin::GetTableRequest>) -> Self::Future {
        let said = self.0.table.lock().unwrap().clone();
        ready(said.map(|streamed| admin::Table {
            change_stream_config: streamed.then(admin::ChangeStreamConfig::default),
            ..Default::default()
        }))
    }
}
