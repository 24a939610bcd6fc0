//! The routing world: an immutable snapshot that only the router thread replaces. A request
//! takes it once and sees one world to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use crate::config::preset::Preset;
use crate::config::server::ServerConfig;
use crate::config::settings::Settings;
use crate::journal::metrics::meter::{self, Meter};
use crate::mcp::list::ListKind;
use crate::model::catalog::{Catalog, Entry, Source, Visible};
use crate::model::cursor::CursorKey;
use crate::model::hint::CacheHint;
use crate::model::listing::{Item, Listing};
use crate::model::naming::server_slug;
use crate::model::order::ListOrder;
use crate::model::task_id::TaskKey;
use crate::model::visible_text::Invisible;
use crate::upstream::server::Server;

/// What does not change while the gateway runs on one configuration. The place of a server in it
/// is its position: good in worlds of this configuration only.
#[derive(Clone)]
pub struct Fixed {
    pub settings: Arc<Settings>,
    pub presets: Arc<BTreeMap<String, Preset>>,
    pub cursor_key: Arc<CursorKey>,
    pub task_key: Arc<TaskKey>,
    pub servers: Vec<Arc<Server>>,
    /// By position: what the configuration says of each server now. A server may have been
    /// started with an earlier entry, as far as the difference needs no new process.
    pub entries: Vec<Arc<ServerConfig>>,
}

impl Fixed {
    /// Where the server of `slot` stands.
    pub fn position(&self, slot: usize) -> Option<usize> {
        self.servers
            .iter()
            .position(|server| server.id.slot == slot)
    }
}

/// One server's lists and the order that cursors refer to.
#[derive(Clone, Default)]
pub struct Offer {
    pub listing: Listing,
    pub orders: [Arc<ListOrder>; 4],
    /// Tools that are not as they were when they were pinned.
    pub held: Arc<BTreeSet<String>>,
    /// What an operator should know of what it offers.
    pub remark: Option<String>,
}

impl Offer {
    pub fn replace(&mut self, kind: ListKind, items: Vec<Item>, hint: Option<CacheHint>) {
        let keys: Vec<String> = items.iter().map(|item| item.key.to_string()).collect();
        let order = &mut self.orders[kind as usize];
        *order = Arc::new(order.merge(&keys));
        self.listing.set(kind, items, hint);
    }
}

pub struct World {
    pub generation: u64,
    pub fixed: Arc<Fixed>,
    /// By server; `None` until it has been ready once, and after it was given up.
    pub offers: Vec<Option<Offer>>,
    pub catalog: Catalog,
    meters: Meters,
}

/// The meters of tools and prompts, by the place of their entries: each is looked up when it is
/// first called in this world.
struct Meters([Box<[Cell]>; 2]);

type Cell = OnceLock<Option<Arc<Meter>>>;

/// What has meters.
const METERED: [ListKind; 2] = [ListKind::Tools, ListKind::Prompts];

impl Meters {
    fn of(catalog: &Catalog) -> Meters {
        Meters(METERED.map(|kind| {
            let cells = std::iter::repeat_with(OnceLock::new);
            cells.take(catalog.len(kind)).collect()
        }))
    }
}

impl World {
    pub fn build(generation: u64, fixed: Arc<Fixed>, offers: Vec<Option<Offer>>) -> World {
        let entries = fixed.entries.iter().zip(&offers).enumerate();
        let nothing = BTreeSet::new();
        let sources: Vec<Source<'_>> = entries
            .filter(|(index, (_, offer))| offer.is_some() || fixed.servers[*index].is_enabled())
            .map(|(index, (entry, offer))| {
                let invisible = entry
                    .strip_invisible
                    .unwrap_or(fixed.settings.strip_invisible);
                let offer = offer.as_ref();
                Source {
                    index,
                    name: &entry.name,
                    listing: offer.map(|offer| &offer.listing),
                    disabled_tools: &entry.disabled_tools,
                    held_tools: offer.map_or(&nothing, |offer| &offer.held),
                    strips: invisible == Invisible::Strip,
                    description_overrides: &entry.tool_description_overrides,
                }
            })
            .collect();
        let catalog = Catalog::build(&sources, &fixed.settings.naming);
        drop(sources);
        World {
            generation,
            fixed,
            offers,
            meters: Meters::of(&catalog),
            catalog,
        }
    }

