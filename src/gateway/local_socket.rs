//! Where the local sockets of gateways are: their folders and names, how one is opened where a
//! dead gateway may have left one, and how it is found and connected to.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::base::limits;
use crate::base::ordered;
use crate::config::settings::{ControlSocket, Settings};

const CONTROL: &str = ".control.sock";
const HEALTH: &str = ".health.sock";
const PREFIX: &str = "onemcp-";
const PROCESS_PREFIX: &str = "onemcp-stdio-";

/// What tells the sockets of several gateways apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The listener's port.
    Port(u16),
    /// The process id of a gateway without listener.
    Process(u32),
}

impl Owner {
    /// Of the gateway that is this process.
    pub fn own(port: Option<u16>) -> Owner {
        port.map_or_else(|| Owner::Process(std::process::id()), Owner::Port)
    }

    pub fn control_file(self) -> String {
        self.file(CONTROL)
    }

    pub fn health_file(self) -> String {
        self.file(HEALTH)
    }

    fn file(self, kind: &str) -> String {
        match self {
            Owner::Port(port) => format!("{PREFIX}{port}{kind}"),
            Owner::Process(pid) => format!("{PROCESS_PREFIX}{pid}{kind}"),
        }
    }

    /// Of a control socket, by the name of its file.
    pub fn of_control_file(name: &str) -> Option<Owner> {
        Owner::of(name, CONTROL)
    }

    /// Likewise of a health socket.
    pub fn of_health_file(name: &str) -> Option<Owner> {
        Owner::of(name, HEALTH)
    }

    fn of(name: &str, kind: &str) -> Option<Owner> {
        let middle = name.strip_prefix(PREFIX)?.strip_suffix(kind)?;
        match middle.strip_prefix("stdio-") {
            Some(pid) => pid.parse().ok().map(Owner::Process),
            None => middle.parse().ok().map(Owner::Port),
        }
    }
}

/// The folders that are tried, best first.
pub fn folders(state_dir: Option<&Path>) -> Vec<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let home = variable("HOME").map(|home| home.join(".local/state/onemcp"));
    let folders = [
        variable("RUNTIME_DIRECTORY"),
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("onemcp")),
        state_dir.map(Path::to_owned),
        variable("STATE_DIRECTORY"),
        variable("XDG_STATE_HOME").map(|folder| folder.join("onemcp")),
        home,
    ];
    folders.into_iter().flatten().collect()
}

/// Opens the control socket: in the first folder that can be used, or where it was asked for.
/// `None` when it is off.
///
/// # Errors
/// Why there is none although there should be one.
pub fn open_control(owner: Owner, settings: &Settings) -> Result<Option<LocalSocket>, String> {
    match &settings.control_socket {
        ControlSocket::Auto => {}
        ControlSocket::Off => return Ok(None),
        ControlSocket::At(path) => {
            let socket = LocalSocket::open(path);
            return socket
                .map(Some)
                .map_err(|error| format!("{}: {error}", path.display()));
        }
    }
    let mut last = "no runtime or state directory is known".to_owned();
    for folder in folders(settings.state_dir.as_deref()) {
        let path = folder.join(owner.control_file());
        if matches!(owner, Owner::Process(_)) {
            remove_dead(&folder);
        }
        match LocalSocket::open(&path) {
            Ok(socket) => return Ok(Some(socket)),
            Err(error) => last = format!("{}: {error}", path.display()),
        }
    }
    Err(last)
}

/// A socket of ours; its file goes with it.
#[derive(Debug)]
pub struct LocalSocket {
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what stands there later may be another gateway's.
    identity: (u64, u64),
}

