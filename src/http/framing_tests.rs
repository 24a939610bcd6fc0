//! Raw bytes against a real listener: every case has one right outcome, and behind each of
//! them stands a canary request that must run exactly when the framing was beyond doubt.

use std::fmt::Write;

use crate::base::limits::{HEAD_BYTES, HEADERS, TARGET_BYTES};
use crate::http::ServerOptions;
use crate::http::testing::{Client, MAX_BODY, Site};

/// (request, status, connection goes on). In a request `|` stands for CRLF.
type Case = (&'static str, u16, bool);

const GO_ON: bool = true;
const CLOSE: bool = false;

const REQUEST_LINES: &[Case] = &[
    ("GET / HTTP/1.1|Host: localhost||", 200, GO_ON),
    ("HEAD / HTTP/1.1|Host: localhost||", 200, GO_ON),
    ("OPTIONS * HTTP/1.1|Host: localhost||", 200, GO_ON),
    ("DELETE /mcp HTTP/1.1|Host: localhost||", 200, GO_ON),
    ("BREW /pot HTTP/1.1|Host: localhost||", 200, GO_ON),
    ("GET /a%00b?x=%0d%0a HTTP/1.1|Host: localhost||", 200, GO_ON),
    (
        "GET /?tag-filter=(a+or+b)&x={y} HTTP/1.1|Host: localhost||",
        200,
        GO_ON,
    ),
    ("|GET / HTTP/1.1|Host: localhost||", 200, GO_ON),
    ("||GET / HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("|||||||GET / HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("\nGET / HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("\rGET / HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("|\nGET / HTTP/1.1|Host: localhost||", 400, CLOSE),
    (" GET / HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET  / HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET /  HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET / extra HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET / HTTP/1.1 extra|Host: localhost||", 400, CLOSE),
    ("GET\t/ HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET /\tHTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET / HTTP/1.1\nHost: localhost||", 400, CLOSE),
    ("GET / HTTP/1.1\rHost: localhost||", 400, CLOSE),
    ("GE\u{1}T / HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GE(T / HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET /\0 HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET /\u{7f} HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET /\u{e9} HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET /#top HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET mcp HTTP/1.1|Host: localhost||", 400, CLOSE),
    ("GET * HTTP/1.1|Host: localhost||", 400, CLOSE),
    (
        "CONNECT localhost:80 HTTP/1.1|Host: localhost:80||",
        400,
        CLOSE,
    ),
    ("GET /|Host: localhost||", 400, CLOSE),
    ("GET|Host: localhost||", 400, CLOSE),
    ("GET / |Host: localhost||", 400, CLOSE),
    ("hello world, this is not HTTP at all|||", 400, CLOSE),
    (
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}|||",
        400,
        CLOSE,
    ),
];

const VERSIONS: &[Case] = &[
    ("GET / HTTP/1.0|Host: localhost||", 200, CLOSE),
    (
        "GET / HTTP/1.0|Host: localhost|Connection: keep-alive||",
        200,
        CLOSE,
    ),
    ("GET / HTTP/1.2|Host: localhost||", 505, CLOSE),
    ("GET / HTTP/2.0|Host: localhost||", 505, CLOSE),
    ("GET / HTTP/0.9|Host: localhost||", 505, CLOSE),
    ("GET / HTTP/3|Host: localhost||", 505, CLOSE),
    ("PRI * HTTP/2.0||SM||", 505, CLOSE),
    ("GET / HTTP/11.1|Host: localhost||", 400, CLOSE),
    ("GET / HTTP/1.1.1|Host: localhost||", 400, CLOSE),
    ("GET / http/1.1|Host: localhost||", 400, CLOSE),
    ("GET / HTTX/1.1|Host: localhost||", 400, CLOSE),
    ("GET / HTTP/1,1|Host: localhost||", 400, CLOSE),
    ("GET / HTTP 1.1|Host: localhost||", 400, CLOSE),
    ("GET / HTTP/+1.1|Host: localhost||", 400, CLOSE),
];

const HOSTS: &[Case] = &[
    ("GET / HTTP/1.1||", 400, CLOSE),
    ("GET / HTTP/1.0||", 400, CLOSE),
    (
        "GET / HTTP/1.1|Host: localhost|Host: localhost||",
        400,
        CLOSE,
    ),
    ("GET / HTTP/1.1|Host: localhost|hOsT: evil||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: a?/../x||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: x#y||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: a/b||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: user@localhost||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: a b||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: a, b||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: a:1:2||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: a:99999||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: a:x||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: [::1||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: [::1]:3050||", 200, GO_ON),
    ("GET / HTTP/1.1|Host:\tlocalhost\t||", 200, GO_ON),
    ("GET / HTTP/1.1|Host:||", 200, GO_ON),
    (
        "GET http://localhost/a?b HTTP/1.1|Host: localhost||",
        200,
        GO_ON,
    ),
    (
        "GET HTTP://LOCALHOST:80 HTTP/1.1|Host: localhost||",
        200,
        GO_ON,
    ),
    (
        "GET https://localhost:443?x HTTP/1.1|Host: localhost||",
        200,
        GO_ON,
    ),
    ("GET http://evil/ HTTP/1.1|Host: localhost||", 400, CLOSE),
    (
        "GET http://localhost:81/ HTTP/1.1|Host: localhost||",
        400,
        CLOSE,
    ),
    (
        "GET http://localhost@evil/ HTTP/1.1|Host: localhost||",
        400,
        CLOSE,
    ),
    ("GET http:///x HTTP/1.1|Host:||", 400, CLOSE),
    (
        "GET ftp://localhost/ HTTP/1.1|Host: localhost||",
        400,
        CLOSE,
    ),
    (
        "GET http:/localhost/ HTTP/1.1|Host: localhost||",
        400,
        CLOSE,
    ),
];

const FIELDS: &[Case] = &[
    ("GET / HTTP/1.1|Host: localhost|X: a\tb||", 200, GO_ON),
    ("GET / HTTP/1.1|Host: localhost|X:||", 200, GO_ON),
    ("GET / HTTP/1.1|Host: localhost|X:   ||", 200, GO_ON),
    (
        "GET / HTTP/1.1|Host: localhost|!#$%&'*+-.^_`~9z: a||",
        200,
        GO_ON,
    ),
    (
        "GET / HTTP/1.1|Host: localhost|Upgrade: h2c|Connection: Upgrade||",
        200,
        GO_ON,
    ),
    (
        "GET / HTTP/1.1|Host: localhost|Connection: close||",
        200,
        CLOSE,
    ),
    (
        "GET / HTTP/1.1|Host: localhost|Connection: x , CLOSE||",
        200,
        CLOSE,
    ),
    (
        "GET / HTTP/1.1|Host: localhost|Connection: x|Connection: close||",
        200,
        CLOSE,
    ),
    ("GET / HTTP/1.1|Host: localhost|X: a\nY: b||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a\n\nb||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a|\n", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost\n|", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a\rb||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a\0b||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a\u{1}b||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a\u{b}b||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a\u{7f}b||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: caf\u{e9}||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X\u{e9}: a||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X : a||", 400, CLOSE),
    ("GET / HTTP/1.1|Host : localhost||", 400, CLOSE),
    ("GET / HTTP/1.1| Host: localhost||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a| folded||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|X: a|\tfolded||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|no colon||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|nocolon||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|: empty||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|a b: c||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|a(b: c||", 400, CLOSE),
    ("GET / HTTP/1.1|Host: localhost|\0: c||", 400, CLOSE),
];

const LENGTHS: &[Case] = &[
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 3||abc",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|content-LENGTH: 0003||abc",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length:3 ||abc",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 0||",
        200,
        GO_ON,
    ),
    ("POST / HTTP/1.1|Host: localhost||", 200, GO_ON),
    (
        "GET / HTTP/1.1|Host: localhost|Content-Length: 3||abc",
        200,
        GO_ON,
    ),
    (
        "HEAD / HTTP/1.1|Host: localhost|Content-Length: 3||abc",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.0|Host: localhost|Content-Length: 3||abc",
        200,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 3|Content-Length: 3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 3|Content-Length: 0||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 3, 3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: +3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: -3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 0x3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 3 3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: abc||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 3.0||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 3;a||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: \"3\"||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length:||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length : 3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content_Length: 3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 3|content_length: 0||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|X: a| Content-Length: 3||abc",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 4097||abc",
        413,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 4611686018427387904||abc",
        413,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 9223372036854775808||abc",
        413,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 18446744073709551619||abc",
        413,
        CLOSE,
    ),
    (
        "POST /deny HTTP/1.1|Host: localhost|Content-Length: 3||abc",
        401,
        CLOSE,
    ),
    (
        "POST /deny HTTP/1.1|Host: localhost|Content-Length: 4611686018427387904||",
        401,
        CLOSE,
    ),
    ("GET /deny HTTP/1.1|Host: localhost||", 401, GO_ON),
];

const CODINGS: &[Case] = &[
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||3|abc|0||",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|transfer-encoding: CHUNKED||3;x=y|abc|0|T: 1||",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||0||",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Length: 5|Transfer-Encoding: chunked||0||",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked|Content-Length: 5||0||",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: gzip|Content-Length: 0||",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked|Transfer-Encoding: chunked\
         ||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: gzip||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: identity||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: xchunked||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked, identity||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: gzip, chunked||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: \"chunked\"||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked;q=1||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked,||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding:||0||",
        501,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding: \u{b}chunked||0||",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer_Encoding: chunked||0||",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding : chunked||0||",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Transfer-Encoding\n: chunked||0||",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|X: y| Transfer-Encoding: chunked||0||",
        400,
        CLOSE,
    ),
    (
        "POST / HTTP/1.0|Host: localhost|Transfer-Encoding: chunked||0||",
        400,
        CLOSE,
    ),
    (
        "POST /deny HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||3|abc|0||",
        401,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Encoding: gzip|Content-Length: 1||x",
        415,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Encoding: identity, br||",
        415,
        CLOSE,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Content-Encoding: Identity||",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Expect: 100-Continue|Content-Length: 1||x",
        200,
        GO_ON,
    ),
    (
        "POST / HTTP/1.1|Host: localhost|Expect: 200-ok|Content-Length: 1||x",
        417,
        CLOSE,
    ),
];

