//! The start: the listener first, slow servers, bad entries, and starts that are refused.

use serde_json::json;

use crate::support::eventually;
use crate::support::rig::Plan;
use crate::support::servers::{everything, hostile, with};

fn slow(ms: &str) -> Plan {
    Plan::new(json!({"slow": hostile(&["--slow-start", ms]), "ev": everything(&[])}))
}

#[test]
fn by_default_a_client_sees_all_servers_from_the_start() {
    let rig = slow("700").start_unready();
    assert_eq!(rig.get("/health/live").status(), 200);
    let mut session = rig.session();
    let names = session.names("tools");
    assert!(names.contains(&"slow_1mcp_echo".to_owned()), "{names:?}");
    assert!(names.contains(&"ev_1mcp_echo".to_owned()), "{names:?}");
    rig.stop();
}

#[test]
fn the_first_list_is_whole_and_no_news_follows() {
    for _ in 0..4 {
        let servers: serde_json::Map<_, _> = (0..6)
            .map(|number| (format!("s{number}"), everything(&[])))
            .collect();
        let rig = Plan::new(servers.into()).start_unready();
        let mut session = rig.session();
        let mut stream = session.listen();
        let all = session.names("tools").len();
        assert_eq!(all, 6 * rig.session_at("/mcp/s0").names("tools").len());
        session.call("s0_1mcp_test_trigger_prompt_change", json!({}));
        let first = stream.message();
        assert_eq!(first["method"], "notifications/prompts/list_changed");
        rig.stop();
    }
}

#[test]
fn with_async_loading_a_client_starts_at_once_and_is_told_of_late_servers() {
    let rig = slow("1000").arg("--enable-async-loading").start_unready();
    let mut session = rig.session();
    let mut stream = session.listen();
    eventually("the quick one is there", || {
        session.names("tools").contains(&"ev_1mcp_echo".to_owned())
    });
    let health = rig.server("slow");
    assert!(
        !session
            .names("tools")
            .contains(&"slow_1mcp_echo".to_owned()),
        "{health}"
    );
    assert_ne!(health["status"], "connected");
    assert_ne!(health["status"], "error", "loading is not failing");
    let mut heard = 0;
    eventually("the slow one is announced", || {
        assert_eq!(
            stream.message()["method"]
                .as_str()
                .unwrap()
                .rsplit('/')
                .next(),
            Some("list_changed")
        );
        heard += 1;
        session
            .names("tools")
            .contains(&"slow_1mcp_echo".to_owned())
    });
    assert!(heard <= 6, "{heard} announcements of two servers");
    rig.stop();
}

#[test]
fn the_wait_for_slow_servers_is_bounded() {
    let rig = slow("20000")
        .set("syncStartTimeout", json!(2000))
        .start_unready();
    let mut session = rig.session();
    let names = session.names("tools");
    assert!(names.contains(&"ev_1mcp_echo".to_owned()), "{names:?}");
    assert!(!names.contains(&"slow_1mcp_echo".to_owned()), "{names:?}");
    let mut rig = rig;
    rig.term();
    assert_eq!(rig.exit_code(crate::support::PATIENCE), Some(0));
}

#[test]
fn a_bad_entry_is_shown_as_failed_and_the_others_work() {
    let servers = json!({
        "unknown variable": with(everything(&[]), json!({"args": ["${NO_SUCH_VARIABLE_HERE}"]})),
        "no command": {"args": ["x"]},
        "wrong type": {"command": 7},
        "off": with(everything(&[]), json!({"disabled": true})),
        "ev": everything(&[]),
    });
    let rig = Plan::new(servers).start();
    for name in ["unknown variable", "no command", "wrong type"] {
        let server = rig.server(name);
        assert_eq!(server["healthy"], false, "{server}");
    }
    let server = rig.server("unknown variable");
    assert!(
        server["lastError"]
            .as_str()
            .unwrap()
            .contains("NO_SUCH_VARIABLE_HERE"),
        "{server}"
    );
    let counts = rig.health()["configuration"].clone();
    assert_eq!(
        (&counts["serverCount"], &counts["disabledCount"]),
        (&json!(5), &json!(1))
    );
    let mut session = rig.session();
    assert_eq!(session.text("ev_1mcp_echo", json!({"text": "x"})), "x");
    rig.stop();
}

#[test]
fn a_server_sees_only_the_environment_that_is_meant_for_it() {
    let mut entry = everything(&[]);
    entry["env"] = json!({"OWN": "a${OUTER}b", "PLAIN": "x"});
    let rig = Plan::new(json!({"ev": entry}))
        .env("OUTER", "-o-")
        .env("SECRET_OF_THE_GATEWAY", "s")
        .start();
    let mut session = rig.session();
    let mut variable = |name: &str| session.text("ev_1mcp_get_env", json!({"name": name}));
    assert_eq!(variable("OWN"), "\"a-o-b\"");
    assert_eq!(variable("PLAIN"), "\"x\"");
    assert_eq!(variable("SECRET_OF_THE_GATEWAY"), "null");
    assert_eq!(variable("OUTER"), "null");
    assert_ne!(variable("PATH"), "null");
    rig.stop();
}

#[test]
fn to_listen_beyond_this_machine_needs_a_word() {
    for host in ["0.0.0.0", "::"] {
        let plan = Plan::new(json!({"ev": everything(&[])}))
            .arg("--host")
            .arg(host);
        let (code, stderr) = plan.refused();
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains("--allow-unauthenticated"), "{stderr}");
    }
    let plan = Plan::new(json!({"ev": everything(&[])}))
        .arg("--host=0.0.0.0")
        .env("ONE_MCP_ALLOW_UNAUTHENTICATED", "true");
    let rig = plan.start();
    assert_eq!(
        rig.session().text("ev_1mcp_echo", json!({"text": "x"})),
        "x"
    );
    rig.stop();
}

#[test]
fn a_port_that_is_taken_is_unavailable_and_bad_words_are_usage() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let plan = Plan::new(json!({})).arg("--port").arg(&port);
    let (code, stderr) = plan.refused();
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains(&port), "{stderr}");
    let (code, _) = Plan::new(json!({})).arg("--no-such-flag").refused();
    assert_eq!(code, Some(64));
    let (code, _) = Plan::new(json!({})).arg("--port=x").refused();
    assert_eq!(code, Some(64));
    let (code, _) = Plan::new(json!({})).arg("--config=/no/such/file").refused();
    assert_eq!(code, Some(78));
}

#[test]
fn nobody_waits_for_a_server_longer_than_it_may_take_to_start() {
    let silent = with(
        hostile(&["--slow-start", "60000"]),
        json!({"connectionTimeout": 400}),
    );
    let rig = Plan::new(json!({"silent": silent, "ev": everything(&[])})).start_unready();
    let began = std::time::Instant::now();
    let mut session = rig.session();
    assert!(session.names("tools").contains(&"ev_1mcp_echo".to_owned()));
    // Two greetings and a second try would be more.
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_millis(1500), "{took:?}");
    rig.stop();
}
