//! `onemcp alerts list|test`: who is told of what as the file says it, and whether that works.
//! Each line on stdout is one JSON object; nothing secret is in it.

use std::io::Write;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::base::exit::EXIT_FALSE;
use crate::base::{sys, time};
use crate::cli::args::AlertsVerb;
use crate::cli::outcome::{Failure, finish, write_line};
use crate::cli::{say, serve, with_log};
use crate::config::alerts::AlertSpec;
use crate::config::alerts::rule::{Knob, RULES, RuleRow, Severity};
use crate::config::alerts::sink::{Kind, SinkSpec, Target};
use crate::config::near::did_you_mean;
use crate::config::settings::Flags;
use crate::config::{Config, load, process_environment};
use crate::journal::alert::message::{Alert, State};
use crate::journal::alert::send::{Around, send};
use crate::journal::alert::speaker;
use crate::mcp::error::{INVALID_PARAMS, RpcError};
use crate::net::stop::Stop;
use crate::net::url::Url;
use crate::secrets::store::Store;
use crate::wire::hex;

/// Gives the exit code.
pub fn run(verb: &AlertsVerb, flags: &Flags, out: &mut dyn Write) -> u8 {
    let result = match verb {
        AlertsVerb::List => list(flags, out),
        AlertsVerb::Test(sink) => test(sink.as_deref(), flags, out),
    };
    finish(result, out)
}

fn configuration(flags: &Flags) -> Result<Config, Failure> {
    let config = load(flags, &process_environment(), &Store::default());
    config.map_err(Failure::Configuration)
}

fn list(flags: &Flags, out: &mut dyn Write) -> Result<u8, Failure> {
    let config = configuration(flags)?;
    for problem in &config.problems {
        if problem.key_path.starts_with("gateway.alerts") {
            say(&format!("onemcp: {problem}"));
        }
    }
    for sink in &config.alerts.sinks {
        write_line(out, &sink_line(sink).to_string())?;
    }
    for row in RULES {
        write_line(out, &rule_line(row, &config.alerts).to_string())?;
    }
    Ok(0)
}

fn sink_line(sink: &SinkSpec) -> Value {
    let to = match &sink.target {
        // Path and query may be the key.
        Some(Target::Http(http)) => Url::parse(http.url.expose()).map(|url| url.origin()).ok(),
        Some(Target::Command(command)) => command.argv.first().map(|word| word.expose().to_owned()),
        Some(Target::Log) => Some("log".to_owned()),
        None => None,
    };
    json!({
        "kind": "sink",
        "name": sink.name,
        "type": sink.kind.as_str(),
        "usable": sink.target.is_some(),
        "to": to,
        "minSeverity": sink.min_severity.as_str(),
        "timeout": ms(sink.timeout),
    })
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn rule_line(row: &RuleRow, spec: &AlertSpec) -> Value {
    let rule = spec.rule(row.rule);
    let mut line = json!({
        "kind": "rule",
        "name": row.name,
        "enabled": rule.enabled,
        "severity": rule.severity.as_str(),
    });
    for knob in row.knobs {
        line[knob.key()] = match knob {
            Knob::Cooldown => ms(rule.cooldown).into(),
            Knob::Recovery => rule.recovery.into(),
            Knob::After => ms(rule.after).into(),
            Knob::Count => rule.count.into(),
            Knob::Window => ms(rule.window).into(),
            Knob::Days => rule.days.into(),
            Knob::Sinks => rule.sinks.clone().map_or("all".into(), Value::from),
            Knob::Servers => rule.servers.clone().map_or("all".into(), Value::from),
        };
    }
    line
}

fn test(name: Option<&str>, flags: &Flags, out: &mut dyn Write) -> Result<u8, Failure> {
    sys::prepare_process();
    let config = configuration(flags)?;
    let sinks = chosen(name, &config.alerts)?;
    let around = Around {
        speaker: speaker(),
        egress_allow: config.settings.egress_allow.clone(),
    };
    let result = with_log(&config.settings, || {
        serve::log_problems(&config.problems);
        let mut all_took = true;
        for sink in sinks {
            let (line, took) = try_sink(sink, &around);
            write_line(out, &line.to_string())?;
            all_took &= took;
        }
        Ok(if all_took { 0 } else { EXIT_FALSE })
    });
    sys::finish_watcher();
    result
}

fn chosen<'s>(name: Option<&str>, spec: &'s AlertSpec) -> Result<Vec<&'s SinkSpec>, Failure> {
    let refused = |text: String| Failure::from(RpcError::new(INVALID_PARAMS, text));
    if spec.is_empty() {
        let text = "there are no sinks; write them under gateway.alerts.sinks";
        return Err(refused(text.to_owned()));
    }
    let Some(name) = name else {
        return Ok(spec.sinks.iter().collect());
    };
    let found: Vec<&SinkSpec> = spec.sinks.iter().filter(|sink| sink.name == name).collect();
    if found.is_empty() {
        let known = spec.sinks.iter().map(|sink| sink.name.as_str());
        let hint = did_you_mean(name, known, "onemcp alerts list shows those that there are");
        return Err(refused(format!("unknown sink {name:?}; {hint}")));
    }
    Ok(found)
}

/// What came of it, and whether it was taken.
fn try_sink(sink: &SinkSpec, around: &Around) -> (Value, bool) {
    let mut line = json!({"sink": sink.name, "type": sink.kind.as_str()});
    let Some(target) = &sink.target else {
        line["ok"] = false.into();
        line["error"] = "something that it needs cannot be filled in".into();
        return (line, false);
    };
    let states: &[State] = match sink.kind {
        // An incident must not stay open.
        Kind::PagerDuty => &[State::Triggered, State::Resolved],
        _ => &[State::Notice],
    };
    for state in states {
        let sent = send(
            target,
            &test_alert(*state),
            around,
            sink.timeout,
            &Stop::default(),
        );
        match sent {
            Ok(answer) => line["answer"] = answer.into(),
            Err(failure) => {
                line["ok"] = false.into();
                line["error"] = format!("failed to {}", failure.why()).into();
                return (line, false);
            }
        }
    }
    line["ok"] = true.into();
    (line, true)
}

fn test_alert(state: State) -> Alert {
    let now = SystemTime::now();
    let mut unique = [0; 8];
    sys::random_bytes(&mut unique);
    let unique = hex::encode(&unique);
    Alert {
        id: format!("test-{unique}"),
        key: "test".to_owned(),
        rule: "test",
        state,
        severity: Severity::Info,
        subject: String::new(),
        title: "test message of onemcp: this sink works".to_owned(),
        detail: format!("sent by onemcp alerts test at {}", time::now_rfc3339()),
        count: 1,
        since: now,
        at: now,
    }
}
