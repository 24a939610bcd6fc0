//! Several gateways behind one load balancer: what they share and how they find each other.
//! Values alone; the keys are read and the peers looked up by `front::replicas`.

use std::path::PathBuf;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// A file or a folder; without it this gateway is alone.
    pub keys: Option<PathBuf>,
    /// Unlike those of all other replicas; without it the host name.
    pub name: Option<String>,
    /// `host:port`; a host may be a name that gives the addresses of all.
    pub peers: Vec<String>,
    /// A URL of `net::redis::spec`, its templates as they stand.
    pub store: Option<String>,
}

impl ReplicaSettings {
    /// What is missing beside what was given.
    pub fn flaw(&self) -> Option<&'static str> {
        let is_alone = self.keys.is_none() && !self.peers.is_empty();
        is_alone.then_some(
            "replica-peers is of no use without a key that replicas share: give replica-keys too",
        )
    }
}
