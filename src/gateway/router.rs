//! The router thread: the only writer of the world. It takes what servers report, publishes a
//! new world, and tells clients about changes, gathered over a window that opens with the first
//! change and is not extended. It never waits for a server or a client.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::base::limits;
use crate::front::ask;
use crate::front::parking::Parking;
use crate::front::session::Session;
use crate::front::session_tasks;
use crate::front::sessions::Sessions;
use crate::front::subscription::Subscriptions;
use crate::mcp::list::ListKind;
use crate::mcp::task::Part;
use crate::model::catalog::Clash;
use crate::relay::world::{Fixed, Hub, Offer, World};
use crate::upstream::event::{Event, SessionMessage};
use crate::upstream::link::Link;
use crate::upstream::server::{Server, State};

pub struct Router {
    pub fixed: Arc<Fixed>,
    pub hub: Arc<Hub>,
    pub sessions: Arc<Sessions>,
    pub subscriptions: Arc<Subscriptions>,
    pub parking: Arc<Parking>,
    pub events: Receiver<Event>,
    /// Length of the window in which changes are gathered.
    pub batch_delay: Duration,
    /// The start is over at the latest then.
    pub settle_by: Instant,
}

/// What the router knows beyond the published world.
struct Desk {
    generation: u64,
    offers: Vec<Option<Offer>>,
    /// When clients are to be told of the changes so far.
    window_ends: Option<Instant>,
    next_sweep: Instant,
    reported_clashes: HashSet<Clash>,
}

impl Router {
    /// Runs until `Event::Stop`.
    pub fn run(&self) {
        let mut desk = Desk {
            generation: 0,
            offers: vec![None; self.fixed.servers.len()],
            window_ends: None,
            next_sweep: Instant::now() + limits::SWEEP,
            reported_clashes: HashSet::new(),
        };
        self.look_if_settled(&desk.offers);
        loop {
            let mut wake = desk
                .next_sweep
                .min(desk.window_ends.unwrap_or(desk.next_sweep));
            if !self.hub.is_settled() {
                wake = wake.min(self.settle_by);
            }
            wake = self.parking.next_expiry().map_or(wake, |at| wake.min(at));
            match self.events.recv_deadline(wake) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(event) => self.handle(event, &mut desk),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.tick(&mut desk);
        }
    }

    fn tick(&self, desk: &mut Desk) {
        let now = Instant::now();
        if desk.window_ends.is_some_and(|end| end <= now) {
            desk.window_ends = None;
            let world = self.hub.world();
            self.sessions.announce(&world);
            self.subscriptions.announce(&world);
        }
        if !self.hub.is_settled() && now >= self.settle_by {
            log::warn!("start is over although servers are still loading");
            self.hub.settle();
        }
        self.parking.expire(now);
        if desk.next_sweep <= now {
            desk.next_sweep = now + limits::SWEEP;
            self.sessions.sweep(&self.fixed.servers);
            self.fixed
                .servers
                .iter()
                .for_each(|server| server.reap_instances());
        }
    }

    fn handle(&self, event: Event, desk: &mut Desk) {
        match event {
            Event::Stop => {}
            // Nobody waits any more: then it came too late.
            Event::Beat(turned) => drop(turned.try_send(())),
            Event::Status { server } => self.status(server, desk),
            Event::Listing { server, listing } => {
                let mut offer = desk.offers[server].take().unwrap_or_default();
                for kind in ListKind::ALL {
                    offer.replace(kind, listing.of(kind).to_vec(), listing.hint(kind));
                }
                desk.offers[server] = Some(offer);
                self.publish(desk);
            }
            Event::List {
                server,
                kind,
                items,
                hint,
            } => {
                if let Some(offer) = &mut desk.offers[server] {
                    offer.replace(kind, items, hint);
                    self.publish(desk);
                }
            }
            Event::ResourceUpdated {
                server,
                session,
                uri,
                text,
            } => {
                self.updated(server, session.as_deref(), &uri, &text);
            }
            Event::TaskChanged { server, id, text } => {
                self.subscriptions.task_changed(server, &id, &text);
            }
            Event::ElicitationComplete {
                server,
                session: only,
                id,
                text,
            } => {
                let server = self.fixed.servers[server].name();
                let asked = |session: &Arc<Session>| {
                    only.as_ref().is_none_or(|only| *only == session.id)
                        && session.take_elicitation(server, &id)
                };
                if let Some(session) = self.sessions.all().into_iter().find(asked) {
                    session.tell(text);
                }
            }
            Event::ToSession {
                session,
                link,
                message,
            } => self.to_session(&session, &link, message),
        }
    }

