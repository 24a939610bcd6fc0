//! `onemcp status` and `onemcp servers` as a person reads them: a few lines about the gateway
//! and one row for each server, never wider than the terminal. A state is told by its word; the
//! sign before the name and the colour repeat it.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::base::fields::{self, is_on, text, texts};
use crate::base::limits;
use crate::base::sorted::SortedMap;
use crate::base::time::from_rfc3339;
use crate::cli::terminal::{Style, Tone, brief, padded, safe, width, wrapped};

/// What the gateway has told so far.
#[derive(Default)]
pub struct Picture {
    servers: SortedMap<String, ServerRow>,
    gateway: Option<GatewayRow>,
}

#[derive(Debug)]
struct ServerRow {
    name: String,
    position: usize,
    state: String,
    transport: String,
    tags: Vec<String>,
    tools: usize,
    prompts: usize,
    resources: usize,
    pid: Option<i32>,
    restarts: u32,
    connected_at: Option<String>,
    retry_at: Option<String>,
    error: Option<String>,
    lists: Option<String>,
    definitions: Option<String>,
}

#[derive(Debug)]
struct GatewayRow {
    status: String,
    version: String,
    pid: u32,
    started_at: String,
    url: Option<String>,
    servers: usize,
    ready: usize,
    sessions: usize,
    calls: usize,
    starting: bool,
    draining: bool,
    config: ConfigRow,
}

#[derive(Debug)]
struct ConfigRow {
    version: u64,
    ok: bool,
    at: Option<String>,
    problems: Vec<String>,
    needs_restart: Vec<String>,
    switched: Vec<String>,
    /// Of each source of discovery: whether it is well, and a word about it.
    discovery: Vec<(bool, String)>,
}

impl ServerRow {
    fn of(line: &Value) -> Option<ServerRow> {
        Some(ServerRow {
            name: text(line, "name")?,
            position: fields::number(line, "position")?,
            state: text(line, "state")?,
            transport: text(line, "transport").unwrap_or_default(),
            tags: texts(line, "tags"),
            tools: fields::number(line, "tools").unwrap_or_default(),
            prompts: fields::number(line, "prompts").unwrap_or_default(),
            resources: fields::number(line, "resources").unwrap_or_default(),
            pid: fields::number(line, "pid"),
            restarts: fields::number(line, "restarts").unwrap_or_default(),
            connected_at: text(line, "connectedAt"),
            retry_at: text(line, "retryAt"),
            error: text(line, "error"),
            lists: text(line, "lists"),
            definitions: text(line, "definitions"),
        })
    }
}

impl GatewayRow {
    fn of(line: &Value) -> Option<GatewayRow> {
        Some(GatewayRow {
            status: text(line, "status")?,
            version: text(line, "version")?,
            pid: fields::number(line, "pid")?,
            started_at: text(line, "startedAt")?,
            url: text(line, "url"),
            servers: fields::number(line, "servers")?,
            ready: fields::number(line, "ready")?,
            sessions: fields::number(line, "sessions")?,
            calls: fields::number(line, "calls")?,
            starting: is_on(line, "starting"),
            draining: is_on(line, "draining"),
            config: ConfigRow::of(line.get("config")?)?,
        })
    }
}

impl ConfigRow {
    fn of(config: &Value) -> Option<ConfigRow> {
        Some(ConfigRow {
            version: fields::number(config, "version")?,
            ok: config.get("ok")?.as_bool()?,
            at: text(config, "at"),
            problems: texts(config, "problems"),
            needs_restart: texts(config, "needsRestart"),
            switched: texts(config, "switched"),
            discovery: sources(config),
        })
    }
}

fn sources(config: &Value) -> Vec<(bool, String)> {
    let sources = config.get("discovery").and_then(Value::as_array);
    let sources = sources.into_iter().flatten();
    let words = sources.map(|source| {
        let name = text(source, "name").unwrap_or_default();
        let count = |key| fields::number::<usize>(source, key).unwrap_or_default();
        let (found, taken) = (count("found"), count("taken"));
        let counts = format!("discovery {name}: {taken} of {found} found are servers");
        let refused = texts(source, "refused");
        match (text(source, "error"), refused.first()) {
            (Some(error), _) => (false, format!("! {counts}; failed to {error}")),
            (None, Some(first)) => (false, format!("! {counts}; not taken: {first}")),
            (None, None) => (true, counts),
        }
    });
    words.collect()
}

