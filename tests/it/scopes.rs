//! What a token opens, on every way in: without one nothing, with a narrow one as if there were
//! nothing else. Two gateways are asked the same with the same token; one of them does not even
//! have what is closed. Their answers are equal, byte for byte.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{Connection, Reply, Request, Stream};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{demo, everything, with};
use crate::support::session::{initialize, request};
use crate::support::stateless;
use crate::support::token::{ISSUER, Mint, now_s};
use crate::support::{PATIENCE, eventually};

const HIDDEN: [&str; 3] = ["first", "db", "plain"];

fn key_file(name: &str, mint: &Mint) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("scopes-{name}.json"));
    mint.write(&file);
    file
}

/// `web` between servers that only one gateway has: one before it that offers the same, so that
/// it shadows what `web` has, one after it, and one without tags.
fn servers(all: bool) -> Value {
    let mut servers = json!({});
    let tagged = |entry: Value, tag: &str| with(entry, json!({"tags": [tag]}));
    if all {
        servers["first"] = tagged(everything(&[]), "secret");
    }
    servers["web"] = tagged(everything(&[]), "web");
    if all {
        servers["db"] = tagged(demo("notes"), "db");
        servers["plain"] = demo("clock");
    }
    servers
}

fn plan(name: &str, all: bool) -> Plan {
    let tagged = |tag: &str| json!({"name": tag, "strategy": "or", "tagQuery": {"tag": tag}});
    let presets = json!({"version": "1.0.0", "presets":
        {"web": tagged("web"), "db": tagged("db")}});
    let keys = key_file(name, &Mint::new(7));
    Plan::new(servers(all))
        .presets(presets)
        .args(&["--enable-auth", "--external-url", ISSUER])
        .args(&["--auth-keys", keys.to_str().unwrap()])
}

fn bearing(request: Request, token: &str) -> Request {
    match token {
        "" => request,
        token => request.with("Authorization", &format!("Bearer {token}")),
    }
}

/// What of an answer must be equal: everything but the moment and the name of the session.
fn essence(reply: &Reply) -> String {
    let headers = ["Content-Type", "WWW-Authenticate", "Cache-Control", "Allow"];
    let headers = headers.map(|name| reply.head.header(name).unwrap_or("-").to_owned());
    format!("{} {headers:?} {}", reply.status(), reply.text)
}

/// One thing to ask for.
struct Ask {
    method: &'static str,
    params: Value,
}

fn asks() -> Vec<Ask> {
    let ask = |method, params| Ask { method, params };
    let mut asks: Vec<Ask> = ["tools/list", "prompts/list", "resources/list", "ping"]
        .map(|method| ask(method, json!({})))
        .into();
    asks.push(ask("resources/templates/list", json!({})));
    for name in [
        "db_1mcp_add_note",
        "add_note",
        "first_1mcp_test_simple_text",
        "plain_1mcp_now",
        "web_1mcp_test_simple_text",
        "test_simple_text",
        "no_1mcp_such",
    ] {
        asks.push(ask("tools/call", json!({"name": name, "arguments": {}})));
        asks.push(ask("prompts/get", json!({"name": name})));
    }
    for name in ["db_1mcp_summarise_notes", "first_1mcp_test_simple_prompt"] {
        asks.push(ask("prompts/get", json!({"name": name})));
        let reference = json!({"type": "ref/prompt", "name": name});
        let argument = json!({"name": "arg1", "value": "a"});
        let params = json!({"ref": reference, "argument": argument});
        asks.push(ask("completion/complete", params));
    }
    for uri in [
        "notes://all",
        "note://1",
        "test://static-text",
        "test://watched-resource",
        "no://such",
    ] {
        for method in [
            "resources/read",
            "resources/subscribe",
            "resources/unsubscribe",
        ] {
            asks.push(ask(method, json!({"uri": uri})));
        }
        let reference = json!({"type": "ref/resource", "uri": uri});
        let argument = json!({"name": "id", "value": "a"});
        let params = json!({"ref": reference, "argument": argument});
        asks.push(ask("completion/complete", params));
    }
    asks.push(ask("logging/setLevel", json!({"level": "error"})));
    asks.push(ask("tasks/list", json!({})));
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        asks.push(ask(method, json!({"taskId": "none"})));
    }
    asks.push(ask("no/such", json!({})));
    asks
}

