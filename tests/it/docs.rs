//! The documentation is true: generated parts are current, examples load, commands run.
//!
//! Fenced blocks say what is done with them, after the language: `sh test` runs to its end,
//! `sh test serve` starts a gateway that listens and ends on TERM, `sh test gateway` runs beside
//! a gateway (its address replaces 127.0.0.1:3050); `json mcp.json` and `json presets.json` are
//! loaded, the first `mcp.json` of a page is in the folder of its commands; names of LAYERS lie
//! beside the `mcp.json` above them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use onemcp::config::{Environment, load_file, settings::Flags};
use onemcp::journal::audit::{Event, Outcome, Reason};
use onemcp::secrets::store::Store;
use rustix::process::{Pid, Signal, kill_process};

use crate::repo::{files, read, root};

const PATIENCE: Duration = Duration::from_secs(60);
const ADDRESS: &str = "127.0.0.1:3050";

struct Page {
    path: String,
    text: String,
}

struct Block {
    info: String,
    text: String,
    line: usize,
}

/// README and docs; how speed is measured is for people only.
fn pages() -> Vec<Page> {
    let is_page =
        |path: &str| path.ends_with(".md") && (path.starts_with("docs/") || !path.contains('/'));
    let all = files().into_iter().filter(|file| is_page(&file.path));
    all.map(|file| Page {
        path: file.path,
        text: file.text,
    })
    .collect()
}

impl Page {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (index, line) in self.text.lines().enumerate() {
            match (open, line.strip_prefix("```")) {
                (false, Some(info)) => {
                    let (info, text) = (info.trim().to_owned(), String::new());
                    blocks.push(Block {
                        info,
                        text,
                        line: index + 1,
                    });
                    open = true;
                }
                (true, Some(_)) => open = false,
                (true, None) => {
                    let block = blocks.last_mut().unwrap();
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (false, None) => {}
            }
        }
        assert!(!open, "{}: a block is not closed", self.path);
        blocks
    }

    fn place(&self, block: &Block) -> String {
        format!("{}:{}", self.path, block.line)
    }
}

#[test]
fn generated_parts_are_current() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut stale = Vec::new();
    for page in pages() {
        let text = with_generated_parts(&page);
        if text != page.text && update {
            std::fs::write(root().join(&page.path), text).unwrap();
        } else if text != page.text {
            stale.push(page.path);
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} are not current; run UPDATE=1 cargo test docs"
    );
}

fn with_generated_parts(page: &Page) -> String {
    const BEGIN: &str = "<!-- generated: ";
    const END: &str = "<!-- end -->";
    let mut parts = page.text.split(BEGIN);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").unwrap();
        let (inside, after) = rest
            .split_once(END)
            .unwrap_or_else(|| panic!("{}: no end", page.path));
        let fresh = match name {
            // By `scripts/bench.sh --record`, from a run.
            "bench" => inside.to_owned(),
            name => generated(name),
        };
        out.push_str(&format!("{BEGIN}{name} -->\n{fresh}{END}{after}"));
    }
    out
}

fn generated(name: &str) -> String {
    match name {
        "settings" => onemcp::cli::help::settings_markdown(),
        "foreign" => foreign_table(),
        "file-keys" => two_columns(onemcp::config::foreign::FOREIGN_FILE_KEYS),
        "entry-keys" => two_columns(onemcp::config::entry::NOT_CARRIED_OUT),
        "limits" => limits_tables(),
        "alert-rules" => onemcp::config::alerts::rule::rules_markdown(),
        "metrics" => metrics_table(),
        "audit-events" => words("event", Event::ALL, |one| (one.as_str(), one.text())),
        "audit-outcomes" => words("outcome", Outcome::ALL, |one| (one.as_str(), one.text())),
        "audit-reasons" => words("reason", Reason::ALL, |one| (one.as_str(), one.text())),
        "capture watch" => captured("watch"),
        "capture wait" => captured("wait"),
        _ => panic!("nothing generates {name:?}"),
    }
}

fn words<T: Copy>(what: &str, all: &[T], row: fn(T) -> (&'static str, &'static str)) -> String {
    let rows = all.iter().map(|one| {
        let (word, text) = row(*one);
        format!("| `{word}` | {text} |\n")
    });
    let rows: String = rows.collect();
    format!("| {what} | meaning |\n|---|---|\n{rows}")
}

fn metrics_table() -> String {
    let mut out = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in onemcp::journal::metrics::table::METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        out.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            metric.name,
            metric.kind.as_str(),
            labels.join(", "),
            metric.help
        ));
    }
    out
}

