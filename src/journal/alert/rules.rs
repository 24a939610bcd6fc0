//! The rules: facts in, alerts out. Pure: the clock is passed in, and whoever asks sends.
//!
//! A trouble is a rule and a subject. While it lasts it is told once; however often it comes and
//! goes, between two messages that begin it lies the cooldown, and who was told of its begin is
//! told of its end. What happened meanwhile is counted in the next message.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::base::limits;
use crate::base::sorted::SortedMap;
use crate::config::alerts::AlertSpec;
use crate::config::alerts::rule::{Rule, RuleSpec, Severity};
use crate::journal::alert::message::{Alert, State, one_line};
use crate::journal::fact::{Fact, Turn};

/// Both clocks: waits are measured with one, the other is shown to people.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub now: Instant,
    pub wall: SystemTime,
}

/// An alert, and the sinks that get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    pub alert: Arc<Alert>,
    pub sinks: Vec<String>,
}

pub struct Rules {
    spec: AlertSpec,
    /// Ids of messages begin with it.
    boot: String,
    sent: u64,
    troubles: SortedMap<(Rule, String), Trouble>,
    out: Vec<Dispatch>,
    /// Servers end now, and nobody is to be called for that.
    stopping: bool,
}

/// One that lasts, or whose cooldown does.
struct Trouble {
    /// `None` once it is over.
    open: Option<Open>,
    told: Option<Instant>,
    /// When it is to be told at the latest that something happened.
    due: Option<Instant>,
    /// Happened since the last message.
    count: u64,
    title: String,
    detail: String,
    burst: Burst,
}

struct Open {
    since: SystemTime,
    /// Who was told that it began.
    sinks: Vec<String>,
    /// It ends by itself then, unless it happens again.
    until: Option<Instant>,
}

/// How much happened within the window, to a tenth of it.
#[derive(Default)]
struct Burst {
    began: Option<Instant>,
    parts: [u64; PARTS],
    /// Of `parts`, counted from `began`.
    newest: u64,
}

const PARTS: usize = 10;

impl Burst {
    fn add(&mut self, now: Instant, count: u64, window: Duration) -> u64 {
        let began = *self.began.get_or_insert(now);
        let part = (window / PARTS as u32).max(Duration::from_millis(1));
        let at = now.duration_since(began).as_nanos() / part.as_nanos();
        let at = u64::try_from(at).unwrap_or(u64::MAX).max(self.newest);
        for skipped in 1..=(at - self.newest).min(PARTS as u64) {
            let slot = (self.newest + skipped) % PARTS as u64;
            self.parts[slot as usize] = 0;
        }
        if at - self.newest >= PARTS as u64 {
            self.parts = [0; PARTS];
        }
        self.newest = at;
        let slot = &mut self.parts[(at % PARTS as u64) as usize];
        *slot = slot.saturating_add(count);
        let sum = |sum: u64, part: &u64| sum.saturating_add(*part);
        self.parts.iter().fold(0, sum)
    }
}

impl Rules {
    pub fn new(spec: AlertSpec, boot: String) -> Rules {
        Rules {
            spec,
            boot,
            sent: 0,
            troubles: SortedMap::new(),
            out: Vec::new(),
            stopping: false,
        }
    }

    /// Other rules from now on: troubles stay, and who could not be told of one is told now.
    pub fn configure(&mut self, spec: AlertSpec, clock: Clock) {
        self.spec = spec;
        let untold = |open: &Open| open.sinks.is_empty();
        for trouble in self.troubles.values_mut() {
            if trouble.due.is_none() && trouble.open.as_ref().is_some_and(untold) {
                trouble.due = Some(clock.now);
            }
        }
    }