const TARGETS: [&str; 12] = [
    "/mcp",
    "/mcp/web",
    "/mcp/db",
    "/mcp/plain",
    "/mcp/none",
    "/mcp?tags=web",
    "/mcp?tags=db",
    "/mcp?tag-filter=not%20web",
    "/mcp?tag-filter=db%20or%20web",
    "/mcp?filter=db",
    "/mcp?preset=db",
    "/mcp/db?tags=web",
];

/// All that a session is answered at one URL.
fn session(rig: &Rig, target: &str, token: &str) -> Vec<String> {
    let mut connection = rig.connect();
    let mut said = Vec::new();
    let hello = Request::post(target, initialize("2025-11-25", &json!({})));
    let hello = connection.exchange(&bearing(hello, token));
    said.push(format!("{target} initialize {}", essence(&hello)));
    let id = hello.head.header("Mcp-Session-Id").unwrap_or("none");
    let sign = |request: Request| {
        let request = request.with("Mcp-Session-Id", id);
        bearing(request.with("MCP-Protocol-Version", "2025-11-25"), token)
    };
    for (number, ask) in asks().iter().enumerate() {
        let body = request(&json!(number), ask.method, &ask.params);
        let reply = connection.exchange(&sign(Request::post(target, body)));
        said.push(format!(
            "{target} {} {} {}",
            ask.method,
            ask.params,
            essence(&reply)
        ));
    }
    let end = connection.exchange(&sign(Request::new("DELETE", target)));
    said.push(format!("{target} DELETE {}", essence(&end)));
    said
}

/// The same of the stateless revision.
fn stateless(rig: &Rig, target: &str, token: &str) -> Vec<String> {
    let client = stateless::Client::new(rig.port, target);
    let mut said = Vec::new();
    let mut connection = rig.connect();
    let discover = Ask {
        method: "server/discover",
        params: json!({}),
    };
    for ask in [discover].iter().chain(&asks()) {
        let request = client.request(&json!("q"), ask.method, &ask.params);
        let reply = connection.exchange(&bearing(request, token));
        said.push(format!(
            "{target} {} {} {}",
            ask.method,
            ask.params,
            essence(&reply)
        ));
    }
    said
}

/// The same over HTTP+SSE, whose answers come on one stream.
fn sse(rig: &Rig, target: &str, token: &str) -> Vec<String> {
    let listen = bearing(Request::listen(target), token);
    let mut stream: Stream = Connection::open(rig.port).stream(&listen);
    if stream.head.status != 200 {
        return vec![format!("{target} {}", stream.head.status)];
    }
    let endpoint = stream.event(PATIENCE).and_then(|event| event.data).unwrap();
    let mut connection = rig.connect();
    let mut say = |body: String| {
        let reply = connection.exchange(&bearing(Request::post(&endpoint, body), token));
        essence(&reply)
    };
    let mut said = vec![say(initialize("2024-11-05", &json!({})))];
    said.push(stream.message().to_string());
    for (number, ask) in asks().iter().enumerate() {
        said.push(say(request(&json!(number), ask.method, &ask.params)));
        let answer = loop {
            let message = stream.message();
            if message["id"] == json!(number) {
                break message;
            }
        };
        said.push(format!("{} {} {answer}", ask.method, ask.params));
    }
    said
}

fn assert_equal(whole: &[String], part: &[String]) {
    assert_eq!(whole.len(), part.len());
    for (whole, part) in whole.iter().zip(part) {
        assert_eq!(whole, part);
    }
}

