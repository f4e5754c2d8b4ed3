//! A second, naive model of runs, written apart from the rules.

pub(crate) mod history;
pub(crate) mod predict;