    /// A server that keeps dying has nothing to offer; one that restarts keeps its entries, so
    /// that lists do not flap.
    fn status(&self, server: usize, desk: &mut Desk) {
        let status = self.fixed.servers[server].status();
        let gone = matches!(status.state, State::CrashLoop | State::Stopped);
        if gone && desk.offers[server].take().is_some() {
            self.publish(desk);
        }
        self.look_if_settled(&desk.offers);
    }

    /// A server may be ready while the lists that it reported still wait here: it is settled when
    /// they are served.
    fn look_if_settled(&self, offers: &[Option<Offer>]) {
        if self.hub.is_settled() {
            return;
        }
        let is_settled = |(server, offer): (&Arc<Server>, &Option<Offer>)| {
            let state = server.status().state;
            state.is_settled() && (state != State::Ready || offer.is_some())
        };
        if self.fixed.servers.iter().zip(offers).all(is_settled) {
            self.hub.settle();
        }
    }

    fn publish(&self, desk: &mut Desk) {
        desk.generation += 1;
        let world = World::build(desk.generation, self.fixed.clone(), desk.offers.clone());
        self.report_clashes(&world, desk);
        if world.catalog.over_bound > 0 {
            log::warn!(
                "entries left out because there are too many: {}",
                world.catalog.over_bound
            );
        }
        self.hub.publish(world);
        desk.window_ends
            .get_or_insert_with(|| Instant::now() + self.batch_delay);
    }

    /// Each clash once: a warning for a name that is refused, a note for a shared URI.
    fn report_clashes(&self, world: &World, desk: &mut Desk) {
        for clash in &world.catalog.clashes {
            if !desk.reported_clashes.insert(clash.clone()) {
                continue;
            }
            let name = |index: usize| self.fixed.servers[index].name();
            let level = match clash.kind {
                ListKind::Tools | ListKind::Prompts => log::Level::Warn,
                ListKind::Resources | ListKind::Templates => log::Level::Debug,
            };
            log::log!(
                level,
                "name clash name={:?} kept={:?} refused={:?}",
                clash.public,
                name(clash.kept),
                name(clash.refused)
            );
        }
    }

    fn updated(&self, server: usize, only: Option<&str>, uri: &str, text: &[u8]) {
        if only.is_none() {
            self.subscriptions.updated(server, uri);
        }
        for session in self.sessions.all() {
            if only.is_some_and(|only| only != session.id) {
                continue;
            }
            if session.is_subscribed(uri, server) {
                session.tell_once(text.to_vec());
            }
        }
    }

    /// From a process that belongs to one session, while no call of it is in flight.
    fn to_session(&self, session: &str, link: &Arc<Link>, message: SessionMessage) {
        let found = self.sessions.get(session);
        match (found, message) {
            (None, SessionMessage::Ask(asked)) => {
                link.answer_error(&asked.upstream_id, &ask::over("the session has ended"));
            }
            (None, SessionMessage::Log(_) | SessionMessage::Task(_)) => {}
            (Some(session), SessionMessage::Ask(asked)) => {
                if let Some(text) = ask::relay(&session, link, &asked, None) {
                    session.tell(text);
                }
            }
            (Some(session), SessionMessage::Log(notice)) => {
                if session.wants(notice.level) {
                    let text = session_tasks::shown(&session, link, notice.text, Part::Other);
                    text.into_iter().for_each(|text| session.tell(text));
                }
            }
            (Some(session), SessionMessage::Task(text)) => {
                let text = session_tasks::shown(&session, link, text, Part::Params);
                text.into_iter().for_each(|text| session.tell(text));
            }
        }
    }
}
