use std::path::PathBuf;
use std::time::Duration;

use super::{
    Arguments, AuthVerb, Client, ClientFlags, Command, ConfigCommand, ControlFlags, DemoKind,
    HealthFlags, ImportFlags, Probe, SecretFlags, SecretVerb, Topic, Verb, parse,
};

fn split(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn command(line: &str) -> Command {
    parse(split(line))
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .command
}

#[test]
fn commands() {
    let check = |line: &str, expect: Command| assert_eq!(command(line), expect, "{line}");
    let checked = |file: Option<&str>| {
        Command::Config(ConfigCommand::Check {
            file: file.map(PathBuf::from),
            json: false,
        })
    };
    let file = |name: &str| checked(Some(name));
    let client = ClientFlags::default;
    check("", Command::Serve);
    check("serve", Command::Serve);
    check("--port 1 serve", Command::Serve);
    check("serve --port 1", Command::Serve);
    check("demo", Command::Demo);
    check("demo --port=0", Command::Demo);
    check("demo-server clock", Command::DemoServer(DemoKind::Clock));
    check("demo-server notes", Command::DemoServer(DemoKind::Notes));
    check("config check a.json", file("a.json"));
    check("config validate a.json", file("a.json"));
    check("validate a.json", file("a.json"));
    check("validate -- -odd.json", file("-odd.json"));
    check("config check", checked(None));
    check(
        "list",
        Command::List {
            server: None,
            client: client(),
        },
    );
    check(
        "list files",
        Command::List {
            server: Some("files".into()),
            client: client(),
        },
    );
    check("help", Command::Help(Topic::Main));
    check("--help", Command::Help(Topic::Main));
    check("serve -h", Command::Help(Topic::Main));
    check("help call", Command::Help(Topic::Call));
    check("call --help", Command::Help(Topic::Call));
    check("config check --help", Command::Help(Topic::Config));
    check("list --help", Command::Help(Topic::List));
    check("demo --help", Command::Help(Topic::Demo));
    check("--version", Command::Version);
    check("-V", Command::Version);
    check("version", Command::Version);
}

#[test]
fn commands_for_files() {
    let check = |line: &str, expect: ConfigCommand| {
        assert_eq!(command(line), Command::Config(expect), "{line}");
    };
    let show = |file: Option<&str>, origin: bool, json: bool| ConfigCommand::Show {
        file: file.map(PathBuf::from),
        origin,
        json,
    };
    check("config show", show(None, false, false));
    check(
        "config show --origin a.json",
        show(Some("a.json"), true, false),
    );
    check("config show --json", show(None, false, true));
    check("config schema", ConfigCommand::Schema);
    let (file, json) = (PathBuf::from("b"), true);
    check("config diff b --json", ConfigCommand::Diff { file, json });
    let import = |client: Client, how: ImportFlags| ConfigCommand::Import { client, how };
    check(
        "config import claude",
        import(Client::Claude, ImportFlags::default()),
    );
    let how = ImportFlags {
        from: Some(PathBuf::from("x")),
        write: true,
        show_secrets: false,
    };
    check(
        "config import vscode --from x --write",
        import(Client::VsCode, how),
    );
}

#[test]
fn calls() {
    let check = |line: &str, target: &str, arguments: Arguments, client: ClientFlags| {
        let expect = Command::Call {
            target: target.into(),
            arguments,
            client,
        };
        assert_eq!(command(line), expect, "{line}");
    };
    let none = ClientFlags::default;
    check("call a/b", "a/b", Arguments::None, none());
    check(
        "call github.com/x/y/tool",
        "github.com/x/y/tool",
        Arguments::None,
        none(),
    );
    check("call a/b --args -", "a/b", Arguments::Stdin, none());
    check(
        "call a/b --args @f.json",
        "a/b",
        Arguments::File("f.json".into()),
        none(),
    );
    let json = || Arguments::Json("{\"n\":1.50}".into());
    check("call a/b --args {\"n\":1.50}", "a/b", json(), none());
    check("--args={\"n\":1.50} call a/b", "a/b", json(), none());
    let client = ClientFlags {
        ca_file: None,
        headers: Vec::new(),
        url: Some("http://h/mcp".into()),
        timeout: Some(Duration::from_millis(500)),
    };
    check(
        "call --url http://h/mcp --timeout 500 a/b",
        "a/b",
        Arguments::None,
        client,
    );
}

#[test]
fn flags() {
    let check = |line: &str, flag: &str, expect: Option<&str>| {
        let parsed = parse(split(line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(parsed.flags.get(flag), expect, "{line}");
    };
    check("--port 4000", "port", Some("4000"));
    check("--port=4000", "port", Some("4000"));
    check("-P 4000", "port", Some("4000"));
    check("-P4000", "port", Some("4000"));
    check("-c a.json", "config", Some("a.json"));
    check("-d /etc/x", "config-dir", Some("/etc/x"));
    check("-f a,b", "filter", Some("a,b"));
    check("-H 0.0.0.0", "host", Some("0.0.0.0"));
    check("--port 1 serve --port 2", "port", Some("2"));
    check("--filter -web", "filter", Some("-web"));
    check("--filter=", "filter", Some(""));
    check(
        "--enable-async-loading",
        "enable-async-loading",
        Some("true"),
    );
    check(
        "--enable-async-loading=false",
        "enable-async-loading",
        Some("false"),
    );
    check(
        "--enable-async-loading false serve",
        "enable-async-loading",
        Some("false"),
    );
    check(
        "--enable-async-loading serve",
        "enable-async-loading",
        Some("true"),
    );
    check(
        "--no-enable-async-loading",
        "enable-async-loading",
        Some("false"),
    );
    check(
        "--allow-unauthenticated --no-allow-unauthenticated",
        "allow-unauthenticated",
        Some("false"),
    );
    check(
        "--no-allow-unauthenticated --allow-unauthenticated",
        "allow-unauthenticated",
        Some("true"),
    );
    check("--port nonsense", "port", Some("nonsense"));
    check("serve", "port", None);
    // Known flags of 1MCP are taken and warned about with the configuration.
    check("--enable-auth", "enable-auth", Some("true"));
    check(
        "--no-enable-scope-validation",
        "enable-scope-validation",
        Some("false"),
    );
    check("-t http -u https://x", "external-url", Some("https://x"));
    check("--session-ttl 60 serve", "session-ttl", Some("60"));
}

#[test]
fn health() {
    let check = |line: &str, probe: Probe, socket: Option<&str>, timeout_ms: Option<u64>| {
        let expect = Command::Health(HealthFlags {
            ca_file: None,
            probe,
            socket: socket.map(PathBuf::from),
            timeout: timeout_ms.map(Duration::from_millis),
        });
        assert_eq!(command(line), expect, "{line}");
    };
    check("health", Probe::Whole, None, None);
    check("health --port 1", Probe::Whole, None, None);
    check("health --live", Probe::Live, None, None);
    check("--ready health", Probe::Ready, None, None);
    check(
        "health --startup --timeout 9",
        Probe::Startup,
        None,
        Some(9),
    );
    check(
        "health a/b --socket /s",
        Probe::Server("a/b".into()),
        Some("/s"),
        None,
    );
    assert_eq!(command("help health"), Command::Help(Topic::Health));
    assert_eq!(command("secret set --help"), Command::Help(Topic::Secret));
    for line in [
        "health --live --ready",
        "health a --live",
        "health a b",
        "list --live",
    ] {
        assert!(parse(split(line)).is_err(), "{line}");
    }
}

#[test]
fn who_may_come_in() {
    let check = |line: &str, verb: AuthVerb| {
        let control = ControlFlags {
            json: line.contains("--json"),
            ..ControlFlags::default()
        };
        let verb = Verb::Auth(verb);
        assert_eq!(command(line), Command::Control { verb, control }, "{line}");
    };
    check("auth approve", AuthVerb::Approve(None));
    check("auth approve 1", AuthVerb::Approve(Some("1".into())));
    check("auth clients --json", AuthVerb::Clients);
    check("auth tokens", AuthVerb::Tokens);
    check("auth revoke all", AuthVerb::Revoke("all".into()));
    assert_eq!(command("auth password"), Command::Password);
    assert_eq!(command("help auth"), Command::Help(Topic::Auth));
    for line in ["auth", "auth approve a b", "auth revoke", "auth tokens a"] {
        assert!(parse(split(line)).is_err(), "{line}");
    }
    let told = parse(split("auth password hunter2")).unwrap_err();
    assert!(!told.to_string().contains("hunter2"), "{told}");
}

#[test]
fn secrets() {
    let check = |line: &str, verb: SecretVerb, json: bool, file: Option<&str>| {
        let expect = SecretFlags {
            verb,
            json,
            new_key_file: file.map(PathBuf::from),
        };
        assert_eq!(command(line), Command::Secret(expect), "{line}");
    };
    check("secret set a", SecretVerb::Set("a".into()), false, None);
    check("secret get a", SecretVerb::Get("a".into()), false, None);
    check("secret rm a", SecretVerb::Remove("a".into()), false, None);
    check("secret list --json", SecretVerb::List, true, None);
    check("secret key", SecretVerb::Key(None), false, None);
    check(
        "secret key k",
        SecretVerb::Key(Some("k".into())),
        false,
        None,
    );
    let rotate = "secret rotate --new-key-file k";
    check(rotate, SecretVerb::Rotate, false, Some("k"));
    for line in [
        "secret",
        "secret set",
        "secret set a hunter2",
        "secret get a hunter2",
    ] {
        let error = parse(split(line)).expect_err(line).to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    for line in [
        "secret list --new-key-file k",
        "list --new-key-file k",
        "secret put a",
    ] {
        assert!(parse(split(line)).is_err(), "{line}");
    }
}

#[test]
fn usage_errors_say_what_to_write() {
    let check = |line: &str, expect: &str| {
        let error = parse(split(line)).expect_err(line).to_string();
        assert!(error.contains(expect), "{line}: {error}");
    };
    check("--prot 1", "did you mean --port?");
    check("--no-prot", "unknown flag --no-prot");
    check("--frobnicate", "see onemcp --help");
    check("-x", "unknown flag -x");
    check("--port", "port");
    check("--no-port", "takes a value");
    check("--no-allow-unauthenticated=true", "takes no value");
    check("--pagination=maybe", "true or false");
    check("--help=yes", "help");
    check("srve", "did you mean serve?");
    check("run a/b", "here it is called call");
    check("mcp.json", "--config mcp.json");
    check("frobnicate", "see onemcp --help");
    check("serve now", "one word too many");
    check("list a b", "one word too many");
    check("config", "check, show, schema, diff, import");
    check("config shwo", "config show");
    check("config diff", "config diff FILE");
    check("config schema x", "one word too many");
    check("config import", "claude, cursor, vscode or 1mcp");
    check("config import zed", "does not know");
    check("config check --write", "config import");
    check("config check --origin", "config show");
    check("demo-server", "clock or notes");
    check("demo-server echo", "clock or notes");
    check("call", "SERVER/TOOL");
    check("call tool", "SERVER/TOOL");
    check("call a/", "SERVER/TOOL");
    check("call a/b --args [1]", "JSON object");
    check("call a/b --args {", "JSON object");
    check("call a/b --args @", "name of a file");
    check("call a/b --timeout soon", "milliseconds");
    check("serve --args {}", "belongs to call");
    check("list --args {}", "belongs to call");
    check("serve --url http://h", "belongs to list, call and proxy");
    check("proxy", "proxy needs --url");
    check("status --header a:b", "belongs to list, call and proxy");
    check("serve --tags a", "belongs to proxy");
    check("proxy --url http://h --tags a --preset b", "takes one of");
    check("help frobnicate", "unknown command");
    check("--stop", "onemcp drain");
    check("serve --status", "onemcp status");
    check("--restart", "service manager");
    check("restart", "needs the name of a server");
    check("logs", "needs the name of a server");
    check("wait a b", "one word too many");
    check("statsu", "did you mean status?");
    check("reload --watch", "belongs to status");
    check("status --follow", "belongs to logs");
    check("serve --socket x", "commands for a running gateway");
    check("call a/b --json", "commands for a running gateway");
    check("wait --timeout 5h", "milliseconds");
    check("wait --timeout 18446744073709551615m", "milliseconds");
}

#[test]
fn orders_for_a_running_gateway() {
    let check = |line: &str, verb: Verb, timeout_s: Option<u64>| {
        let expected = Command::Control {
            verb,
            control: ControlFlags {
                socket: None,
                json: line.contains("--json"),
                timeout: timeout_s.map(Duration::from_secs),
            },
        };
        assert_eq!(parse(split(line)).expect(line).command, expected, "{line}");
    };
    let logs = |follow| Verb::Logs {
        server: "a".into(),
        follow,
    };
    check("status", Verb::Status { watch: false }, None);
    check("--watch status --json", Verb::Status { watch: true }, None);
    check("wait", Verb::Wait(None), None);
    check(
        "wait a --timeout 30s",
        Verb::Wait(Some("a".into())),
        Some(30),
    );
    check("wait --timeout 2m", Verb::Wait(None), Some(120));
    check("wait --timeout=1000ms", Verb::Wait(None), Some(1));
    check("logs a", logs(false), None);
    check("logs -f a", logs(true), None);
    check("logs a --follow", logs(true), None);
    check("restart a", Verb::Restart("a".into()), None);
    check("disable -- --odd", Verb::Disable("--odd".into()), None);
    check("drain --port 3051", Verb::Drain, None);
    // Elsewhere it is the filter.
    let filtered = parse(split("serve -f web")).expect("a filter");
    assert_eq!(filtered.flags.get("filter"), Some("web"));
}
