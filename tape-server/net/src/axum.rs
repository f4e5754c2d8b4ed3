//! A port as the HTTP server of axum takes it.

use crate::{PeerIo, Port};
use std::io;
use std::net::SocketAddr;

impl axum::serve::Listener for Port {
    type Io = PeerIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (PeerIo, SocketAddr) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}
