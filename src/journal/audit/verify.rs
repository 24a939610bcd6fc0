//! Judges an audit log: whether each line is as it was written, and none is missing. Pure: lines
//! come from the caller, in the order of the files. What it proves, and what it cannot, is in
//! docs/audit-events.md.

use std::borrow::Cow;
use std::sync::Arc;

use ring::digest;
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::base::limits;
use crate::journal::audit::chain::{
    BEGIN, CODE, END, Key, Keys, SIGNATURE, code, digest_of, next_key,
};
use crate::journal::audit::event::{Event, Reason};
use crate::journal::audit::head::Head;
use crate::wire::hex;
use crate::wire::json::{Rules, string_value};
use crate::wire::members::Members;

const RULES: Rules = Rules {
    depth: 3,
    lone_surrogates: true,
};

/// What the caller says of the log.
#[derive(Clone, Default)]
pub struct Terms {
    /// Without the secret, only what checkpoints sign can be judged.
    pub keys: Option<Arc<Keys>>,
    /// Of the checkpoints; the secret says it, too.
    pub public: Option<Vec<u8>>,
    /// The first line need not be the first of all.
    pub is_partial: bool,
    /// The gateway may be writing: the end need not be signed.
    pub is_open: bool,
    /// Lines of others may stand between, as on stdout.
    pub is_mixed: bool,
    /// A line with this code must be there: it was seen elsewhere.
    pub head: Option<String>,
    /// The log went as far as this.
    pub stood: Option<Head>,
}

/// What was found wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `FILE:LINE`.
    pub place: String,
    pub what: String,
}

#[derive(Debug, Clone, Default)]
pub struct Verdict {
    pub lines: u64,
    pub runs: u64,
    /// Runs that were not closed, but for the last one.
    pub killed: u64,
    pub checkpoints: u64,
    /// Lines behind the last checkpoint.
    pub unsigned: u64,
    /// Lines that are missing, and said to be.
    pub missing: u64,
    /// The code of the last line.
    pub head: String,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// How many there are.
    pub wrong: u64,
}

/// Lines that are missing in the run at hand, until the log says so.
#[derive(Clone, Copy)]
struct Hole {
    first: u64,
    last: u64,
}

#[derive(Clone)]
pub struct Judge {
    terms: Terms,
    verdict: Verdict,
    place: String,
    boot: String,
    seq: u64,
    /// Key of the line behind `seq`.
    key: Key,
    sum: digest::Context,
    /// The sum counts from a checkpoint, or from the first line of a run.
    is_summed: bool,
    is_closed: bool,
    holes: Vec<Hole>,
    /// A line that cannot be read: good if the next run says that it was torn.
    torn: Option<(String, usize)>,
    has_head: bool,
    has_stood: bool,
}

/// The members of a line that its place in the chain depends on.
struct Line<'a> {
    /// What its code is made of.
    coded: &'a str,
    mac: &'a str,
    members: Members<'a>,
}

impl<'a> Line<'a> {
    fn read(text: &'a [u8]) -> Option<Line<'a>> {
        let text = std::str::from_utf8(text).ok()?;
        let whole = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
        let at = whole.len().checked_sub(64)?;
        let (coded, mac) = (whole.get(..at)?.strip_suffix(CODE)?, &whole[at..]);
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_plain = text
            .bytes()
            .rev()
            .skip(1)
            .all(|byte| (b' '..0x7f).contains(&byte));
        if !mac.bytes().all(is_hex) || !is_plain {
            return None;
        }
        Some(Line {
            coded: &text[..BEGIN.len() + coded.len()],
            mac,
            members: Members::parse(text.trim_end(), 1, RULES).ok()?,
        })
    }

    fn text(&self, key: &str) -> Cow<'a, str> {
        let raw = self.members.get(key);
        raw.and_then(string_value).unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        let raw = self.members.get(key).unwrap_or_default();
        raw.parse().unwrap_or_default()
    }

    fn is(&self, event: Event) -> bool {
        self.text("event") == event.as_str()
    }
}

