use std::time::{Duration, Instant, SystemTime};

use super::{Burst, Clock, Rules};
use crate::config::alerts::{AlertSpec, plain, read};
use crate::config::document::{Lines, Node, Notes, parse};
use crate::config::problem::Scope;
use crate::journal::alert::message::State;
use crate::journal::fact::{Fact, Refused, Turn};

fn spec(text: &str) -> AlertSpec {
    let lines = Lines::new("f", text);
    let mut notes = Notes::new(Scope::Setting("alerts"));
    let value = parse(&lines, &mut notes).unwrap();
    let spec = read(&Node::root(&lines, &value), &plain, &mut notes);
    assert!(notes.problems.is_empty(), "{:?}", notes.problems);
    spec
}

/// Rules with a clock that is moved by hand.
struct Bench {
    rules: Rules,
    began: Instant,
    wall: SystemTime,
}

const TWO: &str = r#"{"sinks": {"all": {"type": "log"},
    "loud": {"type": "log", "minSeverity": "critical"}}}"#;

impl Bench {
    fn new(text: &str) -> Bench {
        Bench {
            rules: Rules::new(spec(text), "boot".into()),
            began: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        }
    }

    fn clock(&self, second: u64) -> Clock {
        let time = Duration::from_secs(second);
        Clock {
            now: self.began + time,
            wall: self.wall + time,
        }
    }

    /// The fact at that second, and all ticks that were due before.
    fn at(&mut self, second: u64, fact: Option<Fact>) -> Vec<String> {
        let mut out = Vec::new();
        let end = self.clock(second);
        while let Some(next) = self.rules.next().filter(|next| *next <= end.now) {
            let wall = self.wall + (next - self.began);
            out.extend(self.rules.tick(Clock { now: next, wall }));
        }
        out.extend(fact.iter().flat_map(|fact| self.rules.fact(fact, end)));
        out.extend(self.rules.tick(end));
        let line = |one: super::Dispatch| {
            let alert = &one.alert;
            let second = alert.at.duration_since(self.wall).unwrap().as_secs();
            let state = match alert.state {
                State::Triggered => "+",
                State::Resolved => "-",
                State::Notice => "!",
            };
            let to = one.sinks.join(",");
            format!(
                "{second} {state}{} {} x{} >{to}",
                alert.rule, alert.key, alert.count
            )
        };
        out.into_iter().map(line).collect()
    }
}

fn turn(name: &str, turn: Turn) -> Option<Fact> {
    let name = name.to_owned();
    Some(Fact::Server { name, turn })
}

fn down(name: &str) -> Option<Fact> {
    let why = "exited".to_owned();
    let state = "restarting";
    turn(name, Turn::Down { state, why })
}

fn ready(name: &str) -> Option<Fact> {
    turn(name, Turn::Ready)
}

fn dies(name: &str) -> Option<Fact> {
    let why = "exited".to_owned();
    turn(name, Turn::CrashLoop { why })
}

/// Facts by second, and all that is told until the last of them.
fn check(text: &str, facts: &[(u64, Option<Fact>)], expect: &[&str]) {
    let mut bench = Bench::new(text);
    let told = facts.iter();
    let told: Vec<String> = told
        .flat_map(|(second, fact)| bench.at(*second, fact.clone()))
        .collect();
    assert_eq!(told, expect, "{facts:?}");
}

#[test]
fn a_server_is_down_when_it_stays_down() {
    check(TWO, &[(0, down("a")), (29, ready("a")), (100, None)], &[]);
    let expect = [
        "30 +serverDown serverDown/a x1 >all",
        "40 -serverRecovered serverDown/a x1 >all",
    ];
    check(TWO, &[(0, down("a")), (40, ready("a"))], &expect);
    // Told once, however often it is said.
    let facts = [
        (0, down("a")),
        (35, down("a")),
        (36, down("a")),
        (200, None),
    ];
    check(TWO, &facts, &expect[..1]);
    // Taken out: nobody is to wait for it.
    let facts = [(0, down("a")), (40, turn("a", Turn::Gone))];
    check(TWO, &facts, &expect);
}

#[test]
fn flapping_is_told_once_in_a_cooldown() {
    let mut facts = Vec::new();
    for round in 0..6 {
        facts.push((round * 40, down("a")));
        facts.push((round * 40 + 35, ready("a")));
    }
    facts.push((290, down("a")));
    facts.push((400, ready("a")));
    let expect = [
        "30 +serverDown serverDown/a x1 >all",
        "35 -serverRecovered serverDown/a x1 >all",
        "330 +serverDown serverDown/a x6 >all",
        "400 -serverRecovered serverDown/a x1 >all",
    ];
    check(TWO, &facts, &expect);
}

