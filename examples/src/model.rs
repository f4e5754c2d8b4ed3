//! A model that runs in a process of its own, so that "asked twice" can be counted from outside.

use crate::parent::Parent;
use crate::upstream::{ANYWHERE, serve_router};
use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use tape_environment::{Environment as _, Machine};

/// A question to the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The run that asks.
    pub run: String,
    /// The number of the decision in the run, from 0.
    pub k: usize,
    /// The epoch of the run's driver that asks, where it has one.
    pub epoch: Option<u64>,
    /// The request.
    pub request: Value,
}

/// A question that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When it arrived, in microseconds since 1970, before it was answered.
    pub at_us: i64,
    /// The run that asked.
    pub run: String,
    /// Which decision of the run.
    pub k: usize,
    /// The epoch of the driver that asked.
    pub epoch: Option<u64>,
}

impl Asked {
    /// Whether this was asked after the decision had been recorded, at `at_us` by the driver of `epoch`: later by the clock of this
    /// machine, or by a driver that came after. A decision's time is taken before its commit, so that a doubtful question counts as
    /// repeated.
    #[must_use]
    pub fn again(&self, at_us: i64, epoch: Option<u64>) -> bool {
        self.at_us > at_us
            || self
                .epoch
                .zip(epoch)
                .is_some_and(|(asked, recorded)| asked > recorded)
    }
}

/// The decider of a model.
pub trait ModelBackend: Send + Sync + 'static {
    /// The answer to a question.
    ///
    /// # Errors
    /// Why there is no answer.
    fn answer<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Value, String>>;
}

struct ModelServer {
    model: Box<dyn ModelBackend>,
    asked: Mutex<Vec<Asked>>,
}

/// Serves a model on a free local port until the parent is gone; reports `ready URL`.
///
/// # Errors
/// Where no port is free.
pub async fn serve(model: impl ModelBackend, parent: Parent) -> Result<()> {
    let server = Arc::new(ModelServer {
        model: Box::new(model),
        asked: Mutex::default(),
    });
    let router = Router::new()
        .route("/ask", post(ask))
        .route("/asked", get(asked))
        .with_state(server);
    serve_router(router, ANYWHERE, &parent).await
}

async fn ask(State(server): State<Arc<ModelServer>>, Json(question): Json<Question>) -> Response {
    let entry = Asked {
        at_us: now_us(),
        run: question.run.clone(),
        k: question.k,
        epoch: question.epoch,
    };
    server
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(entry);
    match server.model.answer(&question).await {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => (StatusCode::UNPROCESSABLE_ENTITY, problem).into_response(),
    }
}

async fn asked(State(server): State<Arc<ModelServer>>) -> Response {
    Json(
        server
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
    )
    .into_response()
}

/// The time, in microseconds since 1970.
#[must_use]
pub fn now_us() -> i64 {
    Machine.wall().as_micros()
}

/// A caller of a model.
#[derive(Clone, Debug)]
pub struct Model {
    http: reqwest::Client,
    url: String,
}

impl Model {
    /// The model at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            http: crate::http::client(),
            url: url.to_owned(),
        }
    }

    /// Asks the model.
    ///
    /// # Errors
    /// Where the model has no answer or cannot be reached.
    pub async fn ask(&self, question: &Question) -> Result<Value> {
        let call = self.http.post(format!("{}/ask", self.url)).json(question);
        let response = call.send().await.context("the model does not answer")?;
        if response.status().is_success() {
            return response.json().await.context("the model's answer is lost");
        }
        bail!("the model has no answer: {}", response.text().await?)
    }

    /// Everything the model was asked, in order.
    ///
    /// # Errors
    /// Where the model cannot be reached.
    pub async fn asked(&self) -> Result<Vec<Asked>> {
        Ok(self
            .http
            .get(format!("{}/asked", self.url))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }
}
