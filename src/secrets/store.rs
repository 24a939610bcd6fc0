//! The store: asks the providers of a `Spec` in their order. It lives as long as the program and
//! is shared; the configuration is loaded with it on one thread at a time, while the thread
//! `secrets` asks slow providers anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::secret::Secret;
use crate::base::{limits, mask};
use crate::net::stop::Stop;
use crate::secrets::answer::{Answer, Missing, Tried, Why};
use crate::secrets::key::{CREDENTIAL, KeySource};
use crate::secrets::sealed::{self, Contents};
use crate::secrets::slow::Slow;
use crate::secrets::spec::{Source, Spec};
use crate::secrets::{directory, name, variable};

#[derive(Default)]
pub struct Store {
    inner: Mutex<Inner>,
    /// Rises when a slow provider says something else than before.
    changes: AtomicU64,
    stop: Stop,
}

#[derive(Default)]
struct Inner {
    spec: Spec,
    /// One for each source that is slow, in their order.
    slow: Vec<Arc<Slow>>,
    /// Names that were asked for since the last `configure`.
    asked: BTreeSet<String>,
    /// Counts them.
    load: u64,
    /// The sealed file as it was read in this load; one for each source, in their order.
    opened: Vec<Result<Option<Arc<Contents>>, String>>,
}

impl Store {
    /// Begins a load: from now on these providers are asked. What slow ones said before is kept,
    /// where they are the same.
    pub fn configure(&self, spec: &Spec) {
        let mut inner = self.lock();
        let slow = spec
            .sources
            .iter()
            .filter_map(|source| self.slow(source, &inner.slow));
        inner.slow = slow.collect();
        inner.spec = spec.clone();
        inner.asked.clear();
        inner.opened.clear();
        inner.load += 1;
    }

    fn slow(&self, source: &Source, known: &[Arc<Slow>]) -> Option<Arc<Slow>> {
        let same = |is_it: &dyn Fn(&Slow) -> bool| known.iter().find(|slow| is_it(slow)).cloned();
        match source {
            Source::Command(spec) => Some(
                same(&|slow| slow.is_command(spec))
                    .unwrap_or_else(|| Arc::new(Slow::command(spec.clone(), self.stop.clone()))),
            ),
            Source::Vault(spec) => Some(
                same(&|slow| slow.is_vault(spec))
                    .unwrap_or_else(|| Arc::new(Slow::vault(spec.clone(), self.stop.clone()))),
            ),
            _ => None,
        }
    }

    /// The value of a secret, from the first provider that has it.
    ///
    /// # Errors
    /// Who was asked, and why nobody gave it.
    pub fn get(&self, name: &str) -> Result<Secret, Missing> {
        let missing = |why| Missing {
            name: name.to_owned(),
            why,
        };
        name::check(name).map_err(|right| missing(Why::BadName(right)))?;
        let (sources, load) = {
            let mut inner = self.lock();
            if inner.asked.len() >= limits::SECRETS && !inner.asked.contains(name) {
                return Err(missing(Why::TooMany));
            }
            inner.asked.insert(name.to_owned());
            (inner.spec.sources.clone(), inner.load)
        };
        let mut tried = Vec::new();
        let (mut slow, mut sealed) = (0, 0);
        for source in &sources {
            let (provider, answer) = match source {
                Source::Directory(folder) => {
                    (folder.display().to_string(), directory::ask(folder, name))
                }
                Source::Environment => ("environment".into(), self.ask_variables(name)),
                Source::Sealed { file, key } => {
                    sealed += 1;
                    let label = format!("sealed file {}", file.display());
                    (label, self.ask_sealed(sealed - 1, file, key, name))
                }
                Source::Command(_) | Source::Vault(_) => {
                    slow += 1;
                    let Some(slow) = self.lock().slow.get(slow - 1).cloned() else {
                        continue;
                    };
                    // Without the lock: it may take its time.
                    (slow.label(), slow.get(name, load))
                }
            };
            match answer {
                Answer::Found(value) => return Ok(known(value)),
                Answer::Absent(why) => tried.push(Tried { provider, why }),
                Answer::Trouble(why) | Answer::Away(why) => {
                    tried.push(Tried { provider, why });
                    return Err(missing(Why::Trouble(tried)));
                }
            }
        }
        Err(missing(Why::Nowhere(tried)))
    }

    fn ask_variables(&self, name: &str) -> Answer {
        let inner = self.lock();
        variable::ask(&inner.spec.variables, &inner.spec.folder, name)
    }

    fn ask_sealed(&self, at: usize, file: &Path, key: &KeySource, name: &str) -> Answer {
        if name == CREDENTIAL {
            return Answer::Absent("the key itself is no secret of others".into());
        }
        let mut inner = self.lock();
        while inner.opened.len() <= at {
            // Without the file nobody needs a key.
            let opened = match file.symlink_metadata() {
                Err(_) => Ok(None),
                Ok(_) => key.read().and_then(|key| sealed::open(file, &key)),
            };
            inner
                .opened
                .push(opened.map(|contents| contents.map(Arc::new)));
        }
        match inner.opened.get(at) {
            Some(Ok(Some(contents))) => match contents.get(name) {
                Some(entry) => Answer::Found(entry.value().to_owned()),
                None => Answer::Absent("it has no such name".into()),
            },
            Some(Ok(None)) | None => Answer::Absent("no such file".into()),
            Some(Err(why)) => Answer::Trouble(why.clone()),
        }
    }

    /// Every file that could change what was asked for since the last `configure`; also of files
    /// that are not there yet.
    pub fn watched(&self) -> Vec<PathBuf> {
        let inner = self.lock();
        let Spec {
            sources,
            variables,
            folder,
        } = &inner.spec;
        let mut paths = Vec::new();
        for source in sources {
            match source {
                Source::Directory(at) => paths.extend(inner.asked.iter().map(|name| at.join(name))),
                Source::Environment => {
                    let files = inner.asked.iter();
                    paths.extend(files.filter_map(|name| variable::file(variables, folder, name)));
                }
                Source::Sealed { file, key } if !inner.asked.is_empty() => {
                    paths.push(file.clone());
                    paths.extend(key.path().map(PathBuf::from));
                }
                Source::Sealed { .. } | Source::Command(_) | Source::Vault(_) => {}
            }
        }
        paths
    }

    /// A number that rises when a slow provider was asked anew and said something else.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether there is somebody to ask anew.
    pub fn is_slow(&self) -> bool {
        !self.lock().slow.is_empty()
    }

    /// Asks slow providers anew. For the thread `secrets`.
    pub fn refresh(&self) {
        let (slow, load) = {
            let inner = self.lock();
            (inner.slow.clone(), inner.load)
        };
        let mut changed = false;
        for one in slow {
            if self.stop.is_stopped() {
                return;
            }
            changed |= one.refresh(load);
        }
        if changed {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Somebody asks for the newest: the next load asks slow providers, too.
    pub fn doubt(&self) {
        let slow = self.lock().slow.clone();
        slow.iter().for_each(|slow| slow.doubt());
    }

    /// Ends requests that are under way; for the end of the program.
    pub fn stop(&self) {
        self.stop.stop();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From now on nobody reads it in a log, not even a line of it.
fn known(value: String) -> Secret {
    if value.contains('\n') {
        value.lines().for_each(mask::learn);
    }
    Secret::known(value)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    /// A folder of one test, gone with it.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Folder {
            let own = format!("onemcp-secrets-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(own);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    pub(crate) fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        owned.collect()
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
