//! `tape sessions`.

use crate::name::tenant;
use crate::text::time;
use crate::{Context, Failure, list};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::core::id::{App, StreamId, Tenant, User};
use tape_client::{SessionQuery, SessionSummary};

/// Lists sessions in the order of their names: when each last changed, its last entry, and the full name of its stream.
#[derive(Debug, Args)]
pub(crate) struct Sessions {
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
    /// Only sessions of this app.
    #[arg(long)]
    app: Option<App>,
    /// Only sessions of this user. Without --app, all sessions of the tenant are looked at.
    #[arg(long)]
    user: Option<User>,
    /// Also lists deleted sessions.
    #[arg(long)]
    deleted: bool,
    /// Most sessions to list.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Sessions {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let query = SessionQuery {
            tenant: self.tenant,
            app: self.app,
            user: self.user,
            deleted: self.deleted,
        };
        list::all(context, &query, self.limit, tell).await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(context: &mut Context<'_>, found: SessionSummary) -> Result<(), Failure> {
    let (changed, seq, deleted) = (time(found.changed_at), found.seq.0, found.deleted);
    let stream = StreamId::Session(found.session.clone()).to_string();
    let session = found.session;
    let value = json!({"stream": stream, "app": session.app, "user": session.user, "session": session.session,
        "changed": changed, "seq": seq, "deleted": deleted});
    let deleted = if deleted { "  deleted" } else { "" };
    context.say(&value, &format!("{changed}  entry {seq}  {stream}{deleted}"))
}
