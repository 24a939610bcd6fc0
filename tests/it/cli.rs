//! The commands of the binary as scripts see them: lines on stdout, exit codes, nothing left.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cli_support::{
    Folder, Gateway, Outcome, PATIENCE, binary, eventually, finish, fixture, residents, run, signal,
};

/// Servers good and bad, in a file.
fn folder() -> Folder {
    let folder = Folder::new();
    let hostile = |args: &[&str]| json!({"command": fixture("hostile"), "args": args});
    let mut impatient = hostile(&[]);
    impatient["requestTimeout"] = json!(700);
    let servers = json!({"mcpServers": {
        "clock": {"command": binary(), "args": ["demo-server", "clock"], "tags": ["time"]},
        "github.com/x": {"command": fixture("everything"), "args": ["--page", "7"]},
        "github.com/x/y": {"command": binary(), "args": ["demo-server", "notes"]},
        "hostile": impatient,
        "off": {"command": "nothing", "disabled": true},
        "missing": {"command": "no-such-program-anywhere"},
        "dying": hostile(&["--exit-at-start", "3"]),
    }});
    folder.write("mcp.json", &servers.to_string());
    folder
}

/// The same command against the file, or at a gateway on that file.
struct Place {
    folder: Folder,
    gateway: Option<Gateway>,
}

impl Place {
    fn of_file() -> Place {
        Place {
            folder: folder(),
            gateway: None,
        }
    }

    fn of_gateway() -> Place {
        let folder = folder();
        let gateway = Gateway::start(folder.command(&["-c", "mcp.json", "--port", "0"]));
        Place {
            folder,
            gateway: Some(gateway),
        }
    }

    fn run(&self, words: &[&str], input: Option<&str>) -> Outcome {
        let mut all = words.to_vec();
        match &self.gateway {
            Some(gateway) => all.extend(["--url", &gateway.url]),
            None => all.extend(["--config", "mcp.json"]),
        }
        run(self.folder.command(&all), input)
    }

    fn check(&self, words: &[&str], code: i32) -> Outcome {
        let outcome = self.run(words, None);
        assert_eq!(outcome.code, Some(code), "{words:?}: {outcome:?}");
        outcome
    }

