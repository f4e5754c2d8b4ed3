//! A second, naive model of runs, written apart from the rules.

pub(crate) mod act;
pub(crate) mod debt;
pub(crate) mod history;
pub(crate) mod predict;
