//! Gateways that share a Redis, through the real program: what one of them gave the other takes,
//! once; what one ended is over at the other; and what happens while the store is away. Where no
//! redis-server is installed these tests say so and do nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::auth_pages::command;
use crate::auth_server::{
    GRANT, HASH, Person, at_once, face, one_wins_and_it_ends, plan, post, refusal, status_with,
    text,
};
use crate::support::browser::{Browser, encoded, hidden, register};
use crate::support::http::Request;
use crate::support::redis::{RedisServer, free_port};
use crate::support::remote::Script;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::demo;
use crate::support::tls::Pki;
use crate::support::token::Mint;
use crate::support::{eventually, within};

/// As clients know all of them.
const HOME: &str = "http://localhost:1";
/// What others learn of a revocation in.
const LEARNED: Duration = Duration::from_secs(10);

/// The signing keys that gateways of a test share, as a mounted secret.
fn keys(name: &str) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("shared-{name}-keys.json"));
    Mint::new(31).write(&file);
    file
}

/// A gateway without any other thing in common.
fn gateway(keys: &Path, store: &str) -> Rig {
    let plan = plan().env("ONE_MCP_AUTH_OPERATOR_PASSWORD", HASH);
    let plan = plan.env("ONE_MCP_STORE", store);
    let plan = plan.args(&[
        "--external-url",
        HOME,
        "--auth-keys",
        keys.to_str().unwrap(),
    ]);
    plan.args(&["--health-info-level", "full"]).start()
}

fn store_state(rig: &Rig) -> Value {
    let health = rig.connect().exchange(&Request::new("GET", "/health"));
    health.json()["configuration"]["sharedStore"].clone()
}

fn is_ready(rig: &Rig) -> bool {
    store_state(rig) == "ready"
}

/// The account that docs/replicas.md tells people to make, as options of the server.
fn documented_account(password: &str) -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/replicas.md");
    let page = fs::read_to_string(page).unwrap();
    let line = page.lines().find(|line| line.starts_with("user onemcp "));
    let line = line.expect("an account").replace("PASSWORD", password);
    format!("--{line}").split(' ').map(str::to_owned).collect()
}

#[test]
fn gateways_that_share_a_store_are_one() {
    let account = documented_account("s3cret-of-the-store");
    let account: Vec<&str> = account.iter().map(String::as_str).collect();
    let Some(server) = RedisServer::start(&account) else {
        return;
    };
    let place = format!("127.0.0.1:{}", server.port);
    let url = format!("redis://onemcp:s3cret-of-the-store@{place}");
    let keys = keys("one");
    let (one, two) = (gateway(&keys, &url), gateway(&keys, &url));
    let mut person = Person::new(&one, HOME);
    let code = person.code();
    let told = post(&two, "/token", &person.exchange(&code));
    let (access, refresh) = (text(&told, "access_token"), text(&told, "refresh_token"));
    assert_eq!(
        (status_with(&one, &access), status_with(&two, &access)),
        (200, 200)
    );
    let told = post(&one, "/token", &person.refreshing(&refresh));
    let refresh = text(&told, "refresh_token");
    let back = format!("token={refresh}&client_id={}", person.client);
    assert_eq!(post(&two, "/revoke", &back).status(), 200);
    assert_eq!(status_with(&two, &access), 401);
    within(LEARNED, "what two ended is over at one", || {
        status_with(&one, &access) == 401
    });
    let again = post(&one, "/token", &person.refreshing(&refresh));
    assert_eq!(face(&again), refusal(400, "invalid_grant", GRANT));
    // Ten a minute, whichever gateway is asked.
    let began = Instant::now();
    let wish = json!({"redirect_uris": ["http://127.0.0.1/cb"]}).to_string();
    let tries = [&one, &two].repeat(10);
    let taken = tries
        .iter()
        .map(|rig| post(rig, "/register", &wish).status());
    let taken = taken.filter(|status| *status == 201).count() as u64;
    assert!(taken <= 11 + began.elapsed().as_secs() / 6, "{taken}");
    for rig in [one, two] {
        assert!(is_ready(&rig));
        assert!(!rig.stderr().contains("s3cret-of"));
        rig.stop();
    }
    let _ = fs::remove_file(keys);
}

