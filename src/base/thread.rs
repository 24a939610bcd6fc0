//! Named threads. Every thread of the program is made here, has a name, and gives a handle
//! that somebody joins. Absent on purpose: pools, detached threads.

use std::ffi::CString;
use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread named `name` (the kernel shows the first 15 bytes) with a small stack.
///
/// # Errors
/// When the system refuses a thread (EAGAIN at a process or memory limit).
pub fn spawn<F, T>(name: &str, stack_bytes: usize, body: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    start(
        Builder::new().name(name.to_owned()),
        stack_bytes,
        Box::new(body),
    )
}

/// The same for threads of which there may be thousands. The kernel knows the name, std does not:
/// std would copy it to the heap of the new thread, and a thread's first allocation costs it
/// many pages.
///
/// # Errors
/// As for `spawn`.
pub fn spawn_lean<F, T>(name: &str, stack_bytes: usize, body: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let name = CString::new(name).unwrap_or_default();
    let named = move || {
        // Without its name it serves as well.
        let _ = rustix::thread::set_name(&name);
        body()
    };
    start(Builder::new(), stack_bytes, Box::new(named))
}

/// Behind a pointer, so that what std does for a start is in the binary once for each `T`, not
/// once for each body.
#[inline(never)]
fn start<T: Send + 'static>(
    builder: Builder,
    stack_bytes: usize,
    body: Box<dyn FnOnce() -> T + Send>,
) -> io::Result<JoinHandle<T>> {
    builder.stack_size(stack_bytes).spawn(body)
}