impl LocalSocket {
    /// Opens a socket for this user alone. One that a dead gateway left is replaced, one that
    /// somebody listens on never.
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there; those of the file system.
    pub fn open(path: &Path) -> io::Result<LocalSocket> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let _alone = lock(folder)?;
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if !found.file_type().is_socket() => {
                let what = "something else than a socket is there";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            Ok(_) if !is_dead(path) => {
                let what = "another gateway listens there";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
            }
            Ok(_) => std::fs::remove_file(path)?,
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(LocalSocket {
            listener,
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Gone already is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// One gateway at a time looks for a dead socket and takes its place.
fn lock(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let deadline = Instant::now() + limits::SOCKET_LOCK;
    loop {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(limits::PROCESS_POLL);
            }
            Ok(()) => return Ok(folder),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Nobody listens there any more.
fn is_dead(path: &Path) -> bool {
    matches!(connect_now(path), Err(Errno::CONNREFUSED))
}

/// Gateways without listener come and go under ever new numbers, and some are killed.
pub fn remove_dead(folder: &Path) {
    for (owner, path) in sockets(folder) {
        if matches!(owner, Owner::Process(_)) && is_dead(&path) {
            // Another gateway may have been quicker.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The control sockets in a folder, in order of their numbers.
pub fn sockets(folder: &Path) -> Vec<(Owner, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let owner = Owner::of_control_file(entry.file_name().to_str()?)?;
        Some((owner, entry.path()))
    });
    let mut found: Vec<_> = named.take(limits::SOCKET_FILES).collect();
    ordered::sort_by_key(&mut found, |(owner, _)| match owner {
        Owner::Port(port) => (0, u32::from(*port)),
        Owner::Process(pid) => (1, *pid),
    });
    found
}

/// Whether a socket can be there: the system bounds how long its path may be.
pub fn fits(path: &Path) -> bool {
    SocketAddrUnix::new(path).is_ok()
}

/// Connects to a living gateway; one with a full queue is waited for until the deadline.
///
/// # Errors
/// Those of the system; `NotFound` and `ConnectionRefused` say that nobody is there.
pub fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        match connect_now(path) {
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => {
                std::thread::sleep(limits::CONTROL_RETRY);
            }
            result => return Ok(result?),
        }
    }
}

/// The system's own wait for a place in the queue has no end.
fn connect_now(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(socket.as_fd(), &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::Instant;

    use super::{LocalSocket, Owner, connect, remove_dead, sockets};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("onemcp-{name}-{}", std::process::id());
            Folder(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Leaves the file of a socket that nobody listens on.
    fn kill(socket: LocalSocket) {
        let path = socket.path().to_owned();
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        drop(socket);
        std::fs::rename(&aside, &path).unwrap();
    }

    #[test]
    fn names_come_back() {
        for owner in [Owner::Port(3050), Owner::Process(4711)] {
            assert_eq!(Owner::of_control_file(&owner.control_file()), Some(owner));
        }
        for name in ["onemcp-x.control.sock", "onemcp-1.health.sock", "y"] {
            assert_eq!(Owner::of_control_file(name), None, "{name}");
        }
    }

    #[test]
    fn a_living_socket_stays_and_a_dead_one_is_replaced() {
        let folder = Folder::new("living");
        let path = folder.0.join(Owner::Port(1).control_file());
        let first = LocalSocket::open(&path).unwrap();
        let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.0), mode(&path)), (0o700, 0o600));
        let second = LocalSocket::open(&path).map_err(|error| error.kind());
        assert_eq!(second.err(), Some(io::ErrorKind::AddrInUse));
        assert!(connect(&path, Instant::now()).is_ok());
        kill(first);
        let refused = connect(&path, Instant::now()).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));
        let third = LocalSocket::open(&path).unwrap();
        drop(third);
        assert!(!path.exists());
    }

    #[test]
    fn the_end_of_one_leaves_the_file_of_another() {
        let folder = Folder::new("another");
        let path = folder.0.join(Owner::Port(2).control_file());
        let first = LocalSocket::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = LocalSocket::open(&path).unwrap();
        drop(first);
        assert!(connect(&path, Instant::now()).is_ok());
        drop(second);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = Folder::new("file");
        std::fs::create_dir_all(&folder.0).unwrap();
        let path = folder.0.join(Owner::Port(3).control_file());
        std::fs::write(&path, "x").unwrap();
        assert!(LocalSocket::open(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x");
    }

    #[test]
    fn sockets_of_killed_processes_are_removed() {
        let folder = Folder::new("killed");
        let at = |owner: Owner| LocalSocket::open(&folder.0.join(owner.control_file())).unwrap();
        let living = at(Owner::Process(1));
        kill(at(Owner::Process(2)));
        kill(at(Owner::Port(7)));
        remove_dead(&folder.0);
        let owners: Vec<Owner> = sockets(&folder.0).iter().map(|(owner, _)| *owner).collect();
        assert_eq!(owners, [Owner::Port(7), Owner::Process(1)]);
        drop(living);
    }
}
