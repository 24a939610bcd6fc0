//! Who decides the value of a setting, and what templates in entries become.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use onemcp::config::settings::{Flags, Kind, Origin, SETTINGS, Setting, Settings};
use onemcp::config::{Config, Environment, load_file};
use onemcp::model::password::PasswordHash;
use onemcp::secrets::store::Store;
use serde_json::{Map, Value, json};

use crate::cli_support::{Folder, Gateway};
use crate::support::http::{Connection, Request};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{everything, example, with};
use crate::support::{PATIENCE, eventually};

/// From the one that decides to the one that decides least. A fragment stands beside `mcp.json`:
/// what both say is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Variable,
    Flag,
    Overlay,
    Main,
    Fragment,
    Toml,
    Default,
}

const LAYERS: [Layer; 7] = [
    Layer::Variable,
    Layer::Flag,
    Layer::Overlay,
    Layer::Main,
    Layer::Fragment,
    Layer::Toml,
    Layer::Default,
];

impl Layer {
    fn file(self) -> Option<&'static str> {
        match self {
            Layer::Overlay => Some("mcp.prod.json"),
            Layer::Main => Some("mcp.json"),
            Layer::Fragment => Some("conf.d/a.json"),
            Layer::Toml => Some("config.toml"),
            Layer::Variable | Layer::Flag | Layer::Default => None,
        }
    }

    fn is_origin(self, origin: &Origin, row: &Setting) -> bool {
        match origin {
            Origin::Default => self == Layer::Default,
            Origin::Flag(flag) => self == Layer::Flag && *flag == row.flag,
            Origin::Environment(name) => self == Layer::Variable && *name == row.env,
            Origin::File(place) => self.file().is_some_and(|file| place.file.ends_with(file)),
        }
    }
}

