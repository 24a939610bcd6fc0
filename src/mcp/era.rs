//! The two eras of the protocol. Which one a peer speaks is decided once, at the edge where it
//! is met; everything behind it matches on `Era`.

use crate::mcp::revision::Revision;

/// The revision without sessions: each request says in `_meta` what it needs.
pub const STATELESS: &str = "2026-07-28";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Opened by `initialize` (2024-11-05 to 2025-11-25).
    Session(Revision),
    /// `server/discover` and `_meta` (2026-07-28).
    Stateless,
}

/// Whether a version that a peer names is the stateless one that we speak.
pub fn is_stateless(version: &str) -> bool {
    version == STATELESS
}

impl Era {
    pub fn as_str(self) -> &'static str {
        match self {
            Era::Session(revision) => revision.as_str(),
            Era::Stateless => STATELESS,
        }
    }

    pub fn is_stateless(self) -> bool {
        self == Era::Stateless
    }
}
