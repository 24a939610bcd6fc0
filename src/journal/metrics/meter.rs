//! Meters of calls: for each entry of the catalogue and for each method at a server one, which
//! is looked up once and then kept by whoever calls. The series of a server go with it when the
//! configuration no longer has it. How many entries have series of their own is bounded; all
//! others share that of `_other`, as do names that no server has.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use crate::base::limits;
use crate::journal::metrics::outcome::{Outcome, error_types};
use crate::journal::metrics::table::{
    CLIENT_FAILURES, CLIENT_OPERATION, CLIENT_SESSION, SERVER_DISCARDED, SERVER_FAILURES,
    SERVER_OPERATION, SERVER_SESSION,
};
use crate::journal::metrics::{counters, events, histograms, is_recording};
use crate::mcp::list::ListKind;
use crate::mcp::method::{self, Method};

/// The label of what has no series of its own.
pub const OTHER: &str = "_other";

/// What is measured of one kind of call.
#[derive(Debug)]
pub struct Meter {
    /// As the client sees it, if it is about a tool or prompt.
    pub operation: Option<Series>,
    /// As the gateway sees it, which calls the server.
    pub call: Series,
}

/// Durations of what succeeded, and a count of what failed.
#[derive(Debug, Clone)]
pub struct Series {
    family: &'static Family,
    duration: Histogram,
    labels: Arc<[Arc<str>]>,
}

/// Durations and failures that have the same labels, but for the type of the error.
#[derive(Debug)]
struct Family {
    durations: HistogramVec,
    failures: IntCounterVec,
}

/// All that is measured of calls.
struct Families {
    operations: Family,
    calls: Family,
    server_sessions: HistogramVec,
    client_sessions: HistogramVec,
    discarded: IntCounterVec,
}

/// `None` when the registry refuses one: then nothing of calls is measured.
static FAMILIES: LazyLock<Option<Families>> = LazyLock::new(|| {
    Some(Families {
        operations: Family {
            durations: histograms(&SERVER_OPERATION)?,
            failures: counters(&SERVER_FAILURES)?,
        },
        calls: Family {
            durations: histograms(&CLIENT_OPERATION)?,
            failures: counters(&CLIENT_FAILURES)?,
        },
        server_sessions: histograms(&SERVER_SESSION)?,
        client_sessions: histograms(&CLIENT_SESSION)?,
        discarded: counters(&SERVER_DISCARDED)?,
    })
});

fn families() -> Option<&'static Families> {
    FAMILIES.as_ref().filter(|_| is_recording())
}

/// Which call of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    method: Method,
    /// What the server calls the entry, and what clients call it; empty for a whole method.
    native: Arc<str>,
    public: Arc<str>,
}

#[derive(Default)]
struct Table {
    /// Those of the configuration in force.
    servers: HashMap<Arc<str>, HashMap<Key, Arc<Meter>>>,
    /// Keys of entries in all of them.
    entries: usize,
    /// Labels of operations that are in use: two servers may have the same public name, of which
    /// one is shadowed.
    operations: HashMap<Arc<[Arc<str>]>, usize>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server that may be called from now on.
pub fn expect_server(name: &str) {
    if is_recording() {
        table().servers.entry(name.into()).or_default();
    }
}

/// Whether the series of a server may grow.
pub fn is_known(name: &str) -> bool {
    table().servers.contains_key(name)
}

/// These are the servers of the configuration: the series of all others go.
pub fn keep_servers<'n>(names: impl Iterator<Item = &'n str>) {
    let names: HashSet<&str> = names.collect();
    let mut table = table();
    let gone: Vec<Arc<str>> = {
        let known = table.servers.keys();
        let gone = known.filter(|name| !names.contains(&***name));
        gone.cloned().collect()
    };
    for name in gone {
        for (key, meter) in table.servers.remove(&name).unwrap_or_default() {
            table.forget(&key, &meter);
        }
        forget_server(&name);
        events::forget_server(&name);
    }
    for name in names {
        table.servers.entry(name.into()).or_default();
    }
}

