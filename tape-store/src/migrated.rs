//! What a migration came to.

/// What bringing a store to the version of this build comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; zero where there were no tables.
    pub from: u32,
    /// The version after.
    pub to: u32,
}
