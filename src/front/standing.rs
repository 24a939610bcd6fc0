//! How the configuration stands: which one is in force, what became of the last attempt to
//! change it, and what waits for a restart. Written by the thread that reloads, read by health,
//! the control socket and metrics.

use std::sync::{PoisonError, RwLock};

use serde::Serialize;

use crate::base::time;

/// One moment of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Counts configurations that were in force, from 1.
    pub version: u64,
    /// RFC 3339: since when.
    pub since: String,
    /// None while nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
    /// Keys of settings whose new values count after a restart only.
    pub needs_restart: Vec<String>,
    /// Servers that were switched on or off by hand, against what the files say.
    pub switched: Vec<String>,
    /// Of the store that several gateways share: `ready` or `away`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_store: Option<&'static str>,
    /// Where servers are looked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovery: Vec<SourceStanding>,
}

/// How one source of discovery stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStanding {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The last look went well; false before the first one, too.
    #[serde(rename = "ok")]
    pub is_ok: bool,
    /// RFC 3339: when it last did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    pub found: usize,
    /// Of these: how many are servers now.
    pub taken: usize,
    /// Since the start.
    pub failures: u64,
    /// Why it fails now: "failed to ...".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was found and not taken, one text each with the reason.
    pub refused: Vec<String>,
}

/// An attempt to take other files into force.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// RFC 3339.
    pub at: String,
    pub ok: bool,
    /// Why not, one line each; no secret is in them.
    pub problems: Vec<String>,
}

/// Where it is found.
#[derive(Debug)]
pub struct Configured(RwLock<Standing>);

impl Default for Configured {
    fn default() -> Configured {
        Configured(RwLock::new(Standing {
            version: 1,
            since: time::now_rfc3339(),
            last_attempt: None,
            needs_restart: Vec::new(),
            switched: Vec::new(),
            shared_store: None,
            discovery: Vec::new(),
        }))
    }
}

impl Configured {
    pub fn standing(&self) -> Standing {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// For the thread that reloads.
    pub fn change(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}
