//! Whose request it is when proxies stand between: the address of the client by the forwarding
//! headers of those proxies that are trusted (`--trust-proxy`). Pure.
//!
//! From the peer inwards, the first address that is no trusted proxy is the client; what stands
//! behind it was written by a stranger and counts for nothing.
//! Absent on purpose: schemes, hosts and prefixes that proxies tell, and hop counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::head::Head;
use crate::net::egress::is_inside;

const LOOPBACK: [(IpAddr, u8); 2] = [(v4(127, 0), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)];
const LINK_LOCAL: [(IpAddr, u8); 2] = [(v4(169, 254), 16), (v6(0xfe80), 10)];
const UNIQUE_LOCAL: [(IpAddr, u8); 4] = [
    (v4(10, 0), 8),
    (v4(172, 16), 12),
    (v4(192, 168), 16),
    (v6(0xfc00), 7),
];

const fn v4(first: u8, second: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(first, second, 0, 0))
}

const fn v6(first: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0))
}

/// The proxies whose word counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted {
    everyone: bool,
    networks: Vec<(IpAddr, u8)>,
}

/// Whom a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    /// The other end of the connection: a proxy, if it is not `address`.
    pub peer: IpAddr,
    /// False when a header claims something that nobody trusted says, when a proxy was there and
    /// does not tell for whom, or when two headers disagree. `address` is the best there is.
    pub certain: bool,
    /// Certain, and every address from the peer to the client is a loopback one: the loopback
    /// of another machine is not ours.
    pub is_local: bool,
}

impl Trusted {
    /// Reads what `--trust-proxy` takes; words that it refuses are left out.
    pub fn new(items: &[String]) -> Trusted {
        let mut trusted = Trusted::default();
        for item in items {
            match item.as_str() {
                "true" => trusted.everyone = true,
                "loopback" => trusted.networks.extend(LOOPBACK),
                "linklocal" => trusted.networks.extend(LINK_LOCAL),
                "uniquelocal" => trusted.networks.extend(UNIQUE_LOCAL),
                network => trusted.networks.extend(read_network(network)),
            }
        }
        trusted
    }

    pub fn covers(&self, address: IpAddr) -> bool {
        let covers = |(network, bits): &(IpAddr, u8)| is_inside(address, *network, *bits);
        self.everyone || self.networks.iter().any(covers)
    }

    /// Who sent a request with these headers over a connection from `peer`.
    pub fn client(&self, peer: IpAddr, head: &Head<'_>) -> Client {
        let peer = peer.to_canonical();
        if !head.names().any(is_forwarding) {
            // As most requests are, and it is asked for each of them.
            return Client {
                address: peer,
                peer,
                certain: true,
                is_local: peer.is_loopback(),
            };
        }
        let claims = Claims::of(head);
        let direct = Way {
            address: peer,
            known: true,
            is_loopback: peer.is_loopback(),
        };
        let (way, certain) = match (&claims.x_forwarded_for, &claims.forwarded) {
            _ if !self.covers(peer) => (direct, false),
            (Some(hops), None) | (None, Some(hops)) => (self.walk(direct, hops), true),
            (Some(hops), Some(others)) => {
                let (way, other) = (self.walk(direct, hops), self.walk(direct, others));
                (way, way == other)
            }
            (None, None) => match claims.real_ip {
                Some(hop) => (self.walk(direct, &[hop]), true),
                None => (direct, false),
            },
        };
        let certain = certain && way.known;
        let real = claims.real_ip.flatten();
        let is_elsewhere = claims.real_ip.is_some() && !real.is_some_and(|ip| ip.is_loopback());
        Client {
            address: way.address,
            peer,
            certain,
            is_local: certain && way.is_loopback && !is_elsewhere,
        }
    }

    /// Follows the hops, the last one written first, while they are trusted.
    fn walk(&self, from: Way, hops: &[Hop]) -> Way {
        let mut way = from;
        for hop in hops.iter().rev() {
            let Some(address) = *hop else {
                way.known = false;
                return way;
            };
            way.address = address;
            way.is_loopback &= address.is_loopback();
            if !self.covers(address) {
                return way;
            }
        }
        way
    }
}

/// How far a walk came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    address: IpAddr,
    known: bool,
    is_loopback: bool,
}

/// An address that a proxy saw; `None`: it says something else.
type Hop = Option<IpAddr>;

/// What the headers say, whoever wrote them.
struct Claims {
    x_forwarded_for: Option<Vec<Hop>>,
    forwarded: Option<Vec<Hop>>,
    real_ip: Option<Hop>,
}

impl Claims {
    fn of(head: &Head<'_>) -> Claims {
        Claims {
            x_forwarded_for: hops(head, "X-Forwarded-For", read_node),
            forwarded: hops(head, "Forwarded", read_element),
            real_ip: head.header("X-Real-IP").map(read_node),
        }
    }
}

