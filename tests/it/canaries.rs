//! Secrets in every place that takes one, each a text that stands nowhere else, driven through
//! whatever goes wrong: nobody who looks at the gateway finds a single one of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{Connection, Request};
use crate::support::remote::Script;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{everything, example, gateway_binary};
use crate::support::session::tool_call;
use crate::support::vault::Vault;

/// Where each canary sits; the text of one is made of its place.
const PLACES: [&str; 22] = [
    "folder",
    "variable",
    "literal",
    "header",
    "query",
    "sealed",
    "command-output",
    "command-environment",
    "command-stderr",
    "command-literal",
    "vault-token",
    "vault-value",
    "otlp-header",
    "alert-url",
    "alert-secret",
    "file",
    "dotenv",
    "bearer",
    "argument",
    "word",
    "proxy",
    "broken",
];

fn canary(place: &str) -> String {
    assert!(PLACES.contains(&place), "{place}");
    format!("Canary{}7f3e", place.replace('-', ""))
}

/// Everything around one gateway.
struct Cage {
    folder: PathBuf,
    vault: Vault,
    /// Answers 401 and repeats what it was sent.
    refuser: Script,
    /// Takes alerts.
    receiver: Script,
    /// Takes traces and metrics, after it refused once; repeats the key that it was sent.
    collector: Script,
}

