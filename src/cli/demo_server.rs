//! Two small MCP servers to try the gateway with, embedded in the binary: `onemcp demo-server
//! clock|notes`, over stdio, session revisions 2024-11-05 to 2025-11-25.
//!
//! One thread reads stdin; the main thread owns all state, answers, and wakes up for running
//! countdowns. Time comes in as an argument, so tests feed lines and moments and read lines.
//! Ends when stdin ends. Deliberately absent: persistence, logging, everything of the gateway;
//! nothing here is used by anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read, Write};
use std::ops::Bound;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::base::calendar::civil;
use crate::base::exit::EXIT_USAGE;
use crate::base::template::{filled, fixed};
use crate::base::thread;
use crate::base::{limits, ordered};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
const NEWEST: &str = "2025-11-25";

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const RESOURCE_NOT_FOUND: i64 = -32002;

/// Serves until stdin ends.
pub fn run(kind: &str) -> ExitCode {
    let Some(mut server) = Server::new(kind) else {
        let problem = format!("no demo server {kind:?}: give clock or notes");
        // Nothing is left to be told to if stderr is gone.
        let _ = writeln!(std::io::stderr(), "{problem}");
        return ExitCode::from(EXIT_USAGE);
    };
    let (sender, inputs) = sync_channel(64);
    let reader = thread::spawn("demo-stdin", limits::STACK_WORKER_BYTES, move || {
        read_lines(&mut std::io::stdin().lock(), &sender);
    });
    if let Err(error) = reader {
        let _ = writeln!(
            std::io::stderr(),
            "failed to start the thread that reads stdin: {error}"
        );
        return ExitCode::FAILURE;
    }
    // The reader is not joined: it ends with stdin, or with the process once stdout is gone.
    serve(&mut server, &inputs, &mut std::io::stdout().lock());
    ExitCode::SUCCESS
}

/// A line, or the news that one was longer than allowed.
enum Input {
    Line(Vec<u8>),
    TooLong,
}

fn read_lines(reader: &mut impl BufRead, lines: &SyncSender<Input>) {
    let limit = limits::DEMO_LINE_BYTES as u64;
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let whole = line.ends_with(b"\n") || line.len() < limits::DEMO_LINE_BYTES;
        let input = if whole {
            Input::Line(line)
        } else {
            Input::TooLong
        };
        if !whole && reader.skip_until(b'\n').is_err() {
            return;
        }
        if lines.send(input).is_err() {
            return;
        }
    }
}

