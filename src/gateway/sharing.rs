//! What a gateway tells others that have the same store, and hears of them: revocations, and
//! servers that said that a list changed. Owner: the thread `store`, which also finds out whether
//! the store is there, so that health can say it. Deliberately absent: what is asked of the store
//! while somebody waits for it (`auth::store`).

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::auth::Auth;
use crate::auth::store::ends;
use crate::base::sys::random_bytes;
use crate::base::time::unix_s;
use crate::base::{limits, thread};
use crate::front::standing::Configured;
use crate::net::redis::{Ears, Redis, Trouble};
use crate::relay::world::Hub;
use crate::wire::hex;

pub struct Sharing {
    redis: Arc<Redis>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

struct Watch {
    redis: Arc<Redis>,
    auth: Option<Arc<Auth>>,
    hub: Arc<Hub>,
    configured: Arc<Configured>,
    stopped: Receiver<()>,
    /// By which it knows its own news.
    own: String,
}

impl Sharing {
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(
        redis: Arc<Redis>,
        auth: Option<Arc<Auth>>,
        hub: Arc<Hub>,
        configured: Arc<Configured>,
    ) -> std::io::Result<Sharing> {
        let (stop, stopped) = bounded(0);
        let mut random = [0; 8];
        random_bytes(&mut random);
        let watch = Watch {
            redis: redis.clone(),
            auth,
            hub,
            configured,
            stopped,
            own: hex::encode(&random),
        };
        let thread = thread::spawn("store", limits::STACK_WORKER_BYTES, move || watch.run())?;
        Ok(Sharing {
            redis,
            stop,
            thread,
        })
    }

    /// From now on nobody waits for the store.
    pub fn stop(self) {
        drop(self.stop);
        self.redis.stop();
        if self.thread.join().is_err() {
            log::error!("store thread panicked");
        }
    }
}

impl Watch {
    fn run(&self) {
        let (mut ears, mut has_heard) = (None, false);
        loop {
            let turned = self.turn(&mut ears, &mut has_heard);
            self.note(&turned);
            let pause = match turned {
                Ok(()) => Duration::ZERO,
                Err(_) => {
                    ears = None;
                    limits::SHARED_AWAY_LOOK
                }
            };
            if self.stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// One exchange, then news until the next one is due.
    fn turn(&self, ears: &mut Option<Ears>, has_heard: &mut bool) -> Result<(), String> {
        let told = |trouble: Trouble| trouble.to_string();
        let channel = ends::channel(&self.redis);
        let ears = match ears {
            Some(ears) => ears,
            None => ears.insert(self.listen(&channel, has_heard).map_err(told)?),
        };
        match &self.auth {
            Some(auth) => auth.tokens.exchange(unix_s())?,
            None => drop(self.redis.ask(&[b"PING"]).map_err(told)?),
        }
        let until = Instant::now() + limits::SHARED_LOOK;
        while Instant::now() < until {
            self.tell(&channel).map_err(told)?;
            let soon = until.min(Instant::now() + limits::SHARED_TELL);
            match ears.hear(soon).map_err(told)?.as_deref() {
                Some(ends::NEWS) => return Ok(()),
                Some(news) => self.heard(news),
                None => {}
            }
            if self.stopped.try_recv() == Err(TryRecvError::Disconnected) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What was said while nobody listened here is not known: all lists are in doubt then.
    fn listen(&self, channel: &str, has_heard: &mut bool) -> Result<Ears, Trouble> {
        let ears = self.redis.subscribe(channel)?;
        if std::mem::replace(has_heard, true) {
            let world = self.hub.world();
            world
                .servers()
                .iter()
                .for_each(|server| server.doubt_lists());
        }
        Ok(ears)
    }

    /// Names the servers that said that a list changed.
    fn tell(&self, channel: &str) -> Result<(), Trouble> {
        let world = self.hub.world();
        for server in world.servers().iter().filter(|one| one.take_lists_said()) {
            let news = format!("{} {}", self.own, server.name());
            let words = ["PUBLISH", channel, &news].map(str::as_bytes);
            if let Err(trouble) = self.redis.ask(&words) {
                // Nobody heard it: it is said again.
                server.say_lists();
                return Err(trouble);
            }
        }
        Ok(())
    }

    fn heard(&self, news: &str) {
        let Some((from, name)) = news.split_once(' ').filter(|(from, _)| *from != self.own) else {
            return;
        };
        let world = self.hub.world();
        if let Some(server) = world.servers().iter().find(|one| one.name() == name) {
            log::debug!("lists in doubt server={name} from={from:?}");
            server.doubt_lists();
        }
    }

    fn note(&self, turned: &Result<(), String>) {
        let now = if turned.is_ok() { "ready" } else { "away" };
        if self.configured.standing().shared_store == Some(now) {
            return;
        }
        self.configured
            .change(|standing| standing.shared_store = Some(now));
        let place = self.redis.spec().shown();
        match turned {
            Ok(()) => log::info!("shared store ready place={place}"),
            Err(error) => log::error!("shared store away place={place} error=\"{error}\""),
        }
    }
}
