//! A port on a network: what accepts connections for Tape's programs.
//!
//! Peers may be slow, mute or hostile. A [`Port`] takes at most so many connections as its [`Limits`] say, leaves descriptors for
//! the rest of the process, pauses where the system lets it accept none, and says so once, not once for each try. A connection
//! has deadlines: for its first request, for any sign of life, and for taking what is written to it. Where the port is full, the
//! oldest connection that has not asked for anything yet makes room for a new one.
//!
//! A connection also knows how it came to its end, which the protocol above cannot tell: whether its peer closed it, or whether
//! this side gave it up ([`Peer::has_closed`], [`Peer::was_cut`]).
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
