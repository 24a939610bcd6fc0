//! Alerts: what each kind of receiver gets, for the begin and the end of a trouble, and that
//! receivers which fail, hang or lead elsewhere hurt nobody.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::Request;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, gateway_binary, hostile, with};

/// One request as it came.
#[derive(Clone, Debug)]
struct Letter {
    at: Instant,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Letter {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What a receiver does with a request.
#[derive(Clone, Debug, PartialEq)]
enum Manner {
    Answer(u16),
    /// With 307.
    SendTo(String),
    /// Never answers.
    Hang,
}

/// An HTTP server of the test, on a free port.
struct Receiver {
    port: u16,
    letters: Arc<Mutex<Vec<Letter>>>,
    manner: Arc<Mutex<Manner>>,
}

impl Receiver {
    fn start(manner: Manner) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let letters: Arc<Mutex<Vec<Letter>>> = Arc::default();
        let manner = Arc::new(Mutex::new(manner));
        let (kept, how) = (letters.clone(), manner.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, how) = (kept.clone(), how.clone());
                std::thread::spawn(move || serve(stream, &kept, &how));
            }
        });
        Receiver {
            port,
            letters,
            manner,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?key=canary-url", self.port)
    }

    fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn letters(&self) -> Vec<Letter> {
        self.letters.lock().unwrap().clone()
    }

    /// Waits for so many.
    #[track_caller]
    fn await_letters(&self, count: usize) -> Vec<Letter> {
        eventually("the alerts arrive", || self.letters().len() >= count);
        self.letters()
    }
}

fn serve(stream: TcpStream, letters: &Mutex<Vec<Letter>>, manner: &Mutex<Manner>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.trim_end().split_once(':').unwrap();
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let manner = manner.lock().unwrap().clone();
    letters.lock().unwrap().push(Letter {
        at: Instant::now(),
        headers,
        body,
    });
    let (status, more) = match manner {
        Manner::Answer(status) => (status, String::new()),
        Manner::SendTo(url) => (307, format!("Location: {url}\r\n")),
        Manner::Hang => {
            // Until the other side gives up.
            let _ = reader.read(&mut [0]);
            return;
        }
    };
    let head = format!("HTTP/1.1 {status} X\r\n{more}Content-Length: 2\r\nConnection: close\r\n");
    // Whoever asked may have given up.
    let _ = (&stream).write_all(format!("{head}\r\nok").as_bytes());
}

fn plan(servers: Value, alerts: Value) -> Plan {
    Plan::new(servers)
        .set("configReload", json!({"debounce": 20}))
        .set("alerts", alerts)
}