/// Once there is no room for more entries, those go that `is_known` no longer knows: a server may
/// give its tools other names all the time.
pub fn prune(is_known: impl Fn(&str, ListKind, &str) -> bool) {
    let mut table = table();
    if table.entries < limits::METRIC_ENTRIES {
        return;
    }
    let mut gone = Vec::new();
    for (server, meters) in &mut table.servers {
        let unknown = meters.extract_if(|key, _| {
            let kind = kind_of(key.method).filter(|_| !key.native.is_empty());
            kind.is_some_and(|kind| !is_known(server, kind, &key.native))
        });
        gone.extend(unknown);
    }
    for (key, meter) in gone {
        table.forget(&key, &meter);
    }
}

fn kind_of(method: Method) -> Option<ListKind> {
    match method {
        Method::ToolsCall => Some(ListKind::Tools),
        Method::PromptsGet => Some(ListKind::Prompts),
        _ => None,
    }
}

/// For calls of one tool or prompt. `None`: nothing is measured of it.
pub fn of_entry(
    server: &str,
    kind: ListKind,
    native: &Arc<str>,
    public: &Arc<str>,
) -> Option<Arc<Meter>> {
    let method = match kind {
        ListKind::Tools => Method::ToolsCall,
        ListKind::Prompts => Method::PromptsGet,
        ListKind::Resources | ListKind::Templates => return None,
    };
    let key = Key {
        method,
        native: native.clone(),
        public: public.clone(),
    };
    table().meter(server, key)
}

/// For calls of `method` that are about no tool or prompt.
pub fn of_method(server: &str, method: Method) -> Option<Arc<Meter>> {
    let none: Arc<str> = "".into();
    let key = Key {
        method,
        native: none.clone(),
        public: none,
    };
    table().meter(server, key)
}

/// What a client asks for, as far as that has a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Method(Method),
    Discover,
    Listen,
    Unknown,
}

impl Asked {
    pub fn parse(method: &str) -> Asked {
        match method {
            method::DISCOVER => Asked::Discover,
            method::LISTEN => Asked::Listen,
            other => Method::parse(other).map_or(Asked::Unknown, Asked::Method),
        }
    }

    fn labels(self) -> [Arc<str>; 3] {
        let name = match self {
            Asked::Method(method) => {
                return operation_labels(method, kind_of(method).map_or("", |_| OTHER));
            }
            Asked::Discover => method::DISCOVER,
            Asked::Listen => method::LISTEN,
            Asked::Unknown => OTHER,
        };
        [name, "", ""].map(Arc::from)
    }
}

/// For requests of clients that no server is found for, or that need none.
pub fn of_request(asked: Asked) -> Option<&'static Series> {
    static ALL: [OnceLock<Series>; Method::ALL.len() + 3] =
        [const { OnceLock::new() }; Method::ALL.len() + 3];
    let family = &families()?.operations;
    let at = match asked {
        Asked::Method(method) => method as usize,
        Asked::Discover => ALL.len() - 3,
        Asked::Listen => ALL.len() - 2,
        Asked::Unknown => ALL.len() - 1,
    };
    Some(ALL[at].get_or_init(|| Series::new(family, &asked.labels())))
}

/// How many entries have series of their own.
pub fn entries() -> usize {
    table().entries
}

/// A count of messages of a server that went nowhere.
pub fn discarded(server: &str, reason: &str) -> Option<IntCounter> {
    let families = families()?;
    is_known(server).then(|| families.discarded.with_label_values(&[server, reason]))
}

/// A session of a client has ended.
pub fn client_left(revision: &str, transport: &str, lasted: Duration) {
    if let Some(families) = families() {
        let durations = &families.server_sessions;
        let series = durations.with_label_values(&[revision, transport]);
        series.observe(lasted.as_secs_f64());
    }
}

/// A connection to a server has ended that was good for calls.
pub fn server_left(server: &str, transport: &str, lasted: Duration) {
    let Some(families) = families() else {
        return;
    };
    if is_known(server) {
        let durations = &families.client_sessions;
        let series = durations.with_label_values(&[server, transport]);
        series.observe(lasted.as_secs_f64());
    }
}

/// Why a message of a server went nowhere.
pub const DISCARDED: [&str; 7] = [
    "noise",
    "unknown_id",
    "notice_dropped",
    "too_long",
    "stray_error",
    "stray_request",
    "answer_lost",
];

