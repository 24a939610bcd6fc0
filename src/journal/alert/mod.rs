//! Alerts: operators are told of what the rules make of facts. The thread "alert" judges facts
//! (`rules`, pure) and hands messages to sinks, each of which has its own thread (`outlet`).
//! Nothing here is waited for by anybody who serves. There are no threads before the first sink.
//!
//! Deliberately absent: where facts come from (`journal::fact`), what survives a restart of the
//! gateway (nothing does).

pub mod body;
pub mod certificates;
pub mod command;
pub mod message;
pub mod outlet;
pub mod pace;
pub mod rules;
pub mod send;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, at, bounded, select};

use crate::base::sorted::SortedMap;
use crate::base::{limits, mask, sys, thread};
use crate::config::Config;
use crate::config::alerts::AlertSpec;
use crate::journal;
use crate::journal::alert::body::Speaker;
use crate::journal::alert::certificates::{Watch, Watched, watched};
use crate::journal::alert::message::Alert;
use crate::journal::alert::outlet::{Outlet, lost};
use crate::journal::alert::rules::{Clock, Dispatch, Rules};
use crate::journal::alert::send::Around;
use crate::journal::fact::{self, Fact};
use crate::net::egress::Allowed;
use crate::wire::hex;

/// The way to the thread, once there is one.
pub struct Alerts {
    around: Around,
    running: Mutex<Option<Running>>,
}

struct Running {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

enum Order {
    Configure(AlertSpec, Vec<Watched>),
    /// Send what can be sent until then.
    End(Instant),
}

/// What this gateway calls itself.
pub fn speaker() -> Speaker {
    let name = rustix::system::uname();
    Speaker {
        host: name.nodename().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION"),
    }
}

impl Alerts {
    pub fn new(egress_allow: Vec<Allowed>) -> Alerts {
        let around = Around {
            speaker: speaker(),
            egress_allow,
        };
        Alerts {
            around,
            running: Mutex::new(None),
        }
    }

    /// From now on its sinks are told of what its rules say. Never waits for a sink.
    pub fn configure(&self, config: &Config) {
        let (spec, watched) = (config.alerts.clone(), watched(config));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            // The thread reads all the time.
            let _ = running.orders.send(Order::Configure(spec, watched));
            return;
        }
        if spec.is_empty() {
            return;
        }
        match start((spec, watched), self.around.clone()) {
            Ok(started) => *running = Some(started),
            Err(error) => log::error!("failed to start alerts: {error}"),
        }
    }

    /// Sends what is waiting, as far as that is possible until then, and ends.
    pub fn finish(&self, by: Instant) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running.take() else {
            return;
        };
        let _ = running.orders.send(Order::End(by));
        if running.thread.join().is_err() {
            log::error!("alert thread panicked");
        }
    }
}

fn start(first: (AlertSpec, Vec<Watched>), around: Around) -> std::io::Result<Running> {
    let facts = fact::listen();
    let (orders, ordered) = bounded(limits::ALERT_ORDERS);
    let mut boot = [0; 8];
    sys::random_bytes(&mut boot);
    let mut desk = Desk {
        rules: Rules::new(AlertSpec::default(), hex::encode(&boot)),
        outlets: SortedMap::new(),
        around,
        facts,
        facts_lost: fact::dropped(),
        lines_lost: journal::log::lost(),
        watch: None,
    };
    let body = move || {
        let (spec, watched) = first;
        desk.configure(spec, watched);
        desk.run(&ordered);
    };
    let thread = thread::spawn("alert", limits::STACK_WORKER_BYTES, body)?;
    Ok(Running { orders, thread })
}

/// What the thread works with.
struct Desk {
    rules: Rules,
    outlets: SortedMap<String, Outlet>,
    around: Around,
    facts: Receiver<Fact>,
    facts_lost: u64,
    lines_lost: u64,
    /// Certificates, once there is one to look at.
    watch: Option<Watch>,
}

/// How much a count has risen since the last time.
fn rise(known: &mut u64, now: u64) -> u64 {
    now.saturating_sub(std::mem::replace(known, now))
}

