use std::sync::Arc;
use std::time::Duration;

use super::{Judge, Terms, Verdict};
use crate::base::limits;
use crate::journal::audit::call::Call;
use crate::journal::audit::chain::{self, Chain, Keys, Moment};
use crate::journal::audit::event::{Event, Outcome, Reason};
use crate::journal::audit::line;
use crate::journal::audit::record::Record;
use crate::wire::hex;

const SECRET: &[u8] = b"a secret of at least 32 bytes, or more";

fn keys() -> Keys {
    Keys::of(SECRET).expect("a key")
}

fn body(record: &Record<'_>, mark: &ring::hmac::Key) -> Vec<u8> {
    let mut text = Vec::new();
    line::body(record, &|session| chain::mark(mark, session), &mut text);
    text
}

fn at(ms: u64) -> Moment {
    Moment {
        unix_ms: 1_790_000_000_000 + ms,
        mono_ms: ms,
    }
}

fn call(number: u64) -> Vec<u8> {
    let others = ["2025-11-25", "http", "tools/call"];
    let arguments = Some("{\"path\":\"/etc/hosts\"}");
    let mut call = Call::new(Event::ToolCall, ("", others), "read_file", arguments);
    call.goes_to("fs", "");
    call.facts.result_bytes = Some(number);
    call.facts.spent = Duration::from_micros(number);
    said(&call)
}

/// The members of its line.
fn said(call: &Call) -> Vec<u8> {
    let mut text = Vec::new();
    line::call(&call.facts, &call.facts.texts(&call.texts), &mut text);
    text
}

/// A log of so many lines, its opening, checkpoints and end among them.
fn log(lines: u64) -> Vec<Vec<u8>> {
    let keys = keys();
    let public = keys.public();
    let mut chain = Chain::new(keys, "0123456789abcdef", "host", String::new());
    let mut out = Vec::new();
    let opening = format!("\"event\":\"audit.open\",\"outcome\":\"ok\",\"public\":\"{public}\"");
    chain.seal(at(0), opening.as_bytes(), &mut out);
    while chain.seq < lines - 1 {
        match chain.unsigned >= 100 {
            true => chain.sign(at(chain.seq), Event::AuditCheckpoint, &mut out),
            false => chain.seal(at(chain.seq), &call(chain.seq), &mut out),
        }
    }
    chain.sign(at(lines), Event::AuditClose, &mut out);
    out.split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

fn judged<'a>(lines: impl Iterator<Item = &'a [u8]>, terms: Terms) -> Verdict {
    let mut judge = Judge::new(terms);
    for (number, line) in lines.enumerate() {
        judge.line(format!("log:{}", number + 1), line);
    }
    judge.end()
}

fn with_secret() -> Terms {
    Terms {
        keys: Some(Arc::new(keys())),
        ..Terms::default()
    }
}

fn with_public() -> Terms {
    use ring::signature::KeyPair;
    Terms {
        public: Some(keys().signer.public_key().as_ref().to_vec()),
        ..Terms::default()
    }
}

/// As a file would be read: what was one line may be two now.
fn again(lines: &[Vec<u8>], terms: Terms) -> Verdict {
    let text = lines.concat();
    judged(text.split_inclusive(|byte| *byte == b'\n'), terms)
}

#[test]
fn a_log_is_good_as_it_was_written() {
    let lines = log(1000);
    assert_eq!(lines.len(), 1000);
    for terms in [with_secret(), with_public(), Terms::default()] {
        let verdict = again(&lines, terms);
        assert_eq!(verdict.findings, []);
        assert_eq!((verdict.lines, verdict.runs), (1000, 1));
        assert_eq!((verdict.checkpoints, verdict.unsigned), (10, 0));
    }
}

/// The next two lines: what is wrong with a line shows by then.
fn after(lines: &[Vec<u8>], number: usize) -> Vec<u8> {
    lines[number + 1..lines.len().min(number + 3)].concat()
}

/// What is wrong when a log that is good so far goes on with `text`.
fn go_on(judge: &Judge, text: &[u8], ends: bool) -> u64 {
    let mut trial = judge.clone();
    for part in text.split_inclusive(|byte| *byte == b'\n') {
        trial.line("log:1".to_owned(), part);
    }
    match ends {
        true => trial.end().wrong,
        // What is missing is told at the end, unless the log says so before.
        false => trial.verdict.wrong + trial.holes.len() as u64,
    }
}

