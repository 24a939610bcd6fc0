//! Where a request may go: decided by the address that is connected to, never by the text of
//! a name. Pure.

use std::fmt;
use std::net::IpAddr;

/// One exception from the rules: a network, or a host by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    Network(IpAddr, u8),
    /// Lower case.
    Host(String),
}

impl Allowed {
    /// Reads `10.0.0.0/8`, `fd00::1` or `vault.internal`.
    pub fn parse(text: &str) -> Option<Allowed> {
        let (head, bits) = match text.split_once('/') {
            Some((head, bits)) => (head, Some(bits)),
            None => (text, None),
        };
        if let Ok(address) = head.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok());
            return bits
                .filter(|bits| *bits <= most)
                .map(|bits| Allowed::Network(address, bits));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_name = head.chars().all(fits) && head.contains(|c: char| c.is_ascii_alphabetic());
        (bits.is_none() && is_name).then(|| Allowed::Host(head.to_ascii_lowercase()))
    }

    pub fn covers(&self, host: &str, address: IpAddr) -> bool {
        match self {
            Allowed::Host(name) => name.eq_ignore_ascii_case(host),
            Allowed::Network(network, bits) => is_inside(address, *network, *bits),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Host(name) => f.write_str(name),
            Allowed::Network(network, bits) => write!(f, "{network}/{bits}"),
        }
    }
}

/// True when the first `bits` of both are the same; false for two families.
fn is_inside(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Allowed;

    #[test]
    fn exceptions_cover_networks_and_names() {
        let check = |rule: &str, host: &str, address: &str, expect: bool| {
            let rule = Allowed::parse(rule).expect(rule);
            let address = address.parse().expect(address);
            assert_eq!(
                rule.covers(host, address),
                expect,
                "{rule} {host} {address}"
            );
        };
        check("169.254.0.0/16", "x", "169.254.169.254", true);
        check("169.254.0.0/16", "x", "169.253.0.1", false);
        check("10.0.0.1", "x", "10.0.0.1", true);
        check("10.0.0.1", "x", "10.0.0.2", false);
        check("0.0.0.0/0", "x", "203.0.113.1", true);
        check("0.0.0.0/0", "x", "::1", false);
        check("fe80::/10", "x", "febf::1", true);
        check("fe80::/10", "x", "fec0::1", false);
        check("::/0", "x", "fd00:ec2::254", true);
        check("Vault.internal", "vault.INTERNAL", "10.0.0.1", true);
        check("vault.internal", "a.vault.internal", "10.0.0.1", false);
    }

    #[test]
    fn what_is_no_exception() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "h/8",
            "http://h",
            "h:80",
            "a b",
        ] {
            assert_eq!(Allowed::parse(text), None, "{text}");
        }
    }
}
