//! What 1MCP knows and onemcp does not carry out: accepted by name, with one warning that
//! says what is missing, so that nobody has to edit a start script to switch.

/// One flag of 1MCP with its variable (`ONE_MCP_` and the flag in capitals) and file keys.
pub struct Foreign {
    pub flag: &'static str,
    pub short: Option<char>,
    pub takes_value: bool,
    /// Values that ask for what happens anyway: no warning.
    pub quiet: &'static [&'static str],
    /// Keys under `gateway`; each stands for everything below it, too.
    pub keys: &'static [&'static str],
    pub missing: &'static str,
}

const LAZY: &str = "lazy loading is not carried out; clients see the tools themselves";
const SESSIONS: &str = "sessions are kept in memory, bounded and for 30 idle minutes";
const INTERNAL: &str = "the gateway offers no tools of its own";
const BACKGROUND: &str = "background mode is not carried out; use a service manager";
const TEMPLATES: &str = "server templates per client are not carried out";

const fn value(flag: &'static str, missing: &'static str) -> Foreign {
    Foreign {
        flag,
        short: None,
        takes_value: true,
        quiet: &[],
        keys: &[],
        missing,
    }
}

const fn switch(
    flag: &'static str,
    quiet: &'static [&'static str],
    missing: &'static str,
) -> Foreign {
    Foreign {
        flag,
        short: None,
        takes_value: false,
        quiet,
        keys: &[],
        missing,
    }
}

pub static FOREIGN: &[Foreign] = &[
    Foreign {
        short: Some('p'),
        ..switch("pagination", &["true"], "lists are always paged")
    },
    Foreign {
        keys: &["auth.enableEnhancedSecurity"],
        ..switch(
            "enable-enhanced-security",
            &["false"],
            "the checks are always on",
        )
    },
    value("session-storage-path", SESSIONS),
    Foreign {
        keys: &["templateContext"],
        ..value("template-context-trust", TEMPLATES)
    },
    switch("confirm-untrusted-template-context", &["false"], TEMPLATES),
    Foreign {
        keys: &["asyncLoading.minServers"],
        ..value("async-min-servers", "nothing waits for a number of servers")
    },
    Foreign {
        keys: &["asyncLoading.timeout"],
        ..value("async-timeout", "use sync-start-timeout")
    },
    Foreign {
        keys: &["lazyLoading"],
        ..switch("enable-lazy-loading", &["false"], LAZY)
    },
    value("lazy-mode", LAZY),
    value("lazy-direct-expose", LAZY),
    value("lazy-cache-max-entries", LAZY),
    value("lazy-cache-ttl", LAZY),
    value("lazy-preload", LAZY),
    value("lazy-preload-keywords", LAZY),
    switch("lazy-inline-catalog", &["false"], LAZY),
    value("lazy-catalog-format", LAZY),
    value("lazy-fallback-on-error", LAZY),
    value("lazy-fallback-timeout", LAZY),
    switch("enable-session-persistence", &["false"], SESSIONS),
    value("session-persist-requests", SESSIONS),
    value("session-persist-interval", SESSIONS),
    value("session-background-flush", SESSIONS),
    switch(
        "enable-jsonrpc-error-logging",
        &["true"],
        "errors are always logged",
    ),
    switch("enable-internal-tools", &["false"], INTERNAL),
    value("internal-tools", INTERNAL),
    Foreign {
        short: Some('T'),
        ..value(
            "instructions-template",
            "instructions are not rendered from a template",
        )
    },
    value("cli-session-cache-path", "commands keep no session"),
    switch("background", &["false"], BACKGROUND),
    Foreign {
        keys: &["admin"],
        ..value("admin-username", "there is no admin console")
    },
    value("admin-password", "there is no admin console"),
];

/// Actions of `1mcp serve` on a gateway that runs already. Starting one instead would be the
/// opposite of what was asked, so these are refused.
pub const LIFECYCLE_FLAGS: &[&str] = &["status", "stop", "restart"];

/// Top-level keys of `mcp.json` that belong to 1MCP.
pub const FOREIGN_FILE_KEYS: &[(&str, &str)] = &[
    ("mcpTemplates", TEMPLATES),
    ("templateSettings", TEMPLATES),
    (
        "instructionTemplates",
        "instructions are not rendered from templates",
    ),
    (
        "publishedInstructionTemplates",
        "instructions are not rendered from templates",
    ),
    (
        "activeInstructionTemplate",
        "instructions are not rendered from templates",
    ),
    ("app", "write these settings under \"gateway\""),
];

impl Foreign {
    /// The environment variable of 1MCP for this flag.
    pub fn variable(&self) -> String {
        variable_of(self.flag)
    }

    /// True when `text` asks for something that does not happen.
    pub fn is_missed(&self, text: &str) -> bool {
        !self
            .quiet
            .iter()
            .any(|quiet| quiet.eq_ignore_ascii_case(text.trim()))
    }
}

/// `log-level` -> `ONE_MCP_LOG_LEVEL`.
pub fn variable_of(flag: &str) -> String {
    format!("ONE_MCP_{}", flag.replace('-', "_").to_ascii_uppercase())
}

/// The row for a key under `gateway`, which may lie below the row's own key.
pub fn by_file_key(key: &str) -> Option<&'static Foreign> {
    let covers = |own: &str| {
        key.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    FOREIGN
        .iter()
        .find(|row| row.keys.iter().any(|own| covers(own)))
}
