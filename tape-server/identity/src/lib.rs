//! Verifies the identity tokens that a caller shows.
