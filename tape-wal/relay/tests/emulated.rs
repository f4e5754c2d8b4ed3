//! The emulator of Pub/Sub does what the tests that stand on it count on.

mod pubsub_emulator;

use pubsub_emulator::Emulator;

#[test]
fn an_emulator_delivers_what_is_published_and_starts_again_on_its_port() {
    let Some(mut emulator) = Emulator::start() else {
        return;
    };
    let topic = emulator.create_topic("entries");
    let subscription = emulator.create_subscription("reactors", &topic);
    emulator.publish(&topic, &[("tenant", "acme"), ("kind", "run.begun")]);
    let pull = format!("POST /v1/{subscription}:pull");
    let pulled = emulator.request(&pull, r#"{"maxMessages": 1}"#);
    assert!(
        pulled.contains(r#""tenant""#) && pulled.contains("run.begun"),
        "{pulled}"
    );

    let address = emulator.address();
    emulator.start_again();
    assert_eq!(emulator.address(), address);
    let topics = emulator.request("GET /v1/projects/tape-test/topics", "");
    assert!(!topics.contains("entries"), "{topics}");
    emulator.stop();
    assert!(std::net::TcpStream::connect(&address).is_err());
}
