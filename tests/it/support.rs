//! What black-box tests stand on: a running gateway, raw HTTP, a session, and waiting with a
//! deadline. Deliberately absent: anything of the crate itself, because the tests are written
//! from the contract and see the gateway as a client and an operator do.

pub(crate) mod browser;
pub(crate) mod cluster;
pub(crate) mod engine;
pub(crate) mod http;
pub(crate) mod idp;
pub(crate) mod oauth;
pub(crate) mod redis;
pub(crate) mod remote;
pub(crate) mod rig;
pub(crate) mod servers;
pub(crate) mod session;
pub(crate) mod sse;
pub(crate) mod stateless;
pub(crate) mod stdio;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod vault;

use std::time::{Duration, Instant};

/// No single wait takes longer; a test that needs so much has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again, for what has no event: the process table, health, another client.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    within(PATIENCE, what, &mut holds);
}

pub(crate) fn within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
