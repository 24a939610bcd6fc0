//! Where a request may go: decided by the address that is connected to, never by the text of
//! a name. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::url::Url;

/// What an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Public,
    /// Inside a host or a site: for URLs that an operator wrote.
    Internal(&'static str),
    /// For nobody, unless it is allowed by name: cloud metadata answers with credentials.
    Forbidden(&'static str),
}

/// Who wrote the URL, and what is excepted.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    trust: Trust,
    allow: Vec<Allowed>,
    /// Of a server that was found: nothing else is reached.
    within: Option<Vec<Allowed>>,
}

#[derive(Debug, Clone, Default)]
enum Trust {
    #[default]
    Operator,
    /// Learned from somebody, perhaps from this URL.
    Peer(Option<Url>),
    /// Learned from a server of the operator: what stands on its own host is the operator's, too.
    Household(Vec<Url>),
}

/// Why a request may not go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    PlainHttp,
    /// A server that was found is not where servers of its source may be.
    Outside,
    /// It is one of these.
    Address(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::PlainHttp => {
                f.write_str("a URL that was learned from a peer must begin with https")
            }
            Refusal::Outside => f.write_str(
                "the address is in none of the networks where its source of gateway.discovery may \
                 find servers; list it in allow of the source if it is wanted",
            ),
            Refusal::Address(what) => {
                write!(
                    f,
                    "{what} is refused; list it in gateway.egress.allow if it is wanted"
                )
            }
        }
    }
}

impl Egress {
    /// For a URL from the configuration.
    pub fn operator(allow: Vec<Allowed>) -> Egress {
        Egress {
            trust: Trust::Operator,
            allow,
            within: None,
        }
    }

    /// For a URL that somebody else named; `learned_from` is the URL that was asked for it.
    pub fn peer(allow: Vec<Allowed>, learned_from: Option<Url>) -> Egress {
        Egress {
            trust: Trust::Peer(learned_from),
            allow,
            within: None,
        }
    }

    /// For what a server names that an operator wrote down, as one of `homes`.
    pub fn household(allow: Vec<Allowed>, homes: Vec<Url>) -> Egress {
        Egress {
            trust: Trust::Household(homes),
            allow,
            within: None,
        }
    }

    /// Nothing is reached that is not covered by these.
    #[must_use]
    pub fn within(self, within: Option<Vec<Allowed>>) -> Egress {
        Egress { within, ..self }
    }

    /// What can be said before any name is looked up.
    ///
    /// # Errors
    /// Why it may not be asked.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        if let Trust::Peer(from) = &self.trust {
            let is_home = from.as_ref().is_some_and(|from| is_home(from, url));
            if !url.is_https() && !is_home {
                return Err(Refusal::PlainHttp);
            }
        }
        if let Trust::Household(homes) = &self.trust
            && !url.is_https()
            && !homes
                .iter()
                .any(|home| !home.is_https() && is_housemate(home, url.host()))
        {
            return Err(Refusal::PlainHttp);
        }
        url.address()
            .map_or(Ok(()), |address| self.check(url.host(), address))
    }

    /// May `host` be reached at this address?
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        let address = address.to_canonical();
        if let Some(within) = &self.within
            && !within.iter().any(|rule| rule.covers(host, address))
        {
            return Err(Refusal::Outside);
        }
        let what = match (judge(address), &self.trust) {
            (Verdict::Public, _) | (Verdict::Internal(_), Trust::Operator) => return Ok(()),
            (Verdict::Internal(what), Trust::Peer(from)) => {
                let is_home = |from: &Url| from.is_loopback() && from.host() == host;
                if address.is_loopback() && from.as_ref().is_some_and(is_home) {
                    return Ok(());
                }
                what
            }
            (Verdict::Internal(what), Trust::Household(homes)) => {
                if homes.iter().any(|home| is_housemate(home, host)) {
                    return Ok(());
                }
                what
            }
            (Verdict::Forbidden(what), _) => what,
        };
        match self.allow.iter().any(|rule| rule.covers(host, address)) {
            true => Ok(()),
            false => Err(Refusal::Address(what)),
        }
    }
}

