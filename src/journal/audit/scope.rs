//! What was granted and refused by scopes, in the ordinary log, in the form that 1MCP's
//! documentation shows: `INFO: Scope operation: NAME {JSON}`. Successes are told once.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::base::limits;
use crate::journal::audit::line::push_text;
use crate::journal::line::{SCOPE, SCOPE_OPERATION};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    ValidationSuccess,
    InsufficientScopes,
    ValidationFailed,
    AuthorizationGranted,
    AuthorizationDenied,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::ValidationSuccess => "scope_validation_success",
            Operation::InsufficientScopes => "insufficient_scopes",
            Operation::ValidationFailed => "scope_validation_failed",
            Operation::AuthorizationGranted => "authorization_granted",
            Operation::AuthorizationDenied => "authorization_denied",
        }
    }
}

/// What a line says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scoped<'a> {
    pub client: &'a str,
    /// Separated by spaces. `None`: not a part of this line.
    pub requested: Option<&'a str>,
    pub granted: Option<&'a str>,
    /// Why not; empty when it was granted.
    pub error: &'a str,
    /// Of a success: the session or token, and the view. It is told once for each.
    pub once: &'a str,
}

/// False: it was told already.
pub fn scope_operation(operation: Operation, scoped: &Scoped<'_>) -> bool {
    if !scoped.once.is_empty() && !is_new(scoped.once) {
        return false;
    }
    let name = operation.as_str();
    log::info!(target: SCOPE, "{SCOPE_OPERATION}{name} {}", json(name, scoped));
    true
}

fn json(name: &str, scoped: &Scoped<'_>) -> String {
    let mut text = format!("{{\"operation\":\"{name}\",\"clientId\":").into_bytes();
    push_text(&mut text, scoped.client, limits::AUDIT_NAME_BYTES);
    let lists = [
        (",\"requestedScopes\":[", scoped.requested),
        (",\"grantedScopes\":[", scoped.granted),
    ];
    for (begin, scopes) in lists {
        let Some(scopes) = scopes else { continue };
        text.extend_from_slice(begin.as_bytes());
        for (at, scope) in scopes.split_whitespace().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            push_text(&mut text, scope, limits::AUDIT_NAME_BYTES);
        }
        text.push(b']');
    }
    match scoped.error {
        "" => text.extend_from_slice(b",\"success\":true}"),
        error => {
            text.extend_from_slice(b",\"success\":false,\"error\":");
            push_text(&mut text, error, limits::AUDIT_NAME_BYTES);
            text.push(b'}');
        }
    }
    // It is ASCII.
    String::from_utf8(text).unwrap_or_default()
}

/// What was told already: those of now, and those before.
#[derive(Default)]
struct Seen {
    now: HashSet<u64>,
    before: HashSet<u64>,
}

impl Seen {
    /// False when it was told. What nobody has asked for in a long time may be told again.
    fn adds(&mut self, hash: u64) -> bool {
        if self.now.contains(&hash) {
            return false;
        }
        if self.now.len() >= limits::AUDIT_SEEN / 2 {
            self.before = std::mem::take(&mut self.now);
        }
        self.now.insert(hash);
        !self.before.contains(&hash)
    }
}

fn is_new(once: &str) -> bool {
    static SEEN: LazyLock<(RandomState, Mutex<Seen>)> = LazyLock::new(Default::default);
    let (hashes, seen) = &*SEEN;
    let hash = hashes.hash_one(once);
    seen.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .adds(hash)
}

#[cfg(test)]
mod tests {
    use super::{Operation, Scoped, Seen, json};
    use crate::base::limits;

    #[test]
    fn the_members_are_those_of_the_documentation() {
        let granted = Scoped {
            client: "app-client",
            requested: Some("tag:filesystem"),
            granted: Some("tag:filesystem tag:memory"),
            ..Scoped::default()
        };
        assert_eq!(
            json(Operation::ValidationSuccess.as_str(), &granted),
            concat!(
                r#"{"operation":"scope_validation_success","clientId":"app-client","#,
                r#""requestedScopes":["tag:filesystem"],"#,
                r#""grantedScopes":["tag:filesystem","tag:memory"],"success":true}"#
            )
        );
        let denied = Scoped {
            client: "a\n\"\u{202e}",
            error: "User denied authorization",
            ..Scoped::default()
        };
        assert_eq!(
            json(Operation::AuthorizationDenied.as_str(), &denied),
            concat!(
                r#"{"operation":"authorization_denied","clientId":"a\u000a\"\u202e","#,
                r#""success":false,"error":"User denied authorization"}"#
            )
        );
    }

    #[test]
    fn what_was_told_is_remembered_within_bounds() {
        let mut seen = Seen::default();
        assert!(seen.adds(1) && !seen.adds(1));
        let many = 10 * limits::AUDIT_SEEN as u64;
        (2..many).for_each(|hash| assert!(seen.adds(hash)));
        assert!(seen.now.len() + seen.before.len() <= limits::AUDIT_SEEN);
        assert!(!seen.adds(many - 1) && seen.adds(1));
    }
}
