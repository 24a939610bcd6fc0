//! What the service manager is told, in the protocol of `sd_notify`: lines `NAME=value` in one
//! datagram to the socket that the environment names. Without that variable all of this does
//! nothing. Called from any thread; nobody waits longer than `limits::NOTIFY_WAIT`.
//! Deliberately absent: descriptors that the manager keeps, and sockets over vsock.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::base::limits;

/// Variables that are between the service manager and us: no child gets them unasked.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The way to a service manager.
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Manager {
    /// `name` is a path, or `@` and the name of an abstract socket.
    fn open(name: &OsStr) -> io::Result<Manager> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("it is neither a path nor @NAME")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(limits::NOTIFY_WAIT))?;
        Ok(Manager { socket, address })
    }

    fn tell(&self, lines: &str) {
        if let Err(error) = self.socket.send_to_addr(lines.as_bytes(), &self.address) {
            log::warn!("service manager not told {lines:?}: {error}");
        }
    }
}

fn manager() -> Option<&'static Manager> {
    static MANAGER: OnceLock<Option<Manager>> = OnceLock::new();
    let open = || {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let opened = Manager::open(&name);
        opened
            .inspect_err(|error| log::warn!("NOTIFY_SOCKET {name:?} is not used: {error}"))
            .ok()
    };
    MANAGER.get_or_init(open).as_ref()
}

/// Whether anybody listens.
pub fn is_wanted() -> bool {
    manager().is_some()
}

fn tell(lines: &str) {
    if let Some(manager) = manager() {
        manager.tell(lines);
    }
}

/// Between the first `ready` and `stopping`: only then is there something to reload.
static IS_UP: AtomicBool = AtomicBool::new(false);

/// The start is over.
pub fn ready(status: &str) {
    IS_UP.store(true, Ordering::Release);
    tell(&format!("READY=1\nSTATUS={}", one_line(status)));
}

/// A reload begins; `reloaded` ends it.
pub fn reloading() {
    if !IS_UP.load(Ordering::Acquire) {
        return;
    }
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    tell(&format!(
        "RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS=reloading the configuration"
    ));
}

/// A reload is over, whatever came of it.
pub fn reloaded(status: &str) {
    if IS_UP.load(Ordering::Acquire) {
        ready(status);
    }
}

/// The end begins.
pub fn stopping(status: &str) {
    IS_UP.store(false, Ordering::Release);
    tell(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
}

pub fn status(status: &str) {
    tell(&format!("STATUS={}", one_line(status)));
}

/// A sign of life.
pub fn alive() {
    tell("WATCHDOG=1");
}

/// How often the manager wants a sign of life, if it does: half of the time after which it takes
/// us for dead.
pub fn watchdog() -> Option<Duration> {
    if !is_wanted() {
        return None;
    }
    let value = |name: &str| std::env::var(name).ok();
    interval(
        value("WATCHDOG_USEC").as_deref(),
        value("WATCHDOG_PID").as_deref(),
        std::process::id(),
    )
}

/// `pid` says for whom the others are meant; whoever was started by us would inherit them.
fn interval(microseconds: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let microseconds: u64 = microseconds?.parse().ok()?;
    let half = Duration::from_micros(microseconds / 2);
    (!half.is_zero()).then(|| half.max(limits::WATCHDOG_LEAST))
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;

    use super::{Manager, interval, one_line};

    fn heard(socket: &UnixDatagram) -> String {
        let limit = Some(Duration::from_secs(10));
        socket.set_read_timeout(limit).expect("a limit");
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn speaks_to_both_kinds_of_sockets() {
        let name = format!("onemcp-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&abstract_name).expect("a socket");
        let manager = Manager::open(OsStr::new(&format!("@{name}"))).expect("a manager");
        manager.tell("READY=1\nSTATUS=x");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=x");
        let path = std::env::temp_dir().join(&name);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let manager = Manager::open(path.as_os_str()).expect("a manager");
        manager.tell("WATCHDOG=1");
        assert_eq!(heard(&socket), "WATCHDOG=1");
        std::fs::remove_file(&path).expect("removed");
        // Nobody listens there any more: that is no reason to fail.
        manager.tell("WATCHDOG=1");
        for bad in ["relative", "vsock:2:1234", ""] {
            assert!(Manager::open(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn signs_of_life_are_for_whom_they_are_asked_of() {
        let half = |usec, pid| interval(usec, pid, 42);
        assert_eq!(half(Some("2000000"), None), Some(Duration::from_secs(1)));
        assert_eq!(
            half(Some("2000000"), Some("42")),
            Some(Duration::from_secs(1))
        );
        for (usec, pid) in [
            (None, Some("42")),
            (Some("2000000"), Some("41")),
            (Some("2000000"), Some("x")),
            (Some("0"), None),
            (Some("-1"), None),
        ] {
            assert_eq!(half(usec, pid), None, "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("a\nREADY=1"), "a READY=1");
    }
}