#[test]
fn servers_do_not_hide_each_other() {
    let expect = [
        "30 +serverDown serverDown/a x1 >all",
        "31 +serverDown serverDown/b x1 >all",
        "50 -serverRecovered serverDown/a x1 >all",
    ];
    check(
        TWO,
        &[(0, down("a")), (1, down("b")), (50, ready("a"))],
        &expect,
    );
}

#[test]
fn a_crash_loop_is_one_message() {
    let expect = [
        "5 +crashLoop crashLoop/a x1 >all,loud",
        "90 -serverRecovered crashLoop/a x1 >all,loud",
    ];
    let facts = [
        (0, down("a")),
        (5, dies("a")),
        (60, down("a")),
        (90, ready("a")),
    ];
    check(TWO, &facts, &expect);
    // Where nobody wants to hear of it, the server is down all the same.
    let off = r#"{"sinks": {"s": {"type": "log"}}, "rules": {"crashLoop": false}}"#;
    let expect = ["30 +serverDown serverDown/a x2 >s"];
    check(off, &[(0, down("a")), (5, dies("a")), (60, None)], &expect);
    // Who was told that it is down hears of its end, too.
    let expect = [
        "30 +serverDown serverDown/a x1 >all",
        "50 +crashLoop crashLoop/a x1 >all,loud",
        "60 -serverRecovered crashLoop/a x1 >all,loud",
        "60 -serverRecovered serverDown/a x1 >all",
    ];
    let facts = [(0, down("a")), (50, dies("a")), (60, ready("a"))];
    check(TWO, &facts, &expect);
}

#[test]
fn rules_say_who_hears_of_what() {
    let text = r#"{"sinks": {"s": {"type": "log"}, "t": {"type": "log"}}, "rules": {
        "serverDown": {"after": 0, "servers": ["a"], "sinks": ["t"], "cooldown": 0},
        "serverRecovered": false}}"#;
    let facts = [
        (0, down("b")),
        (1, down("a")),
        (2, ready("a")),
        (3, down("a")),
    ];
    let expect = [
        "1 +serverDown serverDown/a x1 >t",
        "3 +serverDown serverDown/a x1 >t",
    ];
    check(text, &facts, &expect);
    let quiet = r#"{"sinks": {"s": {"type": "log"}},
        "rules": {"configRejected": {"recovery": false}}}"#;
    let facts = [(0, rejected()), (1, applied())];
    check(quiet, &facts, &["0 +configRejected configRejected x1 >s"]);
}

fn rejected() -> Option<Fact> {
    let problems = vec!["mcp.json:1:1: bad".to_owned()];
    Some(Fact::ConfigRejected { problems })
}

fn applied() -> Option<Fact> {
    Some(Fact::ConfigApplied { version: 2 })
}

#[test]
fn a_rejected_configuration_is_over_when_one_is_good() {
    let facts = [
        (0, applied()),
        (1, rejected()),
        (2, rejected()),
        (9, applied()),
    ];
    let expect = [
        "1 +configRejected configRejected x1 >all",
        "9 -configRejected configRejected x1 >all",
    ];
    check(TWO, &facts, &expect);
    // Another attempt after the cooldown is news, although nothing was good in between.
    let facts = [(1, rejected()), (2, rejected()), (400, rejected())];
    let expect = [
        "1 +configRejected configRejected x1 >all",
        "400 +configRejected configRejected x2 >all",
    ];
    check(TWO, &facts, &expect);
}

fn tools(name: &str) -> Option<Fact> {
    Some(Fact::ToolsChanged {
        server: name.to_owned(),
        added: vec!["x".into()],
        removed: Vec::new(),
        changed: Vec::new(),
    })
}

#[test]
fn what_has_no_end_is_gathered_in_the_cooldown() {
    let facts = [
        (0, tools("a")),
        (1, tools("a")),
        (2, tools("b")),
        (3, tools("a")),
        (400, None),
        (700, tools("a")),
    ];
    let expect = [
        "0 !toolsChanged toolsChanged/a x1 >all",
        "2 !toolsChanged toolsChanged/b x1 >all",
        "300 !toolsChanged toolsChanged/a x2 >all",
        "700 !toolsChanged toolsChanged/a x1 >all",
    ];
    check(TWO, &facts, &expect);
}