const CHUNKS: &[Case] = &[
    ("|abc", 400, CLOSE),
    ("+3|abc|0||", 400, CLOSE),
    ("-1|abc|0||", 400, CLOSE),
    ("0x3|abc|0||", 400, CLOSE),
    (" 3|abc|0||", 400, CLOSE),
    ("3 |abc|0||", 400, CLOSE),
    ("3\t;x|abc|0||", 400, CLOSE),
    ("3\nabc|0||", 400, CLOSE),
    ("3|abc\n0||", 400, CLOSE),
    ("3|abcd|0||", 400, CLOSE),
    ("3|ab|0||", 400, CLOSE),
    ("3|abc|0\n\n", 400, CLOSE),
    ("3|abc|0|\n", 400, CLOSE),
    ("3|abc|0|X: a\n|", 400, CLOSE),
    ("3|abc|0| X: a||", 400, CLOSE),
    ("3;x\ny|abc|0||", 400, CLOSE),
    ("3;\u{1}|abc|0||", 400, CLOSE),
    ("3;\rx|abc|0||", 400, CLOSE),
    ("g|abc|0||", 400, CLOSE),
    ("00000000000000003|abc|0||", 400, CLOSE),
    ("ffffffffffffffff|abc|0||", 413, CLOSE),
    ("8000000000000000|abc|0||", 413, CLOSE),
    ("1001|abc|0||", 413, CLOSE),
    ("3|abc|00||", 200, GO_ON),
    ("1|a|2|bc|0|A: b|C: d||", 200, GO_ON),
];