    /// What is to be told because of it.
    pub fn fact(&mut self, fact: &Fact, clock: Clock) -> Vec<Dispatch> {
        match fact {
            Fact::Server { .. } if self.stopping => {}
            Fact::Server { name, turn } => self.server(name, turn, clock),
            Fact::ToolsChanged {
                server,
                added,
                removed,
                changed,
            } => {
                let title = format!("tools of server {server} changed");
                let detail = tools(&[("added", added), ("removed", removed), ("changed", changed)]);
                self.happened(Rule::ToolsChanged, server, 1, (title, detail), clock);
            }
            Fact::ConfigApplied { .. } => {
                self.over(
                    Rule::ConfigRejected,
                    "",
                    "the configuration is good again",
                    clock,
                );
            }
            Fact::ConfigRejected { problems } => {
                let title = "changed configuration was rejected; the old one goes on".to_owned();
                let told = (title, problems.join("; "));
                self.begins(Rule::ConfigRejected, "", told, clock);
            }
            Fact::Refused { what, whom } => {
                let title = "requests are refused for who sent them".to_owned();
                let detail = format!("the last one from {whom}, reason {}", what.as_str());
                self.burst(Rule::AuthFailures, "", 1, (title, detail), clock);
            }
            Fact::Certificate { whose, ends } => self.certificate(whose, *ends, clock),
            Fact::CertificateRejected(Some(why)) => {
                let title = "changed certificate was rejected; the old one goes on".to_owned();
                let told = (title, why.clone());
                self.begins(Rule::ConfigRejected, "certificate", told, clock);
            }
            Fact::CertificateRejected(None) => {
                let title = "the certificate is good again";
                self.over(Rule::ConfigRejected, "certificate", title, clock);
            }
            Fact::Sink { name, failing } => match failing {
                Some(why) => {
                    let title = format!("{name} takes nothing");
                    self.begins(Rule::SinkFailing, name, (title, why.clone()), clock);
                }
                None => {
                    let title = format!("{name} takes what comes again");
                    self.over(Rule::SinkFailing, name, &title, clock);
                }
            },
            Fact::Lost { what, count } => {
                let title = format!("{what} were lost");
                self.burst(Rule::Drops, what, *count, (title, String::new()), clock);
            }
            Fact::Stopping { why } => {
                self.stopping = true;
                let held = self.troubles.iter_mut();
                let held = held.filter(|((rule, _), _)| *rule == Rule::ServerDown);
                held.for_each(|(_, trouble)| trouble.due = None);
                let told = ("the gateway is stopping".to_owned(), (*why).to_owned());
                self.happened(Rule::GatewayStopping, "", 1, told, clock);
            }
        }
        std::mem::take(&mut self.out)
    }

    fn server(&mut self, name: &str, turn: &Turn, clock: Clock) {
        let down = |why: &str, state: &str| {
            let detail = match why.is_empty() {
                true => state.to_owned(),
                false => format!("{state}: {why}"),
            };
            (format!("server {name} is not ready"), detail)
        };
        match turn {
            Turn::Ready | Turn::Gone => {
                let title = match turn {
                    Turn::Ready => format!("server {name} is ready again"),
                    _ => format!("server {name} was taken out of service"),
                };
                self.over(Rule::CrashLoop, name, &title, clock);
                self.over(Rule::ServerDown, name, &title, clock);
            }
            // One message is enough: of a server that keeps dying nothing better is known.
            Turn::Down { .. } if self.is_told(Rule::CrashLoop, name) => {}
            Turn::Down { state, why } => {
                self.begins(Rule::ServerDown, name, down(why, state), clock);
            }
            Turn::CrashLoop { why } => {
                let title = format!("server {name} keeps dying");
                self.begins(Rule::CrashLoop, name, (title, why.clone()), clock);
                if !self.is_told(Rule::CrashLoop, name) {
                    self.begins(Rule::ServerDown, name, down(why, "crash_loop"), clock);
                } else if !self.is_told(Rule::ServerDown, name) {
                    self.over(Rule::ServerDown, name, "", clock);
                }
            }
        }
    }

    /// It lasts, and somebody knows.
    fn is_told(&self, rule: Rule, subject: &str) -> bool {
        let trouble = self.troubles.get(&(rule, subject.to_owned()));
        let open = trouble.and_then(|trouble| trouble.open.as_ref());
        open.is_some_and(|open| !open.sinks.is_empty())
    }