#[test]
fn what_is_closed_is_as_what_is_not_there() {
    let (whole, part) = (plan("whole", true).start(), plan("part", false).start());
    let mint = Mint::new(7);
    let tokens = [
        mint.token("tag:web", json!({})),
        mint.token("tag:web tool:web/test_simple_text", json!({"sub": "b"})),
        mint.token("tool:web/test_simple_text", json!({"sub": "c"})),
        mint.token("tag:web read", json!({"sub": "d"})),
        mint.token("", json!({"sub": "e"})),
        mint.token("tag:other openid", json!({"sub": "f"})),
    ];
    let mut compared = 0;
    for token in &tokens {
        for target in TARGETS {
            let (one, other) = (
                session(&whole, target, token),
                session(&part, target, token),
            );
            assert_equal(&one, &other);
            compared += one.len();
            let (one, other) = (
                stateless(&whole, target, token),
                stateless(&part, target, token),
            );
            assert_equal(&one, &other);
            compared += one.len();
        }
        for target in ["/sse", "/sse?tags=db", "/sse?tag-filter=not%20web"] {
            let (one, other) = (sse(&whole, target, token), sse(&part, target, token));
            assert_equal(&one, &other);
            compared += one.len();
        }
    }
    assert!(compared > 6_000, "{compared}");
    // The comparison means something: who may, sees it.
    let wide = mint.token("tag:*", json!({}));
    let seen = session(&whole, "/mcp", &wide).join("\n");
    for server in HIDDEN {
        assert!(seen.contains(&format!("{server}_1mcp_")), "{server}");
    }
}

/// Everything that can be asked for, with the answer that no good token gets.
#[test]
fn without_a_good_token_there_is_nothing_on_any_way() {
    let rig = plan("none", true).start();
    let mint = Mint::new(7);
    let none = (String::new(), false);
    let mut bad = vec![none];
    for other in [
        json!({"aud": "https://elsewhere.example/mcp"}),
        json!({"aud": format!("{ISSUER}/health")}),
        json!({"exp": now_s() - 120}),
        json!({"iss": "https://elsewhere.example"}),
    ] {
        bad.push((mint.token("tag:*", other), true));
    }
    bad.push((Mint::new(8).token("tag:*", json!({})), true));
    let mut answers = 0;
    for (token, is_told) in &bad {
        let check = |request: Request, what: &str| {
            let reply = rig.connect().exchange(&bearing(request, token));
            assert_eq!(reply.status(), 401, "{what} {reply:?}");
            let challenge = reply.head.header("WWW-Authenticate").unwrap();
            assert_eq!(challenge.contains("error="), *is_told, "{what} {challenge}");
            assert!(challenge.contains("resource_metadata=\""), "{challenge}");
            assert!(!reply.text.contains("1mcp"), "{reply:?}");
        };
        for target in TARGETS.iter().chain(&["/messages?sessionId=x", "/mcp/"]) {
            let client = stateless::Client::new(rig.port, target);
            for ask in asks() {
                let body = request(&json!(1), ask.method, &ask.params);
                check(Request::post(target, body), ask.method);
                check(
                    client.request(&json!(1), ask.method, &ask.params),
                    ask.method,
                );
                answers += 2;
            }
            check(
                Request::post(target, initialize("2025-11-25", &json!({}))),
                target,
            );
        }
        for target in ["/mcp", "/mcp/db", "/sse"] {
            check(Request::listen(target), target);
        }
        check(Request::new("DELETE", "/mcp"), "delete");
    }
    assert!(answers > 3_000, "{answers}");
}

#[test]
fn a_filter_on_tags_that_a_token_lacks_names_them() {
    let rig = plan("lacks", true).start();
    let token = Mint::new(7).token("tag:web", json!({}));
    for target in ["/mcp?tags=db", "/mcp?tags=nothing", "/mcp?tags=web,db"] {
        let hello = Request::post(target, initialize("2025-11-25", &json!({})));
        let reply = rig.connect().exchange(&bearing(hello, &token));
        assert_eq!(reply.status(), 403, "{reply:?}");
        let challenge = reply.head.header("WWW-Authenticate").unwrap();
        assert!(
            challenge.contains("error=\"insufficient_scope\""),
            "{challenge}"
        );
        assert!(challenge.contains("scope=\"tag:"), "{challenge}");
        assert_eq!(reply.json()["error"], "insufficient_scope");
    }
}

