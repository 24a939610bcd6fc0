//! Who may come in, through the real program: what forged and strange tokens are answered, keys of
//! other issuers and their trouble, API keys, and the files that all of it is kept in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{Connection, Reply, Request};
use crate::support::idp::Idp;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{demo, gateway_binary, with};
use crate::support::session::initialize;
use crate::support::token::{ISSUER, Mint, base64, now_s};
use crate::support::{PATIENCE, eventually};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tokens-{name}"))
}

fn private(path: &PathBuf) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A gateway that asks for tokens and takes those of `mint`.
fn plan(name: &str, mint: &Mint) -> Plan {
    let keys = file(&format!("{name}-keys.json"));
    mint.write(&keys);
    private(&keys);
    let api_keys = file(&format!("{name}-api-keys.json"));
    let _ = fs::remove_file(&api_keys);
    Plan::new(json!({"clock": with(demo("clock"), json!({"tags": ["web"]}))}))
        .args(&["--enable-auth", "--external-url", ISSUER])
        .args(&["--auth-keys", keys.to_str().unwrap()])
        .args(&["--auth-api-key-file", api_keys.to_str().unwrap()])
}

fn hello(token: &str) -> Request {
    let request = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    request.with("Authorization", &format!("Bearer {token}"))
}

fn ask(rig: &Rig, request: &Request) -> Reply {
    rig.connect().exchange(request)
}

/// Everything that who asks can see of an answer.
fn face(reply: &Reply) -> String {
    let headers = ["Content-Type", "WWW-Authenticate", "Cache-Control", "Vary"];
    let headers = headers.map(|name| reply.head.header(name).unwrap_or("-").to_owned());
    format!("{} {headers:?} {}", reply.status(), reply.text)
}

fn bad_token(path: &str) -> String {
    format!(
        "401 [\"application/json\", \"Bearer error=\\\"invalid_token\\\", \
         error_description=\\\"the token is not good\\\", \
         resource_metadata=\\\"{ISSUER}/.well-known/oauth-protected-resource{path}\\\"\", \
         \"no-store\", \"-\"] {{\"error\":\"invalid_token\",\
         \"error_description\":\"the token is not good\"}}"
    )
}

