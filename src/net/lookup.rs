//! From a host to its addresses. The system's own lookup can block for long and cannot be
//! ended, so it runs on a thread that may be left behind; how many of them is bounded.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::base::{limits, thread};
use crate::net::error::Cause;
use crate::net::wait;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// One of the lookups that may run at the same time.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let more = |count: usize| (count < limits::NET_LOOKUPS).then_some(count + 1);
        let taken = RUNNING.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then_some(Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

type Found = Result<Vec<SocketAddr>, String>;

/// The addresses of `host`, a name or an address, in the order of the system.
pub(super) fn addresses(host: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Cause> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let busy = "too many names are being looked up; is the name service there?";
    let place = Place::take().ok_or_else(|| Cause::Lookup(busy.to_owned()))?;
    let found: Arc<Mutex<Option<Found>>> = Arc::default();
    let (shared, waiter) = (found.clone(), std::thread::current());
    let host = host.to_owned();
    let worker = thread::spawn("lookup", limits::STACK_WORKER_BYTES, move || {
        let result = ask_system(&host, port);
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        drop(place);
        waiter.unpark();
    });
    let worker = worker.map_err(|error| Cause::Lookup(error.to_string()))?;
    let stop = wait::stop();
    stop.hold_thread();
    let outcome = wait_for(&found, until);
    stop.release_thread();
    // Without an outcome it is left behind.
    if !matches!(outcome, Err(Cause::Deadline | Cause::Stopped)) && worker.join().is_err() {
        return Err(Cause::Lookup("the lookup failed".to_owned()));
    }
    outcome
}

fn ask_system(host: &str, port: u16) -> Found {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    Ok(found.take(limits::NET_ADDRESSES).collect())
}

fn wait_for(found: &Mutex<Option<Found>>, until: Instant) -> Result<Vec<SocketAddr>, Cause> {
    loop {
        let result = found.lock().unwrap_or_else(PoisonError::into_inner).take();
        match result {
            Some(Ok(addresses)) if addresses.is_empty() => {
                return Err(Cause::Lookup("it has none".to_owned()));
            }
            Some(result) => return result.map_err(Cause::Lookup),
            None => {}
        }
        if wait::is_stopped() {
            return Err(Cause::Stopped);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Cause::Lookup("the name service does not answer".to_owned()));
        }
        std::thread::park_timeout(left);
    }
}
