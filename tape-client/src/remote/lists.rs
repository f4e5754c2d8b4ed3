//! Lists of a server, and its summaries of due work.

use super::failure::failed;
use super::pages::next_page;
use super::{Remote, message_bytes_max, runs};
use tape_api::JournalError;
use tape_api::query::{
    DamagedStream, GatePage, GateQuery, KeyOwnership, OpenGate, QueueSummary, RunCounts, RunPage, RunQuery,
    SessionPage, SessionQuery, SessionSummary, ValuePage, ValueQuery, ValueSummary,
};
use tape_core::agenda::Queue;
use tape_core::id::{BusinessKey, ConnectorName, Seq, SessionId, StreamId, Tenant, ValueName};
use tape_core::reply::Rejection;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;
use tape_proto::convert::{InvalidField, RunFilter, Tenants};
use tape_proto::v1;
use tape_proto::v1::session_service_client::SessionServiceClient;
use tape_proto::v1::value_service_client::ValueServiceClient;
use tape_proto::v1::work_service_client::WorkServiceClient;

impl Remote {
    pub(super) async fn list_runs(
        &self,
        query: &RunQuery,
        from: Option<&str>,
        page_size: u32,
    ) -> Result<RunPage, JournalError> {
        let request = v1::ListRunsRequest {
            filter: Some(filter(query).into()),
            page_size,
            page_token: token(from),
        };
        let list = |channel| async move { runs(channel).list_runs(request).await };
        let page = self.link.ask(list).await?;
        let found = page.runs.into_iter().map(TryInto::try_into);
        Ok(RunPage {
            runs: found.collect::<Result<_, InvalidField>>().map_err(failed)?,
            next: next_page(from, page.next_page_token)?,
        })
    }

    pub(super) async fn runs_counted(
        &self,
        query: &RunQuery,
        from: Option<&str>,
    ) -> Result<RunCounts, JournalError> {
        let request = v1::CountRunsRequest {
            filter: Some(filter(query).into()),
            page_token: token(from),
        };
        let count = |channel| async move { runs(channel).count_runs(request).await };
        let page = self.link.ask(count).await?;
        let counts = page.counts.into_iter().map(|count| {
            let status = RunStatus::try_from(count.status());
            Ok((status?, count.runs))
        });
        Ok(RunCounts {
            by_status: counts.collect::<Result<_, InvalidField>>().map_err(failed)?,
            looked_at: page.looked_at,
            next: next_page(from, page.next_page_token)?,
        })
    }

    pub(super) async fn list_gates(
        &self,
        query: &GateQuery,
        from: Option<&str>,
        page_size: u32,
    ) -> Result<GatePage, JournalError> {
        let request = v1::ListGatesRequest {
            tenant: query.tenant.clone().into(),
            app: query.app.clone().map(Into::into),
            page_size,
            page_token: token(from),
        };
        let list = |channel| async move { runs(channel).list_gates(request).await };
        let page = self.link.ask(list).await?;
        Ok(GatePage {
            gates: page.gates.into_iter().map(gate).collect::<Result<_, _>>()?,
            damaged: page.damaged.into_iter().map(damaged).collect::<Result<_, _>>()?,
            next: next_page(from, page.next_page_token)?,
        })
    }

    pub(super) async fn list_sessions(
        &self,
        query: &SessionQuery,
        from: Option<&str>,
        page_size: u32,
    ) -> Result<SessionPage, JournalError> {
        let SessionQuery {
            tenant,
            app,
            user,
            deleted,
        } = query.clone();
        let request = v1::ListSessionsRequest {
            tenant: tenant.into(),
            app: app.map(Into::into),
            user: user.map(Into::into),
            include_deleted: deleted,
            page_size,
            page_token: token(from),
        };
        let list = |channel| async move {
            let sessions = SessionServiceClient::new(channel);
            let mut sessions = sessions.max_decoding_message_size(message_bytes_max());
            sessions.list_sessions(request).await
        };
        let page = self.link.ask(list).await?;
        Ok(SessionPage {
            sessions: page.sessions.into_iter().map(session).collect::<Result<_, _>>()?,
            damaged: page.damaged.into_iter().map(damaged).collect::<Result<_, _>>()?,
            next: next_page(from, page.next_page_token)?,
        })
    }

