//! Asks name servers for SRV records, which the system's resolver does not look up: over UDP from
//! a new port with a new number each time, and over TCP what does not fit. Every wait has an end.
//!
//! Deliberately absent: search domains, caches, addresses of hosts (those are the system's).

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::base::{limits, sys};
use crate::net::dns_message::{Answer, answer, question};
use crate::net::stop::Stop;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The name servers of the system; with none of them, the one of this machine.
pub fn servers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    servers_in(&text)
}

fn servers_in(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
        Some(SocketAddr::new(address, 53))
    });
    let servers: Vec<SocketAddr> = lines.take(limits::DNS_SERVERS).collect();
    match servers.is_empty() {
        true => vec![SocketAddr::from(([127, 0, 0, 1], 53))],
        false => servers,
    }
}

/// The first answer that one of the servers gives: records, or that there are none.
///
/// # Errors
/// Why the last one gave none, a fragment that fits "failed to ...".
pub fn ask(name: &str, servers: &[SocketAddr], stop: &Stop) -> Result<Answer, String> {
    let mut last = format!("ask for {name}: no name server is known");
    for round in 0..limits::DNS_TRIES * servers.len() {
        let server = servers[round % servers.len()];
        if stop.is_stopped() {
            break;
        }
        last = match ask_one(name, server, stop) {
            Ok(Answer::Refused(code)) => {
                format!("ask {server} for {name}: it answered with code {code}")
            }
            Ok(found) => return Ok(found),
            Err(error) => format!("ask {server} for {name}: {error}"),
        };
    }
    Err(last)
}

fn ask_one(name: &str, server: SocketAddr, stop: &Stop) -> io::Result<Answer> {
    let mut id = [0; 2];
    sys::random_bytes(&mut id);
    let id = u16::from_be_bytes(id);
    let asked = question(id, name);
    let wait = Wait {
        until: Instant::now() + limits::DNS_WAIT,
        stop,
    };
    match over_udp(server, &asked, &wait, |bytes| answer(bytes, id, name))? {
        Answer::Truncated => {}
        found => return Ok(found),
    }
    let wait = Wait {
        until: Instant::now() + limits::DNS_WAIT,
        stop,
    };
    let bytes = over_tcp(server, &asked, &wait)?;
    match answer(&bytes, id, name) {
        None | Some(Answer::Truncated) => Err(io::Error::other("the answer is none")),
        Some(found) => Ok(found),
    }
}

struct Wait<'s> {
    until: Instant,
    stop: &'s Stop,
}

impl Wait<'_> {
    /// How long the next step may take.
    fn step(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.stop.is_stopped() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        Ok(left.min(STEP))
    }
}

/// A wait is looked at so often: whether it is still wanted.
const STEP: Duration = Duration::from_millis(200);

fn is_early(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Whatever is no answer to the question is not listened to.
fn over_udp(
    server: SocketAddr,
    asked: &[u8],
    wait: &Wait<'_>,
    read: impl Fn(&[u8]) -> Option<Answer>,
) -> io::Result<Answer> {
    let own: SocketAddr = match server.is_ipv4() {
        true => ([0; 4], 0).into(),
        false => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(own)?;
    // From now on nothing comes from anywhere else.
    socket.connect(server)?;
    socket.send(asked)?;
    let mut bytes = vec![0; usize::from(limits::DNS_UDP_BYTES)];
    loop {
        socket.set_read_timeout(Some(wait.step()?))?;
        match socket.recv(&mut bytes) {
            Ok(count) => {
                if let Some(found) = read(&bytes[..count]) {
                    return Ok(found);
                }
            }
            Err(error) if is_early(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn over_tcp(server: SocketAddr, asked: &[u8], wait: &Wait<'_>) -> io::Result<Vec<u8>> {
    let left = wait.until.saturating_duration_since(Instant::now());
    let mut stream = TcpStream::connect_timeout(&server, left.max(STEP))?;
    stream.set_write_timeout(Some(limits::DNS_WAIT))?;
    let length = u16::try_from(asked.len()).unwrap_or_default().to_be_bytes();
    stream.write_all(&[&length, asked].concat())?;
    let mut length = [0; 2];
    fill(&mut stream, &mut length, wait)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    fill(&mut stream, &mut bytes, wait)?;
    Ok(bytes)
}

fn fill(stream: &mut TcpStream, bytes: &mut [u8], wait: &Wait<'_>) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        stream.set_read_timeout(Some(wait.step()?))?;
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if is_early(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::servers_in;

    #[test]
    fn the_first_name_servers_of_the_system_are_asked() {
        let text = "# one\nsearch a.b\nnameserver 10.0.0.1\n nameserver fd00::1 \nnameserver x\n\
                    options ndots:5\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let found: Vec<String> = servers_in(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.2:53"]);
        assert_eq!(servers_in("")[0].to_string(), "127.0.0.1:53");
    }
}
