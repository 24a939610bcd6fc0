//! What an owner must notice whatever its server sends: stops, closed pipes, a dead leader; and
//! that servers which hang in their start hold up nobody.
//!
//! The servers here are shell scripts, because each is made for one way to misbehave.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::remote::Script;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, gateway_binary, hostile, with};
use crate::support::session::{Session, text_of, tool_call};

/// Functions for the arms of a server, and the part before them.
const HEAD: &str = r#"
    changed() {
        printf '%s%s\n' '{"jsonrpc":"2.0",' '"method":"notifications/tools/list_changed"}'
    }
    answer() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }
    result() { answer "\"result\":$1"; }
    error() { answer '"error":{"code":-32000,"message":"not now"}'; }
    while IFS= read -r line; do
        id=$${line#*'"id":'}
        id=$${id%%,*}
        case $line in"#;

const TAIL: &str = r#"
        *'"initialize"'*)
            caps='{"tools":{"listChanged":true},"logging":{}}'
            info='"serverInfo":{"name":"s","version":"1"}'
            result '{"protocolVersion":"2025-11-25","capabilities":'"$caps,$info}" ;;
        *'"tools/list"'*)
            result '{"tools":[{"name":"go","inputSchema":{"type":"object"}}]}' ;;
        *'"tools/call"'*)
            result '{"content":[{"type":"text","text":"gone"}]}' ;;
        esac
    done"#;

/// A server whose answers are arms of a `case` over the request; `arms` come before the usual
/// ones. `$${` stands for `${`, which the gateway would replace.
fn script(arms: &str) -> Value {
    json!({"command": "sh", "args": ["-c", format!("{HEAD} {arms} {TAIL}")]})
}

fn is_served_by_another(rig: &Rig, name: &str, pid: i32) -> bool {
    let server = rig.server(name);
    server["status"] == "connected" && server["pid"] != pid
}

/// The call that makes a server die is answered so, and another process takes its place.
fn dies_in_its_call(arms: &str) {
    let rig = Rig::start(json!({"s": script(arms)}));
    let pid = rig.pid_of("s");
    let mut session = rig.session();
    let call = json!({"name": "s_1mcp_go", "arguments": {}});
    let error = session.refused("tools/call", call);
    assert_eq!(error["data"]["onemcp"]["reason"], "crashed", "{error}");
    eventually("another one serves", || {
        is_served_by_another(&rig, "s", pid)
    });
    rig.stop();
}

#[test]
fn the_process_of_a_session_ends_with_it_however_much_it_says() {
    let flood = "*initialized*) while :; do changed; done & ;;";
    let rig = Rig::start(json!({"s": with(script(flood), json!({"instances": "session"}))}));
    let before = rig.bearers().len();
    let mut session = rig.session();
    session.text("s_1mcp_go", json!({}));
    assert!(rig.bearers().len() > before);
    assert!(session.delete().status() < 300);
    eventually("its process is gone", || rig.bearers().len() <= before);
    rig.stop();
}

#[test]
fn a_closed_output_is_noticed_behind_a_flood_of_news() {
    let arms = "*tools/call*) i=0; while [ $i -lt 3000 ]; do changed; i=$((i+1)); done
                exec >&-; sleep 300 ;;";
    dies_in_its_call(arms);
}

#[test]
fn a_dead_leader_is_noticed_although_its_child_goes_on_talking() {
    let arms = "*tools/call*) while :; do changed; sleep 0.02; done & kill -9 $$ ;;";
    dies_in_its_call(arms);
}

#[test]
fn an_exit_during_the_handshake_is_noticed_although_the_pipes_are_held() {
    let rig = Plan::new(json!({"s": script("*'\"initialize\"'*) sleep 300 & exit 7 ;;")}))
        .start_unready();
    eventually("its exit is shown", || {
        let server = rig.server("s");
        server["status"] == "error" && server["lastError"].as_str().unwrap().contains("code 7")
    });
    rig.stop();
}

#[test]
fn servers_that_hang_in_their_start_hold_up_no_other() {
    let mut servers: serde_json::Map<_, _> = (0..6)
        .map(|number| (format!("a{number}"), hostile(&["--bad-handshake=silent"])))
        .collect();
    servers.insert("ev".to_owned(), everything(&[]));
    let rig = Plan::new(servers.into()).start_unready();
    eventually("the good one is up", || {
        rig.server("ev")["status"] == "connected"
    });
    rig.stop();
}

