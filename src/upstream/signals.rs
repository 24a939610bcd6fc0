//! What an owner thread is told, and how it looks after its process. Anybody may raise a signal;
//! only the owner reads them. They are flags beside a bell of one slot, not a queue: whatever a
//! server sends and however much, no signal is lost and none waits behind others.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::gate::Permit;
use crate::base::limits;
use crate::upstream::outlet::WriterEnd;
use crate::upstream::process::{Exit, Process};

/// For one owner, over all its processes.
pub struct OwnerSignals {
    stop: AtomicBool,
    restart: AtomicBool,
    /// How long its process may take for its end, once it must stop.
    patience: Mutex<Duration>,
    wishes: AtomicBool,
    /// The server said that a list changed, since that was last asked.
    lists_said: AtomicBool,
    /// Another gateway heard that of the same server.
    lists_doubted: AtomicBool,
    ring: Sender<()>,
    bell: Receiver<()>,
}

impl Default for OwnerSignals {
    fn default() -> OwnerSignals {
        let (ring, bell) = bounded(1);
        OwnerSignals {
            stop: AtomicBool::new(false),
            restart: AtomicBool::new(false),
            patience: Mutex::new(limits::STOP_EOF + limits::STOP_TERM),
            wishes: AtomicBool::new(false),
            lists_said: AtomicBool::new(false),
            lists_doubted: AtomicBool::new(false),
            ring,
            bell,
        }
    }
}

impl OwnerSignals {
    /// The same as `stop`, for an end in a hurry.
    pub fn stop_within(&self, patience: Duration) {
        let mut least = self.lock_patience();
        *least = patience.min(*least);
        drop(least);
        self.stop();
    }

    pub fn patience(&self) -> Duration {
        *self.lock_patience()
    }

    fn lock_patience(&self) -> MutexGuard<'_, Duration> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner must end its process and itself.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }

    pub fn must_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The owner must end its process, and start another one at once.
    pub fn restart(&self) {
        self.restart.store(true, Ordering::Release);
        self.ring();
    }

    pub fn must_restart(&self) -> bool {
        self.restart.load(Ordering::Acquire)
    }

    /// A start begins: true when it is the one that was asked for.
    pub fn take_restart(&self) -> bool {
        self.restart.swap(false, Ordering::AcqRel)
    }

    /// The resources that sessions want to hear of are others.
    pub fn wishes_changed(&self) {
        self.wishes.store(true, Ordering::Release);
        self.ring();
    }

    /// True once after they changed.
    pub fn take_wishes_changed(&self) -> bool {
        self.wishes.swap(false, Ordering::AcqRel)
    }

    /// All lists must be read again.
    pub fn doubt_lists(&self) {
        self.lists_doubted.store(true, Ordering::Release);
        self.ring();
    }

    /// True once after they must.
    pub fn take_lists_doubted(&self) -> bool {
        self.lists_doubted.swap(false, Ordering::AcqRel)
    }

    /// True once after the server said that a list changed.
    pub fn say_lists(&self) {
        self.lists_said.store(true, Ordering::Release);
    }

    pub fn take_lists_said(&self) -> bool {
        self.lists_said.swap(false, Ordering::AcqRel)
    }

    /// Rings when a signal was raised: then look at all of them.
    pub fn bell(&self) -> &Receiver<()> {
        &self.bell
    }

    /// Until the owner must stop or restart, or until `deadline`, if there is one.
    pub fn wait(&self, deadline: Option<Instant>) -> Told {
        loop {
            let now = Instant::now();
            match deadline {
                _ if self.must_stop() => return Told::Stop,
                _ if self.must_restart() => return Told::Restart,
                Some(deadline) if deadline <= now => return Told::Time,
                _ => {}
            }
            let look = now + limits::OWNER_IDLE_LOOK;
            // Other signals are of a process that is over; a timeout is a reason to look.
            let _ = self
                .bell
                .recv_deadline(deadline.map_or(look, |at| at.min(look)));
        }
    }

    fn ring(&self) {
        // A bell that rings already is heard after the flag was raised.
        let _ = self.ring.try_send(());
    }
}

/// How an owner's wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Stop,
    Restart,
    Time,
}

/// For one process: signals of one that is over are never taken for those of the next.
pub struct ProcessSignals {
    owner: Arc<OwnerSignals>,
    output_closed: AtomicBool,
    writer_end: OnceLock<WriterEnd>,
    lists_changed: AtomicBool,
    /// Over HTTP: why the server is taken for down.
    lost: OnceLock<String>,
    renewed: AtomicBool,
    missed: AtomicBool,
}

impl ProcessSignals {
    pub fn new(owner: Arc<OwnerSignals>) -> ProcessSignals {
        ProcessSignals {
            owner,
            output_closed: AtomicBool::new(false),
            writer_end: OnceLock::new(),
            lists_changed: AtomicBool::new(false),
            lost: OnceLock::new(),
            renewed: AtomicBool::new(false),
            missed: AtomicBool::new(false),
        }
    }

    /// The child closed its output.
    pub fn output_closed(&self) {
        self.output_closed.store(true, Ordering::Release);
        self.owner.ring();
    }

    pub fn writer_ended(&self, end: WriterEnd) {
        // There is one writer and it ends once.
        let _ = self.writer_end.set(end);
        self.owner.ring();
    }

