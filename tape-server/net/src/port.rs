//! Accepting connections.

use crate::io::PeerIo;
use crate::peer::{Full, Places};
use crate::seldom::Seldom;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// The first pause after the system let the port accept nothing; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pause after a connection was refused since the port is full: others wait in the system's queue meanwhile.
const PAUSE_FULL: Duration = Duration::from_millis(20);

/// How often to check whether cut connections have ended.
const PAUSE_LEAVING: Duration = Duration::from_millis(2);

/// The limits of a port on its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at a time; see [`connections_max`](crate::connections_max).
    pub connections: usize,
    /// The longest time from a connection to its first request.
    pub first_request: Duration,
    /// The longest time without any byte from the peer.
    pub silence: Duration,
    /// The longest time in which the peer takes none of the bytes to be written.
    pub stall: Duration,
}

/// A port that listens.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    limits: Limits,
    places: Places,
    pause: Duration,
    failing: Seldom,
    full: Seldom,
}

impl Port {
    /// A port over a listener.
    #[must_use]
    pub fn new(listener: TcpListener, limits: Limits) -> Self {
        Self {
            listener,
            limits,
            places: Places::new(limits.connections),
            pause: PAUSE,
            failing: Seldom::default(),
            full: Seldom::default(),
        }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, and where it comes from. Errors are logged, and accepting is retried after a pause.
    pub async fn accept(&mut self) -> (PeerIo, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    self.pause = PAUSE;
                    if let Some(io) = self.admit(stream).await {
                        return (io, from);
                    }
                }
                // The peer went away while it waited to be accepted.
                Err(error) if is_of_peer(&error) => {}
                Err(error) => {
                    if let Some(left_out) = self.failing.due(Instant::now()) {
                        tracing::error!(%error, left_out, "no connection can be accepted; trying again");
                    }
                    // Most often there are no descriptors left.
                    self.places.make_room();
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Finds a place for a connection. Connections that are cut for it usually end at once.
    async fn admit(&mut self, stream: TcpStream) -> Option<PeerIo> {
        let peer = loop {
            match self.places.take() {
                Ok(peer) => break peer,
                Err(Full::ForNow) => tokio::time::sleep(PAUSE_LEAVING).await,
                Err(Full::OfUsed) => {
                    if let Some(left_out) = self.full.due(Instant::now()) {
                        let max = self.places.max();
                        tracing::warn!(max, left_out, "all connections are taken; refusing new ones");
                    }
                    drop(stream);
                    tokio::time::sleep(PAUSE_FULL).await;
                    return None;
                }
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection sends small messages late");
        }
        Some(PeerIo::new(stream, peer, self.limits))
    }
}

fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::{Limits, Port};
    use std::io::ErrorKind;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    const LONG: Duration = Duration::from_secs(3_600);

    async fn port(limits: Limits) -> Port {
        Port::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), limits)
    }

    const fn limits() -> Limits {
        Limits {
            connections: 8,
            first_request: LONG,
            silence: LONG,
            stall: LONG,
        }
    }

    #[tokio::test]
    async fn a_peer_that_closes_has_closed() {
        let mut port = port(limits()).await;
        let peer = TcpStream::connect(port.local_addr().unwrap()).await.unwrap();
        let (mut io, _) = port.accept().await;
        drop(peer);
        assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(io.peer().has_closed() && !io.peer().was_cut());
    }

    #[tokio::test]
    async fn a_peer_that_asks_for_nothing_or_is_silent_is_cut_and_has_not_closed() {
        let short = Duration::from_millis(20);
        for (asks, limits) in [
            (
                false,
                Limits {
                    first_request: short,
                    ..limits()
                },
            ),
            (
                true,
                Limits {
                    silence: short,
                    ..limits()
                },
            ),
        ] {
            let mut port = port(limits).await;
            let _peer = TcpStream::connect(port.local_addr().unwrap()).await.unwrap();
            let (mut io, _) = port.accept().await;
            if asks {
                io.peer().asked();
            }
            let error = io.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(io.peer().was_cut() && !io.peer().has_closed());
        }
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_cut() {
        let stall = Duration::from_millis(20);
        let mut port = port(Limits { stall, ..limits() }).await;
        let _peer = TcpStream::connect(port.local_addr().unwrap()).await.unwrap();
        let (mut io, _) = port.accept().await;
        io.peer().asked();
        let error = loop {
            if let Err(error) = io.write_all(&[0; 1 << 20]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_new_peer_takes_the_place_of_a_mute_one() {
        let mut port = port(Limits {
            connections: 1,
            ..limits()
        })
        .await;
        let _mute = TcpStream::connect(port.local_addr().unwrap()).await.unwrap();
        let (mut mute, _) = port.accept().await;
        let ended = tokio::spawn(async move { mute.read(&mut [0; 8]).await });
        let _peer = TcpStream::connect(port.local_addr().unwrap()).await.unwrap();
        let (io, _) = port.accept().await;
        assert!(!io.peer().was_cut());
        assert_eq!(
            ended.await.unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionAborted
        );
    }
}
