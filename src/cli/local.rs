//! Servers of the file, started for one command and ended with it, nothing left behind. The
//! main thread does here what the router does in a gateway: it takes what servers report.
//! Deliberately absent: the HTTP listener, restarts (a server that fails once has failed).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::base::gate::Gate;
use crate::base::{limits, sys, thread};
use crate::cli::deadline::Deadline;
use crate::cli::outcome::Failure;
use crate::cli::{quieten, serve, with_log};
use crate::config::near::nearest;
use crate::config::server::ServerConfig;
use crate::config::settings::Flags;
use crate::config::{Config, load, process_environment};
use crate::mcp::error::{INVALID_PARAMS, RpcError};
use crate::mcp::list::ListKind;
use crate::model::catalog::{Catalog, Entry, Source, Visible};
use crate::model::listing::Listing;
use crate::model::naming::{Naming, server_slug};
use crate::model::visible_text::Invisible;
use crate::secrets::store::Store;
use crate::upstream::event::Event;
use crate::upstream::server::{Server, State, Status, Surroundings};

/// One server of this command.
pub struct Started {
    pub server: Arc<Server>,
    pub listing: Option<Listing>,
    /// Its state when it turned out that it will not be ready.
    pub failed: Option<Status>,
}

impl Started {
    fn is_settled(&self) -> bool {
        self.failed.is_some() || (self.listing.is_some() && self.server.shared_link().is_some())
    }
}

pub struct Local {
    pub started: Vec<Started>,
    pub events: Receiver<Event>,
    /// The first signal that asks for an end.
    pub signals: Receiver<i32>,
    naming: Naming,
    invisible: Invisible,
}

/// Reads the file as `serve` would, and leaves out what `--filter` hides.
pub fn configuration(flags: &Flags) -> Result<Config, Failure> {
    let config = load(flags, &process_environment(), &Store::default());
    let mut config = config.map_err(Failure::Configuration)?;
    if let Some(filter) = &config.settings.filter {
        config.servers.retain(|server| filter.matches(&server.tags));
    }
    quieten(&mut config.settings);
    Ok(config)
}

/// By its name, or by the form its name takes in tool names.
pub fn find_server<'c>(config: &'c Config, name: &str) -> Option<&'c ServerConfig> {
    let servers = &config.servers;
    let exact = servers.iter().find(|server| server.name == name);
    exact.or_else(|| {
        servers
            .iter()
            .find(|server| server_slug(&server.name) == name)
    })
}

/// The error for a name that no server has.
pub fn unknown_server(config: &Config, name: &str) -> Failure {
    let known = config.servers.iter().map(|server| server.name.as_str());
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "onemcp list shows those that there are".to_owned(),
    };
    RpcError::new(INVALID_PARAMS, format!("unknown server {name:?}; {hint}")).into()
}

/// Starts `servers`, lets `body` work with them, and ends them, however it went.
pub fn with_servers(
    config: &Config,
    servers: &[&ServerConfig],
    body: impl FnOnce(&mut Local) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    with_log(&config.settings, || {
        sys::log_refusals();
        serve::log_problems(&config.problems);
        let result = with_signals(config, servers, body);
        sys::finish_watcher();
        result
    })
}

fn cannot(error: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(format!("failed to start the servers: {error}"))
}

fn with_signals(
    config: &Config,
    servers: &[&ServerConfig],
    body: impl FnOnce(&mut Local) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT]).map_err(cannot)?;
    let handle = signals.handle();
    let (first, received) = bounded(1);
    let watching = thread::spawn("signal", limits::STACK_WORKER_BYTES, move || {
        wait_for_signals(signals, &first);
    });
    let watching = watching.map_err(cannot)?;
    let reaper = sys::start_reaper().map_err(cannot)?;
    let result = start(config, servers, received).and_then(|mut local| {
        let result = body(&mut local);
        local.stop();
        result
    });
    sys::end_orphans(Instant::now() + limits::STOP_TERM);
    reaper.stop();
    handle.close();
    if watching.join().is_err() {
        log::error!("signal thread panicked");
    }
    result
}

