#![no_main]
//! The head of a request, against httparse: what we take, it takes in the same words; whether a
//! head is whole does not depend on what follows it; its length has one reading. Then who sent
//! it, by the headers of proxies, and whether its Host and Origin are ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use onemcp::http::{Checked, Framing, Head, HostPolicy, Parsed, Trusted, no_fields};
use onemcp_fuzz::bounded;

fuzz_target!(|data: &[u8]| bounded(|| {
    let mut fields = no_fields();
    match Head::parse(data, &mut fields) {
        Parsed::Complete(head) => whole(data, &head),
        Parsed::Incomplete => {
            assert!(data.len() <= 64 << 10, "an endless head is waited for");
        }
        Parsed::Refused(refusal) => {
            assert!((400..600).contains(&refusal.status), "{refusal:?}");
            refused_for_good(data);
        }
    }
}));

fn whole(data: &[u8], head: &Head<'_>) {
    let bytes = &data[..head.length_bytes];
    assert!(bytes.ends_with(b"\r\n\r\n") && bytes.is_ascii());
    as_the_reference(bytes, head);
    one_length(bytes, head);
    for end in [bytes.len() - 1, bytes.len() / 2, bytes.len()] {
        let mut fields = no_fields();
        let parsed = Head::parse(&bytes[..end], &mut fields);
        match end == bytes.len() {
            true => assert!(
                matches!(parsed, Parsed::Complete(_)),
                "only with what follows"
            ),
            false => assert!(matches!(parsed, Parsed::Incomplete), "{parsed:?} of a part"),
        }
    }
    sender(head);
    policy(head);
}

fn as_the_reference(bytes: &[u8], head: &Head<'_>) {
    let mut headers = [httparse::EMPTY_HEADER; 512];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(bytes).expect("httparse takes what we take");
    assert!(status.is_complete());
    let target = request.path.expect("a target");
    assert!(
        target.contains(head.path) || head.path == "/",
        "{target} {}",
        head.path
    );
    assert!(head.query.is_none_or(|query| target.ends_with(query)));
    let theirs: Vec<(&str, &[u8])> = request
        .headers
        .iter()
        .map(|header| (header.name, header.value.trim_ascii()))
        .collect();
    let ours: Vec<(&str, &[u8])> = head
        .headers()
        .map(|(name, value)| (name, value.as_bytes()))
        .collect();
    assert_eq!(ours, theirs);
}

/// Read once more from the lines, as simply as possible.
fn one_length(bytes: &[u8], head: &Head<'_>) {
    let text = std::str::from_utf8(bytes).expect("ASCII");
    let values = |wanted: &str| -> Vec<String> {
        let lines = text
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        lines
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim_matches([' ', '\t']).to_ascii_lowercase())
            .collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let expected = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Framing::Empty,
        ([digits], []) => Framing::Length(digits.parse().unwrap_or(u64::MAX)),
        ([], [coding]) if coding == "chunked" => Framing::Chunked,
        other => panic!("taken with {other:?}"),
    };
    assert_eq!(head.framing, expected);
    assert_eq!(values("host").len(), 1);
}

/// What was refused stays so, whatever comes.
fn refused_for_good(data: &[u8]) {
    let mut more = data.to_vec();
    more.extend_from_slice(b"x: y\r\n\r\n");
    let mut fields = no_fields();
    let parsed = Head::parse(&more, &mut fields);
    assert!(
        matches!(parsed, Parsed::Refused(_)),
        "{parsed:?} after more came"
    );
}

fn sender(head: &Head<'_>) {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let near = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let far = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    for trust in [
        "",
        "loopback",
        "loopback uniquelocal 203.0.113.0/24",
        "true",
    ] {
        let trusted = Trusted::new(&words(trust));
        for peer in [near, far] {
            let client = trusted.client(peer, head);
            assert_eq!(client.peer, peer);
            assert!(
                !client.is_local || client.certain && peer.is_loopback(),
                "{client:?}"
            );
            assert!(
                !client.is_local || client.address.is_loopback(),
                "{client:?}"
            );
            if !trusted.covers(peer) {
                assert_eq!(client.address, peer, "a stranger was believed");
            }
        }
    }
}

fn policy(head: &Head<'_>) {
    let policy = HostPolicy {
        allowed_hosts: vec!["gw.example.com".into()],
        allowed_origins: vec!["https://app.example.com".into()],
        bound_to_loopback: true,
    };
    let name = head.host.name.to_ascii_lowercase();
    let is_ours = name == "gw.example.com" || head.host.is_loopback();
    match policy.check(head) {
        Checked::Pass { cors } => {
            assert!(is_ours, "{name}");
            assert!(cors.is_none() || head.header_values("origin").count() == 1);
        }
        Checked::BadHost => assert!(!is_ours, "{name}"),
        Checked::BadOrigin => assert!(head.header("origin").is_some()),
    }
}