/// Waits for the next line, without end: only the client decides when it is done.
fn serve(server: &mut Server, inputs: &Receiver<Input>, output: &mut impl Write) {
    loop {
        let input = match server.wake_at() {
            Some(at) => inputs.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now = Moment::now();
        let mut out = Vec::new();
        server.tick(now, &mut out);
        match input {
            Ok(Input::Line(line)) => server.line(&line, now, &mut out),
            Ok(Input::TooLong) => out.push(too_long()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let mut bytes = Vec::new();
        for message in out {
            bytes.extend_from_slice(message.to_string().as_bytes());
            bytes.push(b'\n');
        }
        if output
            .write_all(&bytes)
            .and_then(|()| output.flush())
            .is_err()
        {
            return;
        }
    }
}

fn too_long() -> Value {
    let message = format!("a line longer than {} bytes", limits::DEMO_LINE_BYTES);
    Problem::new(INVALID_REQUEST, message).response(Value::Null)
}

#[derive(Clone, Copy)]
struct Moment {
    instant: Instant,
    unix_ms: i64,
}

impl Moment {
    fn now() -> Moment {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Moment {
            instant: Instant::now(),
            unix_ms,
        }
    }
}

/// A JSON-RPC error.
#[derive(Debug)]
struct Problem {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl Problem {
    fn new(code: i64, message: impl Into<String>) -> Problem {
        Problem {
            code,
            message: message.into(),
            data: None,
        }
    }

    fn no_method(method: &str) -> Problem {
        Problem::new(METHOD_NOT_FOUND, format!("no method {method:?}"))
    }

    fn no_resource(uri: &str) -> Problem {
        let problem = Problem::new(RESOURCE_NOT_FOUND, format!("no resource {uri:?}"));
        Problem {
            data: Some(filled(r#"{ "uri": "$uri" }"#, &[("uri", uri.into())])),
            ..problem
        }
    }

    fn response(self, id: Value) -> Value {
        let holes = [("code", self.code.into()), ("message", self.message.into())];
        let mut error = filled(r#"{ "code": "$code", "message": "$message" }"#, &holes);
        if let Some(data) = self.data {
            error["data"] = data;
        }
        filled(
            r#"{ "jsonrpc": "2.0", "id": "$id", "error": "$error" }"#,
            &[("id", id), ("error", error)],
        )
    }
}

/// What a request leads to.
enum Answer {
    Now(Value),
    /// The response comes with a later tick.
    Later,
}

struct Request<'a> {
    id: &'a Value,
    params: &'a Value,
    now: Moment,
}

impl Request<'_> {
    fn text(&self, name: &str) -> Result<&str, Problem> {
        self.params[name].as_str().ok_or_else(|| {
            Problem::new(
                INVALID_PARAMS,
                format!("params.{name} is missing or not a string"),
            )
        })
    }

    /// The message is for the model, as the result of a tool.
    fn argument(&self, name: &str) -> Result<&str, String> {
        let value = &self.params["arguments"][name];
        value
            .as_str()
            .ok_or_else(|| format!("the argument {name:?} is missing or not a string"))
    }
}

struct Server {
    demo: Demo,
    revision: &'static str,
}

enum Demo {
    Clock(Clock),
    Notes(Notes),
}

impl Server {
    fn new(kind: &str) -> Option<Server> {
        let demo = match kind {
            "clock" => Demo::Clock(Clock::default()),
            "notes" => Demo::Notes(Notes::with_welcome()),
            _ => return None,
        };
        Some(Server {
            demo,
            revision: NEWEST,
        })
    }

    /// Takes one line of input; messages to the client are appended to `out`.
    fn line(&mut self, line: &[u8], now: Moment, out: &mut Vec<Value>) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let message: Value = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => {
                let problem = Problem::new(PARSE_ERROR, format!("not JSON: {error}"));
                out.push(problem.response(Value::Null));
                return;
            }
        };
        match message {
            Value::Array(batch) if self.takes_batches() && !batch.is_empty() => {
                let answers: Vec<Value> = batch
                    .iter()
                    .filter_map(|message| self.message(message, now, out))
                    .collect();
                if !answers.is_empty() {
                    out.push(Value::Array(answers));
                }
            }
            message => {
                let answer = self.message(&message, now, out);
                out.extend(answer);
            }
        }
    }

    /// Batches came with the first revisions and went with 2025-06-18.
    fn takes_batches(&self) -> bool {
        matches!(self.revision, "2024-11-05" | "2025-03-26")
    }

    fn message(&mut self, message: &Value, now: Moment, out: &mut Vec<Value>) -> Option<Value> {
        let (id, method) = (message.get("id"), message["method"].as_str());
        let params = &message["params"];
        match (id, method) {
            (None, Some(method)) => {
                self.notification(method, params);
                None
            }
            (Some(id), Some(method)) if id.is_string() || id.is_number() => {
                match self.request(method, &Request { id, params, now }, out) {
                    Ok(Answer::Now(result)) => Some(response(id, &result)),
                    Ok(Answer::Later) => None,
                    Err(problem) => Some(problem.response(id.clone())),
                }
            }
            // An answer, although nothing was asked.
            (Some(_), None) if message.get("result").or(message.get("error")).is_some() => None,
            _ => Some(Problem::new(INVALID_REQUEST, "not a message").response(Value::Null)),
        }
    }

    fn notification(&mut self, method: &str, params: &Value) {
        if let (Demo::Clock(clock), "notifications/cancelled") = (&mut self.demo, method) {
            clock
                .countdowns
                .retain(|countdown| countdown.id != params["requestId"]);
        }
    }

    fn request(
        &mut self,
        method: &str,
        request: &Request<'_>,
        out: &mut Vec<Value>,
    ) -> Result<Answer, Problem> {
        match (method, &mut self.demo) {
            ("initialize", _) => Ok(Answer::Now(self.initialize(request))),
            ("ping", _) => Ok(Answer::Now(nothing())),
            ("tools/call", Demo::Clock(clock)) => clock.call(request),
            (_, Demo::Clock(clock)) => clock.request(method, request).map(Answer::Now),
            (_, Demo::Notes(notes)) => notes.request(method, request, out).map(Answer::Now),
        }
    }

    fn initialize(&mut self, request: &Request<'_>) -> Value {
        let asked = request.params["protocolVersion"].as_str();
        self.revision = REVISIONS
            .into_iter()
            .find(|r| Some(*r) == asked)
            .unwrap_or(NEWEST);
        let (about, instructions) = match self.demo {
            Demo::Clock(_) => (CLOCK, CLOCK_INSTRUCTIONS),
            Demo::Notes(_) => (NOTES, NOTES_INSTRUCTIONS),
        };
        let holes = [
            ("revision", self.revision.into()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("instructions", instructions.into()),
        ];
        filled(about, &holes)
    }

    fn wake_at(&self) -> Option<Instant> {
        match &self.demo {
            Demo::Clock(clock) => clock
                .countdowns
                .iter()
                .map(|countdown| countdown.next)
                .min(),
            Demo::Notes(_) => None,
        }
    }

    fn tick(&mut self, now: Moment, out: &mut Vec<Value>) {
        if let Demo::Clock(clock) = &mut self.demo {
            clock
                .countdowns
                .retain_mut(|countdown| countdown.goes_on(now.instant, out));
        }
    }
}

const CLOCK: &str = r#"{
    "protocolVersion": "$revision",
    "capabilities": { "tools": {}, "resources": {}, "prompts": {} },
    "serverInfo": { "name": "onemcp-demo-clock", "title": "Clock", "version": "$version" },
    "instructions": "$instructions"
}"#;

const CLOCK_INSTRUCTIONS: &str = "Tells the time and counts down. Times are ISO 8601; zones are \
    UTC offsets such as +02:00.";

const NOTES: &str = r#"{
    "protocolVersion": "$revision",
    "capabilities": {
        "tools": {},
        "resources": { "subscribe": true, "listChanged": true },
        "prompts": {},
        "completions": {}
    },
    "serverInfo": { "name": "onemcp-demo-notes", "title": "Notes", "version": "$version" },
    "instructions": "$instructions"
}"#;

const NOTES_INSTRUCTIONS: &str = "Keeps short notes until it ends. Each note is also the resource \
    note://{title}; subscribe to it to hear of changes.";

fn nothing() -> Value {
    fixed("{}")
}

fn response(id: &Value, result: &Value) -> Value {
    filled(
        r#"{ "jsonrpc": "2.0", "id": "$id", "result": "$result" }"#,
        &[("id", id.clone()), ("result", result.clone())],
    )
}

fn notification(method: &str, params: &Value) -> Value {
    filled(
        r#"{ "jsonrpc": "2.0", "method": "$method", "params": "$params" }"#,
        &[("method", method.into()), ("params", params.clone())],
    )
}

/// A result for programs, and the same as text for clients that know only text.
fn tool_result(structured: &Value) -> Value {
    let text = r#"{
        "content": [{ "type": "text", "text": "$text" }],
        "structuredContent": "$structured"
    }"#;
    let holes = [
        ("text", structured.to_string().into()),
        ("structured", structured.clone()),
    ];
    filled(text, &holes)
}

/// For the model to read and do better: not an error of the protocol.
fn tool_error(problem: &str) -> Value {
    filled(
        r#"{ "content": [{ "type": "text", "text": "$problem" }], "isError": true }"#,
        &[("problem", problem.into())],
    )
}

fn contents(uri: &str, media_type: &str, text: &str) -> Value {
    let holes = [
        ("uri", uri.into()),
        ("type", media_type.into()),
        ("text", text.into()),
    ];
    filled(
        r#"{ "contents": [{ "uri": "$uri", "mimeType": "$type", "text": "$text" }] }"#,
        &holes,
    )
}

fn prompt_result(description: &str, text: &str) -> Value {
    let result = r#"{
        "description": "$description",
        "messages": [{ "role": "user", "content": { "type": "text", "text": "$text" } }]
    }"#;
    filled(
        result,
        &[("description", description.into()), ("text", text.into())],
    )
}

#[derive(Default)]
struct Clock {
    countdowns: Vec<Countdown>,
}

struct Countdown {
    id: Value,
    token: Option<Value>,
    seconds: u64,
    elapsed: u64,
    next: Instant,
}