/// How a message travels, in the words of the conventions.
pub const TRANSPORTS: [&str; 2] = ["tcp", "pipe"];

fn forget_server(name: &str) {
    let Some(families) = FAMILIES.as_ref() else {
        return;
    };
    // An error says that there is no such series.
    for reason in DISCARDED {
        let _ = families.discarded.remove_label_values(&[name, reason]);
    }
    for transport in TRANSPORTS {
        let _ = families
            .client_sessions
            .remove_label_values(&[name, transport]);
    }
}

impl Table {
    fn meter(&mut self, server: &str, key: Key) -> Option<Arc<Meter>> {
        let families = families()?;
        let meters = self.servers.get_mut(server)?;
        if let Some(meter) = meters.get(&key) {
            return Some(meter.clone());
        }
        let is_entry = !key.native.is_empty();
        let has_room = !is_entry || self.entries < limits::METRIC_ENTRIES;
        if !has_room {
            let other: Arc<str> = OTHER.into();
            let (native, public) = (other.clone(), other);
            let shared = Key {
                native,
                public,
                ..key
            };
            // There is one of these for each server, whatever the bound.
            let meter = meters.entry(shared.clone());
            let made = || Arc::new(Meter::new(families, server, &shared));
            return Some(meter.or_insert_with(made).clone());
        }
        let meter = Arc::new(Meter::new(families, server, &key));
        meters.insert(key.clone(), meter.clone());
        if is_entry {
            self.entries += 1;
        }
        if let Some(operation) = meter.operation.as_ref().filter(|_| is_entry) {
            let labels = operation.labels.clone();
            *self.operations.entry(labels).or_default() += 1;
        }
        Some(meter)
    }

    /// The series of a meter that is no longer in the table. Those of operations stay that other
    /// meters have too.
    fn forget(&mut self, key: &Key, meter: &Meter) {
        meter.call.remove();
        if key.native.is_empty() || &*key.native == OTHER {
            return;
        }
        self.entries -= 1;
        let Some(operation) = &meter.operation else {
            return;
        };
        if let Some(count) = self.operations.get_mut(&operation.labels) {
            *count -= 1;
            if *count == 0 {
                self.operations.remove(&operation.labels);
                operation.remove();
            }
        }
    }
}

impl Meter {
    fn new(families: &'static Families, server: &str, key: &Key) -> Meter {
        let operation = || operation_labels(key.method, cut(&key.public));
        let operation = (!key.native.is_empty()).then(operation);
        let call = operation_labels(key.method, cut(&key.native));
        let call: Vec<Arc<str>> = std::iter::once(server.into()).chain(call).collect();
        Meter {
            operation: operation.map(|labels| Series::new(&families.operations, &labels)),
            call: Series::new(&families.calls, &call),
        }
    }
}

/// Method, tool and prompt.
fn operation_labels(method: Method, name: &str) -> [Arc<str>; 3] {
    let (tool, prompt) = match method {
        Method::PromptsGet => ("", name),
        _ => (name, ""),
    };
    [method.as_str(), tool, prompt].map(Arc::from)
}

/// As much of a name as a label shows.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(limits::PUBLIC_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

impl Series {
    fn new(family: &'static Family, labels: &[Arc<str>]) -> Series {
        Series {
            family,
            duration: family.durations.with_label_values(labels),
            labels: labels.into(),
        }
    }

    /// One more. Only what succeeded has a duration: a failure is often much faster, or as long
    /// as a deadline.
    #[inline]
    pub fn record(&self, took: Duration, outcome: Outcome) {
        match outcome.error_type() {
            None => self.duration.observe(took.as_secs_f64()),
            Some(word) => self.failed(word),
        }
    }

    fn failed(&self, word: &str) {
        // Under the lock: a server that is being removed must not come back with its last errors.
        let table = table();
        if !self.is_in(&table) {
            return;
        }
        let labels = self.labels.iter().map(|label| &**label);
        let labels: Vec<&str> = labels.chain([word]).collect();
        self.family.failures.with_label_values(&labels).inc();
    }

