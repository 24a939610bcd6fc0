//! What was granted and refused by scopes, in the ordinary log, in the form that 1MCP's
//! documentation shows: `Scope operation: NAME {JSON}`.

/// Where in the log these lines stand, for `--log-modules`.
pub const TARGET: &str = "scope";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    ValidationSuccess,
    InsufficientScopes,
    ValidationFailed,
    AuthorizationGranted,
    AuthorizationDenied,
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

pub fn scope_operation(_operation: Operation, _scoped: &Scoped<'_>) {}