/// A line that was changed, in its neighbourhood: nothing further away can make it good again.
fn is_found(lines: &[Vec<u8>], at: usize, changed: &[u8]) -> bool {
    let mut near: Vec<Vec<u8>> = lines.to_vec();
    near[at] = changed.to_vec();
    again(&near, with_secret()).wrong > 0
}

#[test]
fn every_flipped_byte_is_found() {
    let lines = log(1000);
    // The judge is at each line what it is there in the whole log.
    let mut judge = Judge::new(with_secret());
    let mut flips = 0;
    for (number, line) in lines.iter().enumerate() {
        let every = if number % 20 == 0 || number == 999 {
            1
        } else {
            97
        };
        for byte in (number % every..line.len()).step_by(every) {
            let mut flipped = line.clone();
            flipped[byte] ^= 1 << (byte % 8);
            let rest = after(&lines, number);
            let text = [flipped, rest].concat();
            let wrong = go_on(&judge, &text, number + 3 > lines.len());
            assert!(wrong > 0, "line {number} byte {byte}");
            flips += 1;
        }
        judge.line("log:1".to_owned(), line);
    }
    assert_eq!(judge.end().findings, []);
    assert!(flips > 30_000, "{flips}");
    // And a few of them in the whole log.
    for number in [0, 1, 500, 998, 999] {
        let mut flipped = lines[number].clone();
        let byte = (number / 2 + 3) % flipped.len();
        flipped[byte] ^= 4;
        assert!(is_found(&lines, number, &flipped), "{number}");
    }
}

#[test]
fn every_missing_line_is_found() {
    let lines = log(1000);
    for terms in [with_secret(), with_public()] {
        let mut judge = Judge::new(terms);
        for (number, line) in lines.iter().enumerate() {
            // A checkpoint tells of what only signatures are known of.
            let rest = lines[number + 1..lines.len().min(number + 110)].concat();
            let wrong = go_on(&judge, &rest, number + 110 > lines.len());
            assert!(wrong > 0, "line {number}");
            judge.line("log:1".to_owned(), line);
        }
    }
}

#[test]
fn lines_of_nothing_are_found_wherever_they_stand() {
    let lines = log(300);
    for blank in [&b"\n"[..], b" \n", b"\xef\xbb\xbf\n", b"x\n"] {
        for at in [0, 1, 150, 299, 300] {
            let mut other = lines.clone();
            other.insert(at, blank.to_vec());
            assert!(again(&other, with_secret()).wrong > 0, "{blank:?} {at}");
        }
    }
}

#[test]
fn order_and_ends_are_found() {
    let lines = log(400);
    for number in (1..398).step_by(7) {
        let mut other = lines.clone();
        other.swap(number, number + 1);
        assert!(again(&other, with_secret()).wrong > 0, "{number}");
        let mut twice = lines.clone();
        twice.insert(number, lines[number].clone());
        assert!(again(&twice, with_secret()).wrong > 0, "{number}");
    }
    for end in [1, 100, 399] {
        assert!(again(&lines[..end], with_secret()).wrong > 0, "{end}");
        let open = Terms {
            is_open: true,
            ..with_secret()
        };
        assert_eq!(again(&lines[..end], open).findings, [], "{end}");
        let partial = Terms {
            is_partial: true,
            ..with_secret()
        };
        assert_eq!(again(&lines[end..], partial).findings, [], "{end}");
        // Who has seen the end elsewhere misses it.
        let seen = Terms {
            is_open: true,
            head: Some(again(&lines, with_secret()).head),
            ..with_secret()
        };
        assert_eq!(again(&lines[..end], seen).wrong, 1);
    }
    let other = Keys::of(b"another secret of at least 32 bytes!!");
    let other = Terms {
        keys: other.map(Arc::new),
        ..Terms::default()
    };
    assert!(again(&lines, other).wrong >= 400);
}

#[test]
fn what_is_missing_is_good_when_the_log_says_so() {
    let keys = keys();
    let mark = keys.mark.clone();
    let opening = format!(
        "\"event\":\"audit.open\",\"outcome\":\"ok\",\"public\":\"{}\"",
        keys.public()
    );
    let mut chain = Chain::new(keys, "0123456789abcdef", "host", String::new());
    let mut out = Vec::new();
    chain.seal(at(0), opening.as_bytes(), &mut out);
    let kept = out.len();
    (0..3).for_each(|number| chain.seal(at(1), &call(number), &mut out));
    out.truncate(kept);
    let gap = Record {
        reason: Some(Reason::Sink),
        count: Some(3),
        detail: "lines 2 to 4",
        ..Record::new(Event::AuditGap, Outcome::Error)
    };
    let before = out.clone();
    chain.seal(at(2), &body(&gap, &mark), &mut out);
    chain.sign(at(3), Event::AuditClose, &mut out);
    let verdict = judged(out.split_inclusive(|byte| *byte == b'\n'), with_secret());
    assert_eq!((verdict.findings, verdict.missing), (vec![], 3));
    let mut silent = before;
    chain.sign(at(4), Event::AuditClose, &mut silent);
    let verdict = judged(silent.split_inclusive(|byte| *byte == b'\n'), with_secret());
    assert_eq!(verdict.wrong, 1, "{:?}", verdict.findings);
}