/// What scripts/captures.sh took.
fn captured(name: &str) -> String {
    format!(
        "```text\n{}```\n",
        read(&format!("docs/captures/{name}.txt"))
    )
}

/// Times and process ids are those of that day, but what a person sees is the same.
#[test]
fn captures_are_as_the_program_writes() {
    let titles = |text: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.contains("SERVER"));
        let words = line.unwrap().split_whitespace();
        words.map(str::to_owned).collect()
    };
    let mut picture = onemcp::cli::picture::Picture::default();
    let server =
        serde_json::json!({"kind": "server", "name": "a", "position": 0, "state": "ready"});
    picture.take(server);
    let plain = onemcp::cli::terminal::Style {
        colour: false,
        moves: false,
    };
    let drawn = picture.lines(plain, 80).join("\n");
    let watch = read("docs/captures/watch.txt");
    assert_eq!(titles(&watch), titles(&drawn), "run scripts/captures.sh");
    for state in ["ready", "loading", "failed", "crash_loop", "disabled"] {
        assert!(watch.contains(state), "{state}");
    }
    for text in [watch, read("docs/captures/wait.txt")] {
        assert!(text.ends_with('\n') && !text.contains('\x1b'));
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?}");
    }
}

fn foreign_table() -> String {
    let mut out = String::from("| flag | variable | key | instead | silent for |\n");
    out.push_str("|---|---|---|---|---|\n");
    for row in onemcp::config::foreign::FOREIGN {
        let keys: Vec<String> = row
            .keys
            .iter()
            .map(|key| format!("`gateway.{key}`"))
            .collect();
        let quiet: Vec<String> = row.quiet.iter().map(|value| format!("`{value}`")).collect();
        let short = row
            .short
            .map_or_else(String::new, |short| format!(", `-{short}`"));
        out.push_str(&format!(
            "| `--{}`{short} | `{}` | {} | {} | {} |\n",
            row.flag,
            row.variable(),
            keys.join(", "),
            row.missing,
            quiet.join(", ")
        ));
    }
    out
}

fn two_columns(rows: &[(&str, &str)]) -> String {
    let mut out = String::from("| key | instead |\n|---|---|\n");
    for (key, instead) in rows {
        out.push_str(&format!("| `{key}` | {instead} |\n"));
    }
    out
}

/// `base::limits` as tables: its sections, names, values and comments.
fn limits_tables() -> String {
    let source = read("src/base/limits.rs");
    let constants = Constants(&source);
    let mut out = String::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim());
        } else if let Some(section) = line.strip_prefix("// ") {
            out.push_str(&format!("\n## {}\n\n", section.trim_end_matches('.')));
            out.push_str("| name | value | meaning |\n|---|---|---|\n");
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let name = rest.split(':').next().unwrap();
            let meaning = comment.join(" ");
            let value = constants.shown(name);
            out.push_str(&format!("| `{name}` | {value} | {meaning} |\n"));
            comment.clear();
        }
    }
    out.push('\n');
    out
}

struct Constants<'s>(&'s str);

impl Constants<'_> {
    fn shown(&self, name: &str) -> String {
        let (kind, value) = self.definition(name);
        let inner = |start: &str| value.strip_prefix(start).and_then(|v| v.strip_suffix(')'));
        if let Some(seconds) = inner("Duration::from_secs(") {
            return duration(self.product(seconds) * 1000);
        }
        if let Some(millis) = inner("Duration::from_millis(") {
            return duration(self.product(millis));
        }
        match kind {
            "f64" => value.to_owned(),
            "Duration" => self.shown(value),
            _ if name.contains("BYTES") => bytes(self.product(value)),
            _ if name.ends_with("_MS") => duration(self.product(value)),
            _ if name.ends_with("_S") => duration(self.product(value) * 1000),
            _ => self.product(value).to_string(),
        }
    }

    fn definition(&self, name: &str) -> (&str, &str) {
        let start = self
            .0
            .find(&format!("const {name}: "))
            .unwrap_or_else(|| panic!("{name}"));
        let (definition, _) = self.0[start..].split_once(';').unwrap();
        let (kind, value) = definition.split_once(" = ").unwrap();
        (kind.rsplit(' ').next().unwrap(), value)
    }

    fn product(&self, value: &str) -> u64 {
        let factors = value.split('*').map(str::trim);
        let number = |factor: &str| match factor.replace('_', "").parse() {
            Ok(number) => number,
            Err(_) => self.product(self.definition(factor).1),
        };
        factors.map(number).product()
    }
}