/// The host of `home`, also where it is called by another name of this machine.
fn is_housemate(home: &Url, host: &str) -> bool {
    let is_local = host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback());
    home.host() == host || home.is_loopback() && is_local
}

/// Both are the same place on this host.
fn is_home(from: &Url, url: &Url) -> bool {
    from.is_loopback() && from.same_origin(url)
}

const PRIVATE: Verdict = Verdict::Internal("a private address");
const LOOPBACK: Verdict = Verdict::Internal("a loopback address");
const RESERVED: Verdict = Verdict::Internal("a reserved address");
const LINK_LOCAL: Verdict = Verdict::Forbidden("a link-local address");
const METADATA: Verdict = Verdict::Forbidden("the address of a metadata service");

/// The first row that matches counts.
const V4: &[(Ipv4Addr, u8, Verdict)] = &[
    // Metadata of Alibaba, Oracle and Azure; that of most others is link-local.
    (Ipv4Addr::new(100, 100, 100, 200), 32, METADATA),
    (Ipv4Addr::new(192, 0, 0, 192), 32, METADATA),
    (Ipv4Addr::new(168, 63, 129, 16), 32, METADATA),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL),
    (Ipv4Addr::new(127, 0, 0, 0), 8, LOOPBACK),
    // 0.0.0.0 is this host.
    (Ipv4Addr::new(0, 0, 0, 0), 8, LOOPBACK),
    (Ipv4Addr::new(10, 0, 0, 0), 8, PRIVATE),
    (Ipv4Addr::new(100, 64, 0, 0), 10, PRIVATE),
    (Ipv4Addr::new(172, 16, 0, 0), 12, PRIVATE),
    (Ipv4Addr::new(192, 168, 0, 0), 16, PRIVATE),
    (Ipv4Addr::new(192, 0, 0, 0), 24, RESERVED),
    (Ipv4Addr::new(192, 0, 2, 0), 24, RESERVED),
    (Ipv4Addr::new(192, 88, 99, 0), 24, RESERVED),
    (Ipv4Addr::new(198, 18, 0, 0), 15, RESERVED),
    (Ipv4Addr::new(198, 51, 100, 0), 24, RESERVED),
    (Ipv4Addr::new(203, 0, 113, 0), 24, RESERVED),
    (Ipv4Addr::new(224, 0, 0, 0), 4, RESERVED),
    (Ipv4Addr::new(240, 0, 0, 0), 4, RESERVED),
];

const V6: &[(Ipv6Addr, u8, Verdict)] = &[
    // Metadata of AWS and of Google.
    (
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        128,
        METADATA,
    ),
    (
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
        128,
        METADATA,
    ),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),
    (Ipv6Addr::LOCALHOST, 128, LOOPBACK),
    (Ipv6Addr::UNSPECIFIED, 128, LOOPBACK),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, PRIVATE),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, PRIVATE),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, RESERVED),
    // Teredo: an IPv4 address is inside, but not in the clear.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, RESERVED),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, RESERVED),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, RESERVED),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, RESERVED),
];

/// What an address is, also when it is an IPv4 address in the form of an IPv6 one.
pub fn judge(address: IpAddr) -> Verdict {
    match address {
        IpAddr::V4(address) => {
            let row = V4
                .iter()
                .find(|(network, bits, _)| is_inside(address.into(), (*network).into(), *bits));
            row.map_or(Verdict::Public, |(_, _, verdict)| *verdict)
        }
        IpAddr::V6(address) => {
            let row = V6
                .iter()
                .find(|(network, bits, _)| is_inside(address.into(), (*network).into(), *bits));
            match (row, inner_v4(address)) {
                (Some((_, _, verdict)), _) => *verdict,
                (None, Some(inner)) => judge(inner.into()),
                (None, None) => Verdict::Public,
            }
        }
    }
}