impl Countdown {
    /// Reports the seconds that have passed; false once the result is given.
    fn goes_on(&mut self, now: Instant, out: &mut Vec<Value>) -> bool {
        while self.next <= now && self.elapsed < self.seconds {
            self.elapsed += 1;
            self.next += Duration::from_secs(1);
            if let Some(token) = &self.token {
                let left = self.seconds - self.elapsed;
                let params = r#"{
                    "progressToken": "$token",
                    "progress": "$elapsed",
                    "total": "$seconds",
                    "message": "$message"
                }"#;
                let holes = [
                    ("token", token.clone()),
                    ("elapsed", self.elapsed.into()),
                    ("seconds", self.seconds.into()),
                    ("message", format!("{left} s left").into()),
                ];
                let params = filled(params, &holes);
                out.push(notification("notifications/progress", &params));
            }
        }
        if self.elapsed < self.seconds {
            return true;
        }
        let seconds = filled(
            r#"{ "seconds": "$seconds" }"#,
            &[("seconds", self.seconds.into())],
        );
        out.push(response(&self.id, &tool_result(&seconds)));
        false
    }
}

impl Clock {
    fn request(&self, method: &str, request: &Request<'_>) -> Result<Value, Problem> {
        match method {
            "tools/list" => {
                let most = limits::DEMO_COUNTDOWN_S;
                Ok(filled(CLOCK_TOOLS, &[("most", most.into())]))
            }
            "resources/list" => Ok(fixed(CLOCK_RESOURCES)),
            "resources/templates/list" => Ok(fixed(r#"{ "resourceTemplates": [] }"#)),
            "resources/read" => {
                let uri = request.text("uri")?;
                if uri != "clock://now" {
                    return Err(Problem::no_resource(uri));
                }
                let text = reading(request.now.unix_ms, 0).to_string();
                Ok(contents(uri, "application/json", &text))
            }
            "prompts/list" => Ok(fixed(CLOCK_PROMPTS)),
            "prompts/get" => plan_my_day(request),
            _ => Err(Problem::no_method(method)),
        }
    }

    fn call(&mut self, request: &Request<'_>) -> Result<Answer, Problem> {
        match request.text("name")? {
            "now" => Ok(Answer::Now(now_tool(request))),
            "countdown" => self.countdown(request),
            name => Err(Problem::new(INVALID_PARAMS, format!("no tool {name:?}"))),
        }
    }

    fn countdown(&mut self, request: &Request<'_>) -> Result<Answer, Problem> {
        let most = limits::DEMO_COUNTDOWN_S;
        let seconds = request.params["arguments"]["seconds"].as_u64();
        let Some(seconds) = seconds.filter(|seconds| (1..=most).contains(seconds)) else {
            let problem = format!("the argument \"seconds\" must be a whole number, 1 to {most}");
            return Ok(Answer::Now(tool_error(&problem)));
        };
        if self
            .countdowns
            .iter()
            .any(|countdown| countdown.id == *request.id)
        {
            return Err(Problem::new(INVALID_REQUEST, "this id is still in use"));
        }
        if self.countdowns.len() == limits::DEMO_COUNTDOWNS {
            let problem = format!("{} countdowns are running; wait", limits::DEMO_COUNTDOWNS);
            return Ok(Answer::Now(tool_error(&problem)));
        }
        let token = &request.params["_meta"]["progressToken"];
        self.countdowns.push(Countdown {
            id: request.id.clone(),
            token: (token.is_string() || token.is_number()).then(|| token.clone()),
            seconds,
            elapsed: 0,
            next: request.now.instant + Duration::from_secs(1),
        });
        Ok(Answer::Later)
    }
}

const CLOCK_RESOURCES: &str = r#"{ "resources": [{
    "uri": "clock://now",
    "name": "now",
    "title": "Current time",
    "description": "The time at the moment of reading, in UTC.",
    "mimeType": "application/json"
}] }"#;

const CLOCK_PROMPTS: &str = r#"{ "prompts": [{
    "name": "plan_my_day",
    "title": "Plan my day",
    "description": "Plans the rest of today around one goal.",
    "arguments": [{
        "name": "goal",
        "description": "What should be done by this evening",
        "required": true
    }]
}] }"#;

const CLOCK_TOOLS: &str = r#"{ "tools": [
    {
        "name": "now",
        "title": "Current time",
        "description": "Tells the current date, time and weekday.",
        "inputSchema": {
            "type": "object",
            "properties": { "zone": {
                "type": "string",
                "description": "UTC offset such as +02:00 or -05:30; UTC if left out"
            } },
            "additionalProperties": false
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "time": { "type": "string", "description": "ISO 8601" },
                "weekday": { "type": "string" },
                "unix_ms": { "type": "integer" }
            },
            "required": ["time", "weekday", "unix_ms"]
        },
        "annotations": { "readOnlyHint": true, "openWorldHint": false }
    },
    {
        "name": "countdown",
        "title": "Countdown",
        "description":
            "Waits for some seconds, reports its progress once a second, and can be cancelled.",
        "inputSchema": {
            "type": "object",
            "properties": { "seconds": {
                "type": "integer",
                "minimum": 1,
                "maximum": "$most"
            } },
            "required": ["seconds"],
            "additionalProperties": false
        },
        "outputSchema": {
            "type": "object",
            "properties": { "seconds": { "type": "integer" } },
            "required": ["seconds"]
        },
        "annotations": { "readOnlyHint": true, "openWorldHint": false }
    }
] }"#;

fn now_tool(request: &Request<'_>) -> Value {
    let zone = match &request.params["arguments"]["zone"] {
        Value::Null => Some(0),
        zone => zone.as_str().and_then(offset_min),
    };
    match zone {
        Some(offset) => tool_result(&reading(request.now.unix_ms, offset)),
        None => tool_error("the argument \"zone\" must be a UTC offset such as +02:00, or UTC"),
    }
}

fn plan_my_day(request: &Request<'_>) -> Result<Value, Problem> {
    let name = request.text("name")?;
    if name != "plan_my_day" {
        return Err(Problem::new(INVALID_PARAMS, format!("no prompt {name:?}")));
    }
    let goal = request
        .argument("goal")
        .map_err(|m| Problem::new(INVALID_PARAMS, m))?;
    let time = time_text(request.now.unix_ms, 0);
    let text = format!(
        "It is {time} (UTC). Plan the rest of my day so that I reach this goal: {goal}\n\
         Give a list of at most seven steps, each with a start time and a duration, breaks \
         included, and say which step to drop first if time runs short."
    );
    Ok(prompt_result("A plan for the rest of today", &text))
}

