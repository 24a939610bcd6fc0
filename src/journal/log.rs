//! The log on stderr. Lines go through a bounded queue to the journal thread, so that a full
//! pipe or a slow terminal never holds up a call; what does not fit is counted and said.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::LevelFilter;

use crate::base::{limits, thread, time};
use crate::config::settings::LogFormat;

/// The running log. `finish` writes what is queued.
pub struct Log {
    queue: Sender<Line>,
    thread: Option<JoinHandle<()>>,
}

enum Line {
    Text(Vec<u8>),
    End,
}

/// Takes one formatted record in each `write`.
struct Queue {
    queue: Sender<Line>,
    lost: Arc<AtomicU64>,
}

impl Write for Queue {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Line::Text(record.to_vec())) {
            Err(TrySendError::Full(_)) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
            // Disconnected: the program is ending, and its last words are out.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the journal thread and makes it the program's log.
///
/// # Errors
/// When the system refuses the thread, or there is a log already.
pub fn start(level: LevelFilter, format: LogFormat) -> io::Result<Log> {
    let (queue, lines) = bounded(limits::LOG_LINES);
    let lost = Arc::new(AtomicU64::new(0));
    let counted = lost.clone();
    let thread = thread::spawn("journal", limits::STACK_WORKER_BYTES, move || {
        write_lines(&lines, &counted);
    })?;
    let writer = Queue {
        queue: queue.clone(),
        lost,
    };
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(LevelFilter::Warn)
        .filter_module("onemcp", LevelFilter::Trace);
    builder.target(env_logger::Target::Pipe(Box::new(writer)));
    builder.format(move |out, record| {
        if record.level() as usize > LEVEL.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (level, text) = (record.level(), record.args().to_string());
        writeln!(
            out,
            "{}",
            format_line(format, &time::now_rfc3339(), level, &text)
        )
    });
    builder.try_init().map_err(io::Error::other)?;
    set_level(level);
    Ok(Log {
        queue,
        thread: Some(thread),
    })
}

/// What is logged from now on.
pub fn set_level(level: LevelFilter) {
    LEVEL.store(level as usize, Ordering::Relaxed);
    // What is left out costs nothing.
    log::set_max_level(level);
}

/// `LevelFilter` as a number.
static LEVEL: AtomicUsize = AtomicUsize::new(LevelFilter::Info as usize);

fn format_line(format: LogFormat, now: &str, level: log::Level, text: &str) -> String {
    match format {
        LogFormat::Text => {
            // One record stays one line, whatever a server or client put into it.
            let text: String = text
                .chars()
                .map(|c| if c.is_control() && c != '\t' { ' ' } else { c })
                .collect();
            format!("{now} {level:<5} {text}")
        }
        LogFormat::Json => {
            let level = level.as_str().to_lowercase();
            let text = crate::wire::json::quoted(text);
            format!("{{\"ts\":\"{now}\",\"level\":\"{level}\",\"msg\":{text}}}")
        }
    }
}

fn write_lines(lines: &Receiver<Line>, lost: &AtomicU64) {
    // Locked for each line only: a panic and the commands write there too.
    let mut stderr = io::stderr();
    while let Ok(Line::Text(text)) = lines.recv() {
        // A closed stderr is no reason to stop serving.
        let _ = stderr.write_all(&text);
        let missed = lost.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let _ = writeln!(
                stderr,
                "{} WARN  log lines lost count={missed}",
                time::now_rfc3339()
            );
        }
    }
}

impl Log {
    /// Writes what is queued; gives up when stderr takes nothing.
    pub fn finish(mut self) {
        let limit = Duration::from_secs(1);
        if self.queue.send_timeout(Line::End, limit).is_err() {
            return;
        }
        let Some(thread) = self.thread.take() else {
            return;
        };
        let until = Instant::now() + limit;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // A panic of the journal thread has nowhere to be told.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::format_line;
    use crate::config::settings::LogFormat;

    #[test]
    fn one_record_is_one_line() {
        let text = "a\nb\u{1b}[31m\"q\"";
        let plain = format_line(LogFormat::Text, "T", log::Level::Info, text);
        assert_eq!(plain, "T INFO  a b [31m\"q\"");
        let json = format_line(LogFormat::Json, "T", log::Level::Warn, text);
        let value: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!(value["msg"], text);
        assert_eq!(value["level"], "warn");
    }
}
