//! The tests that every sink has to pass.

pub mod pen;
