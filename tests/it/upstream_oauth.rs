//! The gateway as an OAuth client of servers: logins by a person, tokens that are renewed, what
//! is refused, and that nothing which a client showed us goes to a server.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::cli_support::{self, Outcome};
use crate::support::eventually;
use crate::support::http::{Reply, Request};
use crate::support::oauth::Guarded;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::gateway_binary;
use crate::support::session::{Session, initialize, tool_call};
use crate::support::token::{ISSUER, Mint};

fn command(rig: &Rig, words: &[&str]) -> Command {
    let mut command = Command::new(gateway_binary());
    let port = rig.port.to_string();
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", rig.folder())
        .args(words)
        .args(["--port", &port]);
    command
}

fn run(rig: &Rig, words: &[&str]) -> Outcome {
    cli_support::run(command(rig, words), None)
}

/// A login under way.
struct Going {
    child: Child,
    out: BufReader<ChildStdout>,
    url: String,
}

impl Going {
    fn start(rig: &Rig, words: &[&str]) -> Going {
        let words = [&["auth", "login"], words].concat();
        let mut child = command(rig, &words)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let begun: Value = serde_json::from_str(&line).unwrap_or_default();
        let url = begun["url"].as_str().unwrap_or_default().to_owned();
        Going { child, out, url }
    }

    fn end(mut self) -> Option<i32> {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut rest).unwrap();
        self.child.wait().unwrap().code()
    }
}

/// The browser goes where it was sent.
fn come_back(rig: &Rig, url: &str) -> Reply {
    let origin = format!("http://127.0.0.1:{}", rig.port);
    let target = url.strip_prefix(&origin).unwrap();
    rig.connect().exchange(&Request::new("GET", target))
}

#[track_caller]
fn log_in(rig: &Rig, guarded: &Guarded, name: &str) {
    let going = Going::start(rig, &[name]);
    let back = guarded.allow(&going.url);
    let reply = come_back(rig, &back);
    assert_eq!(reply.status(), 200, "{back}");
    assert_eq!(going.end(), Some(0));
}

fn state(rig: &Rig, name: &str) -> String {
    let status = &rig.server(name)["status"];
    status.as_str().unwrap_or_default().to_owned()
}

fn start(servers: Value) -> Rig {
    Plan::new(servers).start_unready()
}

fn guarded_and_rig() -> (Guarded, Rig) {
    let guarded = Guarded::start();
    let rig = start(json!({"web": guarded.server.entry()}));
    awaits(&rig, "web", "awaiting_oauth");
    (guarded, rig)
}

#[track_caller]
fn awaits(rig: &Rig, name: &str, word: &str) {
    eventually(word, || state(rig, name) == word);
}

#[test]
fn a_person_allows_it_once_and_the_server_is_ready() {
    let (guarded, rig) = guarded_and_rig();
    log_in(&rig, &guarded, "web");
    awaits(&rig, "web", "connected");
    let mut session = rig.session();
    assert_eq!(session.text("web_1mcp_t", json!({})), "done");
    let knobs = guarded.knobs();
    let client = &knobs.registered[0];
    assert_eq!(knobs.registered.len(), 1);
    assert_eq!(client["application_type"], "native");
    assert_eq!(client["token_endpoint_auth_method"], "client_secret_basic");
    let back = format!("http://127.0.0.1:{}/oauth/callback/web", rig.port);
    assert_eq!(client["redirect_uris"], json!([back]));
    drop(knobs);
    // The secret goes to the token endpoint alone, the token to the server alone.
    for seen in guarded.authority.seen() {
        let is_token = seen.target == "/token";
        assert_eq!(seen.header("Authorization").is_some(), is_token);
    }
    let status = run(&rig, &["auth", "status", "web"]);
    assert_eq!(status.lines[0]["in"], true);
    assert_eq!(status.lines[0]["scope"], "read");
    let out = run(&rig, &["auth", "logout", "web"]);
    assert_eq!((out.code, &out.lines[0]["was"]), (Some(0), &json!(true)));
    assert_eq!(run(&rig, &["auth", "logout", "web"]).code, Some(1));
    let shown = format!("{}{:?}", rig.stderr(), status);
    assert!(!shown.contains("canary"), "{shown}");
    rig.stop();
}