/// The IPv4 address in a mapped, compatible, translated (NAT64) or tunnelled (6to4) one.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (s, o) = (address.segments(), address.octets());
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            Some(Ipv4Addr::new(o[12], o[13], o[14], o[15]))
        }
        [0x2002, ..] => Some(Ipv4Addr::new(o[2], o[3], o[4], o[5])),
        _ => None,
    }
}

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
pub fn is_inside(address: IpAddr, network: IpAddr, bits: u8) -> bool {
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
    use std::net::IpAddr;

    use super::{Allowed, Egress, V4, Verdict, is_inside, judge};
    use crate::net::url::Url;

    #[test]
    fn addresses_are_judged_in_every_form() {
        let check = |verdict: &str, addresses: &str| {
            for text in addresses.split_whitespace() {
                let found = match judge(text.parse().expect(text)) {
                    Verdict::Public => "public",
                    Verdict::Internal(_) => "internal",
                    Verdict::Forbidden(_) => "forbidden",
                };
                assert_eq!(found, verdict, "{text}");
            }
        };
        check(
            "public",
            "8.8.8.8 1.1.1.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 169.253.0.1",
        );
        check(
            "public",
            "223.255.255.255 2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8",
        );
        check("public", "64:ff9b::8.8.8.8 2002:808:808::1");
        check(
            "internal",
            "0.0.0.0 10.0.0.1 10.255.255.255 100.64.0.1 127.0.0.1 127.255.0.1",
        );
        check(
            "internal",
            "172.16.0.1 172.31.255.255 192.0.0.1 192.168.1.1 198.18.0.1 198.19.9.9",
        );
        check(
            "internal",
            "224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 192.0.2.1 203.0.113.1",
        );
        check(
            "internal",
            ":: ::1 fc00::1 fd12:3456::1 ff02::1 fec0::1 2001:db8::1 2001:0:1::1",
        );
        check(
            "internal",
            "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::10.0.0.1 64:ff9b::192.168.0.1",
        );
        check("internal", "2002:7f00:1::1 2002:a00:1:: 64:ff9b:1::1");
        check(
            "forbidden",
            "169.254.169.254 169.254.170.2 169.254.0.1 fe80::1 febf::1",
        );
        check(
            "forbidden",
            "fd00:ec2::254 fd20:ce::254 100.100.100.200 192.0.0.192 168.63.129.16",
        );
        check(
            "forbidden",
            "::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1",
        );
    }

    #[test]
    fn an_operator_may_reach_what_is_private_and_a_peer_may_not() {
        let allow = || vec![Allowed::parse("10.1.0.0/16").unwrap()];
        let url = |text: &str| Url::parse(text).expect(text);
        let operator = Egress::operator(allow());
        let peer = Egress::peer(allow(), None);
        let check = |text: &str, by_operator: bool, by_peer: bool| {
            assert_eq!(
                operator.check_url(&url(text)).is_ok(),
                by_operator,
                "operator {text}"
            );
            assert_eq!(peer.check_url(&url(text)).is_ok(), by_peer, "peer {text}");
        };
        check("https://example.com/", true, true);
        check("http://example.com/", true, false);
        check("http://8.8.8.8/", true, false);
        check("https://8.8.8.8/", true, true);
        check("https://127.0.0.1/", true, false);
        check("https://[::ffff:127.0.0.1]/", true, false);
        check("https://10.0.0.1/", true, false);
        check("https://10.1.0.1/", true, true);
        check("https://[::ffff:10.1.0.1]/", true, true);
        check("http://169.254.169.254/latest", false, false);
        check("http://[fe80::1]/", false, false);
        check("http://[fd00:ec2::254]/", false, false);
        let metadata = vec![Allowed::parse("169.254.169.254").unwrap()];
        assert!(
            Egress::operator(metadata)
                .check_url(&url("http://169.254.169.254/"))
                .is_ok()
        );
    }

    /// docs/kubernetes.md says so.
    #[test]
    fn what_is_handed_out_for_kubernetes_keeps_metadata_out_of_reach() {
        let is_out = |rule: &str, address: IpAddr, most: u8| {
            let mut written = rule
                .lines()
                .filter_map(|line| line.trim().strip_prefix("- "));
            written.any(|line| match Allowed::parse(line) {
                Some(Allowed::Network(network, bits)) => {
                    bits <= most && is_inside(address, network, bits)
                }
                _ => false,
            })
        };
        for file in [
            "base/network-policy.yaml",
            "components/discovery/kustomization.yaml",
            "onemcp.yaml",
        ] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/");
            let text = std::fs::read_to_string(format!("{folder}{file}")).expect(file);
            let rules: Vec<&str> = text.split("cidr: 0.0.0.0/0").skip(1).collect();
            assert!(!rules.is_empty(), "{file}");
            for rule in rules {
                let rule = rule.split("ports:").next().unwrap_or_default();
                for (address, bits, verdict) in V4 {
                    let is_meant = matches!(verdict, Verdict::Forbidden(_));
                    assert!(
                        !is_meant || is_out(rule, (*address).into(), *bits),
                        "{file} {address}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_loopback_peer_may_name_itself() {
        let url = |text: &str| Url::parse(text).expect(text);
        let home = url("http://127.0.0.1:8000/sse");
        let egress = Egress::peer(Vec::new(), Some(home));
        assert!(
            egress
                .check_url(&url("http://127.0.0.1:8000/messages"))
                .is_ok()
        );
        assert!(
            egress
                .check_url(&url("http://127.0.0.1:8001/messages"))
                .is_err()
        );
        assert!(
            egress
                .check_url(&url("http://localhost:8000/messages"))
                .is_err()
        );
        let public = Egress::peer(Vec::new(), Some(url("https://example.com/")));
        assert!(public.check_url(&url("https://127.0.0.1:8000/")).is_err());
    }

    #[test]
    fn what_a_server_names_is_public_or_at_its_own_host() {
        let url = |text: &str| Url::parse(text).expect(text);
        let check = |home: &str, there: &str, good: bool| {
            let egress = Egress::household(Vec::new(), vec![url(home)]);
            assert_eq!(
                egress.check_url(&url(there)).is_ok(),
                good,
                "{home} {there}"
            );
        };
        check("http://127.0.0.1:8000/mcp", "http://127.0.0.1:9/as", true);
        check("http://localhost:8000/mcp", "http://127.0.0.1:9/as", true);
        check("http://127.0.0.1:8000/mcp", "http://10.0.0.1/as", false);
        check("http://127.0.0.1:8000/mcp", "https://10.0.0.1/as", false);
        check("http://10.0.0.1/mcp", "http://10.0.0.1:9/as", true);
        check("http://10.0.0.1/mcp", "http://127.0.0.1/as", false);
        check("https://mcp.example/mcp", "http://mcp.example/as", false);
        check("https://mcp.example/mcp", "https://as.example/", true);
        check("https://mcp.example/mcp", "http://as.example/", false);
        check("https://mcp.example/mcp", "https://127.0.0.1/", false);
        check("http://127.0.0.1/mcp", "http://169.254.169.254/", false);
        let egress = Egress::household(Vec::new(), vec![url("https://mcp.example/")]);
        let inside = "10.0.0.1".parse().expect("an address");
        assert!(egress.check("mcp.example", inside).is_ok());
        assert!(egress.check("as.example", inside).is_err());
    }

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

    #[test]
    fn a_found_server_is_where_it_may_be_or_nowhere() {
        let within = ["10.1.0.0/16", "100.64.0.0/10", "named.example"];
        let within = within.iter().filter_map(|text| Allowed::parse(text));
        let egress = Egress::operator(Vec::new()).within(Some(within.collect()));
        for (host, address, is_good) in [
            ("a", "10.1.2.3", true),
            ("a", "10.2.2.3", false),
            ("a", "127.0.0.1", false),
            ("a", "::ffff:10.1.2.3", true),
            ("a", "::ffff:127.0.0.1", false),
            ("a", "8.8.8.8", false),
            // Who is named may be anywhere but where nobody may.
            ("NAMED.example", "8.8.8.8", true),
            ("named.example", "169.254.169.254", false),
            ("a", "100.100.100.200", false),
        ] {
            let checked = egress.check(host, address.parse().unwrap());
            assert_eq!(checked.is_ok(), is_good, "{host} {address}");
        }
    }
}
