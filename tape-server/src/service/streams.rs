//! Streams of any kind: reading, erasing and checking them.

use super::read::{chunks, named, send};
use super::{Context, MESSAGE_BYTES, Messages, Sink, Stop};
use crate::failure::{of_journal, of_store};
use std::sync::Arc;
use tape_api::argument::STREAMS;
use tape_core::id::{Seq, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_proto::convert::{StreamErasure, Tenants};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::stream_service_server::StreamService;
use tape_store::contract::PageToken;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl StreamService for Context {
    type GetStreamEndStream = Messages<v1::GetStreamEndResponse>;
    type ReadStreamStream = Messages<v1::ReadStreamResponse>;
    type CheckIndexStream = Messages<v1::CheckIndexResponse>;

    async fn erase_entries(
        &self,
        request: Request<v1::EraseEntriesRequest>,
    ) -> Result<Response<v1::EraseEntriesResponse>, Status> {
        self.answer(self.erase(request.into_inner())).await
    }

    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Result<Response<v1::ListStreamsResponse>, Status> {
        self.answer(self.stream_page(request.into_inner())).await
    }

    async fn get_stream_end(
        &self,
        request: Request<v1::GetStreamEndRequest>,
    ) -> Result<Response<Self::GetStreamEndStream>, Status> {
        let stream = named("stream", request.into_inner().stream).map_err(Failure::from)?;
        self.stream(|context, sink| send_end(context, stream, sink))
    }

    async fn read_stream(
        &self,
        request: Request<v1::ReadStreamRequest>,
    ) -> Result<Response<Self::ReadStreamStream>, Status> {
        let request = request.into_inner();
        let stream = named("stream", request.stream).map_err(Failure::from)?;
        self.stream(move |context, sink| send_entries(context, stream, Seq(request.after_seq), sink))
    }

    async fn check_index(
        &self,
        request: Request<v1::CheckIndexRequest>,
    ) -> Result<Response<Self::CheckIndexStream>, Status> {
        let request = request.into_inner();
        self.stream(|context, sink| check_index(context, request, sink))
    }
}

fn page_token(token: String) -> Option<PageToken> {
    (!token.is_empty()).then_some(PageToken(token))
}

/// Sends where a stream ends, and its snapshot in parts.
async fn send_end(
    context: Context,
    stream: StreamId,
    sink: Arc<Sink<v1::GetStreamEndResponse>>,
) -> Result<(), Stop> {
    let Some(head) = context.store().head(&stream).await? else {
        return Ok(());
    };
    let mut message = v1::GetStreamEndResponse {
        seq: head.seq.0,
        digest: head.digest.0.to_vec().into(),
        ..Default::default()
    };
    if let Some(mut snapshot) = head.snapshot {
        message.snapshot_seq = Some(snapshot.seq.0);
        while snapshot.bytes.len() > MESSAGE_BYTES {
            message.snapshot = snapshot.bytes.split_to(MESSAGE_BYTES);
            sink.send(std::mem::take(&mut message)).await?;
        }
        message.snapshot = snapshot.bytes;
    }
    sink.send(message).await
}

async fn send_entries(
    context: Context,
    stream: StreamId,
    mut after: Seq,
    sink: Arc<Sink<v1::ReadStreamResponse>>,
) -> Result<(), Stop> {
    loop {
        let mut held = sink.page().await;
        let page = context.store().read(&stream, after, PAGE_ENTRIES_MAX).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        send(&sink, &mut held, page).await?;
    }
}

async fn check_index(
    context: Context,
    request: v1::CheckIndexRequest,
    sink: Arc<Sink<v1::CheckIndexResponse>>,
) -> Result<(), Stop> {
    let (limit, from) = (STREAMS.of(request.page_size), page_token(request.page_token));
    let page = context
        .engine()
        .check_index(from.as_ref(), limit, request.correct)
        .await
        .map_err(of_journal)?;
    let found = page
        .findings
        .into_iter()
        .map(|finding| v1::check_index_response::Finding {
            kind: finding.problem.kind().to_owned(),
            problem: finding.problem.to_string(),
            stream_name: finding.stream,
            corrected: finding.corrected,
        });
    let size = |found: &v1::check_index_response::Finding| found.stream_name.len() + found.problem.len() + 32;
    for findings in chunks(found.collect(), size) {
        let message = v1::CheckIndexResponse {
            findings,
            ..Default::default()
        };
        sink.send(message).await?;
    }
    let last = v1::CheckIndexResponse {
        findings: Vec::new(),
        looked_at: page.looked_at,
        next_page_token: page.next.map(|token| token.0).unwrap_or_default(),
    };
    sink.send(last).await
}

impl Context {
    async fn stream_page(&self, wire: v1::ListStreamsRequest) -> Result<v1::ListStreamsResponse, Failure> {
        let Tenants(tenant) = named("tenants", wire.tenants)?;
        let (limit, from) = (STREAMS.of(wire.page_size), page_token(wire.page_token));
        let page = self.engine().streams(from.as_ref(), limit).await;
        let page = page.map_err(|error| of_store(&error))?;
        let wanted = |stream: &StreamId| tenant.as_ref().is_none_or(|tenant| stream.tenant() == tenant);
        Ok(v1::ListStreamsResponse {
            streams: page.streams.into_iter().filter(wanted).map(Into::into).collect(),
            unreadable: if tenant.is_none() {
                page.unreadable
            } else {
                Vec::new()
            },
            next_page_token: page.next.map(|token| token.0).unwrap_or_default(),
        })
    }

    async fn erase(&self, wire: v1::EraseEntriesRequest) -> Result<v1::EraseEntriesResponse, Failure> {
        let StreamErasure { stream, command } = wire.try_into()?;
        let reply = self.engine().erase(&stream, command).await.map_err(of_journal)?;
        Ok(v1::EraseEntriesResponse { seq: reply.seq.0 })
    }
}