#[test]
fn the_command_catches_the_browser_itself_or_takes_what_is_pasted() {
    let (guarded, rig) = guarded_and_rig();
    let going = Going::start(&rig, &["web", "--loopback"]);
    let back = guarded.allow(&going.url);
    let rest = back.strip_prefix("http://127.0.0.1:").unwrap();
    let (port, target) = rest.split_once('/').unwrap();
    let mut browser = crate::support::http::Connection::open(port.parse().unwrap());
    let reply = browser.exchange(&Request::new("GET", &format!("/{target}")));
    assert_eq!(reply.status(), 200);
    assert_eq!(going.end(), Some(0));
    awaits(&rig, "web", "connected");
    let mut child = command(&rig, &["auth", "login", "web", "--paste"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let begun: Value = serde_json::from_str(&line).unwrap();
    let back = guarded.allow(begun["url"].as_str().unwrap());
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, format!("{back}\n").as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    rig.stop();
}

#[test]
fn tokens_are_renewed_before_their_end_and_never_twice() {
    let (guarded, rig) = guarded_and_rig();
    guarded.knobs().life_s = 5;
    log_in(&rig, &guarded, "web");
    awaits(&rig, "web", "connected");
    let refused = |guarded: &Guarded| {
        let seen = guarded.server.seen();
        let posts = seen.iter().filter(|seen| seen.target == "/mcp");
        posts
            .filter(|seen| seen.header("Authorization").is_none())
            .count()
    };
    let before = refused(&guarded);
    let mut session = rig.session();
    eventually("renewed twice", || {
        session.text("web_1mcp_t", json!({}));
        guarded.knobs().grants.get("refresh_token").copied() >= Some(2)
    });
    assert_eq!(refused(&guarded), before);
    // A refusal costs one renewal, and a call is carried out once.
    guarded.knobs().life_s = 3600;
    guarded.revoke_access();
    let calls = guarded.knobs().calls;
    assert_eq!(session.text("web_1mcp_t", json!({})), "done");
    assert_eq!(guarded.knobs().calls, calls + 1);
    rig.stop();
}

#[test]
fn a_revoked_login_is_asked_for_again_and_a_bad_moment_is_waited_out() {
    let (guarded, rig) = guarded_and_rig();
    log_in(&rig, &guarded, "web");
    awaits(&rig, "web", "connected");
    let mut session = rig.session();
    guarded.knobs().refuse_refresh = Some((503, "server_error"));
    guarded.revoke_access();
    let error = asked(&mut session);
    assert!(error.to_string().contains("new token"), "{error}");
    assert_eq!(run(&rig, &["auth", "status"]).lines[0]["in"], true);
    guarded.knobs().refuse_refresh = None;
    eventually("it goes on", || asked(&mut session)["result"].is_object());
    guarded.knobs().refuse_refresh = Some((400, "invalid_grant"));
    guarded.revoke_access();
    let error = asked(&mut session);
    assert!(error.to_string().contains("auth login web"), "{error}");
    awaits(&rig, "web", "awaiting_oauth");
    assert_eq!(run(&rig, &["auth", "status"]).lines[0]["in"], false);
    guarded.knobs().refuse_refresh = None;
    log_in(&rig, &guarded, "web");
    awaits(&rig, "web", "connected");
    assert_eq!(guarded.knobs().registered.len(), 1, "the client stays");
    rig.stop();
}

#[test]
fn missing_scopes_are_asked_for_together_and_not_for_ever() {
    let (guarded, rig) = guarded_and_rig();
    log_in(&rig, &guarded, "web");
    awaits(&rig, "web", "connected");
    guarded.knobs().tool_scope = "write".to_owned();
    let mut session = rig.session();
    let error = asked(&mut session);
    assert!(error.to_string().contains("more scopes"), "{error}");
    assert_eq!(
        state(&rig, "web"),
        "connected",
        "this call alone is concerned"
    );
    let going = Going::start(&rig, &["web"]);
    let fields = crate::support::oauth::form(going.url.split_once('?').unwrap().1);
    let mut words: Vec<&str> = fields["scope"].split(' ').collect();
    words.sort_unstable();
    assert_eq!(words, ["read", "write"]);
    come_back(&rig, &guarded.allow(&going.url));
    assert_eq!(going.end(), Some(0));
    assert_eq!(session.text("web_1mcp_t", json!({})), "done");
    // A server that is never content is not asked for ever.
    guarded.knobs().tool_scope = "more".to_owned();
    for _ in 0..2 {
        asked(&mut session);
        let going = Going::start(&rig, &["web"]);
        guarded.knobs().codes_lack("more");
        come_back(&rig, &guarded.allow(&going.url));
        assert_eq!(going.end(), Some(0));
    }
    asked(&mut session);
    let refused = run(&rig, &["auth", "login", "web"]);
    assert_eq!(refused.code, Some(77), "{refused:?}");
    rig.stop();
}

#[test]
fn tokens_outlive_the_gateway_sealed_in_the_state_folder() {
    let guarded = Guarded::start();
    let state_dir = std::env::temp_dir().join(format!("logins-{}", std::process::id()));
    std::fs::create_dir_all(&state_dir).unwrap();
    let key = "ab".repeat(32);
    let plan = || {
        Plan::new(json!({"web": guarded.server.entry()}))
            .args(&["--state-dir", state_dir.to_str().unwrap()])
            .env("ONE_MCP_SECRETS_KEY", &key)
    };
    let rig = plan().start_unready();
    awaits(&rig, "web", "awaiting_oauth");
    let words = ["web", "--state-dir", state_dir.to_str().unwrap()];
    let going = Going::start(&rig, &words);
    come_back(&rig, &guarded.allow(&going.url));
    assert_eq!(going.end(), Some(0));
    awaits(&rig, "web", "connected");
    rig.stop();
    assert!(
        !holds(&state_dir, b"canary"),
        "a token lies there in the clear"
    );
    let rig = plan().start();
    assert_eq!(state(&rig, "web"), "connected");
    rig.stop();
    // Another key does not open it, and writes nothing over it.
    let rig = plan()
        .env("ONE_MCP_SECRETS_KEY", &"cd".repeat(32))
        .start_unready();
    awaits(&rig, "web", "awaiting_oauth");
    rig.stop();
    let rig = plan().start();
    assert_eq!(state(&rig, "web"), "connected");
    rig.stop();
    std::fs::remove_dir_all(&state_dir).unwrap();
}

/// Calls the tool, and gives the whole answer.
fn asked(session: &mut Session) -> Value {
    session.ask("tools/call", json!({"name": "web_1mcp_t", "arguments": {}}))
}

fn holds(folder: &Path, what: &[u8]) -> bool {
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let mut texts = files.filter_map(|file| std::fs::read(file.path()).ok());
    texts.any(|text| text.windows(what.len()).any(|part| part == what))
}

#[test]
fn nothing_that_a_client_shows_us_goes_to_a_server_but_what_is_listed() {
    let guarded = Guarded::start();
    let mut entry = guarded.server.entry();
    entry["forwardHeaders"] = json!(["X-Tenant"]);
    entry["headerMap"] = json!({"X-User": "X-Acting-User"});
    let rig = start(json!({"web": entry}));
    awaits(&rig, "web", "awaiting_oauth");
    log_in(&rig, &guarded, "web");
    awaits(&rig, "web", "connected");
    let session = rig.session();
    let line = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call",
        "params": {"name": "web_1mcp_t", "arguments": {}}});
    let request = Request::post("/mcp", line.to_string())
        .with("Mcp-Session-Id", &session.id)
        .with("MCP-Protocol-Version", "2025-11-25")
        .with("Authorization", "Bearer inbound-bird")
        .with("Cookie", "a=inbound-bird")
        .with("Proxy-Authorization", "inbound-bird")
        .with("X-Api-Key", "inbound-bird")
        .with("X-Other", "inbound-bird")
        .with("X-Tenant", "t1")
        .with("X-User", "u1");
    assert_eq!(rig.connect().exchange(&request).status(), 200);
    let seen = guarded.server.seen();
    let call = seen
        .iter()
        .rfind(|seen| seen.what() == "tools/call")
        .unwrap();
    assert_eq!(call.header("X-Tenant"), Some("t1"));
    assert_eq!(call.header("X-Acting-User"), Some("u1"));
    assert_eq!(call.header("X-User"), None);
    assert!(!format!("{seen:?}").contains("inbound-bird"));
    rig.stop();
}

