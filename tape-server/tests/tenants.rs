//! Calls that name a tenant, over the wire: what other tenants have neither shows nor gets in the way.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use harness::{Runs, Server, all_tenants, begin, begin_effect, checkpoint, decision, execute, request};
use tape_core::command::RunCommand;
use tape_core::effect::Mode;
use tape_core::id::{Epoch, RunId, StreamId};
use tape_proto::v1;
use tape_proto::v1::feed_service_client::FeedServiceClient;
use tape_proto::v1::server_service_client::ServerServiceClient;
use tape_proto::v1::stream_service_client::StreamServiceClient;
use tape_proto::v1::work_service_client::WorkServiceClient;

const HOUR_MS: u64 = 3_600_000;
/// Tenants whose names begin with each other, and whose escaped names look like each other's names.
const TENANTS: [&str; 3] = ["a", "a/b", "a%2Fb"];

fn run_of(tenant: &str, app: &str, name: &str) -> RunId {
    RunId::new(tenant, app, "ann", "s1", name).unwrap()
}

fn only(tenant: &str) -> Option<v1::Tenants> {
    let which = v1::tenants::Which::Only(tenant.to_owned());
    Some(v1::Tenants { which: Some(which) })
}

fn stream(run: &RunId) -> v1::StreamId {
    StreamId::Run(run.clone()).into()
}

/// Begins a run with one effect for a worker.
async fn with_work(runs: &mut Runs, run: &RunId) {
    execute(runs, request(run, begin(run, HOUR_MS, false)))
        .await
        .unwrap();
    for command in [decision(0), begin_effect(0, Mode::Outbox)] {
        let command = RunCommand::Drive(Epoch(1), command);
        execute(runs, request(run, command)).await.unwrap();
    }
}

#[tokio::test]
async fn a_watch_of_one_tenant_sees_past_the_backlog_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    for n in 0..5 {
        with_work(&mut runs, &run_of("a", "app", &format!("i{n}"))).await;
    }
    let mine = run_of("a/b", "app", "i");
    let other_app = run_of("a/b", "other", "i");
    for run in [&other_app, &mine] {
        with_work(&mut runs, run).await;
    }
    // It is smaller than the backlog, which is due longer.
    let watch = |app: Option<&str>| v1::WatchDueRequest {
        queue: v1::Queue::Outbox.into(),
        tenants: only("a/b"),
        app: app.map(str::to_owned),
        hints_max: 2,
        ..Default::default()
    };
    for (app, fit) in [(None, vec![&other_app, &mine]), (Some("app"), vec![&mine])] {
        let mut work = WorkServiceClient::new(server.connect().await);
        let mut due = work.watch_due(watch(app)).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while seen.len() < fit.len() {
            let hints = due.message().await.unwrap().unwrap().hints;
            seen.extend(hints.into_iter().map(|hint| hint.stream.unwrap()));
        }
        assert_eq!(seen, fit.into_iter().map(stream).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn due_work_is_listed_by_tenant_and_app_over_pages() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    let (mut of_all, mut of_app) = (Vec::new(), Vec::new());
    for n in 0..3 {
        for tenant in TENANTS {
            for app in ["app", "ap"] {
                let run = run_of(tenant, app, &format!("i{n}"));
                with_work(&mut runs, &run).await;
                of_all.push((tenant, run.clone()));
                of_app.extend((app == "app").then_some((tenant, run)));
            }
        }
    }
    let mut work = WorkServiceClient::new(server.connect().await);
    let mut listed = async |tenants: Option<v1::Tenants>, app: Option<&str>| {
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let list = v1::ListDueRequest {
                queue: v1::Queue::Outbox.into(),
                tenants: tenants.clone(),
                app: app.map(str::to_owned),
                page_size: 1,
                page_token,
                pending: false,
            };
            let page = work.list_due(list).await.unwrap().into_inner();
            assert!(page.hints.len() <= 1);
            seen.extend(page.hints.into_iter().map(|hint| hint.stream.unwrap()));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return seen;
            }
        }
    };
    let of = |runs: &[(&str, RunId)], tenant: &str| -> Vec<v1::StreamId> {
        let of = runs.iter().filter(|(of, _)| *of == tenant);
        of.map(|(_, run)| stream(run)).collect()
    };
    for tenant in TENANTS {
        assert_eq!(listed(only(tenant), None).await, of(&of_all, tenant), "{tenant}");
        assert_eq!(
            listed(only(tenant), Some("app")).await,
            of(&of_app, tenant),
            "{tenant}"
        );
    }
    assert_eq!(listed(all_tenants(), None).await.len(), of_all.len());
    assert_eq!(listed(all_tenants(), Some("app")).await.len(), of_app.len());
    assert_eq!(listed(only("b"), None).await, []);
}

