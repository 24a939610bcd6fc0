#![no_main]
//! Answers of DNS: nothing but an answer to our question is one, names are what a host may be
//! called, and an answer made by the rules is read as it was meant.

use libfuzzer_sys::fuzz_target;
use onemcp::base::limits;
use onemcp::net::certificate;
use onemcp::net::dns_message::{Answer, ODD, Srv, answer, question};
use onemcp_fuzz::{bounded, led};

const NAME: &str = "_mcp._tcp.example.com";

fuzz_target!(|data: &[u8]| bounded(|| {
    judged(data);
    // Behind a head that fits, so that records are reached.
    let mut bytes = head();
    bytes.extend_from_slice(data);
    judged(&bytes);
    written(data);
    if let Some(subject) = certificate::subject(data) {
        assert!(!subject.is_empty() && !subject.chars().any(char::is_control));
        assert!(subject.len() <= limits::SUBJECT_BYTES + 32);
    }
    let _ = certificate::ends(data);
}));

/// An answer without trouble, of as many records as there may be.
fn head() -> Vec<u8> {
    let mut bytes = question(7, NAME);
    bytes.truncate(12 + NAME.len() + 2 + 4);
    bytes[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
    bytes
}

fn judged(bytes: &[u8]) {
    let Some(found) = answer(bytes, 7, NAME) else {
        return;
    };
    assert_eq!(&bytes[..2], &[0, 7], "the answer to another question");
    assert_eq!(answer(bytes, 8, NAME), None);
    assert_eq!(answer(bytes, 7, "_mcp._tcp.example.org"), None);
    if let Answer::Records(records, _) = found {
        assert!(!records.is_empty());
        for record in records {
            let fits = |c: char| {
                c == ODD || "-_.".contains(c) || c.is_ascii_lowercase() || c.is_ascii_digit()
            };
            assert!(record.target.chars().all(fits), "{record:?}");
            assert!(record.target.len() <= limits::DNS_NAME_BYTES);
            assert!(!record.target.starts_with('.') && !record.target.ends_with('.'));
        }
    }
}

fn written(data: &[u8]) {
    let (length, data) = led(data);
    let label: String = data
        .iter()
        .take(1 + usize::from(length % 63))
        .map(|byte| char::from(b'a' + byte % 26))
        .collect();
    let target = if label.is_empty() {
        String::new()
    } else {
        format!("{label}.example.com")
    };
    let mut bytes = head();
    for port in [80_u16, 443] {
        // The owner is the name in the question; the rest of a target likewise.
        bytes.extend_from_slice(&[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60]);
        let mut data = vec![0, 1, 0, 2];
        data.extend_from_slice(&port.to_be_bytes());
        if !label.is_empty() {
            data.push(u8::try_from(label.len()).expect("63 at most"));
            data.extend_from_slice(label.as_bytes());
            data.extend_from_slice(&[0xc0, 12 + 5 + 5]);
        } else {
            data.push(0);
        }
        bytes.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(&data);
    }
    let record = |port: u16| Srv {
        priority: 1,
        weight: 2,
        port,
        target: target.clone(),
    };
    assert_eq!(
        answer(&bytes, 7, NAME),
        Some(Answer::Records(vec![record(80), record(443)], 60))
    );
}
