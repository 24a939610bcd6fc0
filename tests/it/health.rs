//! What the gateway says about itself: to whom, in which words, and to which probes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::http::{Connection, Reply, Request};
use crate::support::remote::Script;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, gateway_binary, hostile, with};
use crate::support::{PATIENCE, eventually};

fn get(target: &str) -> Request {
    Request::new("GET", target)
}

fn ask(rig: &Rig, request: &Request) -> Reply {
    rig.connect().exchange(request)
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap();
    object.keys().map(String::as_str).collect()
}

/// A program that nobody will ever greet.
fn silent() -> Value {
    json!({"command": "sleep", "args": ["1000"]})
}

/// One that ends at once.
fn failing() -> Value {
    json!({"command": "false"})
}

#[test]
fn the_body_is_the_one_that_users_know() {
    let servers = json!({
        "ev": with(everything(&[]), json!({"tags": ["a", "b"]})),
        "off": with(everything(&[]), json!({"disabled": true})),
    });
    let rig = Rig::start(servers);
    let reply = rig.get("/health");
    assert_eq!(reply.status(), 200);
    for (name, value) in [
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ("X-Health-Status", "healthy"),
        ("X-Service-Version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(reply.head.header(name), Some(value));
    }
    let uptime = reply.head.header("X-Uptime-Seconds").unwrap();
    let body = reply.json();
    assert_eq!(body["system"]["uptime"].to_string(), uptime);
    let parts = [
        "status",
        "timestamp",
        "version",
        "system",
        "servers",
        "configuration",
    ];
    assert_eq!(keys(&body), parts);
    assert_eq!(body["timestamp"].as_str().unwrap().len(), 24);
    let memory = &body["system"]["memory"];
    let (used, total) = (
        memory["used"].as_f64().unwrap(),
        memory["total"].as_f64().unwrap(),
    );
    assert!(used > 1.0 && used < total, "{memory}");
    assert_eq!(body["system"]["process"]["pid"], rig.pid);
    assert_eq!(body["system"]["process"]["platform"], "linux");
    let counts = ["total", "healthy", "unhealthy", "loading"];
    assert_eq!(
        counts.map(|key| body["servers"][key].as_u64().unwrap()),
        [1, 1, 0, 0]
    );
    let ev = &body["servers"]["details"][0];
    assert_eq!(
        (&ev["name"], &ev["status"]),
        (&json!("ev"), &json!("connected"))
    );
    assert_eq!(
        (&ev["healthy"], &ev["tags"]),
        (&json!(true), &json!(["a", "b"]))
    );
    assert_eq!(ev["lastConnected"].as_str().unwrap().len(), 24);
    let configuration = &body["configuration"];
    for (key, value) in [
        ("loaded", json!(true)),
        ("serverCount", json!(2)),
        ("enabledCount", json!(1)),
        ("disabledCount", json!(1)),
        ("authEnabled", json!(false)),
        ("transport", json!("http")),
        ("version", json!(1)),
        ("needsRestart", json!([])),
    ] {
        assert_eq!(configuration[key], value, "{key}");
    }
    let post = ask(&rig, &Request::post("/health", "{}"));
    assert_eq!(
        (post.status(), post.head.header("Allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
    // Which methods there are is told the same way to whoever asks.
    for target in ["/health", "/health/ready", "/health/mcp/ev"] {
        let reply = ask(&rig, &Request::new("OPTIONS", target));
        let allow = reply.head.header("Allow");
        assert_eq!((reply.status(), allow), (204, Some("GET, HEAD, OPTIONS")));
    }
    rig.stop();
}

/// Which level the answer to this request has.
fn level(rig: &Rig, request: &Request) -> &'static str {
    let body = ask(rig, request).json();
    let is_named = body["servers"]["details"][0]["name"] == "ev";
    match (is_named, body["system"]["process"]["pid"].as_u64()) {
        (true, Some(1..)) => "full",
        (true, _) => "basic",
        (false, Some(0)) if body["configuration"]["serverCount"] == 0 => "minimal",
        _ => panic!("{body}"),
    }
}

#[test]
fn strangers_are_told_the_minimum() {
    let rig = Rig::start(json!({"ev": everything(&[])}));
    assert_eq!(level(&rig, &get("/health")), "full");
    for (name, value, expected) in [
        ("Host", "localhost", "full"),
        ("Host", "10.244.1.7:3050", "minimal"),
        ("Host", "evil.example", "minimal"),
        ("Origin", "http://localhost:5173", "minimal"),
        ("X-Forwarded-For", "203.0.113.5", "minimal"),
        ("X-Forwarded-For", "127.0.0.1, 203.0.113.5", "minimal"),
        ("X-Forwarded-For", "127.0.0.1", "full"),
        ("X-Forwarded-For", "nonsense", "minimal"),
        ("Forwarded", "for=203.0.113.5", "minimal"),
        ("Forwarded", "for=\"[::1]:80\"", "full"),
        ("X-Real-IP", "203.0.113.5", "minimal"),
        ("Via", "1.1 proxy", "minimal"),
    ] {
        let request = get("/health").with(name, value);
        assert_eq!(level(&rig, &request), expected, "{name}: {value}");
    }
    let minimal = ask(&rig, &get("/health").with("Via", "x")).json();
    assert_eq!(
        minimal["system"]["memory"],
        json!({"used": 0.0, "total": 0.0, "percentage": 0.0})
    );
    let process = json!({"pid": 0, "nodeVersion": "", "platform": "", "arch": ""});
    assert_eq!(minimal["system"]["process"], process);
    let configuration = json!({
        "loaded": true, "serverCount": 0, "enabledCount": 0, "disabledCount": 0,
        "authEnabled": false, "transport": "http",
    });
    assert_eq!(minimal["configuration"], configuration);
    assert_eq!(minimal["servers"]["total"], 1);
    rig.stop();
    let plan = || Plan::new(json!({"ev": everything(&[])}));
    let untrusting = plan().arg("--trust-proxy=false").start();
    let request = get("/health").with("X-Forwarded-For", "127.0.0.1");
    assert_eq!(level(&untrusting, &request), "minimal");
    assert_eq!(level(&untrusting, &get("/health")), "full");
    untrusting.stop();
    for (asked, foreign_name) in [
        ("basic", "minimal"),
        ("full", "minimal"),
        ("minimal", "minimal"),
    ] {
        let rig = plan().arg("--health-info-level").arg(asked).start();
        assert_eq!(level(&rig, &get("/health")), asked);
        assert_eq!(level(&rig, &get("/health").with("Via", "x")), asked);
        let of_pod = get("/health").with("Host", "10.244.1.7:3050");
        assert_eq!(level(&rig, &of_pod), asked);
        // A page whose name was bound to our address sends no Origin.
        let rebound = get("/health").with("Host", "evil.example");
        assert_eq!(level(&rig, &rebound), foreign_name, "{asked}");
        rig.stop();
    }
}

#[test]
fn errors_are_shown_without_what_is_nobodys_business() {
    const ERROR: &str = "no API_KEY=hunter2 at http://u:p@10.9.8.7/x, /etc/app/conf.json, \
        10.9.8.7, localhost:99 given-secret still readable";
    let answer =
        format!(r#"{{"jsonrpc":"2.0","id":%s,"error":{{"code":-32000,"message":"{ERROR}"}}}}\n"#);
    let script = format!(
        "while read -r line; do \
         id=$(printf %s \"$line\" | sed 's/.*\"id\":\\([0-9]*\\).*/\\1/'); \
         printf '{answer}' $id; done"
    );
    let server = json!({
        "command": "sh", "args": ["-c", script], "env": {"MY_TOKEN": "given-secret"},
    });
    let rig = Plan::new(json!({"bad": server, "ev": everything(&[])})).start();
    eventually("it has failed", || rig.server("bad")["status"] == "error");
    for target in ["/health", "/health/mcp", "/health/mcp/bad", "/health/ready"] {
        let text = rig.get(target).text;
        assert!(text.contains("still readable"), "{target}: {text}");
        for secret in [
            "hunter2",
            "u:p",
            "10.9.8.7",
            "conf.json",
            "localhost:99",
            "given-secret",
        ] {
            assert!(!text.contains(secret), "{target}: {secret}: {text}");
        }
    }
    rig.stop();
}

#[test]
fn each_state_has_its_word_its_code_and_its_weight() {
    let login = Script::start(|_, wire| {
        let challenge = "WWW-Authenticate: Bearer realm=\"x\"\r\n";
        wire.reply(401, challenge, "");
        true
    });
    let servers = json!({
        "a/b c": everything(&[]),
        "slow": silent(),
        "dead": failing(),
        "login": login.entry(),
        "off": with(everything(&[]), json!({"disabled": true})),
    });
    let rig = Plan::new(servers)
        .set("syncStartTimeout", json!(300))
        .start_unready();
    let states = [
        ("a/b c", "connected", "ready", 200),
        ("slow", "loading", "loading", 202),
        ("dead", "error", "failed", 503),
        ("login", "awaiting_oauth", "awaiting_oauth", 401),
        ("off", "disconnected", "disabled", 503),
    ];
    for (name, word, _, _) in states {
        eventually(name, || rig.server(name)["status"] == word);
    }
    for (name, _, state, code) in states {
        let path = name.replace('/', "%2F").replace(' ', "%20");
        let reply = rig.get(&format!("/health/mcp/{path}"));
        assert_eq!(
            (reply.status(), &reply.json()["state"]),
            (code, &json!(state)),
            "{name}"
        );
        assert_eq!(reply.head.header("X-Server-State"), Some(state));
        assert_eq!(reply.json()["name"], name);
    }
    assert_eq!(
        rig.get("/health/mcp/a_b_c").status(),
        200,
        "the form of tool names"
    );
    assert_eq!(rig.get("/health/mcp/none").status(), 404);
    let body = rig.health();
    assert_eq!(body["status"], "degraded");
    let counts = ["total", "healthy", "unhealthy", "loading"];
    assert_eq!(
        counts.map(|key| body["servers"][key].as_u64().unwrap()),
        [4, 1, 2, 1]
    );
    let reply = rig.get("/health/mcp");
    assert_eq!(reply.status(), 202);
    assert_eq!(reply.head.header("X-Loading-Complete"), Some("false"));
    assert_eq!(reply.head.header("X-Success-Rate"), Some("25.0"));
    let mcp = reply.json();
    assert_eq!(mcp["summary"]["total"], 4);
    for (key, names) in [
        ("ready", json!(["a/b c"])),
        ("loading", json!(["slow"])),
        ("failed", json!(["dead"])),
        ("awaitingOAuth", json!(["login"])),
        ("disabled", json!(["off"])),
        ("crashLoop", json!([])),
    ] {
        assert_eq!(mcp["servers"]["byState"][key], names);
        assert_eq!(mcp["summary"][key], names.as_array().unwrap().len());
    }
    assert_eq!(mcp["loading"]["isComplete"], false);
    assert_eq!(mcp["backendSupervision"]["a/b c"]["state"], "connected");
    // Strangers get numbers.
    let stranger = ask(&rig, &get("/health/mcp").with("Via", "x"));
    assert!(!stranger.text.contains("slow") && !stranger.text.contains("a/b c"));
    assert_eq!(stranger.json()["summary"], mcp["summary"]);
    assert_eq!(stranger.json()["backendSupervision"]["connected"], 1);
    let one = ask(&rig, &get("/health/mcp/dead").with("Via", "x"));
    assert_eq!(
        (one.status(), keys(&one.json())),
        (503, vec!["state", "timestamp"])
    );
    rig.stop();
}

#[test]
fn one_server_is_told_with_its_last_exit() {
    let rig = Rig::start(json!({"ev": with(everything(&[]), json!({"restartDelay": 60_000}))}));
    let one = || rig.get("/health/mcp/ev").json();
    let before = one();
    let pid = before["currentPid"].as_i64().unwrap();
    let expected = json!({
        "name": "ev", "backendId": "static:ev", "state": "ready", "attempt": 0, "retryCount": 0,
        "limit": null, "nextRetryAt": null, "lastExit": null, "lastError": null,
        "currentPid": pid,
        "lastConnected": before["lastConnected"], "timestamp": before["timestamp"],
    });
    assert_eq!(before, expected);
    signal(i32::try_from(pid).unwrap(), rustix::process::Signal::KILL);
    // What is left of its family ends first; then it is known when it is tried again.
    eventually("it waits", || one()["nextRetryAt"].is_string());
    let after = one();
    let exit = &after["lastExit"];
    assert_eq!(
        exit,
        &json!({"code": null, "signal": "SIGKILL", "pid": pid, "at": exit["at"]})
    );
    assert!(
        exit["at"].is_string() && after["nextRetryAt"].is_string(),
        "{after}"
    );
    assert_eq!(
        (&after["attempt"], &after["currentPid"]),
        (&json!(1), &json!(null))
    );
    let why = "was killed by signal 9 (SIGKILL)";
    assert_eq!(
        (&after["error"], &after["lastError"]),
        (&json!(why), &json!(why))
    );
    let all = rig.get("/health/mcp").json();
    assert_eq!(all["backendSupervision"]["ev"]["lastExit"], *exit);
    assert_eq!(all["servers"]["details"]["ev"]["error"], why);
    rig.stop();
}

#[test]
fn ready_waits_for_whom_the_policy_names() {
    let servers = || {
        json!({
            "must": with(hostile(&["--slow-start", "600"]), json!({"required": true})),
            "dead": failing(),
        })
    };
    let plan = |policy: &str| Plan::new(servers()).arg("--ready-policy").arg(policy);
    // Without async loading it waits for the start too.
    let rig = plan("required").start_unready();
    let early = rig.get("/health/ready");
    assert_eq!(
        (early.status(), &early.json()["status"]),
        (503, &json!("not_ready"))
    );
    assert_eq!(early.json()["reason"], "starting");
    assert_eq!(rig.get("/health/startup").status(), 503);
    assert_eq!(rig.get("/health/live").status(), 200);
    eventually("it is ready", || rig.get("/health/ready").status() == 200);
    assert_eq!(rig.get("/health/startup").status(), 200);
    assert_eq!(rig.server("must")["status"], "connected");
    rig.stop();
    let rig = plan("all").arg("--enable-async-loading").start_unready();
    let must_is_up = || rig.server("must")["status"] == "connected";
    eventually("the required one is up", must_is_up);
    let reply = rig.get("/health/ready");
    assert_eq!(
        (reply.status(), &reply.json()["reason"]),
        (503, &json!("servers"))
    );
    assert_eq!(reply.json()["missing"][0]["name"], "dead");
    let stranger = ask(&rig, &get("/health/ready").with("Via", "x"));
    assert_eq!(stranger.status(), 503);
    assert!(!stranger.text.contains("dead"));
    rig.stop();
    for policy in ["required", "any"] {
        let rig = plan(policy).arg("--enable-async-loading").start_unready();
        let reply = rig.get("/health/ready");
        assert_eq!(
            (reply.status(), &reply.json()["reason"]),
            (503, &json!("servers"))
        );
        eventually("it is ready", || rig.get("/health/ready").status() == 200);
        rig.stop();
    }
    let rig = plan("none").arg("--enable-async-loading").start_unready();
    assert_eq!(rig.get("/health/ready").status(), 200);
    rig.stop();
}

fn at(port: u16, request: &Request) -> Reply {
    Connection::open(port).exchange(request)
}

#[test]
fn a_listener_of_its_own_tells_health_and_nothing_else() {
    let rig = Plan::new(json!({"ev": everything(&[])}))
        .arg("--health-listen=127.0.0.1:0")
        .start();
    let port = rig.health_port;
    assert!(port != 0 && port != rig.port);
    for target in [
        "/health",
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/health/mcp/ev",
    ] {
        assert_eq!(at(port, &get(target)).status(), 200, "{target}");
    }
    assert_eq!(
        at(port, &get("/health")).json()["servers"]["details"][0]["name"],
        "ev"
    );
    for target in ["/mcp", "/sse", "/", "/health/x"] {
        assert_eq!(at(port, &get(target)).status(), 404, "{target}");
    }
    assert_eq!(at(port, &Request::post("/mcp", "{}")).status(), 404);
    assert_eq!(at(port, &Request::new("DELETE", "/health")).status(), 405);
    let of_pod = get("/health").with("Host", "10.244.1.7:9090");
    let reply = at(port, &of_pod);
    assert_eq!(
        (reply.status(), &reply.json()["servers"]["details"]),
        (200, &json!([]))
    );
    let page = get("/health").with("Origin", "https://evil.example");
    assert_eq!(at(port, &page).status(), 403);
    rig.stop();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let plan = Plan::new(json!({})).arg("--health-listen").arg(&address);
    let (code, stderr) = plan.refused();
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");
}

fn health(rig: &Rig, args: &[&str]) -> Output {
    let mut command = Command::new(gateway_binary());
    command.env_clear().env("HOME", rig.folder()).arg("health");
    command.args(args).output().unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32, fits: impl Fn(&Value) -> bool) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert!(fits(&serde_json::from_str(&text).unwrap()), "{text}");
}

#[test]
fn the_command_asks_the_socket_or_else_the_port() {
    let rig = Rig::start(json!({"ev": everything(&[]), "x y": failing()}));
    let port = rig.port.to_string();
    let socket = rig
        .folder()
        .join(format!(".local/state/onemcp/onemcp-{port}.health.sock"));
    eventually("it has failed", || rig.server("x y")["status"] == "error");
    let there = |body: &Value| body["status"] == "degraded";
    check(&health(&rig, &["--port", &port]), 0, there);
    let path = socket.to_str().unwrap();
    check(&health(&rig, &["--socket", path]), 0, there);
    for (flag, status) in [
        ("--live", "alive"),
        ("--ready", "ready"),
        ("--startup", "started"),
    ] {
        check(&health(&rig, &["--port", &port, flag]), 0, |body| {
            body["status"] == status
        });
    }
    check(&health(&rig, &["--port", &port, "ev"]), 0, |body| {
        body["state"] == "ready"
    });
    check(&health(&rig, &["--port", &port, "x y"]), 1, |body| {
        body["state"] == "failed"
    });
    check(&health(&rig, &["--port", &port, "none"]), 1, |body| {
        body["error"].is_string()
    });
    // Of the socket also what tiny_http would send in pieces.
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .write_all(b"GET /health/mcp/ev HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"state\":\"ready\""), "{answer}");
    std::fs::remove_file(&socket).unwrap();
    check(&health(&rig, &["--port", &port]), 0, there);
    check(&health(&rig, &["--socket", path]), 69, |body| {
        body["error"].is_object()
    });
    rig.term();
    let mut rig = rig;
    rig.exit_code(PATIENCE);
    check(&health(&rig, &["--port", &port]), 69, |body| {
        body["error"].is_object()
    });
    assert_eq!(health(&rig, &["--live", "--ready"]).status.code(), Some(64));
    assert_eq!(health(&rig, &["a", "b"]).status.code(), Some(64));
}

#[test]
fn the_command_waits_for_no_gateway_that_is_silent() {
    let rig = Rig::start(json!({}));
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let output = health(&rig, &["--port", &port, "--timeout", "200"]);
    check(&output, 75, |body| body["error"].is_object());
    rig.stop();
}

/// The block of the documentation that has this in it.
fn documented(what: &str) -> String {
    let page = include_str!("../../docs/operations.md");
    let mut blocks = page.split("```yaml\n").skip(1);
    let block = blocks.find_map(|rest| rest.split("```").next().filter(|text| text.contains(what)));
    block.unwrap_or_else(|| panic!("no {what}")).to_owned()
}

/// Path and port of each `httpGet`, by the name of its probe.
fn probes(yaml: &str) -> Vec<(String, String, u16)> {
    let mut found = Vec::new();
    let (mut probe, mut path) = (String::new(), String::new());
    for line in yaml.lines().map(str::trim) {
        match line.split_once(':').map(|(key, value)| (key, value.trim())) {
            Some((key, "")) if key.ends_with("Probe") => probe = key.to_owned(),
            Some(("path", value)) => path = value.to_owned(),
            Some(("port", value)) => {
                found.push((probe.clone(), path.clone(), value.parse().unwrap()));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn probes_of_kubernetes_succeed_as_they_are_documented() {
    let rig = Plan::new(json!({"ev": everything(&[])}))
        .args(&["--host=0.0.0.0", "--allow-unauthenticated"])
        .start();
    let probes = probes(&documented("livenessProbe"));
    let names: Vec<&str> = probes.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(names, ["livenessProbe", "readinessProbe"]);
    for (name, path, port) in probes {
        assert_eq!(port, 3050, "{name}");
        // What kubelet sends: the address of the pod as Host, and its own name.
        let request = get(&path)
            .with("Host", "10.244.1.7:3050")
            .with("User-Agent", "kube-probe/1.34")
            .with("Accept", "*/*")
            .with("Connection", "close");
        let reply = ask(&rig, &request);
        assert_eq!(reply.status(), 200, "{name} {path}: {}", reply.text);
    }
    rig.stop();
}

#[test]
fn the_health_check_of_compose_succeeds_as_it_is_documented() {
    let compose = documented("CMD");
    let line = compose
        .lines()
        .find(|line| line.trim().starts_with("test:"))
        .unwrap();
    let words: Vec<String> = line
        .split('\'')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert_eq!(words[..2], ["CMD", "curl"]);
    let rig = Rig::start(json!({"ev": everything(&[])}));
    let port = rig.port.to_string();
    let here: Vec<String> = words[2..]
        .iter()
        .map(|word| word.replace("3050", &port))
        .collect();
    if let Ok(output) = Command::new("curl").args(&here).output() {
        assert!(output.status.success(), "{output:?}");
        signal(rig.pid_of("ev"), rustix::process::Signal::KILL);
        eventually("it is noticed", || rig.get("/health").status() == 503);
    }
    rig.stop();
}