    pub(super) async fn list_values(
        &self,
        query: &ValueQuery,
        from: Option<&str>,
        page_size: u32,
    ) -> Result<ValuePage, JournalError> {
        let prefix = query.prefix.as_ref().map(ToString::to_string);
        let request = v1::ListValuesRequest {
            tenant: query.tenant.clone().into(),
            name_prefix: prefix.unwrap_or_default(),
            page_size,
            page_token: token(from),
        };
        let list = |channel| async move {
            let values = ValueServiceClient::new(channel);
            let mut values = values.max_decoding_message_size(message_bytes_max());
            values.list_values(request).await
        };
        let page = self.link.ask(list).await?;
        Ok(ValuePage {
            values: page.values.into_iter().map(value).collect::<Result<_, _>>()?,
            damaged: page.damaged.into_iter().map(damaged).collect::<Result<_, _>>()?,
            next: next_page(from, page.next_page_token)?,
        })
    }

    pub(super) async fn business_key(
        &self,
        tenant: &Tenant,
        connector: &ConnectorName,
        key: &BusinessKey,
    ) -> Result<Option<KeyOwnership>, JournalError> {
        let business_key = Some(v1::BusinessKeyId {
            tenant: tenant.clone().into(),
            connector: connector.clone().into(),
            key: key.clone().into(),
        });
        let request = v1::GetBusinessKeyRequest { business_key };
        let get = |channel| async move { runs(channel).get_business_key(request).await };
        match self.link.ask(get).await {
            Ok(found) => Ok(Some(KeyOwnership {
                run: required("run", found.run)?,
                effect: required("effect", found.effect)?,
                taken: Seq(found.taken_seq),
                taken_at: Timestamp::from_micros(found.taken_us),
            })),
            Err(JournalError::Rejected(Rejection::NotFound { .. })) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn list_queues(
        &self,
        tenant: Option<&Tenant>,
    ) -> Result<Vec<QueueSummary>, JournalError> {
        let tenants = Some(Tenants(tenant.cloned()).into());
        let request = v1::ListQueuesRequest { tenants };
        let list = |channel| async move { WorkServiceClient::new(channel).list_queues(request).await };
        let queues = self.link.ask(list).await?.queues.into_iter();
        // A queue of a newer server is left out.
        let known = queues.filter_map(|summary| {
            Some(QueueSummary {
                queue: Queue::try_from(summary.queue()).ok()?,
                due: summary.due,
                more: summary.more,
                oldest_due: summary.oldest_due_us.map(Timestamp::from_micros),
            })
        });
        Ok(known.collect())
    }
}

fn filter(query: &RunQuery) -> RunFilter {
    let RunQuery {
        tenant,
        app,
        statuses,
        label,
        prefix,
        begun_from,
        begun_before,
        driver,
    } = query.clone();
    RunFilter {
        tenant,
        app,
        statuses,
        label,
        begun_from,
        begun_before,
        prefix,
        driver,
    }
}

fn gate(wire: v1::list_gates_response::Gate) -> Result<OpenGate, JournalError> {
    Ok(OpenGate {
        run: required("run", wire.run)?,
        gate: wire.gate.parse().map_err(JournalError::damaged)?,
        opened: Seq(wire.opened_seq),
        opened_at: Timestamp::from_micros(wire.opened_us),
        deadline: wire.deadline_us.map(Timestamp::from_micros),
        suspended: wire.suspended,
    })
}

fn session(wire: v1::list_sessions_response::SessionSummary) -> Result<SessionSummary, JournalError> {
    let session: SessionId = required("session", wire.session)?;
    Ok(SessionSummary {
        session,
        seq: Seq(wire.head_seq),
        changed_at: Timestamp::from_micros(wire.changed_us),
        deleted: wire.deleted,
    })
}

fn value(wire: v1::list_values_response::ValueSummary) -> Result<ValueSummary, JournalError> {
    let (_, name): (Tenant, ValueName) = required("value_id", wire.value_id)?;
    Ok(ValueSummary {
        name,
        version: wire.version,
        changed_at: Timestamp::from_micros(wire.changed_us),
        deleted: wire.deleted,
    })
}

fn damaged(wire: v1::DamagedStream) -> Result<DamagedStream, JournalError> {
    let stream: StreamId = required("stream", wire.stream)?;
    Ok(DamagedStream {
        stream,
        problem: wire.problem,
    })
}

/// A part that an answer must have.
pub(super) fn required<W, T>(field: &str, wire: Option<W>) -> Result<T, JournalError>
where
    T: TryFrom<W, Error = InvalidField>,
{
    let wire = wire.ok_or_else(|| InvalidField::missing(field));
    wire.and_then(T::try_from).map_err(failed)
}

pub(super) fn token(from: Option<&str>) -> String {
    from.unwrap_or_default().to_owned()
}