/// The second signal ends the process at once; the watcher then ends the children.
fn wait_for_signals(mut signals: Signals, first: &Sender<i32>) {
    for signal in signals.forever() {
        if first.try_send(signal).is_err() {
            std::process::exit(128 + signal);
        }
    }
}

fn start(
    config: &Config,
    servers: &[&ServerConfig],
    signals: Receiver<i32>,
) -> Result<Local, Failure> {
    let (router, events) = bounded(limits::ROUTER_EVENTS);
    let starts = Arc::new(Gate::new(limits::CONCURRENT_STARTS));
    let around = Surroundings::new(router, starts, &config.settings);
    let names = servers.iter().map(|server| server.name.as_str());
    around.neighbours.expect(names);
    let mut local = Local {
        started: Vec::with_capacity(servers.len()),
        events,
        signals,
        naming: config.settings.naming.clone(),
        invisible: config.settings.strip_invisible,
    };
    for (index, server) in servers.iter().enumerate() {
        let server = Server::new(index, (*server).clone(), around.clone());
        server.launch();
        let status = server.status();
        local.started.push(Started {
            server,
            listing: None,
            failed: will_not_be_ready(&status).then_some(status),
        });
    }
    Ok(local)
}

fn will_not_be_ready(status: &Status) -> bool {
    status.state.is_settled() && status.state != State::Ready
}

impl Local {
    /// Waits until every server is ready or has failed.
    pub fn wait_ready(&mut self, deadline: Option<Deadline>) -> Result<(), Failure> {
        let timeout = deadline.map_or_else(crossbeam_channel::never, |deadline| {
            after(deadline.at().saturating_duration_since(Instant::now()))
        });
        while !self.started.iter().all(Started::is_settled) {
            select! {
                recv(self.events) -> event => match event {
                    Ok(event) => self.handle(event),
                    Err(_) => return Err(cannot("their threads have ended")),
                },
                recv(self.signals) -> signal => {
                    return Err(Failure::Signal(signal.unwrap_or(SIGTERM)));
                }
                recv(timeout) -> _ => {
                    let passed = deadline.map(|deadline| deadline.passed());
                    return Err(passed.unwrap_or_else(|| cannot("the clock stopped")));
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Listing { server, listing } => self.started[server.slot].listing = Some(listing),
            Event::Status { server } => {
                let started = &mut self.started[server.slot];
                let mut status = started.server.status();
                // It may be at its next try by now.
                if status.restarts > 0 && !status.state.is_settled() {
                    status.state = State::Failed;
                }
                if started.failed.is_none() && will_not_be_ready(&status) {
                    started.failed = Some(status);
                    // It would try again; this command does not wait for that.
                    started.server.stop();
                }
            }
            _ => {}
        }
    }

    /// What the servers offer, under the names that a gateway on this file would give.
    pub fn catalog(&self) -> Catalog {
        let offering = self
            .started
            .iter()
            .filter_map(|started| Some((&started.server, started.listing.as_ref()?)));
        let held = BTreeSet::new();
        let sources: Vec<Source<'_>> = offering
            .map(|(server, listing)| Source {
                index: server.id.slot,
                name: server.name(),
                listing: Some(listing),
                disabled_tools: &server.config.disabled_tools,
                // Pins are the gateway's.
                held_tools: &held,
                strips: server.config.strip_invisible.unwrap_or(self.invisible) == Invisible::Strip,
                description_overrides: &server.config.tool_description_overrides,
            })
            .collect();
        Catalog::build(&sources, &self.naming)
    }

    fn stop(self) {
        // From now on nobody takes events: sending one must not wait.
        drop(self.events);
        let servers = || self.started.iter().map(|started| &started.server);
        servers().for_each(|server| server.stop());
        servers().for_each(|server| server.join());
    }
}

/// The entries of one server in a catalogue, also those whose URI an earlier server has too.
pub fn entries_of(catalog: &Catalog, kind: ListKind, server: usize) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = Vec::new();
    let only: Vec<bool> = (0..=server).map(|index| index == server).collect();
    let visible = Visible::Some(only);
    for entry in catalog.entries(kind, &visible) {
        if let Some(entry) = catalog.by_native(kind, server, &entry.item.key) {
            entries.push(entry);
        }
    }
    entries
}
