//! Gateways that share a Redis, through the real program: what one of them gave the other takes,
//! once; what one ended is over at the other; and what happens while the store is away. Where no
//! redis-server is installed these tests say so and do nothing.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::auth_server::{
    GRANT, HASH, Person, at_once, face, one_wins_and_it_ends, plan, post, refusal, status_with,
    text,
};
use crate::support::http::Request;
use crate::support::redis::{RedisServer, free_port};
use crate::support::rig::Rig;
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
fn gateway(keys: &PathBuf, store: &str) -> Rig {
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

#[test]
fn gateways_that_share_a_store_are_one() {
    let Some(server) = RedisServer::start(&["--requirepass", "s3cret-of-the-store"]) else {
        return;
    };
    let (keys, url) = (
        keys("one"),
        format!("redis://:s3cret-of-the-store@127.0.0.1:{}", server.port),
    );
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
    let Some(again) = RedisServer::start_at(port, &[]) else {
        return;
    };
    eventually("the store is back", || is_ready(&rig) && is_ready(&other));
    // It comes back empty: who asks begins anew, and what was revoked stays so, for newcomers, too.
    let third = gateway(&keys, &again.url());
    within(LEARNED, "told again", || status_with(&third, &ended) == 401);
    assert_eq!(status_with(&third, &kept), 200);
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
