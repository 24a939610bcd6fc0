//! What the gateway must not touch: ids of clients, and every byte of parameters and results.

use serde_json::{Value, json};

use crate::support::rig::Rig;
use crate::support::servers::{everything, with};
use crate::support::session::{Session, text_of};

/// A server without a JSON parser: edits of lines that answer requests.
fn stream_editor(edits: &[(&str, &str, &str)]) -> Value {
    let edit = |(method, rest, answer): &(&str, &str, &str)| {
        let method = method.replace('/', r"\/");
        format!(r#"s/^\{{ *"jsonrpc": *"2.0", *"id": *([0-9]+), *"method": *"{method}"{rest}$/"#)
            + &format!(r#"{{"jsonrpc":"2.0","id":\1,{answer}}}/p"#)
    };
    let script: Vec<String> = edits.iter().map(edit).collect();
    json!({"command": "sed", "args": ["-u", "-n", "-E", script.join("\n")]})
}

const HELLO: (&str, &str, &str) = (
    "initialize",
    ".*",
    concat!(
        r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"#,
        r#""serverInfo":{"name":"sed","version":"1"}}"#
    ),
);

/// It answers a call with the bytes of its parameters.
pub(crate) fn mirror() -> Value {
    let tools = concat!(
        r#""result":{"tools":[{"name":"mirror","inputSchema":{"type":"object","default":1.10},"#,
        r#""x-own":{"big":12345678901234567890123,"huge":1e400,"text":"\\u0041\\\/"}}]}"#
    );
    let call = ("tools/call", r#", *"params": *(.*)\} *"#, r#""result":\2"#);
    stream_editor(&[HELLO, ("tools/list", ".*", tools), call])
}

pub(crate) fn call(id: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)
}

/// The text of the result member, as it came.
#[track_caller]
fn result<'a>(text: &'a str, id: &str) -> &'a str {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
    let rest = text.strip_prefix(&head);
    let rest = rest.unwrap_or_else(|| panic!("does not begin with {head}: {text}"));
    rest.strip_suffix('}').unwrap()
}

