//! The authorization server through the real program: where it says what it can, who gets tokens
//! and who does not, each with its exact answer, and what is left of it in files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use serde_json::{Value, json};

use crate::support::browser::{Browser, encoded, hidden, parameter, register};
use crate::support::eventually;
use crate::support::http::{Reply, Request};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{demo, with};
use crate::support::session::initialize;

const SECRET: &str = "canary-of-the-robot";

/// A gateway with a machine among its clients, and a person's program.
pub(crate) fn plan() -> Plan {
    plan_of(json!({"clock": with(demo("clock"), json!({"tags": ["web"]}))}))
}

fn plan_of(servers: Value) -> Plan {
    let clients = json!({
        "robot": {"secret": "${ROBOT_SECRET}", "scopes": "tag:web", "machine": true},
        "app": {"redirectUris": ["https://app.example/cb"], "name": "An app"},
    });
    Plan::new(servers)
        .args(&["--enable-auth", "--rate-limit-max", "1000"])
        .set(
            "auth",
            json!({"clients": clients, "baselineScopes": "tag:web"}),
        )
        .env("ROBOT_SECRET", SECRET)
}

fn ask(rig: &Rig, request: &Request) -> Reply {
    rig.connect().exchange(request)
}

pub(crate) fn post(rig: &Rig, path: &str, body: &str) -> Reply {
    let kind = match path {
        "/register" => "application/json",
        _ => "application/x-www-form-urlencoded",
    };
    ask(rig, &Request::post(path, body).with("Content-Type", kind))
}

/// Everything that tells one refusal from another.
pub(crate) fn face(reply: &Reply) -> String {
    let headers = [
        "Content-Type",
        "Cache-Control",
        "WWW-Authenticate",
        "Location",
    ];
    let headers = headers.map(|name| reply.head.header(name).unwrap_or("-").to_owned());
    format!("{} {headers:?} {}", reply.status(), reply.text)
}

pub(crate) fn refusal(status: u16, error: &str, what: &str) -> String {
    format!(
        "{status} [\"application/json\", \"no-store\", \"-\", \"-\"] \
         {{\"error\":\"{error}\",\"error_description\":\"{what}\"}}"
    )
}

const UNKNOWN: &str = "the client is not known here, or did not show its secret";
pub(crate) const GRANT: &str = "the grant is not known, over, used, or was given to another client";

#[test]
fn it_says_what_it_can_wherever_it_is_looked_for() {
    let rig = plan().start();
    let home = format!("http://127.0.0.1:{}", rig.port);
    let at = |path: &str| ask(&rig, &Request::new("GET", path));
    let first = at("/.well-known/oauth-authorization-server");
    assert_eq!(first.status(), 200);
    assert_eq!(first.head.header("Access-Control-Allow-Origin"), Some("*"));
    let document = first.json();
    assert_eq!(document["issuer"], home);
    assert_eq!(document["token_endpoint"], format!("{home}/token"));
    assert_eq!(document["scopes_supported"], json!(["tag:web"]));
    assert_eq!(
        document["code_challenge_methods_supported"],
        json!(["S256"])
    );
    assert_eq!(
        document["authorization_response_iss_parameter_supported"],
        true
    );
    // Open on a loopback address.
    assert_eq!(
        document["registration_endpoint"],
        format!("{home}/register")
    );
    for path in [
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/openid-configuration",
    ] {
        assert_eq!(at(path).text, first.text, "{path}");
    }
    let resource = at("/.well-known/oauth-protected-resource/mcp").json();
    assert_eq!(resource["authorization_servers"], json!([home]));
    let keys = at("/.well-known/jwks.json").json();
    assert!(keys["keys"][0]["kid"].is_string() && keys["keys"][0].get("d").is_none());
    for (method, path) in [
        ("POST", "/.well-known/oauth-authorization-server"),
        ("GET", "/token"),
        ("GET", "/register"),
        ("GET", "/revoke"),
        ("DELETE", "/token"),
        ("PUT", "/register"),
    ] {
        let reply = ask(&rig, &Request::new(method, path));
        assert_eq!(reply.status(), 405, "{method} {path}");
        assert!(reply.head.header("Allow").is_some());
    }
    rig.stop();
}

