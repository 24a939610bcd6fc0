//! A small client for Redis and Valkey (RESP2): a few connections that callers take in turn, each
//! call with one deadline. Runs on the threads of its callers. When the store is away, one caller
//! at a time looks whether it is back, the pauses grow, and everybody else is told at once.
//! Deliberately absent: pipelines, transactions (a script is one step), clusters, and repeats: what
//! was sent may have been done.

mod link;
pub mod reply;
mod secure;
pub mod spec;

#[cfg(test)]
#[path = "../../../tests/it/support/redis.rs"]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::base::secret::Secret;
use crate::base::sys::random_bytes;
use crate::net::redis::link::Link;
use crate::net::redis::secure::Trust;
use crate::net::redis::spec::Spec;
use crate::net::stop::Stop;

pub use crate::net::redis::reply::Answer;
#[cfg(test)]
pub(crate) use crate::net::redis::testing::RedisServer;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be reached, or does not answer. It may have done what it was asked.
    Away(String),
    /// It does not do that: the first word of its error.
    Refused(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Away(what) => f.write_str(what),
            Trouble::Refused(code) => {
                let remedy = match code.as_str() {
                    "NOAUTH" | "WRONGPASS" => "write user and password into gateway.store",
                    "NOPERM" => "give its user the commands that docs/replicas.md names",
                    "OOM" => "give it more memory",
                    _ => "look into its log",
                };
                write!(f, "it answered {code}; {remedy}")
            }
        }
    }
}

pub struct Redis {
    spec: Spec,
    trust: Option<Trust>,
    pool: Mutex<Pool>,
    freed: Condvar,
    stop: Stop,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Link>,
    busy: usize,
    down: Option<Down>,
}

/// Since the last try failed.
struct Down {
    /// Nobody tries before.
    until: Instant,
    pause: Duration,
    why: Trouble,
}

/// The connection on which news come.
pub struct Ears(Link);

