//! Raw bytes against a real listener: every case has one right outcome, and behind each of
//! them stands a canary request that must run exactly when the framing was beyond doubt.

use crate::base::limits::{
    CHUNK_EXTENSION_BYTES, HEAD_BYTES, HEADERS, TARGET_BYTES, TRAILER_BYTES,
};
use crate::http::ServerOptions;
use crate::http::testing::{Client, MAX_BODY, Site};

/// The proof sends the same requests to a whole gateway.
const TABLE: &str = include_str!("../../fixtures/http/cases.txt");
const CHUNKED: &str = "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||";
const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;

struct Case {
    text: &'static str,
    status: u16,
    goes_on: bool,
    splits: bool,
}

/// How the table is written stands at its head.
fn table() -> Vec<Case> {
    let rows = TABLE
        .lines()
        .filter(|line| !line.starts_with(['#', '~']))
        .filter_map(|line| line.split_once(" > "));
    rows.map(|(columns, text)| {
        let columns: Vec<_> = columns.split(' ').collect();
        Case {
            text,
            status: columns[0].parse().unwrap(),
            goes_on: columns[2].starts_with("on"),
            splits: columns[2].ends_with(",split"),
        }
    })
    .collect()
}

/// The bytes of a request of the table.
fn raw(text: &str) -> Vec<u8> {
    let mut text = text.to_owned();
    // The innermost comes first: the last one that is opened.
    while let Some(from) = text.rfind("\\(") {
        let end = from + text[from..].find(')').unwrap();
        let (part, count) = text[from + 2..end].rsplit_once('*').unwrap();
        let repeated = part.repeat(count.parse().unwrap());
        text.replace_range(from..=end, &repeated);
    }
    let text = text.replace("\\C", CHUNKED).replace('|', "\r\n");
    let (mut bytes, mut chars) = (Vec::new(), text.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => escape(&mut chars, &mut bytes),
            char => bytes.push(u8::try_from(u32::from(char)).unwrap()),
        }
    }
    bytes
}

fn escape(chars: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) {
    match chars.next().unwrap() {
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        't' => bytes.push(b'\t'),
        '\\' => bytes.push(b'\\'),
        'P' => bytes.extend(PING.bytes()),
        'x' => {
            let digits: String = chars.take(2).collect();
            bytes.push(u8::from_str_radix(&digits, 16).unwrap());
        }
        other => panic!("no such escape: {other}"),
    }
}

/// Sends a case in the given pieces with a canary behind it; panics on a wrong outcome.
fn check(site: &Site, name: &str, case: &Case, pieces: &[&[u8]]) {
    let Case {
        text,
        status,
        goes_on,
        ..
    } = case;
    let mut client = site.client();
    pieces.iter().for_each(|piece| client.send(piece));
    send_canary(&mut client, name);
    let mut answers = client.answers(text.starts_with("HEAD"));
    // Whether an expectant client is invited depends on what its segments already held.
    answers.retain(|answer| answer.status != 100);
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    let ran = site
        .echo
        .canaries
        .lock()
        .unwrap()
        .contains(&format!("/canary/{name}"));
    let shown = text.get(..200).unwrap_or(text);
    if *goes_on {
        assert_eq!(
            (statuses, ran),
            (vec![*status, 200], true),
            "{name}: {shown:?}"
        );
        assert!(!answers[0].has("Connection: close"), "{name}: {shown:?}");
    } else {
        assert_eq!((statuses, ran), (vec![*status], false), "{name}: {shown:?}");
        assert!(answers[0].has("Connection: close"), "{name}: {shown:?}");
    }
}

fn send_canary(client: &mut Client, name: &str) {
    let canary = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client.send(format!("GET /canary/{name} {canary}"));
}

#[test]
fn every_case_has_its_one_outcome() {
    let site = Site::start(ServerOptions::default());
    let cases = table();
    assert!(cases.len() >= 215, "{}", cases.len());
    for (at, case) in cases.iter().enumerate() {
        check(&site, &format!("whole-{at}"), case, &[&raw(case.text)]);
    }
    site.wait_connections(0);
}

/// How the bytes are cut into segments must not matter.
#[test]
fn cases_split_at_every_byte() {
    let site = Site::start(ServerOptions::default());
    let cases: Vec<_> = table().into_iter().filter(|case| case.splits).collect();
    assert!(cases.len() >= 20, "{}", cases.len());
    for (count, case) in cases.iter().enumerate() {
        let bytes = raw(case.text);
        for at in 1..bytes.len() {
            let name = format!("split-{count}-{at}");
            check(&site, &name, case, &[&bytes[..at], &bytes[at..]]);
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        check(&site, &format!("single-{count}"), case, &single);
    }
}

/// The table holds numbers where bounds are meant.
#[test]
fn the_table_stands_at_the_bounds() {
    for bound in [
        format!("GET /\\(a*{}) HTTP", TARGET_BYTES - 1),
        format!("|\\(X: y|*{})|", HEADERS - 1),
        format!("X: \\(a*{})", HEAD_BYTES - 100),
        format!("Content-Length: {MAX_BODY}||"),
        format!("28;\\(x*{CHUNK_EXTENSION_BYTES})"),
        format!("X: \\(a*{TRAILER_BYTES})"),
    ] {
        assert!(TABLE.contains(&bound), "{bound}");
    }
}

#[test]
fn bodies_arrive_as_they_were_sent() {
    let site = Site::start(ServerOptions::default());
    let mut client = site.client();
    assert_eq!(
        client.ask("POST /", b"abc\0\r\n\xff").body,
        b"abc\0\r\n\xff"
    );
    client.send(raw("\\C1;x=\"y\"|a|00a|0123456789|0|A: b||"));
    assert_eq!(client.answer(false).body, b"a0123456789");
    client.send(raw("POST / HTTP/1.1|Host: localhost||"));
    assert_eq!(client.answer(false).body, b"");
    assert_eq!(site.echo.refused.lock().unwrap().len(), 0);
}
