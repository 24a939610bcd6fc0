//! Ids of tasks inside messages: the same message with others in their place, as edits of its
//! text. Where they stand, `mcp::task` knows.

use crate::mcp::meta::SUBSCRIPTION_ID;
use crate::mcp::task::Part;
use crate::relay::bridge::{Change, Edits};
use crate::wire::json::{quoted, string_value};
use crate::wire::members::{Members, edited, span_in};
use crate::wire::message::{Envelope, FROM_SERVER};

/// A task whose name cannot be given to the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameless(pub String);

/// Edits of `text` that give every task in `object`, a part of it, the name that `rename` makes
/// of its own.
pub fn renamed(
    text: &str,
    object: &str,
    part: Part,
    rename: impl Fn(&str) -> Option<String>,
) -> Result<Edits, Nameless> {
    let literals = part.ids(object).into_iter();
    literals
        .map(|literal| {
            let id = string_value(literal).unwrap_or_default();
            let name = rename(&id).ok_or_else(|| Nameless(id.into_owned()))?;
            Ok((span_in(text, literal), quoted(&name)))
        })
        .collect()
}

/// A whole message of a server under a name of its task that the client knows, whatever kind of
/// message it is.
pub fn told(
    text: &str,
    part: Part,
    rename: impl Fn(&str) -> Option<String>,
) -> Result<Option<Vec<u8>>, Nameless> {
    let envelope = Envelope::parse(text, FROM_SERVER).ok();
    let Some(params) = envelope.and_then(|envelope| envelope.params) else {
        return Ok(None);
    };
    let edits = renamed(text, params, part, rename)?;
    Ok((!edits.is_empty()).then(|| edited(text, edits)))
}

/// `notifications/tasks` of our subscription as one of a client's: `id` is raw JSON.
pub fn notice(text: &str, id: &str, rename: impl Fn(&str) -> Option<String>) -> Option<Vec<u8>> {
    let params = Envelope::parse(text, FROM_SERVER).ok()?.params?;
    let members = Members::parse(params, 1, FROM_SERVER).ok()?;
    let change = Change {
        drop: &[],
        first: "",
        drop_meta: |key| key == SUBSCRIPTION_ID,
        first_meta: &format!("\"{SUBSCRIPTION_ID}\":{id}"),
    };
    let mut edits = change.of(text, &members).ok()?;
    edits.extend(renamed(text, params, Part::Params, rename).ok()?);
    Some(edited(text, edits))
}

#[cfg(test)]
mod tests {
    use super::{Nameless, notice, renamed, told};
    use crate::mcp::task::Part;
    use crate::relay::bridge::applied;

    fn upper(id: &str) -> Option<String> {
        (id != "bad").then(|| id.to_uppercase())
    }

    fn with_others(text: &str, part: Part) -> String {
        applied(text, renamed(text, text, part, upper).expect("names"))
    }

    #[test]
    fn gives_tasks_other_names_wherever_they_stand() {
        let cases = [
            (
                Part::Result,
                r#"{"resultType":"task","task\u0049d":"\u0061","ttlMs":1.10}"#,
                r#"{"resultType":"task","task\u0049d":"A","ttlMs":1.10}"#,
            ),
            (
                Part::Result,
                r#"{"task":{"taskId":"a"},"_meta":{"io.modelcontextprotocol/related-task":
                {"taskId":"b"}},"content":[{"taskId":"c"}]}"#,
                r#"{"task":{"taskId":"A"},"_meta":{"io.modelcontextprotocol/related-task":
                {"taskId":"B"}},"content":[{"taskId":"c"}]}"#,
            ),
            (
                Part::Result,
                r#"{"tasks":[{"taskId":"a"},{},7,{"taskId":"b"}],"nextCursor":"c"}"#,
                r#"{"tasks":[{"taskId":"A"},{},7,{"taskId":"B"}],"nextCursor":"c"}"#,
            ),
            (
                Part::Result,
                r#"{"taskId":"a","inputRequests":{"k":{"params":{"taskId":"x","_meta":
                {"io.modelcontextprotocol/related-task":{"taskId":"a"}}}}},
                "result":{"taskId":"x","_meta":
                {"io.modelcontextprotocol/related-task":{"taskId":"a"}}}}"#,
                r#"{"taskId":"A","inputRequests":{"k":{"params":{"taskId":"x","_meta":
                {"io.modelcontextprotocol/related-task":{"taskId":"A"}}}}},
                "result":{"taskId":"x","_meta":
                {"io.modelcontextprotocol/related-task":{"taskId":"A"}}}}"#,
            ),
            (
                Part::Other,
                r#"{"taskId":"a","task":{"taskId":"a"}}"#,
                r#"{"taskId":"a","task":{"taskId":"a"}}"#,
            ),
            (
                Part::Params,
                r#"{"taskId":7,"_meta":[],"tasks":{"taskId":"a"}}"#,
                r#"{"taskId":7,"_meta":[],"tasks":{"taskId":"a"}}"#,
            ),
        ];
        for (part, before, after) in cases {
            assert_eq!(with_others(before, part), after);
        }
        let bad = r#"{"taskId":"bad"}"#;
        let refused = renamed(bad, bad, Part::Result, upper);
        assert_eq!(refused, Err(Nameless("bad".to_owned())));
    }

    #[test]
    fn tells_a_message_under_the_name_of_its_task() {
        let meta = r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"a"}}}"#;
        let ask = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{meta}}}"#);
        let text = told(&ask, Part::Other, upper).expect("names").expect("one");
        assert_eq!(
            String::from_utf8(text).ok(),
            Some(ask.replace("\"a\"", "\"A\""))
        );
        let plain = r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{}}"#;
        assert_eq!(told(plain, Part::Other, upper), Ok(None));
    }

    #[test]
    fn tells_news_of_a_task_under_another_subscription() {
        let text = r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"a",
            "_meta":{"io.modelcontextprotocol/subscriptionId":4,"k":1.10},"ttlMs":null}}"#;
        let said = notice(text, "\"q\"", upper).expect("a notice");
        let said = String::from_utf8(said).expect("text");
        assert!(
            said.contains(r#""taskId":"A""#) && said.contains("1.10"),
            "{said}"
        );
        assert!(
            said.contains(r#"{"io.modelcontextprotocol/subscriptionId":"q","k""#),
            "{said}"
        );
        assert_eq!(notice("{}", "1", upper), None);
    }
}
