//! Start and end of the audit log, and its thread: it takes what was told, chains it and hands it
//! to every sink; it signs what there is so far every so often.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use ::ring::signature::KeyPair;

use crate::base::secret::Secret;
use crate::base::{limits, sys, thread};
use crate::config::audit::AuditSettings;
use crate::journal::audit::chain::{CODE, Chain, Keys, now};
use crate::journal::audit::event::{Event, Outcome, Reason};
use crate::journal::audit::outlet::Outlet;
use crate::journal::audit::queue::{Batch, Queued};
use crate::journal::audit::record::Record;
use crate::journal::audit::target::{self, Target, Webhook};
use crate::journal::audit::{DESK, Desk, QUEUE};
use crate::journal::audit::{FAILING, IS_FULL, IS_ON, LOST, MUST_BLOCK, SHOWS};
use crate::journal::audit::{head, judge, key, line, mark, rejects};
use crate::journal::fact::{self, Fact};
use crate::journal::file::{Rotation, aside};
use crate::journal::ring;
use crate::net::egress::Allowed;
use crate::secrets::replace::replace;
use crate::wire::hex;

/// Where it is when nobody says otherwise, in the state directory.
pub const FILE: &str = "audit.log";

/// What the settings come to.
pub struct Plan<'a> {
    pub settings: &'a AuditSettings,
    pub headers: &'a [(String, Secret)],
    pub egress_allow: &'a [Allowed],
    /// The state directory, if one is known.
    pub state: Option<&'a Path>,
    /// Somebody has to authenticate: then `auto` is a file.
    pub has_auth: bool,
    /// A client is on stdout.
    pub is_stdio: bool,
}

/// The running audit log. `finish` writes what is left.
pub struct Audit {
    thread: JoinHandle<Vec<Outlet>>,
}

/// Starts it, if there is to be one.
///
/// # Errors
/// Why there can be none, behind "failed to ...".
pub fn start(plan: &Plan<'_>) -> Result<Option<Audit>, String> {
    let sinks = plan.sinks();
    if sinks.is_empty() {
        return Ok(None);
    }
    let (keys, was_used) = plan.keys()?;
    let mut outlets = Vec::new();
    let mut end = LogEnd::default();
    for name in sinks {
        let target = match name {
            "file" => plan.target_file(&keys, was_used, &mut end)?,
            _ => plan.target(name)?,
        };
        let outlet = Outlet::start(name, target);
        outlets.push(outlet.map_err(|error| format!("start the audit log: {error}"))?);
    }
    let mut boot = [0; 8];
    sys::random_bytes(&mut boot);
    let boot = hex::encode(&boot);
    let desk = Arc::new(Desk {
        mark: keys.mark.clone(),
        began: Instant::now(),
        blocks: plan.settings.blocks,
        shown: shown(&plan.settings.arguments),
    });
    let opening = opening(&keys, &end);
    let chain = Chain::new(keys, &boot, &sys::host_name(), end.code);
    let writer = Writer {
        desk: desk.clone(),
        chain,
        boot,
        outlets,
        signed: Instant::now(),
        log_lost: ring::lost(),
    };
    QUEUE.open(desk.began);
    let run = move || writer.run(&opening);
    let thread = thread::spawn("audit", limits::STACK_WORKER_BYTES, run)
        .map_err(|error| format!("start the audit log: {error}"))?;
    *DESK.write().unwrap_or_else(PoisonError::into_inner) = Some(desk);
    SHOWS.store(!plan.settings.arguments.is_empty(), Ordering::Relaxed);
    IS_ON.store(true, Ordering::Release);
    Ok(Some(Audit { thread }))
}

