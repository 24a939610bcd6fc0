//! The end of a gateway, step by step: not ready, still serving, no new clients, streams and calls
//! to their ends, servers in order, threads. Runs on the thread that waited for the end
//! (`gateway::ending`). Every step has its deadline, and behind all of them stands `LastMoment`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::base::{limits, notify, ordered, sys, thread};
use crate::front::pipes::End;
use crate::front::session::Session;
use crate::front::stdio::Stdio;
use crate::front::subscription::Subscription;
use crate::front::talk::Talk;
pub use crate::gateway::end_times::Times;
use crate::gateway::end_times::{stage_share, stages};
use crate::gateway::ending::EndWhy;
use crate::gateway::run::Gateway;
use crate::journal::fact::{Fact, note};
use crate::upstream::event::Event;
use crate::upstream::server::Server;

/// What the client on stdin and stdout has told of its ends.
const NOBODY_ASKS: EndWhy = EndWhy::Client(End::Input);
/// Or everything was written.
const NOBODY_READS: EndWhy = EndWhy::Client(End::Output);

/// A stream that has no end of its own.
enum Stream {
    Session(Arc<Session>),
    Subscription(Arc<Subscription>),
    Talk(Arc<Talk>),
}

impl Stream {
    fn end(&self) {
        match self {
            Stream::Session(session) => session.listener.finish(Instant::now()),
            Stream::Subscription(subscription) => subscription.end(),
            Stream::Talk(talk) => talk.drain(),
        }
    }
}

impl Gateway {
    /// Serves for `--drain-delay` if `why` asks for that, then ends within `--shutdown-timeout`.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn end(self, why: EndWhy) -> std::io::Result<LastMoment> {
        self.unready.store(true, Ordering::Release);
        self.core.hub.beat();
        notify::stopping("not ready any more, still serving");
        note(Fact::Stopping { why: why.as_str() });
        log::info!(
            "not ready any more sessions={}",
            self.core.clients.sessions.len()
        );
        self.wait_delay(why);
        let settings = &self.core.hub.world().fixed.settings;
        let times = Times::new(Instant::now(), settings.shutdown_timeout);
        self.end_within(times)
    }

    /// The client on stdin and stdout says no more: everything is served on until what it asked is
    /// answered, at most until `deadline`.
    pub fn hear_out(&self, deadline: Instant) {
        let Some(client) = &self.client else {
            return;
        };
        log::info!("end of input: answering what was asked");
        client.drain();
        self.wait_client(client, deadline);
    }

    /// Lets calls in flight finish, then ends servers and threads. What is given back sees to the
    /// time until the program is over.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn end_within(mut self, times: Times) -> std::io::Result<LastMoment> {
        let last = LastMoment::new(times.end);
        notify::stopping("waiting for calls in flight");
        log::info!(
            "shutting down sessions={}",
            self.core.clients.sessions.len()
        );
        self.unready.store(true, Ordering::Release);
        if self.ending.all().contains(&NOBODY_READS)
            && let Some(client) = self.client.take()
        {
            client.stop();
        }
        self.core.reload.stop();
        self.close_listener(&times);
        self.draining.store(true, Ordering::Release);
        // Nobody is held any more: who is gets what there is, or an error.
        self.core.fleet.dismiss_waiting();
        self.core.hub.settle();
        self.core.clients.parking.close();
        self.end_streams(&times);
        self.wait_calls(&times);
        notify::status("stopping servers");
        stop_servers(&self.core.fleet.close(), times.children);
        self.core.fleet.join_all();
        self.finish(&times);
        Ok(last)
    }

    /// Keeps on serving, so that whoever sends clients here can notice that it is not ready.
    fn wait_delay(&self, why: EndWhy) {
        let Some(http) = &self.http else {
            return;
        };
        let delay = self.core.hub.world().fixed.settings.drain_delay;
        if !why.has_delay() || delay.is_zero() {
            return;
        }
        log::info!("still serving delay_ms={}", delay.as_millis());
        http.close_after_answers();
        let until = Instant::now() + delay;
        while self.ending.wait_until(until).is_some_and(EndWhy::has_delay) {}
    }

    /// No new clients. Who is about to send on a connection that stands is served once more, and
    /// told in the answer that it closes.
    fn close_listener(&self, times: &Times) {
        if let Some(http) = &self.http {
            http.close_after_answers();
            http.stop_accepting();
            http.wait_empty((Instant::now() + limits::END_IDLE).min(times.calls));
        }
    }

    /// Ends them one after the other in no order, so that their clients do not come back all at
    /// once.
    fn end_streams(&self, times: &Times) {
        let open = self.streams();
        let begun = Instant::now();
        let gap = times.stream_gap(open.len(), begun);
        for (number, stream) in (0..).zip(&open) {
            let at = begun + gap * number;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            stream.end();
        }
        // Those that were being opened.
        self.core
            .clients
            .sessions
            .all()
            .iter()
            .for_each(|session| session.listener.finish(Instant::now()));
        self.sse.talks.all().iter().for_each(|talk| talk.drain());
        if let Some(client) = &self.client {
            client.drain();
        }
    }

    fn streams(&self) -> Vec<Stream> {
        let sessions = self.core.clients.sessions.all().into_iter();
        let listening = sessions.filter(|session| session.listener.attached() > 0);
        let mut open: Vec<Stream> = listening.map(Stream::Session).collect();
        open.extend(
            self.core
                .clients
                .subscriptions
                .close()
                .into_iter()
                .map(Stream::Subscription),
        );
        open.extend(self.sse.talks.all().into_iter().map(Stream::Talk));
        let mut drawn = vec![[0; 8]; open.len()];
        sys::random_bytes(drawn.as_flattened_mut());
        let mut mixed: Vec<_> = drawn.into_iter().zip(open).collect();
        ordered::sort_by_key(&mut mixed, |(lot, _)| *lot);
        mixed.into_iter().map(|(_, stream)| stream).collect()
    }

    fn wait_calls(&self, times: &Times) {
        if let Some(http) = &self.http {
            http.close_idle();
        }
        if let Some(client) = &self.client {
            self.wait_client(client, times.calls);
        }
        let Some(http) = &self.http else {
            return;
        };
        if !http.wait_empty(times.calls) {
            let connections = http.connections();
            log::warn!("calls still in flight connections={connections}");
        }
    }

    /// Until what the client on stdin and stdout asked is written, nobody reads, or the time is
    /// over. A client that has ended its input, and then sends a signal, is in a hurry.
    fn wait_client(&self, client: &Stdio, deadline: Instant) {
        loop {
            let asked = self.ending.all();
            if asked.contains(&NOBODY_READS) {
                return;
            }
            let is_hurried = asked.len() > 1 && asked[0] == NOBODY_ASKS;
            if !is_hurried && asked.contains(&NOBODY_ASKS) {
                client.end_of_input(deadline);
            }
            if is_hurried || self.ending.wait_until(deadline).is_none() {
                return log::warn!("calls of the client are still in flight");
            }
        }
    }

    /// When all servers are gone.
    fn finish(&mut self, times: &Times) {
        let left = || times.end.saturating_duration_since(Instant::now());
        if let Some(client) = self.client.take() {
            let patience = Duration::from_secs(1).min(left() / 3);
            self.ending
                .wait_for(NOBODY_READS, Instant::now() + patience);
            client.stop();
        }
        if let Some(http) = self.http.take() {
            // Calls that were cut get their error answer before their connection closes.
            http.wait_empty(Instant::now() + Duration::from_secs(1).min(left() / 3));
            http.join(Instant::now() + Duration::from_secs(1).min(left() / 2));
        }
        self.sse.talks.stop();
        let workers = &self.sse.talks.common.workers;
        workers.stop(Instant::now() + Duration::from_secs(1).min(left() / 2));
        if let Some(control) = self.control.take() {
            control.stop(limits::CONTROL_END.min(left() / 4));
        }
        if let Some(socket) = self.health_socket.take() {
            socket.close();
        }
        // To the last: that the gateway is not ready is what probes should hear.
        if let Some(listener) = self.health_listener.take() {
            listener.join(Instant::now() + Duration::from_secs(1).min(left() / 2));
        }
        if let Some(sharing) = self.sharing.take() {
            sharing.stop();
        }
        if let Some(herald) = self.herald.take() {
            herald.stop();
        }
        let alerts = limits::ALERT_END.min(left() / 2);
        self.core.alerts.finish(Instant::now() + alerts);
        // The router reads all the time, so this arrives; gone already is as good.
        let _ = self.core.events.send(Event::Stop);
        if let Some(router) = self.core.router.take()
            && router.join().is_err()
        {
            log::error!("router thread panicked");
        }
        if let Some(otlp) = self.otlp.take() {
            otlp.finish(Instant::now() + limits::OTLP_END.min(left() / 2));
        }
    }
}

