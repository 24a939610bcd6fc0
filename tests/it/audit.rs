//! The audit log, through the real program: what is told, that nobody breaks or changes it, and
//! what happens when it cannot be written.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{demo, gateway_binary, with};
use crate::support::session::{Session, initialize};
use crate::support::token::{ISSUER, Mint};
use crate::support::{PATIENCE, eventually};

/// A folder of one test, empty, with a key in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("audit-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("key"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let folder = Folder(folder);
        folder.set_mode("key", 0o600);
        folder
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn plan(&self, servers: Value) -> Plan {
        Plan::new(servers).args(&[
            "--audit-sinks",
            "file",
            "--audit-file",
            &self.text("log"),
            "--audit-key-file",
            &self.text("key"),
        ])
    }

    fn log(&self) -> Vec<Value> {
        parsed(&fs::read_to_string(self.path("log")).unwrap_or_default())
    }

    fn count(&self, event: &str) -> usize {
        of(&self.log(), event).len()
    }

    /// Exit code and the last line of `audit verify`.
    fn verify(&self, more: &[&str]) -> (Option<i32>, Value) {
        let mut command = Command::new(gateway_binary());
        command.args(["audit", "verify", "--json"]).args(more);
        command.args(["--audit-key-file", &self.text("key")]);
        if more.iter().all(|word| word.starts_with('-')) {
            command.args(["--audit-file", &self.text("log")]);
        }
        let out = command.output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let last = text.lines().last().unwrap_or("null");
        (out.status.code(), serde_json::from_str(last).unwrap())
    }

    #[track_caller]
    fn is_good(&self) {
        let (code, said) = self.verify(&[]);
        assert_eq!(code, Some(0), "{said}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Whole lines; the last one may be under way.
fn parsed(text: &str) -> Vec<Value> {
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    let line = |line: &str| {
        assert!(line.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    };
    whole.lines().map(line).collect()
}

fn of<'l>(lines: &'l [Value], event: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

fn clock() -> Value {
    json!({"clock": demo("clock")})
}

#[test]
fn what_happens_is_told_and_the_chain_holds() {
    let folder = Folder::new("told");
    let rig = folder.plan(clock()).start();
    let mut session = rig.session();
    session.get("logging/setLevel", json!({"level": "emergency"}));
    session.call("clock_1mcp_now", json!({"zone": "+02:00"}));
    session.refused("tools/call", json!({"name": "nosuch", "arguments": {}}));
    session.get("resources/list", json!({}));
    rig.kill("clock");
    let evil = Request::post("/mcp", "{}").with("Host", "evil.example");
    for _ in 0..50 {
        assert_eq!(rig.connect().exchange(&evil).status(), 403);
    }
    session.delete();
    rig.stop();
    let log = folder.log();
    let events: Vec<&str> = log
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!((events[0], events[1]), ("audit.open", "gateway.start"));
    assert_eq!(events.last(), Some(&"audit.close"));
    for (event, count) in [
        ("server.start", 1),
        ("server.restart", 1),
        ("session.open", 1),
        ("session.close", 1),
        ("tool.call", 2),
        ("host.reject", 20),
        ("gateway.stop", 1),
    ] {
        assert_eq!(of(&log, event).len(), count, "{event}: {events:?}");
    }
    let call = of(&log, "tool.call")[0];
    assert_eq!(
        (&call["outcome"], &call["server"], &call["name"]),
        (&json!("ok"), &json!("clock"), &json!("clock_1mcp_now"))
    );
    assert_eq!(
        (&call["args_bytes"], &call["args"]),
        (&json!(17), &json!(null))
    );
    assert_eq!(call["sess"], of(&log, "session.open")[0]["sess"]);
    assert!(call["dur_ms"].as_f64() >= call["up_ms"].as_f64());
    let failed = of(&log, "tool.call")[1];
    assert_eq!(
        (&failed["outcome"], &failed["code"]),
        (&json!("error"), &json!(-32602))
    );
    let numbers: Vec<u64> = log.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=log.len() as u64).collect::<Vec<_>>());
    let mode = fs::metadata(folder.path("log"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    folder.is_good();
}

#[test]
fn what_was_changed_is_found_by_the_command() {
    let folder = Folder::new("changed");
    let rig = folder.plan(clock()).start();
    let mut session = rig.session();
    for _ in 0..5 {
        session.call("clock_1mcp_now", json!({}));
    }
    rig.stop();
    folder.is_good();
    let good = fs::read(folder.path("log")).unwrap();
    for at in (0..good.len()).step_by(good.len() / 9) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(folder.path("log"), bad).unwrap();
        assert_eq!(folder.verify(&[]).0, Some(1), "byte {at}");
    }
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    for missing in 0..lines.len() {
        let mut less = lines.clone();
        less.remove(missing);
        fs::write(folder.path("log"), less.concat()).unwrap();
        assert_eq!(folder.verify(&[]).0, Some(1), "line {missing}");
    }
    fs::write(folder.path("log"), &good).unwrap();
    let public = folder.log()[0]["public"].as_str().unwrap().to_owned();
    let public = format!("--public-key={public}");
    assert_eq!(folder.verify(&[&public]).0, Some(0));
    assert_eq!(folder.verify(&["--public-key=12"]).0, Some(64));
    assert_eq!(folder.verify(&["nosuch"]).0, Some(78));
    assert_eq!(folder.verify(&["--head=12"]).0, Some(1));
    fs::write(folder.path("key"), "short").unwrap();
    assert_eq!(folder.verify(&[]).0, Some(78));
}

/// Who has the key makes a log that verifies.
#[test]
fn a_key_that_everybody_may_open_is_refused() {
    let folder = Folder::new("open-key");
    for mode in [0o604, 0o666] {
        folder.set_mode("key", mode);
        let (found, why) = folder.plan(json!({})).refused();
        assert_eq!(found, Some(78), "{mode:o}: {why}");
        assert!(why.contains("chmod o="), "{why}");
        assert_eq!(folder.verify(&[]).0, Some(78));
    }
    folder.set_mode("key", 0o640);
    folder.plan(json!({})).start().stop();
    folder.is_good();
}

#[test]
fn the_chain_goes_on_over_kills_restarts_rotation_and_reopening() {
    let folder = Folder::new("chain");
    let small = ["--audit-max-size", "16k", "--audit-max-files", "50"];
    let mut rig = folder.plan(clock()).args(&small).start();
    let mut session = rig.session();
    for _ in 0..30 {
        session.call("clock_1mcp_now", json!({}));
    }
    eventually("calls are written", || folder.path("log.1").exists());
    let (other, why) = folder.plan(json!({})).refused();
    assert_eq!(other, Some(78), "{why}");
    signal(rig.pid, Signal::KILL);
    rig.exit_code(PATIENCE);
    drop(rig);
    let mut torn = fs::OpenOptions::new();
    let mut torn = torn.append(true).open(folder.path("log")).unwrap();
    torn.write_all(b"{\"schema\":\"audit/1\",\"ts\":").unwrap();
    let rig = folder.plan(clock()).start();
    let mut session = rig.session();
    for _ in 0..30 {
        session.call("clock_1mcp_now", json!({}));
    }
    fs::rename(folder.path("log"), folder.path("log.moved")).unwrap();
    signal(rig.pid, Signal::HUP);
    eventually("the file is made again", || {
        session.call("clock_1mcp_now", json!({}));
        folder.path("log").exists()
    });
    rig.stop();
    let mut files: Vec<String> = (1..50)
        .map(|number| folder.text(&format!("log.{number}")))
        .filter(|path| Path::new(path).exists())
        .collect();
    files.reverse();
    files.extend([folder.text("log.moved"), folder.text("log")]);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    assert!(files.len() >= 3, "{files:?}");
    let (code, said) = folder.verify(&files);
    assert_eq!((code, &said["runs"]), (Some(0), &json!(2)), "{said}");
    let (code, _) = folder.verify(&files[1..]);
    assert_eq!(code, Some(1));
    let partial = [&["--partial"], &files[1..]].concat();
    assert_eq!(folder.verify(&partial).0, Some(0));
    let without = [&files[..1], &files[2..]].concat();
    assert_eq!(folder.verify(&without).0, Some(1));
}

/// Lines that stand in the file, each whole.
fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.split_inclusive('\n').map(str::to_owned).collect()
}

/// Whoever may write the folder, but has not the secret, takes the end of a log away.
#[test]
fn an_end_that_was_cut_off_is_missed() {
    let folder = Folder::new("cut");
    for _ in 0..2 {
        let rig = folder.plan(clock()).start();
        rig.session().call("clock_1mcp_now", json!({}));
        rig.stop();
    }
    folder.is_good();
    let log = folder.path("log");
    let (whole, head) = (lines_of(&log), fs::read(folder.path("log.head")).unwrap());
    let mode = fs::metadata(folder.path("log.head")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let is_close = |line: &String| line.contains("\"audit.close\"");
    let first = whole.iter().position(is_close).unwrap() + 1;
    assert!(first < whole.len());
    // Cut in the midst, right behind an end in good order, to nothing, or not there at all.
    for kept in [Some(first + 2), Some(first), Some(0), None] {
        match kept {
            Some(count) => fs::write(&log, whole[..count].concat()).unwrap(),
            None => fs::remove_file(&log).unwrap(),
        }
        let (code, said) = folder.verify(&[]);
        assert_eq!(code, Some(1), "{kept:?}: {said}");
        let rig = folder.plan(clock()).start();
        eventually("it is said", || rig.stderr().contains("WARN"));
        rig.stop();
        let opening = folder.log().remove(0);
        assert_eq!(opening["reason"], "cut", "{kept:?}");
        let (code, said) = folder.verify(&[]);
        assert_eq!(code, Some(1), "{kept:?}: {said}");
        // What was before is kept elsewhere: from here on all is well.
        let _ = fs::remove_file(folder.path("log.1"));
        assert_eq!(folder.verify(&[]).0, Some(1));
        let (code, said) = folder.verify(&["--partial"]);
        assert_eq!(code, Some(0), "{kept:?}: {said}");
        fs::write(folder.path("log.head"), &head).unwrap();
    }
    fs::write(&log, whole.concat()).unwrap();
    folder.is_good();
    // The head itself.
    let mut other = head.clone();
    other[25] ^= 1;
    for bad in [b"".to_vec(), b"x\n".to_vec(), other] {
        fs::write(folder.path("log.head"), bad).unwrap();
        assert_eq!(folder.verify(&[]).0, Some(1));
    }
    fs::remove_file(folder.path("log.head")).unwrap();
    assert_eq!(folder.verify(&[]).0, Some(1));
    let rig = folder.plan(clock()).start();
    rig.stop();
    assert_eq!(folder.log()[0]["reason"], "cut");
}

/// A log in the state directory must be there when its key is.
#[test]
fn a_log_that_is_gone_with_its_head_is_missed_by_its_key() {
    let folder = Folder::new("gone");
    let state = folder.text("state");
    let start = || {
        let plan = Plan::new(json!({})).args(&["--audit-sinks", "file", "--state-dir", &state]);
        plan.start().stop();
    };
    start();
    let at = |name: &str| folder.path("state").join(name);
    start();
    let opening = parsed(&lines_of(&at("audit.log")).concat());
    assert!(opening.iter().all(|line| line["reason"] != "cut"));
    fs::remove_file(at("audit.log")).unwrap();
    fs::remove_file(at("audit.log.head")).unwrap();
    start();
    let opening = parsed(&lines_of(&at("audit.log")).concat()).remove(0);
    assert_eq!(opening["reason"], "cut");
}

/// More files than the judge's own settings know of, and the gateway puts others aside meanwhile.
#[test]
fn all_files_put_aside_are_read_also_while_more_are() {
    let folder = Folder::new("aside");
    let small = ["--audit-max-size", "16k", "--audit-max-files", "90"];
    let rig = folder.plan(clock()).args(&small).start();
    let port = rig.port;
    let calls = std::thread::spawn(move || {
        let mut session = Session::open(port, "/mcp", "2025-11-25", json!({}));
        (0..500).for_each(|_| drop(session.call("clock_1mcp_now", json!({}))));
    });
    eventually("the log begins", || {
        folder.count("audit.open") > 0 || folder.path("log.1").exists()
    });
    let mut looks = 0;
    while !calls.is_finished() {
        let (code, said) = folder.verify(&["--open"]);
        assert_eq!(code, Some(0), "{said}");
        looks += 1;
    }
    calls.join().unwrap();
    eventually("calls are written", || folder.path("log.12").exists());
    rig.stop();
    folder.is_good();
    assert!(looks > 0);
}

#[test]
fn a_key_that_is_gone_is_not_made_again_beside_a_log() {
    let folder = Folder::new("keyless");
    let state = folder.text("state");
    let plan = || Plan::new(json!({})).args(&["--audit-sinks", "file", "--state-dir", &state]);
    plan().start().stop();
    let at = |name: &str| folder.path("state").join(name);
    fs::rename(at("audit.key"), folder.path("kept")).unwrap();
    assert_eq!(plan().refused().0, Some(78));
    assert!(!at("audit.key").exists());
    fs::rename(folder.path("kept"), at("audit.key")).unwrap();
    plan().start().stop();
    for name in ["audit.key", "audit.log", "audit.log.head"] {
        fs::remove_file(at(name)).unwrap();
    }
    plan().start().stop();
    let opening = parsed(&lines_of(&at("audit.log")).concat()).remove(0);
    assert_eq!(opening.get("reason"), None);
}

/// Whoever may write the state directory of a gateway of root makes it no file elsewhere.
#[test]
fn links_in_the_state_directory_lead_nowhere() {
    let folder = Folder::new("links");
    let state = folder.path("state");
    for name in [
        "audit.log",
        "audit.log.lock",
        "audit.log.head",
        "audit.log.head.new",
    ] {
        let _ = fs::remove_dir_all(&state);
        fs::create_dir(&state).unwrap();
        symlink(folder.path("elsewhere"), state.join(name)).unwrap();
        let plan = Plan::new(json!({})).args(&["--audit-sinks", "file"]);
        let plan = plan.args(&["--state-dir", state.to_str().unwrap()]);
        match name {
            "audit.log" | "audit.log.lock" => assert_eq!(plan.refused().0, Some(78), "{name}"),
            _ => plan.start().stop(),
        }
        assert!(!folder.path("elsewhere").exists(), "{name}");
    }
}

#[test]
fn killed_runs_are_counted_and_never_taken_for_cut_ones() {
    let folder = Folder::new("killed");
    for run in 1..=3 {
        let mut rig = folder.plan(json!({})).start();
        eventually("it begins", || folder.count("audit.open") == run);
        signal(rig.pid, Signal::KILL);
        rig.exit_code(PATIENCE);
    }
    folder.plan(json!({})).start().stop();
    let (code, said) = folder.verify(&[]);
    assert_eq!((code, &said["killed"]), (Some(0), &json!(3)), "{said}");
    let log = folder.log();
    let openings = of(&log, "audit.open");
    let reasons: Vec<&Value> = openings.iter().map(|line| &line["reason"]).collect();
    assert_eq!(json!(reasons), json!([null, "killed", "killed", "killed"]));
}

const BAD: &str = "a\nb\r\u{1b}[31m\"q\\\u{202e}x\u{2028}\u{2066}\u{7f}\u{e0041}é";

/// Thirty places where a stranger can put text of his own.
#[test]
fn text_of_strangers_breaks_no_line() {
    let folder = Folder::new("strangers");
    let mut plan = folder.plan(clock()).arg("--audit-arguments=clock/*");
    plan = plan.args(&["--log-level", "debug"]);
    let rig = plan.start();
    let mut hello: Value = serde_json::from_str(&initialize("2025-11-25", &json!({}))).unwrap();
    for (key, value) in [("name", BAD), ("version", BAD), ("title", BAD), (BAD, BAD)] {
        hello["params"]["clientInfo"][key] = json!(value);
    }
    hello["params"][BAD] = json!(BAD);
    let agent = "x \u{1b}[31m\u{9b}2J \u{202e} \"q\" \\ é";
    let request = Request::post("/mcp", hello.to_string());
    let reply = rig.connect().exchange(&request.with("User-Agent", agent));
    let mut session = rig.session();
    let mut fields = 6;
    for method in ["tools/call", "prompts/get", "resources/read"] {
        for key in ["name", "uri"] {
            let params = json!({key: BAD, "arguments": {BAD: BAD, "x": [BAD]}, BAD: BAD});
            session.ask(method, params);
            fields += 3;
        }
    }
    session.ask(BAD, json!({"name": BAD}));
    session.ask(
        "tools/call",
        json!({"name": "clock_1mcp_now", "arguments": {"zone": BAD}}),
    );
    let headers = [
        "Mcp-Session-Id",
        "MCP-Protocol-Version",
        "Origin",
        "traceparent",
    ];
    for header in headers
        .into_iter()
        .chain(["X-Forwarded-For", "Authorization", "Forwarded"])
    {
        let request = Request::post("/mcp", "{}").with(header, agent);
        let _ = rig.connect().try_exchange(&request);
        fields += 1;
    }
    assert!(fields >= 30, "{fields}");
    assert!(reply.status() == 200 || reply.status() == 400, "{reply:?}");
    rig.stop();
    let log = folder.log();
    assert!(of(&log, "tool.call").iter().any(|line| line["name"] == BAD));
    let shown = of(&log, "tool.call")
        .into_iter()
        .find(|line| line["args"].is_string());
    assert!(
        shown.is_some_and(|line| line["server"] == "clock"),
        "{log:?}"
    );
    folder.is_good();
}

#[test]
fn scopes_are_told_in_the_documented_form() {
    let folder = Folder::new("scopes");
    let mint = Mint::new(7);
    mint.write(&folder.path("keys"));
    fs::set_permissions(folder.path("keys"), fs::Permissions::from_mode(0o600)).unwrap();
    for format in ["text", "json"] {
        let servers = json!({"clock": with(demo("clock"), json!({"tags": ["web"]}))});
        let plan = folder
            .plan(servers)
            .args(&["--enable-auth", "--external-url", ISSUER]);
        let plan = plan.args(&["--auth-keys", &folder.text("keys"), "--log-format", format]);
        let rig = plan.start();
        let hello = |token: &str, target: &str| {
            let body = initialize("2025-11-25", &json!({}));
            let bearer = format!("Bearer {token}");
            let request = Request::post(target, body).with("Authorization", &bearer);
            rig.connect().exchange(&request).status()
        };
        let good = mint.token("tag:web", json!({}));
        for _ in 0..3 {
            assert_eq!(hello(&good, "/mcp"), 200);
        }
        assert_eq!(hello(&mint.token("tag:x", json!({})), "/mcp?tags=web"), 403);
        assert_eq!(hello("nonsense", "/mcp"), 401);
        let said = |rig: &Rig| -> Vec<String> {
            let text = rig.stderr();
            let lines = text
                .lines()
                .filter(|line| line.contains("Scope operation: "));
            lines.map(str::to_owned).collect()
        };
        eventually("both are told", || said(&rig).len() >= 2);
        let lines = said(&rig);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let members = match format {
            "text" => {
                let (time, rest) = lines[0].split_once(' ').unwrap();
                assert!(time.ends_with('Z') && time.len() == 24, "{time}");
                let begin = "INFO: Scope operation: scope_validation_success ";
                rest.strip_prefix(begin).unwrap().to_owned()
            }
            _ => lines[0].clone(),
        };
        let members: Value = serde_json::from_str(&members).unwrap();
        for (key, value) in [
            ("operation", json!("scope_validation_success")),
            ("clientId", json!("app")),
            ("grantedScopes", json!(["tag:web"])),
            ("success", json!(true)),
        ] {
            assert_eq!(members[key], value, "{key}: {members}");
        }
        assert!(lines[1].contains("insufficient_scopes"), "{}", lines[1]);
        rig.stop();
    }
    let log = folder.log();
    let denied = of(&log, "authz.deny");
    assert!(
        denied
            .iter()
            .all(|line| line["sub"] == "ada" && line["tok"].is_string())
    );
    assert_eq!(denied.len(), 2);
    let failed = of(&log, "auth.fail");
    assert!(failed.iter().all(|line| line["src"].is_string()));
    assert_eq!(failed.len(), 2);
    assert!(
        !fs::read_to_string(folder.path("log"))
            .unwrap()
            .contains("nonsense")
    );
    folder.is_good();
}

/// Where nothing can be written until the link leads elsewhere.
#[test]
fn a_full_disk_drops_or_blocks_and_is_left_behind() {
    for policy in ["drop", "block"] {
        let folder = Folder::new(&format!("full-{policy}"));
        symlink("/dev/full", folder.path("log")).unwrap();
        let plan = folder.plan(clock()).args(&["--audit-on-failure", policy]);
        let rig = plan.start();
        let hello = || {
            let body = initialize("2025-11-25", &json!({}));
            rig.connect()
                .exchange(&Request::post("/mcp", body))
                .status()
        };
        if policy == "block" {
            eventually("new requests are refused", || hello() == 503);
        }
        assert_eq!(rig.get("/health/live").status(), 200);
        fs::remove_file(folder.path("log")).unwrap();
        eventually("lines are written", || folder.path("log").exists());
        eventually("requests are served", || hello() == 200);
        rig.stop();
        folder.is_good();
        assert!(folder.count("session.open") >= 1);
    }
}

#[test]
fn syslog_and_webhook_get_every_line() {
    let folder = Folder::new("shipped");
    let syslog = UnixDatagram::bind(folder.path("syslog")).unwrap();
    syslog.set_read_timeout(Some(PATIENCE)).unwrap();
    let webhook = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in", webhook.local_addr().unwrap());
    let received = std::thread::spawn(move || receive(&webhook));
    let rig = folder
        .plan(clock())
        .args(&["--audit-sinks", "file,syslog,webhook"])
        .args(&["--audit-syslog", &folder.text("syslog")])
        .args(&[
            "--audit-webhook",
            &url,
            "--audit-webhook-headers",
            "X-Key=k1",
        ])
        .start();
    rig.session().call("clock_1mcp_now", json!({}));
    let mut lines = String::new();
    let mut buffer = vec![0; 65536];
    while !lines.contains("tool.call") {
        let length = syslog.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let (head, line) = text.split_once(" - {").unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        let is_failure = line.contains("\"outcome\":\"error\"");
        let priority = if is_failure { "<109>1" } else { "<110>1" };
        assert_eq!(
            (words[0], words[3], words[5]),
            (priority, "onemcp", "audit")
        );
        assert!(line.contains(words[1]), "{text}");
        lines.push_str(&format!("{{{line}\n"));
    }
    let posted = received.join().unwrap();
    rig.stop();
    let log = fs::read_to_string(folder.path("log")).unwrap();
    assert!(
        log.starts_with(&posted) && posted.contains("tool.call"),
        "{posted}"
    );
    assert!(log.starts_with(&lines));
    folder.is_good();
}

/// Refuses the first request and takes others until a call is in one.
fn receive(listener: &TcpListener) -> String {
    let mut taken = String::new();
    let mut statuses = vec!["200 OK"; 100];
    statuses[0] = "500 Internal Server Error";
    for status in statuses {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut length, mut has_key) = (0, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            has_key |= line == "x-key: k1";
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert!(has_key);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
        if status.starts_with("200") {
            taken.push_str(std::str::from_utf8(&body).unwrap());
        }
        if taken.contains("tool.call") {
            return taken;
        }
    }
    taken
}

#[test]
fn a_long_call_is_told_before_it_ends() {
    let folder = Folder::new("long");
    let rig = folder.plan(clock()).start();
    let mut session = rig.session();
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params":
        {"name": "clock_1mcp_countdown", "arguments": {"seconds": 60}}});
    let stream = session.stream(body.to_string());
    crate::support::within(Duration::from_secs(40), "it is told", || {
        folder.count("tool.begin") == 1
    });
    assert_eq!(folder.count("tool.call"), 0);
    session.notify("notifications/cancelled", json!({"requestId": 7}));
    eventually("its end is told", || folder.count("tool.call") == 1);
    let log = folder.log();
    let (begin, end) = (of(&log, "tool.begin")[0], of(&log, "tool.call")[0]);
    assert_eq!(begin["req_id"], end["req_id"]);
    assert_eq!(end["reason"], "cancelled");
    drop(stream);
    rig.stop();
}

