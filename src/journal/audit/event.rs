//! The closed lists of the audit log: what can happen, how it can end, and why. The inventory in
//! docs/audit-events.md is made from them. Pure.

/// One list: the word that stands in the log for each, and what the inventory says of it.
macro_rules! words {
    ($(#[$about:meta])* $list:ident: $($name:ident $word:literal $text:literal,)*) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $list {
            $($name,)*
        }

        impl $list {
            pub const ALL: &[$list] = &[$($list::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $($list::$name => $word,)*
                }
            }

            /// For the inventory.
            pub fn text(self) -> &'static str {
                match self {
                    $($list::$name => $text,)*
                }
            }
        }
    };
}

words! {
    /// What happened.
    Event:
    AuditOpen "audit.open" "A run begins: with the public key of its checkpoints",
    AuditCheckpoint "audit.checkpoint" "Signed count and sum of the lines since the last one",
    AuditClose "audit.close" "The same, and the log ends here in good order",
    AuditGap "audit.gap" "Lines are missing: how many, and why",
    LogDropped "log.dropped" "Lines of the ordinary log were lost: how many",
    Start "gateway.start" "The gateway serves: where, and with which configuration",
    Stop "gateway.stop" "The gateway was asked to end: why",
    ConfigApplied "config.applied"
        "Another configuration is in force: its version and what differs",
    ConfigRejected "config.rejected"
        "A changed configuration would not do; what was in force stays so",
    SecretRead "secret.read" "A secret was taken into use: its name, never its value",
    Operator "operator.command" "A command over the control socket: which, and from which process",
    AuthOk "auth.ok" "A token was accepted: once when it is first seen, not for each request",
    AuthFail "auth.fail" "A token was missing or refused",
    LoginOk "login.ok" "The operator logged in to give consent",
    LoginFail "login.fail" "A login for consent was refused",
    TokenIssue "token.issue" "A token was issued",
    TokenRefresh "token.refresh" "A refresh token was exchanged",
    TokenReuse "token.reuse" "A refresh token was used twice; its family is revoked",
    TokenRevoke "token.revoke" "A token or a family of tokens was revoked",
    CodeReplay "code.replay" "An authorization code was used twice; what it gave is revoked",
    ClientRegister "client.register" "A client registered itself, was registered, or was refused",
    ConsentAllow "consent.allow" "Somebody let a client in: which scopes",
    ConsentDeny "consent.deny" "Somebody did not let a client in",
    KeyCreate "key.create" "An API key or a signing key was made",
    KeyRevoke "key.revoke" "An API key or a signing key was withdrawn",
    KeyRotate "key.rotate" "Another key signs from now on, or other keys are accepted",
    AuthzAllow "authz.allow" "Scopes were sufficient: once for each session or token and view",
    AuthzDeny "authz.deny" "Scopes were not sufficient, or the thing may not be seen",
    RateLimit "ratelimit" "Somebody asked too often, or too much at the same time",
    SessionOpen "session.open" "A client opened a session",
    SessionClose "session.close" "A session ended: why",
    SessionHijack "session.hijack_attempt" "Somebody used the session of somebody else",
    ToolCall "tool.call" "A tool was called: one line when it has ended",
    ToolBegin "tool.begin" "A tool has been at work for 10 seconds; its end is told later",
    PromptGet "prompt.get" "A prompt was asked for",
    ResourceRead "resource.read" "A resource was read",
    ToolChanged "tool.changed" "A server offers other tools, or the same ones otherwise",
    ToolPinned "tool.pinned" "A definition was pinned, approved, or kept from clients",
    ToolFlagged "tool.flagged" "Something that a server offers holds characters that nobody sees",
    NameRefused "name.refused" "A server offers something under a name that another one has",
    ServerStart "server.start" "A server is ready",
    ServerExit "server.exit" "A server ended or does not serve any more: why",
    ServerRestart "server.restart" "A server that had ended is ready again",
    ServerBreaker "server.breaker" "A server died so often that it is tried only now and then",
    UpstreamAuth "upstream.auth" "The gateway got, refreshed or lost its own token at a server",
    HostReject "host.reject" "A request named a host that is not ours",
    OriginReject "origin.reject" "A web page that may not called",
    ParseReject "parse.reject" "A request that could not be read, or could be read in two ways",
    OperatorReject "operator.reject" "A stranger came to the control socket or asked for metrics",
    WebhookFail "webhook.fail" "Alerts, or lines of this log, could not be delivered",
}

words! {
    /// How it ended.
    Outcome:
    Allow "allow" "Somebody may",
    Deny "deny" "Somebody may not",
    Ok "ok" "Done",
    Error "error" "Failed",
}

words! {
    /// Why.
    Reason:
    MissingToken "missing_token" "No token was given",
    Malformed "malformed" "It cannot be read",
    TwoTokens "two_tokens" "More than one token was given",
    BadSignature "bad_signature" "The signature does not fit, or the key is unknown",
    BadAlgorithm "bad_algorithm" "An algorithm that is not allowed",
    BadType "bad_type" "A token of another kind",
    BadIssuer "bad_issuer" "An issuer that is not known",
    BadAudience "bad_audience" "It was issued for somebody else",
    BadClaims "bad_claims" "A claim is missing or has the wrong form",
    Expired "expired" "Its time is over",
    NotYetValid "not_yet_valid" "Its time has not come",
    Revoked "revoked" "It was withdrawn",
    UnknownKey "unknown_key" "An API key that is not known",
    InsufficientScope "insufficient_scope" "The scopes do not suffice",
    NotVisible "not_visible" "It does not exist for who asked",
    OtherPrincipal "other_principal" "It belongs to somebody else",
    BadClient "bad_client" "The client is not known or did not prove who it is",
    BadRedirect "bad_redirect" "A redirect that was not registered",
    BadRequest "bad_request" "A parameter is missing, double or wrong",
    BadCode "bad_code" "A code or a refresh token that is not known or over",
    BadVerifier "bad_verifier" "PKCE: the verifier does not fit",
    BadScope "bad_scope" "A scope that does not exist or may not be had",
    BadPassword "bad_password" "The password or the one-time code is wrong",
    BadState "bad_state" "A form or an answer that was not asked for, or not by this browser",
    Reused "reused" "It was good once",
    Denied "denied" "Somebody said no",
    TooMany "too_many" "A bound was reached",
    TooOften "too_often" "A rate limit was reached",
    Policy "policy" "A rule of the configuration",
    Unavailable "unavailable" "Who had to be asked does not answer",
    BadHost "bad_host" "A Host header that is not allowed",
    BadOrigin "bad_origin" "An Origin header that is not allowed",
    Framing "framing" "A request that could be read in two ways, or not at all",
    Timeout "timeout" "It took too long",
    Cancelled "cancelled" "Who asked took it back",
    Crashed "crashed" "The server ended",
    Upstream "upstream" "The server answered with an error",
    Client "client" "The client ended it",
    Idle "idle" "Nothing came for too long",
    Shutdown "shutdown" "The gateway ends",
    Replaced "replaced" "Another one took its place",
    Changed "changed" "Not what it was when it was approved",
    Shadowed "shadowed" "A name that another server has already",
    Invisible "invisible" "Characters that nobody sees",
    Queue "queue" "More came than could be kept",
    Sink "sink" "A destination took nothing",
    Killed "killed" "The process before ended without closing its log",
    Cut "cut" "The log does not go on from where it ended",
    Other "other" "See detail",
}