fn reading(unix_ms: i64, offset_min: i64) -> Value {
    const WEEKDAYS: [&str; 7] = [
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
    ];
    let day = (unix_ms + offset_min * 60_000).div_euclid(86_400_000);
    let weekday = WEEKDAYS[day.rem_euclid(7) as usize];
    let holes = [
        ("time", time_text(unix_ms, offset_min).into()),
        ("weekday", weekday.into()),
        ("unix_ms", unix_ms.into()),
    ];
    filled(
        r#"{ "time": "$time", "weekday": "$weekday", "unix_ms": "$unix_ms" }"#,
        &holes,
    )
}

/// `+02:00`, `-05:30`, `Z` or `UTC` in minutes; offsets beyond 14 hours exist nowhere.
fn offset_min(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") || zone.eq_ignore_ascii_case("utc") {
        return Some(0);
    }
    let (sign, digits) = match zone.as_bytes() {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let &[h1, h2, b':', m1, m2] = digits else {
        return None;
    };
    let number = |tens: u8, ones: u8| {
        let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
        digits.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (hours, minutes) = (number(h1, h2)?, number(m1, m2)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= 14 * 60).then_some(sign * all)
}

/// ISO 8601 with milliseconds.
fn time_text(unix_ms: i64, offset_min: i64) -> String {
    let local_ms = unix_ms + offset_min * 60_000;
    let (days, ms) = (
        local_ms.div_euclid(86_400_000),
        local_ms.rem_euclid(86_400_000),
    );
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let zone = match offset_min {
        0 => "Z".to_owned(),
        _ => {
            let sign = if offset_min < 0 { '-' } else { '+' };
            format!(
                "{sign}{:02}:{:02}",
                offset_min.abs() / 60,
                offset_min.abs() % 60
            )
        }
    };
    let ms = ms % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}{zone}")
}

struct Notes {
    /// Text by title.
    notes: BTreeMap<String, String>,
    /// Titles, of notes that exist or may come to exist.
    subscriptions: BTreeSet<String>,
}

impl Notes {
    fn with_welcome() -> Notes {
        let text = "Notes live in memory only and are gone when this server ends.\n\
                    Add one with the tool add_note, then read it as note://{title}.";
        let notes = ordered::map([("welcome".to_owned(), text.to_owned())]);
        Notes {
            notes,
            subscriptions: BTreeSet::new(),
        }
    }

    fn request(
        &mut self,
        method: &str,
        request: &Request<'_>,
        out: &mut Vec<Value>,
    ) -> Result<Value, Problem> {
        match method {
            "tools/list" => Ok(filled(NOTE_TOOLS, &note_schemas())),
            "tools/call" => self.call(request, out),
            "resources/list" => self.list(request),
            "resources/templates/list" => Ok(fixed(NOTE_TEMPLATES)),
            "resources/read" => self.read(request),
            "resources/subscribe" => self.subscribe(request),
            "resources/unsubscribe" => {
                let title = title_of(request.text("uri")?);
                self.subscriptions.remove(&title.unwrap_or_default());
                Ok(nothing())
            }
            "prompts/list" => Ok(fixed(NOTE_PROMPTS)),
            "prompts/get" => self.summarise(request),
            "completion/complete" => self.complete(request),
            _ => Err(Problem::no_method(method)),
        }
    }

    fn call(&mut self, request: &Request<'_>, out: &mut Vec<Value>) -> Result<Value, Problem> {
        let outcome = match request.text("name")? {
            "add_note" => self.add(request, out),
            "search_notes" => self.search(request),
            "delete_note" => self.delete(request, out),
            name => return Err(Problem::new(INVALID_PARAMS, format!("no tool {name:?}"))),
        };
        Ok(match outcome {
            Ok(structured) => tool_result(&structured),
            Err(problem) => tool_error(&problem),
        })
    }

    fn add(&mut self, request: &Request<'_>, out: &mut Vec<Value>) -> Result<Value, String> {
        let (title, text) = (request.argument("title")?, request.argument("text")?);
        check_note(title, text)?;
        let known = self.notes.contains_key(title);
        if !known && self.notes.len() >= limits::DEMO_NOTES {
            return Err(format!(
                "there are {} notes; delete one first",
                limits::DEMO_NOTES
            ));
        }
        self.notes.insert(title.to_owned(), text.to_owned());
        self.tell(title, !known, out);
        let count = self.notes.len();
        let holes = [
            ("uri", uri_of(title).into()),
            ("replaced", known.into()),
            ("count", count.into()),
        ];
        Ok(filled(
            r#"{ "uri": "$uri", "replaced": "$replaced", "count": "$count" }"#,
            &holes,
        ))
    }

    fn delete(&mut self, request: &Request<'_>, out: &mut Vec<Value>) -> Result<Value, String> {
        let title = request.argument("title")?;
        if self.notes.remove(title).is_none() {
            return Err(format!(
                "no note {title:?}; search_notes tells which there are"
            ));
        }
        self.tell(title, true, out);
        let count = self.notes.len();
        Ok(filled(
            r#"{ "uri": "$uri", "count": "$count" }"#,
            &[("uri", uri_of(title).into()), ("count", count.into())],
        ))
    }