#[test]
fn settings_secrets_and_operators_are_told() {
    let folder = Folder::new("settings");
    let secrets = folder.path("secrets");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("pass"), "hunter2-hunter2").unwrap();
    let entry = with(demo("clock"), json!({"env": {"X": "${SECRET:pass}"}}));
    let plan = folder.plan(json!({"clock": entry}));
    let rig = plan
        .args(&["--secrets-dir", secrets.to_str().unwrap()])
        .start();
    let file = rig.folder().join("mcp.json");
    let text = fs::read_to_string(&file).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["mcpServers"]["notes"] = demo("notes");
    fs::write(&file, config.to_string()).unwrap();
    eventually("it is in force", || folder.count("config.applied") == 1);
    fs::write(&file, "{").unwrap();
    eventually("it is refused", || folder.count("config.rejected") == 1);
    rig.stop();
    let log = folder.log();
    let read = of(&log, "secret.read");
    assert_eq!((read.len(), &read[0]["name"]), (1, &json!("pass")));
    let applied = of(&log, "config.applied")[0];
    assert!(
        applied["detail"].as_str().unwrap().contains("notes"),
        "{applied}"
    );
    let text = fs::read_to_string(folder.path("log")).unwrap();
    assert!(!text.contains("hunter2"));
    folder.is_good();
}

