//! API keys: random texts with a name, scopes and perhaps an end, for programs that cannot log
//! in. Only their SHA-256 is kept, in a file that `onemcp key` writes and the gateway looks at.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Instant;

use ring::digest::{SHA256, digest};

use crate::auth::cache::Fingerprint;
use crate::auth::watched::{self, Watched};
use crate::base::limits;
use crate::base::sys;
use crate::journal::audit::{self, Event, Outcome, Reason, Record};
use crate::model::principal::{Means, Principal};
use crate::model::scope::Scopes;
use crate::secrets::replace::{self, Turn};
use crate::wire::base64;
use crate::wire::jose::jws::RULES;
use crate::wire::json::{elements, quoted};
use crate::wire::members::Members;

/// How every key begins, so that people and scanners know what it is.
pub const PREFIX: &str = "omk_";

/// `iss` of principals with a key.
const ISSUER: &str = "api-key";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Names it where there may be several of one name in time.
    pub id: String,
    pub name: String,
    pub scopes: Scopes,
    pub created_s: u64,
    pub expires_s: Option<u64>,
    hash: Fingerprint,
}

impl ApiKey {
    /// A new key, and its text, which is nowhere else.
    pub fn new(name: &str, scopes: Scopes, now_s: u64, expires_s: Option<u64>) -> (ApiKey, String) {
        let (mut secret, mut id) = ([0; 32], [0; 6]);
        sys::random_bytes(&mut secret);
        sys::random_bytes(&mut id);
        let text = format!("{PREFIX}{}", base64::encode_url(&secret));
        let key = ApiKey {
            id: base64::encode_url(&id),
            name: name.to_owned(),
            scopes,
            created_s: now_s,
            expires_s,
            hash: fingerprint(&text),
        };
        (key, text)
    }

    fn read(text: &str) -> Option<ApiKey> {
        let key = Members::parse(text, 1, RULES).ok()?;
        let text = |name: &str| Some(key.string(name)?.into_owned());
        let hash = base64::decode_url(text("sha256")?.as_bytes())?;
        Some(ApiKey {
            id: text("id")?,
            name: text("name")?,
            scopes: Scopes::parse(&text("scopes")?).ok()?,
            created_s: key.get("created")?.parse().ok()?,
            expires_s: match key.get("expires") {
                Some(moment) => Some(moment.parse().ok()?),
                None => None,
            },
            hash: hash.try_into().ok()?,
        })
    }

    fn write(&self) -> String {
        let end = self.expires_s.map(|end| format!(",\"expires\":{end}"));
        format!(
            "{{\"id\":{},\"name\":{},\"scopes\":{},\"created\":{}{},\"sha256\":\"{}\"}}",
            quoted(&self.id),
            quoted(&self.name),
            quoted(&self.scopes.to_string()),
            self.created_s,
            end.unwrap_or_default(),
            base64::encode_url(&self.hash)
        )
    }
}

/// SHA-256: keys are long and random, so nothing slower is needed.
pub fn fingerprint(text: &str) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

fn note(event: Event, key: &ApiKey) {
    let (name, scopes) = (format!("{} {}", key.name, key.id), key.scopes.to_string());
    log::info!("API keys changed event={} key={name:?}", event.as_str());
    let mut record = Record::new(event, Outcome::Ok);
    (record.name, record.scopes_used) = (&name, &scopes);
    audit::note(record);
}

/// A name as people give it: it stands in logs and in audits.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    (1..=limits::API_KEY_NAME_BYTES).contains(&name.len()) && name.bytes().all(fits)
}

/// The keys of a file; none when there is no file.
///
/// # Errors
/// When it cannot be read, after "failed to".
pub fn load(path: &Path) -> Result<Vec<ApiKey>, String> {
    let Some(text) = watched::read(path, limits::API_KEY_FILE_BYTES)? else {
        return Ok(Vec::new());
    };
    let keys = || -> Option<Vec<ApiKey>> {
        let file = Members::parse(&text, 0, RULES).ok()?;
        let keys = elements(file.get("keys")?, RULES)?;
        keys.into_iter().map(ApiKey::read).collect()
    };
    let shown = path.display();
    keys().ok_or_else(|| format!("read {shown}: it is not what onemcp key writes"))
}

