//! The health JSON on a local Unix socket (0600), served by tiny_http: the only file that names
//! it. Its faults (docs/dependencies.md) can be reached only by the user who could end the
//! process anyway. Read-only, GET and HEAD only; a body is never read.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use tiny_http::{Header, Method, Request, Response, Server};

use crate::base::{limits, thread};
use crate::front::endpoints;
use crate::front::health::{Detail, Health};
use crate::gateway::local_socket::Owner;
use crate::http::Reply;

pub struct HealthSocket {
    path: PathBuf,
    server: Arc<Server>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The sockets of gateways without listener, dead ones included.
pub fn sockets_of_processes(folder: &Path) -> Vec<PathBuf> {
    of_processes(folder).map(|(path, _)| path).collect()
}

/// Each with the process id of its gateway.
fn of_processes(folder: &Path) -> impl Iterator<Item = (PathBuf, u32)> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name();
        match Owner::of_health_file(name.to_str()?)? {
            Owner::Process(pid) => Some((entry.path(), pid)),
            Owner::Port(_) => None,
        }
    })
}

impl HealthSocket {
    /// Opens `onemcp-<port>.health.sock`, or `onemcp-stdio-<pid>.health.sock`, in `folder`.
    /// Removes what dead gateways left.
    pub fn open(folder: &Path, owner: Owner, health: Arc<Health>) -> io::Result<HealthSocket> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let path = folder.join(owner.health_file());
        if matches!(owner, Owner::Process(_)) {
            remove_dead(folder);
        }
        // The number is ours, so no living gateway uses this path.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        let server = Arc::new(server);
        let stopping = Arc::new(AtomicBool::new(false));
        let (serving, stop) = (server.clone(), stopping.clone());
        let thread = thread::spawn("health", limits::STACK_WORKER_BYTES, move || {
            while !stop.load(Ordering::Acquire) {
                match serving.recv_timeout(Duration::from_secs(60)) {
                    Ok(Some(request)) => answer(request, &health),
                    Ok(None) => {}
                    Err(error) => {
                        log::warn!("health socket closed: {error}");
                        return;
                    }
                }
            }
        })?;
        Ok(HealthSocket {
            path,
            server,
            stopping,
            thread,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn close(self) {
        self.stopping.store(true, Ordering::Release);
        self.server.unblock();
        if self.thread.join().is_err() {
            log::error!("health thread panicked");
        }
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Gateways without listener come and go under ever new numbers, and some are killed.
fn remove_dead(folder: &Path) {
    for (path, pid) in of_processes(folder) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        if pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            // Another gateway may have been quicker.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn answer(request: Request, health: &Health) {
    let path = request.url().split('?').next().unwrap_or_default();
    let reply = match (request.method(), endpoints::find(path)) {
        (Method::Get | Method::Head, Some((endpoint, _))) => health.answer(&endpoint, Detail::Full),
        (Method::Get | Method::Head, None) => Reply::json(404, "{\"error\":\"Not found\"}"),
        _ => Reply::json(405, "{\"error\":\"Method not allowed\"}"),
    };
    let mut response = Response::from_data(reply.body).with_status_code(reply.status);
    for (name, value) in reply.headers {
        if let Ok(header) = Header::from_bytes(name.as_bytes(), value.as_bytes()) {
            response.add_header(header);
        }
    }
    if let Err(error) = request.respond(response) {
        log::debug!("health answer not taken: {error}");
    }
}