#[test]
fn a_session_belongs_to_who_opened_it() {
    let rig = plan("owner", true).start();
    let mint = Mint::new(7);
    let ada = mint.token("tag:web", json!({}));
    let hello = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let reply = rig.connect().exchange(&bearing(hello, &ada));
    let id = reply.head.header("Mcp-Session-Id").unwrap().to_owned();
    let ask = |token: &str, id: &str| {
        let body = request(&json!(1), "tools/list", &json!({}));
        let request = Request::post("/mcp", body).with("Mcp-Session-Id", id);
        rig.connect().exchange(&bearing(request, token))
    };
    let unknown = ask(&ada, "stream-00000000-0000-0000-0000-000000000000");
    for other in [json!({"sub": "bob"}), json!({"client_id": "other"})] {
        let token = mint.token("tag:*", other);
        assert_eq!(essence(&ask(&token, &id)), essence(&unknown));
        for method in ["GET", "DELETE"] {
            let request = Request::new(method, "/mcp").with("Mcp-Session-Id", &id);
            let request = request.with("Accept", "text/event-stream");
            let reply = rig.connect().exchange(&bearing(request, &token));
            assert_eq!(reply.status(), 404, "{reply:?}");
        }
    }
    // The same person with another token goes on, and sees what that opens.
    let tools = |token: &str| {
        let reply = ask(token, &id);
        reply.messages()[0]["result"]["tools"].to_string()
    };
    assert!(!tools(&ada).contains("db_1mcp_"));
    let wider = mint.token("tag:web tag:db", json!({}));
    assert!(tools(&wider).contains("db_1mcp_"));
    assert!(!tools(&ada).contains("db_1mcp_"));
}

/// A call that is at work when its token ends gives nothing more, and the server hears of it.
#[test]
fn a_call_ends_with_its_token() {
    let rig = plan("ends", true).start();
    let mint = Mint::new(7);
    let lasting = mint.token("tag:web", json!({}));
    let hello = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let reply = rig.connect().exchange(&bearing(hello, &lasting));
    let id = reply.head.header("Mcp-Session-Id").unwrap().to_owned();
    let params = json!({"name": "web_1mcp_slow_progress", "_meta": {"progressToken": 1},
        "arguments": {"steps": 200, "ms": 100}});
    let quiet = json!({"name": "web_1mcp_sleep", "arguments": {"ms": 20_000}});
    let client = stateless::Client::new(rig.port, "/mcp");
    let reporting = client.with("progressToken", json!(1));
    let of_session = |params: &Value| {
        let body = request(&json!(2), "tools/call", params);
        Request::post("/mcp", body).with("Mcp-Session-Id", &id)
    };
    for (asked, is_told) in [
        (of_session(&params), true),
        (of_session(&quiet).with("Accept", "application/json"), false),
        (reporting.request(&json!(2), "tools/call", &params), true),
        (client.request(&json!(2), "tools/call", &quiet), false),
    ] {
        let brief = mint.token("tag:web", json!({"exp": now_s() + 3, "jti": "brief"}));
        let began = Instant::now();
        let reply = rig.connect().exchange(&bearing(asked, &brief));
        assert!(began.elapsed() < Duration::from_secs(10), "{reply:?}");
        let messages = reply.messages();
        assert_eq!(messages.len() > 1, is_told, "{reply:?}");
        let end = messages.last().unwrap();
        assert_eq!(
            (&end["id"], &end["error"]["code"]),
            (&json!(2), &json!(-32600))
        );
    }
}

/// One principal has so many sessions, and so many streams; another one has its own.
#[test]
fn sessions_and_streams_of_one_principal_are_bounded() {
    let rig = plan("many", false).start();
    let mint = Mint::new(7);
    let (ada, bob) = (
        mint.token("tag:web", json!({})),
        mint.token("tag:web", json!({"sub": "bob"})),
    );
    let hello = || Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let listen =
        |token: &str| Connection::open(rig.port).stream(&bearing(Request::listen("/sse"), token));
    let mut streams: Vec<Stream> = Vec::new();
    for _ in 0..32 {
        let opened = rig.connect().exchange(&bearing(hello(), &ada));
        assert_eq!(opened.status(), 200, "{opened:?}");
        streams.push(listen(&ada));
    }
    assert!(streams.iter().all(|stream| stream.head.status == 200));
    for request in [hello(), Request::listen("/sse")] {
        let refused = rig.connect().exchange(&bearing(request, &ada));
        assert_eq!(refused.status(), 429, "{refused:?}");
        assert_eq!(refused.head.header("Retry-After"), Some("1"));
        assert_eq!(refused.json()["error"]["code"], -32600);
        assert_eq!(listen(&bob).head.status, 200);
    }
    streams.pop().unwrap().cut();
    eventually("a stream has ended", || listen(&ada).head.status == 200);
}