#[test]
fn bad_tokens_are_answered_alike_on_every_way_in() {
    let mint = Mint::new(21);
    let rig = plan("alike", &mint).start();
    let good = mint.token("tag:web", json!({}));
    assert_eq!(ask(&rig, &hello(&good)).status(), 200);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let unsigned = base64(br#"{"alg":"none"}"#);
    let hs256 = base64(br#"{"alg":"HS256","typ":"at+jwt","kid":"test"}"#);
    let stranger = Mint::new(22).token("tag:web", json!({}));
    let with = |other: Value| mint.token("tag:web", other);
    let bad = [
        "abc".to_owned(),
        "a.b.c".into(),
        format!("omk_{}", "A".repeat(43)),
        format!("{unsigned}.{claims}."),
        format!("{hs256}.{claims}.{signature}"),
        format!("{header}.{}.{signature}", base64(b"{}")),
        format!("{signed}."),
        stranger,
        with(json!({"exp": now_s() - 1})),
        with(json!({"exp": now_s() + 600, "iat": now_s() + 900})),
        with(json!({"aud": "https://elsewhere.example/mcp"})),
        with(json!({"aud": format!("{ISSUER}/mcp/other")})),
        with(json!({"aud": format!("{ISSUER}.evil/mcp")})),
        with(json!({"iss": "https://elsewhere.example"})),
        with(json!({"iss": format!("{ISSUER}/")})),
        with(json!({"sub": 1})),
        "x".repeat(9000),
    ];
    let ways = [
        ("POST", "/mcp"),
        ("GET", "/mcp"),
        ("DELETE", "/mcp"),
        ("POST", "/mcp/clock"),
        ("POST", "/mcp/no-such-server"),
        ("GET", "/sse"),
        ("POST", "/messages?sessionId=x"),
    ];
    for (method, target) in ways {
        let path = target.split('?').next().unwrap();
        let path = if path == "/messages" { "/sse" } else { path };
        for token in &bad {
            let request = match method {
                "POST" => Request::post(target, initialize("2025-11-25", &json!({}))),
                "GET" => Request::listen(target),
                _ => Request::new(method, target),
            };
            let request = request.with("Authorization", &format!("Bearer {token}"));
            let reply = ask(&rig, &request);
            let token: String = token.chars().take(60).collect();
            assert_eq!(face(&reply), bad_token(path), "{method} {target} {token}");
        }
    }
    rig.stop();
}

#[test]
fn what_is_no_proper_request_for_anything_is_told_so() {
    let mint = Mint::new(23);
    let rig = plan("improper", &mint).start();
    let good = mint.token("tag:web", json!({}));
    let plain = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let none = ask(&rig, &plain);
    let challenge = none.head.header("WWW-Authenticate").unwrap().to_owned();
    assert_eq!(none.status(), 401);
    assert!(!challenge.contains("error"), "{challenge}");
    assert!(challenge.contains("resource_metadata=\""), "{challenge}");
    let filtered = Request::post("/mcp?tags=web", initialize("2025-11-25", &json!({})));
    let challenge = ask(&rig, &filtered);
    let challenge = challenge
        .head
        .header("WWW-Authenticate")
        .unwrap()
        .to_owned();
    assert!(challenge.contains("scope=\"tag:web\""), "{challenge}");
    let bearer = format!("Bearer {good}");
    let in_query = format!("/mcp?access_token={good}");
    let rows = [
        Request::post(&in_query, ""),
        Request::listen(&in_query),
        Request::new("DELETE", &in_query).with("Authorization", &bearer),
        Request::post("/mcp?access%5ftoken=x", "").with("Authorization", &bearer),
        Request::post("/mcp", "").with("Authorization", "Bearer"),
        Request::post("/mcp", "").with("Authorization", &format!("{bearer},{bearer}")),
        Request::post("/mcp", "").with("Authorization", &format!("{bearer} x")),
        // A value that brings a second header with it.
        Request::post("/mcp", "").with(
            "Authorization",
            &format!("{bearer}\r\nAuthorization: {bearer}"),
        ),
    ];
    for request in rows {
        let reply = ask(&rig, &request);
        assert_eq!(reply.status(), 400, "{}", reply.text);
        assert_eq!(reply.json()["error"], "invalid_request");
        assert!(!reply.text.contains(&good));
    }
    rig.stop();
}

#[test]
fn where_to_get_a_token_is_told_to_everybody() {
    let mint = Mint::new(24);
    let idp = Idp::start();
    let rig = plan("metadata", &mint)
        .set(
            "auth",
            json!({"issuers": [{"issuer": idp.url()}], "baselineScopes": "tag:web"}),
        )
        .start();
    let well_known = "/.well-known/oauth-protected-resource";
    for (path, resource) in [
        ("", "/mcp"),
        ("/mcp", "/mcp"),
        ("/sse", "/sse"),
        ("/mcp/clock", "/mcp/clock"),
        ("/mcp/no-such-server", "/mcp/no-such-server"),
    ] {
        let request = Request::new("GET", &format!("{well_known}{path}"));
        let reply = ask(&rig, &request.with("Origin", "https://app.example"));
        assert_eq!(reply.status(), 200, "{path}");
        assert_eq!(reply.head.header("Access-Control-Allow-Origin"), Some("*"));
        let cache = reply.head.header("Cache-Control");
        assert_eq!(cache, Some("public, max-age=300"));
        let body = reply.json();
        assert_eq!(body["resource"], format!("{ISSUER}{resource}"));
        assert_eq!(body["authorization_servers"], json!([ISSUER, idp.url()]));
        assert_eq!(body["scopes_supported"], json!(["tag:web"]));
    }
    let jwks = rig.get("/.well-known/jwks.json").json();
    assert_eq!(jwks["keys"][0]["kid"], "test");
    assert!(jwks["keys"][0].get("d").is_none());
    let host = Request::new("GET", well_known).with("Host", "evil.example");
    assert_eq!(ask(&rig, &host).status(), 403);
    rig.stop();
}

fn with_issuer(name: &str, issuer: Value) -> Rig {
    let plan = plan(name, &Mint::new(25));
    plan.set("auth", json!({"issuers": [issuer]})).start()
}

#[test]
fn keys_of_another_issuer_are_found_and_may_change() {
    let idp = Idp::start();
    let rig = with_issuer("rotation", json!({"issuer": idp.url()}));
    let status = |kid: &str, seed: u8, other: Value| {
        ask(&rig, &hello(&idp.token(kid, seed, &other))).status()
    };
    assert_eq!(idp.count("/keys"), 0, "asked before anybody needs it");
    assert_eq!(status("k1", 1, json!({})), 200);
    assert_eq!(status("k1", 2, json!({"jti": "forged"})), 401);
    assert_eq!(status("k1", 1, json!({"aud": "app"})), 401);
    // Names that nobody knows do not become requests to the issuer.
    for number in 0..50 {
        assert_eq!(status(&format!("unknown{number}"), 1, json!({})), 401);
    }
    assert_eq!(idp.count("/keys"), 1);
    // Known tokens are good while the issuer is away.
    idp.state().is_broken = true;
    assert_eq!(status("k1", 1, json!({"jti": "away"})), 200);
    rig.stop();
}

#[test]
fn an_issuer_in_trouble_lets_nobody_in_and_holds_nobody_up() {
    let elsewhere = Idp::start();
    type Trouble = fn(&Idp, &Idp);
    let trouble: [(&str, Trouble); 6] = [
        ("broken", |idp, _| idp.state().is_broken = true),
        ("slow", |idp, _| idp.state().is_slow = true),
        ("other-name", |idp, _| {
            idp.state().says_issuer = Some("https://evil.example".into());
        }),
        ("trailing-slash", |idp, _| {
            let slash = Some(format!("{}/", idp.url()));
            idp.state().says_issuer = slash;
        }),
        ("keys-elsewhere", |idp, other| {
            let keys = Some(format!("{}/keys", other.url()));
            idp.state().says_keys = keys;
        }),
        ("keys-of-metadata", |idp, _| {
            idp.state().says_keys = Some("http://169.254.169.254/keys".into());
        }),
    ];
    for (name, break_it) in trouble {
        let idp = Idp::start();
        break_it(&idp, &elsewhere);
        let rig = with_issuer(name, json!({"issuer": idp.url()}));
        let began = Instant::now();
        let reply = ask(&rig, &hello(&idp.token("k1", 1, &json!({}))));
        assert_eq!(face(&reply), bad_token("/mcp"), "{name}");
        assert!(began.elapsed() < Duration::from_secs(15), "{name}");
        let again = Instant::now();
        let reply = ask(&rig, &hello(&idp.token("k1", 1, &json!({"jti": "2"}))));
        assert_eq!(reply.status(), 401, "{name}");
        assert!(
            again.elapsed() < Duration::from_secs(2),
            "{name}: asked at once again"
        );
        let good = Mint::new(25).token("tag:web", json!({}));
        assert_eq!(ask(&rig, &hello(&good)).status(), 200, "{name}");
        rig.stop();
    }
    assert_eq!(elsewhere.count("/keys"), 0);
}

fn key_command(name: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let api_keys = file(&format!("{name}-api-keys.json"));
    let output = Command::new(gateway_binary())
        .env_clear()
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .arg("key")
        .args(words)
        .args(["--auth-api-key-file", api_keys.to_str().unwrap()])
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn an_api_key_is_made_used_and_taken_back() {
    let rig = plan("api", &Mint::new(26)).start();
    let (code, out, err) = key_command("api", &["create", "ci", "--scopes", "tag:web"]);
    assert_eq!(code, Some(0), "{err}");
    let key = out.trim().to_owned();
    assert!(key.starts_with("omk_") && key.len() == 47 && !err.contains(&key));
    eventually("the key opens", || ask(&rig, &hello(&key)).status() == 200);
    let place = file("api-api-keys.json");
    let mode = fs::metadata(&place).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!fs::read_to_string(&place).unwrap().contains(&key[4..]));
    let (_, listed, _) = key_command("api", &["list", "--json"]);
    let row: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&row["name"], &row["scopes"]),
        (&json!("ci"), &json!("tag:web"))
    );
    assert!(!listed.contains("sha256") && !listed.contains(&key[4..]));
    for (words, code) in [
        (&["create", "ci", "--scopes", "tag:web"][..], 1),
        (&["create", "x y", "--scopes", "tag:web"], 64),
        (&["create", "x", "--scopes", "everything"], 64),
        (&["create", "x", "--scopes", ""], 64),
        (&["create", "x"], 64),
        (
            &["create", "x", "--scopes", "tag:a", "--expires", "soon"],
            64,
        ),
        (&["revoke", "nobody"], 1),
        (&["list", "--scopes", "tag:a"], 64),
        (&["frobnicate"], 64),
    ] {
        assert_eq!(key_command("api", words).0, Some(code), "{words:?}");
    }
    // What is open by the key ends with it.
    let listen = Request::listen("/sse").with("Authorization", &format!("Bearer {key}"));
    let mut stream = rig.connect().stream(&listen);
    assert_eq!(stream.head.status, 200);
    let first = stream.event(PATIENCE).unwrap();
    assert_eq!(first.name.as_deref(), Some("endpoint"));
    assert_eq!(key_command("api", &["revoke", "ci"]).0, Some(0));
    eventually("the key opens no more", || {
        face(&ask(&rig, &hello(&key))) == bad_token("/mcp")
    });
    eventually("its stream has ended", || stream.is_over());
    assert!(!rig.stderr().contains(&key[4..]));
    rig.stop();
}