/// Lists with an error while `bad` is set; every call turns that round.
const MOODY: &str = r#"
        *'"tools/call"'*)
            [ "$bad" ] && bad= || bad=1
            changed
            result '{"content":[{"type":"text","text":"turned"}]}' ;;
        *'"tools/list"'*)
            if [ "$bad" ]; then error
            else result '{"tools":[{"name":"go","inputSchema":{"type":"object"}}]}'; fi ;;"#;

#[test]
fn a_list_that_cannot_be_read_again_stays_and_is_shown_so() {
    let rig = Rig::start(json!({"s": script(MOODY)}));
    let pid = rig.pid_of("s");
    let mut session = rig.session();
    assert_eq!(session.text("s_1mcp_go", json!({})), "turned");
    eventually("health shows it", || {
        let lists = rig.server("s")["lists"].clone();
        lists
            .as_str()
            .is_some_and(|lists| lists.contains("tools/list"))
    });
    assert_eq!(rig.server("s")["status"], "connected");
    assert_eq!(session.names("tools"), ["s_1mcp_go"]);
    assert_eq!(session.text("s_1mcp_go", json!({})), "turned");
    eventually("it is whole again", || rig.server("s")["lists"].is_null());
    assert_eq!(rig.pid_of("s"), pid);
    rig.stop();
}

#[test]
fn a_first_list_that_is_refused_is_read_again() {
    let rig = Rig::start(json!({"s": script("*'\"tools/list\"'*) error ;;")}));
    let server = rig.server("s");
    assert_eq!(server["status"], "connected", "{server}");
    assert!(server["lists"].is_string(), "{server}");
    let mut session = rig.session();
    assert!(session.names("tools").is_empty());
    rig.stop();
    let once = r#"*'"tools/list"'*)
            if [ "$once" ]; then result '{"tools":[{"name":"go","inputSchema":{}}]}'
            else error; once=1; fi ;;"#;
    let rig = Rig::start(json!({"s": script(once)}));
    let mut session = rig.session();
    eventually("the list is there", || {
        session.names("tools") == ["s_1mcp_go"]
    });
    eventually("the note is gone", || rig.server("s")["lists"].is_null());
    rig.stop();
}

#[test]
fn a_flood_of_errors_without_an_id_does_not_flood_the_log() {
    let arms = r#"*'"tools/call"'*)
        i=0
        while [ $i -lt 5000 ]; do
            printf '%s\n' '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}'
            i=$((i+1))
        done
        result '{"content":[{"type":"text","text":"done"}]}' ;;"#;
    let rig = Rig::start(json!({"s": script(arms)}));
    assert_eq!(rig.session().text("s_1mcp_go", json!({})), "done");
    let lines = rig.stderr().lines().count();
    assert!(lines < 200, "{lines} lines in the log");
    rig.stop();
}

#[test]
fn a_log_message_without_a_known_level_reaches_nobody() {
    let arms = r#"*'"tools/call"'*)
        for level in '"level":"loud",' '' '"level":"info",'; do
            printf '%s\n' '{"jsonrpc":"2.0","method":"notifications/message",
                "params":{'"$level"'"data":"x"}}' | tr -d '\n'; echo
        done
        result '{"content":[{"type":"text","text":"done"}]}' ;;"#;
    let rig = Rig::start(json!({"s": script(arms)}));
    let session = rig.session();
    let call = tool_call(&json!(1), "s_1mcp_go", &json!({}));
    let (before, answer) = session.stream(call).answer();
    assert_eq!(text_of(&answer["result"]), "done");
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(before[0]["params"]["level"], "info");
    rig.stop();
}

#[test]
fn a_full_stdout_that_nobody_reads_holds_up_no_signal() {
    let (_unread, stdout) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&stdout, true).unwrap();
    while rustix::io::write(&stdout, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&stdout, false).unwrap();
    let folder = std::env::temp_dir().join(format!("unread-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let config = folder.join("mcp.json");
    std::fs::write(&config, r#"{"mcpServers":{}}"#).unwrap();
    let mut gateway = Command::new(gateway_binary())
        .args(["--port", "0", "--config"])
        .arg(&config)
        .env_clear()
        .env("HOME", &folder)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(gateway.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("http://127.0.0.1:")));
    signal(gateway.id().try_into().unwrap(), Signal::TERM);
    eventually("it ends", || gateway.try_wait().unwrap().is_some());
    assert_eq!(gateway.wait().unwrap().code(), Some(0));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Counts in what it says to a call: how often it was asked to subscribe.
const COUNTING: &str = r#"
        *'"initialize"'*)
            caps='{"tools":{},"resources":{"subscribe":true}}'
            info='"serverInfo":{"name":"s","version":"1"}'
            result '{"protocolVersion":"2025-11-25","capabilities":'"$caps,$info}" ;;
        *'"resources/list"'*) result '{"resources":[{"uri":"x://1","name":"one"}]}' ;;
        *'"resources/templates/list"'*) result '{"resourceTemplates":[]}' ;;
        *'"resources/subscribe"'*) n=$((n+1)); result '{}' ;;
        *'"die"'*) kill -9 $$ ;;
        *'"tools/call"'*)
            result '{"content":[{"type":"text","text":"'"$n"'"}]}' ;;"#;

