//! Calls on the entries of any stream.

use super::read::{chunks, send};
use super::{Context, MESSAGE_BYTES, Messages, Sink, Stop};
use crate::failure::{of_journal, of_store};
use std::sync::Arc;
use tape_api::argument::STREAMS;
use tape_core::id::{Seq, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_proto::convert::{InvalidField, StreamErasure};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::entries_server::Entries;
use tape_store::contract::PageToken;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Entries for Context {
    async fn erase(&self, request: Request<v1::EraseRequest>) -> Result<Response<v1::EraseResponse>, Status> {
        self.answer(self.erase_entries(request.into_inner())).await
    }

    async fn finish_erasures(
        &self,
        request: Request<v1::FinishErasuresRequest>,
    ) -> Result<Response<v1::FinishErasuresResponse>, Status> {
        self.answer(self.finish(request.into_inner())).await
    }

    async fn streams(
        &self,
        request: Request<v1::StreamsRequest>,
    ) -> Result<Response<v1::StreamsResponse>, Status> {
        self.answer(self.stream_page(request.into_inner())).await
    }

    type EndStream = Messages<v1::EndResponse>;

    async fn end(&self, request: Request<v1::EndRequest>) -> Result<Response<Self::EndStream>, Status> {
        let stream = stream(&request.into_inner().stream)?;
        self.stream(|context, sink| send_end(context, stream, sink))
    }

    type ReadStream = Messages<v1::ReadResponse>;

    async fn read(
        &self,
        request: Request<v1::ReadStreamRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let stream = stream(&request.stream)?;
        self.stream(move |context, sink| send_entries(context, stream, Seq(request.after_seq), sink))
    }

    type CheckIndexStream = Messages<v1::CheckIndexResponse>;

    async fn check_index(
        &self,
        request: Request<v1::CheckIndexRequest>,
    ) -> Result<Response<Self::CheckIndexStream>, Status> {
        let request = request.into_inner();
        self.stream(|context, sink| check_index(context, request, sink))
    }
}

fn stream(name: &str) -> Result<StreamId, Failure> {
    let wrong = |error: tape_core::id::InvalidName| InvalidField::new("stream", error.problem.to_string());
    Ok(name.parse().map_err(wrong)?)
}

fn page_token(token: String) -> Option<PageToken> {
    (!token.is_empty()).then_some(PageToken(token))
}

/// Sends where a stream ends, and its snapshot in parts.
async fn send_end(context: Context, stream: StreamId, sink: Arc<Sink<v1::EndResponse>>) -> Result<(), Stop> {
    let Some(head) = context.store().head(&stream).await? else {
        return Ok(());
    };
    let mut message = v1::EndResponse {
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
    sink: Arc<Sink<v1::ReadResponse>>,
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
            stream: finding.stream,
            corrected: finding.corrected,
        });
    let size = |found: &v1::check_index_response::Finding| found.stream.len() + found.problem.len() + 32;
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
    async fn stream_page(&self, request: v1::StreamsRequest) -> Result<v1::StreamsResponse, Failure> {
        let (limit, from) = (STREAMS.of(request.page_size), page_token(request.page_token));
        let page = self.engine().streams(from.as_ref(), limit).await;
        let page = page.map_err(|error| of_store(&error))?;
        Ok(v1::StreamsResponse {
            streams: page.streams.iter().map(ToString::to_string).collect(),
            unreadable: page.unreadable,
            next_page_token: page.next.map(|token| token.0).unwrap_or_default(),
        })
    }

    async fn erase_entries(&self, wire: v1::EraseRequest) -> Result<v1::EraseResponse, Failure> {
        let StreamErasure { stream, command } = wire.try_into()?;
        let reply = self.engine().erase(&stream, command).await.map_err(of_journal)?;
        Ok(v1::EraseResponse { seq: reply.seq.0 })
    }

    async fn finish(&self, wire: v1::FinishErasuresRequest) -> Result<v1::FinishErasuresResponse, Failure> {
        let stream = StreamId::try_from(wire)?;
        self.engine().finish_erasures(&stream).await.map_err(of_journal)?;
        Ok(v1::FinishErasuresResponse {})
    }
}
