//! Kinds of content that a client's revision does not know become a text that says what was
//! there: a client that checks what it gets would refuse the whole result.

use crate::mcp::revision::Revision;
use crate::relay::bridge::Edits;
use crate::wire::json::{elements, quoted};
use crate::wire::members::{Members, span_in};
use crate::wire::message::FROM_SERVER;

/// Edits of `text` for the content of a result in it: of a tool (`content`) or of a prompt
/// (`messages`).
pub fn for_revision(text: &str, result: &Members<'_>, revision: Revision) -> Edits {
    if revision.has_resource_links() {
        return Edits::new();
    }
    let tool = result.get("content").and_then(array).unwrap_or_default();
    let prompt = result.get("messages").and_then(array).unwrap_or_default();
    let prompt = prompt.into_iter().filter_map(of_message);
    tool.into_iter()
        .chain(prompt)
        .filter_map(|block| Some((span_in(text, block), told(block, revision)?)))
        .collect()
}

fn array(raw: &str) -> Option<Vec<&str>> {
    elements(raw, FROM_SERVER)
}

fn of_message(raw: &str) -> Option<&str> {
    let members = Members::parse(raw, 3, FROM_SERVER).ok()?;
    members.get("content")
}

/// The text block in place of `block`, if the revision does not know its kind.
fn told(block: &str, revision: Revision) -> Option<String> {
    let members = Members::parse(block, 4, FROM_SERVER).ok()?;
    let what = match &*members.string("type")? {
        "audio" if !revision.has_audio() => "audio",
        "resource_link" => "link to a resource",
        _ => return None,
    };
    let mut text = format!("[{what}");
    for key in ["name", "title", "uri", "mimeType", "description"] {
        if let Some(value) = members.string(key) {
            text.push_str(&format!(", {key}: {value}"));
        }
    }
    if let Some(data) = members.get("data") {
        text.push_str(&format!(
            ", {} bytes of Base64",
            data.len().saturating_sub(2)
        ));
    }
    text.push(']');
    let annotations = members
        .get("annotations")
        .filter(|raw| raw.starts_with('{'));
    let annotations = annotations.map(|raw| format!(",\"annotations\":{raw}"));
    Some(format!(
        "{{\"type\":\"text\",\"text\":{}{}}}",
        quoted(&text),
        annotations.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::for_revision;
    use crate::mcp::revision::Revision;
    use crate::relay::bridge::applied;
    use crate::wire::members::Members;
    use crate::wire::message::FROM_SERVER;

    fn told(text: &str, revision: Revision) -> String {
        let members = Members::parse(text, 1, FROM_SERVER).expect("a result");
        applied(text, for_revision(text, &members, revision))
    }

    const AUDIO: &str = r#"{"data":"QUJD","type":"audio","mimeType":"audio/wav"}"#;
    const LINK: &str = r#"{"type":"resource_link","uri":"x:/1","annotations":{"priority":1.0}}"#;
    const AUDIO_TOLD: &str =
        r#"{"type":"text","text":"[audio, mimeType: audio/wav, 4 bytes of Base64]"}"#;
    const LINK_TOLD: &str = concat!(
        r#"{"type":"text","text":"[link to a resource, uri: x:/1]","#,
        r#""annotations":{"priority":1.0}}"#
    );

    #[test]
    fn tells_kinds_that_a_revision_does_not_know() {
        let tool = |audio: &str, link: &str| {
            format!(r#"{{"content":[{{"type":"text","text":"audio"}} , {audio},{link}],"x":1.10}}"#)
        };
        let prompt = |audio: &str, link: &str| {
            format!(r#"{{"messages":[{{"role":"user","content":{audio}}},{{"content":{link}}}]}}"#)
        };
        for (revision, audio, link) in [
            (Revision::V2024_11_05, AUDIO_TOLD, LINK_TOLD),
            (Revision::V2025_03_26, AUDIO, LINK_TOLD),
            (Revision::V2025_06_18, AUDIO, LINK),
            (Revision::V2025_11_25, AUDIO, LINK),
        ] {
            assert_eq!(told(&tool(AUDIO, LINK), revision), tool(audio, link));
            assert_eq!(told(&prompt(AUDIO, LINK), revision), prompt(audio, link));
        }
    }

    #[test]
    fn leaves_alone_what_is_no_content() {
        for text in [
            "{}",
            r#"{"content":"audio"}"#,
            r#"{"content":[1,{"type":7},{"type":"image","data":{"type":"audio"}}]}"#,
            r#"{"messages":[1,{}],"structuredContent":{"content":[{"type":"audio"}]}}"#,
        ] {
            assert_eq!(told(text, Revision::V2024_11_05), text);
        }
    }
}
