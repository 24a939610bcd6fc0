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
    Builder::new()
        .name(name.to_owned())
        .stack_size(stack_bytes)
        .spawn(body)
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
    Builder::new().stack_size(stack_bytes).spawn(move || {
        // Without its name it serves as well.
        let _ = rustix::thread::set_name(&name);
        body()
    })
}