const FORWARDING: &str = "x-forwarded-";

/// Whether a proxy writes headers of this name.
fn is_forwarding(name: &str) -> bool {
    match name.as_bytes() {
        [b'x' | b'X', b'-', ..] => {
            let start = name.get(..FORWARDING.len());
            name.eq_ignore_ascii_case("X-Real-IP")
                || start.is_some_and(|start| start.eq_ignore_ascii_case(FORWARDING))
        }
        [b'f' | b'F', ..] => name.eq_ignore_ascii_case("Forwarded"),
        [b'v' | b'V', ..] => name.eq_ignore_ascii_case("Via"),
        _ => false,
    }
}

/// All values of one header as one list; `None` without the header.
fn hops(head: &Head<'_>, name: &str, read: fn(&str) -> Hop) -> Option<Vec<Hop>> {
    head.header(name)?;
    let values = head.header_values(name);
    Some(
        values
            .flat_map(|value| split(value, ','))
            .map(read)
            .collect(),
    )
}

/// Splits at `separator`, but not within quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// One element of `Forwarded` (RFC 7239).
fn read_element(element: &str) -> Hop {
    let mut fors = split(element, ';').into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("for")
            .then_some(value.trim())
    });
    let (value, more) = (fors.next()?, fors.next());
    if more.is_some() {
        return None;
    }
    match value.strip_prefix('"') {
        Some(rest) => read_node(rest.strip_suffix('"')?),
        None => read_node(value),
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn read_node(node: &str) -> Hop {
    let node = node.trim();
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let address = match node.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            is_port.then(|| address.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?
        }
        None => node.parse().ok().or_else(|| {
            let (address, port) = node.split_once(':')?;
            is_port(port).then(|| address.parse::<Ipv4Addr>().ok().map(IpAddr::V4))?
        }),
    };
    address.map(|address| address.to_canonical())
}