fn duration(ms: u64) -> String {
    match ms {
        _ if ms == 0 || !ms.is_multiple_of(1000) => format!("{ms} ms"),
        _ if ms.is_multiple_of(3_600_000) => format!("{} h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) && ms > 60_000 => format!("{} min", ms / 60_000),
        _ => format!("{} s", ms / 1000),
    }
}

fn bytes(count: u64) -> String {
    match count {
        _ if count.is_multiple_of(1 << 20) => format!("{} MiB", count >> 20),
        _ if count.is_multiple_of(1 << 10) => format!("{} KiB", count >> 10),
        _ => format!("{count} bytes"),
    }
}

/// Only `scripts/matrix.sh --check` can tell whether the tables are still true; this one tells
/// whether they are whole, and that nothing in them fails.
#[test]
fn tables_of_the_bridge_are_whole() {
    let page = read("docs/bridge.md");
    let from = page.find("<!-- begin: scripts/matrix.sh -->").unwrap();
    let tables = &page[from..page.find("<!-- end: scripts/matrix.sh -->").unwrap()];
    for client in ["session", "stateless"] {
        for server in ["session", "stateless"] {
            let title = format!("### A {client} client in front of a {server} server");
            assert!(tables.contains(&title), "no table: {title}");
        }
    }
    for bad in ["**fails**", "not run"] {
        assert!(!tables.contains(bad), "a cell says {bad}");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("[dependencies]\n").unwrap();
    let wanted: Vec<&str> = rest
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect();
    let page = read("docs/dependencies.md");
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(name, reason)| *name != "crate" && reason.len() > 20)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(rows, wanted, "docs/dependencies.md and Cargo.toml");
}

#[test]
fn every_key_of_a_server_is_described() {
    let page = read("docs/configuration.md");
    for key in onemcp::config::entry::KEYS {
        assert!(
            page.contains(&format!("\n| `{key}` |")),
            "docs/configuration.md: {key}"
        );
    }
}

/// Figures in sentences, which nothing generates.
#[test]
fn figures_agree_with_the_bounds() {
    use onemcp::base::limits;
    let check = |path: &str, sentence: String| {
        let text = read(path).replace('\n', " ");
        assert!(text.contains(&sentence), "{path} does not say {sentence:?}");
    };
    let (mib, thousands) = (
        |b: usize| b >> 20,
        |n: usize| format!("{},{:03}", n / 1000, n % 1000),
    );
    check(
        "README.md",
        format!("a request body of {} MiB", mib(limits::BODY_BYTES)),
    );
    check(
        "README.md",
        format!("a line or result of {} MiB", mib(limits::LINE_BYTES)),
    );
    let (call, longest) = (
        limits::CALL_DEADLINE.as_secs(),
        limits::CALL_DEADLINE_MAX.as_secs(),
    );
    check("README.md", format!("{call} s for a call"));
    check(
        "README.md",
        format!("extends it to {} minutes", longest / 60),
    );
    check(
        "README.md",
        format!("{} connections", thousands(limits::CONNECTIONS)),
    );
    let idle = limits::SESSION_IDLE.as_secs() / 60;
    let sessions = thousands(limits::SESSIONS);
    check(
        "README.md",
        format!("{sessions} sessions that end after {idle} idle minutes"),
    );
    let page = "docs/configuration.md";
    check(
        page,
        format!("default {} |", limits::HANDSHAKE_DEADLINE.as_millis()),
    );
    check(
        page,
        format!("default {} |", limits::CALL_DEADLINE.as_millis()),
    );
    let page = "docs/operations.md";
    let (eof, term) = (limits::STOP_EOF.as_secs(), limits::STOP_TERM.as_secs());
    check(
        page,
        format!("closing its input ({eof} s), then TERM ({term} s)"),
    );
    let (first, most) = (
        limits::RESTART_FIRST.as_secs_f64(),
        limits::RESTART_CEILING.as_secs(),
    );
    check(page, format!("after {first} s, doubling up to {most} s"));
    let (lines, window) = (limits::STDERR_WINDOW_LINES, limits::STDERR_WINDOW.as_secs());
    check(page, format!("at most {lines} lines in {window} seconds"));
    check(
        page,
        format!("the last {} lines are kept", limits::STDERR_KEPT_LINES),
    );
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let folder = Path::new(&page.path).parent().unwrap().to_owned();
        for part in page.text.split("](").skip(1) {
            let link = part.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => root().join(&page.path),
                _ => root().join(&folder).join(file),
            };
            if target.is_dir() && anchor.is_empty() {
                continue;
            }
            // A picture is no text.
            let text =
                std::fs::read(&target).unwrap_or_else(|_| panic!("{}: link to {link}", page.path));
            let text = String::from_utf8_lossy(&text);
            let found = anchor.is_empty() || headings(&text).any(|heading| heading == anchor);
            assert!(found, "{}: link to {link}", page.path);
        }
    }
}