/// The file as it is, with something changed.
fn rewrite(rig: &Rig, change: impl FnOnce(&mut Value)) {
    let path = rig.folder().join("mcp.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

/// A file that is no JSON any more, and then the good one again when `told` says so.
fn reject_and_heal(rig: &Rig, told: impl FnOnce()) {
    let path = rig.folder().join("mcp.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, "{ broken").unwrap();
    signal(rig.pid, Signal::HUP);
    told();
    fs::write(&path, good).unwrap();
    signal(rig.pid, Signal::HUP);
}

fn signature(key: &str, letter: &Letter) -> String {
    let (at, id) = (
        letter.header("onemcp-timestamp").unwrap(),
        letter.header("onemcp-id").unwrap(),
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    let text = [format!("{at}.{id}.").as_bytes(), &letter.body].concat();
    let tag = ring::hmac::sign(&key, &text);
    let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("v1={hex}")
}

#[test]
fn every_service_hears_of_begin_and_end_in_its_own_shape() {
    let all: Vec<Receiver> = (0..4)
        .map(|_| Receiver::start(Manner::Answer(202)))
        .collect();
    let [hook, slack, teams, pager] = all.as_slice() else {
        panic!("four receivers");
    };
    let notes = std::env::temp_dir().join(format!("onemcp-alert-notes-{}", std::process::id()));
    let script = "cat >> \"$1\"; printf '%s %s\\n' \"$ALERT_RULE\" \"$ALERT_STATE\" >> \"$1\"";
    let alerts = json!({"sinks": {
        "hook": {"type": "webhook", "url": hook.url(), "secret": "${KEY}",
                 "headers": {"X-Team": "core"}},
        "slack": {"type": "slack", "url": slack.url()},
        "teams": {"type": "teams", "url": teams.url()},
        "pager": {"type": "pagerduty", "url": pager.url(), "routingKey": "${KEY}"},
        "script": {"type": "command", "command": ["sh", "-c", script, "sh", notes]},
        "log": {"type": "log"},
        "quiet": {"type": "webhook", "url": hook.url(), "minSeverity": "critical"},
    }});
    let rig = plan(json!({}), alerts).env("KEY", "canary-key").start();
    reject_and_heal(&rig, || {
        all.iter().for_each(|one| drop(one.await_letters(1)));
    });
    let got: Vec<Vec<Letter>> = all.iter().map(|one| one.await_letters(2)).collect();
    let [hook, slack, teams, pager] = got.as_slice() else {
        panic!("four receivers");
    };
    for letters in &got {
        assert_eq!(letters.len(), 2);
        assert!(letters[1].at - letters[0].at >= Duration::from_millis(900));
        for letter in letters {
            assert_eq!(letter.header("content-type"), Some("application/json"));
        }
    }
    let (begin, end) = (hook[0].json(), hook[1].json());
    assert_eq!(
        (&begin["state"], &end["state"]),
        (&"triggered".into(), &"resolved".into())
    );
    assert_eq!(
        (&begin["rule"], &begin["key"]),
        (&"configRejected".into(), &end["key"])
    );
    assert_eq!(begin["severity"], "error");
    assert_ne!(begin["id"], end["id"]);
    assert_eq!(begin["since"], end["since"]);
    for letter in hook {
        assert_eq!(letter.header("x-team"), Some("core"));
        assert_eq!(letter.header("onemcp-id"), letter.json()["id"].as_str());
        let signed = signature("canary-key", letter);
        assert_eq!(letter.header("onemcp-signature"), Some(signed.as_str()));
    }
    assert!(
        slack[0].json()["text"]
            .as_str()
            .unwrap()
            .contains("rejected")
    );
    assert_eq!(slack[0].json()["blocks"][0]["text"]["type"], "plain_text");
    let card = &teams[0].json()["attachments"][0];
    assert_eq!(
        card["contentType"],
        "application/vnd.microsoft.card.adaptive"
    );
    let (begin, end) = (pager[0].json(), pager[1].json());
    let actions = (&begin["event_action"], &end["event_action"]);
    assert_eq!(actions, (&"trigger".into(), &"resolve".into()));
    assert_eq!(begin["dedup_key"], end["dedup_key"]);
    assert_eq!(begin["routing_key"], "canary-key");
    eventually("the command has run twice", || {
        let text = fs::read_to_string(&notes).unwrap_or_default();
        text.contains("configRejected triggered\n") && text.contains("configRejected resolved\n")
    });
    let text = fs::read_to_string(&notes).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["schema"], "onemcp.alert/1");
    fs::remove_file(notes).unwrap();
    eventually("it is in the log", || {
        let log = rig.stderr();
        log.contains("state=triggered") && log.contains("state=resolved")
    });
    assert!(!rig.stderr().contains("canary"));
    rig.stop();
}

#[test]
fn a_server_that_is_down_and_comes_back_is_told() {
    let hook = Receiver::start(Manner::Answer(200));
    let alerts = json!({
        "sinks": {"hook": {"type": "webhook", "url": hook.url()}},
        "rules": {"serverDown": {"after": 0}}});
    let bad = json!({"command": "/no/such/program"});
    let servers = json!({"bad": bad, "good": everything(&[])});
    let rig = plan(servers, alerts).start_unready();
    let begin = hook.await_letters(1)[0].json();
    assert_eq!(
        (&begin["rule"], &begin["server"]),
        (&"serverDown".into(), &"bad".into())
    );
    assert!(
        begin["detail"]
            .as_str()
            .unwrap()
            .contains("/no/such/program"),
        "{begin}"
    );
    rewrite(&rig, |config| {
        config["mcpServers"]["bad"]["command"] = everything(&[])["command"].clone();
    });
    let end = hook.await_letters(2)[1].json();
    assert_eq!(
        (&end["rule"], &end["state"]),
        (&"serverRecovered".into(), &"resolved".into())
    );
    assert_eq!(end["key"], begin["key"]);
    rig.stop();
}

#[test]
fn a_crash_loop_and_changed_tools_are_told() {
    let hook = Receiver::start(Manner::Answer(200));
    let alerts = json!({"sinks": {"hook": {"type": "webhook", "url": hook.url()}}});
    let dying = with(
        hostile(&["--exit-at-start", "3"]),
        json!({"restartDelay": 10}),
    );
    let servers = json!({"dying": dying, "ho": hostile(&[])});
    let rig = plan(servers, alerts).start_unready();
    let told = hook.await_letters(1)[0].json();
    assert_eq!(
        (&told["rule"], &told["server"]),
        (&"crashLoop".into(), &"dying".into())
    );
    assert_eq!(told["severity"], "critical");
    eventually("it serves", || rig.server("ho")["status"] == "connected");
    rewrite(&rig, |config| {
        config["mcpServers"]["ho"]["args"] = json!(["--tools", "2"]);
    });
    let told = hook.await_letters(2)[1].json();
    assert_eq!(
        (&told["rule"], &told["state"]),
        (&"toolsChanged".into(), &"notice".into())
    );
    assert!(
        told["detail"].as_str().unwrap().contains("tool_00001"),
        "{told}"
    );
    rig.stop();
}

fn refuse_one(rig: &Rig) {
    let request = Request::new("GET", "/mcp").with("Host", "evil.example");
    assert_eq!(rig.connect().exchange(&request).status(), 403);
}

#[test]
fn a_burst_of_refusals_is_told_once() {
    let hook = Receiver::start(Manner::Answer(200));
    let alerts = json!({
        "sinks": {"hook": {"type": "webhook", "url": hook.url()}},
        "rules": {"authFailures": {"count": 5, "window": 1000}}});
    let rig = plan(json!({}), alerts).start();
    (0..12).for_each(|_| refuse_one(&rig));
    let letters = hook.await_letters(2);
    let states: Vec<Value> = letters.iter().map(|l| l.json()["state"].clone()).collect();
    assert_eq!(states, ["triggered", "resolved"]);
    assert_eq!(letters[0].json()["rule"], "authFailures");
    rig.stop();
}

#[test]
fn what_a_receiver_did_not_take_is_sent_again() {
    let hook = Receiver::start(Manner::Answer(503));
    let alerts = json!({"sinks": {"hook": {"type": "webhook", "url": hook.url()}}});
    let rig = plan(json!({}), alerts).start();
    reject_and_heal(&rig, || {
        hook.await_letters(1);
        hook.becomes(Manner::Answer(200));
    });
    let letters = hook.await_letters(3);
    let ids: Vec<_> = letters.iter().map(|one| one.header("onemcp-id")).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
    assert_eq!(letters[2].json()["state"], "resolved");
    rig.stop();
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Receiver::start(Manner::Answer(200));
    let hook = Receiver::start(Manner::SendTo(elsewhere.url()));
    let alerts = json!({"sinks": {"hook": {"type": "webhook", "url": hook.url()}}});
    let rig = plan(json!({}), alerts).start();
    reject_and_heal(&rig, || drop(hook.await_letters(2)));
    assert!(elsewhere.letters().is_empty());
    let log = rig.stderr();
    assert!(log.contains("307") && !log.contains("canary"), "{log}");
    rig.stop();
}

#[test]
fn a_rotated_url_takes_effect_on_what_is_waiting() {
    let (broken, whole) = (
        Receiver::start(Manner::Answer(500)),
        Receiver::start(Manner::Answer(200)),
    );
    let alerts = json!({"sinks": {
        "hook": {"type": "webhook", "url": "${FILE:url}", "secret": "${FILE:key}"}}});
    let plan = plan(json!({}), alerts);
    let rig = plan.start();
    // The file is away at first: that costs the sink and nothing else.
    let put = |name: &str, text: &str| {
        let path = rig.folder().join(name);
        let next = rig.folder().join(format!("{name}.new"));
        fs::write(&next, text).unwrap();
        fs::rename(next, path).unwrap();
    };
    put("key", "old-key\n");
    put("url", &broken.url());
    eventually("both are read", || version(&rig) > 1);
    reject_and_heal(&rig, || {
        let letter = &broken.await_letters(1)[0];
        assert_eq!(
            letter.header("onemcp-signature"),
            Some(&*signature("old-key", letter))
        );
    });
    put("key", "new-key\n");
    put("url", &whole.url());
    let letters = whole.await_letters(2);
    let states: Vec<Value> = letters.iter().map(|l| l.json()["state"].clone()).collect();
    assert_eq!(states, ["triggered", "resolved"]);
    for letter in &letters {
        assert_eq!(
            letter.header("onemcp-signature"),
            Some(&*signature("new-key", letter))
        );
    }
    assert_eq!(
        letters[0].header("onemcp-id"),
        broken.letters()[0].header("onemcp-id")
    );
    rig.stop();
}

/// Of the configuration in force.
fn version(rig: &Rig) -> u64 {
    rig.health()["configuration"]["version"].as_u64().unwrap()
}

fn rss_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Calls for one second, while requests are refused in pulses, each of which begins and ends a
/// trouble. Gives the slowest but one in a hundred.
fn p99_under_pulses(rig: &Rig) -> Duration {
    let until = Instant::now() + Duration::from_secs(1);
    let mut session = rig.session();
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                refuse_one(rig);
                std::thread::sleep(Duration::from_millis(120));
            }
        });
        while Instant::now() < until {
            let began = Instant::now();
            assert_eq!(session.text("ev_1mcp_echo", json!({"text": "x"})), "x");
            times.push(began.elapsed());
        }
    });
    times.sort();
    times[times.len() * 99 / 100]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Two receivers, one that fails and one that never answers, while troubles come and go; beside
