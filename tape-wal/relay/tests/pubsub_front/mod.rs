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
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, http};
use tonic::server::UnaryService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

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
    /// Requests are neither sent on nor answered.
    Swallows,
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
}

#[derive(Debug, Default)]
struct State {
    wrong: Wrong,
    requests: Vec<PublishRequest>,
    taken: Vec<Published>,
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
        let state = Arc::default();
        let shared = Shared { emulator, state };
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
            state.requests.push(request.clone());
            state.wrong.clone()
        });
        let has = |id: &String| {
            request
                .messages
                .iter()
                .any(|message| message.attribute("ce-id") == id)
        };
        match &wrong {
            Wrong::Answers(code) => return Err(Status::new(*code, "the test wants it")),
            Wrong::AnswersAt(id, code) if has(id) => return Err(Status::new(*code, format!("not {id}"))),
            Wrong::Swallows => std::future::pending().await,
            Wrong::Nothing | Wrong::AnswersAt(..) | Wrong::LosesAnswers => {}
        }
        let answer = self.pass_on(request.clone()).await?;
        self.with(|state| state.taken.extend(request.messages));
        if wrong == Wrong::LosesAnswers {
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(answer)
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
            let mut server = tonic::server::Grpc::new(ProstCodec::default());
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
