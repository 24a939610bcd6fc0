//! Servers that nobody wrote down: each source of `gateway.discovery` looks on a thread of its own
//! (`disc:NAME`) and gives its whole set of findings to the `board`. The thread `config` merges
//! what stands there into the configuration, so that a found server comes, changes and goes like
//! any other.
//!
//! Deliberately absent: what a finding may be (`config::discovery`), and how a server is started
//! (`reload`, `fleet`).

pub mod board;
pub mod container;
pub mod directory;
pub mod dns;
pub mod docker;
pub mod hints;
pub mod kubernetes;
pub mod service;
pub mod watching;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::{Map, Value};

use crate::base::{limits, thread};
use crate::config::discovery::Source;
use crate::gateway::discovery::board::Board;
use crate::net;

/// One server that a source knows of.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub name: String,
    /// Keys of `config::discovery::entry::KEYS`, no others.
    pub entry: Map<String, Value>,
    /// Where it was found, for people: a file, a namespace and a service. Never a secret.
    pub place: String,
}

/// Where a source puts what it finds.
pub struct Sink {
    board: Arc<Board>,
    index: usize,
    /// Where relative paths start.
    pub folder: PathBuf,
}

impl Sink {
    /// All that there is now; what was there before and is not in it is gone.
    pub fn publish(&self, found: Vec<Found>) {
        self.publish_with(found, Vec::new());
    }

    /// The same, with what is there and cannot be understood, one text each with its place.
    pub fn publish_with(&self, found: Vec<Found>, complaints: Vec<String>) {
        self.board.publish(self.index, found, complaints);
    }

    /// It cannot be known now what there is. What was found stays for a while. `error` is a
    /// fragment that fits "failed to ...".
    pub fn fail(&self, error: String) {
        self.board.fail(self.index, error);
    }
}

/// How a source learns that it must end.
pub struct Stop {
    told: Receiver<()>,
    net: net::stop::Stop,
}

impl Stop {
    pub fn is_stopped(&self) -> bool {
        self.net.is_stopped()
    }

    /// For requests of `net::client`: they end at once.
    pub fn net(&self) -> &net::stop::Stop {
        &self.net
    }

    /// Waits. True when it must end.
    pub fn wait(&self, time: Duration) -> bool {
        // Nothing is ever sent: the end of the other side is the word.
        !matches!(self.told.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

/// All sources, as long as the gateway runs.
pub struct Discovery {
    net: net::stop::Stop,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// Dropped to end them.
    alive: Sender<()>,
    /// Closed when all have ended.
    ended: Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Discovery {
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(board: &Arc<Board>, folder: &Path) -> std::io::Result<Discovery> {
        let (alive, told) = bounded(0);
        let (running, ended) = bounded(0);
        let net = net::stop::Stop::default();
        let mut threads = Vec::new();
        for (index, spec) in board.specs.iter().enumerate() {
            let sink = Sink {
                board: board.clone(),
                index,
                folder: folder.to_owned(),
            };
            let stop = Stop {
                told: told.clone(),
                net: net.clone(),
            };
            let (name, source) = (format!("disc:{}", spec.name), spec.source.clone());
            let running = running.clone();
            let body = move || {
                run(&source, &sink, &stop);
                drop(running);
            };
            threads.push(thread::spawn(&name, limits::STACK_REMOTE_BYTES, body)?);
        }
        let running = Running {
            alive,
            ended,
            threads,
        };
        Ok(Discovery {
            net,
            running: Mutex::new(Some(running)),
        })
    }

    /// Ends the threads: what was found stays.
    pub fn stop(&self) {
        self.net.stop();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running.take() else {
            return;
        };
        drop(running.alive);
        // A file system or a peer may hold one of them; the end of the gateway does not wait.
        let ended = running.ended.recv_timeout(limits::DISCOVERY_END);
        let is_over = ended == Err(RecvTimeoutError::Disconnected);
        for thread in running.threads {
            // Who said that it is over may need another moment to be gone.
            if !is_over && !thread.is_finished() {
                log::warn!("a source of discovery does not end in time, and is left behind");
            } else if thread.join().is_err() {
                log::error!("event=thread_panicked thread=disc");
            }
        }
    }
}

/// Whatever ends the thread of a source: what it found does not stay for ever.
struct Over<'r> {
    sink: &'r Sink,
    stop: &'r Stop,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        if !self.stop.is_stopped() {
            self.sink.fail("go on: the source has ended".to_owned());
        }
    }
}

fn run(source: &Source, sink: &Sink, stop: &Stop) {
    let _over = Over { sink, stop };
    match source {
        Source::Kubernetes(spec) => kubernetes::run(spec, sink, stop),
        Source::Docker(spec) => docker::run(spec, sink, stop),
        Source::Dns(spec) => dns::run(spec, sink, stop),
        Source::Directory(spec) => directory::run(spec, sink, stop),
    }
}