fn headings(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines.map(|line| {
        line.trim_start_matches('#')
            .trim()
            .to_lowercase()
            .replace(' ', "-")
    })
}

/// What examples add to the `mcp.json` above them.
const LAYERS: &[&str] = &[
    "mcp.production.json",
    "conf.d/search.json",
    "config.toml",
    ".env",
    "token",
];

#[test]
fn examples_are_good_configurations() {
    let folder = Folder::new("examples");
    let mut loaded = 0;
    for page in pages() {
        for block in page.blocks() {
            let place = page.place(&block);
            match block.info.as_str() {
                "json mcp.json" => {
                    LAYERS.iter().for_each(|name| folder.remove(name));
                    folder.write("mcp.json", &block.text);
                }
                layer if layer.split(' ').any(|word| LAYERS.contains(&word)) => {
                    let name = layer.split(' ').next_back().unwrap();
                    folder.write(name, &block.text);
                }
                "json presets.json" => {
                    folder.write("mcp.json", "{\"mcpServers\": {}}");
                    folder.write("presets.json", &block.text);
                }
                "json" => {
                    let parsed = serde_json::from_str::<serde_json::Value>(&block.text);
                    parsed.unwrap_or_else(|error| panic!("{place}: {error}"));
                    continue;
                }
                _ => continue,
            }
            let path = folder.0.join("mcp.json");
            let mut flags = Flags::default();
            if folder.0.join("mcp.production.json").exists() {
                flags.set("environment", "production".to_owned());
            }
            let config = load_file(&path, &flags, &environment(), &Store::default())
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(config.problems.is_empty(), "{place}: {:?}", config.problems);
            if block.info == "json presets.json" {
                assert!(!config.presets.is_empty(), "{place}");
                folder.remove("presets.json");
            }
            loaded += 1;
        }
    }
    assert!(loaded > 0, "no example was found");
}

/// The variables that examples use.
fn environment() -> Environment {
    let names = ["HOME", "PATH", "GITHUB_TOKEN", "ALERT_KEY", "AWS_REGION"];
    names
        .into_iter()
        .map(|name| (name.to_owned(), "value".to_owned()))
        .collect()
}

#[test]
fn commands_run() {
    let readme = Page {
        path: "README.md".into(),
        text: read("README.md"),
    };
    let mut ran = 0;
    for page in pages() {
        let blocks = page.blocks();
        let tested = |block: &&Block| block.info.starts_with("sh test");
        if !blocks.iter().any(|block| tested(&block)) {
            continue;
        }
        let folder = Folder::new("commands");
        let example = |page: &Page| {
            page.blocks()
                .into_iter()
                .find(|block| block.info == "json mcp.json")
        };
        let example = example(&page).or_else(|| example(&readme)).unwrap();
        folder.prepare(&example.text);
        let (mut gateway, mut secured) = (None, None);
        for block in blocks.iter().filter(tested) {
            let place = page.place(block);
            match block.info.as_str() {
                "sh test" => folder.run(&block.text, &place),
                "sh test serve" => folder.serve(&block.text, &place),
                "sh test gateway" => {
                    let gateway = gateway.get_or_insert_with(|| folder.start_gateway());
                    folder.run(&block.text.replace(ADDRESS, &gateway.address), &place);
                }
                "sh test tls" => {
                    let gateway = secured.get_or_insert_with(|| folder.start_secured());
                    folder.run(&block.text.replace(ADDRESS, &gateway.address), &place);
                }
                other => panic!("{place}: unknown kind of block {other:?}"),
            }
            ran += 1;
        }
        for gateway in [gateway, secured].into_iter().flatten() {
            gateway.stop(&page.path);
        }
    }
    assert!(ran > 0, "no command was found");
}

