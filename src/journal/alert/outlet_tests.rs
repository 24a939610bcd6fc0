use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Outlet;
use crate::base::limits;
use crate::base::secret::Secret;
use crate::config::alerts::rule::Severity;
use crate::config::alerts::sink::{CommandTarget, Kind, SinkSpec, Target};
use crate::journal::alert::message::{Alert, State};
use crate::journal::alert::send::Around;
use crate::journal::alert::speaker;

fn sink(target: Option<Target>) -> SinkSpec {
    SinkSpec {
        name: "script".into(),
        kind: Kind::Command,
        min_severity: Severity::Info,
        timeout: Duration::from_secs(20),
        target,
    }
}

fn shell(script: &str, argument: &str) -> Option<Target> {
    let words = ["sh", "-c", script, "sh", argument];
    let argv = words.map(|word| Secret::new(word.to_owned())).into();
    let env = Vec::new();
    Some(Target::Command(CommandTarget { argv, env }))
}

fn alert(number: usize) -> Arc<Alert> {
    let at = SystemTime::UNIX_EPOCH;
    Arc::new(Alert {
        id: format!("id-{number}"),
        key: "k".into(),
        rule: "drops",
        state: State::Triggered,
        severity: Severity::Info,
        subject: String::new(),
        title: format!("number {number}"),
        detail: String::new(),
        count: 1,
        since: at,
        at,
    })
}

fn start(target: Option<Target>) -> Outlet {
    let around = Around {
        speaker: speaker(),
        egress_allow: Vec::new(),
    };
    Outlet::start(sink(target), around).unwrap()
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn the_oldest_is_lost_and_what_waits_goes_to_the_new_target() {
    let folder = std::env::temp_dir().join(format!("onemcp-outlet-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let note = folder.join("note");
    let mut outlet = start(None);
    (0..limits::ALERT_QUEUE + 51).for_each(|number| outlet.push(alert(number)));
    // The thread may have taken the first one out before it found that there is no target.
    let lost = outlet.take_lost();
    assert!((50..=51).contains(&lost), "{lost}");
    assert_eq!(outlet.take_lost(), 0);
    let target = shell(
        "echo $ALERT_TITLE > $1.new; mv $1.new $1",
        note.to_str().unwrap(),
    );
    outlet.configure(sink(target));
    // One that cannot be filled in any more stays as it was.
    outlet.configure(sink(None));
    let mut text = String::new();
    eventually("it arrives", || {
        text = std::fs::read_to_string(&note).unwrap_or_default();
        !text.is_empty()
    });
    assert!(
        ["number 0\n", "number 51\n"].contains(&text.as_str()),
        "{text}"
    );
    outlet.stop();
    assert!(outlet.has_ended());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn it_can_be_stopped_in_the_middle_of_a_try() {
    let folder = std::env::temp_dir().join(format!("onemcp-outlet-s-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let note = folder.join("pid");
    let script = "echo $$ > $1.new; mv $1.new $1; sleep 300 & wait";
    let mut outlet = start(shell(script, note.to_str().unwrap()));
    outlet.push(alert(1));
    eventually("it runs", || note.exists());
    let pid = std::fs::read_to_string(&note).unwrap();
    let pid: i32 = pid.trim().parse().unwrap();
    let began = Instant::now();
    outlet.stop();
    assert!(began.elapsed() < Duration::from_secs(15));
    let living = crate::base::family::member(pid).filter(|member| !member.dead);
    assert_eq!(living, None);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn at_the_end_it_sends_what_it_can_in_time() {
    let folder = std::env::temp_dir().join(format!("onemcp-outlet-e-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let note = folder.join("note");
    let mut outlet = start(shell("echo $ALERT_TITLE >> $1", note.to_str().unwrap()));
    (0..100).for_each(|number| outlet.push(alert(number)));
    let began = Instant::now();
    outlet.end(began + Duration::from_millis(1500));
    eventually("it ends", || outlet.has_ended());
    assert!(began.elapsed() < Duration::from_secs(10));
    let lines = std::fs::read_to_string(&note).unwrap().lines().count();
    assert!((1..=2).contains(&lines), "{lines}");
    outlet.stop();
    std::fs::remove_dir_all(&folder).unwrap();
}
