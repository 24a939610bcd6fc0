#![no_main]
//! A message, against serde_json: what is JSON to one is JSON to both, but for what we refuse on
//! purpose; id, method and parameters are those that a usual parser finds; the id that the line
//! reader finds in a line which it throws away is the one that is there.

use libfuzzer_sys::fuzz_target;
use onemcp::base::limits;
use onemcp::wire::json::{Fault, Scanner};
use onemcp::wire::lines::find_id;
use onemcp::wire::message::{
    Envelope, EnvelopeError, FROM_CLIENT, FROM_SERVER, Kind, blank_line_breaks, canonical_id,
};
use onemcp_fuzz::bounded;
use serde_json::Value;

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(text) = std::str::from_utf8(data) else {
        let parsed = Envelope::from_bytes(data, FROM_CLIENT);
        assert!(matches!(parsed, Err(EnvelopeError::NotUtf8)));
        let _ = find_id(data);
        return;
    };
    syntax(text);
    let strict = Envelope::parse(text, FROM_CLIENT);
    let loose = Envelope::parse(text, FROM_SERVER);
    assert!(strict.is_err() || loose.is_ok(), "{text}");
    let Ok(envelope) = loose else {
        return;
    };
    // A lone half of a pair is passed on for servers; the reference knows none.
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        assert_eq!(envelope.text, text);
        same_message(&envelope, &value);
        one_line(text, &value);
    }
}));

fn syntax(text: &str) {
    let mut scanner = Scanner::new(text, FROM_CLIENT);
    let ours = scanner.value(0).and_then(|_| scanner.expect_end());
    let theirs = serde_json::from_str::<Value>(text);
    match ours {
        Ok(()) => assert!(theirs.is_ok(), "only we take {text}"),
        Err(error) if error.fault == Fault::Syntax => {
            assert!(theirs.is_err(), "only we refuse {text}");
        }
        Err(error) if error.fault == Fault::TooDeep => {
            let open = text.bytes().filter(|byte| b"[{".contains(byte)).count();
            assert!(open > limits::JSON_DEPTH, "{text}");
        }
        Err(_) => assert!(theirs.is_err(), "a lone surrogate: {text}"),
    }
}

fn same_message(envelope: &Envelope<'_>, value: &Value) {
    let parsed = |raw: &str| serde_json::from_str::<Value>(raw).expect("a part of JSON is JSON");
    assert_eq!(value["jsonrpc"], "2.0");
    match envelope.params {
        Some(params) => assert_eq!(parsed(params), value["params"]),
        None => assert!(value["params"].is_null()),
    }
    match &envelope.kind {
        Kind::Request { id, method } => {
            assert_eq!(
                (parsed(id), &**method),
                (value["id"].clone(), text(&value["method"]))
            );
            assert_eq!(parsed(&canonical_id(id)), value["id"]);
            assert!(value["id"].is_string() || value["id"].is_number());
        }
        Kind::Notification { method } => {
            assert_eq!(&**method, text(&value["method"]));
            assert!(value.get("id").is_none());
        }
        Kind::Result { id, result } => {
            assert_eq!(
                (parsed(id), parsed(result)),
                (value["id"].clone(), value["result"].clone())
            );
            assert!(value.get("method").is_none() && value.get("error").is_none());
        }
        Kind::Error { id, error } => {
            assert_eq!(id.map_or(Value::Null, parsed), value["id"]);
            assert_eq!(parsed(error), value["error"]);
            assert!(value.get("method").is_none() && value.get("result").is_none());
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// As it is written to a server: one line, and still the same.
fn one_line(text: &str, value: &Value) {
    let mut bytes = text.as_bytes().to_vec();
    blank_line_breaks(&mut bytes);
    assert!(!bytes.contains(&b'\n') && !bytes.contains(&b'\r'));
    assert_eq!(
        serde_json::from_slice::<Value>(&bytes).ok().as_ref(),
        Some(value)
    );
    // An escaped key is not looked for: whose line is too long may miss its answer, never have
    // somebody else's.
    if let Some(id) = find_id(&bytes) {
        assert_eq!(value["id"].as_u64(), Some(id), "{text}");
    }
}
