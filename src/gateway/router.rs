//! The router thread: the only writer of the world. It takes what servers report and what a new
//! configuration asks for, publishes a new world, and tells clients about changes, gathered over
//! a window that opens with the first change and is not extended. It never waits for a server or
//! a client.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, at, never, select};

use crate::auth::Auth;
use crate::base::thread::Rest;
use crate::base::{limits, sys};
use crate::config::settings::Settings;
use crate::front::ask;
use crate::front::session::Session;
use crate::front::session_tasks;
use crate::gateway::fleet::Fleet;
use crate::gateway::gathering::Gathering;
use crate::gateway::hidden::Hidden;
use crate::gateway::pins::{Pins, pinning};
use crate::gateway::run::Clients;
use crate::gateway::witness::{Witness, tools_changed};
use crate::journal::audit::{self, Reason, Record};
use crate::journal::fact::{Fact, note};
use crate::journal::metrics::meter;
use crate::mcp::list::ListKind;
use crate::mcp::task::Part;
use crate::model::catalog::Clash;
use crate::model::hint::CacheHint;
use crate::model::listing::{Item, Listing};
use crate::relay::world::{Fixed, Hub, Offer, World};
use crate::upstream::event::{Event, ServerId, SessionMessage};
use crate::upstream::link::Link;
use crate::upstream::server::{Server, State};

pub struct Router {
    pub hub: Arc<Hub>,
    pub fleet: Arc<Fleet>,
    pub clients: Clients,
    pub events: Receiver<Event>,
    pub orders: Receiver<Order>,
    pub pins: Arc<Pins>,
    /// Its files are looked at now and then.
    pub auth: Option<Arc<Auth>>,
    pub began: Instant,
    /// The start is over at the latest then.
    pub settle_by: Instant,
}

/// Another configuration is in force. Its servers are started already; those that take the place
/// of others do so when they are ready, or have failed.
pub struct Order {
    pub fixed: Fixed,
    /// Is dropped when the order is carried out.
    pub done: Sender<()>,
}

/// What the router knows beyond the published world.
struct Desk {
    generation: u64,
    /// The configuration in force, with the handles that serve now.
    fixed: Arc<Fixed>,
    offers: Vec<Option<Offer>>,
    /// Handles that come up in the place of others.
    arriving: Vec<Arriving>,
    gathering: Gathering,
    next_sweep: Instant,
    reported_clashes: HashSet<Clash>,
    witness: Witness,
    pins: Arc<Pins>,
    hidden: Hidden,
    /// A server may have taken a turn that nobody was told of.
    turned: bool,
}

impl Desk {
    /// Where a handle serves; `None` for one that does not, or no longer.
    fn position(&self, id: ServerId) -> Option<usize> {
        self.fixed.servers.iter().position(|server| server.id == id)
    }

    fn server(&self, id: ServerId) -> Option<&Arc<Server>> {
        self.position(id).map(|at| &self.fixed.servers[at])
    }

    fn arriving_as(&mut self, id: ServerId) -> Option<&mut Arriving> {
        self.arriving.iter_mut().find(|one| one.server.id == id)
    }

    fn has_changed(&mut self) {
        self.gathering.changed(Instant::now());
    }

    /// Cursors stay good: the order goes on from what was offered before.
    fn take_listing(&mut self, position: usize, listing: &Listing) {
        self.note_tools(position, listing.of(ListKind::Tools));
        let is_first = self.offers[position].is_none();
        let offer = self.offers[position].get_or_insert_default();
        for kind in ListKind::ALL {
            offer.replace(kind, listing.of(kind).to_vec(), listing.hint(kind));
        }
        let changed = self.judge(position);
        if is_first && !changed.is_empty() {
            let server = self.fixed.servers[position].name().to_owned();
            note(Fact::ToolsChanged {
                server,
                added: Vec::new(),
                removed: Vec::new(),
                changed,
            });
        }
    }

