//! An agent that uses every feature: driven to its end, crashed at every point, drifting, and contended by two drivers.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod crash;
mod drift;
mod drive;
mod dropped;
mod errors;
mod lease;
mod meanwhile;
mod result;
mod wait;
mod world;