/// Two values of a setting, as a flag takes them; neither is its default.
fn values(row: &Setting) -> [String; 2] {
    let two = |one: &str, other: &str| [one.to_owned(), other.to_owned()];
    let other_than_default = |all: Vec<String>| -> [String; 2] {
        let default = row.default.map(str::to_owned);
        let mut all = all
            .into_iter()
            .filter(|text| Some(text) != default.as_ref());
        let first = all.next().unwrap();
        let second = all.next().or(default).unwrap();
        [first, second]
    };
    match row.kind {
        Kind::Switch => other_than_default(vec!["true".into(), "false".into()]),
        Kind::Number(least, _) | Kind::Millis(least, _) | Kind::Size(least, _) => {
            other_than_default((least + 1..least + 4).map(|n| n.to_string()).collect())
        }
        Kind::Choice(words) => {
            other_than_default(words.iter().map(|word| (*word).to_owned()).collect())
        }
        Kind::Path | Kind::PathOr(_) => two("/a", "/b"),
        Kind::Host => two("127.0.0.2", "::1"),
        Kind::Address => two("127.0.0.1:1", "127.0.0.1:2"),
        Kind::Word => two("prod", "test"),
        Kind::Filter | Kind::Preset => two("a", "b"),
        Kind::Scopes => two("tag:a", "read tag:b"),
        Kind::Text if row.key == "store" => two("redis://a", "redis://b"),
        Kind::Text => two("a", "b"),
        Kind::AuditSinks => two("stdout", "file,syslog"),
        Kind::Tools => two("a/b", "a/*,b/c"),
        Kind::Separator => two("_a_", "_b_"),
        Kind::Hosts => two("a.example,b.example", "c.example"),
        Kind::Origins => two("http://a.example", "http://b.example"),
        Kind::Proxies | Kind::Egress => two("10.0.0.0/8", "10.1.0.0/16,::1"),
        Kind::Roots => two("file:///a", "file:///b,file:///c"),
        Kind::Url => two("http://a.example:4318", "https://b.example"),
        Kind::Site => two("http://a.example:8080", "https://b.example"),
        Kind::Levels => two("http=debug", "http=warn,net=off"),
        Kind::Headers => two("a=1", "a=2,b=${HOME}"),
        Kind::PasswordHash => {
            let hash = |salt: u8| PasswordHash::of("x", [salt; 16]).text();
            [hash(1), hash(2)]
        }
        Kind::Document => two("{}", "{ }"),
        Kind::Table(_) => match row.key {
            "auth.issuers" => two("[]", "[{\"issuer\":\"https://a.example\"}]"),
            "auth.clients" => two("{}", r#"{"a":{"redirectUris":["https://a.example/"]}}"#),
            "discovery" => two("{}", r#"{"a":{"type":"directory","path":"/srv/found"}}"#),
            "secrets.providers" => two("[\"environment\"]", "[\"directories\"]"),
            _ => two("{\"sinks\":{}}", "{\"rules\":{}}"),
        },
    }
}

/// The same value as it stands in a file.
fn in_file(row: &Setting, text: &str) -> Value {
    let pairs = || text.split(',').filter_map(|pair| pair.split_once('='));
    match row.kind {
        Kind::Switch | Kind::Number(..) | Kind::Millis(..) | Kind::Size(..) | Kind::Table(_) => {
            serde_json::from_str(text).unwrap()
        }
        Kind::Levels | Kind::Headers => {
            let members = pairs().map(|(name, value)| (name.to_owned(), value.into()));
            Value::Object(members.collect())
        }
        Kind::Hosts
        | Kind::Origins
        | Kind::Proxies
        | Kind::Egress
        | Kind::Roots
        | Kind::AuditSinks
        | Kind::Tools => text.split(',').collect(),
        _ => text.into(),
    }
}

fn nested(key: &str, value: Value) -> Value {
    key.rsplit('.').fold(value, |inner, name| {
        let mut object = Map::new();
        object.insert(name.to_owned(), inner);
        Value::Object(object)
    })
}

fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name} = {}", toml(value));
            let members: Vec<String> = members.iter().map(member).collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

/// Loads a configuration in which these layers say these things of one setting.
fn settle(folder: &Path, row: &'static Setting, key: &str, said: &[(Layer, &str)]) -> Config {
    let mut environment = Environment::new();
    let mut flags = Flags::default();
    environment.insert("HOME".into(), "/nowhere".into());
    flags.set("environment", "prod".into());
    fs::create_dir_all(folder.join("conf.d")).unwrap();
    for layer in LAYERS {
        let Some(file) = layer.file() else { continue };
        let value = said.iter().find(|(one, _)| *one == layer);
        let text = match (value, layer) {
            (Some((_, text)), Layer::Toml) => format!("{key} = {}\n", toml(&in_file(row, text))),
            (None, Layer::Toml) => String::new(),
            (Some((_, text)), _) => {
                json!({"gateway": nested(key, in_file(row, text)), "mcpServers": {}}).to_string()
            }
            (None, _) => json!({"mcpServers": {}}).to_string(),
        };
        fs::write(folder.join(file), text).unwrap();
    }
    for (layer, text) in said {
        match layer {
            Layer::Variable => {
                environment.insert(row.env.to_owned(), (*text).to_owned());
            }
            Layer::Flag => flags.set(row.flag, (*text).to_owned()),
            _ => {}
        }
    }
    let loaded = load_file(
        &folder.join("mcp.json"),
        &flags,
        &environment,
        &Store::default(),
    );
    loaded.unwrap_or_else(|error| panic!("{} {said:?}: {error}", row.key))
}

fn has(settings: &Settings, row: &Setting, layer: Layer) -> bool {
    layer.is_origin(settings.origin(row.key), row)
}

#[test]
fn for_every_setting_and_each_pair_of_layers_the_higher_one_wins() {
    let folder = Folder::new();
    let mut pairs = 0;
    for row in SETTINGS {
        let [high_text, low_text] = values(row);
        let speaks = |layer: &Layer| match layer {
            Layer::Default => false,
            Layer::Variable | Layer::Flag => true,
            _ => row.in_file,
        };
        let spoken: Vec<Layer> = LAYERS.into_iter().filter(speaks).collect();
        for (at, high) in spoken.iter().copied().enumerate() {
            let alone = settle(&folder.0, row, row.key, &[(high, &high_text)]).settings;
            assert!(
                has(&alone, row, high),
                "{} {high:?} over the default",
                row.key
            );
            let differs = alone.differing(&Settings::default()).contains(&row.key);
            assert!(differs, "{}: {high:?} says {high_text}", row.key);
            pairs += 1;
            for low in spoken[at + 1..].iter().copied() {
                if matches!((high, low), (Layer::Overlay | Layer::Main, Layer::Fragment)) {
                    continue;
                }
                let is_merged = matches!(row.kind, Kind::Levels | Kind::Headers | Kind::Table(_));
                if is_merged && (high, low) == (Layer::Overlay, Layer::Main) {
                    continue;
                }
                let said = [(high, high_text.as_str()), (low, low_text.as_str())];
                let both = settle(&folder.0, row, row.key, &said);
                let what = format!("{}: {high:?} over {low:?}", row.key);
                assert!(has(&both.settings, row, high), "{what}");
                let differs = both.settings.differing(&alone).contains(&row.key);
                assert!(!differs, "{what}: another value");
                check_told(&both, row, (high, low), &what);
                pairs += 1;
            }
        }
    }
    assert!(pairs > 15 * 50, "{pairs}");
}

/// An overlay is a merge patch: of an object each member counts by itself.
#[test]
fn an_overlay_wins_member_by_member() {
    let folder = Folder::new();
    let row = |key: &str| SETTINGS.iter().find(|row| row.key == key).unwrap();
    let over = |key: &str, high: &str, low: &str| {
        let said = [(Layer::Overlay, high), (Layer::Main, low)];
        settle(&folder.0, row(key), key, &said).settings
    };
    let settings = over("logging.modules", "http=debug", "http=warn,net=off");
    let levels = settings.log_modules.iter();
    let levels: Vec<String> = levels
        .map(|(name, level)| format!("{name}={level}"))
        .collect();
    assert_eq!(levels, ["http=DEBUG", "net=OFF"]);
    let settings = over("otlp.headers", "a=1", "a=2,b=3");
    let headers = [("a", "1"), ("b", "3")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(settings.otlp_headers, headers);
    let settings = over("alerts", "{\"sinks\":{}}", "{\"rules\":{}}");
    let both = json!({"rules": {}, "sinks": {}}).to_string();
    assert_eq!(settings.alerts, Some(both));
    let settings = over(
        "secrets.providers",
        "[\"environment\"]",
        "[\"directories\"]",
    );
    assert_eq!(
        settings.secrets.providers.as_deref(),
        Some("[\"environment\"]")
    );
}

/// What wins over something that was written for nothing is told; a merge patch, and a file below
/// a flag, are what they are meant to be.
fn check_told(config: &Config, row: &Setting, pair: (Layer, Layer), what: &str) {
    let told: Vec<String> = config.problems.iter().map(ToString::to_string).collect();
    let about = |words: &[&str]| {
        let all = |text: &&String| words.iter().all(|word| text.contains(word));
        told.iter().filter(all).count()
    };
    match pair {
        (Layer::Variable, Layer::Flag) => {
            assert_eq!(
                about(&[row.env, &format!("--{}", row.flag)]),
                1,
                "{what}: {told:?}"
            );
        }
        (Layer::Overlay | Layer::Main | Layer::Fragment, Layer::Toml) => {
            let winner = pair.0.file().unwrap();
            assert_eq!(
                about(&["config.toml:1:", winner, "wins"]),
                1,
                "{what}: {told:?}"
            );
        }
        _ => {
            let idle = |text: &String| text.contains("wins") || text.contains("overrides");
            assert!(!told.iter().any(idle), "{what}: {told:?}");
        }
    }
}

#[test]
fn every_other_spelling_of_a_key_works() {
    let folder = Folder::new();
    for row in SETTINGS {
        for alias in row.aliases {
            let [text, _] = values(row);
            for layer in [Layer::Main, Layer::Toml] {
                let config = settle(&folder.0, row, alias, &[(layer, &text)]);
                assert!(has(&config.settings, row, layer), "{alias} in {layer:?}");
            }
        }
    }
}

/// The variables that a process was started with.
fn environment_of(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split('\0').map(str::to_owned).collect()
}

fn health(gateway: &Gateway) -> Value {
    let port = gateway.port.try_into().unwrap();
    let mut connection = Connection::open(port);
    connection.exchange(&Request::new("GET", "/health")).json()
}

fn wait_connected(gateway: &Gateway) -> Value {
    let mut found = Value::Null;
    eventually("the server is connected", || {
        found = health(gateway)["servers"]["details"][0].take();
        found["status"] == "connected"
    });
    found
}

/// The example of the seed, byte for byte: comments, `command` as an array, a variable and a
/// secret.
#[test]
fn the_promised_example_runs_as_it_stands() {
    let folder = Folder::new();
    folder.write(
        "mcp.json",
        &crate::repo::read("fixtures/config/enterprise-example.json"),
    );
    symlink(example("everything"), folder.0.join("mcp-postgres")).unwrap();
    let mut command = folder.command(&["-c", "mcp.json", "--port", "0"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.0.display()));
    command.env("DATABASE_URL", "postgres://db.example/app");
    command.env("API_KEY_FILE", folder.write("key", "s3cret-of-the-store\n"));
    let gateway = Gateway::start(command);
    let server = wait_connected(&gateway);
    assert_eq!(server["name"], "database");
    let variables = environment_of(server["pid"].as_i64().unwrap() as i32);
    for expect in [
        "DATABASE_URL=postgres://db.example/app",
        "API_KEY=s3cret-of-the-store",
    ] {
        assert!(
            variables.iter().any(|one| one == expect),
            "{expect}: {variables:?}"
        );
    }
    assert!(!variables.iter().any(|one| one.starts_with("API_KEY_FILE")));
    assert_eq!(gateway.end(rustix::process::Signal::TERM).0, Some(0));
}

#[test]
fn a_whole_configuration_comes_in_a_variable() {
    let folder = Folder::new();
    folder.write("token", "one\n");
    let text = json!({
        "mcpServers": {"a": with(everything(&[]), json!({
            "env": {"TOKEN": "${FILE:token}"},
        }))},
        "gateway": {"port": 0, "configReload": {"debounce": 20}},
    });
    let mut command = folder.command(&[]);
    command.env("ONE_MCP_CONFIG_JSON", text.to_string());
    let gateway = Gateway::start(command);
    let before = wait_connected(&gateway)["pid"].as_i64().unwrap();
    let has = |pid: i64, value: &str| {
        let wanted = format!("TOKEN={value}");
        environment_of(pid as i32).contains(&wanted)
    };
    assert!(has(before, "one"));
    // What it names is watched, although there is no file of its own.
    folder.write("token", "two\n");
    eventually("the server has the new value", || {
        let server = &health(&gateway)["servers"]["details"][0];
        let pid = server["pid"].as_i64().unwrap_or(before);
        pid != before && server["status"] == "connected" && has(pid, "two")
    });
    assert_eq!(gateway.end(rustix::process::Signal::TERM).0, Some(0));
}

#[test]
fn a_configuration_in_a_variable_stands_in_for_the_file_and_names_itself() {
    let folder = Folder::new();
    folder.write(
        "mcp.json",
        "{\"mcpServers\": {\"file\": {\"command\": \"x\"}}}",
    );
    folder.write(".env", "WORD=beside");
    let check = |words: &[&str], json: &str, code: i32, expect: &str| {
        let mut command = folder.command(&[&["config", "check"], words].concat());
        command.env("ONE_MCP_CONFIG_JSON", json);
        let outcome = crate::cli_support::run(command, None);
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        assert!(outcome.err.contains(expect), "{expect}: {}", outcome.err);
    };
    let one = "{\"mcpServers\": {\"a\": {\"command\": \"${WORD}\"}}}";
    check(&[], one, 78, "WORD is not set");
    check(
        &["--config-dir", "."],
        one,
        0,
        "mcp.json is not read; ONE_MCP_CONFIG_JSON takes",
    );
    check(
        &[],
        "{\"mcpServers\": [}",
        78,
        "ONE_MCP_CONFIG_JSON:1:17: not valid JSON",
    );
    check(
        &[],
        "{\"gateway\": {\"port\": \"x\"}}",
        78,
        "ONE_MCP_CONFIG_JSON:1:22: gateway.port",
    );
}

/// Gives an entry whose `TOKEN` is this template.
fn templated(template: &str) -> Value {
    with(everything(&[]), json!({"env": {"TOKEN": template}}))
}

fn status(rig: &Rig, name: &str) -> String {
    rig.server(name)["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_file_that_a_template_names_restarts_its_server_only() {
    let secrets = Folder::new();
    let token = secrets.write("token", "first");
    let later = secrets.0.join("later").display().to_string();
    let rig = Plan::new(json!({
        "a": templated(&format!("${{FILE:{token}}}")),
        "b": everything(&[]),
        "c": templated(&format!("${{FILE:{later}}}")),
    }))
    .set("configReload", json!({"debounce": 20}))
    .start_unready();
    eventually("two are up", || {
        status(&rig, "a") == "connected" && status(&rig, "b") == "connected"
    });
    assert_eq!(status(&rig, "c"), "error");
    let (a, b) = (rig.pid_of("a"), rig.pid_of("b"));
    assert!(environment_of(a).contains(&"TOKEN=first".to_owned()));
    secrets.write("token", "second");
    secrets.write("later", "at last");
    eventually("both have what is there now", || {
        let pids = ["a", "c"].map(|name| rig.server(name)["pid"].as_i64().unwrap_or(0) as i32);
        let up = pids.iter().all(|pid| *pid != 0 && *pid != a);
        up && environment_of(pids[0]).contains(&"TOKEN=second".to_owned())
            && environment_of(pids[1]).contains(&"TOKEN=at last".to_owned())
    });
    assert_eq!(rig.pid_of("b"), b);
    rig.stop();
}

#[test]
fn a_template_can_insist_and_say_why() {
    let rig = Plan::new(json!({
        "a": templated("${NOPE:?ask the team for one}"),
        "b": templated("${HOME:?never seen}"),
        "c": templated("$${HOME}"),
    }))
    .start_unready();
    eventually("two are up", || {
        status(&rig, "b") == "connected" && status(&rig, "c") == "connected"
    });
    let why = rig.server("a")["lastError"].as_str().unwrap().to_owned();
    assert!(
        why.contains("NOPE") && why.contains("ask the team for one"),
        "{why}"
    );
    assert!(environment_of(rig.pid_of("c")).contains(&"TOKEN=${HOME}".to_owned()));
    rig.stop();
}

fn feature(rig: &Rig, name: &str) -> Value {
    rig.health()["configuration"]["features"][name].clone()
}

#[test]
fn switches_are_shown_and_carried_out_by_a_reload() {
    let rig = Plan::new(json!({"a": templated("${HOME}")}))
        .set("configReload", json!({"debounce": 20}))
        .set(
            "features",
            json!({"sse": false, "clientNotifications": false}),
        )
        .start();
    assert_eq!(feature(&rig, "sse"), false);
    assert_eq!(feature(&rig, "envSubstitution"), true);
    assert_eq!(feature(&rig, "configReload"), true);
    assert_eq!(feature(&rig, "asyncLoading"), false);
    let listen = || rig.connect().exchange(&Request::listen("/sse")).status();
    assert_eq!(listen(), 404);
    let told = |rig: &Rig| {
        let hello = crate::support::session::initialize("2025-11-25", &json!({}));
        let reply = rig.connect().exchange(&Request::post("/mcp", hello));
        let message = reply.messages().remove(0);
        message["result"]["capabilities"]["tools"]["listChanged"].clone()
    };
    assert_eq!(told(&rig), false);
    let before = rig.pid_of("a");
    let file = rig.folder().join("mcp.json");
    let mut all: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    all["gateway"]["features"] = json!({"envSubstitution": false});
    fs::write(&file, all.to_string()).unwrap();
    eventually("the switches are in force", || {
        feature(&rig, "sse") == true && feature(&rig, "envSubstitution") == false
    });
    assert_eq!(told(&rig), true);
    let mut stream = rig.connect().stream(&Request::listen("/sse"));
    let first = stream.event(PATIENCE).unwrap().data.unwrap();
    assert!(first.contains("/messages?sessionId="), "{first}");
    // What is in the entry means itself now.
    eventually("the server has the text as it stands", || {
        let pid = rig.server("a")["pid"].as_i64().unwrap_or(0) as i32;
        pid != before && pid != 0 && environment_of(pid).contains(&"TOKEN=${HOME}".to_owned())
    });
    drop(stream);
    rig.stop();
}

#[test]
fn clients_hear_nothing_of_lists_while_that_is_switched_off() {
    let rig = Plan::new(json!({"a": everything(&[])}))
        .set("configReload", json!({"debounce": 20}))
        .set("features", json!({"clientNotifications": false}))
        .start();
    let mut session = rig.session();
    let mut stream = session.listen();
    let one = session.names("tools").len();
    let file = rig.folder().join("mcp.json");
    let mut all: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    all["mcpServers"]["b"] = all["mcpServers"]["a"].clone();
    fs::write(&file, all.to_string()).unwrap();
    eventually("two are listed", || session.names("tools").len() == 2 * one);
    // The window in which changes are gathered, and more.
    assert_eq!(stream.message_within(Duration::from_millis(500)), None);
    all["mcpServers"]["c"] = all["mcpServers"]["a"].clone();
    all["gateway"]["features"]["clientNotifications"] = true.into();
    fs::write(&file, all.to_string()).unwrap();
    let message = stream.message();
    assert!(
        message["method"]
            .as_str()
            .unwrap()
            .ends_with("/list_changed"),
        "{message}"
    );
    eventually("three are listed", || {
        session.names("tools").len() == 3 * one
    });
    rig.stop();
}

#[test]
fn a_variable_that_nobody_knows_is_a_warning_that_names_the_nearest() {
    let rig = Plan::new(json!({}))
        .env("ONE_MCP_HEALTH_INFO_LEVE", "full")
        .start();
    let log = rig.stderr();
    assert!(
        log.contains("ONE_MCP_HEALTH_INFO_LEVE: unknown variable"),
        "{log}"
    );
    assert!(
        log.contains("did you mean \"ONE_MCP_HEALTH_INFO_LEVEL\"?"),
        "{log}"
    );
    rig.stop();
}
