use std::time::{Duration, Instant};

use super::{Inquiry, Parking, bound, input_request, input_requests, input_required};
use crate::front::exchange::Outstanding;
use crate::mcp::method::Ask;
use crate::upstream::call::{Asked, Mailbox};
use crate::upstream::caller::Lease;
use crate::upstream::link::Link;
use crate::upstream::outlet::Outlet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

fn asked(ask: Ask, text: &str) -> Asked {
    Asked {
        ask,
        upstream_id: "\"q\"".to_owned(),
        text: text.to_owned(),
        certain: true,
    }
}

fn forms(count: usize) -> Inquiry {
    let text = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#;
    let mut inquiry = Inquiry::default();
    for _ in 0..count {
        assert!(inquiry.add(&asked(Ask::Elicitation, text)));
    }
    inquiry
}

/// A parked call with the question `r1`, and what its server reads.
fn parked(parking: &Parking) -> (String, Arc<Link>, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let link = Arc::new(Link::new("s", Outlet::new(OwnedFd::from(writer))));
    let mailbox = Mailbox::new(1);
    let call = link
        .request("tools/call", "{}", mailbox.sender())
        .expect("a call");
    let lease = Lease::shared(link.clone());
    let call = Outstanding::new(call, "1", lease, Duration::from_secs(9));
    let state = parking.park(b"me", call, mailbox, forms(1));
    (state.ok().expect("room"), link, reader)
}

fn said(link: &Link, mut reader: std::io::PipeReader) -> String {
    link.outlet().expect("a pipe").close();
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    text
}

const YES: &str = r#"{"r1":{"action":"accept","content":{}},"other":7}"#;

#[test]
fn a_client_comes_back_once_with_its_own_state() {
    let parking = Parking::new(Duration::from_secs(60), None).expect("a key");
    let (state, _link, _reader) = parked(&parking);
    assert_eq!(
        parking
            .take(b"you", &state, Some(YES))
            .err()
            .map(|e| e.code),
        Some(-32602)
    );
    assert!(parking.take(b"me", "x", Some(YES)).is_err());
    let malformed = r#"{"r1":{"action":"maybe"}}"#;
    assert!(parking.take(b"me", &state, Some(malformed)).is_err());
    let back = parking.take(b"me", &state, Some(YES)).expect("parked");
    assert_eq!(back.kept.answers.len(), 1);
    assert_eq!(back.kept.answers[0].0, "\"q\"");
    assert!(back.kept.inquiry.questions.is_empty());
    assert!(parking.take(b"me", &state, Some(YES)).is_err());
    assert!(parking.is_empty());
}

#[test]
fn missing_answers_leave_their_questions_open() {
    let parking = Parking::new(Duration::from_secs(60), None).expect("a key");
    for responses in [
        None,
        Some("{}"),
        Some(r#"{"user_name":{"action":"cancel"}}"#),
    ] {
        let (state, _link, _reader) = parked(&parking);
        let back = parking.take(b"me", &state, responses).expect("parked");
        assert!(back.kept.answers.is_empty());
        assert_eq!(back.kept.inquiry.questions.len(), 1);
    }
}

#[test]
fn who_does_not_come_back_leaves_nothing_behind() {
    let parking = Parking::new(Duration::from_secs(60), None).expect("a key");
    let (state, link, reader) = parked(&parking);
    let end = parking.next_expiry().expect("one");
    parking.expire(end - Duration::from_secs(1));
    assert_eq!(parking.len(), 1);
    parking.expire(end.max(Instant::now()));
    assert!(parking.is_empty());
    assert!(parking.take(b"me", &state, Some(YES)).is_err());
    let text = said(&link, reader);
    assert!(
        text.contains(r#""id":"q","result":{"action":"cancel"}"#),
        "{text}"
    );
    assert!(text.contains("notifications/cancelled"), "{text}");
}

#[test]
fn a_state_is_bound_to_the_request_however_it_is_written() {
    let of = |params: &str| bound("p", 1, "tools/call", Some(params));
    let one = of(r#"{"name":"t","arguments":{"a":1,"b":[2,{"d":1,"c":2}]},"_meta":{"x":1}}"#);
    let same = [
        r#"{ "arguments" : {"b":[2,{"c":2,"d":1}], "a":1}, "name":"t" }"#,
        r#"{"name":"\u0074","arguments":{"a":1,"b":[2,{"c":2,"d":1}]},"requestState":"s",
            "inputResponses":{}}"#,
    ];
    for params in same {
        assert_eq!(of(params), one, "{params}");
    }
    let others = [
        r#"{"name":"u","arguments":{"a":1,"b":[2,{"c":2,"d":1}]}}"#,
        r#"{"name":"t","arguments":{"a":2,"b":[2,{"c":2,"d":1}]}}"#,
        r#"{"name":"t"}"#,
    ];
    for params in others {
        assert_ne!(of(params), one, "{params}");
    }
    let params = Some(r#"{"name":"t","arguments":{"a":1,"b":[2,{"d":1,"c":2}]}}"#);
    assert_eq!(bound("p", 1, "tools/call", params), one);
    assert_ne!(bound("q", 1, "tools/call", params), one);
    assert_ne!(bound("p", 2, "tools/call", params), one);
    assert_ne!(bound("p", 1, "prompts/get", params), one);
}

#[test]
fn questions_lose_what_only_a_session_could_carry() {
    let text = r#"{"jsonrpc":"2.0","id":4,"method":"elicitation/create","params":{"mode":"url",
        "url":"https://x/","elicitationId":"e","message":"m","task":{},
        "_meta":{"progressToken":1}}}"#;
    let url = input_request(&asked(Ask::Elicitation, text)).expect("a request");
    let params = r#"{"mode":"url","url":"https://x/","message":"m"}"#;
    let expected = format!(r#"{{"method":"elicitation/create","params":{params}}}"#);
    assert_eq!(url, expected);
    let roots = r#"{"jsonrpc":"2.0","id":5,"method":"roots/list"}"#;
    let roots = input_request(&asked(Ask::Roots, roots)).expect("a request");
    assert_eq!(roots, r#"{"method":"roots/list"}"#);
    let result = input_required(&input_requests(&forms(2).questions), "s");
    let value: serde_json::Value = serde_json::from_str(&result).expect("valid JSON");
    assert_eq!(value["inputRequests"]["r2"]["method"], "elicitation/create");
    assert_eq!(value["requestState"], "s");
}