impl Audit {
    /// Writes what is queued and the line that ends the log; gives up on what takes nothing.
    pub fn finish(self) {
        IS_ON.store(false, Ordering::Release);
        *DESK.write().unwrap_or_else(PoisonError::into_inner) = None;
        let deadline = Instant::now() + limits::LOG_FINISH;
        QUEUE.close();
        match self.thread.join() {
            Ok(outlets) => {
                outlets.iter().for_each(Outlet::close);
                outlets
                    .into_iter()
                    .for_each(|outlet| outlet.finish(deadline));
            }
            Err(_) => log::error!("thread of the audit log panicked"),
        }
        MUST_BLOCK.store(false, Ordering::Relaxed);
        IS_FULL.store(false, Ordering::Relaxed);
        FAILING.store(0, Ordering::Relaxed);
    }
}

impl Plan<'_> {
    fn sinks(&self) -> Vec<&'static str> {
        const REAL: [&str; 4] = ["stdout", "file", "syslog", "webhook"];
        let named = |name: &str| self.settings.sinks.iter().any(|sink| sink == name);
        if named("auto") && self.has_auth {
            return vec![match self.file() {
                Some(_) => "file",
                None => "stdout",
            }];
        }
        REAL.into_iter().filter(|name| named(name)).collect()
    }

    fn file(&self) -> Option<PathBuf> {
        let own = self.settings.file.clone();
        own.or_else(|| Some(self.state?.join(FILE)))
    }

    /// And whether they are our own and were there before: then there was a log.
    fn keys(&self) -> Result<(Keys, bool), String> {
        let told = |why: String| format!("read the key of the audit log: {why}");
        if let Some(path) = &self.settings.key_file {
            return Ok((key::read(path).map_err(told)?, false));
        }
        let Some(state) = self.state else {
            return Err(told("no state directory; give --audit-key-file".to_owned()));
        };
        make_folder(state).map_err(|error| told(error.to_string()))?;
        let path = state.join(key::FILE);
        let was_there = path.exists();
        if !was_there && let Some(log) = self.file().filter(|log| head::path(log).exists()) {
            return Err(told(format!(
                "{} is missing, and {} was written with it; put it back, or put the log and \
                 its head away, too",
                path.display(),
                log.display()
            )));
        }
        Ok((key::read_or_make(&path).map_err(told)?, was_there))
    }

    fn target(&self, name: &str) -> Result<Target, String> {
        let settings = self.settings;
        Ok(match name {
            "stdout" if self.is_stdio => {
                return Err("audit to stdout: a client is there; choose file".to_owned());
            }
            "stdout" => Target::Stdout,
            "syslog" => Target::syslog(&settings.syslog),
            _ => Target::Webhook(Webhook {
                url: settings
                    .webhook
                    .clone()
                    .ok_or_else(|| "audit to a webhook: no URL; give --audit-webhook".to_owned())?,
                headers: self.headers.to_vec(),
                egress_allow: self.egress_allow.to_vec(),
            }),
        })
    }

    /// `was_used`: somebody has written with these keys before.
    fn target_file(&self, keys: &Keys, was_used: bool, end: &mut LogEnd) -> Result<Target, String> {
        let path = self.file().ok_or_else(|| {
            "write the audit log: no state directory; give --audit-file".to_owned()
        })?;
        let told = |error| format!("write the audit log {}: {error}", path.display());
        if let Some(folder) = path.parent() {
            make_folder(folder).map_err(told)?;
        }
        let rotation = Rotation {
            max_bytes: self.settings.max_bytes,
            max_files: self.settings.max_files,
        };
        let (mut file, lock) = target::file(path.clone(), rotation).map_err(told)?;
        // Only who named the file himself knows where it leads.
        if self.settings.file.is_none() {
            file.refuse_links();
            if path.is_symlink() {
                return Err(told(io::Error::other(
                    "is a link; take it away, or name the file by --audit-file",
                )));
            }
        }
        *end = LogEnd::of(&path);
        // What is no regular file is not there to be read again.
        if path.is_file() || !path.exists() {
            let was_used = was_used && self.settings.file.is_none();
            end.cut = LogEnd::missing(&path, keys, was_used).map_err(told)?;
        }
        if let Some(why) = end.cut {
            log::warn!("audit log does not go on from where it ended path={path:?}: {why}");
            // So the run begins a file, and those before it can be kept as they are.
            if path.exists() && rotation.max_files > 0 {
                file.put_aside().map_err(told)?;
            }
        }
        Ok(Target::File(file, lock))
    }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