#[test]
fn stdout_is_for_containers_and_never_for_a_client() {
    let folder = Folder::new("stdout");
    let key = folder.text("key");
    let plan = |transport: &str| {
        let plan = Plan::new(json!({})).args(&["--audit-sinks", "stdout"]);
        plan.args(&["--audit-key-file", &key, "--transport", transport])
    };
    let (code, why) = plan("stdio").refused();
    assert_eq!(code, Some(78), "{why}");
    let out = fs::File::create(folder.path("log")).unwrap();
    let mut rig = plan("http").start_unheard(out.into());
    eventually("it listens", || {
        let text = fs::read_to_string(folder.path("log")).unwrap();
        text.contains("\"listening\"") && text.contains("gateway.start")
    });
    rig.term();
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    assert_eq!(folder.verify(&[]).0, Some(1));
    assert_eq!(folder.verify(&["--mixed"]).0, Some(0));
}

/// Whoever should read stdout stands still: that is no reason to go on in silence.
#[test]
fn a_reader_that_stands_still_blocks_and_what_was_lost_is_counted_once() {
    let folder = Folder::new("still");
    let (reader, writer) = std::io::pipe().unwrap();
    let plan = Plan::new(json!({})).args(&["--audit-sinks", "stdout"]);
    let plan = plan.args(&["--audit-on-failure", "block", "--audit-key-file"]);
    let mut rig = plan.arg(&folder.text("key")).start_unheard(writer.into());
    let mut reader = BufReader::new(reader);
    let mut read = String::new();
    while rig.port == 0 {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        rig.port = said["port"].as_u64().unwrap_or(0).try_into().unwrap();
        read.push_str(&line);
    }
    let hello = || {
        let body = initialize("2025-11-25", &json!({}));
        let request = Request::post("/mcp", body);
        rig.connect().exchange(&request).status()
    };
    crate::support::within(Duration::from_secs(60), "it is refused", || hello() == 503);
    assert_eq!(rig.get("/health/live").status(), 200);
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        rest
    });
    eventually("it is served again", || hello() == 200);
    rig.term();
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    drop(rig);
    read.push_str(&rest.join().unwrap());
    fs::write(folder.path("log"), &read).unwrap();
    let (code, said) = folder.verify(&["--mixed"]);
    assert_eq!(code, Some(0), "{said}");
    let log = folder.log();
    let gaps = of(&log, "audit.gap");
    let told: u64 = gaps.iter().filter_map(|gap| gap["count"].as_u64()).sum();
    assert_eq!(said["missing"], told);
}

#[test]
fn every_member_of_a_line_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (source, docs) = (
        read("src/journal/audit/line.rs"),
        read("docs/audit-events.md"),
    );
    let rows = docs.lines().take_while(|line| *line != "## Events");
    let table: String = rows.filter(|line| line.starts_with("| `")).collect();
    let members = source.split("key!(\"").skip(1);
    let members: Vec<&str> = members
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(members.len() > 20, "{members:?}");
    for member in members {
        assert!(table.contains(&format!("`{member}`")), "{member}");
    }
}

#[test]
fn nothing_is_kept_where_nobody_has_to_authenticate() {
    let rig = Plan::new(clock()).start();
    let _ = Session::open(rig.port, "/mcp", "2025-11-25", json!({}));
    assert_eq!(rig.threads_named("audit"), 0);
    rig.stop();
}