    fn certificate(&mut self, whose: &str, ends: SystemTime, clock: Clock) {
        let days = self.spec.rule(Rule::CertificateExpiry).days;
        let left = ends.duration_since(clock.wall).unwrap_or_default();
        if left >= Duration::from_secs(days.saturating_mul(DAY_S)) {
            let title = format!("the certificate of {whose} was replaced");
            return self.over(Rule::CertificateExpiry, whose, &title, clock);
        }
        let title = match left.as_secs() / DAY_S {
            _ if left.is_zero() => format!("the certificate of {whose} has expired"),
            0 => format!("the certificate of {whose} expires within a day"),
            days => format!("the certificate of {whose} expires in {days} days"),
        };
        let detail = format!("it is good until {}", crate::base::time::rfc3339(ends));
        self.begins(Rule::CertificateExpiry, whose, (title, detail), clock);
    }

    /// What is to be told because of the time.
    pub fn tick(&mut self, clock: Clock) -> Vec<Dispatch> {
        let is_due = |(_, trouble): &(&(Rule, String), &Trouble)| {
            let rests = trouble.open.is_none() && trouble.due.is_none();
            rests || trouble.next().is_some_and(|next| next <= clock.now)
        };
        let due = self.troubles.iter().filter(is_due);
        let keys: Vec<(Rule, String)> = due.map(|(key, _)| key.clone()).collect();
        for (rule, subject) in keys {
            let Some(trouble) = self.troubles.get(&(rule, subject.clone())) else {
                continue;
            };
            let until = trouble.open.as_ref().and_then(|open| open.until);
            if until.is_some_and(|until| until <= clock.now) {
                let title = format!("no more: {}", trouble.title);
                self.over(rule, &subject, &title, clock);
            }
            self.tell_if_due(rule, &subject, clock);
            self.forget_if_over(rule, &subject, clock);
        }
        std::mem::take(&mut self.out)
    }

    /// When there will be something to tell.
    pub fn next(&self) -> Option<Instant> {
        self.troubles.values().filter_map(Trouble::next).min()
    }

    fn trouble(&mut self, rule: Rule, subject: &str) -> Option<&mut Trouble> {
        let key = (rule, subject.to_owned());
        if self.troubles.len() >= limits::ALERT_KEYS && !self.troubles.contains_key(&key) {
            return None;
        }
        Some(self.troubles.get_or_insert_with(key, || Trouble {
            open: None,
            told: None,
            due: None,
            count: 0,
            title: String::new(),
            detail: String::new(),
            burst: Burst::default(),
        }))
    }

    /// It lasts until it is over.
    fn begins(&mut self, rule: Rule, subject: &str, told: (String, String), clock: Clock) {
        let spec = self.spec.rule(rule);
        let Some(trouble) = self.trouble(rule, subject) else {
            return;
        };
        trouble.count = trouble.count.saturating_add(1);
        trouble.say(told);
        let lasts = trouble.open.is_some();
        trouble.open.get_or_insert(Open {
            since: clock.wall,
            sinks: Vec::new(),
            until: None,
        });
        // Once more while it lasts: told now if the cooldown is over, else not at all.
        let cooled = trouble.told.map(|told| told + spec.cooldown);
        let due = match (lasts, trouble.due) {
            (true, Some(due)) => Some(due),
            (true, None) => cooled.filter(|cooled| *cooled <= clock.now),
            (false, _) => {
                let held = clock.now + spec.after;
                Some(cooled.map_or(held, |cooled| cooled.max(held)))
            }
        };
        trouble.due = due;
        self.tell_if_due(rule, subject, clock);
    }