#[test]
fn a_machine_gets_a_token_uses_it_and_gives_it_back() {
    let rig = plan().start();
    let form = format!("grant_type=client_credentials&client_id=robot&client_secret={SECRET}");
    let told = post(&rig, "/token", &form);
    assert_eq!(
        (told.status(), told.head.header("Cache-Control")),
        (200, Some("no-store"))
    );
    let body = told.json();
    assert_eq!(
        (&body["token_type"], &body["scope"]),
        (&json!("Bearer"), &json!("tag:web"))
    );
    assert_eq!(body["expires_in"], 3600);
    let token = body["access_token"].as_str().unwrap();
    let hello = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let hello = hello.with("Authorization", &format!("Bearer {token}"));
    assert_eq!(ask(&rig, &hello).status(), 200);
    let back = format!("token={token}&client_id=robot&client_secret={SECRET}");
    let given = post(&rig, "/revoke", &back);
    assert_eq!((given.status(), given.text.as_str()), (200, ""));
    let over = ask(&rig, &hello);
    assert_eq!(over.status(), 401);
    let challenge = over.head.header("WWW-Authenticate").unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    rig.stop();
}

#[test]
fn what_is_refused_at_the_token_endpoint() {
    let rig = plan().start();
    let code = "grant_type=authorization_code&code=x&code_verifier=y&redirect_uri=z";
    let robot = format!("client_id=robot&client_secret={SECRET}");
    let twice = "a parameter is given twice";
    let no_form = "the body must be application/x-www-form-urlencoded";
    let rows: &[(String, u16, &str, &str)] = &[
        (
            String::new(),
            400,
            "invalid_request",
            "grant_type is missing",
        ),
        (
            "%".into(),
            400,
            "invalid_request",
            "the parameters are not form-urlencoded text",
        ),
        (
            "grant_type=".into(),
            400,
            "invalid_request",
            "grant_type is missing",
        ),
        (
            format!("{code}&grant_type=x"),
            400,
            "invalid_request",
            twice,
        ),
        (
            format!("{code}&client_id=app&client_id=app"),
            400,
            "invalid_request",
            twice,
        ),
        (
            format!("{code}&client_id=app&code=x"),
            400,
            "invalid_request",
            twice,
        ),
        (code.into(), 401, "invalid_client", UNKNOWN),
        (
            format!("{code}&client_id=nobody"),
            401,
            "invalid_client",
            UNKNOWN,
        ),
        (
            format!("{code}&client_id=robot"),
            401,
            "invalid_client",
            UNKNOWN,
        ),
        (
            format!("{code}&client_id=app&client_secret=x"),
            401,
            "invalid_client",
            UNKNOWN,
        ),
        (
            format!("{code}&client_id=robot&client_secret=x"),
            401,
            "invalid_client",
            UNKNOWN,
        ),
        (format!("{code}&client_id=app"), 400, "invalid_grant", GRANT),
        (format!("{code}&{robot}"), 400, "invalid_grant", GRANT),
        (
            "grant_type=authorization_code&client_id=app".into(),
            400,
            "invalid_request",
            "code is missing",
        ),
        (
            "grant_type=refresh_token&client_id=app".into(),
            400,
            "invalid_request",
            "refresh_token is missing",
        ),
        (
            "grant_type=refresh_token&refresh_token=a.b.c&client_id=app".into(),
            400,
            "invalid_grant",
            GRANT,
        ),
        (
            "grant_type=client_credentials&client_id=app".into(),
            400,
            "unauthorized_client",
            "this client gets tokens for people only",
        ),
        (
            format!("grant_type=client_credentials&scope=tag:db&{robot}"),
            400,
            "invalid_scope",
            "this client may not have these scopes",
        ),
        (
            format!("grant_type=client_credentials&scope=admin&{robot}"),
            400,
            "invalid_scope",
            "scope holds a word that is no scope",
        ),
        (
            format!("grant_type=client_credentials&resource=https://x.example&{robot}"),
            400,
            "invalid_target",
            "resource is not one of this server",
        ),
        (
            format!("grant_type=password&username=a&password=b&{robot}"),
            400,
            "unsupported_grant_type",
            "grant_type must be authorization_code, refresh_token or client_credentials",
        ),
    ];
    for (body, status, error, what) in rows {
        let told = face(&post(&rig, "/token", body));
        assert_eq!(told, refusal(*status, error, what), "{body}");
    }
    for kind in ["application/json", "text/plain", "multipart/form-data"] {
        let request = Request::post("/token", code).with("Content-Type", kind);
        let told = face(&ask(&rig, &request));
        assert_eq!(told, refusal(400, "invalid_request", no_form), "{kind}");
    }
    let told = face(&post(&rig, "/token?grant_type=refresh_token", code));
    let what = "parameters belong into the body";
    assert_eq!(told, refusal(400, "invalid_request", what));
    let basic = Request::post("/token", code)
        .with("Content-Type", "application/x-www-form-urlencoded")
        .with("Authorization", "Basic eDp5");
    let told = ask(&rig, &basic);
    assert_eq!(told.status(), 401);
    assert_eq!(
        told.head.header("WWW-Authenticate"),
        Some("Basic realm=\"onemcp\"")
    );
    // Another name for us is nobody's, and no page comes that is not listed.
    for path in ["/token", "/register", "/revoke"] {
        let named = Request::post(path, code).with("Host", "evil.example");
        assert_eq!(ask(&rig, &named).status(), 403, "{path}");
        for origin in ["https://evil.example", "null"] {
            let kind = "application/x-www-form-urlencoded";
            let request = Request::post(path, code).with("Content-Type", kind);
            let told = ask(&rig, &request.with("Origin", origin));
            assert_eq!(told.status(), 403, "{path} {origin}");
            let allowed = told.head.header("Access-Control-Allow-Origin");
            assert_eq!(allowed, None, "{path} {origin}");
        }
    }
    rig.stop();
}

