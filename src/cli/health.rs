//! `onemcp health`: asks a running gateway how it is, for health checks of containers that have
//! no curl. Its health socket first, else HTTP to its port on this machine. It needs no file, no
//! name service and no other program.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::value::RawValue;

use crate::base::exit::EXIT_FALSE;
use crate::base::limits;
use crate::cli::args::{HealthFlags, Probe};
use crate::cli::deadline::Deadline;
use crate::cli::gateway_url::encode_segment;
use crate::cli::outcome::{Failure, finish, write_line};
use crate::config::settings::{Flags, Origin, Settings, Transport};
use crate::config::{Environment, load_files_settings, load_settings, process_environment};
use crate::gateway::health_socket::sockets_of_processes;
use crate::gateway::local_socket::{self, Owner, folders};
use crate::gateway::site;
use crate::net::client::{Client, ClientOptions, Method, Request};
use crate::net::error::NetError;
use crate::net::stop::Stop;

/// Gives the exit code: 0 when the answer is yes.
pub fn run(asked: &HealthFlags, flags: &Flags, out: &mut dyn Write) -> u8 {
    let result = ask(asked, flags).and_then(|answer| {
        write_line(out, &answer.body)?;
        Ok(if answer.status == 200 { 0 } else { EXIT_FALSE })
    });
    finish(result, out)
}

struct Answer {
    status: u16,
    /// A JSON object.
    body: String,
}

fn ask(asked: &HealthFlags, flags: &Flags) -> Result<Answer, Failure> {
    let deadline = Deadline::after(asked.timeout.unwrap_or(limits::HEALTH_COMMAND));
    let path = path_of(&asked.probe);
    if let Some(socket) = &asked.socket {
        let stream = connect(socket, &deadline).map_err(|error| {
            let socket = socket.display();
            Failure::Unreachable(format!("failed to connect to {socket}: {error}"))
        })?;
        return exchange(Stream::Socket(stream), "localhost", &path, &deadline);
    }
    let settings = settings(flags, &process_environment())?;
    let mut reached = sockets(&settings, &deadline)?;
    let first = reached.find_map(|socket| connect(&socket, &deadline).ok());
    if let Some(stream) = first {
        return exchange(Stream::Socket(stream), "localhost", &path, &deadline);
    }
    let address = address(&settings);
    if settings.tls.is_on() {
        return exchange_tls(asked, &settings, address, &path, &deadline);
    }
    let stream = TcpStream::connect_timeout(&address, deadline.left()?).map_err(|error| {
        let hint = "is a gateway running? name its port with --port";
        Failure::Unreachable(format!(
            "failed to reach a gateway at {address}: {error}; {hint}"
        ))
    })?;
    exchange(Stream::Tcp(stream), &address.to_string(), &path, &deadline)
}

fn path_of(probe: &Probe) -> String {
    match probe {
        Probe::Whole => "/health".to_owned(),
        Probe::Live => "/health/live".to_owned(),
        Probe::Ready => "/health/ready".to_owned(),
        Probe::Startup => "/health/startup".to_owned(),
        Probe::Server(name) => format!("/health/mcp/{}", encode_segment(name)),
    }
}

/// Those of the gateway as far as they can be known: a file that is missing or bad just now must
/// not make a gateway look dead that serves on.
pub fn settings(flags: &Flags, environment: &Environment) -> Result<Settings, Failure> {
    if let Ok(settings) = load_files_settings(flags, environment) {
        return Ok(settings);
    }
    let config = load_settings(flags, environment).map_err(Failure::Configuration)?;
    Ok(config.settings)
}

/// Where the health socket of the gateway may be.
fn sockets(
    settings: &Settings,
    deadline: &Deadline,
) -> Result<impl Iterator<Item = PathBuf> + use<>, Failure> {
    let folders = folders(settings.state_dir.as_deref());
    let has_port = matches!(
        settings.origin("port"),
        Origin::Flag(_) | Origin::Environment(_)
    );
    if settings.transport == Transport::Http || has_port {
        let file = Owner::Port(settings.port).health_file();
        let paths: Vec<PathBuf> = folders.iter().map(|folder| folder.join(&file)).collect();
        return Ok(paths.into_iter());
    }
    let all = folders
        .iter()
        .flat_map(|folder| sockets_of_processes(folder));
    let living: Vec<PathBuf> = all.filter(|path| connect(path, deadline).is_ok()).collect();
    if living.len() > 1 {
        let names: Vec<String> = living
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let names = names.join(" ");
        let what = format!("there are several gateways; choose one with --socket: {names}");
        return Err(Failure::Usage(what));
    }
    Ok(living.into_iter())
}

