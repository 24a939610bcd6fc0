//! The request that a thread works on. Whoever takes a request of a client enters it here; what
//! is logged meanwhile on the same thread then says to which request it belongs, and its trace
//! goes on with what is sent. Deliberately absent: other threads. A line of a server's thread
//! belongs to no request.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::mcp::trace::TraceContext;
use crate::model::principal::Principal;

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// A request of a client at work.
#[derive(Debug, Clone)]
pub struct Context {
    /// Ours: from 1 on, and no other request of this process has it.
    pub request: u64,
    /// The span that the work belongs to: ours if we record one, or else the client's.
    pub trace: Option<TraceContext>,
    /// What the client wants everybody to be told, as it came.
    pub baggage: Option<String>,
    /// Headers of the client that a server is to be given, by their names in lower case.
    pub handed: Vec<(String, String)>,
    /// Whose request it is, once that is proven.
    pub who: Option<Arc<Principal>>,
    /// Known while there is an audit log.
    pub from: Option<Arc<Origin>>,
}

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client, as far as trusted proxies tell it. Its port is known without a proxy only.
    pub source: SocketAddr,
    /// The proxy that it came through.
    pub via: Option<IpAddr>,
    pub user_agent: String,
    /// Whom its client certificate names, if it was asked for one.
    pub certificate: Option<Arc<str>>,
}

impl Context {
    /// The next request, with no trace yet.
    pub fn next() -> Context {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Context {
            request: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            trace: None,
            baggage: None,
            handed: Vec::new(),
            who: None,
            from: None,
        }
    }

    /// Whether there is anything to be told on.
    pub fn is_traced(&self) -> bool {
        self.trace.is_some() || self.baggage.is_some()
    }
}

/// Names of headers, in lower case, that some server is to be given.
static HANDED_ON: RwLock<Vec<String>> = RwLock::new(Vec::new());
/// Mostly there are none: then nothing is looked for.
static ANY_HANDED_ON: AtomicBool = AtomicBool::new(false);

/// From now on the contexts of requests carry these headers.
pub fn hand_on<'n>(names: impl Iterator<Item = &'n str>) {
    let mut known = HANDED_ON.write().unwrap_or_else(PoisonError::into_inner);
    for name in names {
        if !known.iter().any(|one| one == name) {
            known.push(name.to_owned());
            ANY_HANDED_ON.store(true, Ordering::Relaxed);
        }
    }
}

/// What of a head is handed on.
pub fn handed<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Vec<(String, String)> {
    if !ANY_HANDED_ON.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let fits = |c: char| c == ' ' || c.is_ascii_graphic();
    let known = HANDED_ON.read().unwrap_or_else(PoisonError::into_inner);
    let found = known.iter().filter_map(|name| {
        let value = header(name)?;
        let is_plain = value.chars().all(fits);
        is_plain.then(|| (name.clone(), value.to_owned()))
    });
    found.collect()
}

/// The thread works on `context` until the guard is dropped, then on what it worked on before.
pub fn enter(context: Context) -> Guard {
    let before = CURRENT.try_with(|current| current.replace(Some(context)));
    Guard {
        before: before.ok().flatten(),
        is_of_this_thread: PhantomData,
    }
}

/// Whose request it is that this thread works on, now that it is known.
pub fn is_of(who: Option<Arc<Principal>>) {
    let _ = CURRENT.try_with(|current| {
        if let Ok(mut current) = current.try_borrow_mut()
            && let Some(context) = &mut *current
        {
            context.who = who;
        }
    });
}

/// What this thread works on.
pub fn current() -> Option<Context> {
    with(Context::clone)
}

/// The same without a copy.
pub fn with<T>(look: impl FnOnce(&Context) -> T) -> Option<T> {
    // On a thread that is ending there is none any more.
    let seen = CURRENT.try_with(|current| {
        let current = current.try_borrow().ok()?;
        current.as_ref().map(look)
    });
    seen.ok().flatten()
}

/// Ends the work on a context.
#[must_use = "the context ends with its guard"]
pub struct Guard {
    before: Option<Context>,
    is_of_this_thread: PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let before = self.before.take();
        // Where it cannot be put back, the thread is ending.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, enter};

    #[test]
    fn a_thread_works_on_what_was_entered_last() {
        let current = || super::current().map(|context| context.request);
        assert_eq!(current(), None);
        let (one, two) = (Context::next(), Context::next());
        assert!(one.request < two.request);
        let outer = enter(one.clone());
        {
            let _inner = enter(two.clone());
            assert_eq!(current(), Some(two.request));
            let elsewhere = std::thread::spawn(super::current).join();
            assert!(elsewhere.expect("no panic").is_none());
        }
        assert_eq!(current(), Some(one.request));
        drop(outer);
        assert_eq!(current(), None);
    }
}