#[test]
fn keys_of_ours_change_without_a_restart() {
    let (old, new) = (Mint::new(27), Mint::new(28));
    let rig = plan("own", &old).start();
    let status = |mint: &Mint| ask(&rig, &hello(&mint.token("tag:web", json!({})))).status();
    assert_eq!((status(&old), status(&new)), (200, 401));
    let keys = file("own-keys.json");
    fs::write(&keys, "half a fi").unwrap();
    assert_eq!(status(&old), 200);
    new.write(&keys);
    eventually("the new key counts", || status(&new) == 200);
    assert_eq!(status(&old), 401);
    rig.stop();
}

#[test]
fn keys_that_others_may_read_or_nobody_can_are_refused() {
    let mint = Mint::new(29);
    let keys = file("refused-keys.json");
    let start = |text: Option<&str>, mode: u32| {
        let plan = plan("refused", &mint);
        if let Some(text) = text {
            fs::write(&keys, text).unwrap();
        }
        fs::set_permissions(&keys, fs::Permissions::from_mode(mode)).unwrap();
        plan.refused()
    };
    let rsa = include_str!("../../fixtures/tokens/rsa.pem");
    for (text, mode, expect) in [
        (None, 0o644, "chmod o="),
        (None, 0o606, "chmod o="),
        (Some("{}"), 0o600, "write a private key"),
        (Some("{\"keys\":[]}"), 0o600, "find a key"),
        (Some(rsa), 0o600, "write a private key"),
    ] {
        let (code, err) = start(text, mode);
        assert_eq!(code, Some(78), "{err}");
        assert!(
            err.contains(expect) && err.contains("refused-keys.json"),
            "{err}"
        );
    }
    let missing = Plan::new(json!({})).args(&["--enable-auth", "--auth-keys", "/no/such/keys"]);
    assert_eq!(missing.refused().0, Some(78));
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let mint = Mint::new(30);
    let rig = plan("pace", &mint)
        .args(&["--auth-rate-limit", "6"])
        .start();
    let (one, other) = (
        mint.token("tag:web", json!({"sub": "one"})),
        mint.token("tag:web", json!({"sub": "other"})),
    );
    let replies: Vec<Reply> = (0..8).map(|_| ask(&rig, &hello(&one))).collect();
    let statuses: Vec<u16> = replies.iter().map(Reply::status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429, 429]);
    let wait = replies[7].head.header("Retry-After").unwrap();
    assert!((1..=10).contains(&wait.parse::<u64>().unwrap()), "{wait}");
    assert_eq!(ask(&rig, &hello(&other)).status(), 200);
    // Whoever listens asks, too.
    for path in ["/mcp", "/sse", "/mcp?tags=other"] {
        let listen = Request::new("GET", path)
            .with("Accept", "text/event-stream")
            .with("Authorization", &format!("Bearer {one}"));
        assert_eq!(ask(&rig, &listen).status(), 429, "{path}");
    }
    rig.stop();
}