#[test]
fn programs_register_where_they_may() {
    let rig = plan().start();
    let wish = r#"{"redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"none"}"#;
    let told = post(&rig, "/register", wish);
    assert_eq!(
        (told.status(), told.head.header("Cache-Control")),
        (201, Some("no-store"))
    );
    assert!(told.json()["client_id"].as_str().unwrap().len() >= 22);
    let uris = "redirect_uris must be https, http to this machine, or a scheme with a dot in it";
    for (body, error, what) in [
        ("{}", "invalid_redirect_uri", "redirect_uris is missing"),
        (
            r#"{"redirect_uris":["http://x.example/"]}"#,
            "invalid_redirect_uri",
            uris,
        ),
        (
            r#"{"redirect_uris":["javascript:x"]}"#,
            "invalid_redirect_uri",
            uris,
        ),
        (
            r#"{"redirect_uris":"https://x.example/"}"#,
            "invalid_client_metadata",
            "redirect_uris must be a list of texts",
        ),
        (
            "[]",
            "invalid_client_metadata",
            "the body is no JSON object, or says a thing twice",
        ),
    ] {
        let told = face(&post(&rig, "/register", body));
        assert_eq!(told, refusal(400, error, what), "{body}");
    }
    rig.stop();
    let off = plan().arg("--auth-registration=off").start();
    let metadata = ask(
        &off,
        &Request::new("GET", "/.well-known/oauth-authorization-server"),
    );
    assert!(metadata.json().get("registration_endpoint").is_none());
    let told = face(&post(&off, "/register", wish));
    assert_eq!(
        told,
        refusal(404, "not_found", "this gateway does not do that")
    );
    off.stop();
    let guarded = plan()
        .arg("--auth-registration=token")
        .env("ONE_MCP_AUTH_REGISTRATION_TOKEN", "canary-of-the-operator")
        .start();
    let told = post(&guarded, "/register", wish);
    assert_eq!(told.status(), 401);
    assert_eq!(
        told.head.header("WWW-Authenticate"),
        Some("Bearer realm=\"onemcp\"")
    );
    let request = Request::post("/register", wish);
    let request = request.with("Authorization", "Bearer canary-of-the-operator");
    assert_eq!(ask(&guarded, &request).status(), 201);
    guarded.stop();
}

/// Any program of this machine may claim to ask for any address.
#[test]
fn who_claims_many_addresses_is_counted_as_itself() {
    let rig = plan().start();
    let wish = r#"{"redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"none"}"#;
    let statuses = (0..110).map(|number| {
        let request = Request::post("/register", wish);
        ask(
            &rig,
            &request.with("X-Forwarded-For", &format!("10.0.1.{number}")),
        )
        .status()
    });
    let refused = statuses.filter(|status| *status == 429).count();
    assert!((1..=10).contains(&refused), "{refused}");
    assert_eq!(post(&rig, "/register", wish).status(), 201);
    rig.stop();
}

#[test]
fn whoever_asks_too_often_waits() {
    let rig = plan().args(&["--rate-limit-max", "10"]).start();
    let mut answers = Vec::new();
    for _ in 0..40 {
        let told = post(&rig, "/token", "grant_type=refresh_token&client_id=nobody");
        if told.status() == 429 {
            let wait: u32 = told.head.header("Retry-After").unwrap().parse().unwrap();
            assert!(wait >= 1);
            assert_eq!(told.json()["error"], "too_many_requests");
        }
        answers.push(told.status());
    }
    assert!(
        answers[..10].iter().all(|status| *status == 401),
        "{answers:?}"
    );
    assert!(
        answers[12..].iter().all(|status| *status == 429),
        "{answers:?}"
    );
    rig.stop();
}

