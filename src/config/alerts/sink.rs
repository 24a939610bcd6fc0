//! Where alerts go: one of these for each entry of `sinks`. Whatever may hold a key is a secret.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::secret::Secret;
use crate::config::alerts::rule::Severity;
use crate::net::proxy::ProxyChoice;

/// One entry of `sinks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSpec {
    pub name: String,
    pub kind: Kind,
    /// Alerts below it do not go there.
    pub min_severity: Severity,
    /// For one try.
    pub timeout: Duration,
    /// `None` while something that it needs cannot be filled in.
    pub target: Option<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Webhook,
    Slack,
    Teams,
    PagerDuty,
    Command,
    Log,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::Webhook,
        Kind::Slack,
        Kind::Teams,
        Kind::PagerDuty,
        Kind::Command,
        Kind::Log,
    ];

    /// As the file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Webhook => "webhook",
            Kind::Slack => "slack",
            Kind::Teams => "teams",
            Kind::PagerDuty => "pagerduty",
            Kind::Command => "command",
            Kind::Log => "log",
        }
    }

    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Http(HttpTarget),
    Command(CommandTarget),
    Log,
}

/// What a request to a sink is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// Absolute, `http` or `https`: of chat services the URL itself is the key.
    pub url: Secret,
    pub shape: Shape,
    pub headers: Vec<(String, Secret)>,
    /// Certificates (PEM) to trust instead of the usual ones.
    pub ca_file: Option<PathBuf>,
    pub proxy: ProxyChoice,
}

/// What the body looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Our own; signed when there is a key.
    Webhook { key: Option<Secret> },
    /// An incoming webhook.
    Slack,
    /// An adaptive card for a workflow.
    Teams,
    /// Events API v2.
    PagerDuty { routing_key: Secret },
}

/// The alert is on its stdin, as the webhook would get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTarget {
    /// The program, then its arguments. Never a shell.
    pub argv: Vec<Secret>,
    /// Beside PATH and HOME it sees this alone.
    pub env: Vec<(String, Secret)>,
}
