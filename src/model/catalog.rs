//! All servers' entries in one deterministic order, with their public names. Built anew from
//! the listings whenever one changes, immutable afterwards. No IO, no clock.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::base::limits;
use crate::mcp::list::ListKind;
use crate::model::listing::{Item, Listing};
use crate::model::naming::{Naming, public_name};
use crate::model::scope::Reach;

/// What the catalogue needs to know of one server. `index` is its place in the configuration.
pub struct Source<'a> {
    pub index: usize,
    pub name: &'a str,
    /// `None`: it has not listed anything yet, or not since it came back.
    pub listing: Option<&'a Listing>,
    pub disabled_tools: &'a BTreeSet<String>,
    /// Tools that are not as they were when they were pinned.
    pub held_tools: &'a BTreeSet<String>,
    /// What nobody sees is taken out.
    pub strips: bool,
    pub description_overrides: &'a BTreeMap<String, String>,
}

impl Source<'_> {
    fn hides(&self, kind: ListKind, item: &Item) -> bool {
        let among = |names: &BTreeSet<String>| names.contains(&*item.key);
        kind == ListKind::Tools && (among(self.disabled_tools) || among(self.held_tools))
    }

    /// What clients get of an entry; `None` when it cannot be made clean.
    fn shown(&self, kind: ListKind, item: &Item) -> Option<Item> {
        let item = match item.hides && self.strips {
            true => item.cleaned(kind)?,
            false => item.clone(),
        };
        let overrides = self.description_overrides;
        let text = (kind == ListKind::Tools).then(|| overrides.get(&*item.key));
        Some(match text.flatten() {
            Some(description) => item.with_description(description, kind),
            None => item,
        })
    }
}

/// One entry of the merged lists.
#[derive(Debug)]
pub struct Entry {
    pub server: usize,
    /// Place among all entries of its kind.
    pub index: usize,
    /// Place in the server's own list.
    pub position: usize,
    pub item: Item,
    /// What clients of the aggregate call it; the URI itself for resources.
    pub public: Arc<str>,
    /// Another server that comes earlier offers the same name or URI: shown only where that one
    /// is not.
    pub shadowed: bool,
    fingerprint: u64,
    /// Whatever its public name is.
    own_fingerprint: u64,
}

/// An entry that could not be offered under its name, and who has the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Clash {
    pub kind: ListKind,
    pub public: String,
    pub kept: usize,
    pub refused: usize,
}

impl Clash {
    fn new(kind: ListKind, public: &str, kept: usize, refused: usize) -> Clash {
        Clash {
            kind,
            public: public.to_owned(),
            kept,
            refused,
        }
    }
}

/// The servers that a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    All,
    /// By index in the configuration.
    Some(Vec<bool>),
    /// The same, where a token opens some servers in part only.
    Parts(Vec<Reach>),
}

impl Visible {
    pub fn has(&self, server: usize) -> bool {
        match self {
            Visible::All => true,
            Visible::Some(servers) => servers.get(server).copied().unwrap_or(false),
            Visible::Parts(parts) => parts
                .get(server)
                .is_some_and(|part| *part != Reach::Nothing),
        }
    }

    /// Whether one entry is seen.
    pub fn shows(&self, server: usize, kind: ListKind, item: &Item) -> bool {
        let Visible::Parts(parts) = self else {
            return self.has(server);
        };
        let is_tool = kind == ListKind::Tools;
        match parts.get(server) {
            None | Some(Reach::Nothing) => false,
            Some(Reach::Whole) => true,
            Some(Reach::ReadOnly) => !is_tool || item.reads_only,
            Some(Reach::Tools { names, read_only }) => {
                is_tool
                    && (item.reads_only || !read_only)
                    && names.iter().any(|name| **name == *item.key)
            }
        }
    }

    /// Whether all of a server is seen but, perhaps, tools: prompts and resources.
    pub fn has_more_than_tools(&self, server: usize) -> bool {
        match self {
            Visible::Parts(parts) => {
                matches!(parts.get(server), Some(Reach::Whole | Reach::ReadOnly))
            }
            _ => self.has(server),
        }
    }
}

#[derive(Debug, Default)]
struct List {
    entries: Vec<Entry>,
    /// Public name to the entries that have it, in configuration order.
    by_public: HashMap<Arc<str>, Vec<u32>>,
    /// Native name, for each server.
    by_native: HashMap<usize, HashMap<Arc<str>, u32>>,
}

#[derive(Debug, Default)]
pub struct Catalog {
    lists: [List; 4],
    pub clashes: Vec<Clash>,
    /// Entries left out because a bound was reached.
    pub over_bound: usize,
    /// Some tool has arguments that have a header.
    pub has_mirrors: bool,
    /// Servers that may still come with names that begin so: whoever stands behind them in the
    /// configuration does not get such a name meanwhile, so that the start has no say in it.
    awaited: Vec<(usize, String)>,
}

