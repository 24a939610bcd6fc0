//! What was revoked before its time: families of tokens, and everything of a client or a subject
//! up to a moment. A file of lines that are only added, so that instances which share it learn
//! of each other's; and the shared store, where there is one. Bounded: what can no longer be good
//! is forgotten, and when there is still too much, every token that is older than now is over.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use crate::auth::store::ends;
use crate::auth::watched::{self, Watched};
use crate::base::limits;
use crate::net::redis::Redis;
use crate::secrets::replace::{self, Turn};
use crate::wire::json::{quoted, string_value};

/// What is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Everything with this `sid`.
    Family,
    /// One token, by its `jti`.
    Token,
    /// What was issued to this client before.
    Client,
    /// What was issued for this subject before.
    Subject,
    /// What was issued before, whoever has it.
    All,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Family, "family"),
    (Kind::Token, "token"),
    (Kind::Client, "client"),
    (Kind::Subject, "subject"),
    (Kind::All, "all"),
];

impl Kind {
    pub fn as_str(self) -> &'static str {
        let row = KINDS.iter().find(|(known, _)| *known == self);
        row.map_or("", |(_, word)| word)
    }
}

/// What a token says that may be over.
pub struct Asked<'a> {
    pub family: Option<&'a str>,
    pub id: &'a str,
    pub client: &'a str,
    pub subject: &'a str,
    pub issued_s: u64,
}

pub struct Revoked {
    place: Option<Watched>,
    shared: Option<Shared>,
    /// Until which second each was revoked; what was issued later is good.
    before: RwLock<HashMap<Kind, HashMap<String, u64>>>,
}

/// Where other gateways learn of it.
struct Shared {
    redis: Arc<Redis>,
    /// The version of the store that is known here and that knows what is known here.
    seen: Mutex<Option<String>>,
    /// It does not know something that was revoked here.
    owes: AtomicBool,
}

impl Revoked {
    /// # Errors
    /// When the file is there and cannot be read, after "failed to".
    pub fn open(
        place: Option<PathBuf>,
        shared: Option<Arc<Redis>>,
        now_s: u64,
    ) -> Result<Revoked, String> {
        let revoked = Revoked {
            place: place.map(Watched::new),
            shared: shared.map(|redis| Shared {
                redis,
                seen: Mutex::default(),
                owes: AtomicBool::new(false),
            }),
            before: RwLock::default(),
        };
        if let Some(place) = &revoked.place {
            place.changed(Instant::now());
            revoked.read(&place.path, now_s)?;
        }
        Ok(revoked)
    }

    /// Reads what others revoked. True when there may be something new.
    pub fn look(&self, now: Instant, now_s: u64) -> bool {
        let Some(place) = self.place.as_ref().filter(|place| place.changed(now)) else {
            return false;
        };
        if let Err(error) = self.read(&place.path, now_s) {
            log::error!("revocations of others not read error=\"failed to {error}\"");
        }
        true
    }

    /// Learns from the shared store what others revoked, and tells it what it does not know. True
    /// when there may be something new.
    ///
    /// # Errors
    /// When the store is away, after "failed to".
    pub fn exchange(&self, now_s: u64) -> Result<bool, String> {
        let Some(shared) = &self.shared else {
            return Ok(false);
        };
        let failed = |error| format!("share revocations: {error}");
        let version = Some(ends::version(&shared.redis).map_err(failed)?);
        let seen = || shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let owes = shared.owes.swap(false, Ordering::AcqRel);
        if *seen() == version && !owes {
            return Ok(false);
        }
        let exchanged = ends::read(&shared.redis).and_then(|theirs| {
            let ours = self.merge(&theirs, now_s);
            ends::tell(&shared.redis, &ours, oldest(now_s))
        });
        if let Err(error) = exchanged {
            shared.owes.store(true, Ordering::Release);
            return Err(failed(error));
        }
        // When something was told there is another version already, and another look.
        *seen() = version;
        Ok(true)
    }

    /// Takes over what others revoked; what they do not know.
    fn merge(&self, theirs: &[(String, u64)], now_s: u64) -> Vec<(String, u64)> {
        let mut before = self.before.write().unwrap_or_else(PoisonError::into_inner);
        let mut known = HashMap::new();
        for (text, moment) in theirs {
            known.insert(text.as_str(), *moment);
            if let Some((kind, value)) = parse_end(text) {
                let ours = before.entry(kind).or_default().entry(value).or_default();
                *ours = (*ours).max(*moment);
            }
        }
        forget_old(&mut before, now_s);
        let everything = before.get(&Kind::All).and_then(|all| all.get("")).copied();
        let mut ours = Vec::new();
        for (kind, all) in before.iter_mut() {
            // What is over as a part of everything needs no line of its own.
            let counts =
                |moment: &u64| *kind == Kind::All || everything.is_none_or(|all| *moment > all);
            all.retain(|_, moment| counts(moment));
            for (value, moment) in all.iter() {
                let text = end_text(*kind, value);
                if known.get(text.as_str()).is_none_or(|known| known < moment) {
                    ours.push((text, *moment));
                }
            }
        }
        ours
    }