#[test]
fn a_code_is_redeemed_once_whoever_is_asked() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (keys, url) = (keys("race"), server.url());
    let rigs = [
        gateway(&keys, &url),
        gateway(&keys, &url),
        gateway(&keys, &url),
    ];
    let rigs: Vec<&Rig> = rigs.iter().collect();
    let mut person = Person::new(rigs[0], HOME);
    for _ in 0..5 {
        let code = person.code();
        let answers = at_once(&rigs, &person.exchange(&code));
        one_wins_and_it_ends(&rigs, &person, &answers);
    }
    let _ = fs::remove_file(keys);
}

#[test]
fn while_the_store_is_away_tokens_are_good_and_everything_else_is_for_later() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (keys, port) = (keys("away"), server.port);
    let rig = gateway(&keys, &server.url());
    let other = gateway(&keys, &server.url());
    let mut person = Person::new(&rig, HOME);
    let (code, later) = (person.code(), person.code());
    let kept = text(
        &post(&rig, "/token", &person.exchange(&code)),
        "access_token",
    );
    let code = person.code();
    let told = post(&rig, "/token", &person.exchange(&code));
    let (ended, refresh) = (text(&told, "access_token"), text(&told, "refresh_token"));
    let back = format!("token={refresh}&client_id={}", person.client);
    assert_eq!(post(&rig, "/revoke", &back).status(), 200);
    within(LEARNED, "over at the other", || {
        status_with(&other, &ended) == 401
    });
    eventually("the store is there", || is_ready(&rig));
    drop(server);
    eventually("health says that it is away", || {
        store_state(&rig) == "away"
    });
    let wish = json!({"redirect_uris": ["http://127.0.0.1/cb"]}).to_string();
    for (path, body) in [
        ("/token", person.exchange(&later)),
        ("/token", person.refreshing(&refresh)),
        ("/register", wish),
    ] {
        let began = Instant::now();
        let reply = post(&rig, path, &body);
        assert_eq!(reply.status(), 503, "{path} {}", reply.text);
        assert_eq!(reply.json()["error"], "temporarily_unavailable");
        assert!(reply.head.header("Retry-After").is_some());
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    for one in [&rig, &other] {
        assert_eq!(
            (status_with(one, &kept), status_with(one, &ended)),
            (200, 401)
        );
    }
    // What is revoked meanwhile is over here at once, and there when the store is back.
    let revoked = command(&rig, &["auth", "revoke", &person.client]);
    assert_eq!((revoked.code, status_with(&rig, &kept)), (Some(1), 401));
    let Some(again) = RedisServer::start_at(port, &[]) else {
        return;
    };
    eventually("the store is back", || is_ready(&rig) && is_ready(&other));
    // As docs/replicas.md says, whoever noticed it first.
    let told = |line: &String| line.to_lowercase().contains("store away");
    assert_eq!(
        rig.stderr().lines().map(str::to_owned).filter(told).count(),
        1
    );
    // It comes back empty: who asks begins anew, and what was revoked stays so, for newcomers, too.
    let third = gateway(&keys, &again.url());
    within(LEARNED, "told again", || status_with(&third, &ended) == 401);
    within(LEARNED, "told too", || status_with(&third, &kept) == 401);
    let told = post(&rig, "/token", &person.refreshing(&refresh));
    assert_eq!(told.status(), 401, "the client must register again");
    let mut person = Person::new(&other, HOME);
    let code = person.code();
    text(
        &post(&third, "/token", &person.exchange(&code)),
        "access_token",
    );
    let _ = fs::remove_file(keys);
}

#[test]
fn a_gateway_starts_without_its_store_and_finds_it() {
    let (keys, port) = (keys("late"), free_port());
    let rig = gateway(&keys, &format!("redis://127.0.0.1:{port}"));
    eventually("it is said", || store_state(&rig) == "away");
    let Some(_server) = RedisServer::start_at(port, &[]) else {
        return;
    };
    eventually("it is found", || is_ready(&rig));
    rig.stop();
    let _ = fs::remove_file(keys);
}

