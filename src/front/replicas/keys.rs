//! The keys that replicas share: lines of a file, or of the files of a folder in their order.
//! The first key seals, all of them open, so that a new one can be made known everywhere before
//! it is used. Deliberately absent: making one, which no replica could do for the others.

use std::path::Path;
use std::time::Instant;

use ring::digest;

use crate::auth::watched::{self, Watched};
use crate::base::limits;
use crate::model::rotating::Master;

pub struct KeyFile(Watched);

impl KeyFile {
    /// # Errors
    /// What is wrong with the keys, after "failed to".
    pub fn open(path: &Path) -> Result<(KeyFile, Vec<Master>), String> {
        let masters = load(path)?;
        let place = Watched::new(path.to_owned());
        place.changed(Instant::now());
        Ok((KeyFile(place), masters))
    }

    /// What changed, if it can be read.
    pub fn look(&self, now: Instant) -> Option<Vec<Master>> {
        if !self.0.changed(now) {
            return None;
        }
        match load(&self.0.path) {
            Ok(masters) => {
                log::info!("keys of replicas read count={}", masters.len());
                Some(masters)
            }
            Err(error) => {
                log::error!("keys of replicas stay as they were error=\"failed to {error}\"");
                None
            }
        }
    }
}

fn load(path: &Path) -> Result<Vec<Master>, String> {
    let mut masters = Vec::new();
    for file in watched::files(path) {
        let shown = file.display();
        let text = watched::read(&file, limits::SIGNING_FILE_BYTES)?;
        let text = text.ok_or_else(|| format!("read {shown}: it does not exist"))?;
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.len() < limits::REPLICA_KEY_CHARS {
                return Err(format!(
                    "use {shown}: a key has fewer than {} characters; make one with openssl \
                     rand -base64 32",
                    limits::REPLICA_KEY_CHARS
                ));
            }
            let mut master = Master::default();
            let hash = digest::digest(&digest::SHA256, line.as_bytes());
            master.copy_from_slice(hash.as_ref());
            masters.push(master);
        }
    }
    match masters.len() {
        0 => Err(format!("find a key in {}", path.display())),
        count if count > limits::SIGNING_KEYS => Err(format!(
            "use {}: it has more than {} keys",
            path.display(),
            limits::SIGNING_KEYS
        )),
        _ => Ok(masters),
    }
}
