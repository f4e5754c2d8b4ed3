//! The part of the command `tape` that needs no journal: it verifies streams, wherever their entries come from, and the files of
//! `tape export`.

pub mod exported;
pub mod stream;
