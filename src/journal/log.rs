//! The log: takes each record, renders it once for each destination and queues it there
//! (`sink`). Nobody who logs ever waits. Process-wide, as the `log` crate wants it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Instant;

use log::{Metadata, Record};

use crate::base::mask::masked;
use crate::base::{limits, thread, time};
use crate::config::settings::{LogFormat, Settings, Transport};
use crate::journal::context;
use crate::journal::file::{LogFile, Rotation};
use crate::journal::level::Levels;
use crate::journal::line::{Line, Look};
use crate::journal::server_files::ServerFiles;
use crate::journal::sink::{Destination, Sink, stderr_look};

pub use crate::journal::line::SERVER;
pub use crate::journal::ring::lost;
pub use crate::journal::sink::reopen;

/// The running log. `finish` writes what is queued.
pub struct Log(());

/// Everything that is started once.
struct Journal {
    sinks: RwLock<Vec<Sink>>,
    servers: RwLock<Option<Sink>>,
}

static JOURNAL: OnceLock<Journal> = OnceLock::new();
/// `None` before the start.
static LEVELS: RwLock<Option<Levels>> = RwLock::new(None);
static WITH_ARGUMENTS: AtomicBool = AtomicBool::new(false);
/// Whether the stderr of servers has files of its own.
static SERVER_FILES: AtomicBool = AtomicBool::new(false);

/// Where the log goes, and how it looks there.
struct Plan {
    format: LogFormat,
    /// Not for a client that shows our stderr to people, when there is a file.
    stderr: bool,
    file: Option<PathBuf>,
    server_folder: Option<PathBuf>,
    rotation: Rotation,
}

impl Plan {
    fn of(settings: &Settings) -> Plan {
        Plan {
            format: settings.log_format,
            stderr: settings.log_file.is_none() || settings.transport != Transport::Stdio,
            file: settings.log_file.clone(),
            server_folder: settings.server_log_dir.clone(),
            rotation: Rotation {
                max_bytes: settings.log_max_bytes,
                max_files: settings.log_max_files,
            },
        }
    }

    fn start(self) -> io::Result<Journal> {
        let (on_stderr, in_files) = match self.format {
            LogFormat::Json => (Look::Json, Look::Json),
            LogFormat::Text => (stderr_look(), Look::Text { colour: false }),
        };
        let mut file = self.file.map(|path| LogFile::new(path, self.rotation));
        let mut sinks = Vec::new();
        // A file that cannot be written must be told of somewhere.
        if self.stderr || file.as_mut().is_some_and(|file| !file.is_good()) {
            sinks.push(Sink::start("journal", Destination::Stderr, on_stderr)?);
        }
        if let Some(file) = file {
            sinks.push(Sink::start(
                "journal-file",
                Destination::File(file),
                in_files,
            )?);
        }
        let servers = self.server_folder.map(|folder| {
            let files = Destination::Servers(ServerFiles::new(folder, self.rotation));
            Sink::start("journal-servers", files, in_files)
        });
        let servers = servers.transpose()?;
        SERVER_FILES.store(servers.is_some(), Ordering::Relaxed);
        Ok(Journal {
            sinks: RwLock::new(sinks),
            servers: RwLock::new(servers),
        })
    }
}

/// Starts the threads of the log and makes it the program's.
///
/// # Errors
/// When the system refuses a thread, or there is a log already.
pub fn start(settings: &Settings) -> io::Result<Log> {
    let twice = || io::Error::from(io::ErrorKind::AlreadyExists);
    JOURNAL
        .set(Plan::of(settings).start()?)
        .map_err(|_| twice())?;
    let journal = JOURNAL.get().ok_or_else(twice)?;
    log::set_logger(journal).map_err(io::Error::other)?;
    adopt(settings);
    std::panic::set_hook(Box::new(panicked));
    Ok(Log(()))
}