    pub fn covers(&self, asked: &Asked<'_>) -> bool {
        let before = self.before.read().unwrap_or_else(PoisonError::into_inner);
        if before.is_empty() {
            return false;
        }
        let at = |kind, value| before.get(&kind).and_then(|all| all.get(value));
        let is_old = |moment: &u64| asked.issued_s <= *moment;
        asked
            .family
            .is_some_and(|sid| at(Kind::Family, sid).is_some())
            || at(Kind::Token, asked.id).is_some()
            || at(Kind::Client, asked.client).is_some_and(is_old)
            || at(Kind::Subject, asked.subject).is_some_and(is_old)
            || at(Kind::All, "").is_some_and(is_old)
    }

    /// From now on it is over, here at once and elsewhere when the file is looked at.
    ///
    /// # Errors
    /// When it could not be written, after "failed to"; here it is over nevertheless.
    pub fn add(&self, kind: Kind, value: &str, now_s: u64) -> Result<(), String> {
        let is_full = {
            let mut before = self.before.write().unwrap_or_else(PoisonError::into_inner);
            forget_old(&mut before, now_s);
            let count: usize = before.values().map(HashMap::len).sum();
            let is_full = count >= limits::REVOKED;
            if is_full {
                before.clear();
                before
                    .entry(Kind::All)
                    .or_default()
                    .insert(String::new(), now_s);
            }
            before
                .entry(kind)
                .or_default()
                .insert(value.to_owned(), now_s);
            is_full
        };
        let told = self.tell(kind, value, is_full, now_s);
        self.write(kind, value, is_full, now_s)?;
        told
    }

    fn tell(&self, kind: Kind, value: &str, is_full: bool, now_s: u64) -> Result<(), String> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let mut told = vec![(end_text(kind, value), now_s)];
        if is_full {
            told.push((end_text(Kind::All, ""), now_s));
        }
        let told = ends::tell(&shared.redis, &told, oldest(now_s));
        told.map_err(|error| {
            // They are told when the store is back.
            shared.owes.store(true, Ordering::Release);
            format!("tell other gateways: {error}")
        })
    }

    fn write(&self, kind: Kind, value: &str, is_full: bool, now_s: u64) -> Result<(), String> {
        let Some(place) = &self.place else {
            return Ok(());
        };
        let failed = |error| format!("write {}: {error}", place.path.display());
        watched::prepare_folder(&place.path)?;
        let deadline = Instant::now() + limits::SECRET_LOCK;
        let _turn = Turn::wait(&place.path, deadline).map_err(failed)?;
        let length = std::fs::metadata(&place.path).map_or(0, |found| found.len());
        if is_full || length > limits::REVOKED_FILE_BYTES / 2 {
            self.read(&place.path, now_s)?;
            return replace::replace(&place.path, self.text().as_bytes()).map_err(failed);
        }
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&place.path);
        let line = line(kind, value, now_s);
        let written = file.and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            file.sync_data()
        });
        written.map_err(failed)
    }

    fn read(&self, path: &Path, now_s: u64) -> Result<(), String> {
        let text = watched::read(path, limits::REVOKED_FILE_BYTES)?.unwrap_or_default();
        let mut before = self.before.write().unwrap_or_else(PoisonError::into_inner);
        for (kind, value, moment) in text.lines().filter_map(parse) {
            let known = before.entry(kind).or_default().entry(value).or_default();
            *known = moment.max(*known);
        }
        forget_old(&mut before, now_s);
        Ok(())
    }

    fn text(&self) -> String {
        let before = self.before.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (kind, all) in before.iter() {
            for (value, moment) in all {
                text += &line(*kind, value, *moment);
            }
        }
        text
    }
}

/// Nothing that was good then can be good now.
fn oldest(now_s: u64) -> u64 {
    let life_s = limits::ACCESS_TOKEN_MINUTES * 60 + limits::TOKEN_FUTURE_S;
    now_s.saturating_sub(life_s)
}

fn forget_old(before: &mut HashMap<Kind, HashMap<String, u64>>, now_s: u64) {
    let oldest_s = oldest(now_s);
    for all in before.values_mut() {
        all.retain(|_, moment| *moment > oldest_s);
    }
}