#[test]
fn a_gateway_may_leave_tokens_to_others() {
    let rig = plan().arg("--auth-server=off").start();
    for path in ["/token", "/register", "/revoke"] {
        let told = face(&post(&rig, path, "{}"));
        assert_eq!(
            told,
            refusal(404, "not_found", "this gateway does not do that"),
            "{path}"
        );
    }
    let metadata = ask(
        &rig,
        &Request::new("GET", "/.well-known/oauth-authorization-server"),
    );
    assert_eq!(metadata.status(), 404);
    let hello = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    assert_eq!(ask(&rig, &hello).status(), 401);
    rig.stop();
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files(&path, found),
            path => found.push(path),
        }
    }
}

#[test]
fn no_secret_is_left_in_a_file_or_a_log() {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("auth-server-state");
    let _ = fs::remove_dir_all(&state);
    let rig = plan().args(&["--state-dir", state.to_str().unwrap()]);
    let rig = rig.arg("--log-level=debug").start();
    let form = format!("grant_type=client_credentials&client_id=robot&client_secret={SECRET}");
    let token = post(&rig, "/token", &form).json()["access_token"].clone();
    let wish = r#"{"redirect_uris":["http://127.0.0.1/cb"]}"#;
    let client: Value = post(&rig, "/register", wish).json();
    let wrong = format!("{form}-canary-that-is-wrong");
    assert_eq!(post(&rig, "/token", &wrong).status(), 401);
    let mut texts = vec![rig.stderr()];
    let mut found = Vec::new();
    files(&state, &mut found);
    assert!(found.len() >= 2, "{found:?}");
    texts.extend(
        found
            .iter()
            .map(|path| fs::read_to_string(path).unwrap_or_default()),
    );
    texts.extend(found.iter().map(|path| path.display().to_string()));
    let secret = client["client_secret"].as_str().unwrap();
    for canary in [
        SECRET,
        token.as_str().unwrap(),
        secret,
        "canary-that-is-wrong",
    ] {
        assert!(texts.iter().all(|text| !text.contains(canary)), "{canary}");
    }
    rig.stop();
    let _ = fs::remove_dir_all(&state);
}

pub(crate) const HASH: &str = "pbkdf2-sha256$100000$AAAAAAAAAAAAAAAAAAAAAA$\
                    bzYmnnISQnrzo8N3R3HpQFDMT_MLZlxtshLEdDCD1Jc";
const CALLBACK: &str = "http://127.0.0.1:9/cb";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const MANY: usize = 20;

/// A person who lets one program in, again and again.
pub(crate) struct Person {
    browser: Browser,
    pub(crate) client: String,
    is_known: bool,
}

impl Person {
    pub(crate) fn new(rig: &Rig, origin: &str) -> Person {
        let mut browser = Browser::new(rig.port);
        browser.origin = origin.to_owned();
        Person {
            browser,
            client: register(rig.port, "A program", CALLBACK),
            is_known: false,
        }
    }

    /// A code, as the program gets it.
    pub(crate) fn code(&mut self) -> String {
        let target = encoded(&[
            ("response_type", "code"),
            ("client_id", &self.client),
            ("redirect_uri", CALLBACK),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("scope", "tag:web"),
        ]);
        let target = format!("/authorize?{target}");
        let mut page = self.browser.get(&target);
        if !self.is_known {
            let form = hidden(&page, "/oauth/login");
            let password = ("password", "correct horse battery");
            let fields = [("request", form.as_str()), ("do", "password"), password];
            assert_eq!(self.browser.post("/oauth/login", &fields).status(), 303);
            page = self.browser.get(&target);
            self.is_known = true;
        }
        let form = hidden(&page, "/oauth/consent");
        let fields = [
            ("request", form.as_str()),
            ("do", "allow"),
            ("scope:tag:web", "on"),
        ];
        let led = self.browser.post("/oauth/consent", &fields);
        let to = led.head.header("Location").expect("a place").to_owned();
        assert!(parameter(&to, "iss").is_some(), "{to}");
        parameter(&to, "code").expect("a code").to_owned()
    }