#[test]
fn the_gateway_gets_in_by_itself_with_client_credentials() {
    let guarded = Guarded::start();
    let key = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
               -----END PRIVATE KEY-----\n";
    let with = |oauth: Value| {
        let mut entry = guarded.server.entry();
        entry["oauth"] = oauth;
        entry["oauth"]["grant"] = "client_credentials".into();
        entry["oauth"]["clientId"] = "me".into();
        entry
    };
    let servers = json!({
        "secret": with(json!({"clientSecret": "s3cret-canary", "scopes": ["read"]})),
        "key": with(json!({"privateKey": key})),
        "neither": with(json!({})),
    });
    let rig = start(servers);
    awaits(&rig, "secret", "connected");
    awaits(&rig, "key", "connected");
    let seen = guarded.authority.seen();
    let tokens = seen.iter().filter(|seen| seen.target == "/token");
    let (signed, basic): (Vec<_>, Vec<_>) =
        tokens.partition(|seen| seen.text.contains("client_assertion="));
    assert!(
        basic[0]
            .header("Authorization")
            .unwrap()
            .starts_with("Basic ")
    );
    let fields = crate::support::oauth::form(&signed[0].text);
    assert_eq!(fields["client_assertion"].split('.').count(), 3);
    assert_eq!(fields["client_id"], "me");
    guarded.revoke_access();
    let calls = guarded.knobs().calls;
    let mut session = rig.session();
    assert_eq!(session.text("secret_1mcp_t", json!({})), "done");
    assert_eq!(guarded.knobs().calls, calls + 1);
    let error = rig.server("neither")["lastError"].to_string();
    assert!(error.contains("clientSecret"), "{error}");
    assert_eq!(run(&rig, &["auth", "login", "key"]).code, Some(77));
    rig.stop();
}

