//! What a scrape sees when it looks: the states of servers, clients, configuration and process.
//! Counted is elsewhere (`journal::metrics`). Runs on the thread of whoever asks, waits for
//! nobody, and holds nothing that ends with the gateway.

use std::sync::{Arc, Weak};

use crossbeam_channel::Sender;

use crate::base::{memory, process};
use crate::front::health::Health;
use crate::front::parking::Parking;
use crate::front::sessions::Sessions;
use crate::front::sse::Sse;
use crate::front::subscription::Subscriptions;
use crate::front::tally::Verdict;
use crate::gateway::run::Clients;
use crate::http::{Head, Peer, Reply, Server as HttpServer};
use crate::journal::fact;
use crate::journal::metrics::sample::Samples;
use crate::journal::metrics::table::{
    BUILD, CATALOGUE, CONFIG_GENERATION, CONFIG_RELOADED, CONNECTIONS, CPU, DISCOVERED,
    DISCOVERY_FAILURES, DISCOVERY_OK, FACTS_DROPPED, HEALTH, LOG_LOST, MAX_FILES, MEMORY_LIMIT,
    OPEN_FILES, PARKED, PUSHES, RESIDENT, ROUTER_QUEUE, SERIES, SERVER_CALLS, SERVER_PROCESSES,
    SERVER_QUEUE, SERVER_RESTARTS, SERVER_STATE, SERVER_WAITING, SERVERS, SESSIONS, SPANS_DROPPED,
    STARTED, STREAMS, THREADS, VIRTUAL,
};
use crate::journal::metrics::{self, meter};
use crate::journal::{otlp, ring, span};
use crate::mcp::list::ListKind;
use crate::relay::world::World;
use crate::upstream::event::Event;
use crate::upstream::server::State;

/// How many connections a listener has.
type Count = Box<dyn Fn() -> usize + Send + Sync>;

/// Where the states are.
pub struct Scrape {
    health: Weak<Health>,
    sessions: Weak<Sessions>,
    subscriptions: Weak<Subscriptions>,
    parking: Weak<Parking>,
    sse: Weak<Sse>,
    /// Listeners by the label of their connections.
    listeners: Vec<(&'static str, Count)>,
    /// Events that wait for the router.
    queue: Sender<Event>,
}

impl Scrape {
    pub fn new(
        health: &Arc<Health>,
        clients: &Clients,
        sse: &Arc<Sse>,
        queue: Sender<Event>,
    ) -> Scrape {
        Scrape {
            health: Arc::downgrade(health),
            sessions: Arc::downgrade(&clients.sessions),
            subscriptions: Arc::downgrade(&clients.subscriptions),
            parking: Arc::downgrade(&clients.parking),
            sse: Arc::downgrade(sse),
            listeners: Vec::new(),
            queue,
        }
    }

    fn with(mut self, label: &'static str, listener: Option<&HttpServer>) -> Scrape {
        if let Some(listener) = listener {
            self.listeners.push((label, Box::new(listener.count())));
        }
        self
    }

    /// From now on whoever gathers metrics sees this.
    pub fn publish(self, main: Option<&HttpServer>, health: Option<&HttpServer>) {
        metrics::events::prepare();
        let scrape = self.with("main", main).with("health", health);
        metrics::look_at(Box::new(move |samples| scrape.look(samples)));
    }

    fn look(&self, samples: &mut Samples) {
        build(samples);
        of_process(samples);
        if let Some(health) = self.health.upgrade() {
            let world = health.hub.world();
            servers(&world, samples);
            catalogue(&world, samples);
            configuration(&health, samples);
        }
        self.clients(samples);
        samples.add(&ROUTER_QUEUE, &[], self.queue.len() as f64);
        samples.add(&SERIES, &[], meter::entries() as f64);
        samples.add(&FACTS_DROPPED, &[], fact::dropped() as f64);
        samples.add(&LOG_LOST, &[], ring::lost() as f64);
        samples.add(&SPANS_DROPPED, &[], span::dropped() as f64);
        for (signal, outcome, count) in otlp::pushes() {
            samples.add(&PUSHES, &[signal, outcome], count as f64);
        }
    }