/// it a gateway that tells nobody, in turns of a second, for so long as `ALERTS_SOAK_S` says.
#[test]
fn bad_receivers_get_few_requests_and_hurt_nobody() {
    let failing = Receiver::start(Manner::Answer(500));
    let hanging = Receiver::start(Manner::Hang);
    let alerts = json!({
        "sinks": {
            "failing": {"type": "webhook", "url": failing.url()},
            "hanging": {"type": "slack", "url": hanging.url(), "timeout": 1500}},
        "rules": {"authFailures": {"count": 1, "window": 100, "cooldown": 0}}});
    let servers = json!({"ev": everything(&[])});
    let quiet = Plan::new(servers.clone()).start();
    let rig = plan(servers, alerts).start();
    let began = Instant::now();
    refuse_one(&rig);
    failing.await_letters(1);
    hanging.await_letters(1);
    let soak = std::env::var("ALERTS_SOAK_S").ok();
    let rounds = soak.map_or(3, |seconds| seconds.parse::<usize>().unwrap() / 2);
    let (mut alone, mut beside) = (vec![p99_under_pulses(&quiet)], vec![p99_under_pulses(&rig)]);
    let before = rss_kib(rig.pid);
    for _ in 1..rounds {
        alone.push(p99_under_pulses(&quiet));
        beside.push(p99_under_pulses(&rig));
    }
    let (alone, beside) = (median(alone), median(beside));
    let grown = rss_kib(rig.pid).saturating_sub(before);
    let seconds = began.elapsed().as_secs_f64();
    let counts = [&failing, &hanging].map(|receiver| receiver.letters().len());
    println!("{seconds:.0} s: {counts:?} requests, p99 {alone:?} -> {beside:?}, {grown} KiB more");
    for count in counts {
        assert!(
            count as f64 <= seconds + 1.0,
            "{count} requests in {seconds} s"
        );
    }
    assert!(grown < 8 * 1024, "{grown} KiB more");
    // Other tests run beside this one.
    assert!(
        beside < 3 * alone + Duration::from_millis(100),
        "{alone:?} {beside:?}"
    );
    quiet.stop();
    // The end does not wait for them.
    let began = Instant::now();
    rig.stop();
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_end_is_told_before_it_comes() {
    let hook = Receiver::start(Manner::Answer(200));
    let alerts = json!({
        "sinks": {"hook": {"type": "webhook", "url": hook.url()}},
        "rules": {"gatewayStopping": true}});
    let rig = plan(json!({"ev": everything(&[])}), alerts).start();
    rig.stop();
    let told = hook.letters();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].json()["rule"], "gatewayStopping");
}