/// As the shared store keeps it, its moment beside it.
fn end_text(kind: Kind, value: &str) -> String {
    format!("{} {}", kind.as_str(), quoted(value))
}

fn parse_end(text: &str) -> Option<(Kind, String)> {
    let (word, value) = text.split_once(' ')?;
    let (kind, _) = KINDS.iter().find(|(_, known)| *known == word)?;
    Some((*kind, string_value(value)?.into_owned()))
}

fn line(kind: Kind, value: &str, moment_s: u64) -> String {
    format!("{} {moment_s} {}\n", kind.as_str(), quoted(value))
}

/// `family 1790000000 "value"`; half a line of a writer that was killed is none.
fn parse(line: &str) -> Option<(Kind, String, u64)> {
    let (word, rest) = line.split_once(' ')?;
    let (moment, value) = rest.split_once(' ')?;
    let (kind, _) = KINDS.iter().find(|(_, known)| *known == word)?;
    Some((
        *kind,
        string_value(value)?.into_owned(),
        moment.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::{Asked, Kind, Revoked};
    use crate::base::limits;
    use crate::secrets::store::testing::Folder;

    const NOW: u64 = 1_790_000_000;

    fn asked<'a>(family: &'a str, client: &'a str, subject: &'a str, issued_s: u64) -> Asked<'a> {
        Asked {
            family: Some(family),
            id: "jti",
            client,
            subject,
            issued_s,
        }
    }

    #[test]
    fn each_kind_ends_what_it_names_and_nothing_else() {
        let revoked = Revoked::open(None, None, NOW).unwrap();
        assert!(!revoked.covers(&asked("f", "c", "s", 0)));
        revoked.add(Kind::Family, "f", NOW).unwrap();
        revoked.add(Kind::Client, "c", NOW).unwrap();
        revoked.add(Kind::Subject, "s", NOW).unwrap();
        assert!(revoked.covers(&asked("f", "x", "x", NOW + 5)));
        assert!(revoked.covers(&asked("x", "c", "x", NOW)));
        assert!(!revoked.covers(&asked("x", "c", "x", NOW + 1)));
        assert!(revoked.covers(&asked("x", "x", "s", NOW - 1)));
        assert!(!revoked.covers(&asked("c", "s", "f", NOW)));
        revoked.add(Kind::Token, "other", NOW).unwrap();
        assert!(!revoked.covers(&asked("x", "x", "x", NOW + 1)));
        revoked.add(Kind::Token, "jti", NOW).unwrap();
        assert!(revoked.covers(&asked("x", "x", "x", NOW + 1)));
        let late = NOW + limits::ACCESS_TOKEN_MINUTES * 60 + limits::TOKEN_FUTURE_S;
        revoked.add(Kind::Family, "other", late).unwrap();
        assert!(!revoked.covers(&asked("f", "x", "x", NOW)), "forgotten");
    }

    #[test]
    fn others_learn_of_it_and_half_a_line_is_none() {
        let folder = Folder::new("revoked");
        let place = Some(folder.path("sub/revoked"));
        let one = Revoked::open(place.clone(), None, NOW).unwrap();
        let two = Revoked::open(place.clone(), None, NOW).unwrap();
        one.add(Kind::Family, "a \"b\"\n", NOW).unwrap();
        assert!(!two.covers(&asked("a \"b\"\n", "", "", NOW)));
        let later = std::time::Instant::now() + limits::AUTH_LOOK;
        assert!(two.look(later, NOW));
        assert!(two.covers(&asked("a \"b\"\n", "", "", NOW)));
        let path = folder.path("sub/revoked");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text += "family 1790000000 \"hal";
        std::fs::write(&path, text).unwrap();
        let three = Revoked::open(place, None, NOW).unwrap();
        assert!(three.covers(&asked("a \"b\"\n", "", "", NOW)));
        assert!(!three.covers(&asked("hal", "", "", NOW)));
    }

    #[test]
    fn too_many_end_everything_that_is_older() {
        let revoked = Revoked::open(None, None, NOW).unwrap();
        for family in 0..limits::REVOKED {
            let mut before = revoked.before.write().unwrap();
            let families = before.entry(Kind::Family).or_default();
            families.insert(family.to_string(), NOW);
        }
        revoked.add(Kind::Family, "one more", NOW + 1).unwrap();
        assert!(revoked.covers(&asked("7", "", "", NOW + 1)));
        assert!(revoked.covers(&asked("never named", "", "", NOW + 1)));
        assert!(!revoked.covers(&asked("never named", "", "", NOW + 2)));
        assert!(revoked.covers(&asked("one more", "", "", NOW + 2)));
    }
}
