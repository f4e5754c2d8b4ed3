//! The server's port: connections with limits and deadlines, and their data for calls.

use crate::calls::Part;
use futures::{Stream, stream};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tape_net::{Limits, Peer, PeerIo, Port};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

/// A new connection must make its first call within this long; a peer that only connects, or sends slowly, takes no place for longer.
const FIRST_CALL: Duration = Duration::from_secs(10);
/// A connection is closed after its peer has taken no written bytes for this long.
const STALL: Duration = Duration::from_secs(30);

/// A connection of the server.
#[derive(Debug)]
pub(crate) struct Connection {
    io: PeerIo,
    part: Part,
}

/// The caller of a call, by its connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The other side.
    pub(crate) peer: Peer,
    /// The share of the connection in the memory of calls.
    pub(crate) part: Part,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller {
            peer: self.io.peer().clone(),
            part: self.part.clone(),
        }
    }
}

/// Listens on an address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The connections of a listener, with a bound on their number. It never ends and never fails.
pub(crate) fn connections(
    listener: TcpListener,
    connections_max: u32,
    silence: Duration,
) -> impl Stream<Item = io::Result<Connection>> {
    let wanted = usize::try_from(connections_max).unwrap_or(usize::MAX);
    let limits = Limits {
        connections: tape_net::connections_max(wanted),
        first_request: FIRST_CALL,
        silence,
        stall: STALL,
    };
    stream::unfold(Port::new(listener, limits), |mut port| async move {
        let (io, _) = port.accept().await;
        let part = Part::default();
        Some((Ok(Connection { io, part }), port))
    })
}

/// Records for each call that its peer speaks the protocol.
pub(crate) fn asked(call: Request<()>) -> Result<Request<()>, Status> {
    if let Some(caller) = call.extensions().get::<Caller>() {
        caller.peer.asked();
    }
    Ok(call)
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
