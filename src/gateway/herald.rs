//! Tells the service manager when the gateway is ready, and that it lives. Thread: "notify", only
//! where a service manager listens. What is said at a reload and at the end is said by whoever
//! does that.
//!
//! Ready is: the listener is open and nobody is held any more, because servers have started or
//! have had their time. A sign of life is given after the router has turned: it is what stands
//! still when the gateway does.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::{limits, notify, thread};
use crate::front::desk::Desk;
use crate::gateway::ending::Ending;
use crate::relay::world::Hub;
use crate::upstream::event::Event;
use crate::upstream::server::State;

pub struct Herald {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

struct Watch {
    hub: Arc<Hub>,
    router: Sender<Event>,
    ending: Arc<Ending>,
    stopped: Receiver<()>,
    /// Clients are held until then at most.
    ready_by: Instant,
    /// Between two signs of life, if they are wanted.
    interval: Option<Duration>,
}

impl Herald {
    /// `None` where nobody listens.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(
        desk: &Desk,
        router: Sender<Event>,
        ending: Arc<Ending>,
    ) -> std::io::Result<Option<Herald>> {
        if !notify::is_wanted() {
            return Ok(None);
        }
        let (stop, stopped) = bounded(0);
        let watch = Watch {
            hub: desk.hub.clone(),
            router,
            ending,
            stopped,
            ready_by: Instant::now() + desk.hold,
            interval: notify::watchdog(),
        };
        let thread = thread::spawn("notify", limits::STACK_WORKER_BYTES, move || watch.run())?;
        Ok(Some(Herald { stop, thread }))
    }

    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("notify thread panicked");
        }
    }
}

impl Watch {
    fn run(&self) {
        let mut is_ready = false;
        loop {
            if !is_ready {
                is_ready = self.wait_ready();
            }
            let Some(interval) = self.interval else {
                if is_ready {
                    return;
                }
                continue;
            };
            let is_alive = turns(&self.router, interval);
            match is_alive {
                true => notify::alive(),
                false => log::error!("no sign of life: the router stands still"),
            }
            // One that is slow has been waited for already, as has one that is not ready.
            let pause = match is_alive && is_ready {
                true => interval,
                false => Duration::ZERO,
            };
            if self.stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Waits until clients are let in, or until the next sign of life is due. True when there is
    /// nothing more to wait for.
    fn wait_ready(&self) -> bool {
        let due = Instant::now() + self.interval.unwrap_or(limits::SWEEP);
        self.hub.wait_settled(self.ready_by.min(due));
        let is_over = self.hub.is_settled() || self.ready_by <= Instant::now();
        if self.ending.is_asked() {
            return true;
        }
        if is_over {
            notify::ready(&self.status());
        }
        is_over
    }

    fn status(&self) -> String {
        let world = self.hub.world();
        let servers = world.servers().iter().filter(|server| server.is_enabled());
        let states: Vec<State> = servers.map(|server| server.status().state).collect();
        let ready = states
            .iter()
            .filter(|state| **state == State::Ready)
            .count();
        format!("serving, {ready} of {} servers ready", states.len())
    }
}

/// Whether the router takes an event and answers it in time.
fn turns(router: &Sender<Event>, limit: Duration) -> bool {
    let (turned, turns) = bounded(1);
    let deadline = Instant::now() + limit;
    let sent = router.send_deadline(Event::Beat(turned), deadline);
    sent.is_ok() && turns.recv_deadline(deadline).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::bounded;

    use super::turns;
    use crate::upstream::event::Event;

    #[test]
    fn a_router_that_stands_still_gives_no_sign_of_life() {
        let (events, received) = bounded(1);
        // Taken into the queue, never answered; then there is no room any more.
        assert!(!turns(&events, Duration::from_millis(20)));
        assert!(!turns(&events, Duration::from_millis(20)));
        let stale = received.recv().expect("an event");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Ok(Event::Beat(turned)) = received.recv() {
                    turned.send(()).expect("somebody waits");
                }
            });
            assert!(turns(&events, Duration::from_secs(10)));
        });
        drop(stale);
    }
}