#[test]
fn an_answer_is_good_once_for_its_login_and_from_its_issuer() {
    let (guarded, rig) = guarded_and_rig();
    guarded.knobs().metadata = json!({"authorization_response_iss_parameter_supported": true});
    let bad = |change: &dyn Fn(&str) -> String| {
        let going = Going::start(&rig, &["web"]);
        let back = guarded.allow(&going.url);
        let reply = come_back(&rig, &change(&back));
        assert_eq!(reply.status(), 400, "{back}");
        // The login is over whatever was wrong with its answer, unless it was no answer to it.
        (back, going)
    };
    let without = |name: &str| {
        let name = format!("{name}=");
        move |url: &str| {
            let (place, query) = url.split_once('?').unwrap();
            let fields = query.split('&').filter(|field| !field.starts_with(&name));
            format!("{place}?{}", fields.collect::<Vec<_>>().join("&"))
        }
    };
    for change in [
        &(|url: &str| format!("{url}x")) as &dyn Fn(&str) -> String,
        &without("iss"),
        &|url| url.replace("code=", "error=access_denied&x="),
        &|url| format!("{url}&code=other"),
    ] {
        let (back, going) = bad(change);
        let is_over = !change(&back).ends_with("&code=other");
        if is_over {
            assert_eq!(going.end(), Some(77));
            assert_eq!(come_back(&rig, &back).status(), 400, "used: {back}");
        } else {
            assert_eq!(come_back(&rig, &back).status(), 200, "{back}");
            assert_eq!(going.end(), Some(0));
            assert_eq!(come_back(&rig, &back).status(), 400, "used: {back}");
        }
    }
    let (_, going) = bad(&|url| url.replace("state=", "state=0"));
    drop(going.out);
    let mut child = going.child;
    child.kill().unwrap();
    child.wait().unwrap();
    let reply = rig.get("/oauth/callback/web");
    assert_eq!(reply.status(), 400);
    assert_eq!(
        rig.get("/oauth/callback/nobody?state=x&code=y").status(),
        400
    );
    rig.stop();
}