/// The listener as it is reached from here.
fn address(settings: &Settings) -> SocketAddr {
    let bare = settings.host.trim_start_matches('[').trim_end_matches(']');
    let ip = match bare.parse() {
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        Ok(ip) => ip,
        // A name, most likely localhost.
        Err(_) => Ipv4Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, settings.port)
}

fn connect(path: &Path, deadline: &Deadline) -> std::io::Result<UnixStream> {
    let stream = local_socket::connect(path, deadline.at())?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

enum Stream {
    Socket(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn set_timeouts(&self, left: Duration) -> std::io::Result<()> {
        let left = Some(left);
        match self {
            Stream::Socket(socket) => {
                socket.set_write_timeout(left)?;
                socket.set_read_timeout(left)
            }
            Stream::Tcp(socket) => {
                socket.set_write_timeout(left)?;
                socket.set_read_timeout(left)
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Socket(socket) => socket.write_all(bytes),
            Stream::Tcp(socket) => socket.write_all(bytes),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Socket(socket) => socket.read(into),
            Stream::Tcp(socket) => socket.read(into),
        }
    }
}

/// HTTP/1.0, so that the body comes as it is and the end of the connection ends it.
fn exchange(
    mut stream: Stream,
    host: &str,
    path: &str,
    deadline: &Deadline,
) -> Result<Answer, Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => deadline.passed(),
        _ => Failure::Unreachable(format!("failed to ask the gateway: {error}")),
    };
    stream.set_timeouts(deadline.left()?).map_err(failed)?;
    let head = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut part = vec![0; limits::KEPT_BUFFER_BYTES];
    loop {
        stream.set_timeouts(deadline.left()?).map_err(failed)?;
        match stream.read(&mut part).map_err(failed)? {
            0 => break,
            length if bytes.len() + length > limits::HEALTH_BODY_BYTES => {
                return Err(stranger("gives too long an answer"));
            }
            length => bytes.extend_from_slice(&part[..length]),
        }
    }
    read_answer(&bytes).ok_or_else(|| stranger("does not answer as a gateway does"))
}

/// The gateway's own certificate is trusted, if there is nothing better: it is in a file that only
/// the operator writes.
fn exchange_tls(
    asked: &HealthFlags,
    settings: &Settings,
    address: SocketAddr,
    path: &str,
    deadline: &Deadline,
) -> Result<Answer, Failure> {
    let failed = |error: NetError| Failure::Unreachable(format!("failed to {error}"));
    let ca_file = asked.ca_file.clone();
    let options = ClientOptions {
        ca_file: ca_file.or_else(|| settings.tls.certificate.clone()),
        ..ClientOptions::default()
    };
    let client = Client::new(&options).map_err(failed)?;
    let own = site::own_for(settings, address.ip(), address.port()).unwrap_or_default();
    let request = Request {
        method: Method::Get,
        url: &format!("{own}{path}"),
        headers: &[],
        body: b"",
        head_timeout: deadline.left()?,
        idle_timeout: None,
    };
    let mut response = client.send(&request, &Stop::default()).map_err(failed)?;
    response.set_deadline(Some(deadline.at()));
    let status = response.status();
    let body = response.read_to_end(limits::HEALTH_BODY_BYTES);
    let body = String::from_utf8(body.map_err(failed)?).unwrap_or_default();
    object(&body)
        .map(|body| Answer { status, body })
        .ok_or_else(|| stranger("does not answer as a gateway does"))
}

fn stranger(what: &str) -> Failure {
    Failure::Unreachable(format!(
        "what listens there {what}; name the port with --port"
    ))
}

fn read_answer(bytes: &[u8]) -> Option<Answer> {
    let text = str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    let body = object(body)?;
    Some(Answer { status, body })
}

fn object(body: &str) -> Option<String> {
    let object: &RawValue = serde_json::from_str(body).ok()?;
    object
        .get()
        .starts_with('{')
        .then(|| object.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::read_answer;

    #[test]
    fn an_answer_is_a_status_and_one_object() {
        let answer = read_answer(b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n{\"a\": 1}");
        let answer = answer.map(|answer| (answer.status, answer.body));
        assert_eq!(answer, Some((503, "{\"a\": 1}".to_owned())));
        for other in [
            "",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n<html>",
            "HTTP/1.1 200 OK\r\n\r\n[1]",
            "HTTP/1.1 200 OK\r\n\r\n{\"a\":",
            "SSH-2.0-x\r\n\r\n{}",
            "HTTP/1.1 x\r\n\r\n{}",
        ] {
            assert!(read_answer(other.as_bytes()).is_none(), "{other}");
        }
    }
}