    /// Whether it was not removed meanwhile.
    fn is_in(&self, table: &Table) -> bool {
        let is_call = self.labels.len() == CLIENT_OPERATION.labels.len();
        match is_call {
            true => table.servers.contains_key(&self.labels[0]),
            false => {
                let is_own = |name: &Arc<str>| !name.is_empty() && **name != *OTHER;
                let is_entry = self.labels[1..].iter().any(is_own);
                !is_entry || table.operations.contains_key(&self.labels)
            }
        }
    }

    fn remove(&self) {
        let labels: Vec<&str> = self.labels.iter().map(|label| &**label).collect();
        // An error says that there is no such series.
        let _ = self.family.durations.remove_label_values(&labels);
        for word in error_types() {
            let labels: Vec<&str> = labels.iter().copied().chain([word]).collect();
            let _ = self.family.failures.remove_label_values(&labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OTHER, Outcome, entries, expect_server, keep_servers, of_entry, of_method, prune};
    use crate::base::limits;
    use crate::journal::metrics::{set_recording, text};
    use crate::mcp::error::Reason;
    use crate::mcp::list::ListKind;
    use crate::mcp::method::Method;
    use std::sync::Arc;
    use std::time::Duration;

    const TOOLS: ListKind = ListKind::Tools;

    fn tool(server: &str, native: &str, public: &str) -> Option<Arc<super::Meter>> {
        of_entry(server, TOOLS, &Arc::from(native), &Arc::from(public))
    }

    fn lines(words: &[&str]) -> usize {
        let text = text();
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(fits).count()
    }

    fn failed(meter: &super::Meter) {
        let outcome = Outcome::Failed(Reason::Crashed);
        meter.call.record(Duration::from_secs(1), outcome);
        let operation = meter.operation.as_ref().expect("of a tool");
        operation.record(Duration::from_secs(1), outcome);
    }

    /// One test, because the table is the one of the process.
    #[test]
    fn series_come_with_calls_and_go_with_their_servers() {
        assert!(tool("m1", "t", "m1_t").is_none(), "nothing is measured yet");
        set_recording(true);
        assert!(tool("m1", "t", "m1_t").is_none(), "nobody knows the server");
        expect_server("m1");
        expect_server("m2");
        // The same public name at two servers, of which one is shadowed.
        let (one, two) = (tool("m1", "t", "shared"), tool("m2", "t", "shared"));
        let (one, two) = (one.expect("known"), two.expect("known"));
        assert!(Arc::ptr_eq(
            &one,
            &tool("m1", "t", "shared").expect("known")
        ));
        let other = of_method("m1", Method::ResourcesRead).expect("known");
        assert!(other.operation.is_none());
        failed(&one);
        failed(&two);
        assert_eq!(lines(&["_failures_total{", "\"crashed\"", "\"m1\""]), 1);
        assert_eq!(
            lines(&["onemcp_server_operation_failures", "\"shared\"", "} 2"]),
            1
        );
        keep_servers(["m2"].into_iter());
        failed(&one);
        assert_eq!(lines(&["server=\"m1\""]), 0, "it does not come back");
        assert!(lines(&["\"shared\""]) > 0, "the other server has it still");
        keep_servers(["m3"].into_iter());
        assert_eq!(lines(&["\"shared\""]), 0);
        assert_eq!(entries(), 0);
        bounds();
    }

    fn bounds() {
        for number in 0..limits::METRIC_ENTRIES + 5 {
            let name = format!("n{number}");
            assert!(tool("m3", &name, &format!("m3_{name}")).is_some());
        }
        assert_eq!(entries(), limits::METRIC_ENTRIES);
        let label = format!("gen_ai_tool_name=\"{OTHER}\"");
        assert_eq!(
            lines(&["client_operation_duration_seconds_count", &label]),
            1
        );
        prune(|_, _, native| native == "n7");
        assert_eq!(entries(), 1);
        assert_eq!(lines(&["client_operation_duration_seconds_count", "n7"]), 1);
        assert_eq!(lines(&["client_operation_duration_seconds_count", "n8"]), 0);
        prune(|_, _, _| false);
        assert_eq!(entries(), 1, "there is room");
        set_recording(false);
    }
}