#[test]
fn what_was_registered_at_one_authorization_server_is_not_shown_to_another() {
    let (guarded, rig) = guarded_and_rig();
    log_in(&rig, &guarded, "web");
    awaits(&rig, "web", "connected");
    let other = Guarded::start();
    let url = other.authority.url("");
    guarded.knobs().resource = json!({"authorization_servers": [url]});
    guarded.knobs().refuse_refresh = Some((400, "invalid_grant"));
    guarded.revoke_access();
    awaits_login(&rig);
    let going = Going::start(&rig, &["web"]);
    assert!(going.url.starts_with(&url), "{}", going.url);
    assert_eq!(other.knobs().registered.len(), 1);
    let id = guarded.knobs().registered[0]["client_id"].clone();
    let seen = format!("{:?}{}", other.authority.seen(), going.url);
    assert!(!seen.contains(id.as_str().unwrap()), "{seen}");
    let mut child = going.child;
    child.kill().unwrap();
    child.wait().unwrap();
    rig.stop();
}

/// Until the next request has found out that the login is over.
fn awaits_login(rig: &Rig) {
    let mut session = rig.session();
    asked(&mut session);
    awaits(rig, "web", "awaiting_oauth");
}

/// What a server or its authorization server says, and a word of the refusal.
fn hostile(trap: &str) -> Vec<(&'static str, Value, Value, &'static str)> {
    let none = || json!({});
    let server = |value: Value| (value, none());
    let authority = |value: Value| (none(), value);
    let rows = [
        (
            "other",
            server(json!({"resource": "https://other.example/mcp"})),
            "another resource",
        ),
        (
            "deeper",
            server(json!({"resource": "@server/mcp/x"})),
            "another resource",
        ),
        (
            "prefix",
            server(json!({"resource": "@server/mc"})),
            "another resource",
        ),
        (
            "nothing",
            server(json!({"resource": null})),
            "which resource",
        ),
        (
            "script-resource",
            server(json!({"resource": "javascript:alert(1)"})),
            "another",
        ),
        (
            "no-as",
            server(json!({"authorization_servers": []})),
            "no authorization server",
        ),
        (
            "as-number",
            server(json!({"authorization_servers": [7]})),
            "no authorization",
        ),
        (
            "as-script",
            server(json!({"authorization_servers": ["javascript:x"]})),
            "URL",
        ),
        (
            "as-file",
            server(json!({"authorization_servers": ["file:///etc"]})),
            "scheme",
        ),
        (
            "as-plain",
            server(json!({"authorization_servers": ["http://as.example"]})),
            "https",
        ),
        (
            "as-meta",
            server(json!({"authorization_servers": ["https://169.254.169.254"]})),
            "link",
        ),
        (
            "as-inside",
            server(json!({"authorization_servers": ["https://10.0.0.1"]})),
            "private",
        ),
        (
            "as-user",
            server(json!({"authorization_servers": ["https://a@b.example"]})),
            "user",
        ),
        (
            "as-query",
            server(json!({"authorization_servers": ["@authority/?x=1"]})),
            "query",
        ),
        (
            "as-hash",
            server(json!({"authorization_servers": ["@authority/#x"]})),
            "cannot be used",
        ),
        (
            "issuer",
            authority(json!({"issuer": "https://good.example"})),
            "another one",
        ),
        (
            "issuer-slash",
            authority(json!({"issuer": "@authority/"})),
            "another one",
        ),
        (
            "issuer-none",
            authority(json!({"issuer": null})),
            "another one",
        ),
        (
            "no-pkce",
            authority(json!({"code_challenge_methods_supported": null})),
            "PKCE",
        ),
        (
            "plain-pkce",
            authority(json!({"code_challenge_methods_supported": ["plain"]})),
            "PKCE",
        ),
        (
            "script",
            authority(json!({"authorization_endpoint": "javascript:alert(1)"})),
            "URL",
        ),
        (
            "data",
            authority(json!({"authorization_endpoint": "data:text/html,x"})),
            "URL",
        ),
        (
            "auth-file",
            authority(json!({"authorization_endpoint": "file:///x"})),
            "scheme",
        ),
        (
            "auth-lines",
            authority(json!({"authorization_endpoint": "https://a/\n\u{1b}[2J"})),
            "ch",
        ),
        (
            "auth-none",
            authority(json!({"authorization_endpoint": null})),
            "authorization_endpoint",
        ),
        (
            "token-none",
            authority(json!({"token_endpoint": null})),
            "no token_endpoint",
        ),
        (
            "token-meta",
            authority(json!({"token_endpoint": "http://169.254.169.254/"})),
            "token",
        ),
        (
            "token-out",
            authority(json!({"token_endpoint": "http://evil.example/"})),
            "https",
        ),
        (
            "token-in",
            authority(json!({"token_endpoint": "https://192.168.0.1/"})),
            "private",
        ),
        (
            "register-in",
            authority(json!({"registration_endpoint": "https://[::1]/"})),
            "refused",
        ),
        (
            "register-none",
            authority(json!({"registration_endpoint": null})),
            "clientId",
        ),
        (
            "trap",
            server(json!({"authorization_servers": [trap]})),
            "redirects",
        ),
    ];
    let rows = rows.into_iter();
    rows.map(|(name, (server, authority), word)| (name, server, authority, word))
        .collect()
}

