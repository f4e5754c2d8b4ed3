//! The Tape server: the journal over gRPC.
