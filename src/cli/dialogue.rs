//! A command's side of the control socket: which gateway is meant, one order, and the lines that
//! come back.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::base::peer::Pinned;
use crate::base::{family, limits};
use crate::cli::outcome::Failure;
use crate::config::settings::{ControlSocket, Origin, Settings};
use crate::gateway::local_socket::{self, Owner, connect};

/// Where a service manager puts the runtime folder of a system service.
const SYSTEM_FOLDER: &str = "/run/onemcp";

/// Which gateway is meant.
pub enum Target {
    At(PathBuf),
    Port(u16),
    /// The only one that runs, or else the one on the default port.
    Any,
}

impl Target {
    /// `socket` is the flag of that name.
    pub fn of(socket: Option<&Path>, settings: &Settings) -> Target {
        let is_given = |key: &str| {
            matches!(
                settings.origin(key),
                Origin::Flag(_) | Origin::Environment(_)
            )
        };
        match (socket, &settings.control_socket) {
            (Some(path), _) => Target::At(path.to_owned()),
            (None, ControlSocket::At(path)) => Target::At(path.clone()),
            // 0 lets the gateway choose: that says nothing about which one is meant.
            _ if settings.port != 0 && is_given("port") => Target::Port(settings.port),
            _ => Target::Any,
        }
    }
}

/// Connects to the gateway that is meant.
///
/// # Errors
/// `Unreachable` when it does not run, `Refused` when it is somebody else's, `Usage` when
/// several are.
pub fn reach(
    target: &Target,
    settings: &Settings,
    deadline: Instant,
) -> Result<UnixStream, Failure> {
    let mut folders = local_socket::folders(settings.state_dir.as_deref());
    folders.push(PathBuf::from(SYSTEM_FOLDER));
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    let of_port = |port| -> Vec<PathBuf> {
        let name = Owner::Port(port).control_file();
        let paths = folders.iter().map(|folder| folder.join(&name));
        // Where no socket can be, the gateway has taken another folder.
        paths.filter(|path| local_socket::fits(path)).collect()
    };
    match target {
        Target::At(path) => first(std::slice::from_ref(path), deadline)?.ok_or_else(|| {
            Failure::Unreachable(format!("no gateway listens at {}", path.display()))
        }),
        Target::Port(port) => first(&of_port(*port), deadline)?
            .ok_or_else(|| nobody(&format!("for port {port}"), &folders)),
        Target::Any => any(settings.port, &folders, deadline),
    }
}

fn any(port: u16, folders: &[PathBuf], deadline: Instant) -> Result<UnixStream, Failure> {
    let mut living = Vec::new();
    let mut denied = None;
    for folder in folders {
        for (owner, path) in local_socket::sockets(folder) {
            match first(std::slice::from_ref(&path), deadline) {
                Ok(Some(stream)) => living.push((owner, path, stream)),
                Ok(None) => {}
                Err(failure) => denied = Some(failure),
            }
        }
    }
    if living.len() > 1 {
        let usual = living
            .iter()
            .position(|(owner, ..)| *owner == Owner::Port(port));
        let Some(usual) = usual else {
            let paths = living.iter().map(|(_, path, _)| path.display().to_string());
            let paths = paths.collect::<Vec<_>>().join(", ");
            let what = "several gateways run here; choose with --port or --socket";
            return Err(Failure::Usage(format!("{what}: {paths}")));
        };
        living.swap(0, usual);
    }
    match (living.into_iter().next(), denied) {
        (Some((_, _, stream)), _) => Ok(stream),
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(nobody("of a gateway", folders)),
    }
}

fn nobody(whose: &str, folders: &[PathBuf]) -> Failure {
    let folders = folders.iter().map(|folder| folder.display().to_string());
    let folders = folders.collect::<Vec<_>>().join(", ");
    Failure::Unreachable(format!(
        "no gateway is running: no control socket {whose} is in {folders}; name it with --socket"
    ))
}

/// The first of these that a gateway listens on. When there is none, the first that could not be
/// looked at is what went wrong.
fn first(paths: &[PathBuf], deadline: Instant) -> Result<Option<UnixStream>, Failure> {
    let mut failure = None;
    for path in paths {
        match connect(path, deadline) {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) => failure = failure.or_else(|| failure_at(path, &error)),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// `None` when nobody is there.
fn failure_at(path: &Path, error: &io::Error) -> Option<Failure> {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::ConnectionRefused => None,
        io::ErrorKind::PermissionDenied => {
            let what = "run this as the user that the gateway runs as";
            let what = format!("{path}: permission denied; {what}");
            Some(Failure::Refused(what))
        }
        _ => Some(Failure::Unreachable(format!("{path}: {error}"))),
    }
}

/// One order under way.
pub struct Dialogue {
    stream: UnixStream,
    unread: Vec<u8>,
    /// The process of the gateway.
    gateway: Pinned,
}

/// What came.
pub enum Said {
    Line(Value, String),
    /// Nothing so far.
    Silence,
    /// The gateway closed the connection.
    End,
}

impl Dialogue {
    /// Sends the order. That it was not taken is told by what comes back.
    pub fn begin(stream: UnixStream, order: &Value) -> Result<Dialogue, Failure> {
        let cannot =
            |error| Failure::Unreachable(format!("failed to talk to the gateway: {error}"));
        stream.set_nonblocking(false).map_err(cannot)?;
        stream
            .set_write_timeout(Some(limits::CONTROL_WRITE))
            .map_err(cannot)?;
        // Before it is told to end.
        let gateway = Pinned::peer_of(&stream);
        let _ = { &stream }.write_all(format!("{order}\n").as_bytes());
        stream.set_nonblocking(true).map_err(cannot)?;
        let unread = Vec::new();
        Ok(Dialogue {
            stream,
            unread,
            gateway,
        })
    }

    /// Waits for the end of the gateway's process; false at the deadline. Where the system does
    /// not tell, the end of its last word has to do.
    pub fn wait_gone(&self, deadline: Instant) -> bool {
        self.gateway.wait_gone(deadline)
    }

    /// The next line; silence at `until`.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no line of a gateway.
    pub fn next(&mut self, until: Instant) -> Result<Said, Failure> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.unread) {
                let rest = self.unread.split_off(end + 1);
                let line = std::mem::replace(&mut self.unread, rest);
                return parse(&line[..end]);
            }
            if self.unread.len() > limits::CONTROL_LINE_BYTES {
                return Err(Failure::Unreachable(
                    "the gateway's answer is too long".into(),
                ));
            }
            match { &self.stream }.read(&mut buffer) {
                Ok(0) => return Ok(Said::End),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !family::poll_in(&self.stream, left) && Instant::now() >= until {
                        return Ok(Said::Silence);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(Said::End),
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Said, Failure> {
    let text = String::from_utf8_lossy(line).into_owned();
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if value.is_object() => Ok(Said::Line(value, text)),
        _ => Err(Failure::Unreachable(
            "what listens there does not speak as a gateway of this version does".into(),
        )),
    }
}