#[test]
fn hostile_descriptions_lead_nowhere() {
    // Whoever is redirected comes here.
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let at = canary.local_addr().unwrap();
    let location = format!("Location: http://{at}/\r\n");
    let trap = crate::support::remote::Script::start(move |_, wire| {
        wire.reply(302, &location, "");
        true
    });
    let rows = hostile(&trap.url(""));
    let mut servers = json!({});
    let mut all = Vec::new();
    for (name, resource, metadata, word) in rows {
        let guarded = Guarded::start();
        let place = |value: Value| -> Value {
            let text = value.to_string();
            let text = text.replace("@server", &guarded.server.url(""));
            let text = text.replace("@authority", &guarded.authority.url(""));
            serde_json::from_str(&text).unwrap()
        };
        guarded.knobs().resource = place(resource);
        guarded.knobs().metadata = place(metadata);
        servers[name] = guarded.server.entry();
        all.push((name, guarded, word));
    }
    for (name, text) in [
        ("html", "<!doctype html><p>hello</p>".to_owned()),
        ("twice", "{\"issuer\":\"a\",\"issuer\":\"b\"}".to_owned()),
        ("huge", format!("{{\"x\":\"{}\"}}", "x".repeat(100_000))),
        ("deep", "[".repeat(10_000)),
        ("array", "[]".to_owned()),
    ] {
        let guarded = Guarded::start();
        guarded.knobs().raw_metadata = text;
        servers[name] = guarded.server.entry();
        all.push((name, guarded, ""));
    }
    let rig = start(servers);
    for (name, guarded, word) in &all {
        awaits(&rig, name, "awaiting_oauth");
        let refused = run(&rig, &["auth", "login", name]);
        assert_eq!(refused.code, Some(77), "{name}: {refused:?}");
        let said = format!("{refused:?}");
        assert!(said.contains(word), "{name}: {said}");
        assert!(!said.contains('\u{1b}'), "{name}: {said}");
        let asked = guarded.authority.seen();
        assert!(!asked.iter().any(|seen| seen.target == "/token"), "{name}");
    }
    assert!(canary.accept().is_err(), "a redirect was followed");
    rig.stop();
}

