//! Named threads. Every thread of the program is made here, has a name, and gives a handle
//! that somebody joins. Absent on purpose: pools, detached threads.

use std::ffi::CString;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crate::base::{limits, sys};

/// Starts a thread named `name` (the kernel shows the first 15 bytes) with a small stack. std does
/// not know the name: it would copy it to the heap of the new thread, and a thread's first
/// allocation costs it many pages.
///
/// # Errors
/// When the system refuses a thread (EAGAIN at a process or memory limit).
pub fn spawn<F, T>(name: &str, stack_bytes: usize, body: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let name = CString::new(name).unwrap_or_default();
    let named = move || {
        sys::enter_stack(stack_bytes);
        // Without its name it serves as well.
        let _ = rustix::thread::set_name(&name);
        body()
    };
    start(stack_bytes, Box::new(named))
}

/// What the kernel calls the current thread.
pub fn name() -> String {
    let name = rustix::thread::name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Gives back what the heap and the stack of a thread do not use, once it has had nothing to do for
/// a moment: a start takes many kinds of memory that nobody needs after it.
pub struct Rest {
    due: Option<Instant>,
}

impl Rest {
    pub fn after_work() -> Rest {
        let mut rest = Rest { due: None };
        rest.worked();
        rest
    }

    /// When a thread that waits is to look.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    pub fn worked(&mut self) {
        self.due = Some(Instant::now() + limits::REST);
    }

    /// True when the moment has come.
    pub fn look(&mut self) -> bool {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if is_due {
            sys::rest_heap();
            sys::rest_stack();
            self.due = None;
        }
        is_due
    }
}

/// Behind a pointer, so that what std does for a start is in the binary once for each `T`, not
/// once for each body.
#[inline(never)]
fn start<T: Send + 'static>(
    stack_bytes: usize,
    body: Box<dyn FnOnce() -> T + Send>,
) -> io::Result<JoinHandle<T>> {
    Builder::new().stack_size(stack_bytes).spawn(body)
}
