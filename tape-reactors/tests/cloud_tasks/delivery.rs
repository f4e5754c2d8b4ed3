//! Deliveries of tasks that are due.

use super::queue::{Call, Task};
use super::{QUEUE, Shared};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// An answer that takes longer counts as none.
const DEADLINE: Duration = Duration::from_secs(600);

pub(super) async fn run(shared: Arc<Shared>) {
    let http = reqwest::Client::builder()
        .user_agent("Google-Cloud-Tasks")
        .timeout(DEADLINE)
        .build()
        .unwrap();
    let mut deliveries = JoinSet::new();
    loop {
        let (due, next) = {
            let mut state = shared.state();
            let now = shared.clock.wall();
            let (due, next) = match state.paused {
                true => (Vec::new(), None),
                false => state.queue.due(now),
            };
            let due: Vec<_> = due
                .into_iter()
                .map(|(name, task)| (name, task, state.copies))
                .collect();
            (
                due,
                next.map(|next| Duration::from_millis(next.millis_since(now) + 1)),
            )
        };
        for (name, task, copies) in due {
            deliveries.spawn(deliver(Arc::clone(&shared), http.clone(), name, task, copies));
        }
        let wait = async {
            match next {
                Some(next) => tokio::time::sleep(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.changed.notified() => {}
            Some(_) = deliveries.join_next() => {}
            () = wait => {}
        }
    }
}

/// Delivers a task, several times at once where told to. The worst answer counts.
async fn deliver(shared: Arc<Shared>, http: reqwest::Client, name: String, task: Task, copies: usize) {
    let requests = (0..copies).map(|_| async {
        let answered = request(&shared, &http, &name, &task).send().await;
        answered.map_or(0, |answer| answer.status().as_u16())
    });
    let statuses = futures::future::join_all(requests).await;
    let failed = statuses.iter().find(|status| !(200..300).contains(*status));
    let mut state = shared.state();
    let now = shared.clock.wall();
    state.queue.delivered(&name, *failed.unwrap_or(&statuses[0]), now);
    for status in statuses {
        let name = name.clone();
        shared.note(&mut state, Call::Delivered { name, status });
    }
}

fn request(shared: &Shared, http: &reqwest::Client, name: &str, task: &Task) -> reqwest::RequestBuilder {
    let queue = QUEUE.rsplit('/').next().unwrap();
    let eta = task.at.as_micros();
    let mut request = http
        .post(&task.url)
        .header("x-cloudtasks-queuename", queue)
        .header("x-cloudtasks-taskname", name)
        .header("x-cloudtasks-taskretrycount", task.deliveries - 1)
        .header("x-cloudtasks-taskexecutioncount", task.answers)
        .header(
            "x-cloudtasks-tasketa",
            format!("{}.{:06}", eta / 1_000_000, eta % 1_000_000),
        )
        .body(task.body.clone());
    for (name, value) in &task.headers {
        request = request.header(name, value);
    }
    match &task.identity {
        Some((account, audience)) => request.bearer_auth(token(shared, account, audience)),
        None => request,
    }
}

pub(super) fn token(shared: &Shared, account: &str, audience: &str) -> String {
    let now = shared.clock.wall().as_micros() / 1_000_000;
    shared.issuer.token(&json!({
        "iss": "https://accounts.google.com", "aud": audience, "sub": "1", "azp": "1",
        "email": account, "email_verified": true, "iat": now, "exp": now + 3_600,
    }))
}