/// What servers say of themselves may repeat what they were given, and it leaves this host now.
fn without_secrets(alert: &Alert) -> Alert {
    Alert {
        title: mask::masked(&alert.title).into_owned(),
        detail: mask::masked(&alert.detail).into_owned(),
        ..alert.clone()
    }
}

fn clock() -> Clock {
    Clock {
        now: Instant::now(),
        wall: SystemTime::now(),
    }
}

impl Desk {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut next_look = Instant::now();
        loop {
            let wake = self
                .rules
                .next()
                .map_or(next_look, |due| due.min(next_look));
            select! {
                recv(self.facts) -> fact => if let Ok(fact) = fact {
                    self.take(&fact);
                },
                recv(orders) -> order => match order {
                    Ok(Order::Configure(spec, watched)) => self.configure(spec, watched),
                    Ok(Order::End(by)) => return self.end(by),
                    Err(_) => return self.end(Instant::now()),
                },
                recv(at(wake)) -> _ => {}
            }
            // However many facts there are.
            let now = Instant::now();
            if now >= wake {
                self.look();
                next_look = now + limits::ALERT_LOOK;
            }
        }
    }

    fn take(&mut self, fact: &Fact) {
        let told = self.rules.fact(fact, clock());
        self.hand_out(told);
    }

    /// What time alone brings, and what was lost.
    fn look(&mut self) {
        for (name, outlet) in self.outlets.iter() {
            let count = outlet.take_lost();
            if count > 0 {
                fact::note(lost(name, count));
            }
        }
        let facts = rise(&mut self.facts_lost, fact::dropped());
        let lines = rise(&mut self.lines_lost, journal::log::lost());
        for (what, count) in [("facts for alerts", facts), ("log lines", lines)] {
            if count > 0 {
                let what = what.to_owned();
                self.take(&Fact::Lost { what, count });
            }
        }
        let told = self.rules.tick(clock());
        self.hand_out(told);
    }

    fn hand_out(&mut self, told: Vec<Dispatch>) {
        for Dispatch { alert, sinks } in told {
            let alert = Arc::new(without_secrets(&alert));
            let outlets = sinks.iter().filter_map(|name| self.outlets.get(name));
            outlets.for_each(|outlet| outlet.push(alert.clone()));
        }
    }

    /// Sinks that stay keep what they have to send.
    fn configure(&mut self, spec: AlertSpec, watched: Vec<Watched>) {
        let stays = |name: &str| spec.sinks.iter().any(|sink| sink.name == name);
        self.outlets.retain(|name, outlet| {
            if !stays(name) {
                outlet.stop();
            }
            stays(name)
        });
        for sink in &spec.sinks {
            if let Some(outlet) = self.outlets.get(&sink.name) {
                outlet.configure(sink.clone());
                continue;
            }
            match Outlet::start(sink.clone(), self.around.clone()) {
                Ok(outlet) => drop(self.outlets.insert(sink.name.clone(), outlet)),
                Err(error) => {
                    log::error!("failed to start the alert sink {}: {error}", sink.name);
                }
            }
        }
        self.rules.configure(spec, clock());
        self.look();
        self.watch(watched);
    }

    fn watch(&mut self, watched: Vec<Watched>) {
        if let Some(watch) = &mut self.watch {
            return watch.configure(watched);
        }
        if !watched.is_empty() {
            let started = Watch::start(watched, &self.around.egress_allow);
            let noted =
                |error: &std::io::Error| log::error!("failed to watch certificates: {error}");
            self.watch = started.inspect_err(noted).ok();
        }
    }

    fn end(mut self, by: Instant) {
        self.watch.take().into_iter().for_each(Watch::stop);
        // What was noted last, such as that it ends.
        while let Ok(fact) = self.facts.try_recv() {
            self.take(&fact);
        }
        self.outlets.values().for_each(|outlet| outlet.end(by));
        while Instant::now() < by && !self.outlets.values().all(Outlet::has_ended) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.outlets.values_mut().for_each(Outlet::stop);
    }
}