    /// Which tools of a server are held back, and what is to be said of what it offers. Gives
    /// the tools that are not as pinned, when nobody was told of them.
    fn judge(&mut self, position: usize) -> Vec<String> {
        let (entry, settings) = (&self.fixed.entries[position], &self.fixed.settings);
        let Some(offer) = &mut self.offers[position] else {
            return Vec::new();
        };
        let mode = pinning(entry, settings);
        let tools = offer.listing.of(ListKind::Tools);
        let verdict = self.pins.judge(&entry.name, mode, tools);
        let mode = entry.strip_invisible.unwrap_or(settings.strip_invisible);
        let hidden = self.hidden.judge(&entry.name, mode, &offer.listing);
        let remarks: Vec<String> = verdict.remark.into_iter().chain(hidden).collect();
        offer.held = verdict.held;
        offer.remark = (!remarks.is_empty()).then(|| remarks.join("; "));
        verdict.changed
    }

    /// After an approval, or when other rules hold.
    fn judge_all(&mut self) {
        for position in 0..self.offers.len() {
            self.judge(position);
        }
        self.has_changed();
    }
}

impl Desk {
    /// A list that was read again.
    fn take_list(
        &mut self,
        position: usize,
        kind: ListKind,
        items: Vec<Item>,
        hint: Option<CacheHint>,
    ) {
        if kind == ListKind::Tools {
            self.note_tools(position, &items);
        }
        if let Some(offer) = &mut self.offers[position] {
            offer.replace(kind, items, hint);
            self.judge(position);
            self.has_changed();
        }
    }

    /// Before the tools that a server listed are replaced by others.
    fn note_tools(&self, position: usize, items: &[Item]) {
        let Some(offer) = &self.offers[position] else {
            return;
        };
        let name = self.fixed.servers[position].name();
        let before = offer.listing.of(ListKind::Tools);
        tools_changed(name, before, items)
            .into_iter()
            .for_each(note);
    }

    /// Turns of servers that nobody was told of yet.
    fn note_turns(&mut self) {
        if !std::mem::take(&mut self.turned) {
            return;
        }
        let servers = self.fixed.servers.iter();
        let servers = servers.map(|server| (server.id.slot, server.name(), server.status()));
        self.witness.observe(servers).into_iter().for_each(note);
    }
}

/// How long changes are gathered.
fn window(settings: &Settings) -> Duration {
    match settings.async_batch_notifications {
        true => settings.async_batch_delay.min(settings.async_max_delay),
        false => Duration::ZERO,
    }
}

struct Arriving {
    server: Arc<Server>,
    listing: Option<Listing>,
    /// It takes its place then at the latest.
    by: Instant,
}

impl Arriving {
    fn new(server: Arc<Server>, now: Instant) -> Arriving {
        let by = now + server.config.connection_timeout;
        Arriving {
            server,
            listing: None,
            by,
        }
    }

    fn may_serve(&self, now: Instant) -> bool {
        let state = self.server.status().state;
        let is_settled = match state {
            State::Ready => self.listing.is_some(),
            state => state.is_settled(),
        };
        is_settled || self.by <= now
    }
}