    /// Whoever was told that it began is told that it is over.
    fn over(&mut self, rule: Rule, subject: &str, title: &str, clock: Clock) {
        let key = (rule, subject.to_owned());
        let Some(trouble) = self.troubles.get_mut(&key) else {
            return;
        };
        let Some(open) = trouble.open.take() else {
            return;
        };
        trouble.due = None;
        trouble.burst = Burst::default();
        if !open.sinks.is_empty() && self.tells_end(rule) {
            let (spoken, severity) = self.end_of(rule);
            let alert = Alert {
                id: self.next_id(),
                key: key_text(rule, subject),
                rule: spoken.as_str(),
                state: State::Resolved,
                severity,
                subject: subject.to_owned(),
                title: one_line(title, limits::ALERT_TEXT_BYTES),
                detail: String::new(),
                count: 1,
                since: open.since,
                at: clock.wall,
            };
            self.out.push(Dispatch {
                alert: Arc::new(alert),
                sinks: open.sinks,
            });
        }
        self.forget_if_over(rule, subject, clock);
    }

    /// It has no end: what comes within the cooldown is told when that is over.
    fn happened(
        &mut self,
        rule: Rule,
        subject: &str,
        count: u64,
        told: (String, String),
        clock: Clock,
    ) {
        let spec = self.spec.rule(rule);
        let Some(trouble) = self.trouble(rule, subject) else {
            return;
        };
        trouble.count = trouble.count.saturating_add(count);
        trouble.say(told);
        let cooled = trouble.told.map(|told| told + spec.cooldown);
        let soonest = cooled.map_or(clock.now, |cooled| cooled.max(clock.now));
        trouble.due.get_or_insert(soonest);
        self.tell_if_due(rule, subject, clock);
    }

    /// Begins when there were enough within the window, and ends after a window without one.
    fn burst(
        &mut self,
        rule: Rule,
        subject: &str,
        count: u64,
        told: (String, String),
        clock: Clock,
    ) {
        let spec = self.spec.rule(rule);
        let Some(trouble) = self.trouble(rule, subject) else {
            return;
        };
        let within = trouble.burst.add(clock.now, count, spec.window);
        let until = Some(clock.now + spec.window);
        if let Some(open) = &mut trouble.open {
            open.until = until;
            trouble.count = trouble.count.saturating_add(count);
            return trouble.say(told);
        }
        if within < spec.count {
            return;
        }
        // `begins` counts this one.
        trouble.count = trouble.count.max(within.saturating_sub(1));
        self.begins(rule, subject, told, clock);
        let trouble = self.troubles.get_mut(&(rule, subject.to_owned()));
        if let Some(open) = trouble.and_then(|trouble| trouble.open.as_mut()) {
            open.until = until;
        }
    }

    fn tell_if_due(&mut self, rule: Rule, subject: &str, clock: Clock) {
        let key = (rule, subject.to_owned());
        let spec = self.spec.rule(rule);
        let sinks = self.sinks_for(rule, &spec, subject);
        let Some(trouble) = self.troubles.get(&key) else {
            return;
        };
        if trouble.due.is_none_or(|due| due > clock.now) {
            return;
        }
        let (since, state) = match &trouble.open {
            Some(open) => (open.since, State::Triggered),
            None => (clock.wall, State::Notice),
        };
        let (title, detail, count) = (trouble.title.clone(), trouble.detail.clone(), trouble.count);
        let id = self.next_id();
        if let Some(trouble) = self.troubles.get_mut(&key) {
            trouble.due = None;
            if sinks.is_empty() {
                return;
            }
            trouble.count = 0;
            trouble.told = Some(clock.now);
            if let Some(open) = &mut trouble.open {
                let new = sinks.iter().filter(|name| !open.sinks.contains(name));
                let new: Vec<String> = new.cloned().collect();
                open.sinks.extend(new);
            }
        }
        let alert = Alert {
            id,
            key: key_text(rule, subject),
            rule: rule.as_str(),
            state,
            severity: spec.severity,
            subject: subject.to_owned(),
            title,
            detail,
            count,
            since,
            at: clock.wall,
        };
        let alert = Arc::new(alert);
        self.out.push(Dispatch { alert, sinks });
    }

