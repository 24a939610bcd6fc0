//! The keys of our own tokens: the first one signs, all of them verify. They are files, so that
//! several instances may share them and none needs a restart when they change. Without
//! any a key is made in the state directory.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::auth::watched::{self, Watched};
use crate::base::limits;
use crate::base::sys;
use crate::journal::audit::{self, Event, Outcome, Reason, Record};
use crate::secrets::replace;
use crate::wire::base64;
use crate::wire::hex;
use crate::wire::jose::jwk::write_set;
use crate::wire::jose::jws::{Jws, RULES};
use crate::wire::jose::signing::SigningKey;
use crate::wire::json::elements;
use crate::wire::members::Members;

pub struct KeySet {
    /// `None`: a key that lives as long as this process.
    place: Option<Watched>,
    keys: RwLock<Arc<Vec<SigningKey>>>,
}

impl KeySet {
    /// The keys of a file or a folder. `may_create`: of a file that is not there one is made.
    ///
    /// # Errors
    /// What is wrong with them, after "failed to".
    pub fn open(place: Option<&Path>, may_create: bool) -> Result<KeySet, String> {
        let Some(path) = place else {
            return Ok(KeySet {
                place: None,
                keys: RwLock::new(Arc::new(vec![random()?])),
            });
        };
        if may_create && !path.exists() {
            create(path)?;
        }
        let keys = load(path)?;
        let place = Watched::new(path.to_owned());
        place.changed(Instant::now());
        Ok(KeySet {
            place: Some(place),
            keys: RwLock::new(Arc::new(keys)),
        })
    }

    /// Reads what changed; true when it did. Keys that cannot be read leave those in force that
    /// were there.
    pub fn look(&self, now: Instant) -> bool {
        let Some(place) = self.place.as_ref().filter(|place| place.changed(now)) else {
            return false;
        };
        let keys = match load(&place.path) {
            Ok(keys) => keys,
            Err(error) => {
                log::error!("signing keys stay as they were error=\"failed to {error}\"");
                return false;
            }
        };
        let names: Vec<&str> = keys.iter().map(SigningKey::kid).collect();
        let names = names.join(" ");
        log::info!("signing keys read kids={names:?}");
        let mut record = Record::new(Event::KeyRotate, Outcome::Ok);
        record.name = &names;
        audit::note(record);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        true
    }

    fn keys(&self) -> Arc<Vec<SigningKey>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// A token with this `typ` and these claims (one JSON object) by the first key.
    pub fn sign(&self, kind: &str, claims: &str) -> Option<String> {
        self.keys().first()?.sign(kind, claims)
    }

    /// What stands for a text that others might guess, by each of the keys.
    pub fn marks(&self, purpose: &str, text: &str) -> Vec<String> {
        let keys = self.keys();
        let marks = keys.iter().map(|key| hex::encode(&key.mark(purpose, text)));
        marks.collect()
    }

    /// Whether one of the keys signed it. Its header may name a key, a kind and an algorithm,
    /// and nothing else.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, token: &Jws<'_>, kind: &str) -> Result<(), Reason> {
        if token.has_more || token.kind != kind {
            return Err(Reason::BadType);
        }
        let keys = self.keys();
        let kid = token.kid.as_deref();
        let key = keys.iter().find(|key| Some(key.kid()) == kid);
        let key = key.ok_or(Reason::BadSignature)?.public();
        if key.algorithm != token.algorithm {
            return Err(Reason::BadAlgorithm);
        }
        key.verifies(token)
            .then_some(())
            .ok_or(Reason::BadSignature)
    }

    /// The public halves, as `/.well-known/jwks.json` tells them.
    pub fn jwks(&self) -> String {
        write_set(self.keys().iter().map(SigningKey::public))
    }
}

fn random() -> Result<SigningKey, String> {
    let mut seed = [0; 32];
    sys::random_bytes(&mut seed);
    SigningKey::from_seed(&seed).ok_or_else(|| "make a signing key".to_owned())
}

fn create(path: &Path) -> Result<(), String> {
    let mut seed = [0; 32];
    sys::random_bytes(&mut seed);
    let key = SigningKey::from_seed(&seed).ok_or("make a signing key")?;
    let public = key.public().to_jwk();
    let open = public.strip_suffix('}').unwrap_or_default();
    let text = format!(
        "{{\"keys\":[{open},\"d\":\"{}\"}}]}}\n",
        base64::encode_url(&seed)
    );
    watched::prepare_folder(path)?;
    match replace::create(path, text.as_bytes()) {
        // Another instance was quicker: its key is as good.
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("create {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

fn load(path: &Path) -> Result<Vec<SigningKey>, String> {
    let mut keys: Vec<SigningKey> = Vec::new();
    for file in watched::files(path) {
        let text = watched::read(&file, limits::SIGNING_FILE_BYTES)?;
        let shown = file.display();
        let text = text.ok_or_else(|| format!("read {shown}: it does not exist"))?;
        let read = read(&text).ok_or_else(|| {
            format!(
                "use {shown}: write a private key for Ed25519 or P-256 as PEM (PKCS #8), as a JWK \
                 or as a set of them"
            )
        })?;
        keys.extend(read);
    }
    let twice = |at: usize| keys[..at].iter().any(|key| key.kid() == keys[at].kid());
    if let Some(at) = (1..keys.len()).find(|at| twice(*at)) {
        let (kid, shown) = (keys[at].kid(), path.display());
        return Err(format!("use {shown}: two keys have the name (kid) {kid}"));
    }
    match keys.is_empty() {
        true => Err(format!("find a key in {}", path.display())),
        false => Ok(keys),
    }
}

fn read(text: &str) -> Option<Vec<SigningKey>> {
    if text.trim_start().starts_with("-----BEGIN") {
        return Some(vec![SigningKey::from_pem(text)?]);
    }
    let members = Members::parse(text, 0, RULES).ok()?;
    match members.get("keys") {
        None => Some(vec![SigningKey::from_jwk(text)?]),
        Some(keys) => elements(keys, RULES)?
            .into_iter()
            .map(SigningKey::from_jwk)
            .collect(),
    }
}
