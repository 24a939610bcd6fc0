//! `host[:port]`, as it stands in a Host header, an absolute target or an Origin. Pure.
//! Absent on purpose: user information; an authority with `@` is not one for us.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host name or address with its port, checked but not changed. An IPv6 address keeps its
/// brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'b> {
    pub name: &'b str,
    pub port: Option<u16>,
}

impl<'b> Authority<'b> {
    /// Reads `name`, `name:`, `name:port`, `[v6]` or `[v6]:port`; the name may be empty.
    pub fn parse(text: &'b str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let end = rest.find(']')?;
                rest[..end].parse::<Ipv6Addr>().ok()?;
                (&text[..end + 2], &text[end + 2..])
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                if !text.as_bytes()[..end]
                    .iter()
                    .all(|&byte| is_name_byte(byte))
                {
                    return None;
                }
                text.split_at(end)
            }
        };
        let port = match port.strip_prefix(':') {
            Some("") => None,
            Some(digits) => Some(port_number(digits)?),
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self { name, port })
    }

    /// `localhost`, 127.0.0.0/8 or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        if self.name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        match self
            .name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(inner) => inner
                .parse::<Ipv6Addr>()
                .is_ok_and(|address| address.is_loopback()),
            None => self
                .name
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback()),
        }
    }

    /// An IP address and not a name.
    pub fn is_address(&self) -> bool {
        let bare = self
            .name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        match bare {
            Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
            None => self.name.parse::<Ipv4Addr>().is_ok(),
        }
    }

    /// Same name in any case, and same port where `default_port` stands for none.
    pub fn same_as(&self, other: &Authority<'_>, default_port: Option<u16>) -> bool {
        self.name.eq_ignore_ascii_case(other.name)
            && self.port.or(default_port) == other.port.or(default_port)
    }
}

fn port_number(digits: &str) -> Option<u16> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Unreserved, percent and sub-delimiters of RFC 3986: what a registered name may hold.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use crate::http::authority::Authority;

    #[test]
    fn reads_names_ports_and_brackets() {
        for (text, name, port) in [
            ("localhost", "localhost", None),
            ("localhost:", "localhost", None),
            ("LocalHost:3050", "LocalHost", Some(3050)),
            ("[::1]:3050", "[::1]", Some(3050)),
            ("[::1]", "[::1]", None),
            ("", "", None),
            (":80", "", Some(80)),
        ] {
            assert_eq!(
                Authority::parse(text),
                Some(Authority { name, port }),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for text in [
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "a b",
            "a:80:90",
            "a:+80",
            "a:99999",
            "a:8x",
            "[::1",
            "[::1]x",
            "[nonsense]",
            "::1",
            "a\\b",
            "a\"b",
            "a:80/x",
            "[]",
            "a[b]",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    #[test]
    fn knows_loopback_names() {
        for text in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.9.8.7:80",
            "[::1]:3050",
        ] {
            assert!(
                Authority::parse(text).is_some_and(|a| a.is_loopback()),
                "{text}"
            );
        }
        for text in [
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "127.1",
            "0.0.0.0",
            "[::2]",
            "",
            "0127.0.0.1",
            "2130706433",
            "xlocalhost",
            "[::ffff:127.0.0.1]",
            "localhost.",
        ] {
            assert!(
                !Authority::parse(text).is_some_and(|a| a.is_loopback()),
                "{text}"
            );
        }
    }
}
