//! Secrets: kept in the sealed file by the command, found by the gateway in their providers, and
//! followed when they change: exactly their users are started anew.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::rig::{Plan, Rig};
use crate::support::servers::{everything, gateway_binary, with};
use crate::support::vault::Vault;
use crate::support::{PATIENCE, eventually};

/// A folder of one test with a key for its sealed file.
struct Safe(PathBuf);

impl Safe {
    fn new(name: &str) -> Safe {
        let path = std::env::temp_dir().join(format!("safe-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let safe = Safe(path);
        let made = safe.run(&["key", safe.path("key").to_str().unwrap()], "");
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        safe
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(gateway_binary());
        command
            .env_clear()
            .env("HOME", &self.0)
            .env("ONE_MCP_SECRETS_FILE", self.path("secrets.sealed"))
            .arg("secret")
            .args(words);
        if self.path("key").exists() {
            command.env("ONE_MCP_SECRETS_KEY_FILE", self.path("key"));
        }
        command
    }

    fn run(&self, words: &[&str], input: &str) -> Output {
        let mut command = self.command(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have ended before it reads anything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn set(&self, name: &str, value: &str) {
        let output = self.run(&["set", name], value);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    fn get(&self, name: &str) -> Option<String> {
        let output = self.run(&["get", name], "");
        let text = String::from_utf8(output.stdout).unwrap();
        match output.status.code() {
            Some(0) => Some(text.trim_end().to_owned()),
            Some(1) => None,
            _ => panic!("{:?}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

impl Drop for Safe {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn told(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

#[test]
fn the_command_keeps_lists_and_removes_secrets() {
    let safe = Safe::new("command");
    assert_eq!(safe.get("api-key"), None);
    safe.set("api-key", "hunter2-first\n");
    safe.set("api-key", "hunter2-second");
    safe.set("pem", "-----BEGIN\nhunter2\n-----END\n");
    assert_eq!(safe.get("api-key").as_deref(), Some("hunter2-second"));
    assert_eq!(
        safe.get("pem").as_deref(),
        Some("-----BEGIN\nhunter2\n-----END")
    );
    let plain = told(&safe.run(&["list"], ""));
    assert_eq!(plain.lines().count(), 2, "{plain}");
    let lines = told(&safe.run(&["list", "--json"], ""));
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["name"], "api-key");
    assert!(!(plain + &lines).contains("hunter2"));
    for name in ["secrets.sealed", "key"] {
        let mode = fs::metadata(safe.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(safe.run(&["rm", "pem"], "").status.code(), Some(0));
    assert_eq!(safe.run(&["rm", "pem"], "").status.code(), Some(1));
    assert_eq!(safe.get("pem"), None);
}

#[test]
fn what_the_command_refuses_it_explains_without_the_value() {
    let safe = Safe::new("refused");
    safe.set("a", "x");
    let check = |words: &[&str], input: &str, code: i32, expect: &str| {
        let output = safe.run(words, input);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(expect), "{words:?}: {text}");
        assert!(!text.contains("hunter2"), "{words:?}: {text}");
    };
    check(&["set", "a", "hunter2"], "", 64, "stdin");
    check(&["set", "../a"], "hunter2", 64, "a name is");
    check(&["set", "a"], "", 64, "empty");
    check(&["set", "a"], "hunter2\0", 64, "NUL");
    check(&["set", "a"], &"hunter2".repeat(10_000), 64, "longer than");
    let key = safe.path("key");
    check(&["key", key.to_str().unwrap()], "", 78, "failed to create");
    fs::write(&key, "hunter2").unwrap();
    check(&["get", "a"], "", 78, "holds no key");
    fs::remove_file(&key).unwrap();
    check(&["get", "a"], "", 78, "onemcp secret key");
    let other = told(&safe.run(&["key"], ""));
    fs::write(&key, other).unwrap();
    check(&["get", "a"], "", 78, "was sealed by the key");
}

#[test]
fn a_new_key_takes_the_place_of_the_old_one() {
    let safe = Safe::new("rotate");
    safe.set("a", "value");
    let old = fs::read(safe.path("key")).unwrap();
    assert_eq!(safe.run(&["rotate"], "").status.code(), Some(0));
    assert_ne!(fs::read(safe.path("key")).unwrap(), old);
    assert_eq!(safe.get("a").as_deref(), Some("value"));
    // To a key that is given otherwise: both are good until the new one is used.
    let next = safe.path("next");
    safe.run(&["key", next.to_str().unwrap()], "");
    let words = ["rotate", "--new-key-file", next.to_str().unwrap()];
    assert_eq!(safe.run(&words, "").status.code(), Some(0));
    assert_eq!(safe.get("a").as_deref(), Some("value"));
    fs::rename(&next, safe.path("key")).unwrap();
    safe.set("b", "value");
    assert_eq!(safe.get("a").as_deref(), Some("value"));
}

/// Numbers that look random and are the same in each run.
fn scattered(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn kill_at_any_moment_leaves_a_file_that_opens() {
    let safe = Safe::new("kill");
    safe.set("stays", "for ever");
    safe.set("changes", "0");
    let began = Instant::now();
    safe.set("changes", "1");
    let usual_us = u64::try_from(began.elapsed().as_micros()).unwrap();
    let (mut seed, mut before, mut killed) = (0x9E37_79B9, "1".to_owned(), 0);
    for round in 2..80 {
        let rotates = round % 5 == 0;
        let words = if rotates {
            vec!["rotate"]
        } else {
            vec!["set", "changes"]
        };
        let mut command = safe.command(&words);
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let value = round.to_string();
        let _ = child.stdin.take().unwrap().write_all(value.as_bytes());
        // When it is killed is what the test is about; what follows holds at every moment.
        let wait_us = scattered(&mut seed) % (usual_us + usual_us / 2);
        std::thread::sleep(Duration::from_micros(wait_us));
        let _ = child.kill();
        killed += usize::from(child.wait().unwrap().code().is_none());
        let now = safe.get("changes").unwrap();
        assert!(
            now == before || !rotates && now == value,
            "{now} after {before}, {value}"
        );
        assert_eq!(safe.get("stays").as_deref(), Some("for ever"));
        before = now;
    }
    println!("killed {killed} of 78");
    safe.set("changes", "last");
    let names = fs::read_dir(&safe.0).unwrap().flatten();
    let names = names.map(|name| name.file_name().to_string_lossy().into_owned());
    let left: Vec<String> = names.filter(|name| name.ends_with(".new")).collect();
    assert!(left.len() <= 1, "{left:?}");
}

/// Gives the server this variable.
fn using(value: &str) -> Value {
    with(everything(&[]), json!({"env": {"VALUE": value}}))
}

/// A gateway that looks at its files every moment.
fn plan(servers: Value, secrets: Value) -> Plan {
    let plan = Plan::new(servers).set("configReload", json!({"debounce": 20}));
    plan.set("secrets", secrets)
}

/// A variable in the environment of a server's process.
fn variable(rig: &Rig, server: &str, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{}/environ", rig.pid_of(server))).unwrap();
    let text = String::from_utf8(environ).unwrap();
    let prefix = format!("{name}=");
    let found = text.split('\0').find_map(|one| one.strip_prefix(&prefix));
    found.map(str::to_owned)
}

fn is_connected(rig: &Rig, server: &str) -> bool {
    rig.server(server)["status"] == "connected"
}

/// Waits until the server was started with this value.
#[track_caller]
fn await_value(rig: &Rig, server: &str, value: &str) {
    eventually(&format!("{server} has {value}"), || {
        is_connected(rig, server) && variable(rig, server, "VALUE").as_deref() == Some(value)
    });
}

fn folder(name: &str) -> Safe {
    let safe = Safe::new(name);
    fs::create_dir(safe.path("run")).unwrap();
    safe
}

fn write(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn a_change_restarts_exactly_its_users_and_nobody_else_loses_a_call() {
    let safe = folder("users");
    write(&safe.path("run/one"), "first");
    write(&safe.path("run/two"), "other");
    let servers = json!({
        "user": using("${SECRET:one}"),
        "argument": with(everything(&[]), json!({"env": {"VALUE": "of ${SECRET:one}"}})),
        "other": using("${SECRET:two}"),
        "plain": everything(&[]),
    });
    let rig = plan(servers, json!({"directory": safe.path("run")})).start();
    await_value(&rig, "user", "first");
    let pids = || ["user", "argument", "other", "plain"].map(|name| rig.pid_of(name));
    let before = pids();
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for name in ["other", "plain"] {
            let (rig, done, calls) = (&rig, &done, &calls);
            scope.spawn(move || {
                let mut session = rig.session();
                while !done.load(Ordering::Relaxed) {
                    let tool = format!("{name}_1mcp_echo");
                    assert_eq!(session.text(&tool, json!({"text": "x"})), "x");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..3 {
            let value = format!("round-{round}");
            write(&safe.path("run/one"), &value);
            await_value(&rig, "user", &value);
            await_value(&rig, "argument", &format!("of {value}"));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(calls.load(Ordering::Relaxed) > 0);
    let after = pids();
    assert_eq!(after[2..], before[2..], "servers that do not use it");
    assert!(after[0] != before[0] && after[1] != before[1]);
    rig.stop();
}

#[test]
fn a_swap_of_a_mounted_kubernetes_secret_is_followed() {
    let safe = folder("swap");
    let run = safe.path("run");
    for (version, text) in [("..one", "old"), ("..two", "new")] {
        fs::create_dir(run.join(version)).unwrap();
        fs::write(run.join(version).join("token"), text).unwrap();
    }
    symlink("..one", run.join("..data")).unwrap();
    symlink("..data/token", run.join("token")).unwrap();
    let servers = json!({"user": using("${SECRET:token}")});
    let rig = plan(servers, json!({"directory": run})).start();
    await_value(&rig, "user", "old");
    symlink("..two", run.join("..tmp")).unwrap();
    fs::rename(run.join("..tmp"), run.join("..data")).unwrap();
    await_value(&rig, "user", "new");
    rig.stop();
}

#[test]
fn a_missing_secret_fails_its_server_alone_and_is_found_when_it_comes() {
    let safe = folder("missing");
    let servers = json!({
        "user": using("${SECRET:api-key}"),
        "second": using("${SECRET:other}"),
        "plain": everything(&[]),
    });
    let rig = plan(servers, json!({"directory": safe.path("run")})).start_unready();
    eventually("the other one serves", || is_connected(&rig, "plain"));
    let user = rig.server("user").to_string();
    for part in ["api-key", "safe-", "API_KEY"] {
        assert!(user.contains(part), "{part}: {user}");
    }
    let plain = rig.pid_of("plain");
    write(&safe.path("run/api-key"), "here");
    await_value(&rig, "user", "here");
    // One that vanishes changes nothing that runs, and is told.
    let user = rig.pid_of("user");
    fs::remove_file(safe.path("run/api-key")).unwrap();
    let told = || rig.get("/health").json()["configuration"]["lastReload"].clone();
    eventually("it is told", || told()["ok"] == false);
    assert!(told().to_string().contains("api-key"), "{}", told());
    assert_eq!((rig.pid_of("user"), rig.pid_of("plain")), (user, plain));
    assert!(is_connected(&rig, "user"));
    // It holds up nothing else: another secret comes, and its user with it.
    write(&safe.path("run/other"), "one");
    await_value(&rig, "second", "one");
    write(&safe.path("run/other"), "two");
    await_value(&rig, "second", "two");
    assert_eq!(rig.pid_of("user"), user);
    write(&safe.path("run/api-key"), "here");
    eventually("all is well", || told()["ok"] == true);
    assert_eq!((rig.pid_of("user"), rig.pid_of("plain")), (user, plain));
    rig.stop();
}

#[test]
fn the_sealed_file_serves_a_running_gateway_and_its_key_reaches_no_server() {
    let safe = Safe::new("sealed");
    safe.set("token", "first");
    let key = fs::read_to_string(safe.path("key")).unwrap();
    let entry = json!({
        "env": {"VALUE": "${SECRET:token}", "STOLEN": "${ONE_MCP_SECRETS_KEY:-nothing}"},
        "inheritParentEnv": true,
    });
    let servers = json!({"user": with(everything(&[]), entry)});
    let secrets = json!({"file": safe.path("secrets.sealed")});
    let rig = plan(servers, secrets)
        .env("ONE_MCP_SECRETS_KEY", key.trim())
        .start();
    await_value(&rig, "user", "first");
    assert_eq!(variable(&rig, "user", "STOLEN").as_deref(), Some("nothing"));
    let environ = fs::read(format!("/proc/{}/environ", rig.pid_of("user"))).unwrap();
    let environ = String::from_utf8(environ).unwrap();
    assert!(!environ.contains("ONE_MCP_SECRETS_KEY") && !environ.contains(key.trim()));
    safe.set("token", "second");
    await_value(&rig, "user", "second");
    rig.stop();
}

#[test]
fn a_command_is_asked_anew_and_its_value_holds_while_it_fails() {
    let safe = folder("ask");
    fs::write(safe.path("run/value"), "first").unwrap();
    let script = format!("[ \"$1\" = token ] && cat {}/run/value", safe.0.display());
    let providers = json!([{"command": ["sh", "-c", script, "sh", "{name}"]}]);
    let servers = json!({"user": using("${SECRET:token}"), "lost": using("${SECRET:other}")});
    let secrets = json!({"providers": providers, "refresh": 100});
    let rig = plan(servers, secrets).start_unready();
    await_value(&rig, "user", "first");
    assert!(
        rig.server("lost")
            .to_string()
            .contains("exited with code 1")
    );
    write(&safe.path("run/value"), "second");
    await_value(&rig, "user", "second");
    fs::remove_file(safe.path("run/value")).unwrap();
    eventually("it is told", || {
        rig.stderr().contains("secret kept as it was")
    });
    assert_eq!(variable(&rig, "user", "VALUE").as_deref(), Some("second"));
    write(&safe.path("run/value"), "third");
    await_value(&rig, "user", "third");
    rig.stop();
}

#[test]
fn a_vault_is_read_by_token_and_by_login_and_its_absence_stops_nothing() {
    let safe = folder("vault");
    let vault = Vault::start();
    fs::write(safe.path("jwt"), "eyJ.pod").unwrap();
    vault.account("kubernetes", "eyJ.pod", "gateway");
    vault.put("secret/data/onemcp/token", json!({"value": "first"}));
    let login = json!({"role": "gateway", "tokenFile": safe.path("jwt")});
    let providers = json!([{"vault": vault.url(), "kubernetes": login, "timeout": 2000}]);
    let servers = json!({"user": using("${SECRET:token}"), "plain": everything(&[])});
    let secrets = json!({"providers": providers, "refresh": 100});
    let rig = plan(servers, secrets).start();
    await_value(&rig, "user", "first");
    let plain = rig.pid_of("plain");
    vault.put("secret/data/onemcp/token", json!({"value": "second"}));
    await_value(&rig, "user", "second");
    vault.revoke_all();
    vault.put("secret/data/onemcp/token", json!({"value": "third"}));
    await_value(&rig, "user", "third");
    assert_eq!(vault.logins(), 2);
    vault.state().is_sealed = true;
    eventually("it is told", || {
        rig.stderr().contains("secret kept as it was")
    });
    vault.state().is_sealed = false;
    let reads = vault.reads();
    eventually("it is asked again", || vault.reads() > reads);
    // One that is deleted there changes nothing that runs, and is told.
    let user = rig.pid_of("user");
    vault.delete("secret/data/onemcp/token");
    eventually("that is told", || {
        rig.stderr().contains("its version was deleted")
    });
    assert!(is_connected(&rig, "user") && rig.pid_of("user") == user);
    assert_eq!(rig.pid_of("plain"), plain);
    rig.stop();
}

#[test]
fn a_command_that_hangs_does_not_hold_up_the_end() {
    let safe = folder("hangs");
    let note = safe.path("asked");
    // The first time it answers; from then on it hangs.
    let script = format!(
        "[ ! -e {n} ] || {{ echo again >> {n}; exec sleep 300; }}; echo first > {n}; echo v",
        n = note.display()
    );
    let gateway = json!({
        "refresh": 1000,
        "providers": [{"command": ["sh", "-c", script], "timeout": 60_000}],
    });
    let rig = plan(json!({"user": using("${SECRET:k}")}), gateway).start();
    eventually("it is asked again", || {
        fs::read_to_string(&note).is_ok_and(|text| text.contains("again"))
    });
    let began = Instant::now();
    rig.stop();
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_vault_that_hangs_delays_a_start_by_its_own_time_limit_only() {
    let vault = Vault::start();
    vault.state().is_hanging = true;
    let providers = json!([{"vault": vault.url(), "timeout": 300}]);
    let servers = (0..20).map(|number| {
        let entry = using(&format!("${{SECRET:token-{number}}}"));
        (format!("user-{number}"), entry)
    });
    let mut servers: serde_json::Map<String, Value> = servers.collect();
    servers.insert("plain".into(), everything(&[]));
    let secrets = json!({"providers": providers, "refresh": 100});
    let began = Instant::now();
    let rig = plan(servers.into(), secrets)
        .env("VAULT_TOKEN", "hvs.root")
        .start_unready();
    eventually("the other one serves", || is_connected(&rig, "plain"));
    assert!(began.elapsed() < PATIENCE / 2, "one limit for each name");
    vault.state().is_hanging = false;
    vault.allow("hvs.root");
    for number in [0, 19] {
        let place = format!("secret/data/onemcp/token-{number}");
        vault.put(&place, json!({"value": "late"}));
        await_value(&rig, &format!("user-{number}"), "late");
    }
    rig.stop();
}