/// Changes the keys of a file; writers take turns, readers see the old or the new ones.
///
/// # Errors
/// When it cannot be read or written, after "failed to", or what `change` says.
pub fn edit<T>(
    path: &Path,
    change: impl FnOnce(&mut Vec<ApiKey>) -> Result<T, String>,
) -> Result<T, String> {
    let failed = |error| format!("write {}: {error}", path.display());
    watched::prepare_folder(path)?;
    let deadline = Instant::now() + limits::SECRET_LOCK;
    let _turn = Turn::wait(path, deadline).map_err(failed)?;
    let mut keys = load(path)?;
    let changed = change(&mut keys)?;
    let lines: Vec<String> = keys.iter().map(ApiKey::write).collect();
    let text = format!("{{\"keys\":[\n{}\n]}}\n", lines.join(",\n"));
    replace::replace(path, text.as_bytes()).map_err(failed)?;
    Ok(changed)
}

/// Those of the running gateway.
pub struct ApiKeys {
    place: Option<Watched>,
    known: RwLock<HashMap<Fingerprint, ApiKey>>,
    /// Who came in by a key and may still be here.
    given: Mutex<Vec<(Weak<Principal>, Fingerprint)>>,
}

impl ApiKeys {
    /// # Errors
    /// When there is a file that cannot be read, after "failed to".
    pub fn open(place: Option<PathBuf>) -> Result<ApiKeys, String> {
        let keys = ApiKeys {
            place: place.map(Watched::new),
            known: RwLock::default(),
            given: Mutex::default(),
        };
        if let Some(place) = &keys.place {
            place.changed(Instant::now());
            keys.replace(load(&place.path)?);
        }
        Ok(keys)
    }

    /// Reads what changed; true when it did. Whoever has a key that is gone has gone, too. Keys
    /// that cannot be read leave those in force that were there.
    pub fn look(&self, now: Instant) -> bool {
        let Some(place) = self.place.as_ref().filter(|place| place.changed(now)) else {
            return false;
        };
        match load(&place.path) {
            Ok(keys) => {
                self.note_changes(&keys);
                self.replace(keys);
                true
            }
            Err(error) => {
                log::error!("API keys stay as they were error=\"failed to {error}\"");
                false
            }
        }
    }

    fn note_changes(&self, keys: &[ApiKey]) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let stays = |hash: &Fingerprint| keys.iter().any(|key| key.hash == *hash);
        for key in keys.iter().filter(|key| !known.contains_key(&key.hash)) {
            note(Event::KeyCreate, key);
        }
        for key in known.values().filter(|key| !stays(&key.hash)) {
            note(Event::KeyRevoke, key);
        }
    }

    fn replace(&self, keys: Vec<ApiKey>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *known);
        for key in keys {
            known.insert(key.hash, key);
        }
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|(who, hash)| {
            let Some(who) = who.upgrade() else {
                return false;
            };
            let stays = known.get(hash) == before.get(hash);
            if !stays {
                who.end();
            }
            stays
        });
    }

    /// Whose key it is.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub fn verify(&self, hash: &Fingerprint, now_s: u64) -> Result<Principal, Reason> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let key = known.get(hash).ok_or(Reason::UnknownKey)?;
        if key.expires_s.is_some_and(|end| end <= now_s) {
            return Err(Reason::Expired);
        }
        let mut who = Principal::new(Means::ApiKey, ISSUER, &key.name, &key.id);
        who.scopes = key.scopes.clone();
        who.expires_s = key.expires_s;
        Ok(who)
    }

    /// From now on this principal ends with its key.
    pub fn watch(&self, who: &Arc<Principal>, hash: Fingerprint) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() == given.capacity() {
            given.retain(|(who, _)| who.strong_count() > 0);
        }
        given.push((Arc::downgrade(who), hash));
        if !known.contains_key(&hash) {
            who.end();
        }
    }
}