/// Each step at another gateway, with what the browser was given by the one before.
#[test]
fn a_browser_may_come_to_any_gateway() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let keys = keys("browser");
    let (one, two) = (gateway(&keys, &server.url()), gateway(&keys, &server.url()));
    let client = register(one.port, "A program", "http://127.0.0.1:9/cb");
    let target = format!("/authorize?{}", asked_for(&client));
    let mut at_one = Browser::new(one.port);
    at_one.origin = HOME.to_owned();
    let mut at_two = Browser::new(two.port);
    at_two.origin = HOME.to_owned();
    let page = at_one.get(&target);
    let form = hidden(&page, "/oauth/login");
    at_two.cookies = at_one.cookies.clone();
    let fields = [("request", form.as_str()), ("do", "ask")];
    at_two.post("/oauth/login", &fields);
    eventually("a code is in the log", || {
        two.stderr().contains("login code=")
    });
    let log = two.stderr();
    let (_, rest) = log.split_once("login code=").unwrap();
    let code = rest.split(' ').next().unwrap();
    let page = at_one.get(&target);
    let form = hidden(&page, "/oauth/login");
    let guess = [
        ("request", form.as_str()),
        ("do", "code"),
        ("code", "BBBB-BBBB"),
    ];
    assert_eq!(at_two.post("/oauth/login", &guess).status(), 403);
    let fields = [("request", form.as_str()), ("do", "code"), ("code", code)];
    let reply = at_one.post("/oauth/login", &fields);
    assert_eq!(reply.status(), 303, "{}", reply.text);
    at_two.cookies = at_one.cookies.clone();
    let form = hidden(&at_two.get(&target), "/oauth/consent");
    at_one.cookies = at_two.cookies.clone();
    let fields = [
        ("request", form.as_str()),
        ("do", "allow"),
        ("scope:tag:web", "on"),
    ];
    assert_eq!(at_one.post("/oauth/consent", &fields).status(), 303);
    assert_eq!(at_two.post("/oauth/consent", &fields).status(), 403, "used");
    let _ = fs::remove_file(keys);
}

fn asked_for(client: &str) -> String {
    encoded(&[
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", "http://127.0.0.1:9/cb"),
        (
            "code_challenge",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        ),
        ("code_challenge_method", "S256"),
        ("scope", "tag:web"),
    ])
}

#[test]
fn what_one_hears_of_a_server_makes_the_others_read_its_lists_again() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let listed = Script::start(|_, _| false);
    let start =
        |entry: Value| Plan::new(json!({"notes": entry})).env("ONE_MCP_STORE", &server.url());
    let one = start(demo("notes")).start();
    let two = start(listed.entry()).start();
    eventually("both share", || is_ready(&one) && is_ready(&two));
    eventually("two has listed", || listed.count("tools/list") > 0);
    let before = listed.count("tools/list");
    let mut session = one.session();
    let note = json!({"title": "news", "text": "of another"});
    session.call("notes_1mcp_add_note", note);
    within(LEARNED, "two lists again", || {
        listed.count("tools/list") > before
    });
    assert_eq!(
        listed.count("tools/list"),
        before + 1,
        "and it tells nobody"
    );
    one.stop();
    two.stop();
}

#[test]
fn with_tls_the_certificate_must_be_good() {
    let pki = Pki::new().with("store", 30);
    let (ca, certificate, key) = (pki.ca(), pki.certificate("store"), pki.key("store"));
    let port = free_port().to_string();
    let mut options = vec!["--tls-port", &port, "--tls-auth-clients", "no"];
    options.extend(["--tls-cert-file", &certificate, "--tls-key-file", &key]);
    options.extend(["--tls-ca-cert-file", &ca]);
    let Some(_server) = RedisServer::start(&options) else {
        return;
    };
    let start = |url: String| Plan::new(json!({})).env("ONE_MCP_STORE", &url).start();
    let good = start(format!(
        "rediss://localhost:{port}?ca={}",
        ca.replace('/', "%2F")
    ));
    eventually("it is trusted", || is_ready(&good));
    let other = Pki::new();
    let bad = start(format!(
        "rediss://localhost:{port}?ca={}",
        other.ca().replace('/', "%2F")
    ));
    eventually("it is not trusted", || store_state(&bad) == "away");
    assert!(!is_ready(&bad));
}
