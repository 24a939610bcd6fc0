//! The thread `secrets`: asks slow providers again and again. What it finds out is only counted
//! (`Store::changes`); the thread `config` sees that and loads the configuration.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::{limits, thread};
use crate::secrets::store::Store;

/// Reads how long to wait; the setting may change while the gateway runs.
pub type Pause = Box<dyn Fn() -> Duration + Send>;

pub struct Refresher {
    store: Arc<Store>,
    stop: Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Refresher {
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(store: Arc<Store>, pause: Pause) -> std::io::Result<Refresher> {
        let (stop, stopped) = bounded(1);
        let own = store.clone();
        let body = move || run(&own, &pause, &stopped);
        let thread = thread::spawn("secrets", limits::STACK_REMOTE_BYTES, body)?;
        Ok(Refresher {
            store,
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends what is under way, and the thread.
    pub fn stop(&self) {
        self.store.stop();
        // Full means that it was told already.
        let _ = self.stop.try_send(());
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            log::error!("event=thread_panicked thread=secrets");
        }
    }
}

fn run(store: &Store, pause: &Pause, stopped: &Receiver<()>) {
    let mut last = Instant::now();
    loop {
        // In short steps: a shorter pause must not wait for the end of a long one.
        match stopped.recv_timeout(limits::SECRET_LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        if last.elapsed() >= pause() && store.is_slow() {
            store.refresh();
            last = Instant::now();
        }
    }
}