impl Cage {
    fn new(name: &str) -> Cage {
        let folder = std::env::temp_dir().join(format!("cage-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("run")).unwrap();
        fs::write(folder.join("run/from-folder"), canary("folder")).unwrap();
        fs::write(folder.join("run/from-word"), canary("word")).unwrap();
        fs::write(folder.join("run/from-header"), canary("header")).unwrap();
        fs::write(folder.join("run/from-query"), canary("query")).unwrap();
        fs::write(folder.join("run/from-proxy"), canary("proxy")).unwrap();
        fs::write(folder.join("run/alert-url"), canary("alert-url")).unwrap();
        fs::write(folder.join("run/alert-secret"), canary("alert-secret")).unwrap();
        fs::write(folder.join("run/otlp"), canary("otlp-header")).unwrap();
        fs::write(folder.join("text"), canary("file")).unwrap();
        let vault = Vault::start();
        vault.allow(&canary("vault-token"));
        vault.put(
            "secret/data/onemcp/from-vault",
            json!({"value": canary("vault-value")}),
        );
        let refuser = Script::start(|seen, wire| {
            let sent = seen.header("Authorization").unwrap_or_default().to_owned();
            wire.json(401, "", &json!({"error": format!("bad token {sent}")}));
            true
        });
        let receiver = Script::start(|_, wire| {
            wire.reply(500, "", "later");
            true
        });
        let is_first = AtomicBool::new(true);
        let collector = Script::start(move |seen, wire| {
            let sent = seen.header("Authorization").unwrap_or_default();
            let status = if is_first.swap(false, Ordering::SeqCst) {
                400
            } else {
                200
            };
            wire.reply(status, "", &format!("for {sent}"));
            true
        });
        Cage {
            folder,
            vault,
            refuser,
            receiver,
            collector,
        }
    }

    fn key(&self) -> String {
        let path = self.folder.join("key");
        if !path.exists() {
            let made = self
                .command(&["secret", "key", path.to_str().unwrap()])
                .output();
            assert!(made.unwrap().status.success());
        }
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn sealed(&self) -> PathBuf {
        self.folder.join("secrets.sealed")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(gateway_binary());
        command.env_clear().env("HOME", &self.folder).args(words);
        command
    }

    fn seal(&self, name: &str, value: &str) {
        let file = self.folder.join("value");
        fs::write(&file, value).unwrap();
        let mut command = self.command(&["secret", "set", name]);
        command
            .env("ONE_MCP_SECRETS_KEY", self.key())
            .env("ONE_MCP_SECRETS_FILE", self.sealed())
            .stdin(fs::File::open(&file).unwrap());
        assert!(command.status().unwrap().success());
        fs::remove_file(file).unwrap();
    }

    /// The variables that the gateway is started with.
    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("FROM_VARIABLE", canary("variable")),
            ("FOR_COMMAND", canary("command-environment")),
            ("VAULT_TOKEN", canary("vault-token")),
            ("ONE_MCP_SECRETS_KEY", self.key()),
        ]
    }

    fn servers(&self) -> Value {
        let talker = format!("echo \"$A $B $C $D $E\" >&2; exec {}", everything_path());
        let shake = r#"IFS= read -r line
            printf '{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"bad %s"}}\n' "$VALUE"
            exit 9"#;
        let noise = format!("echo \"noise $VALUE\"; exec {}", everything_path());
        let said = format!("echo \"$1\" >&2; exec {}", everything_path());
        // Scripts are files: in `args` the gateway itself would fill in `$V`, for all to read.
        let shell = |name: &str, script: &str, env: Value| {
            let file = self.folder.join(name);
            fs::write(&file, script).unwrap();
            json!({"command": "sh", "args": [file], "env": env})
        };
        json!({
            "plain": everything(&[]),
            "talker": shell("talker.sh", &talker, json!({
                "A": "${SECRET:from-folder}", "B": "${SECRET:from-variable}",
                "C": format!("${{FILE:{}}}", self.folder.join("text").display()),
                "D": "${DOTENV_TOKEN:-none}", "E": "", "API_TOKEN": canary("literal"),
            })),
            "crash": shell("crash.sh", "echo \"dying of $V\" >&2; exit 3", json!({"V": "${SECRET:sealed}"})),
            "shake": shell("shake.sh", shake, json!({"VALUE": "${SECRET:from-vault}"})),
            "noise": shell("noise.sh", &noise, json!({"VALUE": "${SECRET:from-command}"})),
            "gone": {"command": "/no/such/program", "args": ["--key=${SECRET:from-word}"]},
            "words": {"command": "sh",
                "args": ["-c", said, "sh", "--quiet=${SECRET:from-word}"]},
            "missing": {"command": "x", "env": {"A": "${SECRET:nobody}"}},
            "refused": {"url": self.refuser.url("/mcp"),
                "headers": {"Authorization": "Bearer ${SECRET:from-header}"}},
            "nowhere": {"url": "http://127.0.0.1:1/mcp?key=${SECRET:from-query}"},
            "proxied": {"url": "http://mcp.example.com/mcp",
                "proxy": "http://me:${SECRET:from-proxy}@127.0.0.1:1"},
        })
    }

    fn secrets(&self) -> Value {
        let script = format!(
            "echo {} >&2; [ \"$1\" = from-command ] && echo {}",
            canary("command-stderr"),
            canary("command-output")
        );
        // Its text is in a file: what a program is called with everybody may read.
        fs::write(self.folder.join("ask"), script).unwrap();
        json!({"directory": self.folder.join("run"), "file": self.sealed(), "refresh": 200,
            "providers": ["directories", "environment", "sealed",
                {"vault": self.vault.url(), "timeout": 5000},
                {"command": ["sh", self.folder.join("ask"), "{name}"],
                    "env": {"TOKEN": "${FOR_COMMAND}", "OTHER_TOKEN": canary("command-literal")}}]})
    }

    fn start(&self, json_log: bool) -> Rig {
        self.seal("sealed", &canary("sealed"));
        let sink = json!({"type": "webhook", "secret": "${SECRET:alert-secret}",
            "url": format!("{}${{SECRET:alert-url}}", self.receiver.url("/hook/"))});
        let mut plan = Plan::new(self.servers())
            .set("secrets", self.secrets())
            .set("configReload", json!({"debounce": 20}))
            .set("healthInfoLevel", json!("full"))
            .set("alerts", json!({"sinks": {"ops": sink}}))
            .set(
                "otlp",
                json!({"endpoint": self.collector.url(""), "interval": 200,
                "headers": {"authorization": "${SECRET:otlp}"}}),
            )
            .arg("--log-level=debug");
        if json_log {
            let file = self.folder.join("log.json");
            plan = plan
                .arg("--log-format=json")
                .arg("--log-file")
                .arg(file.to_str().unwrap());
            let folder = self.folder.join("servers");
            plan = plan.arg("--server-log-dir").arg(folder.to_str().unwrap());
        }
        for (name, value) in self.environment() {
            plan = plan.env(name, &value);
        }
        plan.start_unready()
    }

    /// A command of an operator at this gateway.
    fn run(&self, rig: &Rig, words: &[&str]) -> Output {
        let mut command = Command::new(gateway_binary());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", rig.folder())
            .envs(self.environment())
            .env("ONE_MCP_CONFIG", rig.folder().join("mcp.json"))
            .current_dir(rig.folder())
            .args(words);
        command.output().unwrap()
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn everything_path() -> String {
    example("everything").display().to_string()
}

/// Everything that was seen, and from where.
#[derive(Default)]
struct Catch(Vec<(String, String)>);

impl Catch {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    fn output(&mut self, place: &str, output: &Output) {
        let text = [output.stdout.as_slice(), &output.stderr].concat();
        self.add(place, String::from_utf8_lossy(&text));
    }

    /// Every file below, but for those that are secret themselves.
    fn files(&mut self, folder: &Path, but: &[&str]) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if but.contains(&name.as_str()) {
                continue;
            }
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.files(&path, but);
            } else if kind.is_file() {
                let bytes = fs::read(&path).unwrap();
                self.add(path.display().to_string(), String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[track_caller]
    fn check(&self, key: &str) {
        let all = PLACES.map(canary);
        let mut hits = Vec::new();
        for (place, text) in &self.0 {
            for canary in all.iter().map(String::as_str).chain([key]) {
                for (at, _) in text.match_indices(canary) {
                    let from = text[..at]
                        .char_indices()
                        .rev()
                        .nth(80)
                        .map_or(0, |(at, _)| at);
                    hits.push(format!("{canary} in {place}: {:?}", &text[from..at]));
                }
            }
        }
        assert!(hits.is_empty(), "{} hits:\n{}", hits.len(), hits.join("\n"));
    }
}

/// What a client can get wrong. Answers of servers are theirs; these are ours.
fn pester(rig: &Rig, catch: &mut Catch) {
    let bearer = format!("Bearer {}", canary("bearer"));
    let argument = canary("argument");
    let mut session = rig.session();
    let mut ask = |what: &str, name: &str| {
        let call = tool_call(
            &json!(1),
            name,
            &json!({"token": argument, "text": argument}),
        );
        let reply = session.post(call);
        let text = reply.text;
        // What a server gives back of its arguments is what it was asked for.
        catch.add(what, text.replace(&argument, ""));
    };
    ask("an answer", "plain_1mcp_echo");
    ask("an unknown tool", "plain_1mcp_nothing");
    ask("a server that crashed", "crash_1mcp_go");
    ask("a server that is invalid", "missing_1mcp_go");
    let post = |body: &str| Request::post("/mcp", body).with("Authorization", &bearer);
    let broken =
        format!("{{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"x\", \"p\": \"{argument}");
    let requests = [
        ("no JSON", post(&broken)),
        ("no message", post(&json!([argument]).to_string())),
        (
            "no session",
            post("{}").with("Mcp-Session-Id", &canary("bearer")),
        ),
        (
            "no path",
            Request::new("GET", "/nothing").with("Authorization", &bearer),
        ),
        (
            "a foreign host",
            Request::new("GET", "/health").with("Host", "evil.example"),
        ),
        (
            "a token for metrics",
            Request::new("GET", "/metrics").with("Authorization", &bearer),
        ),
    ];
    for (what, request) in requests {
        let reply = Connection::open(rig.port).exchange(&request);
        catch.add(what, format!("{:?} {}", reply.head, reply.text));
    }
}

/// What is served to whoever may ask.
fn look(rig: &Rig, catch: &mut Catch) {
    for path in [
        "/health",
        "/health/mcp",
        "/health/ready",
        "/health/startup",
        "/metrics",
    ] {
        let reply = rig.get(path);
        catch.add(path, reply.text);
    }
    for name in [
        "talker", "crash", "shake", "noise", "gone", "missing", "refused", "nowhere",
    ] {
        let path = format!("/health/mcp/{name}");
        let reply = rig.get(&path);
        catch.add(path, reply.text);
    }
}

/// Configurations that are refused; the texts that are wrong hold a canary.
fn spoil(cage: &Cage, rig: &Rig, catch: &mut Catch) {
    let path = rig.folder().join("mcp.json");
    let good = fs::read_to_string(&path).unwrap();
    let whole: Value = serde_json::from_str(&good).unwrap();
    let broken = canary("broken");
    let mut spoilt = vec![
        format!("{{\"mcpServers\": {{\"a\": {{\"env\": {{\"T\": \"{broken}\" oops"),
        format!("{{\"mcpServers\": {{\"a\": \"{broken}\"}}}}"),
    ];
    let mut with_server = |entry: Value| {
        let mut whole = whole.clone();
        whole["mcpServers"]["plain"] = entry;
        spoilt.push(whole.to_string());
    };
    with_server(json!({"command": "x", "env": {"T": format!("${{{broken} x}}")}}));
    with_server(json!({"command": "x", "env": {"T": format!("${{{broken}")}}));
    with_server(json!({"command": "x", "env": {"T": format!("${{SECRET:{broken}/x}}")}}));
    with_server(json!({"command": "x", "env": {"T": [broken.as_str()]}}));
    with_server(json!({"url": format!("ftp://{broken}.example/x")}));
    with_server(json!({"url": "http://x.example", "headers": {"A": format!("{broken}\n")}}));
    let mut with_setting = |pointer: &[&str], value: Value| {
        let mut whole = whole.clone();
        let mut place = &mut whole["gateway"];
        for key in pointer {
            place = &mut place[*key];
        }
        *place = value;
        spoilt.push(whole.to_string());
    };
    with_setting(&["otlp", "headers"], json!(broken));
    with_setting(&["secrets", "providers"], json!([broken]));
    with_setting(
        &["alerts", "sinks", "ops", "url"],
        json!(format!("x{broken}")),
    );
    for (number, text) in spoilt.iter().enumerate() {
        fs::write(&path, text).unwrap();
        catch.output(&format!("reload {number}"), &cage.run(rig, &["reload"]));
        let file = path.to_str().unwrap();
        catch.output(
            &format!("check {number}"),
            &cage.run(rig, &["config", "check", file]),
        );
        let health = rig.get("/health");
        catch.add(format!("health {number}"), health.text);
    }
    fs::write(&path, good).unwrap();
}

/// With what words each process of a gateway was called, as everybody on the machine may read.
#[derive(Default)]
struct Called(BTreeSet<String>);

impl Called {
    fn look(&mut self, rig: &Rig) {
        for pid in rig.bearers() {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            self.0
                .insert(String::from_utf8_lossy(&words).replace('\0', " "));
        }
    }

    /// One entry puts a secret into its own `args`, which is then there for everybody: that
    /// word, of that secret, and no other.
    fn caught(self, catch: &mut Catch) {
        let word = format!("--quiet={}", canary("word"));
        for known in ["--log-level=debug", "everything"] {
            let is_seen = self.0.iter().any(|words| words.contains(known));
            assert!(is_seen, "{known} in {:?}", self.0);
        }
        for words in self.0 {
            catch.add("ps", words.replace(&word, ""));
        }
    }
}

/// Which variables servers have that name no secret.
fn environments(rig: &Rig, catch: &mut Catch) {
    for name in ["plain", "words"] {
        let environ = fs::read(format!("/proc/{}/environ", rig.pid_of(name))).unwrap();
        let environ = String::from_utf8_lossy(&environ);
        catch.add(format!("environment of {name}"), environ);
    }
}

/// What is told at the other levels of health, each brought in by a reload.
fn levels(cage: &Cage, rig: &Rig, catch: &mut Catch) {
    let path = rig.folder().join("mcp.json");
    let good = fs::read_to_string(&path).unwrap();
    for level in ["basic", "minimal"] {
        let mut whole: Value = serde_json::from_str(&good).unwrap();
        whole["gateway"]["healthInfoLevel"] = level.into();
        fs::write(&path, whole.to_string()).unwrap();
        catch.output(level, &cage.run(rig, &["reload"]));
        eventually("the level holds", || {
            let health = rig.health();
            let is_basic = health["servers"]["details"][0].is_object();
            let is_full = health["system"]["process"]["pid"] == rig.pid;
            !is_full && is_basic == (level == "basic")
        });
        look(rig, catch);
    }
    fs::write(&path, good).unwrap();
    catch.output("reload", &cage.run(rig, &["reload"]));
}

/// What was sent to those who are told without asking.
fn pushed(cage: &Cage, catch: &mut Catch) {
    eventually("an alert was tried", || !cage.receiver.seen().is_empty());
    for seen in cage.receiver.seen() {
        catch.add("an alert", seen.body.to_string());
    }
    eventually("traces and metrics were pushed", || {
        let seen = cage.collector.seen();
        let has = |what: &str| seen.iter().any(|one| one.body[what].is_array());
        has("resourceSpans") && has("resourceMetrics")
    });
    for seen in cage.collector.seen() {
        // Its header is where this secret belongs.
        let key = canary("otlp-header");
        assert_eq!(seen.header("Authorization"), Some(key.as_str()));
        catch.add("OTLP", seen.body.to_string());
    }
}

fn nothing_is_found(name: &str, json_log: bool) {
    let cage = Cage::new(name);
    let rig = cage.start(json_log);
    let state = |name: &str| rig.server(name)["status"].as_str().unwrap_or("").to_owned();
    let mut called = Called::default();
    eventually("everything has gone its way", || {
        called.look(&rig);
        let up = ["plain", "talker", "noise", "words"]
            .iter()
            .all(|name| state(name) == "connected");
        let tried = ["crash", "shake", "gone", "refused", "nowhere", "proxied"];
        up && tried
            .iter()
            .all(|name| !["pending", "connecting", "loading"].contains(&&*state(name)))
    });
    fs::write(
        rig.folder().join(".env"),
        format!("DOTENV_TOKEN={}\n", canary("dotenv")),
    )
    .unwrap();
    let talker = || {
        let path = format!("/proc/{}/environ", rig.server("talker")["pid"]);
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    };
    eventually("it has the variable", || {
        called.look(&rig);
        talker().contains(&canary("dotenv"))
    });
    let talker = talker();
    for place in ["folder", "variable", "literal", "file"] {
        assert!(
            talker.contains(&canary(place)),
            "{place} did not reach its server"
        );
    }
    let mut catch = Catch::default();
    pester(&rig, &mut catch);
    let other = json!({"mcpServers": {"plain": {"command": "x", "env": {"T": canary("literal")}}}});
    fs::write(rig.folder().join("other.json"), other.to_string()).unwrap();
    look(&rig, &mut catch);
    for words in [
        ["status", "--json"].as_slice(),
        &["servers"],
        &["logs", "talker"],
        &["logs", "crash"],
        &["logs", "shake"],
        &["restart", "crash"],
        &["config", "show", "--origin"],
        &["config", "show", "--json"],
        &["config", "check"],
        &["config", "diff", "other.json"],
        &["alerts", "list"],
        &["secret", "list"],
    ] {
        catch.output(&words.join(" "), &cage.run(&rig, words));
    }
    called.look(&rig);
    environments(&rig, &mut catch);
    levels(&cage, &rig, &mut catch);
    spoil(&cage, &rig, &mut catch);
    cage.vault.state().is_sealed = true;
    fs::write(cage.folder.join("run/from-folder"), "").unwrap();
    catch.output("reload without stores", &cage.run(&rig, &["reload"]));
    look(&rig, &mut catch);
    called.look(&rig);
    called.caught(&mut catch);
    pushed(&cage, &mut catch);
    catch.add("stderr", rig.stderr());
    catch.files(rig.folder(), &["mcp.json", "other.json", ".env", "stderr"]);
    catch.files(&cage.folder, &["run", "key", "text", "ask"]);
    let seen: Vec<&str> = catch.0.iter().map(|(place, _)| place.as_str()).collect();
    assert!(
        catch.0.iter().any(|(_, text)| text.contains("***")),
        "{seen:?}"
    );
    catch.check(&cage.key());
    rig.stop();
}

#[test]
fn no_canary_is_found_with_a_log_of_text() {
    nothing_is_found("text", false);
}

#[test]
fn no_canary_is_found_with_a_log_of_json_in_files() {
    nothing_is_found("json", true);
}