#[test]
fn a_new_process_of_a_session_is_told_its_subscriptions_again() {
    let rig = Rig::start(json!({"s": with(script(COUNTING), json!({"instances": "session"}))}));
    let mut session = rig.session();
    session.get("resources/subscribe", json!({"uri": "x://1"}));
    assert_eq!(session.text("s_1mcp_go", json!({})), "1");
    let die = json!({"name": "s_1mcp_go", "arguments": {"way": "die"}});
    session.refused("tools/call", die);
    eventually("another one knows the subscription", || {
        let call = json!({"name": "s_1mcp_go", "arguments": {}});
        let answer = session.ask("tools/call", call);
        answer["result"]["content"][0]["text"] == "1"
    });
    assert_eq!(rig.session().text("s_1mcp_go", json!({})), "");
    rig.stop();
}

#[test]
fn a_session_keeps_its_own_process_while_the_shared_one_is_down() {
    let rig = Rig::start(json!({"s": with(script(COUNTING), json!({"instances": "session"}))}));
    let mut session = rig.session();
    session.text("s_1mcp_go", json!({}));
    for _ in 0..3 {
        signal(rig.pid_of("s"), Signal::KILL);
        eventually("it is down", || rig.server("s")["status"] != "connected");
        assert_eq!(session.text("s_1mcp_go", json!({})), "");
        eventually("it is up", || rig.server("s")["status"] == "connected");
    }
    rig.stop();
}

#[test]
fn a_process_that_answers_nothing_any_more_is_shown_so_and_replaced() {
    let quick = json!({"requestTimeout": 300, "restartDelay": 10});
    // The other one ignores pings, as some servers do: its lists show that it lives.
    let rig = Rig::start(json!({
        "ho": with(hostile(&[]), quick.clone()),
        "s": with(script(""), quick),
        "ev": everything(&[]),
    }));
    for (name, tool) in [
        (
            "ho",
            json!({"name": "ho_1mcp_echo", "arguments": {"text": "x"}}),
        ),
        ("s", json!({"name": "s_1mcp_go", "arguments": {}})),
    ] {
        let pid = rig.pid_of(name);
        let mut session = rig.session();
        signal(pid, Signal::STOP);
        let error = session.refused("tools/call", tool.clone());
        assert_eq!(error["data"]["onemcp"]["reason"], "timeout", "{error}");
        eventually("it is in doubt", || rig.server(name)["status"] == "error");
        let said = rig.server(name)["lastError"].clone();
        let said = said.as_str().unwrap();
        assert!(said.contains("does not answer"), "{said}");
        // Its entries stay, and the others work.
        assert!(
            session
                .names("tools")
                .iter()
                .any(|tool| tool.starts_with(name))
        );
        assert_eq!(session.text("ev_1mcp_echo", json!({"text": "x"})), "x");
        eventually("another one serves", || {
            is_served_by_another(&rig, name, pid)
        });
        assert!(session.ask("tools/call", tool)["result"].is_object());
    }
    rig.stop();
}

#[test]
fn a_process_that_goes_on_in_time_is_ready_again() {
    let rig = Rig::start(json!({"ho": with(hostile(&[]), json!({"requestTimeout": 300}))}));
    let pid = rig.pid_of("ho");
    let mut session = rig.session();
    signal(pid, Signal::STOP);
    let call = json!({"name": "ho_1mcp_echo", "arguments": {"text": "x"}});
    session.refused("tools/call", call);
    eventually("it is in doubt", || rig.server("ho")["status"] == "error");
    signal(pid, Signal::CONT);
    eventually("it is ready", || rig.server("ho")["status"] == "connected");
    let server = rig.server("ho");
    assert_eq!(
        (&server["pid"], &server["restarts"]),
        (&json!(pid), &json!(0))
    );
    assert!(server["lastError"].is_null(), "{server}");
    rig.stop();
}