    /// Nothing but the gateway and its own is left.
    fn check_nothing_left(&self) {
        if self.gateway.is_none() {
            let left = residents(&self.folder.0, 0);
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn both(check: impl Fn(&Place)) {
    for place in [Place::of_file(), Place::of_gateway()] {
        check(&place);
        place.check_nothing_left();
    }
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

#[test]
fn lists_all_servers_and_their_tools() {
    both(|place| {
        let outcome = place.check(&["list"], 69);
        let servers: Vec<(&str, &str)> = outcome
            .of_kind("server")
            .iter()
            .map(|line| {
                (
                    line["server"].as_str().unwrap(),
                    line["status"].as_str().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("clock", "ready"),
            ("github.com/x", "ready"),
            ("github.com/x/y", "ready"),
            ("hostile", "ready"),
            ("off", "disabled"),
            ("missing", "failed"),
            ("dying", "failed"),
        ];
        assert_eq!(servers, expected);
        let missing = outcome.of_kind("server")[5];
        assert!(
            missing["error"]
                .as_str()
                .unwrap()
                .contains("no-such-program-anywhere")
        );
        let tools = outcome.of_kind("tool");
        let now = tools.iter().find(|line| line["tool"] == "now").unwrap();
        assert_eq!(now["server"], "clock");
        assert_eq!(now["name"], "clock_1mcp_now");
        assert!(now["description"].is_string());
        assert_eq!(now["inputSchema"]["type"], "object");
        // Every line is one object, and every page was read.
        assert_eq!(outcome.lines.len(), outcome.out.lines().count());
        let counted = outcome.of_kind("server")[1]["tools"].as_u64().unwrap();
        let listed = tools.iter().filter(|line| line["server"] == "github.com/x");
        assert_eq!(listed.count() as u64, counted);
        assert!(counted > 7);
    });
}

#[test]
fn lists_one_server_whole() {
    both(|place| {
        let outcome = place.check(&["list", "github.com/x"], 0);
        assert_eq!(outcome.lines[0]["kind"], "server");
        assert_eq!(outcome.of_kind("server").len(), 1);
        for kind in ["tool", "prompt", "resource", "template"] {
            assert!(!outcome.of_kind(kind).is_empty(), "{kind}");
        }
        assert!(
            outcome
                .lines
                .iter()
                .all(|line| line["server"] == "github.com/x")
        );
        place.check(&["list", "nobody"], 1);
        place.check(&["list", "missing"], 69);
    });
}

#[test]
fn calls_a_tool() {
    both(|place| {
        let outcome = place.check(&["call", "hostile/echo", "--args", r#"{"text":"ünï"}"#], 0);
        assert_eq!(text(outcome.line()), "ünï");
        // The longest server's name counts.
        let note = r#"{"title":"a","text":"b"}"#;
        let outcome = place.check(&["call", "github.com/x/y/add_note", "--args", note], 0);
        assert_eq!(outcome.line()["structuredContent"]["uri"], "note://a");
        let sum = r#"{"a":1,"b":2}"#;
        let outcome = place.check(&["call", "github.com/x/add", "--args", sum], 0);
        assert!(text(outcome.line()).contains('3'));
    });
}

#[test]
fn arguments_come_from_anywhere() {
    both(|place| {
        let outcome = place.run(
            &["call", "hostile/echo", "--args", "-"],
            Some(r#"{"text":"in"}"#),
        );
        assert_eq!((outcome.code, text(outcome.line())), (Some(0), "in"));
        place
            .folder
            .write("args.json", "{\n  \"text\": \"file\"\n}\n");
        let outcome = place.check(&["call", "hostile/echo", "--args", "@args.json"], 0);
        assert_eq!(text(outcome.line()), "file");
        for words in [
            vec!["call", "hostile/echo", "--args", "[]"],
            vec!["call", "hostile/echo", "--args", "{"],
            vec!["call", "hostile/echo", "--args", "@nowhere.json"],
            vec!["call", "hostile/echo", "--args", "-"],
            vec!["call", "hostile"],
            vec!["call", "/x"],
            vec!["call"],
            vec!["call", "hostile/echo", "--timeout", "soon"],
        ] {
            assert_eq!(place.check(&words, 64).out, "", "{words:?}");
        }
    });
}

#[test]
fn errors_have_their_exit_codes() {
    both(|place| {
        let error = |words: &[&str], code: i32| {
            let outcome = place.check(words, code);
            let error = outcome.line()["error"].clone();
            assert!(error["message"].is_string(), "{words:?}: {outcome:?}");
            assert!(!outcome.err.is_empty(), "{words:?}");
            error
        };
        let outcome = place.check(&["call", "github.com/x/test_error_handling"], 1);
        assert_eq!(outcome.line()["isError"], true);
        assert_eq!(error(&["call", "clock/nothing"], 1)["code"], -32602);
        assert_eq!(error(&["call", "nobody/now"], 1)["code"], -32602);
        let hang = error(&["call", "hostile/hang"], 75);
        assert_eq!(hang["data"]["onemcp"]["reason"], "timeout");
        error(&["call", "hostile/hang", "--timeout", "300"], 75);
        error(&["call", "missing/x"], 69);
        error(&["call", "dying/x"], 69);
        let crash = error(&["call", "hostile/crash"], 69);
        assert_eq!(crash["data"]["onemcp"]["server"], "hostile");
    });
}

#[test]
fn questions_of_a_tool_are_refused() {
    both(|place| {
        let words = [
            "call",
            "github.com/x/test_elicitation",
            "--args",
            r#"{"message":"?"}"#,
        ];
        let outcome = place.check(&words, 1);
        assert_eq!(outcome.line()["isError"], true);
    });
}

#[test]
fn a_disabled_server_is_not_started() {
    let place = Place::of_file();
    let error = &place.check(&["call", "off/x"], 69).lines[0]["error"];
    assert_eq!(error["data"]["onemcp"]["server"], "off");
    let filtered = place.check(&["list", "--filter", "time"], 0);
    assert_eq!(filtered.of_kind("server").len(), 1);
}

#[test]
fn works_with_everything_closed() {
    let folder = folder();
    let script = r#""$0" call clock/now -c mcp.json <&- 2>&-"#;
    let mut command = Command::new("sh");
    command
        .args(["-c", script, binary()])
        .env("HOME", &folder.0)
        .current_dir(&folder.0);
    let outcome = run(command, None);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.line()["structuredContent"]["time"].is_string());
}

#[test]
fn a_signal_ends_the_call_and_its_server() {
    let place = Place::of_file();
    // A server that ignores TERM and the end of its input has a holder that does so too.
    let server = json!({"mcpServers": {"stubborn": {
        "command": fixture("hostile"),
        "args": ["--ignore-term", "--ignore-eof", "--fork-holder"],
    }}});
    place.folder.write("mcp.json", &server.to_string());
    for ending in [Signal::INT, Signal::TERM] {
        let words = ["call", "stubborn/hang", "--config", "mcp.json"];
        let mut command = place.folder.command(&words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // The server, its holder, and the watcher, which shows itself to root only.
        let expected = 2 + usize::from(rustix::process::geteuid().is_root());
        let up = eventually(PATIENCE, || {
            residents(&place.folder.0, child.id()).len() == expected
        });
        assert!(up, "{:?}", residents(&place.folder.0, child.id()));
        signal(&child, ending);
        let outcome = finish(child);
        assert_eq!(outcome.code, Some(128 + ending.as_raw()), "{outcome:?}");
        let gone = eventually(PATIENCE, || residents(&place.folder.0, 0).is_empty());
        assert!(gone, "{:?}", residents(&place.folder.0, 0));
    }
}

#[test]
fn a_signal_ends_a_call_at_a_gateway() {
    let place = Place::of_gateway();
    let gateway = place.gateway.as_ref().unwrap();
    let long = r#"{"seconds":60}"#;
    let words = [
        "call",
        "clock/countdown",
        "--url",
        &gateway.url,
        "--args",
        long,
    ];
    let mut command = place.folder.command(&words);
    command.args(["--log-level", "info"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Its first words are the first progress: the call is under way.
    let mut first = [0];
    child
        .stderr
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    child.stdout = None;
    signal(&child, Signal::TERM);
    let code = crate::cli_support::wait(&mut child, PATIENCE);
    assert_eq!(code, Some(143));
}

/// Answers each connection with one of these, then closes it.
fn answering(answers: &[&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = answers.to_vec();
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            read_request(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}/mcp")
}

fn read_request(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
        if seen.ends_with(b"}") {
            return;
        }
    }
}

#[test]
fn gateways_that_refuse_or_are_none() {
    let folder = Folder::new();
    let check = |answer: &[&'static str], code: i32| {
        let url = answering(answer);
        let outcome = run(folder.command(&["call", "a/b", "--url", &url]), None);
        assert_eq!(outcome.code, Some(code), "{answer:?}: {outcome:?}");
        assert!(outcome.line()["error"]["message"].is_string());
    };
    check(
        &["HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
        77,
    );
    check(
        &["HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
        77,
    );
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: http://x.invalid/\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n";
    check(&[elsewhere], 69);
    let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    check(&[none, none], 69);
    check(
        &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"],
        69,
    );
    check(&["nonsense\r\n\r\n"], 69);
    check(&[""], 69);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let words = ["call", "a/b", "--url", &silent, "--timeout", "300"];
    assert_eq!(run(folder.command(&words), None).code, Some(75));
    drop(listener);
    assert_eq!(run(folder.command(&words), None).code, Some(69));
    for bad in ["127.0.0.1:3050", "ftp://x/", "http://a:b@127.0.0.1/"] {
        let outcome = run(folder.command(&["list", "--url", bad]), None);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(64), ""),
            "{bad}"
        );
    }
}

#[test]
fn loopback_needs_no_proxy() {
    let place = Place::of_gateway();
    let gateway = place.gateway.as_ref().unwrap();
    let mut command = place
        .folder
        .command(&["call", "clock/now", "--url", &gateway.url]);
    command
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .env("http_proxy", "http://127.0.0.1:1");
    assert_eq!(run(command, None).code, Some(0));
}

#[test]
fn no_configuration_names_the_places_and_the_demo() {
    let folder = Folder::new();
    for words in [
        vec!["serve"],
        vec!["list"],
        vec!["call", "a/b"],
        vec!["config", "check"],
    ] {
        let outcome = run(folder.command(&words), None);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(78), ""),
            "{words:?}"
        );
        let place = folder.0.join(".config").display().to_string();
        assert!(outcome.err.contains(&place), "{}", outcome.err);
        assert!(outcome.err.contains("onemcp demo"), "{}", outcome.err);
    }
}

#[test]
fn config_check_tells_with_its_exit_code() {
    let folder = Folder::new();
    let check = |text: &str, code: i32, lines: usize| {
        let file = folder.write("some.json", text);
        for words in [vec!["config", "check", &file], vec!["validate", &file]] {
            let outcome = run(folder.command(&words), None);
            assert_eq!(outcome.code, Some(code), "{outcome:?}");
            assert_eq!(outcome.lines.len(), lines, "{outcome:?}");
        }
    };
    check(r#"{"mcpServers": {"a": {"command": "sh"}}}"#, 0, 0);
    check(
        r#"{"mcpServers": {"a": {"command": "sh", "comand": 1}}}"#,
        0,
        1,
    );
    check(r#"{"mcpServers": {"a": {"command": 7}}}"#, 78, 1);
    check("{", 78, 1);
    folder.write("mcp.json", "{");
    for words in [vec!["serve"], vec!["list"], vec!["call", "a/b"]] {
        let mut command = folder.command(&words);
        command.args(["--config", "mcp.json"]);
        assert_eq!(run(command, None).code, Some(78), "{words:?}");
    }
}

#[test]
fn help_fits_eighty_columns() {
    let folder = Folder::new();
    let mut topics = vec![vec!["--help"], vec!["help"]];
    for topic in ["serve", "demo", "config", "list", "call"] {
        topics.push(vec![topic, "--help"]);
        topics.push(vec!["help", topic]);
    }
    for words in topics {
        let outcome = run(folder.command(&words), None);
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (Some(0), ""),
            "{words:?}"
        );
        assert!(outcome.out.lines().count() > 3, "{words:?}");
        let wide = outcome.out.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{words:?}");
    }
    assert_eq!(run(folder.command(&["lst"]), None).code, Some(64));
    assert_eq!(
        run(folder.command(&["list", "--portt", "1"]), None).code,
        Some(64)
    );
}

#[test]
fn the_environment_wins_over_flags() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let words = ["demo", "--port", &port.to_string()];
    let refused = run(folder.command(&words), None);
    assert_eq!((refused.code, refused.out.as_str()), (Some(69), ""));
    let mut command = folder.command(&words);
    command.env("ONE_MCP_PORT", "0");
    let gateway = Gateway::start(command);
    assert_ne!(gateway.port, u64::from(port));
}

#[test]
fn demo_works_as_pasted_and_ends_at_ctrl_c() {
    let folder = Folder::new();
    let gateway = Gateway::start(folder.command(&["demo", "--port", "0"]));
    let words = gateway.stderr_until(|line| line.contains("tools/list"));
    assert!(
        words
            .iter()
            .any(|line| line.contains("claude mcp add --transport http"))
    );
    let first = words.iter().position(|line| line.starts_with("SESSION="));
    let script = words[first.expect("a first request")..].join("\n");
    if has_curl() {
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .env_remove("http_proxy")
            .env_remove("ALL_PROXY");
        let outcome = run(command, None);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let tools = outcome.line()["result"]["tools"].as_array().unwrap();
        let named = |name: &str| tools.iter().any(|tool| tool["name"] == name);
        assert!(named("clock_1mcp_now") && named("notes_1mcp_add_note"));
    }
    let url = gateway.url.clone();
    let outcome = run(folder.command(&["list", "--url", &url]), None);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.of_kind("server").len(), 2);
    assert_eq!(gateway.end(Signal::INT), (Some(0), Vec::new()));
    let gone = eventually(PATIENCE, || residents(&folder.0, 0).is_empty());
    assert!(gone, "{:?}", residents(&folder.0, 0));
}

fn has_curl() -> bool {
    let curl = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    curl.is_ok_and(|status| status.success())
}