fn read_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = bits.unwrap_or(most);
    match address.to_canonical() {
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`: peers are compared in that form.
        short if short.is_ipv4() && most == 128 => {
            let bits = bits.checked_sub(96)?;
            (bits <= 32).then_some((short, bits))
        }
        _ => (bits <= most).then_some((address, bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, Trusted};
    use crate::http::head::{Head, Parsed, no_fields};

    fn client(trust: &str, peer: &str, headers: &str) -> Client {
        let items: Vec<String> = trust.split_whitespace().map(str::to_owned).collect();
        let lines = headers.replace(" | ", "\r\n");
        let end = if lines.is_empty() { "" } else { "\r\n" };
        let bytes = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}{end}\r\n");
        let mut fields = no_fields();
        let Parsed::Complete(head) = Head::parse(bytes.as_bytes(), &mut fields) else {
            panic!("{headers}");
        };
        Trusted::new(&items).client(peer.parse().expect(peer), &head)
    }

    /// (trust, peer, headers), then (address, certain, local).
    #[test]
    fn the_client_is_the_first_who_is_not_trusted() {
        for (trust, peer, headers, address, certain, is_local) in [
            // Nobody in between.
            ("loopback", "127.0.0.1", "", "127.0.0.1", true, true),
            ("loopback", "::1", "", "::1", true, true),
            ("loopback", "::ffff:127.0.0.1", "", "127.0.0.1", true, true),
            ("loopback", "10.0.0.9", "", "10.0.0.9", true, false),
            ("", "127.0.0.1", "", "127.0.0.1", true, true),
            // Strangers may claim what they like.
            (
                "loopback",
                "10.0.0.9",
                "X-Forwarded-For: 127.0.0.1",
                "10.0.0.9",
                false,
                false,
            ),
            (
                "",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "10.0.0.0/8",
                "127.0.0.1",
                "Forwarded: for=127.0.0.1",
                "127.0.0.1",
                false,
                false,
            ),
            ("", "127.0.0.1", "Via: 1.1 x", "127.0.0.1", false, false),
            (
                "",
                "127.0.0.1",
                "X-Forwarded-Proto: https",
                "127.0.0.1",
                false,
                false,
            ),
            // One proxy on this machine.
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 203.0.113.5",
                "203.0.113.5",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1",
                "127.0.0.1",
                true,
                true,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: ::1",
                "::1",
                true,
                true,
            ),
            (
                "loopback",
                "127.0.0.1",
                "x-real-ip: 203.0.113.5",
                "203.0.113.5",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Real-IP: 127.0.0.1",
                "127.0.0.1",
                true,
                true,
            ),
            // It appends to what a stranger sent.
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1, 203.0.113.5",
                "203.0.113.5",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1 | X-Forwarded-For: 203.0.113.5",
                "203.0.113.5",
                true,
                false,
            ),
            // A chain of trusted ones.
            (
                "loopback uniquelocal",
                "127.0.0.1",
                "X-Forwarded-For: 1.2.3.4, 203.0.113.5, 10.1.1.1, 192.168.0.1",
                "203.0.113.5",
                true,
                false,
            ),
            (
                "10.0.0.0/8",
                "10.0.0.2",
                "X-Forwarded-For: 203.0.113.5, 11.0.0.1",
                "11.0.0.1",
                true,
                false,
            ),
            // The loopback of another machine is not ours.
            (
                "uniquelocal",
                "10.0.0.2",
                "X-Forwarded-For: 127.0.0.1",
                "127.0.0.1",
                true,
                false,
            ),
            (
                "true",
                "10.0.0.2",
                "X-Forwarded-For: 127.0.0.1",
                "127.0.0.1",
                true,
                false,
            ),
            // Everybody is trusted: the first one named.
            (
                "true",
                "127.0.0.1",
                "X-Forwarded-For: 198.51.100.1, 203.0.113.5",
                "198.51.100.1",
                true,
                false,
            ),
            (
                "true",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1, 203.0.113.5",
                "127.0.0.1",
                true,
                false,
            ),
            // Forms of addresses.
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 203.0.113.5:99",
                "203.0.113.5",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: [2001:db8::1]:99",
                "2001:db8::1",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 2001:db8::1",
                "2001:db8::1",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: ::ffff:1.2.3.4",
                "1.2.3.4",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "Forwarded: for=203.0.113.5",
                "203.0.113.5",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "Forwarded: for=1.2.3.4, proto=https;For=\"[2001:db8::1]:47\";by=\"a,b;c\"",
                "2001:db8::1",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "Forwarded: for=127.0.0.1",
                "127.0.0.1",
                true,
                true,
            ),
            (
                "linklocal",
                "fe80::1",
                "X-Forwarded-For: 8.8.8.8",
                "8.8.8.8",
                true,
                false,
            ),
            (
                "2001:db8::/32",
                "2001:db8::7",
                "X-Forwarded-For: 8.8.8.8",
                "8.8.8.8",
                true,
                false,
            ),
            (
                "192.0.2.1",
                "192.0.2.1",
                "X-Forwarded-For: 8.8.8.8",
                "8.8.8.8",
                true,
                false,
            ),
            (
                "192.0.2.1",
                "192.0.2.2",
                "X-Forwarded-For: 8.8.8.8",
                "192.0.2.2",
                false,
                false,
            ),
            // What cannot be read ends the walk where it stands.
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: unknown",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For:",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1,",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1 x",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.1",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "Forwarded: for=_hidden",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "Forwarded: proto=https",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "Forwarded: for=::1;for=::1",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "Forwarded: for=\"127.0.0.1",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 203.0.113.5, unknown",
                "127.0.0.1",
                false,
                false,
            ),
            // Two headers that disagree, and a proxy that does not say for whom.
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1 | Forwarded: for=203.0.113.5",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1 | Forwarded: for=127.0.0.1",
                "127.0.0.1",
                true,
                true,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-For: 127.0.0.1 | X-Real-IP: 203.0.113.5",
                "127.0.0.1",
                true,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "Via: 1.1 proxy",
                "127.0.0.1",
                false,
                false,
            ),
            (
                "loopback",
                "127.0.0.1",
                "X-Forwarded-Host: x",
                "127.0.0.1",
                false,
                false,
            ),
        ] {
            let expected = Client {
                address: address.parse().expect(address),
                peer: peer.parse::<std::net::IpAddr>().expect(peer).to_canonical(),
                certain,
                is_local,
            };
            assert_eq!(
                client(trust, peer, headers),
                expected,
                "{trust}; {peer}; {headers}"
            );
        }
    }

    #[test]
    fn words_stand_for_networks() {
        for (word, inside, outside) in [
            ("loopback", "127.9.9.9 ::1", "128.0.0.1 ::2 10.0.0.1"),
            (
                "linklocal",
                "169.254.1.1 fe80::9 febf::1",
                "169.253.1.1 fec0::1",
            ),
            (
                "uniquelocal",
                "10.9.9.9 172.31.0.1 192.168.9.9 fd00::1",
                "172.32.0.1 fe00::1",
            ),
            ("true", "8.8.8.8 ::5", ""),
            ("10.0.0.0/33", "", "10.0.0.0"),
            ("0.0.0.0/0", "8.8.8.8", "::5"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1 ::5"),
            ("false", "", "127.0.0.1"),
        ] {
            let trusted = Trusted::new(&[word.to_owned()]);
            let covers = |text: &str| trusted.covers(text.parse().expect(text));
            assert!(inside.split_whitespace().all(covers), "{word}");
            assert!(!outside.split_whitespace().any(covers), "{word}");
        }
    }
}
