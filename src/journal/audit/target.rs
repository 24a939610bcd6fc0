//! Where audit lines go: a file, stdout, a syslog server, or an HTTP receiver. Each writes as much
//! as it can and says how much that was; what it waits for, it waits for a moment only.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};

use crate::base::secret::Secret;
use crate::base::{limits, sys};
use crate::journal::audit::chain::BEGIN;
use crate::journal::audit::head;
use crate::journal::file::{LogFile, Rotation, wait_writable};
use crate::net::client::{Client, ClientOptions, Method, Request};
use crate::net::egress::{Allowed, Egress};
use crate::net::stop::Stop;
use crate::secrets::replace::replace;

pub enum Target {
    Stdout,
    /// And what keeps other processes from writing it, too.
    File(LogFile, File),
    Syslog(Syslog),
    Webhook(Webhook),
}

/// RFC 5424 in datagrams, one for each line.
pub struct Syslog {
    /// A path, or `udp://HOST:PORT`.
    pub to: String,
    socket: Option<Socket>,
    host: String,
}

enum Socket {
    Local(UnixDatagram),
    Network(UdpSocket),
}

/// Lines in POST requests, as `application/x-ndjson`.
pub struct Webhook {
    pub url: String,
    pub headers: Vec<(String, Secret)>,
    pub egress_allow: Vec<Allowed>,
}

/// What [`Target::File`] is made of.
///
/// # Errors
/// When another process writes it.
pub fn file(path: PathBuf, rotation: Rotation) -> io::Result<(LogFile, File)> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = lock(Path::new(&name))?;
    Ok((LogFile::new(path, rotation), lock))
}

impl Target {
    pub fn syslog(to: &str) -> Target {
        Target::Syslog(Syslog {
            to: to.to_owned(),
            socket: None,
            host: sys::host_name(),
        })
    }

    /// Gives the number of bytes that were taken.
    ///
    /// # Errors
    /// Why nothing is taken.
    pub fn write(&mut self, text: &[u8], stop: &Stop) -> io::Result<usize> {
        match self {
            Target::Stdout => write_stdout(text),
            Target::File(file, _) => file.write(text),
            Target::Syslog(syslog) => syslog.write(text),
            Target::Webhook(webhook) => webhook.post(text, stop),
        }
    }

    pub fn reopen(&mut self) {
        match self {
            Target::File(file, _) => file.reopen(),
            Target::Syslog(syslog) => syslog.socket = None,
            Target::Stdout | Target::Webhook(_) => {}
        }
    }

    /// After this a power cut takes nothing of what was written, and it is missed if somebody
    /// does: `head` is kept beside it.
    ///
    /// # Errors
    /// As the system says.
    pub fn sync(&mut self, head: &str) -> io::Result<()> {
        match self {
            Target::File(file, _) => {
                file.sync()?;
                // What is written to a pipe or a device is not there to be missed.
                match file.path().is_file() {
                    true => replace(&head::path(file.path()), head.as_bytes()),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// After an error nothing of an incomplete line is left there.
    pub fn begins_lines_anew(&self) -> bool {
        !matches!(self, Target::Stdout)
    }

    /// The longest pause between two tries.
    pub fn retry_most(&self) -> Duration {
        match self {
            Target::Webhook(_) => limits::AUDIT_RETRY_MOST,
            _ => limits::LOG_RETRY,
        }
    }
}

fn lock(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    options.append(true).create(true).mode(0o600);
    let file = options.custom_flags(flags).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::new(
            ErrorKind::ResourceBusy,
            "another gateway writes it; give each its own --audit-file",
        )),
        // Where nothing can be locked nobody can be kept out.
        _ => Ok(file),
    }
}

/// A pipe that is writable takes so much without waiting.
fn write_stdout(text: &[u8]) -> io::Result<usize> {
    let stdout = rustix::stdio::stdout();
    if !wait_writable(&stdout) {
        return Ok(0);
    }
    let part = &text[..text.len().min(limits::LOG_STDERR_BYTES)];
    match rustix::io::write(stdout, part) {
        Err(rustix::io::Errno::INTR | rustix::io::Errno::WOULDBLOCK) => Ok(0),
        other => Ok(other?),
    }
}

impl Syslog {
    /// One line.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let end = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
        let message = self.message(text[..end].trim_ascii_end());
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(Socket::open(&self.to)?),
        };
        let sent = match socket {
            Socket::Local(socket) => socket.send(&message),
            Socket::Network(socket) => socket.send(&message),
        };
        match sent {
            Ok(_) => Ok(end),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => {
                self.socket = None;
                Err(error)
            }
        }
    }

    /// Facility 13 (audit): `notice` for what was refused or failed, else `info`.
    fn message(&self, line: &[u8]) -> Vec<u8> {
        let found = |text: &str| memchr::memmem::find(line, text.as_bytes()).is_some();
        let is_refusal = found("\"outcome\":\"deny\"") || found("\"outcome\":\"error\"");
        let priority = 13 * 8 + if is_refusal { 5 } else { 6 };
        let time = line.get(BEGIN.len()..BEGIN.len() + "2026-11-22T12:00:00.000Z".len());
        let time = String::from_utf8_lossy(time.unwrap_or(b"-"));
        let (host, process) = (&self.host, std::process::id());
        let mut message =
            format!("<{priority}>1 {time} {host} onemcp {process} audit - ").into_bytes();
        message.extend_from_slice(line);
        message
    }
}

impl Socket {
    fn open(to: &str) -> io::Result<Socket> {
        let Some(address) = to.strip_prefix("udp://") else {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(limits::LOG_PIPE_WAIT))?;
            socket.connect(to.strip_prefix("unix:").unwrap_or(to))?;
            return Ok(Socket::Local(socket));
        };
        let unknown = || io::Error::new(ErrorKind::NotFound, format!("no address of {address}"));
        let address = address.to_socket_addrs()?.next().ok_or_else(unknown)?;
        let own = if address.is_ipv6() {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(own)?;
        socket.set_write_timeout(Some(limits::LOG_PIPE_WAIT))?;
        socket.connect(address)?;
        Ok(Socket::Network(socket))
    }
}

impl Webhook {
    /// As many whole lines as one request may have.
    fn post(&self, text: &[u8], stop: &Stop) -> io::Result<usize> {
        let part = match text.len() {
            all if all <= limits::AUDIT_WEBHOOK_BYTES => text,
            _ => {
                let room = &text[..limits::AUDIT_WEBHOOK_BYTES];
                // No line is longer than the room.
                &text[..memchr::memrchr(b'\n', room).map_or(room.len(), |at| at + 1)]
            }
        };
        let client = Client::new(&ClientOptions {
            egress: Egress::operator(self.egress_allow.clone()),
            ..ClientOptions::default()
        });
        let client = client.map_err(io::Error::other)?.keeping_redirects();
        let mut headers = vec![("content-type", "application/x-ndjson")];
        let own = self.headers.iter();
        headers.extend(own.map(|(name, value)| (name.as_str(), value.expose())));
        let request = Request {
            method: Method::Post,
            url: &self.url,
            headers: &headers,
            body: part,
            head_timeout: limits::AUDIT_WEBHOOK_TIMEOUT,
            idle_timeout: Some(limits::AUDIT_WEBHOOK_TIMEOUT),
        };
        let mut response = client.send(&request, stop).map_err(io::Error::other)?;
        let status = response.status();
        // Only to let the other side finish in peace.
        let _ = response.read_to_end(limits::ALERT_ANSWER_BYTES);
        match status {
            200..=299 => Ok(part.len()),
            _ => Err(io::Error::other(format!("it answered {status}"))),
        }
    }
}