/// A folder of its own for each use, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("onemcp-docs-{name}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, name: &str) {
        let path = self.0.join(name);
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// A home with the gateway on its PATH, and programs that need no network for those that do.
    fn prepare(&self, config: &str) {
        std::fs::create_dir_all(self.0.join("bin")).unwrap();
        std::fs::create_dir_all(self.0.join("run")).unwrap();
        let program = env!("CARGO_BIN_EXE_onemcp");
        std::os::unix::fs::symlink(program, self.0.join("bin/onemcp")).unwrap();
        for name in ["npx", "uvx"] {
            let path = self.0.join("bin").join(name);
            std::fs::write(&path, "#!/bin/sh\nexec onemcp demo-server notes\n").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        self.write("mcp.json", config);
        // An HTTP error is an error of the command.
        self.write(".curlrc", "fail\n");
        self.write(
            "demo.json",
            "{\"mcpServers\": {\"clock\": {\"command\": [\"onemcp\", \"demo-server\", \"clock\"], \
             \"tags\": [\"local\"]}, \"notes\": {\"command\": [\"onemcp\", \"demo-server\", \
             \"notes\"], \"tags\": [\"local\", \"test\"]}}}",
        );
    }

    fn shell(&self, text: &str) -> Command {
        let path = format!(
            "{}:/usr/local/bin:/usr/bin:/bin",
            self.0.join("bin").display()
        );
        let mut command = Command::new("sh");
        command
            .args(["-eu", "-c", text])
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.0)
            .env("XDG_RUNTIME_DIR", self.0.join("run"))
            .env("GITHUB_TOKEN", "example")
            // Beats the flags, so that no test needs a fixed port.
            .env("ONE_MCP_PORT", "0")
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, text: &str, place: &str) {
        if text.contains("curl") && !self.shell("command -v curl").status().unwrap().success() {
            eprintln!("{place}: not run, there is no curl here");
            return;
        }
        let child = self.shell(text).spawn().unwrap();
        let (sender, done) = mpsc::sync_channel(1);
        let id = child.id();
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = done.recv_timeout(PATIENCE) else {
            kill(id, Signal::KILL);
            panic!("{place}: does not end");
        };
        let output = output.unwrap();
        let (out, err) = (output.stdout, output.stderr);
        let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        assert!(
            output.status.success(),
            "{place}: {}\n{out}\n{err}",
            output.status
        );
        assert!(!out.contains("\"error\":{"), "{place}: {out}");
    }

    fn serve(&self, text: &str, place: &str) {
        let command = text.trim();
        assert!(!command.contains('\n'), "{place}: one command only");
        Gateway::start(self.shell(&format!("exec {command}")), place).stop(place);
    }

    fn start_gateway(&self) -> Gateway {
        let command = self.shell("exec onemcp --config demo.json");
        let gateway = Gateway::start(command, "the gateway of the commands");
        gateway.wait_settled();
        gateway
    }

    /// With the certificate that an earlier block has made.
    fn start_secured(&self) -> Gateway {
        let tls = "--tls-cert gateway.pem --tls-key gateway.key";
        let command = self.shell(&format!("exec onemcp --config demo.json {tls}"));
        Gateway::start(command, "the gateway over TLS")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Gateway {
    child: Child,
    address: String,
}

impl Gateway {
    fn start(mut command: Command, place: &str) -> Gateway {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (sender, first_line) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(out);
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            // The test may have given up.
            let _ = sender.send(line);
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
        });
        let line = first_line.recv_timeout(PATIENCE).unwrap_or_default();
        let said: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{place}: does not listen: {error}: {line:?}"));
        let url = said["url"].as_str().unwrap();
        let address = url.split('/').nth(2).unwrap().to_owned();
        Gateway { child, address }
    }

    /// `initialize` is answered when all servers have started.
    fn wait_settled(&self) {
        let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\
                    \"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\
                    \"clientInfo\":{\"name\":\"docs\",\"version\":\"1\"}}}";
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            socket,
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Asks it to end and expects that it does so in order.
    fn stop(mut self, place: &str) {
        let id = self.child.id();
        kill(id, Signal::TERM);
        let (sender, ended) = mpsc::sync_channel(1);
        std::thread::spawn(move || sender.send(self.child.wait()));
        let Ok(status) = ended.recv_timeout(PATIENCE) else {
            kill(id, Signal::KILL);
            panic!("{place}: does not end");
        };
        let status = status.unwrap();
        assert!(status.success(), "{place}: {status}");
    }
}

fn kill(id: u32, signal: Signal) {
    let pid = Pid::from_raw(id as i32).unwrap();
    kill_process(pid, signal).unwrap();
}