impl Picture {
    /// Takes one line in. True when the picture is complete with it.
    pub fn take(&mut self, line: Value) -> bool {
        match line["kind"].as_str() {
            Some("server") => {
                if let Some(row) = ServerRow::of(&line) {
                    self.servers.insert(row.name.clone(), row);
                }
                false
            }
            Some("removed") => {
                self.servers
                    .remove(line["name"].as_str().unwrap_or_default());
                false
            }
            Some("gateway") => {
                self.gateway = GatewayRow::of(&line);
                true
            }
            _ => false,
        }
    }

    /// Whether the gateway finds itself unhealthy.
    pub fn is_unhealthy(&self) -> bool {
        let status = self.gateway.as_ref().map(|gateway| gateway.status.as_str());
        status.is_none_or(|status| status == "unhealthy")
    }

    fn rows(&self) -> Vec<&ServerRow> {
        let rows = self.servers.iter();
        let rows = rows.map(|(name, row)| ((row.position, name), row));
        rows.collect::<SortedMap<_, _>>().into_values().collect()
    }

    /// The whole of `status`.
    pub fn lines(&self, style: Style, columns: usize) -> Vec<String> {
        let now = SystemTime::now();
        let mut lines = Vec::new();
        if let Some(gateway) = &self.gateway {
            lines.extend(gateway.lines(style, columns, now));
        }
        lines.push(String::new());
        lines.extend(table(&self.rows(), &STATUS, style, columns, now));
        lines
    }

    /// The whole of `servers`.
    pub fn server_lines(&self, style: Style, columns: usize) -> Vec<String> {
        table(&self.rows(), &SERVERS, style, columns, SystemTime::now())
    }
}

