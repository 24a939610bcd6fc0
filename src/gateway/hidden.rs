//! Which entries hold characters that people do not see: each is told once. What becomes of
//! them is decided where the catalogue is built.

use std::sync::Arc;

use crate::base::sorted::{SortedMap, SortedSet};
use crate::journal::audit::{self, Event, Outcome, Reason, Record};
use crate::mcp::list::ListKind;
use crate::model::listing::Listing;
use crate::model::visible_text::Invisible;

/// What was told of each server.
#[derive(Default)]
pub struct Hidden {
    told: SortedMap<String, SortedSet<(ListKind, Arc<str>)>>,
}

impl Hidden {
    /// Tells what is new, and gives what health says.
    pub fn judge(&mut self, server: &str, mode: Invisible, listing: &Listing) -> Option<String> {
        let told = self.told.remove(server).unwrap_or_default();
        if mode == Invisible::Off {
            return None;
        }
        let mut found = SortedSet::new();
        for kind in ListKind::ALL {
            for item in listing.of(kind).iter().filter(|item| item.hides) {
                found.insert((kind, item.key.clone()));
            }
        }
        for one in found.iter().filter(|one| !told.contains(*one)) {
            let (kind, name) = one;
            let list = kind.member();
            log::warn!("invisible characters server={server:?} list={list} name={name:?}");
            audit::note(Record {
                reason: Some(Reason::Invisible),
                server,
                method: kind.method(),
                name,
                policy: match mode {
                    Invisible::Strip => "invisible=strip",
                    _ => "invisible=flag",
                },
                ..Record::new(Event::ToolFlagged, Outcome::Ok)
            });
        }
        let count = found.len();
        if count == 0 {
            return None;
        }
        self.told.insert(server.to_owned(), found);
        Some(format!("entries with invisible characters: {count}"))
    }
}
