//! Samples: a value from outside the rules is recorded once, and replayed.

use crate::error::Error;
use crate::json;
use crate::run::Run;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::future::ready;
use tape_api::Source;
use tape_core::agent_version::OWN;
use tape_core::command::DriverCommand;
use tape_core::id::SampleName;
use tape_core::payload::Payload;
use tape_core::time::Timestamp;
use tape_environment::Environment;
use uuid::Uuid;

impl Run {
    /// The time: the same in every drive.
    ///
    /// # Errors
    /// As [`Run::sample`].
    pub async fn now(&self) -> Result<Timestamp, Error> {
        self.sample("now", || ready(Ok::<_, Infallible>(self.environment().wall())))
            .await
    }

    /// A new UUID: the same in every drive.
    ///
    /// # Errors
    /// As [`Run::sample`].
    pub async fn uuid(&self) -> Result<Uuid, Error> {
        self.sample("uuid", || ready(Ok::<_, Infallible>(self.environment().uuid())))
            .await
    }

    /// A random number: the same in every drive.
    ///
    /// # Errors
    /// As [`Run::sample`].
    pub async fn random(&self) -> Result<u64, Error> {
        self.sample("random", || {
            ready(Ok::<_, Infallible>(self.environment().random_u64()))
        })
        .await
    }

    /// The value to record: what was taken, and in the test kit what was taken first.
    #[cfg_attr(
        not(feature = "testing"),
        expect(
            unused_variables,
            clippy::unused_self,
            reason = "only the test kit has samples"
        )
    )]
    fn to_record(&self, name: &SampleName, n: u32, taken: Payload) -> Payload {
        #[cfg(feature = "testing")]
        if let Some(samples) = &self.inner.tape.settings.samples {
            return samples.first(&self.scope, n, name, taken);
        }
        taken
    }

    fn environment(&self) -> &dyn Environment {
        self.inner.tape.environment.as_ref()
    }

    /// A value from outside the rules: the recorded one, or else the value that `take` returns, which is then recorded.
    ///
    /// `take` must only read and have no side effects: after a crash between taking and recording, it is called again.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `name` is not a valid name or begins with `tape.`; [`Error::NoAnswer`] where `take` fails; [`Error::Drift`]
    /// where the journal has a sample of another name here.
    ///
    /// # Cancellation
    /// If this future is dropped while `take` runs, nothing is recorded. If it is dropped later, the value is still recorded, and the next
    /// call returns it.
    pub async fn sample<T, E, F>(&self, name: &str, take: impl FnOnce() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, E>>,
        T: Serialize + DeserializeOwned,
        E: Into<Source>,
    {
        if name.starts_with(OWN) {
            let problem = format!("'{name}' begins with '{OWN}', which names of the journal's own do");
            return Err(Error::invalid("sample", problem));
        }
        let name = SampleName::new(name)?;
        let doing = self.doing().await?;
        let _turn = self.take_turn("sample")?;
        let next = self.ask(|replay| replay.sample(&self.scope, &name)).await?;
        if let Some(recorded) = next.recorded {
            doing.done();
            return json::read("the sample", &recorded);
        }
        let busy = self.busy();
        let taken = take()
            .await
            .map_err(|error| Error::NoAnswer { source: error.into() })?;
        drop(busy);
        let (scope, n) = (self.scope.clone(), next.n);
        let value = self.to_record(&name, n, json::payload("sample", &taken)?);
        self.drive(DriverCommand::RecordSample {
            scope,
            n,
            name,
            value: value.clone(),
        })
        .await?;
        self.note(|replay| replay.sampled(&self.scope, n));
        doing.done();
        // This drive continues with the value that a re-drive will read.
        json::read("the sample", &value)
    }
}