fn since(at: Option<&str>, now: SystemTime) -> Option<Duration> {
    now.duration_since(from_rfc3339(at?)?).ok()
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

impl GatewayRow {
    fn lines(&self, style: Style, columns: usize, now: SystemTime) -> Vec<String> {
        let up = since(Some(&self.started_at), now).unwrap_or_default();
        let (word, tone) = match (self.draining, self.starting) {
            (true, _) => ("draining", Tone::Busy),
            (_, true) => ("starting", Tone::Busy),
            _ => match self.status.as_str() {
                "healthy" => ("healthy", Tone::Good),
                "degraded" => ("degraded", Tone::Busy),
                _ => ("unhealthy", Tone::Bad),
            },
        };
        let name = style.paint(Tone::Bold, &format!("onemcp {}", safe(&self.version, 20)));
        let word = style.paint(tone, word);
        let first = format!("{name}  {word}  up {}  pid {}", brief(up), self.pid);
        let mut lines = vec![first];
        if let Some(url) = &self.url {
            lines.push(safe(url, columns));
        }
        let counts = format!(
            "{} of {} ready, {}, {} at work, configuration {}",
            self.ready,
            counted(self.servers, "server"),
            counted(self.sessions, "session"),
            counted(self.calls, "call"),
            self.config.version,
        );
        lines.push(safe(&counts, columns));
        lines.extend(self.config.lines(style, columns, now));
        lines
    }
}

impl ConfigRow {
    fn lines(&self, style: Style, columns: usize, now: SystemTime) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.ok {
            let ago = since(self.at.as_deref(), now).unwrap_or_default();
            let first = self
                .problems
                .first()
                .map_or("no cause is known", String::as_str);
            let more = match self.problems.len() {
                0 | 1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            let text = format!("! not reloaded {} ago{more}: {first}", brief(ago));
            notes.push((Tone::Bad, text));
        }
        if !self.needs_restart.is_empty() {
            let keys = self.needs_restart.join(", ");
            notes.push((
                Tone::Busy,
                format!("! waits for a restart of the gateway: {keys}"),
            ));
        }
        if !self.switched.is_empty() {
            let names = self.switched.join(", ");
            notes.push((Tone::Plain, format!("switched by hand: {names}")));
        }
        notes.extend(self.discovery.iter().map(|(is_well, text)| {
            let tone = if *is_well { Tone::Plain } else { Tone::Bad };
            (tone, text.clone())
        }));
        let notes = notes.iter();
        notes
            .map(|(tone, text)| style.paint(*tone, &safe(text, columns)))
            .collect()
    }
}

/// A column: its title, its least width (numbers stand on the right), and what a row has there.
struct Column {
    title: &'static str,
    width: usize,
    right: bool,
    text: fn(&ServerRow, SystemTime) -> String,
}

const fn word(
    title: &'static str,
    width: usize,
    text: fn(&ServerRow, SystemTime) -> String,
) -> Column {
    Column {
        title,
        width,
        right: false,
        text,
    }
}

const fn number(
    title: &'static str,
    width: usize,
    text: fn(&ServerRow, SystemTime) -> String,
) -> Column {
    Column {
        right: true,
        ..word(title, width, text)
    }
}

const STATE: Column = word("STATE", 14, |row, _| row.state.clone());
const TOOLS: Column = number("TOOLS", 5, |row, _| entries(row, row.tools));
const PROMPTS: Column = number("PROMPTS", 7, |row, _| entries(row, row.prompts));
const RESOURCES: Column = number("RES", 5, |row, _| entries(row, row.resources));
const STATUS: [Column; 7] = [
    STATE,
    TOOLS,
    PROMPTS,
    RESOURCES,
    number("PID", 7, |row, _| {
        row.pid.map_or("-".into(), |pid| pid.to_string())
    }),
    number("RESTARTS", 8, |row, _| row.restarts.to_string()),
    number("UP", 6, |row, now| {
        match (row.state.as_str(), since(row.connected_at.as_deref(), now)) {
            ("ready", Some(time)) => brief(time),
            _ => "-".into(),
        }
    }),
];
const SERVERS: [Column; 6] = [
    STATE,
    word("OVER", 5, |row, _| row.transport.clone()),
    TOOLS,
    PROMPTS,
    RESOURCES,
    word("TAGS", 14, |row, _| row.tags.join(",")),
];
/// The sign before a name, and the widest and narrowest column of names.
const SIGN: usize = 2;
const NAME: (usize, usize) = (8, 40);

/// One that is not there has no entries, rather than none.
fn entries(row: &ServerRow, count: usize) -> String {
    match (row.state.as_str(), count) {
        ("ready", _) | (_, 1..) => count.to_string(),
        _ => "-".into(),
    }
}

fn table(
    rows: &[&ServerRow],
    columns: &[Column],
    style: Style,
    room: usize,
    now: SystemTime,
) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no servers are configured".into()];
    }
    let others: usize = columns.iter().map(|column| column.width + 1).sum();
    let longest = rows.iter().map(|row| width(&safe(&row.name, NAME.1))).max();
    let left = room.saturating_sub(SIGN + others).clamp(NAME.0, NAME.1);
    let names = longest.unwrap_or_default().clamp(NAME.0, left);
    let titles = columns.iter().map(|column| cell(column, column.title));
    let head = format!(
        "{}{}{}",
        " ".repeat(SIGN),
        padded("SERVER", names),
        titles.collect::<String>()
    );
    let head = safe(head.trim_end(), room);
    let mut lines = vec![style.paint(Tone::Faint, &head)];
    for row in rows {
        let (sign, tone) = sign(&row.state);
        let cells = columns.iter().enumerate().map(|(at, column)| {
            let text = cell(column, &safe(&(column.text)(row, now), column.width));
            match at {
                0 => style.paint(tone, &text),
                _ => text,
            }
        });
        let name = padded(&safe(&row.name, names), names);
        let line = format!(
            "{} {name}{}",
            style.paint(tone, sign),
            cells.collect::<String>()
        );
        lines.push(narrowed(line.trim_end(), style, room));
        let note = note(row, now).map(|note| note_lines(&note, room));
        lines.extend(
            note.into_iter()
                .flatten()
                .map(|line| style.paint(Tone::Faint, &line)),
        );
    }
    lines
}

/// On a terminal so narrow that the columns do not fit, colours are the first to go.
fn narrowed(line: &str, style: Style, room: usize) -> String {
    let plain: String = match style.colour {
        false => line.to_owned(),
        true => {
            let parts = line.split('\x1b');
            let texts = parts.enumerate().map(|(at, part)| match at {
                0 => part,
                _ => part.split_once('m').map_or(part, |(_, text)| text),
            });
            texts.collect()
        }
    };
    match width(&plain) > room {
        true => safe(&plain, room),
        false => line.to_owned(),
    }
}

fn cell(column: &Column, text: &str) -> String {
    match column.right {
        true => format!(
            " {}{text}",
            " ".repeat(column.width.saturating_sub(width(text)))
        ),
        false => format!(" {}", padded(text, column.width)),
    }
}

fn sign(state: &str) -> (&'static str, Tone) {
    match state {
        "ready" => ("+", Tone::Good),
        "pending" | "loading" | "restarting" => ("~", Tone::Busy),
        "disabled" | "stopped" => ("-", Tone::Faint),
        _ => ("!", Tone::Bad),
    }
}