fn shown(items: &[String]) -> Vec<(String, String)> {
    let pairs = items.iter().filter_map(|item| item.rsplit_once('/'));
    pairs
        .map(|(server, tool)| (server.to_owned(), tool.to_owned()))
        .collect()
}

/// What a file holds that is gone on with.
#[derive(Default)]
struct LogEnd {
    /// Of its last whole line; empty in a new file.
    code: String,
    /// Bytes behind that: whoever wrote them was killed.
    torn: usize,
    is_closed: bool,
    /// Why it is not the end that the log had.
    cut: Option<&'static str>,
}

impl LogEnd {
    /// Whether it is the end that the log had, as its head tells. A log that begins gets its first
    /// head here: who is killed soon after has one. `was_used`: there must have been a log.
    fn missing(log: &Path, keys: &Keys, was_used: bool) -> io::Result<Option<&'static str>> {
        let has_text = std::fs::metadata(log).is_ok_and(|file| file.len() > 0);
        let is_there = has_text || aside(log, 1).exists();
        Ok(match head::read(log, keys.signer.public_key().as_ref()) {
            Err(_) => Some("its head is not as it was written"),
            Ok(Some(head)) if head.is_in(log) => None,
            Ok(Some(_)) => Some("its last signed line is missing"),
            Ok(None) if is_there => Some("its head is missing"),
            Ok(None) if was_used => Some("it is missing, and its head"),
            Ok(None) => {
                let text = head::text(&keys.signer, "-", 0, "-");
                replace(&head::path(log), text.as_bytes())?;
                None
            }
        })
    }

    fn of(path: &Path) -> LogEnd {
        let found = LogEnd::read(path).filter(|text| !text.is_empty());
        let Some(text) = found.or_else(|| LogEnd::read(&aside(path, 1))) else {
            return LogEnd::default();
        };
        let whole = memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1);
        let last = text[..whole].trim_ascii_end();
        let start = memchr::memrchr(b'\n', last).map_or(0, |at| at + 1);
        let last = &last[start..];
        let code = memchr::memmem::rfind(last, CODE.as_bytes());
        let code = code.and_then(|at| last.get(at + CODE.len()..at + CODE.len() + 64));
        let closing = format!("\"event\":\"{}\"", Event::AuditClose.as_str());
        LogEnd {
            code: String::from_utf8_lossy(code.unwrap_or_default()).into_owned(),
            torn: text.len() - whole,
            is_closed: memchr::memmem::find(last, closing.as_bytes()).is_some(),
            cut: None,
        }
    }

    /// The last two lines at least.
    fn read(path: &Path) -> Option<Vec<u8>> {
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok().filter(|file| file.is_file())?.len();
        let most = 4 * limits::AUDIT_LINE_BYTES as u64;
        file.seek(SeekFrom::Start(length.saturating_sub(most)))
            .ok()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).ok()?;
        Some(text)
    }
}

/// The members of the first line of a run.
fn opening(keys: &Keys, end: &LogEnd) -> Vec<u8> {
    let mut body = format!(
        "\"event\":\"{}\",\"outcome\":\"ok\"",
        Event::AuditOpen.as_str()
    );
    let reason = match end.cut {
        Some(_) => Some(Reason::Cut),
        None if !end.code.is_empty() && !end.is_closed => Some(Reason::Killed),
        None => None,
    };
    if let Some(reason) = reason {
        body.push_str(",\"reason\":\"");
        body.push_str(reason.as_str());
        body.push('"');
    }
    if end.torn > 0 {
        body.push_str(&format!(",\"torn\":{}", end.torn));
    }
    body.push_str(",\"public\":\"");
    body.push_str(&keys.public());
    body.push('"');
    body.into_bytes()
}