impl Judge {
    pub fn new(mut terms: Terms) -> Judge {
        if let Some(keys) = &terms.keys {
            use ring::signature::KeyPair;
            terms.public = Some(keys.signer.public_key().as_ref().to_vec());
        }
        Judge {
            terms,
            verdict: Verdict::default(),
            place: String::new(),
            boot: String::new(),
            seq: 0,
            key: Key::default(),
            sum: digest::Context::new(&digest::SHA256),
            is_summed: false,
            is_closed: false,
            holes: Vec::new(),
            torn: None,
            has_head: false,
            has_stood: false,
        }
    }

    fn wrong(&mut self, what: impl Into<String>) {
        let place = self.place.clone();
        self.wrong_at(place, what.into());
    }

    pub fn wrong_at(&mut self, place: String, what: String) {
        self.verdict.wrong += 1;
        if self.verdict.findings.len() < limits::AUDIT_FINDINGS {
            self.verdict.findings.push(Finding { place, what });
        }
    }

    /// The next line, its line break included.
    pub fn line(&mut self, place: String, text: &[u8]) {
        self.place = place;
        let Some(line) = Line::read(text) else {
            // One of ours that was changed to look like another's is missing.
            if self.terms.is_mixed && !text.starts_with(BEGIN.as_bytes()) {
                return;
            }
            if let Some((place, _)) = self.torn.take() {
                self.wrong_at(place, "is no line of an audit log".to_owned());
            }
            // Nothing can have been torn so short, and nothing before the first line.
            if self.verdict.lines == 0 || text.trim_ascii().is_empty() {
                return self.wrong("is no line of an audit log");
            }
            self.torn = Some((self.place.clone(), text.trim_ascii_end().len()));
            return;
        };
        self.verdict.lines += 1;
        self.has_head |= self.terms.head.as_deref() == Some(line.mac);
        let stood = self.terms.stood.as_ref();
        self.has_stood |= stood.is_some_and(|head| head.mac == line.mac);
        let boot = line.text("boot");
        if boot != self.boot {
            self.new_run(&line, &boot);
        } else {
            self.same_run(&line);
        }
        let digest = digest_of(line.coded.as_bytes());
        self.check_code(&line, &digest);
        if line.is(Event::AuditCheckpoint) || line.is(Event::AuditClose) {
            self.check_signature(&line);
        }
        self.is_closed = line.is(Event::AuditClose);
        if line.is(Event::AuditGap) {
            self.filled(&line);
        }
        self.sum.update(digest.as_ref());
        self.verdict.unsigned += 1;
        line.mac.clone_into(&mut self.verdict.head);
    }

    fn new_run(&mut self, line: &Line<'_>, boot: &str) {
        let is_first = self.verdict.lines == 1;
        let (seq, prev) = (line.number("seq"), line.text("prev"));
        let begins = seq == 1 && line.is(Event::AuditOpen);
        if let Some((place, length)) = self.torn.take()
            && (line.number("torn") != length as u64 || !begins)
        {
            self.wrong_at(place, "is no line of an audit log".to_owned());
        }
        self.tell_holes();
        if is_first && !self.terms.is_partial && !(begins && prev.is_empty()) {
            self.wrong("does not begin with the first line of a log: lines before it are missing");
        }
        if !is_first && !begins {
            self.wrong("the first lines of this run are missing");
        }
        if !is_first && prev != self.verdict.head {
            self.wrong("does not follow the line before it: lines between are missing or changed");
        }
        if begins
            && line.text("reason") == Reason::Cut.as_str()
            && !(is_first && self.terms.is_partial)
        {
            self.wrong(
                "the end of the log before this was cut off: keep what is before this elsewhere, \
                 and go on with --partial",
            );
        }
        self.verdict.runs += 1;
        self.verdict.killed += u64::from(!is_first && !self.is_closed);
        boot.clone_into(&mut self.boot);
        self.sum = digest::Context::new(&digest::SHA256);
        self.is_summed = begins;
        self.verdict.unsigned = 0;
        if let Some(keys) = &self.terms.keys {
            self.key = keys.first(boot);
        }
        self.seq = 1;
        self.step_to(seq);
        if begins
            && let Some(public) = &self.terms.public
            && line.text("public") != hex::encode(public)
        {
            self.wrong("was not written with this key");
        }
    }