#[test]
fn fields_of_strangers_stay_one_line() {
    let bad = "a\nb\r\u{1b}[31m\"q\\\u{202e}x\u{2028}\u{2066}\u{7f}\u{0}\u{e0041}\u{feff}é";
    let with = |edit: fn(&mut Record<'static>, &'static str)| {
        let mut record = Record::new(Event::ToolCall, Outcome::Error);
        let text: &'static str = Box::leak(bad.to_owned().into_boxed_str());
        edit(&mut record, text);
        record
    };
    let edits: [fn(&mut Record<'static>, &'static str); 13] = [
        |record, text| record.issuer = text,
        |record, text| record.subject = text,
        |record, text| record.client = text,
        |record, text| record.session = text,
        |record, text| record.protocol = text,
        |record, text| record.transport = text,
        |record, text| record.server = text,
        |record, text| record.method = text,
        |record, text| record.name = text,
        |record, text| record.scopes_used = text,
        |record, text| record.scopes_missing = text,
        |record, text| record.policy = text,
        |record, text| record.detail = text,
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let record = with(edit);
        let line = object(body(&record, &keys().mark));
        assert!(
            line.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
            "{line}"
        );
        let value: serde_json::Value = serde_json::from_str(&line).expect("valid JSON");
        let members = value.as_object().expect("an object");
        let told = members.values().any(|value| value == bad);
        assert!(told || number == 3, "{line}");
    }
    let long: String = "\u{202e}\"".repeat(100_000);
    let record = Record {
        issuer: &long,
        subject: &long,
        client: &long,
        protocol: &long,
        transport: &long,
        server: &long,
        method: &long,
        name: &long,
        scopes_used: &long,
        scopes_missing: &long,
        policy: &long,
        detail: &long,
        ..Record::new(Event::ToolCall, Outcome::Error)
    };
    is_bounded(body(&record, &keys().mark));
    let others = ["2025-11-25", "http", "tools/call"];
    let mut call = Call::new(Event::ToolCall, (&long, others), &long, Some(&long));
    call.goes_to(&long, &long);
    is_bounded(said(&call));
}

fn object(members: Vec<u8>) -> String {
    format!("{{{}}}", String::from_utf8(members).expect("text"))
}

#[track_caller]
fn is_bounded(members: Vec<u8>) {
    let line = object(members);
    let bytes = line.len();
    assert!(bytes < limits::AUDIT_LINE_BYTES - 1024, "{bytes}");
    assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
}

#[test]
fn texts_of_a_call_stay_within_its_line() {
    let bad = "a\nb\u{1b}[31m\"q\\\u{202e}é";
    for arguments in [None, Some(bad), Some("x".repeat(5000).as_str())] {
        let others = ["2025-11-25", "http", "tools/call"];
        let mut call = Call::new(Event::ToolCall, ("", others), bad, arguments);
        call.goes_to("before", "before");
        call.goes_to(bad, bad);
        let line = object(said(&call));
        assert!(
            line.is_ascii() && !line.contains(char::is_control),
            "{line}"
        );
        let value: serde_json::Value = serde_json::from_str(&line).expect("valid JSON");
        assert_eq!([&value["name"], &value["server"], &value["args"]], [bad; 3]);
        let sum = arguments.map(|text| {
            let sum = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
            hex::encode(sum.as_ref())
        });
        assert_eq!(value["args_sha256"].as_str().map(str::to_owned), sum);
        assert_eq!(
            value["args_bytes"].as_u64(),
            arguments.map(|text| text.len() as u64)
        );
    }
}

#[test]
fn a_code_is_the_hmac_that_is_documented() {
    let keys = keys();
    let key = keys.first("0123456789abcdef");
    let digest = chain::digest_of(b"some line");
    let known = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let tag = ring::hmac::sign(&known, digest.as_ref());
    assert_eq!(chain::code(&key, &digest).as_ref(), tag.as_ref());
}
