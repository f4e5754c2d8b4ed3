//! A server between a sink and the emulator of Pub/Sub. It says what the emulator took, and fails where a test wants it to: it refuses
//! events, loses answers, and denies permission, none of which the emulator does.

#![allow(dead_code, reason = "each test file needs some of it")]

use futures::future::BoxFuture;
use prost::Message;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, http};
use tonic::server::UnaryService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

/// Longest request that Pub/Sub takes, in bytes.
const REQUEST_BYTES_MAX: usize = 10_000_000;
/// The one call that a sink makes.
const PUBLISH: &str = "/google.pubsub.v1.Publisher/Publish";

/// `google.pubsub.v1.PublishRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PublishRequest {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) messages: Vec<Published>,
}

/// `google.pubsub.v1.PubsubMessage`, as far as a sink writes it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Published {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) data: Vec<u8>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) attributes: BTreeMap<String, String>,
    #[prost(string, tag = "5")]
    pub(crate) ordering_key: String,
}

/// `google.pubsub.v1.PublishResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PublishResponse {
    #[prost(string, repeated, tag = "1")]
    pub(crate) message_ids: Vec<String>,
}

/// What goes wrong with requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wrong {
    #[default]
    Nothing,
    /// Every request has this answer.
    Answers(Code),
    /// A request with the event of this `id` has this answer.
    AnswersAt(String, Code),
    /// The emulator takes every request, and its answers are lost.
    LosesAnswers,
    /// The same for the next request alone.
    LosesOneAnswer,
}

/// The server, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Front {
    address: String,
    shared: Shared,
    serving: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Shared {
    emulator: Channel,
    state: Arc<Mutex<State>>,
    /// How many requests are on their way to the emulator.
    under_way: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    wrong: Wrong,
    /// Whether nothing is kept of messages but the names that the emulator gave them.
    forgets: bool,
    requests: Vec<PublishRequest>,
    taken: Vec<Published>,
    ids: Vec<String>,
}

impl Front {
    /// Starts a server before the emulator at a URL.
    pub(crate) async fn start(emulator: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there is a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let emulator = Endpoint::from_shared(emulator)
            .expect("it is a URL")
            .connect_lazy();
        let shared = Shared {
            emulator,
            state: Arc::default(),
            under_way: watch::Sender::new(0),
        };
        let serve = Server::builder().serve_with_incoming(shared.clone(), TcpIncoming::from(listener));
        let serving = tokio::spawn(async move { serve.await.expect("the server ends with its task") });
        Self {
            address,
            shared,
            serving,
        }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Keeps nothing of messages from now on but the names that the emulator gave them.
    pub(crate) fn forget_messages(&self) {
        self.shared.with(|state| state.forgets = true);
    }

    /// Sends nothing more to the emulator until something else goes wrong. Returns the names of all messages that the emulator took since this
    /// was asked last.
    pub(crate) async fn pause(&self) -> Vec<String> {
        self.let_go_wrong(Wrong::Answers(Code::Unavailable));
        let mut under_way = self.shared.under_way.subscribe();
        let idle = under_way.wait_for(|requests| *requests == 0).await;
        idle.expect("the server is there");
        self.shared.with(|state| std::mem::take(&mut state.ids))
    }

    /// Lets something go wrong from now on, instead of anything before.
    pub(crate) fn let_go_wrong(&self, wrong: Wrong) {
        self.shared.with(|state| state.wrong = wrong);
    }

    /// What the emulator took, in the order in which it took it.
    pub(crate) fn taken(&self) -> Vec<Published> {
        self.shared.with(|state| state.taken.clone())
    }

    /// All requests so far, also those that failed.
    pub(crate) fn requests(&self) -> Vec<PublishRequest> {
        self.shared.with(|state| state.requests.clone())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Published {
    /// An attribute.
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn publish(self, request: PublishRequest) -> Result<Response<PublishResponse>, Status> {
        let wrong = self.with(|state| {
            let wrong = state.wrong.clone();
            if wrong == Wrong::LosesOneAnswer {
                state.wrong = Wrong::Nothing;
            }
            if !state.forgets {
                state.requests.push(request.clone());
            }
            self.under_way.send_modify(|requests| *requests += 1);
            wrong
        });
        // A caller that is gone does not end what it began: the emulator may have the request already.
        let shared = self.clone();
        let answered = tokio::spawn(async move { shared.answer(&wrong, request).await }).await;
        answered.expect("it does not panic")
    }

    async fn answer(
        self,
        wrong: &Wrong,
        request: PublishRequest,
    ) -> Result<Response<PublishResponse>, Status> {
        let has = |id: &String| {
            let mut messages = request.messages.iter();
            messages.any(|message| message.attribute("ce-id") == id)
        };
        let answer = match wrong {
            Wrong::Answers(code) => Err(Status::new(*code, "the test wants it")),
            Wrong::AnswersAt(id, code) if has(id) => Err(Status::new(*code, format!("not {id}"))),
            _ => self.pass_on(request.clone()).await,
        };
        self.with(|state| {
            if let Ok(answer) = &answer {
                state.ids.extend(answer.get_ref().message_ids.iter().cloned());
                if !state.forgets {
                    state.taken.extend(request.messages);
                }
            }
            self.under_way.send_modify(|requests| *requests -= 1);
        });
        if matches!(wrong, Wrong::LosesAnswers | Wrong::LosesOneAnswer) {
            return Err(Status::unavailable("the answer is lost"));
        }
        answer
    }

    async fn pass_on(&self, request: PublishRequest) -> Result<Response<PublishResponse>, Status> {
        let mut emulator = tonic::client::Grpc::new(self.emulator.clone());
        let ready = emulator.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<PublishRequest, PublishResponse>::default();
        let path = PathAndQuery::from_static(PUBLISH);
        emulator.unary(Request::new(request), path, codec).await
    }
}

impl Service<http::Request<Body>> for Shared {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = self.clone();
        Box::pin(async move {
            let server = tonic::server::Grpc::new(ProstCodec::default());
            let mut server = server.max_decoding_message_size(REQUEST_BYTES_MAX);
            Ok(server.unary(Publish(shared), request).await)
        })
    }
}

struct Publish(Shared);

impl UnaryService<PublishRequest> for Publish {
    type Response = PublishResponse;
    type Future = BoxFuture<'static, Result<Response<PublishResponse>, Status>>;

    fn call(&mut self, request: Request<PublishRequest>) -> Self::Future {
        Box::pin(self.0.clone().publish(request.into_inner()))
    }
}