impl Redis {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// When the certificates cannot be used, after "failed to".
    pub fn new(spec: Spec) -> Result<Redis, String> {
        let trust = spec.is_tls.then(|| Trust::open(spec.ca_file.as_deref()));
        Ok(Redis {
            trust: trust.transpose()?,
            spec,
            pool: Mutex::default(),
            freed: Condvar::new(),
            stop: Stop::default(),
        })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Ends every wait, here and from now on.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Why the store is away, as far as is known.
    pub fn trouble(&self) -> Option<Trouble> {
        let pool = self.pool();
        pool.down.as_ref().map(|down| down.why.clone())
    }

    /// # Errors
    /// Why there is no answer.
    pub fn ask(&self, words: &[&[u8]]) -> Result<Answer, Trouble> {
        let until = Instant::now() + limits::SHARED_WAIT;
        let (mut link, asked) = match self.take(until)? {
            Some(link) => (Ok(link), true),
            None => (self.connect(until), false),
        };
        let answer = match &mut link {
            Ok(link) => link.ask(words, until),
            Err(trouble) => Err(trouble.clone()),
        };
        self.give_back(link.ok(), &answer, asked);
        answer
    }

    /// News of a channel, from now on.
    ///
    /// # Errors
    /// Why there are none.
    pub fn subscribe(&self, channel: &str) -> Result<Ears, Trouble> {
        let until = Instant::now() + limits::SHARED_WAIT;
        let mut link = self.connect(until)?;
        link.ask(&[b"SUBSCRIBE", channel.as_bytes()], until)?;
        Ok(Ears(link))
    }

    /// A connection that waits, or the right to make one. Who must not try is told why.
    fn take(&self, until: Instant) -> Result<Option<Link>, Trouble> {
        let mut pool = self.pool();
        loop {
            let now = Instant::now();
            if let Some(down) = pool.down.as_ref().filter(|down| now < down.until) {
                return Err(down.why.clone());
            }
            if pool.busy < limits::SHARED_CONNECTIONS {
                // Only this caller tries; until it knows more, the others need not.
                if let Some(down) = &mut pool.down {
                    down.until = now + limits::SHARED_WAIT;
                }
                pool.busy += 1;
                while let Some(link) = pool.idle.pop() {
                    if link.is_quiet() {
                        return Ok(Some(link));
                    }
                }
                return Ok(None);
            }
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                let busy = "too many wait for it";
                return Err(Trouble::Away(busy.to_owned()));
            }
            let waited = self.freed.wait_timeout(pool, left);
            (pool, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, link: Option<Link>, answer: &Result<Answer, Trouble>, was_used: bool) {
        let mut pool = self.pool();
        pool.busy -= 1;
        match answer {
            Err(trouble) if is_down(trouble) => {
                let known = pool.down.as_ref().map(|down| down.pause);
                // Who was refused on an old connection has not tried a new one.
                let pause = match known {
                    Some(pause) => (pause * 2).min(limits::SHARED_PAUSE_MOST),
                    None => limits::SHARED_PAUSE,
                };
                let is_first = known.is_none();
                if is_first {
                    // Whoever watches the store says it aloud.
                    let place = self.spec.shown();
                    log::debug!("store does not answer place={place} error=\"{trouble}\"");
                }
                pool.idle.clear();
                let at_once = is_first && was_used;
                pool.down = Some(Down {
                    until: Instant::now()
                        + if at_once {
                            Duration::ZERO
                        } else {
                            jittered(pause)
                        },
                    pause,
                    why: trouble.clone(),
                });
            }
            _ => {
                if pool.down.take().is_some() {
                    log::debug!("store answers again place={}", self.spec.shown());
                }
                pool.idle.extend(link);
            }
        }
        drop(pool);
        self.freed.notify_one();
    }

    /// A connection on which commands may be given: greeted, and to the one who decides.
    fn connect(&self, until: Instant) -> Result<Link, Trouble> {
        let Some(primary) = &self.spec.primary else {
            let (host, port) = &self.spec.hosts[0];
            return self.greeted((host, *port), until);
        };
        let mut trouble = Trouble::Away("no sentinel is named".to_owned());
        for (at, (host, port)) in self.spec.hosts.iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            let others = u32::try_from(self.spec.hosts.len() - at).unwrap_or(1);
            // Half of its part is for the primary itself.
            let part = Instant::now() + left / (others + 1);
            match self.primary((host, *port), primary, part) {
                Ok((host, port)) => match self.greeted((&host, port), until) {
                    Ok(mut link) => {
                        let role = link.ask(&[b"ROLE"], until)?.list().into_iter().next();
                        if role.and_then(Answer::text).as_deref() == Some("master") {
                            return Ok(link);
                        }
                        let what = "the sentinel names one that is no primary any more";
                        trouble = Trouble::Away(what.to_owned());
                    }
                    Err(other) => trouble = other,
                },
                Err(other) => trouble = other,
            }
        }
        Err(trouble)
    }

    /// Where a sentinel says that the primary is.
    fn primary(
        &self,
        sentinel: (&str, u16),
        name: &str,
        until: Instant,
    ) -> Result<(String, u16), Trouble> {
        let mut link = Link::open(sentinel, self.trust.as_ref(), &self.stop, until)?;
        authenticate(&mut link, "", self.spec.sentinel_password.as_ref(), until)?;
        let words: [&[u8]; 3] = [b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()];
        let mut told = link.ask(&words, until)?.list().into_iter();
        let mut next = || told.next().and_then(Answer::text);
        let (host, port) = (next(), next().and_then(|port| port.parse().ok()));
        let unknown = || Trouble::Away("the sentinel knows no primary of that name".to_owned());
        let (host, port) = host.zip(port).ok_or_else(unknown)?;
        let is_v6 = host.contains(':');
        Ok((if is_v6 { format!("[{host}]") } else { host }, port))
    }

    fn greeted(&self, place: (&str, u16), until: Instant) -> Result<Link, Trouble> {
        let spec = &self.spec;
        let mut link = Link::open(place, self.trust.as_ref(), &self.stop, until)?;
        authenticate(&mut link, &spec.user, spec.password.as_ref(), until)?;
        if spec.database > 0 {
            link.ask(&[b"SELECT", spec.database.to_string().as_bytes()], until)?;
        }
        Ok(link)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ears {
    /// The next news; `None` when there are none until then.
    ///
    /// # Errors
    /// When no more will come.
    pub fn hear(&mut self, until: Instant) -> Result<Option<String>, Trouble> {
        let heard = self.0.hear(until)?;
        let words = heard.map(Answer::list).unwrap_or_default();
        // `message`, the channel, and what was said.
        Ok(words.into_iter().nth(2).and_then(Answer::text))
    }
}

fn authenticate(
    link: &mut Link,
    user: &str,
    password: Option<&Secret>,
    until: Instant,
) -> Result<(), Trouble> {
    let Some(password) = password else {
        return Ok(());
    };
    let password = password.expose().as_bytes();
    let words: &[&[u8]] = match user {
        "" => &[b"AUTH", password],
        user => &[b"AUTH", user.as_bytes(), password],
    };
    link.ask(words, until).map(drop)
}

/// Whether nothing is to be had from it for now. Else it only said no to one command.
fn is_down(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Away(_) => true,
        Trouble::Refused(code) => {
            let words = "LOADING MASTERDOWN READONLY NOAUTH WRONGPASS NOREPLICAS CLUSTERDOWN";
            words.split(' ').any(|word| word == code)
        }
    }
}

/// So that replicas do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    random_bytes(&mut byte);
    pause / 2 + pause / 512 * u32::from(byte[0])
}
