//! The result of a migration.

/// The result of migrating a store to the version of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; zero where there were no tables.
    pub from: u32,
    /// The version after.
    pub to: u32,
}