/// Without a key set of its own a gateway makes one, keeps it, and is the same after a restart.
#[test]
fn a_key_is_made_where_none_is() {
    let state = file("state");
    let _ = fs::remove_dir_all(&state);
    let start = || {
        let plan = Plan::new(json!({})).args(&["--auth", "--external-url", ISSUER]);
        plan.args(&["--state-dir", state.to_str().unwrap()]).start()
    };
    let rig = start();
    let first = rig.get("/.well-known/jwks.json").text;
    rig.stop();
    let rig = start();
    assert_eq!(rig.get("/.well-known/jwks.json").text, first);
    assert_eq!(ask(&rig, &hello("x")).status(), 401);
    rig.stop();
    let mode = fs::metadata(state.join("signing-keys.json")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_a_connection_once_was_let_in_for_counts_for_nothing() {
    let mint = Mint::new(31);
    let rig = plan("connection", &mint).start();
    let mut connection: Connection = rig.connect();
    let good = mint.token("tag:web", json!({}));
    assert_eq!(connection.exchange(&hello(&good)).status(), 200);
    let plain = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    assert_eq!(connection.exchange(&plain).status(), 401);
    let forged = format!("{}A", &good[..good.len() - 1]);
    let status = connection.exchange(&hello(&forged)).status();
    assert!(status == 401 || forged == good);
    rig.stop();
}

#[test]
fn commands_show_a_key_that_is_in_a_variable() {
    let mint = Mint::new(7);
    let rig = plan("commands", &mint).start();
    let token = mint.token("tag:*", json!({}));
    let run = |key: &str| {
        let url = format!("http://127.0.0.1:{}", rig.port);
        let output = Command::new(gateway_binary())
            .args(["list", "--url", &url])
            .args(["--header", "Authorization: Bearer ${KEY}"])
            .env("KEY", key)
            .output()
            .unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), listed)
    };
    assert_eq!(run("wrong").0, Some(77));
    let (code, listed) = run(&token);
    assert_eq!(code, Some(0), "{listed}");
    assert!(!listed.is_empty());
}