    /// Who listens hears of a change before the caller does.
    fn tell(&self, title: &str, list_changed: bool, out: &mut Vec<Value>) {
        if list_changed {
            out.push(notification(
                "notifications/resources/list_changed",
                &nothing(),
            ));
        }
        if self.subscriptions.contains(title) {
            let params = filled(r#"{ "uri": "$uri" }"#, &[("uri", uri_of(title).into())]);
            out.push(notification("notifications/resources/updated", &params));
        }
    }

    fn search(&self, request: &Request<'_>) -> Result<Value, String> {
        let query = request.argument("query")?.to_lowercase();
        let mut matches = Vec::new();
        let mut total = 0;
        for (title, text) in &self.notes {
            let line = text
                .lines()
                .find(|line| line.to_lowercase().contains(&query));
            if line.is_none() && !title.to_lowercase().contains(&query) {
                continue;
            }
            total += 1;
            if matches.len() < limits::DEMO_MATCHES {
                let line = line.or_else(|| text.lines().next()).unwrap_or_default();
                let excerpt: String = line.chars().take(120).collect();
                matches.push(filled(
                    r#"{ "title": "$title", "uri": "$uri", "excerpt": "$excerpt" }"#,
                    &[
                        ("title", title.as_str().into()),
                        ("uri", uri_of(title).into()),
                        ("excerpt", excerpt.into()),
                    ],
                ));
            }
        }
        Ok(filled(
            r#"{ "matches": "$matches", "total": "$total" }"#,
            &[("matches", Value::Array(matches)), ("total", total.into())],
        ))
    }

    /// A page; the cursor is the last title of the page before, so it outlives changes.
    fn list(&self, request: &Request<'_>) -> Result<Value, Problem> {
        let after = match &request.params["cursor"] {
            Value::Null => Bound::Unbounded,
            cursor => {
                let last = cursor.as_str().and_then(title_of);
                Bound::Excluded(last.ok_or_else(|| {
                    Problem::new(INVALID_PARAMS, "unknown cursor; list again without one")
                })?)
            }
        };
        let mut titles = self
            .notes
            .range((after, Bound::Unbounded))
            .map(|(title, _)| title);
        let page: Vec<&String> = titles.by_ref().take(limits::DEMO_PAGE_ENTRIES).collect();
        let resources: Vec<Value> = page.iter().map(|title| note_entry(title)).collect();
        let mut result = nothing();
        result["resources"] = Value::Array(resources);
        if let (Some(_), Some(last)) = (titles.next(), page.last()) {
            result["nextCursor"] = uri_of(last).into();
        }
        Ok(result)
    }

    fn read(&self, request: &Request<'_>) -> Result<Value, Problem> {
        let uri = request.text("uri")?;
        let text = title_of(uri).and_then(|title| self.notes.get(&title));
        let text = text.ok_or_else(|| Problem::no_resource(uri))?;
        Ok(contents(uri, "text/plain", text))
    }

    fn subscribe(&mut self, request: &Request<'_>) -> Result<Value, Problem> {
        let uri = request.text("uri")?;
        let title = title_of(uri).ok_or_else(|| Problem::no_resource(uri))?;
        let known = self.subscriptions.contains(&title);
        if !known && self.subscriptions.len() >= limits::DEMO_NOTES {
            let problem = format!("there are {} subscriptions; end one", limits::DEMO_NOTES);
            return Err(Problem::new(INVALID_REQUEST, problem));
        }
        self.subscriptions.insert(title);
        Ok(nothing())
    }

    fn summarise(&self, request: &Request<'_>) -> Result<Value, Problem> {
        let name = request.text("name")?;
        if name != "summarise_notes" {
            return Err(Problem::new(INVALID_PARAMS, format!("no prompt {name:?}")));
        }
        let only = request.params["arguments"]["title"].as_str();
        let mut text =
            "Summarise these notes in at most five sentences, and name open tasks.\n".to_owned();
        let mut left_out = 0;
        let chosen = self
            .notes
            .iter()
            .filter(|(title, _)| only.is_none_or(|only| only == *title));
        for (title, note) in chosen.clone() {
            if text.len() + note.len() > limits::DEMO_PROMPT_BYTES {
                left_out += 1;
                continue;
            }
            text.push_str(&format!("\n## {title}\n{note}\n"));
        }
        if let (Some(only), 0) = (only, chosen.count()) {
            return Err(Problem::new(INVALID_PARAMS, format!("no note {only:?}")));
        }
        if left_out > 0 {
            text.push_str(&format!("\n({left_out} more notes are left out here.)\n"));
        }
        Ok(prompt_result("A summary of the notes", &text))
    }

    fn complete(&self, request: &Request<'_>) -> Result<Value, Problem> {
        let reference = &request.params["ref"];
        let known = match reference["type"].as_str() {
            Some("ref/resource") => reference["uri"] == "note://{title}",
            Some("ref/prompt") => reference["name"] == "summarise_notes",
            _ => false,
        };
        let argument = &request.params["argument"];
        if !known || argument["name"] != "title" {
            return Err(Problem::new(
                INVALID_PARAMS,
                "only the title of a note can be completed",
            ));
        }
        let start = argument["value"]
            .as_str()
            .unwrap_or_default()
            .to_lowercase();
        let titles = self
            .notes
            .keys()
            .filter(|title| title.to_lowercase().starts_with(&start));
        let total = titles.clone().count();
        // The protocol allows so many.
        let values: Vec<Value> = titles
            .take(100)
            .map(|title| title.as_str().into())
            .collect();
        let has_more = values.len() < total;
        Ok(filled(
            r#"{ "completion": { "values": "$values", "total": "$total", "hasMore": "$more" } }"#,
            &[
                ("values", Value::Array(values)),
                ("total", total.into()),
                ("more", has_more.into()),
            ],
        ))
    }
}

fn check_note(title: &str, text: &str) -> Result<(), String> {
    let length = title.chars().count();
    if !(1..=limits::DEMO_TITLE_CHARS).contains(&length) || title.chars().any(char::is_control) {
        let most = limits::DEMO_TITLE_CHARS;
        return Err(format!(
            "a title has 1 to {most} characters and no control characters"
        ));
    }
    if text.len() > limits::DEMO_NOTE_BYTES {
        return Err(format!(
            "the text has {} of {} bytes",
            text.len(),
            limits::DEMO_NOTE_BYTES
        ));
    }
    Ok(())
}

fn note_entry(title: &str) -> Value {
    filled(
        r#"{ "uri": "$uri", "name": "$title", "title": "$title", "mimeType": "text/plain" }"#,
        &[("uri", uri_of(title).into()), ("title", title.into())],
    )
}

const NOTE_TEMPLATES: &str = r#"{ "resourceTemplates": [{
    "uriTemplate": "note://{title}",
    "name": "note",
    "title": "Note",
    "description": "The text of one note, by its title.",
    "mimeType": "text/plain"
}] }"#;

const NOTE_PROMPTS: &str = r#"{ "prompts": [{
    "name": "summarise_notes",
    "title": "Summarise notes",
    "description": "Summarises all notes, or one of them.",
    "arguments": [{
        "name": "title",
        "description": "Only the note with this title",
        "required": false
    }]
}] }"#;

const NOTE_TOOLS: &str = r#"{ "tools": [
    {
        "name": "add_note",
        "title": "Add a note",
        "description": "Keeps a note. A note with the same title is replaced.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "title": "$title",
                "text": { "type": "string", "description": "At most 64 KiB" }
            },
            "required": ["title", "text"],
            "additionalProperties": false
        },
        "outputSchema": {
            "type": "object",
            "properties": { "uri": "$uri", "replaced": { "type": "boolean" }, "count": "$count" },
            "required": ["uri", "replaced", "count"],
            "additionalProperties": false
        },
        "annotations": {
            "readOnlyHint": false,
            "destructiveHint": true,
            "idempotentHint": true,
            "openWorldHint": false
        }
    },
    {
        "name": "search_notes",
        "title": "Search notes",
        "description": "Finds notes by words in their title or text, whatever the case.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "Part of a title or a line; \"\" finds all"
                }
            },
            "required": ["query"],
            "additionalProperties": false
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "matches": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "title": "$title",
                            "uri": "$uri",
                            "excerpt": { "type": "string" }
                        },
                        "required": ["title", "uri", "excerpt"],
                        "additionalProperties": false
                    }
                },
                "total": { "type": "integer" }
            },
            "required": ["matches", "total"],
            "additionalProperties": false
        },
        "annotations": { "readOnlyHint": true, "openWorldHint": false }
    },
    {
        "name": "delete_note",
        "title": "Delete a note",
        "description": "Deletes the note with this title for good.",
        "inputSchema": {
            "type": "object",
            "properties": { "title": "$title" },
            "required": ["title"],
            "additionalProperties": false
        },
        "outputSchema": {
            "type": "object",
            "properties": { "uri": "$uri", "count": "$count" },
            "required": ["uri", "count"],
            "additionalProperties": false
        },
        "annotations": {
            "readOnlyHint": false,
            "destructiveHint": true,
            "idempotentHint": false,
            "openWorldHint": false
        }
    }
] }"#;

