#![no_main]
//! `WWW-Authenticate`: what a server writes by the rules is read as it was meant, also among other
//! schemes, and nothing is read twice or out of a quoted text.

use libfuzzer_sys::fuzz_target;
use onemcp::mcp::trace::{BAGGAGE_BYTES, TraceContext, baggage_is_good, state_is_good};
use onemcp::wire::challenge::Challenge;
use onemcp_fuzz::{bounded, first_line};

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(challenge) = Challenge::bearer(text) {
        assert!(text.to_ascii_lowercase().contains("bearer"));
        for value in [challenge.scope(), challenge.resource_metadata()]
            .into_iter()
            .flatten()
        {
            assert!(!value.is_empty() && value.len() < text.len());
        }
        if challenge.scope().is_some() {
            assert!(text.to_ascii_lowercase().contains("scope"));
        }
    }
    written(text);
    trace(text);
}));

fn written(text: &str) {
    let (scope, rest) = first_line(text);
    let (metadata, _) = first_line(rest);
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let params = format!(
        "realm=\"Bearer scope=wrong, error=\\\"no\\\"\", SCOPE = \"{}\",\tresource_metadata=\"{}\"",
        quoted(scope),
        quoted(metadata)
    );
    let expected = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    for (wants_more, header) in [
        (false, format!("Bearer {params}")),
        (true, format!("bEaReR {params}, error=insufficient_scope")),
        (false, format!("Basic realm=\"x\", Bearer {params}")),
        (
            false,
            format!("Negotiate YWJj==, Bearer {params}, DPoP algs=\"ES256\""),
        ),
    ] {
        let challenge = Challenge::bearer(&header).expect(&header);
        assert_eq!(
            challenge.scope().map(str::to_owned),
            expected(scope),
            "{header}"
        );
        assert_eq!(
            challenge.resource_metadata().map(str::to_owned),
            expected(metadata)
        );
        assert_eq!(challenge.wants_more_scope(), wants_more, "{header}");
        if !header.ends_with("algs=\"ES256\"") {
            let twice = format!("{header}, scope=again");
            let twice = Challenge::bearer(&twice).expect(&twice);
            assert_eq!(twice.scope(), None, "said twice");
        }
    }
}

/// What comes with a request and is passed on.
fn trace(text: &str) {
    let (parent, rest) = first_line(text);
    let (state, baggage) = first_line(rest);
    if let Some(context) = TraceContext::parse(parent, Some(state)) {
        assert_eq!(context.parent().len(), 55);
        assert_eq!(context.parent()[3..52], parent[3..52]);
        assert_eq!(context.state.is_some(), state_is_good(state));
        let again = TraceContext::parse(&context.parent(), context.state.as_deref());
        assert_eq!(again, Some(context));
    }
    let is_line = |text: &str| {
        text.bytes()
            .all(|byte| byte == b'\t' || !byte.is_ascii_control())
    };
    assert!(!state_is_good(state) || is_line(state));
    assert!(!baggage_is_good(baggage) || is_line(baggage) && baggage.len() <= BAGGAGE_BYTES);
}