    fn forget_if_over(&mut self, rule: Rule, subject: &str, clock: Clock) {
        let cooldown = self.spec.rule(rule).cooldown;
        let window = self.spec.rule(rule).window;
        let key = (rule, subject.to_owned());
        let is_over = self.troubles.get(&key).is_some_and(|trouble| {
            let cooled = trouble.told.is_none_or(|told| told + cooldown <= clock.now);
            let quiet = trouble.burst.is_quiet(clock.now, window);
            trouble.open.is_none() && trouble.due.is_none() && cooled && quiet
        });
        if is_over {
            self.troubles.remove(&key);
        }
    }

    /// Nobody, when the rule is off. A sink does not hear of its own trouble.
    fn sinks_for(&self, rule: Rule, spec: &RuleSpec, subject: &str) -> Vec<String> {
        let wanted = spec.servers.as_ref();
        if !spec.enabled || wanted.is_some_and(|wanted| !wanted.iter().any(|one| one == subject)) {
            return Vec::new();
        }
        let is_own = |name: &str| match rule {
            Rule::SinkFailing => subject == sink_subject(name),
            Rule::Drops => subject == lost_subject(name),
            _ => false,
        };
        let sinks = self.spec.sinks.iter().filter(|sink| {
            let listed = spec.sinks.as_ref();
            listed.is_none_or(|listed| listed.contains(&sink.name))
                && spec.severity >= sink.min_severity
                && !is_own(&sink.name)
        });
        sinks.map(|sink| sink.name.clone()).collect()
    }

    fn tells_end(&self, rule: Rule) -> bool {
        let recovered = match rule {
            Rule::ServerDown | Rule::CrashLoop => self.spec.rule(Rule::ServerRecovered).enabled,
            _ => true,
        };
        recovered && self.spec.rule(rule).recovery
    }

    /// What the end of a trouble is called, and how much it weighs.
    fn end_of(&self, rule: Rule) -> (Rule, Severity) {
        match rule {
            Rule::ServerDown | Rule::CrashLoop => {
                let severity = self.spec.rule(Rule::ServerRecovered).severity;
                (Rule::ServerRecovered, severity)
            }
            rule => (rule, Severity::Info),
        }
    }

    fn next_id(&mut self) -> String {
        self.sent += 1;
        format!("{}-{}", self.boot, self.sent)
    }
}

impl Burst {
    fn is_quiet(&self, now: Instant, window: Duration) -> bool {
        let part = (window / PARTS as u32).max(Duration::from_millis(1));
        let newest = u32::try_from(self.newest).unwrap_or(u32::MAX);
        self.began
            .is_none_or(|began| began + part.saturating_mul(newest) + window <= now)
    }
}

impl Trouble {
    fn next(&self) -> Option<Instant> {
        let until = self.open.as_ref().and_then(|open| open.until);
        [self.due, until].into_iter().flatten().min()
    }

    fn say(&mut self, (title, detail): (String, String)) {
        self.title = one_line(&title, limits::ALERT_TEXT_BYTES);
        self.detail = one_line(&detail, limits::ALERT_TEXT_BYTES);
    }
}

/// How facts about a sink of alerts call it.
pub fn sink_subject(name: &str) -> String {
    format!("alert sink {name}")
}

pub fn lost_subject(name: &str) -> String {
    format!("alerts for sink {name}")
}

const DAY_S: u64 = 24 * 60 * 60;

fn key_text(rule: Rule, subject: &str) -> String {
    match subject {
        "" => rule.as_str().to_owned(),
        subject => format!("{}/{subject}", rule.as_str()),
    }
}

fn tools(lists: &[(&str, &Vec<String>)]) -> String {
    let shown = lists.iter().filter(|(_, names)| !names.is_empty());
    let shown = shown.map(|(what, names)| {
        let few: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
        let rest = match names.len().saturating_sub(few.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{what}: {}{rest}", few.join(", "))
    });
    shown.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
