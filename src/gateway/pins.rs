//! Which tools are as they were when they were first seen. The router asks it about each list of
//! tools that it takes in; operators approve what has changed. What a request costs is nothing:
//! a tool that is held back is not in the catalogue.
//!
//! First sight pins, because nobody can say what a server should offer before it said so. From
//! then on a change is told, and with `block` kept from clients until it is approved. So are
//! tools that a known server did not have: they are read by models like a changed text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::sorted::SortedMap;
use crate::base::{ordered, time};
use crate::config::Config;
use crate::config::process_environment;
use crate::config::secret_sources::state_folder;
use crate::config::server::ServerConfig;
use crate::config::settings::Settings;
use crate::gateway::pin_book::{self, Book, Found, Known};
use crate::journal::audit::{self, Event, Outcome, Reason, Record};
use crate::model::listing::Item;
use crate::model::pin::{self, Pinning};

pub struct Pins {
    /// `None`: there is no state directory, and pins last as long as the gateway.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    book: Book,
    /// The file lacks something that is in the book, and why.
    unsaved: Option<String>,
    /// What was told of each server: tools that are not as pinned, by their hashes.
    told: SortedMap<String, SortedMap<String, String>>,
    /// What operators were shown of each, likewise.
    shown: SortedMap<String, SortedMap<String, String>>,
}

/// What follows for a server from the tools that it lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Neither listed nor called.
    pub held: Arc<BTreeSet<String>>,
    /// Differ from their pins, and nobody was told of it.
    pub changed: Vec<String>,
    /// For health.
    pub remark: Option<String>,
}

/// A tool that is not as it was pinned.
pub struct Difference {
    pub tool: String,
    pub pinned: Option<Known>,
    /// The canonical form now; `None` when it is not offered any more.
    pub now: Option<String>,
}

impl Difference {
    /// Of what is offered now.
    fn hash(&self) -> String {
        self.now.as_deref().map(pin::hash).unwrap_or_default()
    }
}

/// What holds for a server.
pub fn pinning(entry: &ServerConfig, settings: &Settings) -> Pinning {
    entry.tool_pins.unwrap_or(settings.tool_pins)
}

/// Name and text of each tool; of two with one name the first counts.
fn offered(items: &[Item]) -> BTreeMap<&str, &str> {
    let pairs = items.iter().map(|item| (&*item.key, &*item.raw));
    ordered::map(pairs.rev())
}

impl Pins {
    /// Opens the pins of `config`. Nothing is touched where nobody wants any.
    pub fn open(config: &Config) -> Pins {
        let settings = &config.settings;
        let modes = || {
            let entries = config.servers.iter();
            entries.map(|entry| pinning(entry, settings))
        };
        let folder = state_folder(settings, &process_environment());
        let path = folder.map(|folder| folder.join("pins.json"));
        let pins = Pins {
            path,
            state: Mutex::default(),
        };
        if modes().any(|mode| mode != Pinning::Off) {
            pins.load(modes().any(|mode| mode == Pinning::Block));
        }
        pins
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, blocks: bool) {
        let Some(path) = &self.path else {
            log::warn!("pins last until the end only: no state directory is known");
            return;
        };
        let found = match pin_book::read(path) {
            // Another gateway may be about to write the first one.
            Ok(Found::Lost(_)) if !path.exists() => {
                pin_book::turn(path).and_then(|_turn| pin_book::read(path))
            }
            found => found,
        };
        let mut state = self.state();
        let why = match found {
            Ok(Found::Book(book)) => return state.book = book,
            Ok(Found::Nothing) => return log::info!("pins begin file={:?}", path.display()),
            Ok(Found::Lost(why)) | Err(why) => why,
        };
        log::warn!("pins are lost blocks={blocks}: {why}");
        if blocks {
            let now = time::now_rfc3339();
            self.edit(&mut state, |book| book.lost = Some(now));
        }
    }

    /// Changes the book, here and in the file, on top of what others wrote there.
    fn edit<T>(&self, state: &mut State, change: impl FnOnce(&mut Book) -> T) -> T {
        let Some(path) = &self.path else {
            return change(&mut state.book);
        };
        let turn = pin_book::turn(path);
        let is_saved = state.unsaved.is_none();
        let read = turn.as_ref().ok().filter(|_| is_saved);
        if let Some(Ok(Found::Book(book))) = read.map(|_| pin_book::read(path)) {
            state.book = book;
        }
        let outcome = change(&mut state.book);
        let saved = turn.and_then(|_turn| pin_book::write(path, &state.book));
        if let Err(why) = &saved
            && is_saved
        {
            log::warn!("pins are not saved: {why}");
        }
        state.unsaved = saved.err();
        outcome
    }

