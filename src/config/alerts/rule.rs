//! RULES: what an operator can be told of, and how much of it. The reader of the file, the rules
//! that run and the table in the documentation all derive from it.

use std::fmt;
use std::time::Duration;

/// As PagerDuty has them; the order is that of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Error,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 4] = [
        Severity::Info,
        Severity::Warning,
        Severity::Error,
        Severity::Critical,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }

    pub fn parse(word: &str) -> Option<Severity> {
        let mut all = Severity::ALL.into_iter();
        all.find(|severity| severity.as_str() == word)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    ServerDown,
    ServerRecovered,
    CrashLoop,
    ToolsChanged,
    AuthFailures,
    ConfigRejected,
    CertificateExpiry,
    SinkFailing,
    Drops,
    GatewayStopping,
}

/// How one rule is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    pub enabled: bool,
    pub severity: Severity,
    /// Between two messages that begin the same trouble.
    pub cooldown: Duration,
    /// Whether its end is told.
    pub recovery: bool,
    /// Names of sinks; `None` is all of them.
    pub sinks: Option<Vec<String>>,
    /// Names of servers; `None` is all of them.
    pub servers: Option<Vec<String>>,
    /// It must have lasted so long.
    pub after: Duration,
    /// So many within `window`.
    pub count: u64,
    pub window: Duration,
    /// Before the end of a certificate.
    pub days: u64,
}

/// What a rule can be told beside `enabled` and `severity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knob {
    Cooldown,
    Recovery,
    Sinks,
    Servers,
    After,
    Count,
    Window,
    Days,
}

impl Knob {
    pub fn key(self) -> &'static str {
        match self {
            Knob::Cooldown => "cooldown",
            Knob::Recovery => "recovery",
            Knob::Sinks => "sinks",
            Knob::Servers => "servers",
            Knob::After => "after",
            Knob::Count => "count",
            Knob::Window => "window",
            Knob::Days => "days",
        }
    }
}

/// One row of the table.
pub struct RuleRow {
    pub rule: Rule,
    /// As the file spells it.
    pub name: &'static str,
    pub severity: Severity,
    pub enabled: bool,
    pub knobs: &'static [Knob],
    pub cooldown_ms: u64,
    pub after_ms: u64,
    pub count: u64,
    pub window_ms: u64,
    pub days: u64,
    /// When it speaks, and when it takes that back.
    pub help: &'static str,
}

const MINUTE_MS: u64 = 60_000;

const STANDARD: RuleRow = RuleRow {
    rule: Rule::ServerDown,
    name: "",
    severity: Severity::Error,
    enabled: true,
    knobs: &[Knob::Cooldown, Knob::Recovery, Knob::Sinks],
    cooldown_ms: 5 * MINUTE_MS,
    after_ms: 0,
    count: 1,
    window_ms: MINUTE_MS,
    days: 0,
    help: "",
};