/// A client that shows a token of ours for `subject`.
fn session_as(rig: &Rig, mint: &Mint, subject: &str) -> (String, String) {
    let token = mint.token("tag:*", json!({"sub": subject}));
    let hello = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let hello = hello.with("Authorization", &format!("Bearer {token}"));
    let reply = rig.connect().exchange(&hello);
    assert_eq!(reply.status(), 200, "{reply:?}");
    let id = reply.head.header("Mcp-Session-Id").unwrap().to_owned();
    (token, id)
}

fn call_as(rig: &Rig, (token, id): &(String, String)) -> Value {
    let line = tool_call(&json!(7), "web_1mcp_t", &json!({}));
    let call = Request::post("/mcp", line)
        .with("Authorization", &format!("Bearer {token}"))
        .with("Mcp-Session-Id", id)
        .with("MCP-Protocol-Version", "2025-11-25");
    let reply = rig.connect().exchange(&call);
    reply.messages().pop().unwrap()
}

#[test]
fn each_principal_is_somebody_else_at_the_server() {
    let guarded = Guarded::start();
    let mut entry = guarded.server.entry();
    entry["oauth"] = json!({"tokens": "principal"});
    let mint = Mint::new(31);
    let keys = std::env::temp_dir().join(format!("upstream-oauth-keys-{}", std::process::id()));
    mint.write(&keys);
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rig = Plan::new(json!({"web": entry}))
        .args(&["--enable-auth", "--external-url", ISSUER])
        .args(&["--auth-keys", keys.to_str().unwrap()])
        .start_unready();
    awaits(&rig, "web", "awaiting_oauth");
    // For its lists the gateway is somebody, too.
    let login = |words: &[&str]| {
        let going = Going::start(&rig, &[&["web", "--loopback"], words].concat());
        let back = guarded.allow(&going.url);
        let rest = back.strip_prefix("http://127.0.0.1:").unwrap();
        let (port, target) = rest.split_once('/').unwrap();
        let mut browser = crate::support::http::Connection::open(port.parse().unwrap());
        browser.exchange(&Request::new("GET", &format!("/{target}")));
        assert_eq!(going.end(), Some(0));
    };
    login(&[]);
    awaits(&rig, "web", "connected");
    let (ann, bob) = (
        session_as(&rig, &mint, "ann"),
        session_as(&rig, &mint, "bob"),
    );
    let refused = call_as(&rig, &ann).to_string();
    assert!(refused.contains("wants a login"), "{refused}");
    let name = refused.split("--principal '").nth(1).unwrap();
    let name = name.split('\'').next().unwrap().replace("\\\"", "\"");
    assert!(name.contains("ann"), "{name}");
    login(&["--principal", &name]);
    eventually("ann is in", || call_as(&rig, &ann)["result"].is_object());
    let refused = call_as(&rig, &bob).to_string();
    assert!(refused.contains("wants a login") && refused.contains("bob"));
    login(&["--principal", &name.replace("ann", "bob")]);
    eventually("bob is in", || call_as(&rig, &bob)["result"].is_object());
    assert!(call_as(&rig, &ann)["result"].is_object());
    let seen = guarded.server.seen();
    let calls = seen.iter().filter(|seen| seen.what() == "tools/call");
    let tokens: Vec<&str> = calls
        .filter_map(|seen| seen.header("Authorization"))
        .collect();
    let [.., bobs, anns] = tokens.as_slice() else {
        panic!("{tokens:?}");
    };
    assert_ne!(bobs, anns);
    let lists = seen
        .iter()
        .find(|seen| seen.what() == "tools/list" && seen.header("Authorization").is_some());
    let lists = lists.unwrap().header("Authorization").unwrap();
    assert!(
        lists != *bobs && lists != *anns,
        "the gateway's own is for lists"
    );
    assert_eq!(run(&rig, &["auth", "status", "web"]).lines.len(), 3);
    let out = run(&rig, &["auth", "logout", "web", "--principal", &name]);
    assert_eq!(out.code, Some(0), "{out:?}");
    std::fs::remove_file(&keys).unwrap();
    rig.stop();
}