    pub(crate) fn exchange(&self, code: &str) -> String {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", &self.client),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("code", code),
        ];
        encoded(&fields)
    }

    pub(crate) fn refreshing(&self, token: &str) -> String {
        let grant = ("grant_type", "refresh_token");
        encoded(&[grant, ("client_id", &self.client), ("refresh_token", token)])
    }
}

/// The same request many times at the same moment, to these gateways in turn.
pub(crate) fn at_once(rigs: &[&Rig], body: &str) -> Vec<Reply> {
    let barrier = Barrier::new(MANY);
    std::thread::scope(|scope| {
        let send = |rig| {
            let barrier = &barrier;
            move || {
                barrier.wait();
                post(rig, "/token", body)
            }
        };
        let threads = (0..MANY).map(|at| scope.spawn(send(rigs[at % rigs.len()])));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

pub(crate) fn text(reply: &Reply, name: &str) -> String {
    assert_eq!(reply.status(), 200, "{}", reply.text);
    reply.json()[name].as_str().unwrap().to_owned()
}

pub(crate) fn status_with(rig: &Rig, token: &str) -> u16 {
    let hello = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    ask(
        rig,
        &hello.with("Authorization", &format!("Bearer {token}")),
    )
    .status()
}

/// One of many has the tokens, and because the others came, these have ended everywhere.
pub(crate) fn one_wins_and_it_ends(rigs: &[&Rig], person: &Person, answers: &[Reply]) {
    let (won, lost): (Vec<&Reply>, Vec<&Reply>) =
        answers.iter().partition(|reply| reply.status() == 200);
    assert_eq!(won.len(), 1);
    let expect = refusal(400, "invalid_grant", GRANT);
    assert!(lost.iter().all(|reply| face(reply) == expect));
    let (access, refresh) = (text(won[0], "access_token"), text(won[0], "refresh_token"));
    for rig in rigs {
        eventually("the token has ended", || status_with(rig, &access) == 401);
        let refreshed = post(rig, "/token", &person.refreshing(&refresh));
        assert_eq!(face(&refreshed), expect);
    }
}

#[test]
fn of_twenty_who_come_with_one_code_or_token_one_is_served() {
    let rig = plan().env("ONE_MCP_AUTH_OPERATOR_PASSWORD", HASH).start();
    let mut person = Person::new(&rig, &format!("http://127.0.0.1:{}", rig.port));
    for _ in 0..4 {
        let code = person.code();
        let answers = at_once(&[&rig], &person.exchange(&code));
        one_wins_and_it_ends(&[&rig], &person, &answers);
        let code = person.code();
        let first = post(&rig, "/token", &person.exchange(&code));
        assert_eq!(status_with(&rig, &text(&first, "access_token")), 200);
        let refresh = text(&first, "refresh_token");
        let answers = at_once(&[&rig], &person.refreshing(&refresh));
        one_wins_and_it_ends(&[&rig], &person, &answers);
        assert_eq!(status_with(&rig, &text(&first, "access_token")), 401);
    }
    rig.stop();
}

/// Gateways that share their state are one authorization server, also over a restart.
#[test]
fn gateways_that_share_their_state_are_one() {
    let home = "http://localhost:1";
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("auth-server-shared");
    let _ = fs::remove_dir_all(&state);
    let start = |name: &str| {
        let audit = state.join(name);
        let plan = plan().env("ONE_MCP_AUTH_OPERATOR_PASSWORD", HASH);
        let plan = plan.args(&["--state-dir", state.to_str().unwrap()]);
        let plan = plan.args(&["--external-url", home, "--control-socket", "off"]);
        let plan = plan.args(&["--audit-file", audit.to_str().unwrap()]);
        plan.start()
    };
    let (one, two) = (start("one.log"), start("two.log"));
    let mut person = Person::new(&one, home);
    let code = person.code();
    let told = post(&two, "/token", &person.exchange(&code));
    let access = text(&told, "access_token");
    assert_eq!(
        (status_with(&one, &access), status_with(&two, &access)),
        (200, 200)
    );
    let told = post(
        &one,
        "/token",
        &person.refreshing(&text(&told, "refresh_token")),
    );
    let refresh = text(&told, "refresh_token");
    for _ in 0..2 {
        let code = person.code();
        let answers = at_once(&[&one, &two], &person.exchange(&code));
        one_wins_and_it_ends(&[&one, &two], &person, &answers);
    }
    one.stop();
    two.stop();
    let again = start("one.log");
    let told = post(&again, "/token", &person.refreshing(&refresh));
    assert_eq!(status_with(&again, &text(&told, "access_token")), 200);
    again.stop();
    let told = ["one.log", "two.log"].map(|name| fs::read_to_string(state.join(name)).unwrap());
    let told = told.concat();
    for event in [
        "client.register",
        "token.issue",
        "token.refresh",
        "token.revoke",
        "code.replay",
    ] {
        assert!(
            told.contains(&format!("\"event\":\"{event}\"")),
            "{event}: {told}"
        );
    }
    assert!(!told.contains(&access) && !told.contains(&refresh));
    let _ = fs::remove_dir_all(&state);
}

/// What the auditor was told: event, reason, client, name.
fn told(rig: &Rig, log: &Path) -> Vec<[String; 4]> {
    let lines = || std::fs::read_to_string(log).unwrap_or_default();
    // Who asks last is told last.
    post(
        rig,
        "/token",
        "grant_type=refresh_token&client_id=app&refresh_token=last",
    );
    eventually("the last refusal is told", || {
        lines().matches("\"name\":\"refresh_token\"").count() == 1
    });
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let parsed = lines()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect::<Vec<Value>>();
    let parsed = parsed
        .iter()
        .map(|line| ["event", "reason", "client_id", "name"].map(|key| text(line, key)));
    parsed
        .filter(|[event, ..]| ["auth.fail", "authz.deny", "authz.allow"].contains(&&**event))
        .collect()
}

#[test]
fn the_auditor_is_told_of_every_refusal() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit-refusals");
    let _ = std::fs::remove_dir_all(&folder);
    let log = folder.join("state/audit.log");
    let servers = json!({
        "clock": with(demo("clock"), json!({"tags": ["web"]})),
        "vault": with(demo("clock"), json!({"tags": ["secret"]})),
        "shown": with(demo("clock"), json!({"tags": ["other"], "discoverable": true})),
    });
    let rig = plan_of(servers)
        .args(&["--state-dir", folder.join("state").to_str().unwrap()])
        .start();
    let machine = |more: &str| {
        let form = format!("grant_type=client_credentials&client_id=robot&client_secret={SECRET}");
        post(&rig, "/token", &(form + more))
    };
    let given: Value = serde_json::from_str(&machine("").text).unwrap();
    let bearer = format!("Bearer {}", given["access_token"].as_str().unwrap());
    assert_eq!(machine("&scope=tag:secret").status(), 400);
    assert_eq!(
        machine("&resource=https://elsewhere.example/").status(),
        400
    );
    let verifier = "v".repeat(43);
    let code = format!(
        "grant_type=authorization_code&client_id=app&code=none&code_verifier={verifier}\
         &redirect_uri=https://app.example/cb"
    );
    assert_eq!(post(&rig, "/token", &code).status(), 400);
    let visit = |query: &str| ask(&rig, &Request::new("GET", &format!("/authorize?{query}")));
    let foreign = "client_id=app&redirect_uri=https://evil.example/cb&response_type=code";
    assert_eq!(visit(foreign).status(), 400);
    assert_eq!(visit("client_id=nobody").status(), 400);
    let call = |path: &str, tool: &str| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": tool, "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }}});
        let request = Request::post(path, body.to_string())
            .with("Authorization", &bearer)
            .with("MCP-Protocol-Version", "2026-07-28")
            .with("Mcp-Method", "tools/call")
            .with("Mcp-Name", tool);
        ask(&rig, &request).status()
    };
    for _ in 0..2 {
        assert_eq!(call("/mcp", "clock_1mcp_now"), 200);
    }
    assert_eq!(call("/mcp", "shown_1mcp_now"), 403);
    assert_eq!(call("/mcp/vault", "now"), 404);
    assert_eq!(call("/mcp/nothing", "now"), 404);
    let told = told(&rig, &log);
    let expected = [
        ["auth.fail", "bad_scope", "robot", "client_credentials"],
        ["auth.fail", "bad_audience", "robot", "client_credentials"],
        ["auth.fail", "bad_code", "app", "authorization_code"],
        ["auth.fail", "bad_redirect", "app", ""],
        ["auth.fail", "bad_client", "nobody", ""],
        ["authz.allow", "", "robot", "/mcp"],
        [
            "authz.deny",
            "insufficient_scope",
            "robot",
            "shown_1mcp_now",
        ],
        ["authz.deny", "not_visible", "robot", ""],
        ["auth.fail", "bad_code", "app", "refresh_token"],
    ];
    assert_eq!(told, expected);
    rig.stop();
}
