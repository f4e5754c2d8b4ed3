//! A run without failures.

use crate::world::{World, agent, begin, id};
use serde_json::json;
use tape_client::core::chain::Verifier;
use tape_client::core::id::{Seq, StreamId};
use tape_client::{Begun, Error};

#[tokio::test(start_paused = true)]
async fn a_run_is_driven_to_its_end_and_the_end_is_the_end() {
    let world = World::new();
    let tape = world.process("one", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    assert_eq!(run.input_json::<serde_json::Value>().unwrap(), json!({"day": 1}));
    // Spawned: the futures of an agent are `Send`.
    let driven = tokio::spawn(agent(run, world.clone()));
    world.signal().await;
    let ending = driven.await.unwrap().unwrap();
    let output: serde_json::Value = ending.output().unwrap();
    assert_eq!(output["numbers"], json!([1, 2, 3, 4]));
    assert_eq!(output["approved"], json!(true));
    assert!(world.asked().values().all(|asked| *asked == 1));
    assert_eq!(world.wrongs(), Vec::<String>::new());
    let Begun::Ended(again) = tape.run(id()).begin().await.unwrap() else {
        panic!("the end is the end")
    };
    assert_eq!(again, ending);
    let mut verifier = Verifier::new(&StreamId::Run(id()), None);
    for entry in world
        .store
        .read(&StreamId::Run(id()), Seq::ZERO, 4096)
        .await
        .unwrap()
    {
        verifier.check(&entry).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_there_is_needed_to_take_up_an_existing_one() {
    let world = World::new();
    let tape = world.process("one", world.store.clone()).await;
    let missing = tape.run(id()).existing().begin().await;
    assert!(matches!(missing, Err(Error::Rejected(_))), "{missing:?}");
    let error = missing.unwrap_err();
    assert_eq!(error.to_string(), "there is no such run");
}
