//! Judges who asks: one principal for each request, or why there is none.

use std::time::Duration;

/// Why a request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It shows no token: told what is wanted, without an error.
    NoToken,
    /// Unknown, forged, expired, revoked, or for somebody else; nobody is told which.
    BadToken,
    /// It cannot be read in one way.
    Malformed(&'static str),
    /// Too many requests of one principal; another may come after so long.
    TooMany(Duration),
    /// Tokens cannot be judged: the clock of this machine is years behind.
    NotReady,
}