/// At most two lines: what a server said last stands at the end.
fn note_lines(note: &str, room: usize) -> Vec<String> {
    const INDENT: &str = "    ";
    let room = room.saturating_sub(INDENT.len());
    let whole = safe(note, limits::CONTROL_LINE_BYTES);
    let mut lines = wrapped(&whole, room);
    let rest = lines.split_off(1).join(" ");
    lines.push(safe(&rest, room));
    lines.retain(|line| !line.is_empty());
    lines
        .iter()
        .map(|line| format!("{INDENT}{}", safe(line, room)))
        .collect()
}

/// What else there is to say of a server: why it is not ready, and when it is tried again.
fn note(row: &ServerRow, now: SystemTime) -> Option<String> {
    let is_off = matches!(row.state.as_str(), "ready" | "disabled");
    let trouble = match is_off {
        true => row.lists.as_deref().or(row.definitions.as_deref()),
        false => row.error.as_deref(),
    };
    let retry = row.retry_at.as_deref().and_then(from_rfc3339);
    let retry = retry
        .filter(|_| !is_off)
        .and_then(|at| at.duration_since(now).ok());
    // Rounded up: a try that is not yet there is not in zero seconds.
    let rounded = |left: Duration| brief(left + Duration::from_millis(999));
    let retry = retry.map(|left| format!("next try in {}", rounded(left)));
    match (retry, trouble) {
        (Some(retry), Some(trouble)) => Some(format!("{retry}; {trouble}")),
        (retry, trouble) => retry.or_else(|| trouble.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Picture;
    use crate::cli::terminal::{Style, width};

    const PLAIN: Style = Style {
        colour: false,
        moves: false,
    };

    fn picture() -> Picture {
        let mut picture = Picture::default();
        let long = "a-name-that-is-much-longer-than-a-column-of-a-table-may-be\u{1b}[2J";
        let servers = [
            json!({"name": "clock", "state": "ready", "tools": 2, "pid": 4711,
                "connectedAt": "2026-11-22T12:00:00.000Z"}),
            json!({"name": long, "state": "awaiting_oauth", "restarts": 4_000_000,
                "tools": 12345, "prompts": 1_234_567, "resources": 99999, "pid": 4_194_304,
                "error": "x".repeat(500), "retryAt": "2126-11-22T12:00:00.000Z"}),
            json!({"name": "off", "state": "disabled", "tags": ["a", "b"]}),
        ];
        for (position, mut server) in servers.into_iter().enumerate() {
            server["kind"] = "server".into();
            server["position"] = position.into();
            assert!(!picture.take(server));
        }
        let gateway = json!({"kind": "gateway", "status": "degraded", "version": "1",
            "pid": 4_194_304, "startedAt": "2026-11-22T12:00:00.000Z", "servers": 2, "ready": 1,
            "url": "http://127.0.0.1:3050/mcp", "sessions": 1, "calls": 0,
            "config": {"version": 7, "ok": false, "at": "2026-11-22T12:00:00.000Z",
                "problems": ["p".repeat(200), "q"], "needsRestart": ["port"]}});
        assert!(picture.take(gateway));
        picture
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let picture = picture();
        for columns in [20, 40, 60, 80, 132] {
            let lines = picture.lines(PLAIN, columns);
            for line in lines.iter().chain(&picture.server_lines(PLAIN, columns)) {
                assert!(!line.contains('\x1b'), "{line:?}");
                // The first line is ours and short.
                assert!(width(line) <= columns.max(60), "{columns}: {line:?}");
            }
        }
    }

    #[test]
    fn says_what_a_person_asks() {
        let text = picture().lines(PLAIN, 80).join("\n");
        for part in [
            "onemcp 1  degraded",
            "1 of 2 servers ready, 1 session, 0 calls at work, configuration 7",
            "(and 1 more)",
            "waits for a restart of the gateway: port",
            "+ clock",
            "! a-name",
            "- off",
            "next try in",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn what_was_removed_is_gone() {
        let mut picture = picture();
        picture.take(json!({"kind": "removed", "name": "clock"}));
        assert!(!picture.lines(PLAIN, 80).join("\n").contains("clock"));
        assert!(!picture.is_unhealthy() && Picture::default().is_unhealthy());
    }

    #[test]
    fn colours_only_add() {
        let bright = Style {
            colour: true,
            moves: true,
        };
        let coloured = picture().lines(bright, 80).join("\n");
        assert!(coloured.contains("\x1b[32m ready"), "{coloured}");
    }
}