    /// What measures calls of a tool or prompt.
    pub fn meter(&self, kind: ListKind, entry: &Entry) -> Option<&Arc<Meter>> {
        let at = METERED.iter().position(|metered| *metered == kind)?;
        let look_up = || {
            let server = self.servers()[entry.server].name();
            meter::of_entry(server, kind, &entry.item.key, &entry.public)
        };
        self.meters.0[at]
            .get(entry.index)?
            .get_or_init(look_up)
            .as_ref()
    }

    /// Whether a server lists this entry, or may list it again when it is back.
    pub fn may_have(&self, server: &str, kind: ListKind, native: &str) -> bool {
        let mut servers = self.servers().iter();
        let position = servers.position(|handle| handle.name() == server);
        position.is_some_and(|at| {
            self.offers[at].is_none() || self.catalog.by_native(kind, at, native).is_some()
        })
    }

    pub fn servers(&self) -> &[Arc<Server>] {
        &self.fixed.servers
    }

    /// How long and for whom a list may be kept: what all servers in it agree to. One with
    /// sessions says nothing and announces its changes: `otherwise` holds for it.
    pub fn hint(&self, kind: ListKind, visible: &Visible, otherwise: CacheHint) -> CacheHint {
        let offers = self.offers.iter().enumerate();
        let offers = offers.filter(|(index, _)| visible.has(*index));
        let hints = offers.filter_map(|(_, offer)| offer.as_ref()?.listing.hint(kind));
        hints.fold(otherwise, CacheHint::and)
    }

    /// By its name, or by the form its name takes in tool names.
    pub fn position_named(&self, name: &str) -> Option<usize> {
        let servers = &self.fixed.servers;
        let exact = servers.iter().position(|server| server.name() == name);
        exact.or_else(|| {
            servers
                .iter()
                .position(|server| server_slug(server.name()) == name)
        })
    }

    /// Those of a view, each with its position.
    pub fn visible_servers<'w>(
        &'w self,
        visible: &'w Visible,
    ) -> impl Iterator<Item = (usize, &'w Arc<Server>)> {
        let servers = self.servers().iter().enumerate();
        servers.filter(|(position, _)| visible.has(*position))
    }

    /// The server that a client's subscription was made at, if it is still there.
    pub fn server_in(&self, slot: usize) -> Option<&Arc<Server>> {
        self.servers().iter().find(|server| server.id.slot == slot)
    }
}

/// Where the current world is found, and where it is waited for.
pub struct Hub {
    world: RwLock<Arc<World>>,
    /// Every server has been ready, has failed, or took too long.
    settled: Mutex<bool>,
    changed: Condvar,
    /// Counts what may interest those who watch.
    beats: Mutex<u64>,
    beaten: Condvar,
}

impl Hub {
    pub fn new(world: World) -> Hub {
        Hub {
            world: RwLock::new(Arc::new(world)),
            settled: Mutex::new(false),
            changed: Condvar::new(),
            beats: Mutex::new(0),
            beaten: Condvar::new(),
        }
    }

    pub fn world(&self) -> Arc<World> {
        self.world
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// For the router thread.
    pub fn publish(&self, world: World) {
        *self.world.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(world);
        drop(self.settled.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        self.beat();
    }

    /// For the router thread: from now on nobody is held.
    pub fn settle(&self) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
        self.beat();
    }

    /// The state of a server, or anything else that people watch, may be another one now.
    pub fn beat(&self) {
        *self.beats.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.beaten.notify_all();
    }

    /// The number of beats, once it is not `seen` any more, at the latest at the deadline.
    pub fn wait_beat(&self, seen: u64, deadline: Instant) -> u64 {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if *beats != seen || left.is_zero() {
                return *beats;
            }
            beats = self
                .beaten
                .wait_timeout(beats, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub fn is_settled(&self) -> bool {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without async loading clients wait for the end of the start.
    pub fn holds_clients(&self) -> bool {
        !self.world().fixed.settings.enable_async_loading && !self.is_settled()
    }

    /// Waits until the start is over; the router bounds that time too.
    pub fn wait_settled(&self, deadline: Instant) {
        self.wait(deadline, |settled, _| settled);
    }

    /// Waits for a world that `fits`, and returns the newest one either way.
    pub fn wait_for(&self, deadline: Instant, fits: impl Fn(&World) -> bool) -> Arc<World> {
        self.wait(deadline, |_, world| fits(world))
    }

    fn wait(&self, deadline: Instant, done: impl Fn(bool, &World) -> bool) -> Arc<World> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let world = self.world();
            let left = deadline.saturating_duration_since(Instant::now());
            if done(*settled, &world) || left.is_zero() {
                return world;
            }
            settled = self
                .changed
                .wait_timeout(settled, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