/// In the order of `Rule`.
pub static RULES: &[RuleRow] = &[
    RuleRow {
        rule: Rule::ServerDown,
        name: "serverDown",
        knobs: &[
            Knob::Cooldown,
            Knob::Recovery,
            Knob::Sinks,
            Knob::Servers,
            Knob::After,
        ],
        after_ms: 30_000,
        help: "a server is not ready for `after`; over when it is ready, or is taken out",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::ServerRecovered,
        name: "serverRecovered",
        severity: Severity::Info,
        knobs: &[],
        help: "the message that ends serverDown and crashLoop; it goes where they went",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::CrashLoop,
        name: "crashLoop",
        severity: Severity::Critical,
        knobs: &[Knob::Cooldown, Knob::Recovery, Knob::Sinks, Knob::Servers],
        cooldown_ms: 15 * MINUTE_MS,
        help: "a server keeps dying and is started rarely; over when it is ready",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::ToolsChanged,
        name: "toolsChanged",
        severity: Severity::Warning,
        knobs: &[Knob::Cooldown, Knob::Sinks, Knob::Servers],
        help: "a running server offers other tools, or describes them otherwise, than before",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::AuthFailures,
        name: "authFailures",
        severity: Severity::Warning,
        knobs: &[
            Knob::Cooldown,
            Knob::Recovery,
            Knob::Sinks,
            Knob::Count,
            Knob::Window,
        ],
        cooldown_ms: 15 * MINUTE_MS,
        count: 20,
        help: "`count` requests were refused for who sent them within `window`; over after a \
               window without one",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::ConfigRejected,
        name: "configRejected",
        help: "changed files have errors, so nothing was changed; over when they are good",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::CertificateExpiry,
        name: "certificateExpiry",
        severity: Severity::Warning,
        knobs: &[Knob::Cooldown, Knob::Recovery, Knob::Sinks, Knob::Days],
        cooldown_ms: 24 * 60 * MINUTE_MS,
        days: 14,
        help: "a certificate of a server or of a `caFile` ends within `days`; over when another \
               one is in its place",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::SinkFailing,
        name: "sinkFailing",
        cooldown_ms: 15 * MINUTE_MS,
        help: "the log file, or a sink of alerts, takes nothing; over when it does",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::Drops,
        name: "drops",
        severity: Severity::Warning,
        knobs: &[
            Knob::Cooldown,
            Knob::Recovery,
            Knob::Sinks,
            Knob::Count,
            Knob::Window,
        ],
        cooldown_ms: 15 * MINUTE_MS,
        help: "`count` log lines or alerts were lost within `window`; over after a window \
               without one",
        ..STANDARD
    },
    RuleRow {
        rule: Rule::GatewayStopping,
        name: "gatewayStopping",
        severity: Severity::Info,
        enabled: false,
        knobs: &[Knob::Sinks],
        help: "the gateway was asked to end",
        ..STANDARD
    },
];

impl Rule {
    pub fn parse(name: &str) -> Option<Rule> {
        let row = RULES.iter().find(|row| row.name == name)?;
        Some(row.rule)
    }

    pub fn row(self) -> &'static RuleRow {
        &RULES[self as usize]
    }

    pub fn as_str(self) -> &'static str {
        self.row().name
    }
}

impl RuleRow {
    pub fn has(&self, knob: Knob) -> bool {
        self.knobs.contains(&knob)
    }

    pub fn defaults(&self) -> RuleSpec {
        RuleSpec {
            enabled: self.enabled,
            severity: self.severity,
            cooldown: Duration::from_millis(self.cooldown_ms),
            recovery: true,
            sinks: None,
            servers: None,
            after: Duration::from_millis(self.after_ms),
            count: self.count,
            window: Duration::from_millis(self.window_ms),
            days: self.days,
        }
    }

    /// Keys and defaults as the documentation shows them.
    pub fn keys_markdown(&self) -> String {
        let shown = |knob: &Knob| match knob {
            Knob::Cooldown => format!("`cooldown` {}", self.cooldown_ms),
            Knob::Recovery => "`recovery` true".to_owned(),
            Knob::Sinks => "`sinks` all".to_owned(),
            Knob::Servers => "`servers` all".to_owned(),
            Knob::After => format!("`after` {}", self.after_ms),
            Knob::Count => format!("`count` {}", self.count),
            Knob::Window => format!("`window` {}", self.window_ms),
            Knob::Days => format!("`days` {}", self.days),
        };
        let enabled = format!("`enabled` {}", self.enabled);
        let severity = format!("`severity` {}", self.severity);
        let knobs = self.knobs.iter().map(shown);
        let all: Vec<String> = [enabled, severity].into_iter().chain(knobs).collect();
        all.join(", ")
    }
}

/// RULES as the Markdown table of the documentation.
pub fn rules_markdown() -> String {
    let rows = RULES.iter().map(|row| {
        let (name, help, keys) = (row.name, row.help, row.keys_markdown());
        format!("| `{name}` | {help} | {keys} |\n")
    });
    let head = "| rule | speaks when | keys and defaults |\n|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::{RULES, Severity};

    #[test]
    fn rows_stand_where_their_rule_says() {
        for (at, row) in RULES.iter().enumerate() {
            assert_eq!(row.rule as usize, at, "{}", row.name);
            assert!(!row.help.is_empty(), "{}", row.name);
            assert_eq!(super::Rule::parse(row.name), Some(row.rule));
        }
    }

    #[test]
    fn severities_are_ordered_by_weight() {
        assert!(Severity::ALL.is_sorted());
        assert_eq!(Severity::parse("critical"), Some(Severity::Critical));
        assert_eq!(Severity::parse("fatal"), None);
    }
}
