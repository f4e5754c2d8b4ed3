//! Signals that count once.

use crate::world::World;
use serde_json::json;
use tape_core::command::DriverCommand;
use tape_core::entry::EntryBody;
use tape_core::payload::Payload;

fn signals(run: &str) -> serde_json::Value {
    json!({
        "form": 1,
        "when": { "pattern": "acme.value.in.>" },
        "then": { "signal": { "gate": "go", "run": run } },
        "start": "beginning",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_sent_once_also_where_it_let_the_run_end() {
    let world = World::new();
    let process = world.process("one");
    let (run, epoch) = world.begin("audit/ann/s/1").await;
    world.define("go", signals("acme/audit/ann/s/1")).await;
    world.put("in", &json!(1)).await;
    world.is_carried("go").await;
    world.is_through("go").await;
    let signalled = |bodies: &[EntryBody]| {
        let signals = bodies
            .iter()
            .filter(|body| matches!(body, EntryBody::SignalReceived(_)));
        signals.count()
    };
    assert_eq!(signalled(&world.bodies(&run).await), 1);
    world.again("go").await;
    world.is_through("go").await;
    assert_eq!(signalled(&world.bodies(&run).await), 1);
    let output = Payload::empty();
    world.drive(&run, epoch, DriverCommand::Complete { output }).await;
    world.again("go").await;
    world.is_through("go").await;
    assert!(world.refusals("go").await.is_empty(), "it was sent");
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_signalled_is_on_record_with_the_reason() {
    let world = World::new();
    let process = world.process("one");
    let (run, epoch) = world.begin("audit/ann/s/1").await;
    let output = Payload::empty();
    world.drive(&run, epoch, DriverCommand::Complete { output }).await;
    world.define("ended", signals("acme/audit/ann/s/1")).await;
    world.define("none", signals("acme/audit/ann/s/2")).await;
    world.define("same", signals("same")).await;
    world.put("in", &json!(1)).await;
    for (reaction, reason) in [
        ("ended", "the run has ended"),
        ("none", "there is no such run"),
        ("same", "acme/value/in is no run"),
    ] {
        world.is_carried(reaction).await;
        world.is_through(reaction).await;
        let refused = world.refusals(reaction).await;
        assert_eq!(refused.len(), 1, "{reaction}");
        assert!(refused[0].reason.contains(reason), "{}", refused[0].reason);
    }
    process.drain().await;
}