impl Router {
    /// Runs until `Event::Stop`.
    pub fn run(&self) {
        let fixed = self.hub.world().fixed.clone();
        let mut desk = Desk {
            generation: 0,
            offers: vec![None; fixed.servers.len()],
            fixed,
            arriving: Vec::new(),
            gathering: Gathering::default(),
            next_sweep: Instant::now() + limits::SWEEP,
            reported_clashes: HashSet::new(),
            witness: Witness::default(),
            pins: self.pins.clone(),
            hidden: Hidden::default(),
            turned: true,
        };
        self.look_if_settled(&desk);
        let mut orders = self.orders.clone();
        let mut rest = Rest::after_work();
        loop {
            let mut wake = desk
                .next_sweep
                .min(desk.gathering.next().unwrap_or(desk.next_sweep));
            if !self.hub.is_settled() {
                wake = wake.min(self.settle_by).min(self.next_late(&desk));
            }
            wake = self
                .clients
                .parking
                .next_expiry()
                .map_or(wake, |at| wake.min(at));
            wake = desk
                .arriving
                .iter()
                .fold(wake, |wake, one| wake.min(one.by));
            wake = rest.due().map_or(wake, |due| wake.min(due));
            let mut is_quiet = false;
            select! {
                recv(self.events) -> event => match event {
                    Ok(Event::Stop) | Err(_) => return,
                    Ok(event) => self.handle(event, &mut desk),
                },
                recv(orders) -> order => match order {
                    Ok(order) => self.adopt(order, &mut desk),
                    // Nobody changes the configuration any more: the end is near.
                    Err(_) => orders = never(),
                },
                recv(at(wake)) -> _ => is_quiet = true,
            }
            self.tick(&mut desk);
            match is_quiet {
                // All is loaded, or it is as it was before.
                true if rest.look() => sys::rest_code(),
                true => {}
                false => rest.worked(),
            }
        }
    }

    fn tick(&self, desk: &mut Desk) {
        let now = Instant::now();
        if desk.gathering.take_due(now) {
            self.announce(desk);
        }
        if !self.hub.is_settled() && now >= self.settle_by {
            log::warn!("start is over although servers are still loading");
            self.settle(desk);
        }
        self.let_arrive(desk);
        let is_calm = self.events.is_empty();
        if desk.gathering.may_publish(is_calm, Instant::now()) {
            self.publish(desk);
        }
        self.look_if_settled(desk);
        desk.note_turns();
        self.clients.parking.expire(now);
        if desk.next_sweep <= now {
            desk.next_sweep = now + limits::SWEEP;
            self.auth.iter().for_each(|auth| auth.look());
            self.look_at_keys(desk);
            self.clients.sessions.sweep(&desk.fixed.servers);
            desk.fixed
                .servers
                .iter()
                .for_each(|server| server.reap_instances());
        }
    }

    /// Replicas exchange the keys that they share while they run.
    fn look_at_keys(&self, desk: &Desk) {
        let replicas = self.clients.replicas.as_ref();
        if let Some(masters) = replicas.and_then(|replicas| replicas.look(Instant::now())) {
            desk.fixed.cursor_key.rotate(&masters);
            desk.fixed.task_key.rotate(&masters);
        }
    }