#[tokio::test]
async fn streams_are_listed_by_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    for tenant in TENANTS {
        for name in ["i", "j"] {
            let run = run_of(tenant, "app", name);
            execute(&mut runs, request(&run, begin(&run, HOUR_MS, false)))
                .await
                .unwrap();
        }
    }
    let mut streams = StreamServiceClient::new(server.connect().await);
    let mut listed = async |tenants: Option<v1::Tenants>| {
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let list = v1::ListStreamsRequest {
                tenants: tenants.clone(),
                page_size: 1,
                page_token,
            };
            let page = streams.list_streams(list).await.unwrap().into_inner();
            seen.extend(page.streams);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return seen;
            }
        }
    };
    for tenant in TENANTS {
        let expected = ["i", "j"].map(|name| stream(&run_of(tenant, "app", name)));
        let seen = listed(only(tenant)).await;
        assert_eq!(seen.len(), 2, "{tenant}: each once");
        assert!(
            expected.iter().all(|stream| seen.contains(stream)),
            "{tenant}: {seen:?}"
        );
    }
    assert_eq!(listed(only("b")).await, []);
    assert_eq!(listed(all_tenants()).await.len(), 6);
}

#[tokio::test]
async fn a_tail_of_one_tenant_has_no_entry_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    let mut feed = FeedServiceClient::new(server.connect().await);
    for tenant in TENANTS {
        let run = run_of(tenant, "app", "i");
        execute(&mut runs, request(&run, begin(&run, HOUR_MS, false)))
            .await
            .unwrap();
        let command = RunCommand::Drive(Epoch(1), checkpoint(1));
        execute(&mut runs, request(&run, command)).await.unwrap();
    }
    let mut seen = async |pattern: &str, tenants: Option<v1::Tenants>| {
        let tail = v1::TailRequest {
            pattern: pattern.to_owned(),
            start: v1::tail_request::Start::Beginning.into(),
            tenants,
            once: true,
            ..Default::default()
        };
        let mut pages = feed.tail(tail).await.unwrap().into_inner();
        let mut streams = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            streams.extend(page.entries.into_iter().map(|entry| entry.stream.unwrap()));
        }
        streams
    };
    for tenant in TENANTS {
        let own = vec![stream(&run_of(tenant, "app", "i")); 3];
        assert_eq!(seen(">", only(tenant)).await, own, "{tenant}");
        assert_eq!(seen("*.run.>", only(tenant)).await, own, "{tenant}");
    }
    // A pattern does not widen what the tenant allows.
    assert_eq!(seen("a.>", only("a/b")).await, []);
    assert_eq!(seen(">", all_tenants()).await.len(), 9);
}

/// No server knows its callers yet. It says so, and that each may see all tenants.
#[tokio::test]
async fn a_caller_is_told_that_it_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut asked = ServerServiceClient::new(server.connect().await);
    let told = asked.who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
    let expected = v1::WhoAmIResponse {
        authenticated: false,
        principal: None,
        all_tenants: true,
    };
    assert_eq!(told, expected);
}
