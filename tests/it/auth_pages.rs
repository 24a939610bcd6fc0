//! The pages on which the operator signs in and lets clients in, as a browser and as those who
//! would like to be one: forged forms, foreign pages, names that are code, guessing.

use std::process::Command;

use serde_json::{Value, json};

use crate::cli_support;
use crate::support::browser::{Browser, encoded, hidden, parameter, register};
use crate::support::eventually;
use crate::support::http::{Reply, Request};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{demo, with};

const PASSWORD: &str = "correct horse battery";
/// Of that, with few rounds.
const HASH: &str = "pbkdf2-sha256$100000$AAAAAAAAAAAAAAAAAAAAAA$\
                    bzYmnnISQnrzo8N3R3HpQFDMT_MLZlxtshLEdDCD1Jc";
const CALLBACK: &str = "http://127.0.0.1:9/cb";
/// A verifier and its challenge (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn servers() -> Value {
    json!({
        "clock": with(demo("clock"), json!({"tags": ["time", "web"]})),
        "notes": with(demo("notes"), json!({"tags": ["notes"]})),
    })
}

fn plan() -> Plan {
    Plan::new(servers())
        .arg("--enable-auth")
        .env("ONE_MCP_AUTH_OPERATOR_PASSWORD", HASH)
}

fn request(client: &str, scope: &str) -> String {
    let fields = [
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("state", "st4te"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("scope", scope),
    ];
    format!("/authorize?{}", encoded(&fields))
}

fn location(reply: &Reply) -> String {
    assert_eq!(reply.status(), 303, "{}", reply.text);
    reply.head.header("Location").expect("a place").to_owned()
}

/// Signs in with the password, and gives the page for consent.
fn sign_in(browser: &mut Browser, target: &str) -> Reply {
    let page = browser.get(target);
    let form = hidden(&page, "/oauth/login");
    let fields = [
        ("request", form.as_str()),
        ("do", "password"),
        ("password", PASSWORD),
    ];
    let to = location(&browser.post("/oauth/login", &fields));
    assert!(to.starts_with("/authorize?"), "{to}");
    browser.get(&to)
}

fn consent(browser: &mut Browser, page: &Reply, answer: &str, scopes: &[&str]) -> Reply {
    let form = hidden(page, "/oauth/consent");
    let names: Vec<String> = scopes
        .iter()
        .map(|scope| format!("scope:{scope}"))
        .collect();
    let mut fields = vec![("request", form.as_str()), ("do", answer)];
    fields.extend(names.iter().map(|name| (name.as_str(), "on")));
    browser.post("/oauth/consent", &fields)
}

fn redeem(rig: &Rig, client: &str, code: &str) -> Value {
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let body = format!("{}&code={code}", encoded(&fields));
    let request =
        Request::post("/token", body).with("Content-Type", "application/x-www-form-urlencoded");
    let reply = rig.connect().exchange(&request);
    assert_eq!(reply.status(), 200, "{}", reply.text);
    reply.json()
}

fn status_with(rig: &Rig, token: &str) -> u16 {
    let request = Request::listen("/mcp").with("Authorization", &format!("Bearer {token}"));
    rig.connect().exchange(&request).status()
}

pub(crate) fn command(rig: &Rig, words: &[&str]) -> cli_support::Outcome {
    let mut command = Command::new(cli_support::binary());
    command.args(words).env_clear().env("HOME", rig.folder());
    command.args(["--port", &rig.port.to_string()]);
    cli_support::run(command, None)
}

#[test]
fn the_operator_lets_a_client_in_and_out_again() {
    let rig = plan().start();
    let client = register(rig.port, "Desk", CALLBACK);
    let mut browser = Browser::new(rig.port);
    let page = sign_in(&mut browser, &request(&client, "tag:web tag:mail"));
    assert!(
        page.text.contains("name=\"scope:tag:web\" checked"),
        "{}",
        page.text
    );
    assert!(page.text.contains("The server clock"), "{}", page.text);
    assert!(page.text.contains("<code>tag:mail</code>"), "{}", page.text);
    assert!(!page.text.contains("scope:tag:mail"), "{}", page.text);
    let to = location(&consent(&mut browser, &page, "allow", &["tag:web"]));
    assert!(to.starts_with(CALLBACK), "{to}");
    assert_eq!(parameter(&to, "state"), Some("st4te"));
    let code = parameter(&to, "code").expect("a code");
    let token = redeem(&rig, &client, code);
    assert_eq!(token["scope"], "tag:web");
    let token = token["access_token"].as_str().expect("a token").to_owned();
    assert_ne!(status_with(&rig, &token), 401);

    let listed = command(&rig, &["auth", "clients", "--json"]);
    let line = &listed.lines[0];
    assert_eq!(
        (&line["client"], &line["grants"]),
        (&json!(client), &json!(1))
    );
    assert_eq!(line["allowed"], "tag:web");
    let grants = command(&rig, &["auth", "tokens"]);
    assert_eq!(grants.lines[0]["subject"], "operator", "{grants:?}");
    let grant = grants.lines[0]["grant"]
        .as_str()
        .expect("a grant")
        .to_owned();
    assert_eq!(command(&rig, &["auth", "revoke", "nobody"]).code, Some(1));
    let revoked = command(&rig, &["auth", "revoke", &grant]);
    assert_eq!(
        (revoked.code, &revoked.lines[0]["revoked"]),
        (Some(0), &json!(1))
    );
    assert_eq!(status_with(&rig, &token), 401);
    assert_eq!(command(&rig, &["auth", "revoke", &client]).code, Some(0));
    assert!(command(&rig, &["auth", "clients"]).lines.is_empty());
    let page = browser.get(&request(&client, "tag:web"));
    assert_eq!(
        page.status(),
        400,
        "a client that is gone must register again"
    );
    rig.stop();
}

#[test]
fn who_says_no_and_who_ticks_nothing_gives_nothing() {
    let rig = plan().start();
    let client = register(rig.port, "Desk", CALLBACK);
    let mut browser = Browser::new(rig.port);
    let page = sign_in(&mut browser, &request(&client, "tag:web read"));
    assert!(!page.text.contains("scope:read"), "{}", page.text);
    let empty = consent(&mut browser, &page, "allow", &[]);
    assert_eq!(empty.status(), 400);
    assert!(empty.text.contains("role=\"alert\""), "{}", empty.text);
    assert!(!empty.text.contains("\" checked"), "{}", empty.text);
    // More than was asked for is not for ticking, and `read` is not to be left out.
    let more = ["tag:web", "tag:notes", "tag:*", "tool:notes/add_note"];
    let to = location(&consent(&mut browser, &empty, "allow", &more));
    let token = redeem(&rig, &client, parameter(&to, "code").expect("a code"));
    assert_eq!(token["scope"], "read tag:web");
    let page = browser.get(&request(&client, "tag:notes"));
    assert!(page.text.contains(">new</span>"), "{}", page.text);
    let to = location(&consent(&mut browser, &page, "deny", &["tag:notes"]));
    assert_eq!(parameter(&to, "error"), Some("access_denied"));
    assert_eq!(parameter(&to, "code"), None);
    // Who asks for nothing is offered what there is, and nothing is ticked.
    let page = browser.get(&request(&client, ""));
    for scope in ["tag:notes", "tag:time", "tag:web"] {
        assert!(
            page.text.contains(&format!("name=\"scope:{scope}\">")),
            "{}",
            page.text
        );
    }
    assert!(!page.text.contains("\" checked"), "{}", page.text);
    let to = location(&consent(&mut browser, &page, "allow", &["tag:time"]));
    let token = redeem(&rig, &client, parameter(&to, "code").expect("a code"));
    assert_eq!(token["scope"], "tag:time");
    rig.stop();
}

#[test]
fn a_baseline_is_offered_to_who_asks_for_nothing() {
    let rig = plan().args(&["--auth-baseline-scopes", "tag:web"]).start();
    let client = register(rig.port, "Desk", CALLBACK);
    let mut browser = Browser::new(rig.port);
    let page = sign_in(&mut browser, &request(&client, ""));
    assert!(
        page.text.contains("name=\"scope:tag:web\">"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("scope:tag:notes"), "{}", page.text);
    let to = location(&consent(
        &mut browser,
        &page,
        "allow",
        &["tag:web", "tag:notes"],
    ));
    let token = redeem(&rig, &client, parameter(&to, "code").expect("a code"));
    assert_eq!(token["scope"], "tag:web");
    rig.stop();
}

#[test]
fn a_form_is_good_once_and_in_its_browser() {
    let rig = plan().start();
    let client = register(rig.port, "Desk", CALLBACK);
    let target = request(&client, "tag:web");
    let (mut one, mut other) = (Browser::new(rig.port), Browser::new(rig.port));
    let page = sign_in(&mut one, &target);
    let others = sign_in(&mut other, &target);
    let lost = |reply: &Reply| {
        assert_eq!(reply.status(), 403, "{}", reply.text);
        assert_eq!(reply.head.header("Location"), None);
    };
    // The form of one browser in another one, and the other way round: nobody's form is spent.
    lost(&consent(&mut other, &page, "allow", &["tag:web"]));
    lost(&consent(&mut one, &others, "allow", &["tag:web"]));
    // Without the session, without the cookie of the form, with those of another.
    let all = one.cookies.clone();
    for kept in ["onemcp-form", "onemcp-operator", "nothing"] {
        let is_kept = |pair: &&(String, String)| pair.0.starts_with(kept);
        one.cookies = all.iter().filter(is_kept).cloned().collect();
        lost(&consent(&mut one, &page, "allow", &["tag:web"]));
    }
    one.cookies = [&all[..], &other.cookies[..]].concat();
    lost(&consent(&mut one, &page, "allow", &["tag:web"]));
    one.cookies = all.clone();
    // A form of another purpose, a changed one, none.
    let form = hidden(&page, "/oauth/consent");
    let leave = hidden(&page, "/oauth/login");
    let (first, rest) = form.split_at(1);
    let letter = if first == "A" { "B" } else { "A" };
    let changed = format!("{letter}{rest}");
    for request in [leave.as_str(), changed.as_str(), "", "x", "="] {
        let fields = [
            ("request", request),
            ("do", "allow"),
            ("scope:tag:web", "on"),
        ];
        lost(&one.post("/oauth/consent", &fields));
        let fields = [
            ("request", request),
            ("do", "password"),
            ("password", PASSWORD),
        ];
        lost(&one.post("/oauth/login", &fields));
    }
    let twice = [
        ("request", form.as_str()),
        ("request", form.as_str()),
        ("do", "allow"),
    ];
    assert_eq!(one.post("/oauth/consent", &twice).status(), 400);
    location(&consent(&mut one, &page, "allow", &["tag:web"]));
    lost(&consent(&mut one, &page, "allow", &["tag:web"]));
    lost(&consent(&mut one, &page, "deny", &[]));
    // Signed out is signed out, and its forms are over.
    let page = one.get(&target);
    let leave = hidden(&page, "/oauth/login");
    let before = one.cookies.clone();
    location(&one.post("/oauth/login", &[("request", &leave), ("do", "leave")]));
    one.cookies = before;
    lost(&consent(&mut one, &page, "allow", &["tag:web"]));
    rig.stop();
}

#[test]
fn forms_of_other_pages_are_refused() {
    let rig = plan().start();
    let client = register(rig.port, "Desk", CALLBACK);
    let mut browser = Browser::new(rig.port);
    let page = sign_in(&mut browser, &request(&client, "tag:web"));
    let own = browser.origin.clone();
    let others = [
        "null".to_owned(),
        String::new(),
        "https://evil.example".to_owned(),
        "http://127.0.0.1".to_owned(),
        format!("http://127.0.0.1:{}", rig.port ^ 1),
        format!("http://localhost:{}", rig.port),
        format!("https://127.0.0.1:{}", rig.port),
        format!("http://127.0.0.1:{}.evil.example", rig.port),
        format!("http://evil@127.0.0.1:{}", rig.port),
    ];
    for origin in others {
        browser.origin = origin;
        let reply = consent(&mut browser, &page, "allow", &["tag:web"]);
        assert_eq!(reply.status(), 403, "{:?}", browser.origin);
        let target = request(&client, "tag:web");
        let login = Browser::new(rig.port).get(&target);
        let form = hidden(&login, "/oauth/login");
        let fields = [("request", form.as_str()), ("do", "ask")];
        let reply = browser.post("/oauth/login", &fields);
        assert_eq!(reply.status(), 403, "{:?}", browser.origin);
    }
    browser.origin = own;
    location(&consent(&mut browser, &page, "allow", &["tag:web"]));
    // By other ways than a form of ours.
    for (method, path) in [
        ("GET", "/oauth/login"),
        ("GET", "/oauth/consent"),
        ("DELETE", "/oauth/consent"),
        ("POST", "/authorize"),
    ] {
        let reply = browser.send(Request::new(method, path));
        assert_eq!(reply.status(), 405, "{method} {path}");
    }
    let json = Request::post("/oauth/login", "{}").with("Origin", &browser.origin.clone());
    assert_eq!(browser.send(json).status(), 400);
    rig.stop();
}

#[test]
fn pages_cannot_be_framed_kept_or_scripted() {
    let rig = plan().start();
    let client = register(rig.port, "Desk", CALLBACK);
    let mut browser = Browser::new(rig.port);
    let target = request(&client, "tag:web");
    let bad = request("nobody", "tag:web");
    let pages = [
        browser.get(&target),
        sign_in(&mut browser, &target),
        browser.get(&bad),
        browser.get("/authorize"),
        browser.post("/oauth/consent", &[("request", "x")]),
        browser.post("/oauth/login", &[("request", "x")]),
    ];
    for page in &pages {
        let header = |name: &str| page.head.header(name).unwrap_or_default().to_owned();
        let policy = header("Content-Security-Policy");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(policy.contains("form-action 'self'"), "{policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        assert_eq!(header("X-Frame-Options"), "DENY");
        assert_eq!(header("Cache-Control"), "no-store");
        assert_eq!(header("X-Content-Type-Options"), "nosniff");
        assert_eq!(header("Content-Type"), "text/html; charset=utf-8");
        assert_eq!(header("Access-Control-Allow-Credentials"), "");
        assert_eq!(page.text.matches("<h1>").count(), 1, "{}", page.text);
        assert!(page.text.contains("<html lang=\"en\">"));
        assert!(!page.text.contains("<script"), "{}", page.text);
        assert!(!page.text.contains("http-equiv"), "{}", page.text);
    }
    // Strangers learn nothing of the servers.
    for page in [&pages[0], &pages[2], &pages[3]] {
        let start = page.text.find("<main>").expect("the content");
        let main = &page.text[start..];
        assert!(!main.contains("clock") && !main.contains("tag:"), "{main}");
    }
    assert_eq!(pages[2].status(), 400);
    assert_eq!(pages[2].head.header("Location"), None);
    rig.stop();
}

#[test]
fn names_of_clients_are_text() {
    let rig = plan().start();
    let names = [
        "<img src=x onerror=alert(1)>",
        "</title><script>alert(1)</script>",
        "\"><form action=https://evil.example>",
        "' autofocus onfocus='alert(1)",
        "Cl\u{202E}edua\u{200B}",
        "&lt;b&gt;",
        "{{7*7}} ${7*7} <%= 7 %>",
        "javascript:alert(1)",
    ];
    let mut browser = Browser::new(rig.port);
    let first = register(rig.port, "Desk", CALLBACK);
    sign_in(&mut browser, &request(&first, "tag:web"));
    for name in names {
        let client = register(rig.port, name, CALLBACK);
        let page = browser.get(&request(&client, "tag:web"));
        let login = Browser::new(rig.port).get(&request(&client, "tag:web"));
        for page in [page, login] {
            assert_eq!(page.status(), 200, "{name}");
            let start = page.text.find("<main>").expect("the content");
            let main = &page.text[start..];
            for bad in [
                "<img",
                "<script",
                "<form action=https",
                "' autofocus",
                "\u{202E}",
            ] {
                assert!(!main.contains(bad), "{name}: {main}");
            }
            assert_eq!(main.matches("<bdi>").count(), 1, "{main}");
        }
    }
    rig.stop();
}

#[test]
fn guessing_is_slowed_down_to_nothing() {
    let rig = plan().start();
    let client = register(rig.port, "Desk", CALLBACK);
    let mut browser = Browser::new(rig.port);
    let page = browser.get(&request(&client, "tag:web"));
    let form = hidden(&page, "/oauth/login");
    let mut refused = 0;
    for guess in 0..200 {
        let guess = format!("password {guess}");
        let fields = [
            ("request", form.as_str()),
            ("do", "password"),
            ("password", &guess),
        ];
        let reply = browser.post("/oauth/login", &fields);
        match reply.status() {
            429 => {
                refused += 1;
                let wait: u64 = reply.head.header("Retry-After").unwrap().parse().unwrap();
                assert!((1..=900).contains(&wait), "{wait}");
            }
            403 => assert!(reply.text.contains("not right"), "{}", reply.text),
            other => panic!("{other}"),
        }
        assert!(reply.head.values("Set-Cookie").is_empty());
    }
    assert!(refused >= 180, "{refused}");
    // The right one does not help either, for now.
    let fields = [
        ("request", form.as_str()),
        ("do", "password"),
        ("password", PASSWORD),
    ];
    assert_eq!(browser.post("/oauth/login", &fields).status(), 429);
    rig.stop();
}

/// The code that the log has for the request that a page shows.
fn code_for(rig: &Rig, page: &Reply) -> (String, String) {
    let start = page.text.find("<strong class=\"mono\">").expect("a number");
    let number = page.text[start + 21..start + 27].to_owned();
    let mut code = None;
    eventually("the code is in the log", || {
        let log = rig.stderr();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains(&format!("request={number}")));
        let found = line.and_then(|line| line.split("code=").nth(1));
        code = found.map(|text| text[..9].to_owned());
        code.is_some()
    });
    (number, code.expect("a code"))
}

fn ask(browser: &mut Browser, target: &str) -> Reply {
    let page = browser.get(target);
    let form = hidden(&page, "/oauth/login");
    let to = location(&browser.post("/oauth/login", &[("request", &form), ("do", "ask")]));
    browser.get(&to)
}

fn enter(browser: &mut Browser, page: &Reply, code: &str) -> Reply {
    let form = hidden(page, "/oauth/login");
    let fields = [("request", form.as_str()), ("do", "code"), ("code", code)];
    browser.post("/oauth/login", &fields)
}

#[test]
fn a_code_from_the_log_or_an_approval_signs_in() {
    let rig = Plan::new(servers()).arg("--enable-auth").start();
    let client = register(rig.port, "Desk", CALLBACK);
    let target = request(&client, "tag:web");
    let mut browser = Browser::new(rig.port);
    let page = browser.get(&target);
    assert!(!page.text.contains("type=\"password\""), "{}", page.text);
    assert_eq!(
        command(&rig, &["auth", "approve"]).code,
        Some(1),
        "nobody waits"
    );
    let page = ask(&mut browser, &target);
    let (number, code) = code_for(&rig, &page);
    let mut stranger = Browser::new(rig.port);
    let theirs = ask(&mut stranger, &target);
    assert_eq!(
        enter(&mut stranger, &theirs, &code).status(),
        403,
        "a code of another"
    );
    assert_eq!(enter(&mut browser, &page, "BBBB-BBBB").status(), 403);
    assert_eq!(
        enter(&mut browser, &page, "").status(),
        403,
        "not approved yet"
    );
    location(&enter(&mut browser, &page, &code));
    assert!(browser.get(&target).text.contains("scope:tag:web"));
    assert_eq!(enter(&mut browser, &page, &code).status(), 403, "used up");

    let waiting = command(&rig, &["auth", "approve"]);
    assert_eq!(waiting.lines.len(), 1, "{waiting:?}");
    assert_ne!(waiting.lines[0]["request"], number.as_str());
    assert_eq!(waiting.lines[0]["client"], "Desk");
    assert_eq!(command(&rig, &["auth", "approve", "000"]).code, Some(1));
    let (number, _) = code_for(&rig, &theirs);
    let approved = command(&rig, &["auth", "approve", &number]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    location(&enter(&mut stranger, &theirs, ""));
    assert!(stranger.get(&target).text.contains("scope:tag:web"));

    let mut third = Browser::new(rig.port);
    let page = ask(&mut third, &target);
    let (_, code) = code_for(&rig, &page);
    assert_eq!(command(&rig, &["auth", "approve", &code]).code, Some(0));
    location(&enter(&mut third, &page, ""));
    assert_eq!(command(&rig, &["auth", "revoke", "all"]).code, Some(0));
    assert!(
        !third.get(&target).text.contains("scope:tag:web"),
        "signed out"
    );
    rig.stop();
}

#[test]
fn guesses_of_a_code_end_it() {
    let rig = Plan::new(servers()).arg("--enable-auth").start();
    let client = register(rig.port, "Desk", CALLBACK);
    let mut browser = Browser::new(rig.port);
    let page = ask(&mut browser, &request(&client, "tag:web"));
    let (_, code) = code_for(&rig, &page);
    for _ in 0..5 {
        assert_eq!(enter(&mut browser, &page, "BBBB-BBBB").status(), 403);
    }
    let reply = enter(&mut browser, &page, &code);
    assert_eq!(reply.status(), 403);
    assert!(reply.text.contains("not good any more"), "{}", reply.text);
    rig.stop();
}

#[test]
fn behind_https_cookies_belong_to_the_host_alone() {
    let rig = plan()
        .args(&["--external-url", "https://gateway.example"])
        .args(&["--auth-registration", "open"])
        .start();
    let client = register(rig.port, "Desk", CALLBACK);
    let mut browser = Browser::new(rig.port);
    let target = request(&client, "tag:web");
    let page = browser.get(&target);
    let cookie = page.head.values("Set-Cookie").concat();
    assert!(cookie.starts_with("__Host-onemcp-form="), "{cookie}");
    for part in ["; Path=/;", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let form = hidden(&page, "/oauth/login");
    let fields = [
        ("request", form.as_str()),
        ("do", "password"),
        ("password", PASSWORD),
    ];
    assert_eq!(
        browser.post("/oauth/login", &fields).status(),
        403,
        "not the public origin"
    );
    browser.origin = "https://gateway.example".into();
    let reply = browser.post("/oauth/login", &fields);
    assert!(location(&reply).starts_with("/authorize?"));
    let cookie = reply.head.values("Set-Cookie").concat();
    assert!(cookie.starts_with("__Host-onemcp-operator="), "{cookie}");
    assert!(cookie.contains("; Secure"), "{cookie}");
    rig.stop();
}

#[test]
fn passwords_become_hashes_and_short_ones_nothing() {
    let folder = cli_support::Folder::new();
    let hash = |password: &str| {
        let command = folder.command(&["auth", "password"]);
        cli_support::run(command, Some(password))
    };
    let made = hash(&format!("{PASSWORD}\n"));
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.out.starts_with("pbkdf2-sha256$600000$"), "{made:?}");
    assert!(!made.out.contains("horse") && !made.err.contains("horse"));
    assert_eq!(hash("too short\n").code, Some(64));
    assert_eq!(
        folder
            .command(&["auth", "password", "word"])
            .status()
            .unwrap()
            .code(),
        Some(64)
    );
    let refused = Plan::new(servers())
        .args(&["--enable-auth", "--auth-operator-password", PASSWORD])
        .refused();
    assert_eq!(refused.0, Some(64), "{}", refused.1);
    assert!(!refused.1.contains("horse"), "{}", refused.1);
}
