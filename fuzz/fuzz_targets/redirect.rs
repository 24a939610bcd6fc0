#![no_main]
//! URLs and redirects, against the crate `url`: what we take leads to the host and the port that
//! a browser would go to; what an answer names stays where a browser finds it; an address that
//! is not public is never taken for one; and where answers of a login may go.

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use onemcp::auth::server::redirect_uri::{Author, is_same, is_usable};
use onemcp::net::egress::{Allowed, Egress, Verdict, judge};
use onemcp::net::redis::spec::Spec;
use onemcp::net::url::Url;
use onemcp::wire::percent;
use onemcp_fuzz::{bounded, first_line};

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (first, second) = first_line(text);
    login(first, second);
    if let Some(rule) = Allowed::parse(first) {
        assert_eq!(Allowed::parse(&rule.to_string()), Some(rule));
    }
    if let Ok(spec) = Spec::parse(first) {
        assert!(!spec.hosts.is_empty() && !spec.shown().contains('@'));
    }
    let Ok(base) = Url::parse(first) else {
        return;
    };
    let Some(theirs) = as_the_reference(first, &base) else {
        return;
    };
    if let Ok(to) = base.join(second)
        && let Ok(expected) = theirs.join(second)
        && same_place(&to, &expected)
    {
        let plain = !second.contains(['%', '\\', '\t']) && !first.contains(['%', ' ']);
        // Dots that a whole URL brings along stay until there is something to resolve.
        let has_dots = |text: &str| text.contains("/.");
        let is_whole = second.starts_with("//") || Url::parse(second).is_ok();
        let as_they_are = has_dots(first) || has_dots(second) && is_whole;
        if plain && !as_they_are && !second.is_empty() && !second.starts_with(['#', '?']) {
            // Which characters need no escape is not the same to all, such as an apostrophe.
            let meant = |text: &str| percent::decode(text).expect("good escapes");
            assert_eq!(meant(to.path()), meant(expected.path()), "{first} {second}");
            assert_eq!(to.query().map(meant), expected.query().map(meant));
        }
    }
    egress(&base);
}));

fn as_the_reference(text: &str, ours: &Url) -> Option<url::Url> {
    let again = Url::parse(&ours.whole()).expect("what we write we read");
    assert_eq!(&again, ours);
    assert!(ours.whole().starts_with(&ours.origin()) && ours.whole().is_ascii());
    assert!(
        !format!("{ours:?} {ours}").contains('?'),
        "a query is shown"
    );
    // It reads names of other scripts and odd numbers as something else; then it may refuse.
    let theirs = url::Url::parse(text).ok()?;
    same_place(ours, &theirs).then_some(theirs)
}

/// Where both go. A number that only old systems take for an address is a name to us, and its
/// address is judged when it is looked up.
fn same_place(ours: &Url, theirs: &url::Url) -> bool {
    assert_eq!(ours.is_https(), theirs.scheme() == "https", "{theirs}");
    assert_eq!(
        Some(ours.port()),
        theirs.port_or_known_default(),
        "{theirs}"
    );
    assert!(theirs.username().is_empty() && theirs.password().is_none());
    match theirs.host() {
        Some(url::Host::Domain(name)) => {
            assert!(ours.address().is_none());
            if !name.contains("xn--") {
                assert_eq!(ours.host(), name);
            }
        }
        Some(url::Host::Ipv4(address)) => {
            let own = ours.address();
            assert!(
                own.is_none_or(|own| own == IpAddr::V4(address)),
                "{own:?} {address}"
            );
            return own.is_some();
        }
        Some(url::Host::Ipv6(address)) => {
            assert_eq!(ours.address(), Some(IpAddr::V6(address)));
        }
        None => panic!("without a host: {theirs}"),
    }
    true
}

fn egress(url: &Url) {
    let Some(address) = url.address() else {
        return;
    };
    let verdict = judge(address);
    let mapped = match address {
        IpAddr::V4(v4) => {
            assert_eq!(judge(IpAddr::V6(v4.to_ipv6_mapped())), verdict);
            Some(v4)
        }
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    };
    let canonical = address.to_canonical();
    let is_inner = canonical.is_loopback()
        || canonical.is_unspecified()
        || canonical.is_multicast()
        || mapped.is_some_and(|v4| v4.is_private() || v4.is_link_local() || v4.is_broadcast());
    assert!(!is_inner || verdict != Verdict::Public, "{address}");
    let forbidden = matches!(verdict, Verdict::Forbidden(_));
    assert_eq!(
        Egress::operator(Vec::new()).check_url(url).is_err(),
        forbidden
    );
    let stranger = Egress::peer(Vec::new(), None).check_url(url);
    assert_eq!(
        stranger.is_ok(),
        url.is_https() && verdict == Verdict::Public
    );
    let all = Allowed::Network(canonical, 0);
    assert!(
        Egress::operator(vec![all])
            .check(url.host(), address)
            .is_ok()
    );
}

fn login(registered: &str, asked: &str) {
    for author in [Author::Operator, Author::Client] {
        if is_usable(registered, author) {
            assert!(registered.is_ascii() && !registered.contains(['#', ' ', '\n', '\\']));
            if let Ok(parsed) = url::Url::parse(registered) {
                assert!(!["javascript", "data", "file", "blob"].contains(&parsed.scheme()));
                assert!(parsed.scheme() != "http" || parsed.host_str().is_some_and(is_here));
                let is_web = ["http", "https"].contains(&parsed.scheme());
                assert!(!is_web || parsed.username().is_empty());
            }
        }
    }
    assert!(is_same(registered, registered));
    if is_same(registered, asked) {
        assert!(is_same(asked, registered));
        if let (Ok(one), Ok(other)) = (url::Url::parse(registered), url::Url::parse(asked)) {
            assert_eq!(one.host_str(), other.host_str());
            assert_eq!((one.path(), one.query()), (other.path(), other.query()));
        }
    }
}

fn is_here(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].contains(&host)
}