fn raw(text: &str) -> Vec<u8> {
    // Latin-1: one byte for each character, so that cases can hold any byte.
    text.replace('|', "\r\n")
        .chars()
        .map(|char| u8::try_from(u32::from(char)).unwrap())
        .collect()
}

fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||{body}")
}

fn all_cases() -> Vec<(String, u16, bool)> {
    let tables = [REQUEST_LINES, VERSIONS, HOSTS, FIELDS, LENGTHS, CODINGS];
    let mut cases: Vec<_> = tables
        .concat()
        .into_iter()
        .map(|(text, status, on)| (text.to_owned(), status, on))
        .collect();
    cases.extend(
        CHUNKS
            .iter()
            .map(|(body, status, on)| (chunked(body), *status, *on)),
    );
    cases.extend(large_cases());
    cases
}

fn large_cases() -> Vec<(String, u16, bool)> {
    let target =
        |bytes: usize| format!("GET /{} HTTP/1.1|Host: localhost||", "a".repeat(bytes - 1));
    let fields = |count: usize| {
        let mut text = String::from("GET / HTTP/1.1|Host: localhost|");
        (1..count).for_each(|at| write!(text, "X-{at}: y|").unwrap());
        text + "|"
    };
    let value = |bytes| format!("GET / HTTP/1.1|Host: localhost|X: {}||", "a".repeat(bytes));
    let body = |bytes| {
        let data = "a".repeat(bytes);
        format!("POST / HTTP/1.1|Host: localhost|Content-Length: {bytes}||{data}")
    };
    let pieces = |count: usize| {
        chunked(
            &format!("{}0||", "100|".to_owned() + &"b".repeat(256) + "|")
                .replace("0||", "")
                .repeat(count),
        ) + "0||"
    };
    vec![
        (target(TARGET_BYTES), 200, GO_ON),
        (target(TARGET_BYTES + 1), 414, CLOSE),
        (target(HEAD_BYTES * 4), 414, CLOSE),
        (fields(HEADERS), 200, GO_ON),
        (fields(HEADERS + 1), 431, CLOSE),
        (value(HEAD_BYTES - 100), 200, GO_ON),
        (value(HEAD_BYTES), 431, CLOSE),
        (value(HEAD_BYTES * 4), 431, CLOSE),
        (body(MAX_BODY), 200, GO_ON),
        (body(MAX_BODY + 1), 413, CLOSE),
        (pieces(MAX_BODY / 256), 200, GO_ON),
        (pieces(MAX_BODY / 256 + 1), 413, CLOSE),
    ]
}