#[test]
fn a_server_restarts_as_its_entry_says() {
    let rig = Rig::start(json!({
        "never": with(hostile(&[]), json!({"restartOnExit": false})),
        "twice": with(hostile(&["--exit-at-start", "3"]),
                      json!({"restartDelay": 10, "maxRestarts": 2})),
        "always": with(hostile(&[]), json!({"restartDelay": 10, "maxRestarts": 0})),
    }));
    for _ in 0..12 {
        rig.kill("always");
    }
    eventually("its tries are over", || {
        rig.server("twice")["status"] == "crash-loop"
    });
    assert_eq!(rig.server("twice")["restarts"], 2);
    signal(rig.pid_of("never"), Signal::KILL);
    eventually("it is down", || rig.server("never")["status"] == "error");
    let mut session = rig.session();
    eventually("its entries are withdrawn", || {
        session
            .names("tools")
            .iter()
            .all(|tool| tool.starts_with("always"))
    });
    for name in ["never", "twice"] {
        let server = rig.server(name);
        let error = server["lastError"].as_str().unwrap();
        assert!(error.contains(&format!("onemcp restart {name}")), "{error}");
    }
    assert_eq!(rig.server("never")["restarts"], 0);
    rig.stop();
}

#[test]
fn servers_start_after_those_that_they_need() {
    let log = std::env::temp_dir().join(format!("order-{}", std::process::id()));
    let begins = |name: &str| {
        let line = format!("echo {name} >> {}; {HEAD} {TAIL}", log.display());
        json!({"command": "sh", "args": ["-c", line]})
    };
    let rig = Rig::start(json!({
        "c": with(begins("c"), json!({"dependsOn": ["b"]})),
        "b": with(begins("b"), json!({"dependsOn": ["a"]})),
        "a": begins("a"),
        "orphan": with(begins("orphan"), json!({"dependsOn": ["dead"]})),
        "dead": {"command": "/no/such/program"},
    }));
    for name in ["a", "b", "c"] {
        assert_eq!(rig.server(name)["status"], "connected");
    }
    let order = std::fs::read_to_string(&log).unwrap();
    // A server without our first word may be started twice.
    let mut order: Vec<&str> = order.lines().collect();
    order.dedup();
    assert_eq!(order, ["a", "b", "c"]);
    let orphan = rig.server("orphan");
    assert_eq!(orphan["status"], "error", "{orphan}");
    assert!(
        orphan["lastError"].as_str().unwrap().contains("\"dead\""),
        "{orphan}"
    );
    rig.stop();
    std::fs::remove_file(&log).unwrap();
}

/// Says in its answer how often its list was read; a call makes it flood.
const FLOODING: &str = r#"
        *'"tools/list"'*)
            n=$((n+1))
            result '{"tools":[{"name":"go","inputSchema":{"type":"object"}}]}' ;;
        *'"flood"'*)
            yes '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}' | head -n 30000
            result '{"content":[{"type":"text","text":"flooded"}]}' ;;
        *'"tools/call"'*)
            result '{"content":[{"type":"text","text":"'"$n"'"}]}' ;;"#;

#[test]
fn a_flood_of_news_costs_one_reading_per_window() {
    let settings = json!({"batchDelay": 700});
    let rig = Plan::new(json!({"s": script(FLOODING)}))
        .set("asyncLoading", settings)
        .start();
    let mut session = rig.session();
    let count =
        |session: &mut Session| -> u32 { session.text("s_1mcp_go", json!({})).parse().unwrap() };
    let before = count(&mut session);
    let began = Instant::now();
    while began.elapsed() < 3 * Duration::from_millis(700) {
        session.text("s_1mcp_go", json!({"way": "flood"}));
    }
    let windows = began.elapsed().as_millis() / 700;
    // One at once, and one at the end of each window that has begun.
    let most = u32::try_from(windows).unwrap() + 2;
    let read = count(&mut session) - before;
    assert!(
        (1..=most).contains(&read),
        "{read} readings in {windows} windows"
    );
    rig.stop();
}

#[test]
fn a_server_that_wants_a_login_waits_for_it() {
    let challenge = "WWW-Authenticate: Bearer resource_metadata=\"http://127.0.0.1/x\"\r\n";
    let server = Script::start(move |_, wire| {
        wire.reply(401, challenge, "");
        true
    });
    let rig = Rig::start(json!({"web": server.entry(), "ev": everything(&[])}));
    let entry = rig.server("web");
    assert_eq!(entry["status"], "awaiting_oauth", "{entry}");
    assert_eq!(
        (&entry["healthy"], &entry["restarts"]),
        (&json!(false), &json!(0))
    );
    let error = entry["lastError"].as_str().unwrap();
    assert!(
        error.contains("headers") && error.contains("login"),
        "{error}"
    );
    let asked = server.seen().len();
    let mut session = rig.session();
    assert_eq!(session.text("ev_1mcp_echo", json!({"text": "x"})), "x");
    assert_eq!(server.seen().len(), asked, "it is asked again too soon");
    rig.stop();
}
