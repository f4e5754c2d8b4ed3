//! The cost of the journal, beside the cost of the same rows or bytes without it:
//! `cargo bench -p tape-server --bench journal -- --store sqlite [--seconds N] [--only WORD]`; with `--features postgres`, a
//! `postgres://` URL of an empty database is measured, beside rows of its own and `pgbench`; with `--features bigtable` or `spanner`,
//! the URL of an empty table or database, beside nothing.
//!
//! One line a figure: `name value unit baseline ratio`. The baseline of a figure is measured in the same run, by a raw loop or
//! an echo on the same machine; where it was measured elsewhere, the name of the figure says so.
#![allow(clippy::print_stdout, reason = "figures are printed")]

mod echo;
mod figure;
mod followers;
mod parked;
mod raw;
mod scale;
mod served;
mod traffic;
mod work;

use clap::Parser;
use figure::{Figures, rate};
use std::sync::Arc;
use std::time::Duration;
use tape_engine::Engine;
use tape_store::clock::SystemClock;

#[derive(Parser)]
struct Arguments {
    /// The store: `sqlite` for a new file in a temporary directory, or the URL of one, such as `memory:`.
    #[arg(long, default_value = "sqlite")]
    store: String,
    /// How long each figure is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only figures whose names contain this, and baselines.
    #[arg(long)]
    only: Option<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let Arguments {
        store,
        seconds,
        only,
        bench: _,
    } = Arguments::parse();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = match store.as_str() {
        "sqlite" => format!("sqlite:{}", dir.path().join("bench.db").display()),
        other => other.to_owned(),
    };
    let span = Duration::from_secs(seconds);
    let mut figures = Figures::new(only);
    traffic::measure(&url, &mut figures).await;
    let raw = raw::measure(&url, dir.path(), span, &mut figures).await;
    let store = tape_store::open::open(&url).await.expect("the store opens");
    let engine = Engine::new(store, Arc::new(SystemClock));
    embedded(&engine, &raw, span, &mut figures).await;
    served::measure(engine, span, &mut figures).await;
    if url.starts_with("sqlite:") {
        scale::measure(dir.path(), &mut figures).await;
        parked::measure(dir.path(), &mut figures).await;
    }
}

/// The engine in this process, without a server.
async fn embedded(engine: &Engine, raw: &raw::Rates, span: Duration, figures: &mut Figures) {
    let caller = work::Caller::Embedded(engine.clone());
    for runs in [1, 16, 64, 256] {
        let name = format!("embedded_appends_{runs}_runs");
        if figures.wants(&name) {
            let done = work::appends(std::slice::from_ref(&caller), runs, span).await;
            let done = rate(done.len(), span);
            figures.say(&name, done, "entries/s", raw.rows_in_64);
            if let Some(one_row) = raw.one_row_at_once {
                figures.say(&format!("{name}_vs_one_row_commits"), done, "entries/s", one_row);
            }
        }
    }
    if figures.wants("embedded_step_p50") {
        let steps = work::steps(std::slice::from_ref(&caller), 1, span).await;
        figures.say(
            "embedded_step_p50",
            figure::p50_ms(steps),
            "ms",
            2.0 * raw.one_row_p50_ms,
        );
    }
    if figures.wants("embedded_run_alone") {
        runs_alone(&caller, span, figures).await;
    }
    if figures.wants("codec_and_chain") {
        figures.say("codec_and_chain", work::seals(span), "entries/s", raw.rows_in_64);
    }
}

/// What beginning and completing a run costs, beside one entry of it.
async fn runs_alone(caller: &work::Caller, span: Duration, figures: &mut Figures) {
    let runs = work::runs(std::slice::from_ref(caller), 1, work::StepKind::Record, span).await;
    let p50 = |part: fn(&work::RunTimes) -> Duration| figure::p50_ms(runs.iter().map(part).collect());
    let append = p50(|run| run.append);
    figures.say("embedded_run_alone_append_p50", append, "ms", append);
    figures.say("embedded_run_alone_begin_p50", p50(|run| run.begin), "ms", append);
    figures.say(
        "embedded_run_alone_complete_p50",
        p50(|run| run.complete),
        "ms",
        append,
    );
}