fn refused() -> Option<Fact> {
    Some(Fact::Refused {
        what: Refused::Host,
        whom: "10.0.0.1".into(),
    })
}

#[test]
fn a_burst_begins_at_its_count_and_ends_in_silence() {
    let text = r#"{"sinks": {"s": {"type": "log"}},
        "rules": {"authFailures": {"count": 5, "window": 10000, "cooldown": 0}}}"#;
    // Too thin: five within 16 seconds.
    let thin: Vec<_> = (0..5).map(|n| (n * 4, refused())).collect();
    check(text, &thin, &[]);
    let mut facts: Vec<_> = (0..8).map(|n| (n, refused())).collect();
    facts.push((40, None));
    let expect = [
        "4 +authFailures authFailures x5 >s",
        "17 -authFailures authFailures x1 >s",
    ];
    check(text, &facts, &expect);
}

#[test]
fn a_sink_does_not_hear_of_its_own_trouble() {
    let failing = |why: Option<&str>| {
        Some(Fact::Sink {
            name: "alert sink all".into(),
            failing: why.map(str::to_owned),
        })
    };
    let text = r#"{"sinks": {"all": {"type": "log"}, "other": {"type": "log"}}}"#;
    let expect = [
        "0 +sinkFailing sinkFailing/alert sink all x1 >other",
        "9 -sinkFailing sinkFailing/alert sink all x1 >other",
    ];
    check(
        text,
        &[(0, failing(Some("500"))), (9, failing(None))],
        &expect,
    );
    let lost = |sink: &str| {
        let what = super::lost_subject(sink);
        Some(Fact::Lost { what, count: 7 })
    };
    let expect = ["0 +drops drops/alerts for sink all x7 >other"];
    check(text, &[(0, lost("all"))], &expect);
}

#[test]
fn certificates_are_told_of_in_time() {
    let ends = |days: u64| {
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        Some(Fact::Certificate {
            whose: "server a".into(),
            ends: base + Duration::from_secs(days * 86_400),
        })
    };
    let day = 86_400;
    let facts = [
        (0, ends(15)),
        (day + 1, ends(15)),
        (day + 2, ends(15)),
        (2 * day + 5, ends(15)),
        (3 * day, ends(100)),
    ];
    let expect = [
        "86401 +certificateExpiry certificateExpiry/server a x1 >all",
        "172805 +certificateExpiry certificateExpiry/server a x2 >all",
        "259200 -certificateExpiry certificateExpiry/server a x1 >all",
    ];
    check(TWO, &facts, &expect);
}

#[test]
fn other_rules_tell_what_could_not_be_told() {
    let mut bench = Bench::new(r#"{"rules": {"serverDown": {"after": 0}}}"#);
    assert!(bench.at(0, down("a")).is_empty());
    let clock = bench.clock(5);
    bench.rules.configure(spec(TWO), clock);
    assert_eq!(bench.at(5, None), ["5 +serverDown serverDown/a x1 >all"]);
    bench.rules.configure(spec(TWO), clock);
    assert!(bench.at(6, None).is_empty());
    assert_eq!(
        bench.at(7, ready("a")),
        ["7 -serverRecovered serverDown/a x1 >all"]
    );
}

#[test]
fn what_is_over_is_forgotten_and_the_rest_is_bounded() {
    let mut bench = Bench::new(TWO);
    let most = crate::base::limits::ALERT_KEYS;
    let clock = bench.clock(0);
    let names = (0..most + 50).map(|number| format!("s{number}"));
    for fact in names.clone().filter_map(|name| down(&name)) {
        assert!(bench.rules.fact(&fact, clock).is_empty());
    }
    assert_eq!(bench.rules.troubles.len(), most);
    for fact in names.filter_map(|name| ready(&name)) {
        assert!(bench.rules.fact(&fact, clock).is_empty());
    }
    assert_eq!(bench.rules.troubles.len(), 0);
    bench.at(2, tools("a"));
    bench.at(303, None);
    assert_eq!(bench.rules.troubles.len(), 0);
}

#[test]
fn a_burst_counts_within_its_window() {
    let began = Instant::now();
    let mut burst = Burst::default();
    let window = Duration::from_secs(10);
    let mut add = |at_ms: u64| burst.add(began + Duration::from_millis(at_ms), 1, window);
    assert_eq!(add(0), 1);
    assert_eq!(add(500), 2);
    assert_eq!(add(5000), 3);
    assert_eq!(add(9900), 4);
    assert_eq!(add(10_500), 3);
    assert_eq!(add(1_000_000), 1);
}
