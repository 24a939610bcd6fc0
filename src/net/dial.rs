//! A connection to an address that the operator named, without a client around it: for whoever
//! speaks the protocol himself. Deliberately absent: the rules of `egress`, which are for
//! addresses that others name.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::net::connect::tune;
use crate::net::error::Cause;
use crate::net::lookup;

/// The addresses of `host` or `host:port`.
///
/// # Errors
/// Why there are none.
pub fn addresses(place: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = place.parse() {
        return Ok(vec![address]);
    }
    let ported = place.rsplit_once(':').and_then(|(host, port)| {
        let is_whole = !host.contains(':') || host.ends_with(']');
        Some((host, port.parse().ok().filter(|_| is_whole)?))
    });
    let (host, port) = ported.unwrap_or((place, port));
    lookup::addresses(host, port, until).map_err(|cause| match cause {
        Cause::Lookup(why) => why,
        _ => "the name service does not answer".to_owned(),
    })
}

/// # Errors
/// When nobody answers in time.
pub fn connect(address: SocketAddr, time: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, time)?;
    tune(&stream)?;
    Ok(stream)
}