/// What several tools have in common.
fn note_schemas() -> [(&'static str, Value); 3] {
    let title = filled(
        r#"{ "type": "string", "minLength": 1, "maxLength": "$most" }"#,
        &[("most", limits::DEMO_TITLE_CHARS.into())],
    );
    let uri = r#"{ "type": "string", "description": "The note as a resource" }"#;
    let count = r#"{ "type": "integer", "description": "Notes that there are now" }"#;
    [
        ("title", title),
        ("uri", fixed(uri)),
        ("count", fixed(count)),
    ]
}

const NOTE_SCHEME: &str = "note://";

fn uri_of(title: &str) -> String {
    let mut uri = NOTE_SCHEME.to_owned();
    for byte in title.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

fn title_of(uri: &str) -> Option<String> {
    let mut rest = uri.strip_prefix(NOTE_SCHEME)?.bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits =
                    [rest.next()?, rest.next()?].map(|digit| char::from(digit).to_digit(16));
                (digits[0]? * 16 + digits[1]?) as u8
            }
            byte => byte,
        });
    }
    let title = String::from_utf8(bytes).ok()?;
    check_note(&title, "").is_ok().then_some(title)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A server, a clock that is moved by hand, and the messages that came back.
    struct Session {
        server: Server,
        start: Moment,
        now: Moment,
        next_id: i64,
    }

    impl Session {
        fn new(kind: &str) -> Session {
            let start = Moment {
                instant: Instant::now(),
                unix_ms: 1_795_348_800_123,
            };
            Session {
                server: Server::new(kind).unwrap(),
                start,
                now: start,
                next_id: 0,
            }
        }

        fn line(&mut self, line: &str) -> Vec<Value> {
            let mut out = Vec::new();
            self.server.line(line.as_bytes(), self.now, &mut out);
            out
        }

        /// All messages up to this many milliseconds after the start.
        fn at_ms(&mut self, ms: u64) -> Vec<Value> {
            let mut out = Vec::new();
            self.now.instant = self.start.instant + Duration::from_millis(ms);
            self.server.tick(self.now, &mut out);
            out
        }

        fn send(&mut self, method: &str, params: Value) -> Vec<Value> {
            self.next_id += 1;
            let id = self.next_id;
            let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
            self.line(&request.to_string())
        }

        /// The result or error of a request that is answered at once; it comes last.
        fn ask(&mut self, method: &str, params: Value) -> Value {
            let answer = self.send(method, params).pop().unwrap();
            assert_eq!(answer["id"], self.next_id, "{answer}");
            answer
                .get("result")
                .or(answer.get("error"))
                .unwrap()
                .clone()
        }

        fn call(&mut self, tool: &str, arguments: Value) -> Value {
            self.ask(
                "tools/call",
                json!({ "name": tool, "arguments": arguments }),
            )
        }
    }

    fn methods(messages: &[Value]) -> Vec<&str> {
        messages
            .iter()
            .map(|m| m["method"].as_str().unwrap_or("response"))
            .collect()
    }

    #[test]
    fn negotiates_session_revisions() {
        for (asked, given) in [
            ("2024-11-05", "2024-11-05"),
            ("2025-03-26", "2025-03-26"),
            ("2025-06-18", "2025-06-18"),
            ("2025-11-25", "2025-11-25"),
            ("2026-07-28", "2025-11-25"),
            ("x", "2025-11-25"),
        ] {
            for kind in ["clock", "notes"] {
                let mut session = Session::new(kind);
                let result = session.ask("initialize", json!({ "protocolVersion": asked }));
                assert_eq!(result["protocolVersion"], given);
                assert!(result["capabilities"]["tools"].is_object());
                assert!(
                    session
                        .line(r#"{"method":"notifications/initialized"}"#)
                        .is_empty()
                );
                assert_eq!(session.ask("ping", json!({})), json!({}));
            }
        }
        assert!(Server::new("other").is_none());
    }

    #[test]
    fn bad_messages_get_one_answer_or_none() {
        let cases = [
            ("", None),
            ("  \n", None),
            ("{", Some(PARSE_ERROR)),
            ("3", Some(INVALID_REQUEST)),
            ("[]", Some(INVALID_REQUEST)),
            ("[{}]", Some(INVALID_REQUEST)),
            ("{}", Some(INVALID_REQUEST)),
            (r#"{"id":null,"method":"ping"}"#, Some(INVALID_REQUEST)),
            (r#"{"id":{},"method":"ping"}"#, Some(INVALID_REQUEST)),
            (
                r#"{"id":1,"method":"logging/setLevel"}"#,
                Some(METHOD_NOT_FOUND),
            ),
            (r#"{"id":1,"method":"tools/call"}"#, Some(INVALID_PARAMS)),
            (
                r#"{"id":1,"method":"tools/call","params":{"name":"x"}}"#,
                Some(INVALID_PARAMS),
            ),
            (
                r#"{"id":1,"method":"prompts/get","params":{"name":"x"}}"#,
                Some(INVALID_PARAMS),
            ),
            (
                r#"{"id":1,"method":"resources/read","params":{"uri":"x:y"}}"#,
                Some(RESOURCE_NOT_FOUND),
            ),
            (r#"{"id":1,"result":{}}"#, None),
            (
                r#"{"method":"notifications/cancelled","params":{"requestId":4}}"#,
                None,
            ),
            (r#"{"method":"notifications/unknown"}"#, None),
        ];
        for kind in ["clock", "notes"] {
            for (line, code) in cases {
                let found = Session::new(kind).line(line);
                let found = found.first().map(|m| m["error"]["code"].as_i64().unwrap());
                assert_eq!(found, code, "{kind} {line}");
            }
        }
    }

    #[test]
    fn batches_belong_to_the_first_revisions() {
        let batch = r#"[{"id":"a","method":"ping"},{"method":"x"},{"id":1,"method":"y"}]"#;
        let mut session = Session::new("clock");
        session.ask("initialize", json!({ "protocolVersion": "2025-03-26" }));
        let answers = session.line(batch);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0][0]["id"], "a");
        assert_eq!(answers[0][1]["error"]["code"], METHOD_NOT_FOUND);
        session.ask("initialize", json!({ "protocolVersion": "2025-06-18" }));
        assert_eq!(session.line(batch)[0]["error"]["code"], INVALID_REQUEST);
    }

    #[test]
    fn times_and_zones() {
        let cases = [
            (0, "Z", Some("1970-01-01T00:00:00.000Z")),
            (951_782_400_000, "utc", Some("2000-02-29T00:00:00.000Z")),
            (4_107_542_399_999, "UTC", Some("2100-02-28T23:59:59.999Z")),
            (4_107_542_400_000, "UTC", Some("2100-03-01T00:00:00.000Z")),
            (
                1_767_225_599_000,
                "+02:00",
                Some("2026-01-01T01:59:59.000+02:00"),
            ),
            (
                1_767_225_600_000,
                "-05:30",
                Some("2025-12-31T18:30:00.000-05:30"),
            ),
            (-1, "+00:00", Some("1969-12-31T23:59:59.999Z")),
            (0, "+14:01", None),
            (0, "+02:60", None),
            (0, "+2:00", None),
            (0, "02:00", None),
            (0, "Europe/Berlin", None),
            (0, "+0a:00", None),
            (0, "", None),
        ];
        for (unix_ms, zone, expect) in cases {
            let found = offset_min(zone).map(|offset| time_text(unix_ms, offset));
            assert_eq!(found.as_deref(), expect, "{unix_ms} {zone}");
        }
        let mut session = Session::new("clock");
        let now = session.call("now", json!({ "zone": "+14:00" }));
        let expect = json!({
            "time": "2026-11-23T02:00:00.123+14:00",
            "weekday": "Monday",
            "unix_ms": 1_795_348_800_123_i64,
        });
        assert_eq!(now["structuredContent"], expect);
        assert_eq!(now["content"][0]["text"], expect.to_string());
        assert_eq!(
            session.call("now", json!({ "zone": "CET" }))["isError"],
            true
        );
        assert_eq!(session.call("now", json!({ "zone": 3 }))["isError"], true);
        let read = session.ask("resources/read", json!({ "uri": "clock://now" }));
        let text = read["contents"][0]["text"].as_str().unwrap();
        assert!(text.contains("2026-11-22T12:00:00.123Z"), "{text}");
        let prompt = json!({ "name": "plan_my_day", "arguments": { "goal": "ship it" } });
        let prompt = session.ask("prompts/get", prompt);
        let text = prompt["messages"][0]["content"]["text"].as_str().unwrap();
        assert!(
            text.contains("ship it") && text.contains("2026-11-22T12:00"),
            "{text}"
        );
    }

    #[test]
    fn countdown_reports_once_a_second() {
        let mut session = Session::new("clock");
        let params = json!({
            "name": "countdown",
            "arguments": { "seconds": 3 },
            "_meta": { "progressToken": "t" },
        });
        assert!(session.send("tools/call", params.clone()).is_empty());
        assert_eq!(
            session.server.wake_at(),
            Some(session.now.instant + Duration::from_secs(1))
        );
        assert!(session.at_ms(999).is_empty());
        let first = session.at_ms(1000);
        assert_eq!(methods(&first), ["notifications/progress"]);
        assert_eq!(
            first[0]["params"],
            json!({ "progressToken": "t", "progress": 1, "total": 3, "message": "2 s left" })
        );
        // Woken late: nothing is lost.
        let rest = session.at_ms(3500);
        assert_eq!(
            methods(&rest),
            [
                "notifications/progress",
                "notifications/progress",
                "response"
            ]
        );
        assert_eq!(rest[2]["id"], 1);
        assert_eq!(rest[2]["result"]["structuredContent"]["seconds"], 3);
        assert!(session.at_ms(9000).is_empty());
        assert_eq!(session.server.wake_at(), None);
    }

    #[test]
    fn countdown_is_cancelled_by_its_very_id() {
        let mut session = Session::new("clock");
        let line = |id: Value| {
            let params = json!({ "name": "countdown", "arguments": { "seconds": 1 } });
            json!({ "id": id, "method": "tools/call", "params": params }).to_string()
        };
        session.line(&line(json!(1)));
        session.line(&line(json!("1")));
        assert_eq!(
            session.line(&line(json!(1)))[0]["error"]["code"],
            INVALID_REQUEST
        );
        session.line(r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#);
        let answers = session.at_ms(60_000);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0]["id"], "1");
    }

    #[test]
    fn countdowns_are_bounded() {
        let mut session = Session::new("clock");
        for seconds in [json!(0), json!(61), json!(1.5), json!("3"), Value::Null] {
            assert_eq!(
                session.call("countdown", json!({ "seconds": seconds }))["isError"],
                true
            );
        }
        let params = json!({ "name": "countdown", "arguments": { "seconds": 60 } });
        for _ in 0..limits::DEMO_COUNTDOWNS {
            assert!(session.send("tools/call", params.clone()).is_empty());
        }
        assert_eq!(session.ask("tools/call", params)["isError"], true);
        assert_eq!(session.at_ms(60_000).len(), limits::DEMO_COUNTDOWNS);
    }

    #[test]
    fn notes_come_and_go_and_subscribers_hear_of_it() {
        let mut session = Session::new("notes");
        let add = |text: &str| {
            let arguments = json!({ "title": "Größe 1/2", "text": text });
            json!({ "name": "add_note", "arguments": arguments })
        };
        let uri = "note://Gr%C3%B6%C3%9Fe%201%2F2";
        let messages = session.send("tools/call", add("eins\nZwei"));
        assert_eq!(
            methods(&messages),
            ["notifications/resources/list_changed", "response"]
        );
        let result = &messages[1]["result"]["structuredContent"];
        assert_eq!(
            *result,
            json!({ "uri": uri, "replaced": false, "count": 2 })
        );

        assert_eq!(
            session.ask("resources/subscribe", json!({ "uri": uri })),
            json!({})
        );
        let messages = session.send("tools/call", add("eins\nDrei"));
        assert_eq!(
            methods(&messages),
            ["notifications/resources/updated", "response"]
        );
        assert_eq!(messages[0]["params"]["uri"], uri);
        let read = session.ask("resources/read", json!({ "uri": uri }));
        assert_eq!(read["contents"][0]["text"], "eins\nDrei");

        let found = session.call("search_notes", json!({ "query": "DREI" }));
        let expect = json!({ "title": "Größe 1/2", "uri": uri, "excerpt": "Drei" });
        assert_eq!(
            found["structuredContent"],
            json!({ "matches": [expect], "total": 1 })
        );

        let delete = json!({ "name": "delete_note", "arguments": { "title": "Größe 1/2" } });
        let messages = session.send("tools/call", delete.clone());
        assert_eq!(
            methods(&messages),
            [
                "notifications/resources/list_changed",
                "notifications/resources/updated",
                "response"
            ]
        );
        assert_eq!(session.ask("tools/call", delete)["isError"], true);
        let gone = session.ask("resources/read", json!({ "uri": uri }));
        assert_eq!(gone["data"]["uri"], uri);
        session.ask("resources/unsubscribe", json!({ "uri": uri }));
        let messages = session.send("tools/call", add("again"));
        assert_eq!(
            methods(&messages),
            ["notifications/resources/list_changed", "response"]
        );
    }

    #[test]
    fn notes_are_bounded_paged_and_completed() {
        let mut session = Session::new("notes");
        let long = "x".repeat(limits::DEMO_NOTE_BYTES + 1);
        for (title, text) in [("", "x"), ("a\nb", "x"), (&long[..201], "x"), ("a", &long)] {
            let result = session.call("add_note", json!({ "title": title, "text": text }));
            assert_eq!(result["isError"], true, "{title}");
        }
        assert_eq!(
            session.call("add_note", json!({ "title": "a" }))["isError"],
            true
        );
        for number in 1..limits::DEMO_NOTES {
            let title = format!("n{number:04}");
            session.call("add_note", json!({ "title": title, "text": &long[1..] }));
        }
        let full = session.call("add_note", json!({ "title": "x", "text": "" }));
        assert_eq!(full["isError"], true);

        let mut titles = Vec::new();
        let mut params = json!({});
        loop {
            let page = session.ask("resources/list", params);
            let entries = page["resources"].as_array().unwrap();
            assert!(entries.len() <= limits::DEMO_PAGE_ENTRIES);
            titles.extend(
                entries
                    .iter()
                    .map(|e| e["name"].as_str().unwrap().to_owned()),
            );
            let Some(cursor) = page.get("nextCursor") else {
                break;
            };
            params = json!({ "cursor": cursor });
        }
        assert_eq!(titles.len(), limits::DEMO_NOTES);
        assert!(titles.is_sorted());
        let wrong = session.ask("resources/list", json!({ "cursor": "zzz" }));
        assert_eq!(wrong["code"], INVALID_PARAMS);

        let reference = json!({ "type": "ref/resource", "uri": "note://{title}" });
        let argument = json!({ "name": "title", "value": "N00" });
        let found = session.ask(
            "completion/complete",
            json!({ "ref": reference, "argument": argument }),
        );
        assert_eq!(found["completion"]["total"], 99);
        assert_eq!(found["completion"]["hasMore"], false);
        assert_eq!(found["completion"]["values"][0], "n0001");
        let other = json!({ "ref": { "type": "ref/prompt", "name": "x" }, "argument": argument });
        assert_eq!(
            session.ask("completion/complete", other)["code"],
            INVALID_PARAMS
        );

        let all = session.ask("prompts/get", json!({ "name": "summarise_notes" }));
        let text = all["messages"][0]["content"]["text"].as_str().unwrap();
        assert!(text.len() <= limits::DEMO_PROMPT_BYTES + 1024);
        assert!(text.contains("more notes are left out"));
        let one =
            |title: &str| json!({ "name": "summarise_notes", "arguments": { "title": title } });
        let welcome = session.ask("prompts/get", one("welcome"));
        assert!(welcome.to_string().contains("in memory only"));
        assert_eq!(
            session.ask("prompts/get", one("nope"))["code"],
            INVALID_PARAMS
        );
    }

    /// Each structured result has exactly the members that its schema promises.
    #[test]
    fn results_keep_to_their_schemas() {
        let calls = [
            ("clock", "now", json!({})),
            ("notes", "add_note", json!({ "title": "a", "text": "b" })),
            ("notes", "search_notes", json!({ "query": "" })),
            ("notes", "delete_note", json!({ "title": "welcome" })),
        ];
        for (kind, tool, arguments) in calls {
            let mut session = Session::new(kind);
            let tools = session.ask("tools/list", json!({}));
            let tools = tools["tools"].as_array().unwrap();
            let entry = tools.iter().find(|entry| entry["name"] == tool).unwrap();
            let result = session.call(tool, arguments);
            let members: Vec<&String> = result["structuredContent"]
                .as_object()
                .unwrap()
                .keys()
                .collect();
            assert_eq!(entry["outputSchema"]["required"], json!(members), "{tool}");
        }
    }

    #[test]
    fn titles_survive_their_uri() {
        for title in ["a", "a b", "ü/?#%", "100%", "日本"] {
            let uri = uri_of(title);
            assert!(uri.is_ascii(), "{uri}");
            assert_eq!(title_of(&uri).as_deref(), Some(title));
        }
        for uri in [
            "note://",
            "note://%",
            "note://%4",
            "note://%zz",
            "note://%FF",
            "x://a",
        ] {
            assert_eq!(title_of(uri), None, "{uri}");
        }
    }

    /// The outer loop: lines come out as lines, a long one is skipped, and it ends with stdin.
    #[test]
    fn serves_until_the_input_ends() {
        let long = "x".repeat(limits::DEMO_LINE_BYTES * 2);
        let input = format!(
            "{long}\n{{\"id\":1,\"method\":\"ping\"}}\r\n\n{{\"id\":2,\"method\":\"ping\"}}"
        );
        let (sender, inputs) = sync_channel(64);
        read_lines(&mut input.as_bytes(), &sender);
        drop(sender);
        let mut output = Vec::new();
        serve(&mut Server::new("notes").unwrap(), &inputs, &mut output);
        let output = String::from_utf8(output).unwrap();
        let lines: Vec<Value> = output
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines[0]["error"]["code"], INVALID_REQUEST);
        assert_eq!(
            lines[1..]
                .iter()
                .map(|l| l["id"].clone())
                .collect::<Vec<_>>(),
            [1, 2]
        );
    }
}
