//! Commands on runs: a driver's over its stream, all others by their methods.

use super::failure::failed;
use super::{Remote, runs};
use tape_api::JournalError;
use tape_core::command::{Command, DriverCommand, RunCommand};
use tape_core::id::RunId;
use tape_core::reply::Reply;
use tape_proto::convert::{RunCall, run_call};
use tape_proto::fitting;
use tape_proto::v1;
use tape_proto::v1::retention_service_client::RetentionServiceClient;
use tape_proto::v1::work_service_client::WorkServiceClient;
use tonic::transport::Channel;

fn retention(channel: Channel) -> RetentionServiceClient<Channel> {
    RetentionServiceClient::new(channel)
}

fn work(channel: Channel) -> WorkServiceClient<Channel> {
    WorkServiceClient::new(channel)
}

impl Remote {
    pub(super) async fn ask_run(
        &self,
        run: &RunId,
        command: Command<RunCommand>,
    ) -> Result<Reply, JournalError> {
        let lease_ms = match &command.body {
            RunCommand::Drive(_, DriverCommand::RenewLease { lease_ms }) => Some(*lease_ms),
            _ => None,
        };
        match run_call(run.clone(), command) {
            RunCall::Drive(request) => {
                // It is moved often on its way.
                let request = Box::new(fitting(request).map_err(failed)?);
                let reply = match lease_ms {
                    Some(lease_ms) => self.renew(request, lease_ms).await?,
                    None => self.link.answer(self.commands.ask(request)).await?,
                };
                reply.try_into().map_err(failed)
            }
            // The future of a call is large, and drivers have no use for it.
            call => Box::pin(self.call(call)).await,
        }
    }

    /// Sends a command by its method.
    async fn call(&self, call: RunCall) -> Result<Reply, JournalError> {
        macro_rules! unary {
            ($client:ident.$method:ident($request:ident)) => {{
                let request = fitting($request).map_err(failed)?;
                let call = |channel| async move { $client(channel).$method(request).await };
                self.link.ask(call).await?.try_into()
            }};
        }
        let reply = match call {
            RunCall::Drive(command) => {
                let command = Some(command);
                let request = v1::DriveOnceRequest { command };
                unary!(runs.drive_once(request))
            }
            RunCall::SignalRun(request) => unary!(runs.signal_run(request)),
            RunCall::CancelRun(request) => unary!(runs.cancel_run(request)),
            RunCall::RetryRun(request) => unary!(runs.retry_run(request)),
            RunCall::SettleEffect(request) => unary!(runs.settle_effect(request)),
            RunCall::SettleObligation(request) => unary!(runs.settle_obligation(request)),
            RunCall::ReleaseClaim(request) => unary!(runs.release_claim(request)),
            RunCall::RetireRun(request) => unary!(retention.retire_run(request)),
            RunCall::ClaimEffect(request) => unary!(work.claim_effect(request)),
            RunCall::RenewEffectClaim(request) => unary!(work.renew_effect_claim(request)),
            RunCall::FinishEffect(request) => unary!(work.finish_effect(request)),
            RunCall::LapseEffect(request) => unary!(work.lapse_effect(request)),
            RunCall::ClaimObservation(request) => unary!(work.claim_observation(request)),
            RunCall::RecordObservation(request) => unary!(work.record_observation(request)),
            RunCall::ClaimObligation(request) => unary!(work.claim_obligation(request)),
            RunCall::RenewObligationClaim(request) => unary!(work.renew_obligation_claim(request)),
            RunCall::FinishObligation(request) => unary!(work.finish_obligation(request)),
            RunCall::ExpireGate(request) => unary!(work.expire_gate(request)),
            RunCall::FireTimer(request) => unary!(work.fire_timer(request)),
            RunCall::ReleaseVanishedDriver(request) => unary!(work.release_vanished_driver(request)),
        };
        reply.map_err(failed)
    }
}
