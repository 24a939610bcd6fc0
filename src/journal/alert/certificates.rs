//! The thread "certificates": looks now and then when certificates of servers and our own end,
//! and notes it as facts. A server that cannot be asked is not told of here: that it is down is
//! another fact.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::{limits, thread};
use crate::config::Config;
use crate::config::alerts::rule::Rule;
use crate::config::server::ServerState;
use crate::journal::fact::{Fact, note};
use crate::net::certificate::{chain_ends, file_ends, server_ends};
use crate::net::egress::{Allowed, Egress};
use crate::net::proxy::ProxyChoice;
use crate::net::stop::Stop;
use crate::net::url::Url;

/// Whose certificate it is that clients see, as people are told.
pub const LISTENER: &str = "the listener";

/// One certificate that somebody depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// As people are told.
    pub whose: String,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Server(Url),
    /// A `caFile`.
    File(PathBuf),
    /// A certificate with those that vouch for it.
    Chain(PathBuf),
}

/// What this configuration depends on; nothing when nobody wants to know.
pub fn watched(config: &Config) -> Vec<Watched> {
    if config.alerts.is_empty() || !config.alerts.rule(Rule::CertificateExpiry).enabled {
        return Vec::new();
    }
    let mut all = Vec::new();
    if let Some(path) = &config.settings.tls.certificate {
        let (whose, place) = (LISTENER.to_owned(), Place::Chain(path.clone()));
        all.push(Watched { whose, place });
    }
    let running = |state: &ServerState| *state == ServerState::Enabled;
    for server in config
        .servers
        .iter()
        .filter(|server| running(&server.state))
    {
        let Some(remote) = &server.remote else {
            continue;
        };
        let name = &server.name;
        let url = Url::parse(&remote.url).ok().filter(Url::is_https);
        // What only a proxy can reach is not asked past it.
        if let Some(url) = url.filter(|_| remote.proxy == ProxyChoice::None) {
            let whose = format!("server {name}");
            let place = Place::Server(url);
            all.push(Watched { whose, place });
        }
        if let Some(path) = &remote.ca_file {
            let whose = format!("caFile {} of server {name}", path.display());
            let place = Place::File(path.clone());
            all.push(Watched { whose, place });
        }
    }
    all
}

/// The way to the thread.
pub struct Watch {
    watched: Vec<Watched>,
    others: Sender<Vec<Watched>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(watched: Vec<Watched>, egress_allow: &[Allowed]) -> std::io::Result<Watch> {
        let (others, received) = bounded(limits::ALERT_ORDERS);
        let stop = Stop::default();
        let (first, egress) = (watched.clone(), Egress::operator(egress_allow.to_vec()));
        let stopped = stop.clone();
        let body = move || run(first, &received, &egress, &stopped);
        let thread = thread::spawn("certificates", limits::STACK_WORKER_BYTES, body)?;
        Ok(Watch {
            watched,
            others,
            stop,
            thread: Some(thread),
        })
    }

    /// Looks at others from now on. Never waits.
    pub fn configure(&mut self, watched: Vec<Watched>) {
        // When it is that busy, the next configuration will get through.
        if self.watched != watched && self.others.try_send(watched.clone()).is_ok() {
            self.watched = watched;
        }
    }

    pub fn stop(mut self) {
        self.stop.stop();
        drop(self.others);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("certificates thread panicked");
        }
    }
}

fn run(mut watched: Vec<Watched>, others: &Receiver<Vec<Watched>>, egress: &Egress, stop: &Stop) {
    loop {
        for one in &watched {
            if stop.is_stopped() {
                return;
            }
            look(one, egress, stop);
        }
        match others.recv_timeout(limits::CERTIFICATE_LOOK) {
            Ok(newer) => watched = newer,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn look(one: &Watched, egress: &Egress, stop: &Stop) {
    let until = Instant::now() + limits::CERTIFICATE_WAIT;
    let found = match &one.place {
        Place::Server(url) => server_ends(url, egress, stop, until),
        Place::File(path) => file_ends(path).map_err(|error| error.to_string()),
        Place::Chain(path) => chain_ends(path).map_err(|error| error.to_string()),
    };
    match found {
        Ok(ends) => note(Fact::Certificate {
            whose: one.whose.clone(),
            ends,
        }),
        Err(why) => log::debug!("certificate not seen of={:?} why={why:?}", one.whose),
    }
}