#[test]
fn a_tag_that_goes_takes_the_server_from_live_sessions() {
    let rig = plan("reload", true).start();
    let token = Mint::new(7).token("tag:db", json!({}));
    let hello = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let reply = rig.connect().exchange(&bearing(hello, &token));
    let id = reply.head.header("Mcp-Session-Id").unwrap().to_owned();
    let sign = |request: Request| bearing(request.with("Mcp-Session-Id", &id), &token);
    let mut news = Connection::open(rig.port).stream(&sign(Request::listen("/mcp")));
    let count = || {
        let list = request(&json!(1), "tools/list", &json!({}));
        let reply = rig.connect().exchange(&sign(Request::post("/mcp", list)));
        let tools = reply.messages()[0]["result"]["tools"].clone();
        tools.as_array().map_or(0, Vec::len)
    };
    assert!(count() > 0);
    let file = rig.folder().join("mcp.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["mcpServers"]["db"]["tags"] = json!(["moved"]);
    std::fs::write(&file, config.to_string()).unwrap();
    eventually("the server is closed", || count() == 0);
    let told = std::iter::from_fn(|| Some(news.message()))
        .take(3)
        .find(|message| message["method"] == "notifications/tools/list_changed");
    assert!(told.is_some());
}

#[test]
fn without_scope_validation_a_token_is_asked_for_all_the_same() {
    let rig = plan("valid", true)
        .arg("--enable-scope-validation=false")
        .start();
    let mint = Mint::new(7);
    let ask = |token: &str| {
        let client = stateless::Client::new(rig.port, "/mcp");
        let request = client.request(&json!(1), "tools/list", &json!({}));
        rig.connect().exchange(&bearing(request, token))
    };
    assert_eq!(ask("").status(), 401);
    assert_eq!(ask("a.b.c").status(), 401);
    let narrow = ask(&mint.token("tag:web", json!({})));
    assert!(narrow.text.contains("db_1mcp_"), "{narrow:?}");
}

/// What opens 1MCP, tried here.
#[test]
fn what_opens_others_opens_nothing_here() {
    let rig = plan("bypass", true).start();
    let mint = Mint::new(7);
    let web = mint.token("tag:web", json!({}));
    let ask = |target: &str, token: &str, session: &str| {
        let body = request(&json!(1), "tools/list", &json!({}));
        let request = Request::post(target, body).with("Mcp-Session-Id", session);
        rig.connect().exchange(&bearing(request, token))
    };
    let list = |target: &str, token: &str| {
        let client = stateless::Client::new(rig.port, target);
        let request = client.request(&json!(1), "tools/list", &json!({}));
        rig.connect().exchange(&bearing(request, token))
    };
    // No filter, and one that says what it does not want.
    for target in ["/mcp", "/mcp?tag-filter=not%20web", "/mcp?filter=!web"] {
        let reply = list(target, &web);
        assert!(
            HIDDEN.iter().all(|name| !reply.text.contains(name)),
            "{reply:?}"
        );
    }
    // A token that asked for nothing has nothing.
    let nothing = list("/mcp", &mint.token("", json!({})));
    assert_eq!(nothing.messages()[0]["result"]["tools"], json!([]));
    // A bad token is told what it is; an id that a client chose itself is no session.
    assert_eq!(list("/mcp", "nonsense").status(), 401);
    let chosen = "stream-11111111-2222-4333-8444-555555555555";
    assert_eq!(ask("/mcp", &web, chosen).status(), 404);
    // Nobody gets a token for being on this machine, and no login at a server is begun from afar.
    for (method, target) in [
        ("POST", "/api/auth/cli-token"),
        ("GET", "/api/v1/servers"),
        ("GET", "/oauth/authorize/db"),
        ("POST", "/oauth/restart/db"),
        ("GET", "/admin/oauth"),
    ] {
        let reply = rig.connect().exchange(&Request::new(method, target));
        assert_eq!(reply.status(), 404, "{target} {reply:?}");
    }
    // An answer for a login that nobody began.
    let back = Request::new("GET", "/oauth/callback/db?code=x&state=y");
    let reply = rig.connect().exchange(&back);
    assert!((400..500).contains(&reply.status()), "{reply:?}");
    assert!(!reply.text.contains("db_1mcp"), "{reply:?}");
}