fn command(folder: &Path, words: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let output = Command::new(gateway_binary())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder)
        .env("KEY", "canary-key")
        .current_dir(folder)
        .args(words)
        .args(["--config", "mcp.json"])
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
    let err = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), lines.collect(), err)
}

#[test]
fn sinks_can_be_listed_and_tried() {
    let good = Receiver::start(Manner::Answer(200));
    let bad = Receiver::start(Manner::Answer(404));
    let folder = std::env::temp_dir().join(format!("onemcp-alerts-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let script = folder.join("ring");
    fs::write(&script, "#!/bin/sh\ncat > note\nsleep 30\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let config = json!({"mcpServers": {}, "gateway": {"alerts": {"sinks": {
        "good": {"type": "webhook", "url": good.url(), "secret": "${KEY}"},
        "pager": {"type": "pagerduty", "url": good.url(), "routingKey": "${KEY}"},
        "bad": {"type": "slack", "url": bad.url()},
        "slow": {"type": "command", "command": [script], "timeout": 300},
        "log": {"type": "log"},
        "unset": {"type": "teams", "url": "${NOT_SET_ANYWHERE}"},
    }, "rules": {"drops": {"count": 7}}}}});
    fs::write(folder.join("mcp.json"), config.to_string()).unwrap();

    let (code, lines, err) = command(&folder, &["alerts", "list"]);
    assert_eq!(code, Some(0), "{err}");
    let named = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    assert_eq!(
        named("good")["to"],
        format!("http://127.0.0.1:{}", good.port)
    );
    assert_eq!(named("unset")["usable"], false);
    assert_eq!(named("drops")["count"], 7);
    assert!(err.contains("NOT_SET_ANYWHERE"), "{err}");
    assert!(!format!("{lines:?}{err}").contains("canary"));

    let (code, lines, err) = command(&folder, &["alerts", "test"]);
    assert_eq!(code, Some(1), "{err}");
    let oks: Vec<bool> = lines.iter().map(|line| line["ok"] == true).collect();
    assert_eq!(oks, [true, true, false, false, true, false], "{lines:?}");
    assert!(lines[2]["error"].as_str().unwrap().contains("404"));
    assert!(!format!("{lines:?}{err}").contains("canary"));
    let letters = good.letters();
    assert_eq!(letters.len(), 3);
    assert_eq!(letters[0].json()["rule"], "test");
    let signed = signature("canary-key", &letters[0]);
    assert_eq!(letters[0].header("onemcp-signature"), Some(signed.as_str()));
    assert_eq!(letters[2].json()["event_action"], "resolve");

    assert_eq!(command(&folder, &["alerts", "test", "good"]).0, Some(0));
    let (code, lines, _) = command(&folder, &["alerts", "test", "god"]);
    assert_eq!(code, Some(1));
    let message = lines[0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("did you mean \"good\"?"), "{message}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_certificate_that_ends_soon_is_told() {
    let hook = Receiver::start(Manner::Answer(200));
    let folder = std::env::temp_dir().join(format!("onemcp-alerts-ca-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let words = "req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=ca -keyout key -out ca.pem";
    let mut openssl = Command::new("openssl");
    openssl.current_dir(&folder).args(words.split_whitespace());
    if !openssl.output().is_ok_and(|output| output.status.success()) {
        return;
    }
    let alerts = json!({
        "sinks": {"hook": {"type": "webhook", "url": hook.url()}},
        "rules": {"serverDown": false}});
    let remote = json!({"url": "https://127.0.0.1:9/mcp", "caFile": folder.join("ca.pem")});
    let rig = plan(json!({"far": remote}), alerts).start_unready();
    let told = hook.await_letters(1)[0].json();
    assert_eq!(told["rule"], "certificateExpiry");
    let title = told["title"].as_str().unwrap();
    assert!(
        title.contains("ca.pem") && title.contains("8 days"),
        "{title}"
    );
    rewrite(&rig, |config| {
        config["gateway"]["alerts"]["rules"]["certificateExpiry"] = json!({"days": 2});
        config["mcpServers"]["far"]["url"] = "https://127.0.0.1:10/mcp".into();
    });
    let told = hook.await_letters(2)[1].json();
    assert_eq!(
        (&told["rule"], &told["state"]),
        (&"certificateExpiry".into(), &"resolved".into())
    );
    rig.stop();
    fs::remove_dir_all(folder).unwrap();
}

/// A log file that takes nothing, in front of a sink that is the log itself and one that is not.
#[test]
fn a_log_that_is_full_is_told() {
    let hook = Receiver::start(Manner::Answer(200));
    let alerts = json!({"sinks": {"hook": {"type": "webhook", "url": hook.url()}}});
    let rig = plan(json!({"bad": {"command": "/no/such/program"}}), alerts)
        .args(&["--log-file", "/dev/full"])
        .start_unready();
    let rules: Vec<Value> = hook
        .await_letters(1)
        .iter()
        .map(|letter| letter.json()["rule"].clone())
        .collect();
    assert!(rules.contains(&"sinkFailing".into()), "{rules:?}");
    rig.stop();
}