impl Catalog {
    /// Merges listings. `sources` must be in configuration order.
    pub fn build(sources: &[Source<'_>], naming: &Naming) -> Catalog {
        let mut catalog = Catalog::default();
        let mut total = 0;
        for source in sources {
            let Some(listing) = source.listing else {
                let prefix = naming.prefix_of(source.name);
                catalog
                    .awaited
                    .extend(prefix.map(|prefix| (source.index, prefix)));
                continue;
            };
            for kind in ListKind::ALL {
                for (position, item) in listing.of(kind).iter().enumerate() {
                    if source.hides(kind, item) {
                        continue;
                    }
                    if total >= limits::ENTRIES {
                        catalog.over_bound += 1;
                        continue;
                    }
                    total += usize::from(catalog.add(source, kind, position, item, naming));
                }
            }
        }
        catalog
    }

    fn add(
        &mut self,
        source: &Source<'_>,
        kind: ListKind,
        position: usize,
        item: &Item,
        naming: &Naming,
    ) -> bool {
        let Some(shown) = source.shown(kind, item) else {
            return false;
        };
        let named = matches!(kind, ListKind::Tools | ListKind::Prompts);
        let public: Arc<str> = match named {
            true => public_name(naming, source.name, &item.key).into(),
            false => item.key.clone(),
        };
        let mut awaited = self.awaited.iter().filter(|_| named);
        if let Some((kept, _)) = awaited.find(|(_, prefix)| public.starts_with(prefix)) {
            self.clashes
                .push(Clash::new(kind, &public, *kept, source.index));
            return false;
        }
        let list = &mut self.lists[kind as usize];
        let next = list.entries.len() as u32;
        let holders = list.by_public.entry(public.clone()).or_default();
        let first = holders.first().map(|&at| list.entries[at as usize].server);
        if let Some(kept) = first {
            self.clashes
                .push(Clash::new(kind, &public, kept, source.index));
            if kept == source.index {
                return false;
            }
        }
        match list
            .by_native
            .entry(source.index)
            .or_default()
            .entry(item.key.clone())
        {
            Slot::Occupied(_) => return false,
            Slot::Vacant(slot) => slot.insert(next),
        };
        holders.push(next);
        let item = shown;
        let own_fingerprint = fingerprint("", &item.raw);
        let fingerprint = fingerprint(&public, &item.raw);
        let shadowed = first.is_some();
        let server = source.index;
        self.has_mirrors |= item.mirrors.is_some();
        list.entries.push(Entry {
            server,
            index: next as usize,
            position,
            item,
            public,
            shadowed,
            fingerprint,
            own_fingerprint,
        });
        true
    }

    /// The entries of one list in their order, as `visible` allows.
    pub fn entries<'a>(
        &'a self,
        kind: ListKind,
        visible: &'a Visible,
    ) -> impl Iterator<Item = &'a Entry> {
        self.entries_from(kind, visible, 0, 0)
    }

    /// The same, starting at a server and a place in its list.
    pub fn entries_from<'a>(
        &'a self,
        kind: ListKind,
        visible: &'a Visible,
        server: usize,
        position: usize,
    ) -> impl Iterator<Item = &'a Entry> {
        let list = &self.lists[kind as usize];
        let start = list
            .entries
            .partition_point(|e| (e.server, e.position) < (server, position));
        list.entries[start..].iter().filter(move |entry| {
            visible.shows(entry.server, kind, &entry.item)
                && (!entry.shadowed
                    || self.first_holder(kind, &entry.public, visible) == Some(entry.server))
        })
    }

    fn first_holder(&self, kind: ListKind, public: &str, visible: &Visible) -> Option<usize> {
        self.by_public(kind, public, visible)
            .map(|entry| entry.server)
    }

    /// The entry that `public` names for a caller: the first visible one.
    pub fn by_public(&self, kind: ListKind, public: &str, visible: &Visible) -> Option<&Entry> {
        let list = &self.lists[kind as usize];
        let holders = list.by_public.get(public)?;
        holders
            .iter()
            .map(|&at| &list.entries[at as usize])
            .find(|e| visible.shows(e.server, kind, &e.item))
    }

    /// The entry of one server by its own name.
    pub fn by_native(&self, kind: ListKind, server: usize, native: &str) -> Option<&Entry> {
        let list = &self.lists[kind as usize];
        list.by_native
            .get(&server)?
            .get(native)
            .map(|&at| &list.entries[at as usize])
    }

    /// Changes when, and only when, what a caller would be shown changes.
    /// `own_names`: the caller is shown what the server calls its entries.
    pub fn digest(&self, kind: ListKind, visible: &Visible, own_names: bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        for entry in self.entries(kind, visible) {
            let fingerprint = match own_names {
                true => entry.own_fingerprint,
                false => entry.fingerprint,
            };
            fingerprint.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// All entries of one kind, shadowed ones too.
    pub fn len(&self, kind: ListKind) -> usize {
        self.lists[kind as usize].entries.len()
    }

    pub fn count(&self, kind: ListKind, server: usize) -> usize {
        self.lists[kind as usize]
            .by_native
            .get(&server)
            .map_or(0, HashMap::len)
    }
}

fn fingerprint(public: &str, raw: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    public.hash(&mut hasher);
    raw.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
