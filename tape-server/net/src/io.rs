//! The bytes of a connection, with deadlines.

use crate::peer::Peer;
use crate::port::Limits;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A connection that a [`Port`](crate::Port) has accepted. Past a deadline, reading and writing fail.
#[derive(Debug)]
pub struct PeerIo {
    stream: TcpStream,
    peer: Peer,
    limits: Limits,
    accepted: Instant,
    /// When the peer last sent anything.
    heard: Instant,
    /// Since when the peer has taken nothing.
    blocked: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl PeerIo {
    pub(crate) fn new(stream: TcpStream, peer: Peer, limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            stream,
            peer,
            limits,
            accepted: now,
            heard: now,
            blocked: None,
            timer: Box::pin(tokio::time::sleep_until(
                now + limits.first_request.min(limits.silence),
            )),
        }
    }

    /// The other side.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The connection itself, for its options.
    #[must_use]
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Refuses a connection that was cut.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.peer.wake(cx.waker());
        if self.peer.was_cut() {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection made room for another",
            ));
        }
        Ok(())
    }

    /// Cuts the connection where it has no data and a deadline is over.
    fn wait(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let (deadline, missed) = self.deadline();
            if Instant::now() >= deadline {
                self.peer.cut();
                return Err(io::Error::new(io::ErrorKind::TimedOut, missed));
            }
            self.timer.as_mut().reset(deadline);
        }
        Ok(())
    }

    fn deadline(&self) -> (Instant, &'static str) {
        let silence = (self.heard + self.limits.silence, "the peer is silent");
        let request = (
            self.accepted + self.limits.first_request,
            "the peer asks for nothing",
        );
        let stall = |since| (since + self.limits.stall, "the peer takes nothing");
        let deadlines = [
            Some(silence),
            (!self.peer.has_asked()).then_some(request),
            self.blocked.map(stall),
        ];
        let first = deadlines.into_iter().flatten().min_by_key(|(at, _)| *at);
        first.unwrap_or(silence)
    }

    /// Records how a connection broke: the peer or its system closed it, or the network fell silent.
    fn note(&self, error: &io::Error) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) {
            self.peer.note_closed();
        }
    }

    fn written(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(Ok(_)) => self.blocked = None,
            Poll::Ready(Err(error)) => self.note(error),
            Poll::Pending => {
                if self.blocked.is_none() {
                    self.blocked = Some(Instant::now());
                    let (deadline, _) = self.deadline();
                    self.timer.as_mut().reset(deadline);
                }
                self.wait(cx)?;
            }
        }
        polled
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match &polled {
            Poll::Ready(Ok(())) if room > 0 && buffer.filled().len() == before => self.peer.note_closed(),
            Poll::Ready(Ok(())) => self.heard = Instant::now(),
            Poll::Ready(Err(error)) => self.note(error),
            Poll::Pending => self.wait(cx)?,
        }
        polled
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for PeerIo {
    fn drop(&mut self) {
        self.peer.leave();
    }
}