/// Stops those that depend on others before those: a stage begins when the one before it has
/// ended, or has had its share of the time.
fn stop_servers(servers: &[Arc<Server>], deadline: Instant) {
    let depends_on: Vec<(&str, &[String])> = servers
        .iter()
        .map(|server| (server.name(), server.config.depends_on.as_slice()))
        .collect();
    let stages = stages(&depends_on);
    let count = stages.len();
    for (number, stage) in stages.into_iter().enumerate() {
        let share = stage_share(count - number, deadline, Instant::now());
        let stage: Vec<&Arc<Server>> = stage.into_iter().map(|at| &servers[at]).collect();
        stage.iter().for_each(|server| server.stop_within(share));
        let until = Instant::now() + share + limits::END_REST.min(share);
        let is_over = |server: &&Arc<Server>| server.wait_stopped(until);
        if let Some(server) = stage.iter().find(|server| !is_over(server)) {
            log::warn!("server not ended in its time server={:?}", server.name());
        }
    }
}

/// Ends the program when its time is over, whatever still hangs: a thread in the kernel, a stderr
/// that nobody reads. Dropped, it does nothing more.
pub struct LastMoment {
    pub at: Instant,
    is_clean: Arc<AtomicBool>,
    over: Option<(Sender<()>, JoinHandle<()>)>,
}

impl LastMoment {
    fn new(at: Instant) -> LastMoment {
        let (over, is_over) = bounded::<()>(0);
        let is_clean = Arc::new(AtomicBool::new(false));
        let clean = is_clean.clone();
        let body = move || {
            if is_over.recv_deadline(at) == Err(RecvTimeoutError::Timeout) {
                if clean.load(Ordering::Acquire) {
                    std::process::exit(0);
                }
                log::error!("not ended in time: what is left is killed");
                std::process::exit(1);
            }
        };
        let thread = thread::spawn("last-moment", limits::STACK_WORKER_BYTES, body);
        let thread = thread.inspect_err(|error| {
            log::warn!("no thread for the last moment, a signal instead: {error}");
            sys::end_after(at.saturating_duration_since(Instant::now()));
        });
        LastMoment {
            at,
            is_clean,
            over: thread.ok().map(|thread| (over, thread)),
        }
    }

    /// Everything has ended; at most a few lines of the log are left to be written.
    pub fn all_gone(&self) {
        self.is_clean.store(true, Ordering::Release);
    }
}

impl Drop for LastMoment {
    fn drop(&mut self) {
        if let Some((over, thread)) = self.over.take() {
            drop(over);
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}
