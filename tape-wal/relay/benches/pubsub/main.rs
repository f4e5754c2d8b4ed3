//! What a relay to Pub/Sub adds to Pub/Sub itself, through Google's emulator:
//! `cargo bench -p tape-relay --features pubsub,testing --bench pubsub -- [--rate 500] [--seconds 10]`.
//!
//! One line a figure: `name value unit baseline ratio`. The baseline of a figure is what the client library alone reaches in the same run, with
//! messages of the same size and the same ordering keys.
#![allow(clippy::print_stdout, reason = "figures are printed")]

mod latency;
#[path = "../../tests/pubsub_emulator/mod.rs"]
mod pubsub_emulator;
#[path = "../../tests/pubsub_inbox/mod.rs"]
mod pubsub_inbox;
mod throughput;

use clap::Parser;
use pubsub_emulator::Emulator;
use std::time::Duration;

/// How many streams have the entries of each figure.
const STREAMS: usize = 32;

#[derive(Parser)]
struct Arguments {
    /// How many entries are written a second where latency is measured.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long each figure is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let Arguments {
        rate,
        seconds,
        bench: _,
    } = Arguments::parse();
    let Some(emulator) = Emulator::start() else {
        return;
    };
    // The emulator's code is compiled while it runs, and is slow before.
    let span = Duration::from_secs(seconds.into());
    throughput::client(&emulator, "warm", span).await;
    let client = throughput::client(&emulator, "client", span).await;
    let sink = throughput::sink(&emulator, span).await;
    say("publish_by_sink", sink, "events/s", client);

    let plan = latency::Plan {
        rate,
        entries: rate * seconds,
    };
    let client = latency::client(&emulator, plan).await;
    let relay = latency::relay(&emulator, plan).await;
    say("written_to_subscriber_p50", relay.p50_ms, "ms", client.p50_ms);
    say("written_to_subscriber_p99", relay.p99_ms, "ms", client.p99_ms);
}

fn say(name: &str, value: f64, unit: &str, baseline: f64) {
    println!("{name} {value:.3} {unit} {baseline:.3} {:.3}", value / baseline);
}