/// The thread.
struct Writer {
    desk: Arc<Desk>,
    chain: Chain,
    boot: String,
    outlets: Vec<Outlet>,
    /// When the last checkpoint was.
    signed: Instant,
    /// Lines of the ordinary log that were lost, as far as told.
    log_lost: u64,
}

impl Writer {
    fn run(mut self, opening: &[u8]) -> Vec<Outlet> {
        let mut text = Vec::new();
        self.chain.seal(now(self.desk.began), opening, &mut text);
        self.hand_out(&mut text, 1, true);
        let desk = self.desk.clone();
        let mut batch = Batch::empty();
        while QUEUE.take(self.due(), &mut batch) {
            text.clear();
            self.take(&batch, &mut text);
        }
        text.clear();
        let first = self.chain.seq + 1;
        self.chain
            .sign(now(desk.began), Event::AuditClose, &mut text);
        self.hand_out(&mut text, first, true);
        self.outlets
    }

    /// When the next checkpoint is.
    fn due(&self) -> Instant {
        self.signed + limits::AUDIT_CHECKPOINT_EVERY
    }

    fn take(&mut self, batch: &Batch, text: &mut Vec<u8>) {
        let first = self.chain.seq + 1;
        let mut is_signed = false;
        let now_at = now(self.desk.began);
        batch.each(|mono_ms, event| {
            let at = now_at.at(mono_ms);
            self.chain.seal_with(at, text, |out| match event {
                Queued::Body(body) => out.extend_from_slice(body),
                Queued::Call(facts, texts) => line::call(facts, &facts.texts(texts), out),
            });
            if self.chain.unsigned >= limits::AUDIT_CHECKPOINT_LINES {
                self.chain.sign(at, Event::AuditCheckpoint, text);
                is_signed = true;
            }
        });
        if batch.lost > 0 {
            self.tell_lost(batch.lost, text);
        }
        self.tell_log_lost(text);
        let is_due = self.signed.elapsed() >= limits::AUDIT_CHECKPOINT_EVERY;
        // An idle log needs no checkpoint: the last line is one.
        if is_due && self.chain.unsigned > 1 {
            let at = now(self.desk.began);
            self.chain.sign(at, Event::AuditCheckpoint, text);
            is_signed = true;
        }
        if is_signed || is_due {
            self.signed = Instant::now();
        }
        if !text.is_empty() {
            self.hand_out(text, first, is_signed);
        }
        IS_FULL.store(false, Ordering::Relaxed);
        judge(self.desk.blocks);
        rejects::settle(Instant::now());
    }

    /// Leaves anything in `text`: the last sink may take it for other room.
    fn hand_out(&self, text: &mut Vec<u8>, first: u64, syncs: bool) {
        let numbers = (first, self.chain.seq);
        let head = syncs.then(|| self.chain.stand(&self.boot));
        let head = head.as_deref();
        let Some((last, others)) = self.outlets.split_last() else {
            return;
        };
        let others = others.iter();
        others.for_each(|outlet| outlet.push(text, numbers, head));
        last.take(text, numbers, head);
    }

    /// In the place where they would have stood.
    fn tell_lost(&mut self, count: u64, text: &mut Vec<u8>) {
        LOST.fetch_add(count, Ordering::Relaxed);
        let what = "audit events".to_owned();
        fact::note(Fact::Lost { what, count });
        let record = Record {
            reason: Some(Reason::Queue),
            count: Some(count),
            ..Record::new(Event::AuditGap, Outcome::Error)
        };
        self.seal(&record, text);
    }

    fn tell_log_lost(&mut self, text: &mut Vec<u8>) {
        let lost = ring::lost();
        let count = lost - std::mem::replace(&mut self.log_lost, lost);
        if count > 0 {
            let record = Record {
                count: Some(count),
                ..Record::new(Event::LogDropped, Outcome::Error)
            };
            self.seal(&record, text);
        }
    }

    fn seal(&mut self, record: &Record<'_>, text: &mut Vec<u8>) {
        let at = now(self.desk.began);
        self.chain
            .seal_with(at, text, |out| line::body(record, &mark, out));
    }
}