    /// Pins what was never seen, as far as `mode` says, and tells what is not as it was.
    pub fn judge(&self, server: &str, mode: Pinning, items: &[Item]) -> Verdict {
        if mode == Pinning::Off {
            return Verdict::default();
        }
        let offered = offered(items);
        let mut state = self.state();
        let is_known = state.book.servers.contains_key(server);
        let is_lost = state.book.lost.is_some() && mode == Pinning::Block;
        if mode == Pinning::Warn || !is_known && !is_lost {
            self.pin_new(&mut state, server, mode, &offered);
        }
        let pins = state.book.servers.get(server);
        let (mut news, mut changed, mut fresh) = (SortedMap::new(), Vec::new(), 0);
        for (tool, raw) in &offered {
            let hash = pin::hash(&pin::canonical(raw));
            match pins.and_then(|tools| tools.get(*tool)) {
                Some(known) if known.hash == hash => continue,
                Some(known) => {
                    changed.push(((*tool).to_owned(), known.hash.clone(), hash.clone()));
                }
                None => fresh += 1,
            }
            news.insert((*tool).to_owned(), hash);
        }
        let held = match mode {
            Pinning::Block => ordered::set(news.keys().cloned()),
            _ => BTreeSet::new(),
        };
        let remark = remark(&state, &held, changed.len(), fresh, is_known || !is_lost);
        let told = state.told.remove(server).unwrap_or_default();
        changed.retain(|(tool, ..)| told.get(tool) != news.get(tool));
        for (tool, was, is) in &changed {
            log::warn!("tool changed server={server:?} tool={tool:?} pinned={was} now={is}");
            let detail = format!("pinned {was}, now {is}");
            let outcome = match mode {
                Pinning::Block => Outcome::Deny,
                _ => Outcome::Allow,
            };
            tell(Event::ToolChanged, outcome, server, tool, mode, &detail);
        }
        for tool in held
            .iter()
            .filter(|tool| told.get(*tool) != news.get(*tool))
        {
            log::warn!("tool is held back server={server:?} tool={tool:?}");
            let detail = "held back until it is approved";
            tell(Event::ToolPinned, Outcome::Deny, server, tool, mode, detail);
        }
        if !news.is_empty() {
            state.told.insert(server.to_owned(), news);
        }
        Verdict {
            held: Arc::new(held),
            changed: changed.into_iter().map(|(tool, ..)| tool).collect(),
            remark,
        }
    }