    fn clients(&self, samples: &mut Samples) {
        let mut streams = [("session", 0), ("sse", 0), ("subscription", 0)];
        if let Some(sessions) = self.sessions.upgrade() {
            let all = sessions.all();
            samples.add(&SESSIONS, &[], all.len() as f64);
            let attached = all.iter().map(|session| session.listener.attached());
            streams[0].1 = attached.sum();
        }
        streams[1].1 = self.sse.upgrade().map_or(0, |sse| sse.talks.all().len());
        streams[2].1 = self.subscriptions.upgrade().map_or(0, |open| open.len());
        for (kind, count) in streams {
            samples.add(&STREAMS, &[kind], count as f64);
        }
        if let Some(parking) = self.parking.upgrade() {
            samples.add(&PARKED, &[], parking.len() as f64);
        }
        for (label, count) in &self.listeners {
            samples.add(&CONNECTIONS, &[label], count() as f64);
        }
    }
}

/// `/metrics`.
pub fn answer() -> Reply {
    let reply = Reply {
        body: metrics::text().into_bytes(),
        ..Reply::empty(200)
    };
    reply
        .with("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        .with("Cache-Control", "no-store")
}

/// Who may not read it on the listener of clients.
pub fn refuse(health: &Health, head: &Head<'_>, peer: &Peer) -> Option<Reply> {
    let settings = health.hub.world().fixed.settings.clone();
    if settings.metrics_public || health.is_local(head, peer) {
        return None;
    }
    let what = "metrics are for programs on this machine; give --metrics-public, or ask the \
                address of --health-listen";
    Some(Reply::json(403, format!("{{\"error\":\"{what}\"}}")))
}

fn build(samples: &mut Samples) {
    let version = env!("CARGO_PKG_VERSION");
    let labels = [version, std::env::consts::OS, std::env::consts::ARCH];
    samples.add(&BUILD, &labels, 1.0);
}

fn of_process(samples: &mut Samples) {
    let (usage, memory) = (process::usage(), memory::now());
    for (metric, value) in [
        (&CPU, usage.cpu_s),
        (&RESIDENT, memory.resident as f64),
        (&VIRTUAL, usage.virtual_bytes as f64),
        (&MEMORY_LIMIT, memory.limit as f64),
        (&OPEN_FILES, usage.files as f64),
        (&MAX_FILES, usage.files_limit as f64),
        (&THREADS, usage.threads as f64),
        (&STARTED, usage.started_s),
    ] {
        samples.add(metric, &[], value);
    }
}

fn servers(world: &World, samples: &mut Samples) {
    let words = State::ALL.map(State::as_str);
    let mut totals = words.map(|_| 0);
    for server in world.servers() {
        let (name, status) = (server.name(), server.status());
        samples.choice(&SERVER_STATE, &[name], &words, status.state.as_str());
        if let Some(at) = words.iter().position(|word| *word == status.state.as_str()) {
            totals[at] += 1;
        }
        for (metric, value) in [
            (&SERVER_RESTARTS, status.restarts as usize),
            (&SERVER_PROCESSES, server.processes()),
            (&SERVER_CALLS, server.calls()),
            (&SERVER_WAITING, server.waiting()),
            (&SERVER_QUEUE, server.queued_bytes()),
        ] {
            samples.add(metric, &[name], value as f64);
        }
    }
    for (word, total) in words.iter().zip(totals) {
        samples.add(&SERVERS, &[word], f64::from(total));
    }
}

fn catalogue(world: &World, samples: &mut Samples) {
    for kind in ListKind::ALL {
        let count = world.catalog.len(kind) as f64;
        samples.add(&CATALOGUE, &[kind.member()], count);
    }
}

fn configuration(health: &Health, samples: &mut Samples) {
    let standing = health.configured.standing();
    let is_good = standing.last_attempt.is_none_or(|attempt| attempt.ok);
    samples.add(&CONFIG_GENERATION, &[], standing.version as f64);
    samples.add(&CONFIG_RELOADED, &[], f64::from(u8::from(is_good)));
    let words = [Verdict::Healthy, Verdict::Degraded, Verdict::Unhealthy].map(Verdict::as_str);
    for source in &standing.discovery {
        let name = [source.name.as_str()];
        let states = [("found", source.found), ("taken", source.taken)];
        for (state, count) in states {
            samples.add(&DISCOVERED, &[name[0], state], count as f64);
        }
        samples.add(&DISCOVERY_OK, &name, f64::from(u8::from(source.is_ok)));
        samples.add(&DISCOVERY_FAILURES, &name, source.failures as f64);
    }
    samples.choice(&HEALTH, &[], &words, health.verdict());
}