/// Sends a case in the given pieces with a canary behind it; panics on a wrong outcome.
fn check(site: &Site, name: &str, case: &(String, u16, bool), pieces: &[&[u8]]) {
    let (text, status, goes_on) = case;
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
    let cases = all_cases();
    assert!(cases.len() >= 120, "{}", cases.len());
    for (at, case) in cases.iter().enumerate() {
        check(&site, &format!("whole-{at}"), case, &[&raw(&case.0)]);
    }
    site.wait_connections(0);
}

/// How the bytes are cut into segments must not matter.
#[test]
fn cases_split_at_every_byte() {
    let site = Site::start(ServerOptions::default());
    let chosen = [
        (REQUEST_LINES, vec![0, 2, 7, 8, 12, 13, 20]),
        (VERSIONS, vec![0, 3]),
        (HOSTS, vec![2, 18, 20]),
        (FIELDS, vec![8, 10, 22]),
        (LENGTHS, vec![0, 7, 8, 26]),
        (CODINGS, vec![0, 1, 3, 8, 24, 25]),
    ];
    let mut count = 0;
    for (table, places) in chosen {
        for place in places {
            let (text, status, goes_on) = table[place];
            let bytes = raw(text);
            let case = (text.to_owned(), status, goes_on);
            for at in 1..bytes.len() {
                let name = format!("split-{count}-{at}");
                check(&site, &name, &case, &[&bytes[..at], &bytes[at..]]);
            }
            let single: Vec<_> = bytes.chunks(1).collect();
            check(&site, &format!("single-{count}"), &case, &single);
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn bodies_arrive_as_they_were_sent() {
    let site = Site::start(ServerOptions::default());
    let mut client = site.client();
    assert_eq!(
        client.ask("POST /", b"abc\0\r\n\xff").body,
        b"abc\0\r\n\xff"
    );
    client.send(raw(&chunked("1;x=\"y\"|a|00a|0123456789|0|A: b||")));
    assert_eq!(client.answer(false).body, b"a0123456789");
    client.send(raw("POST / HTTP/1.1|Host: localhost||"));
    assert_eq!(client.answer(false).body, b"");
    assert_eq!(site.echo.refused.lock().unwrap().len(), 0);
}