    fn same_run(&mut self, line: &Line<'_>) {
        if let Some((place, _)) = self.torn.take() {
            self.wrong_at(place, "is no line of an audit log".to_owned());
        }
        let seq = line.number("seq");
        if seq <= self.seq {
            self.wrong("stands in the wrong place, or twice");
            return;
        }
        if seq == self.seq + 1 {
            if line.text("prev") != self.verdict.head {
                self.wrong("does not follow the line before it");
            }
        } else {
            self.holes.push(Hole {
                first: self.seq + 1,
                last: seq - 1,
            });
            self.is_summed = false;
        }
        self.step();
        self.step_to(seq);
    }

    fn step(&mut self) {
        if self.terms.keys.is_some() {
            self.key = next_key(&self.key);
        }
        self.seq += 1;
    }

    /// A number that nobody can have reached is not looked for.
    fn step_to(&mut self, seq: u64) {
        if seq.saturating_sub(self.seq) > limits::AUDIT_STEPS {
            self.seq = seq;
            return;
        }
        while self.seq < seq {
            self.step();
        }
    }

    fn check_code(&mut self, line: &Line<'_>, digest: &digest::Digest) {
        if self.terms.keys.is_none() {
            return;
        }
        let made = hex::encode(code(&self.key, digest).as_ref());
        if made != line.mac {
            self.wrong("is not as it was written");
        }
    }

    fn check_signature(&mut self, line: &Line<'_>) {
        self.verdict.checkpoints += 1;
        let fresh = digest::Context::new(&digest::SHA256);
        let sum = std::mem::replace(&mut self.sum, fresh).finish();
        let count = std::mem::take(&mut self.verdict.unsigned);
        if self.is_summed && line.number("count") != count {
            self.wrong("signs another number of lines");
        } else if self.is_summed && line.text("sum") != hex::encode(sum.as_ref()) {
            self.wrong("signs other lines than those before it");
        }
        self.is_summed = true;
        let Some(public) = &self.terms.public else {
            return;
        };
        let at = line.coded.rfind(SIGNATURE).unwrap_or_default();
        let signed = [&line.coded[..at], &line.text("prev")].concat();
        let signature = hex::decode(&line.text("sig")).unwrap_or_default();
        let key = UnparsedPublicKey::new(&ED25519, public);
        if key.verify(signed.as_bytes(), &signature).is_err() {
            self.wrong("is not signed with this key");
        }
    }

    /// A line that says which others are missing here.
    fn filled(&mut self, line: &Line<'_>) {
        let detail = line.text("detail");
        let mut words = detail.split(' ');
        let (Some("lines"), Some(first), Some("to"), Some(last)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            self.verdict.missing += line.number("count");
            return;
        };
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        let (first, last) = (number(first), number(last));
        let is_told = |hole: &Hole| first <= hole.first && hole.last <= last;
        let told = self.holes.iter().filter(|hole| is_told(hole));
        let told: u64 = told.map(|hole| hole.last - hole.first + 1).sum();
        self.verdict.missing += told;
        self.holes.retain(|hole| !is_told(hole));
    }

    fn tell_holes(&mut self) {
        for hole in std::mem::take(&mut self.holes) {
            let Hole { first, last } = hole;
            self.wrong(format!("before this, lines {first} to {last} are missing"));
        }
    }

    /// After the last line.
    pub fn end(mut self) -> Verdict {
        if let Some((place, _)) = self.torn.take() {
            self.wrong_at(
                place,
                "is no line of an audit log, or only begun".to_owned(),
            );
        }
        self.tell_holes();
        if self.verdict.lines == 0 {
            self.wrong("holds no line of an audit log");
        } else if !self.is_closed && !self.terms.is_open {
            self.wrong("the log has no signed end: it is still written, or its end is missing");
        }
        if self.terms.head.is_some() && !self.has_head {
            self.wrong("the line with the code that was given is missing");
        }
        if let Some(head) = self.terms.stood.take()
            && head.seq > 0
            && !self.has_stood
        {
            let Head { seq, boot, .. } = head;
            self.wrong(format!(
                "line {seq} of run {boot} is missing: the end of the log was cut off"
            ));
        }
        if self.is_closed {
            self.verdict.unsigned = 0;
        }
        self.verdict
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
