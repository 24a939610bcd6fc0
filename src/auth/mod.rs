//! Who may come in: tokens of ours and of others, API keys, and what is said to who has none.
//! `gate` judges each request; `keys` sign and verify our own tokens; the rest is what it asks.
//! Decisions and replies only. Deliberately absent: messages of MCP, sessions, what a scope
//! reaches (`model::scope`).

pub mod gate;
pub mod keys;
pub mod operator;
pub mod own_token;
pub mod pace;
pub mod pages;
pub mod revoked;
pub mod server;
pub mod store;
pub mod watched;

/// What of `auth` a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OauthPath {
    /// The path that follows, such as `/mcp`; without one it is the gateway as a whole.
    ProtectedResource(Option<String>),
    AuthorizationServer,
    Jwks,
    Authorize,
    Token,
    Register,
    Revoke,
    Login,
    Consent,
    UpstreamCallback(String),
}