    fn handle(&self, event: Event, desk: &mut Desk) {
        match event {
            Event::Stop => {}
            // Nobody waits any more: then it came too late.
            Event::Beat(turned) => drop(turned.try_send(())),
            Event::Approved => desk.judge_all(),
            Event::Status { server } => self.status(server, desk),
            Event::Listing { server, listing } => self.listed(server, listing, desk),
            Event::List {
                server,
                kind,
                items,
                hint,
            } => {
                if let Some(arriving) = desk.arriving_as(server) {
                    if let Some(listing) = &mut arriving.listing {
                        listing.set(kind, items, hint);
                    }
                } else if let Some(position) = desk.position(server) {
                    desk.take_list(position, kind, items, hint);
                }
            }
            Event::ResourceUpdated {
                server,
                session,
                uri,
                text,
            } => {
                if desk.position(server).is_some() {
                    self.updated(server.slot, session.as_deref(), &uri, &text);
                }
            }
            Event::TaskChanged { server, id, text } => {
                self.clients
                    .subscriptions
                    .task_changed(server.slot, &id, &text);
            }
            Event::ElicitationComplete {
                server,
                session: only,
                id,
                text,
            } => {
                let Some(server) = desk.server(server) else {
                    return;
                };
                let server = server.name();
                let asked = |session: &Arc<Session>| {
                    only.as_ref().is_none_or(|only| *only == session.id)
                        && session.take_elicitation(server, &id)
                };
                if let Some(session) = self.clients.sessions.all().into_iter().find(asked) {
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
    fn status(&self, server: ServerId, desk: &mut Desk) {
        desk.turned = true;
        self.let_arrive(desk);
        if let Some(position) = desk.position(server) {
            let gone = desk.fixed.servers[position].status().has_nothing_to_offer();
            if gone && desk.offers[position].take().is_some() {
                desk.has_changed();
            }
        }
        self.look_if_settled(desk);
        self.hub.beat();
    }

    fn listed(&self, server: ServerId, listing: Listing, desk: &mut Desk) {
        if let Some(arriving) = desk.arriving_as(server) {
            arriving.listing = Some(listing);
            return self.let_arrive(desk);
        }
        if let Some(position) = desk.position(server) {
            desk.take_listing(position, &listing);
            desk.has_changed();
        }
    }

    /// Another configuration: who stays keeps what it offers, who leaves finishes its calls, and
    /// who comes in the place of another waits for its turn.
    fn adopt(&self, order: Order, desk: &mut Desk) {
        let now = Instant::now();
        let mut fixed = order.fixed;
        let mut offers = Vec::with_capacity(fixed.servers.len());
        let mut arriving = Vec::new();
        for server in &mut fixed.servers {
            let before = desk.fixed.position(server.id.slot);
            offers.push(before.and_then(|at| desk.offers[at].take()));
            if before.is_none() {
                server.take_over();
            }
            let serving = before.map(|at| desk.fixed.servers[at].clone());
            if let Some(serving) = serving.filter(|serving| serving.id != server.id) {
                let coming = std::mem::replace(server, serving);
                let known = desk
                    .arriving
                    .iter()
                    .position(|one| one.server.id == coming.id);
                arriving.push(match known {
                    Some(at) => desk.arriving.swap_remove(at),
                    None => Arriving::new(coming, now),
                });
            }
        }
        let stays = |id: ServerId| fixed.servers.iter().any(|server| server.id == id);
        let leaving = desk.fixed.servers.iter().filter(|server| !stays(server.id));
        let superseded = desk.arriving.iter().map(|one| &one.server);
        let leaving = leaving.chain(superseded.filter(|server| !stays(server.id)));
        leaving.for_each(|server| self.fleet.retire(server.clone()));
        meter::keep_servers(fixed.servers.iter().map(|server| server.name()));
        desk.fixed = Arc::new(fixed);
        desk.offers = offers;
        desk.arriving = arriving;
        desk.turned = true;
        desk.judge_all();
        self.let_arrive(desk);
        self.publish(desk);
        self.look_if_settled(desk);
        drop(order.done);
    }

    /// Handles that are ready, or have failed, take their places.
    fn let_arrive(&self, desk: &mut Desk) {
        let now = Instant::now();
        let is_due = |one: &Arriving| one.may_serve(now);
        if !desk.arriving.iter().any(is_due) {
            return;
        }
        let mut fixed = Fixed::clone(&desk.fixed);
        let arriving = std::mem::take(&mut desk.arriving);
        let (due, waiting): (Vec<_>, Vec<_>) = arriving.into_iter().partition(is_due);
        desk.arriving = waiting;
        let mut places = Vec::with_capacity(due.len());
        for one in due {
            let Some(position) = fixed.position(one.server.id.slot) else {
                continue;
            };
            one.server.take_over();
            let before = std::mem::replace(&mut fixed.servers[position], one.server);
            self.fleet.retire(before);
            places.push((position, one.listing));
        }
        desk.fixed = Arc::new(fixed);
        for (position, listing) in places {
            match listing {
                Some(listing) => desk.take_listing(position, &listing),
                None => desk.offers[position] = None,
            }
        }
        desk.turned = true;
        desk.has_changed();
    }

    /// A server may be ready while the lists that it reported still wait here: it is settled when
    /// they are served.
    fn look_if_settled(&self, desk: &Desk) {
        if self.hub.is_settled() || desk.gathering.is_behind() {
            return;
        }
        let now = Instant::now();
        let is_settled = |(server, offer): (&Arc<Server>, &Option<Offer>)| {
            let state = server.status().state;
            let is_over = state.is_settled() && (state != State::Ready || offer.is_some());
            is_over || self.late(server) <= now
        };
        if desk.fixed.servers.iter().zip(&desk.offers).all(is_settled) {
            self.settle(desk);
        }
    }

    /// When nobody waits for this server any more.
    fn late(&self, server: &Server) -> Instant {
        self.began + server.config.connection_timeout
    }

    /// The next such moment.
    fn next_late(&self, desk: &Desk) -> Instant {
        let now = Instant::now();
        let moments = desk.fixed.servers.iter().map(|server| self.late(server));
        let to_come = moments.filter(|moment| *moment > now);
        to_come.fold(self.settle_by, Instant::min)
    }

    /// The start is over.
    fn settle(&self, desk: &Desk) {
        if !desk.fixed.settings.async_notify_on_snapshot {
            self.know();
        }
        self.hub.settle();
    }

    /// What came up at the start is what there is: nobody is told of it.
    fn know(&self) {
        let world = self.hub.world();
        self.clients.sessions.know(&world);
        self.clients.subscriptions.know(&world);
    }

    /// A new world, if there is anything new.
    fn publish(&self, desk: &mut Desk) {
        if !desk.gathering.take_changes() {
            return;
        }
        desk.generation += 1;
        let world = World::build(desk.generation, desk.fixed.clone(), desk.offers.clone());
        meter::prune(|server, kind, native| world.may_have(server, kind, native));
        self.report_clashes(&world, desk);
        if world.catalog.over_bound > 0 {
            log::warn!(
                "entries left out because there are too many: {}",
                world.catalog.over_bound
            );
        }
        self.hub.publish(world);
        let length = window(&desk.fixed.settings);
        desk.gathering.published(length, Instant::now());
    }

    /// Tells clients what has changed in what they see.
    fn announce(&self, desk: &Desk) {
        let settings = &desk.fixed.settings;
        let is_start = !self.hub.is_settled();
        let is_quiet = is_start && !settings.async_notify_on_snapshot;
        if is_quiet || !settings.enable_client_notifications {
            return self.know();
        }
        let world = self.hub.world();
        self.clients.sessions.announce(&world);
        self.clients.subscriptions.announce(&world);
    }

    /// Each clash once: a warning for a name that is refused, a note for a shared URI.
    fn report_clashes(&self, world: &World, desk: &mut Desk) {
        for clash in &world.catalog.clashes {
            if !desk.reported_clashes.insert(clash.clone()) {
                continue;
            }
            let name = |position: usize| world.servers()[position].name();
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
            audit::note(Record {
                server: name(clash.refused),
                method: clash.kind.method(),
                name: &clash.public,
                detail: &format!("{:?} has the name", name(clash.kept)),
                ..Record::denied(audit::Event::NameRefused, Reason::Shadowed)
            });
        }
    }

    fn updated(&self, server: usize, only: Option<&str>, uri: &str, text: &[u8]) {
        let world = self.hub.world();
        let position = world.fixed.position(server);
        if only.is_none() {
            self.clients.subscriptions.updated(&world, server, uri);
        }
        for session in self.clients.sessions.all() {
            if only.is_some_and(|only| only != session.id) {
                continue;
            }
            // It may have been opened to its client when that subscribed, and be closed now.
            let is_seen = || {
                let visible = session.visible(&world);
                position.is_some_and(|at| visible.has_more_than_tools(at))
            };
            if session.is_subscribed(uri, server) && is_seen() {
                session.tell_once(text.to_vec());
            }
        }
    }

    /// From a process that belongs to one session, while no call of it is in flight.
    fn to_session(&self, session: &str, link: &Arc<Link>, message: SessionMessage) {
        let found = self.clients.sessions.get(session);
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
