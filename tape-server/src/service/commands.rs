//! Commands on runs, each by a method of its own.

use super::Context;
use crate::failure::of_journal;
use tape_core::reply::Reply;
use tape_proto::convert::{InvalidField, RunRequest};
use tape_proto::failure::Failure;
use tonic::{Response, Status};

impl Context {
    /// Executes the command of a request.
    pub(super) async fn command<W, R>(&self, request: W) -> Result<Response<R>, Status>
    where
        W: TryInto<RunRequest, Error = InvalidField>,
        R: From<Reply>,
    {
        self.answer(self.execute(request)).await
    }

    async fn execute<W, R>(&self, request: W) -> Result<R, Failure>
    where
        W: TryInto<RunRequest, Error = InvalidField>,
        R: From<Reply>,
    {
        let RunRequest { run, command } = request.try_into()?;
        let reply = self.engine().run(&run, command).await.map_err(of_journal)?;
        Ok(reply.into())
    }
}