#[test]
fn ids_come_back_as_they_went() {
    let rig = Rig::start(json!({"mirror": mirror()}));
    let mut session = rig.session();
    let long = format!("\"{}\"", "i".repeat(250));
    let ids = [
        "0",
        "1",
        "-1",
        "9007199254740993",
        "-9223372036854775808",
        "12345678901234567890123",
        "\"\"",
        "\"1\"",
        "\"a b\"",
        r#""\u00e9\"\\""#,
        "\"\u{e9}\u{1f600}\"",
        &long,
    ];
    for id in ids {
        let params = r#"{"name":"mirror_1mcp_mirror","arguments":{}}"#;
        let reply = session.post(call(id, params));
        assert_eq!(reply.status(), 200, "{id}: {reply:?}");
        let expected = r#"{"name":"mirror","arguments":{}}"#;
        assert_eq!(result(&reply.text, id), expected);
        let ping = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        assert_eq!(result(&session.post(ping).text, id), "{}");
        let wrong = call(id, r#"{"name":"none","arguments":{}}"#);
        let reply = session.post(wrong).text;
        assert!(
            reply.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"#)),
            "{reply}"
        );
    }
    rig.stop();
}

#[test]
fn parameters_and_results_survive_byte_for_byte() {
    let rig = Rig::start(json!({"mirror": mirror()}));
    let mut session = rig.session();
    let rest = concat!(
        r#""arguments":{"a":1.10,"b":1e400,"c":12345678901234567890123,"d":-0.0,"e":1E+2,"#,
        r#""f":"\u0041\/\ud83d\ude00","g":{"z":1,"a":2,"z":3},"h":[ 1 , 2 ],"":null},"#,
        r#""unknown":{"x":1.0},"_meta":{"traceparent":"00-1","own.example/key":1e-400}"#
    );
    let reply = session.post(call(
        "1",
        &format!(r#"{{"name":"mirror_1mcp_mirror",{rest}}}"#),
    ));
    assert_eq!(
        result(&reply.text, "1"),
        format!(r#"{{"name":"mirror",{rest}}}"#)
    );
    // The name need not be the first member.
    let reply = session.post(call(
        "2",
        &format!(r#"{{{rest},"name":"mirror_1mcp_mirror"}}"#),
    ));
    assert_eq!(
        result(&reply.text, "2"),
        format!(r#"{{{rest},"name":"mirror"}}"#)
    );
    rig.stop();
}

#[test]
fn entries_of_lists_keep_unknown_members_and_numbers() {
    let rig = Rig::start(json!({"mirror": mirror()}));
    let expected = concat!(
        r#"{"name":"mirror","inputSchema":{"type":"object","default":1.10},"#,
        r#""x-own":{"big":12345678901234567890123,"huge":1e400,"text":"\u0041\/"}}"#
    );
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let own = rig.session_at("/mcp/mirror").post(list).text;
    assert_eq!(result(&own, "1"), format!(r#"{{"tools":[{expected}]}}"#));
    let public = expected.replace(r#""name":"mirror""#, r#""name":"mirror_1mcp_mirror""#);
    let all = rig.session().post(list).text;
    assert_eq!(result(&all, "1"), format!(r#"{{"tools":[{public}]}}"#));
    rig.stop();
}

#[test]
fn a_body_over_several_lines_reaches_the_server_as_one_line() {
    let rig = Rig::start(json!({"mirror": mirror()}));
    let mut session = rig.session();
    let body = "{\r\n  \"jsonrpc\": \"2.0\",\n  \"id\": 7,\n  \"method\": \"tools/call\",\n  \
                \"params\": {\n    \"name\": \"mirror_1mcp_mirror\",\n    \"arguments\": {\n      \
                \"a\": 1.10,\n\t\"text\": \"two\\nlines\"\n    }\n  }\n}\n";
    let reply = session.post(body);
    let mirrored = result(&reply.text, "7");
    assert!(
        !mirrored.contains('\n') && mirrored.contains("1.10"),
        "{mirrored}"
    );
    let value: Value = serde_json::from_str(mirrored).unwrap();
    assert_eq!(value["arguments"]["text"], "two\nlines");
    assert_eq!(value["name"], "mirror");
    rig.stop();
}

#[test]
fn errors_of_a_server_pass_unchanged() {
    let error = r#"{"code":-32042,"message":"own","data":{"n":1.10,"big":1e400},"x":[1]}"#;
    let tools = r#""result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}"#;
    let failure = format!(r#""error":{error}"#);
    let edits = [
        HELLO,
        ("tools/list", ".*", tools),
        ("tools/call", ".*", &failure),
    ];
    let no = stream_editor(&edits);
    let rig = Rig::start(json!({"no": no}));
    let mut session = rig.session();
    let reply = session.post(call("1", r#"{"name":"no_1mcp_t","arguments":{}}"#));
    assert_eq!(
        reply.text,
        format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#)
    );
    rig.stop();
}

/// Bytes outside ASCII, both ways, through a server that does parse.
#[test]
fn text_of_every_script_comes_back() {
    let tagged = with(everything(&[]), json!({"tags": ["x"]}));
    let rig = Rig::start(json!({"ev": tagged}));
    let mut session: Session = rig.session();
    let text = "\u{e9}\u{fc} \u{5de5}\u{5177} \u{1f600} \u{202e} \u{0} \u{2028} \"\\/\n\t";
    let result = session.call("ev_1mcp_echo", json!({"text": text}));
    assert_eq!(text_of(&result), text);
    let large = "0123456789abcdef".repeat(60_000);
    let result = session.call("ev_1mcp_echo", json!({"text": large}));
    assert!(text_of(&result) == large, "a large text is not the same");
    rig.stop();
}