    /// Pins tools without a pin; one that another gateway has pinned meanwhile stays as it is.
    fn pin_new<'t>(
        &self,
        state: &mut State,
        server: &str,
        mode: Pinning,
        offered: &BTreeMap<&'t str, &str>,
    ) {
        let book = &state.book;
        let is_known = book.servers.contains_key(server);
        if is_known && !offered.keys().any(|tool| book.lacks(server, tool)) {
            return;
        }
        let pinned: Vec<&str> = self.edit(state, |book| {
            let is_known = book.servers.contains_key(server);
            book.of(server);
            // Another gateway may have been first: then what is new here is news.
            if is_known && mode == Pinning::Block {
                return Vec::new();
            }
            let pin = |(tool, raw): (&&'t str, &&str)| {
                let lacks = book.lacks(server, tool);
                let pins = lacks && book.pin(server, tool, &pin::canonical(raw));
                pins.then_some(*tool)
            };
            offered.iter().filter_map(pin).collect()
        });
        if !pinned.is_empty() {
            log::info!("tools pinned server={server:?} tools={}", pinned.len());
        }
        for tool in pinned {
            let outcome = Outcome::Ok;
            tell(Event::ToolPinned, outcome, server, tool, mode, "seen first");
        }
    }

    /// Takes what a server offers now for good: `tools`, or everything.
    ///
    /// # Errors
    /// When it does not offer one of them, or there is no room.
    pub fn approve(
        &self,
        server: &str,
        mode: Pinning,
        tools: &[String],
        items: &[Item],
    ) -> Result<Vec<Difference>, String> {
        let offered = offered(items);
        if let Some(tool) = tools.iter().find(|tool| !offered.contains_key(&***tool)) {
            return Err(format!("{server:?} does not offer a tool {tool:?} now"));
        }
        let mut approved = self.differences(server, items);
        approved.retain(|one| tools.is_empty() || tools.contains(&one.tool));
        let mut state = self.state();
        // Whoever looked approves what he saw; whoever did not, approves what there is.
        let shown = state.shown.get(server);
        let is_other = |one: &&Difference| {
            shown.is_some_and(|shown| shown.get(&one.tool) != Some(&one.hash()))
        };
        if let Some(one) = approved.iter().find(is_other) {
            let tool = &one.tool;
            return Err(format!(
                "{tool:?} of {server:?} is not as it was shown; onemcp pins diff shows it again"
            ));
        }
        let wanted = approved.len();
        self.edit(&mut state, |book| {
            book.of(server);
            if tools.is_empty() {
                book.retain(server, |tool| offered.contains_key(tool));
            }
            approved.retain(|one| {
                let now = one.now.as_ref();
                now.is_none_or(|canonical| book.pin(server, &one.tool, canonical))
            });
        });
        for one in &approved {
            let (tool, hash) = (&one.tool, one.hash());
            log::info!("tool approved server={server:?} tool={tool:?} hash={hash}");
            let detail = format!("approved {hash}");
            let outcome = Outcome::Ok;
            tell(Event::ToolPinned, outcome, server, tool, mode, &detail);
        }
        match (wanted == approved.len(), &state.unsaved) {
            (false, _) => Err("there is no room for more pins; some are not approved".to_owned()),
            (true, Some(why)) => Err(format!("approved until the gateway ends: {why}")),
            (true, None) => Ok(approved),
        }
    }

    /// From now on servers that were never seen are taken as they come again.
    pub fn trust(&self) {
        let mut state = self.state();
        if state.book.lost.is_some() {
            self.edit(&mut state, |book| book.lost = None);
        }
    }

    /// The same for an operator, who may approve what he saw and nothing that came after.
    pub fn show(&self, server: &str, items: &[Item]) -> Vec<Difference> {
        let found = self.differences(server, items);
        let hashes = found.iter().map(|one| (one.tool.clone(), one.hash()));
        let shown = hashes.collect();
        self.state().shown.insert(server.to_owned(), shown);
        found
    }

    /// How the tools of a server differ from their pins.
    pub fn differences(&self, server: &str, items: &[Item]) -> Vec<Difference> {
        let mut offered = offered(items);
        let state = self.state();
        let pins = state.book.servers.get(server);
        let mut found = Vec::new();
        for (tool, known) in pins.into_iter().flat_map(SortedMap::iter) {
            let now = offered.remove(tool.as_str()).map(pin::canonical);
            if now.as_deref().map(pin::hash).as_ref() != Some(&known.hash) {
                let (tool, pinned) = (tool.clone(), Some(known.clone()));
                found.push(Difference { tool, pinned, now });
            }
        }
        found.extend(offered.into_iter().map(|(tool, now)| Difference {
            tool: tool.to_owned(),
            pinned: None,
            now: Some(pin::canonical(now)),
        }));
        found
    }
}

/// For the audit log.
fn tell(event: Event, outcome: Outcome, server: &str, tool: &str, mode: Pinning, detail: &str) {
    let policy = match mode {
        Pinning::Off => "pins=off",
        Pinning::Warn => "pins=warn",
        Pinning::Block => "pins=block",
    };
    let is_denied = outcome == Outcome::Deny;
    audit::note(Record {
        reason: is_denied.then_some(Reason::Changed),
        server,
        name: tool,
        policy,
        detail,
        ..Record::new(event, outcome)
    });
}

/// What health says of the tools of a server.
fn remark(
    state: &State,
    held: &BTreeSet<String>,
    changed: usize,
    fresh: usize,
    is_trusted: bool,
) -> Option<String> {
    let mut parts = Vec::new();
    if !is_trusted {
        parts.push("the pins are lost".to_owned());
    }
    if changed > 0 {
        parts.push(format!("tools changed since they were pinned: {changed}"));
    }
    if fresh > 0 {
        parts.push(format!("tools without a pin: {fresh}"));
    }
    if !held.is_empty() {
        parts.push(format!("held back until they are approved: {}", held.len()));
    }
    if let Some(why) = &state.unsaved {
        parts.push(format!("pins are not saved: {why}"));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
#[path = "pins_tests.rs"]
mod tests;
