//! A network port that accepts connections for Tape's programs.
//!
//! Peers may be slow, mute or hostile. A [`Port`] takes at most as many connections as its [`Limits`] say, and leaves descriptors for the
//! rest of the process. Where the system lets it accept none, it pauses, and logs this once, not at each attempt. A connection has
//! deadlines: for its first request, for any byte from the peer, and for taking bytes written to it. Where the port is full, it closes the
//! oldest connection without a request for a new one.
//!
//! A connection also knows how it ended, which the protocol above cannot tell: whether its peer closed it, or this side did
//! ([`Peer::has_closed`], [`Peer::was_cut`]).
//!
//! The crate knows no protocol.

#[cfg(feature = "axum")]
mod axum;
mod descriptors;
mod io;
mod peer;
mod port;
mod seldom;

pub use descriptors::connections_max;
pub use io::PeerIo;
pub use peer::Peer;
pub use port::{Limits, Port};