/// What may change while the gateway runs: levels, and whether requests show their arguments.
pub fn adopt(settings: &Settings) {
    let levels = Levels::new(settings.log_level, &settings.log_modules);
    let highest = levels.highest();
    *LEVELS.write().unwrap_or_else(PoisonError::into_inner) = Some(levels);
    WITH_ARGUMENTS.store(settings.log_arguments, Ordering::Relaxed);
    // What is left out costs nothing.
    log::set_max_level(highest);
}

/// Whether requests show their arguments.
pub fn has_arguments() -> bool {
    WITH_ARGUMENTS.load(Ordering::Relaxed)
}

/// A line of a server's stderr into that server's own file, if there are such files. It is no
/// line of the log.
pub fn server_line(server: &str, text: &str) {
    if !SERVER_FILES.load(Ordering::Relaxed) {
        return;
    }
    let servers = JOURNAL.get().map(|journal| &journal.servers);
    let servers = servers.map(|sink| sink.read().unwrap_or_else(PoisonError::into_inner));
    let Some(sink) = servers.as_ref().and_then(|sink| sink.as_ref()) else {
        return;
    };
    let now = time::now_rfc3339();
    let rendered = match sink.look {
        Look::Text { .. } => format!("{now} {text}\n"),
        Look::Json => {
            let target = format!("{SERVER}{server}");
            let line = Line {
                now: &now,
                level: log::Level::Info,
                target: &target,
                text,
                request: None,
                trace: None,
            };
            line.render(Look::Json)
        }
    };
    sink.ring
        .push(ServerFiles::packed(server, &rendered).as_bytes());
}

impl log::Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let levels = LEVELS.read().unwrap_or_else(PoisonError::into_inner);
        levels.as_ref().is_some_and(|levels| levels.wants(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let text = masked(&text);
        let (request, trace) = context::with(|context| {
            let trace = context.trace.as_ref();
            (context.request, trace.map(|trace| trace.trace_text()))
        })
        .unzip();
        let trace = trace.flatten();
        let line = Line {
            now: &time::now_rfc3339(),
            level: record.level(),
            target: record.target(),
            text: &text,
            request,
            trace: trace.as_deref(),
        };
        let sinks = self.sinks.read().unwrap_or_else(PoisonError::into_inner);
        let mut before: Option<(Look, String)> = None;
        for sink in sinks.iter() {
            let rendered = match before.take() {
                Some((look, rendered)) if look == sink.look => rendered,
                _ => line.render(sink.look),
            };
            sink.ring.push(rendered.as_bytes());
            before = Some((sink.look, rendered));
        }
    }

    fn flush(&self) {
        let deadline = Instant::now() + limits::LOG_FINISH;
        let sinks = self.sinks.read().unwrap_or_else(PoisonError::into_inner);
        sinks.iter().for_each(|sink| sink.ring.wait_idle(deadline));
    }
}

/// A panic is a line of the log like any other: on stderr it could wait for ever, and would say
/// what must not be said.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let is_main = std::thread::current().name() == Some("main");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let payload = panic.payload();
    let what = match payload.downcast_ref::<String>() {
        Some(text) => text,
        None => payload.downcast_ref::<&str>().copied().unwrap_or("no text"),
    };
    let name = match is_main {
        true => "main".to_owned(),
        false => thread::name(),
    };
    log::error!("panic thread={name:?} at={place:?}: {what}");
    if is_main {
        // Nobody comes after it who could.
        log::logger().flush();
    }
}

impl Log {
    /// Writes what is queued; gives up on what takes nothing.
    pub fn finish(self) {
        let Some(journal) = JOURNAL.get() else { return };
        let deadline = Instant::now() + limits::LOG_FINISH;
        let take = |sinks: &RwLock<Vec<Sink>>| {
            std::mem::take(&mut *sinks.write().unwrap_or_else(PoisonError::into_inner))
        };
        let mut sinks = take(&journal.sinks);
        let mut servers = journal
            .servers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        sinks.extend(servers.take());
        drop(servers);
        sinks.iter().for_each(|sink| sink.ring.close());
        sinks.into_iter().for_each(|sink| sink.finish(deadline));
    }
}