    /// A server that is no child is down.
    pub fn lost(&self, why: &str) {
        // The first reason stands.
        let _ = self.lost.set(why.to_owned());
        self.owner.ring();
    }

    /// Why, if it was lost.
    pub fn why_lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// The server forgot us and was greeted anew: it knows no subscription and no level.
    pub fn renewed(&self) {
        self.renewed.store(true, Ordering::Release);
        self.owner.ring();
    }

    pub fn take_renewed(&self) -> bool {
        self.renewed.swap(false, Ordering::AcqRel)
    }

    /// The server may have said something that nobody heard.
    pub fn missed(&self) {
        self.missed.store(true, Ordering::Release);
        self.owner.ring();
    }

    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }

    /// The server said so itself.
    pub fn lists_said(&self) {
        self.owner.lists_said.store(true, Ordering::Release);
        self.lists_changed();
    }

    /// The marks at the link say which lists.
    pub fn lists_changed(&self) {
        // Rings once, not for every line of a flood.
        if !self.lists_changed.swap(true, Ordering::AcqRel) {
            self.owner.ring();
        }
    }

    /// The subscription at a stateless server holds, or has ended; the link knows which.
    pub fn listening_changed(&self) {
        self.owner.ring();
    }

    /// True once after the lists changed.
    pub fn take_lists_changed(&self) -> bool {
        self.lists_changed.swap(false, Ordering::AcqRel)
    }
}

/// Why an owner must let go of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stop,
    /// Somebody asked for another process in its place.
    Restart,
    Exited(Exit),
    OutputClosed,
    Writer(WriterEnd),
    /// A server that is no child; the signals say why.
    Lost,
}

/// A process under the eyes of its owner, or a server that is no child of ours.
pub struct Watch<'a> {
    pub process: Option<Process>,
    signals: Arc<ProcessSignals>,
    /// The permit to start, and until when it is kept.
    turn: Option<(Permit<'a>, Instant)>,
    looked: Instant,
    observed: Instant,
}

impl<'a> Watch<'a> {
    /// `turn` goes to the next server after `limits::START_TURN`, so that one that hangs in its
    /// start holds up nobody.
    pub fn new(
        process: Option<Process>,
        signals: Arc<ProcessSignals>,
        turn: Permit<'a>,
    ) -> Watch<'a> {
        let now = Instant::now();
        Watch {
            process,
            signals,
            turn: Some((turn, now + limits::START_TURN)),
            looked: now,
            observed: now,
        }
    }

    pub fn signals(&self) -> &ProcessSignals {
        &self.signals
    }

    pub fn bell(&self) -> Receiver<()> {
        self.signals.owner.bell.clone()
    }

    /// The start is over, one way or the other.
    pub fn end_turn(&mut self) {
        self.turn = None;
    }

    /// When to look again, even if no bell rings.
    pub fn next_look(&self) -> Instant {
        let look = self.looked + limits::OWNER_LOOK;
        self.turn.as_ref().map_or(look, |(_, end)| look.min(*end))
    }

    /// Looks at every signal and, once in `limits::OWNER_LOOK`, at the child itself: it may be
    /// dead although somebody holds its pipes open and goes on talking.
    pub fn look(&mut self) -> Option<End> {
        let now = Instant::now();
        if self.turn.as_ref().is_some_and(|(_, end)| *end <= now) {
            self.turn = None;
        }
        if self.signals.owner.must_stop() {
            return Some(End::Stop);
        }
        if self.signals.owner.must_restart() {
            return Some(End::Restart);
        }
        if self.signals.output_closed.load(Ordering::Acquire) {
            return Some(End::OutputClosed);
        }
        if let Some(end) = self.signals.writer_end.get() {
            return Some(End::Writer(*end));
        }
        if self.signals.lost.get().is_some() {
            return Some(End::Lost);
        }
        if now < self.looked + limits::OWNER_LOOK {
            return None;
        }
        self.looked = now;
        let process = self.process.as_mut()?;
        if let Some(exit) = process.try_exit() {
            return Some(End::Exited(exit));
        }
        if now >= self.observed + limits::FAMILY_LOOK {
            process.observe();
            self.observed = now;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{OwnerSignals, ProcessSignals, Told};
    use crate::upstream::outlet::WriterEnd;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    #[test]
    fn a_flood_of_news_hides_no_other_signal() {
        let owner = Arc::new(OwnerSignals::default());
        let process = ProcessSignals::new(owner.clone());
        for _ in 0..10_000 {
            process.lists_changed();
        }
        process.output_closed();
        process.writer_ended(WriterEnd::Broken);
        owner.stop();
        assert!(owner.bell().try_recv().is_ok());
        assert!(owner.must_stop());
        assert!(process.output_closed.load(Ordering::Acquire));
        assert_eq!(process.writer_end.get(), Some(&WriterEnd::Broken));
        assert!(process.take_lists_changed());
        assert!(!process.take_lists_changed());
    }

    #[test]
    fn waits_for_a_stop_or_a_restart_and_for_nothing_else() {
        let owner = Arc::new(OwnerSignals::default());
        let process = ProcessSignals::new(owner.clone());
        process.lists_changed();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(owner.wait(Some(soon)), Told::Time);
        owner.restart();
        assert_eq!(owner.wait(None), Told::Restart);
        assert!(owner.take_restart() && !owner.take_restart());
        owner.stop();
        owner.restart();
        assert_eq!(owner.wait(None), Told::Stop);
    }
}
