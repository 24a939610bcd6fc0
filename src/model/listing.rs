//! What one server offers, as it said it: entries stay raw JSON.

use std::ops::Range;
use std::sync::Arc;

use crate::base::limits;
use crate::mcp::era::Era;
use crate::mcp::list::ListKind;
use crate::model::hint::CacheHint;
use crate::model::mirror::{self, Mirror};
use crate::model::visible_text;
use crate::wire::json::{elements, push_quoted, string_value};
use crate::wire::members::{Members, edited, span_in};
use crate::wire::message::FROM_SERVER;

/// One tool, prompt, resource or template.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name or URI, decoded.
    pub key: Arc<str>,
    pub raw: Arc<str>,
    /// Where the key's string literal stands in `raw`.
    pub key_span: Range<usize>,
    /// Of a tool: its arguments that have a header. Without any, as most, it costs nothing.
    pub mirrors: Option<Arc<[Mirror]>>,
    /// A tool that says of itself that it changes nothing (`readOnlyHint`).
    pub reads_only: bool,
    /// Some text in it holds characters that people do not see.
    pub hides: bool,
    /// What clients of one era must see instead; almost always nothing.
    instead: Option<Arc<Instead>>,
}

/// One entry in the words of an era that does not know all of it.
#[derive(Debug, Default)]
struct Instead {
    session: Option<Text>,
    /// For sessions of revisions that know no tasks.
    older: Option<Text>,
    stateless: Option<Text>,
}

#[derive(Debug)]
struct Text {
    raw: String,
    key_span: Range<usize>,
}

impl Text {
    fn parse(raw: String, kind: ListKind) -> Option<Text> {
        let members = Members::parse(&raw, 0, FROM_SERVER).ok()?;
        let key_span = span_in(&raw, members.get(kind.key())?);
        Some(Text { raw, key_span })
    }
}

impl Item {
    /// `None` when `raw` is not an object with a non-empty string `key`, or is too large.
    pub fn parse(raw: &str, kind: ListKind) -> Option<Item> {
        if raw.len() > limits::ENTRY_BYTES {
            return None;
        }
        let members = Members::parse(raw, 0, FROM_SERVER).ok()?;
        let literal = members.get(kind.key())?;
        let key = string_value(literal).filter(|key| !key.is_empty())?;
        let mirrors = match kind {
            // One that breaks the rules is served, and its headers decide nothing.
            ListKind::Tools => mirror::of_tool(raw).unwrap_or_default(),
            _ => None,
        };
        let instead = match kind {
            ListKind::Tools => tool_instead(raw, &members),
            _ => None,
        };
        Some(Item {
            key: key.into(),
            hides: visible_text::json_hides(raw),
            raw: raw.into(),
            key_span: span_in(raw, literal),
            mirrors,
            reads_only: kind == ListKind::Tools && reads_only(&members),
            instead: instead.map(Arc::new),
        })
    }

    /// The entry for a client of `era`, under `name`; every byte that need not change as it
    /// came.
    pub fn write(&self, era: Era, name: &str, out: &mut String) {
        let instead = self.instead.as_ref().and_then(|instead| match era {
            Era::Session(revision) if revision.has_tasks() => instead.session.as_ref(),
            Era::Session(_) => instead.older.as_ref(),
            Era::Stateless => instead.stateless.as_ref(),
        });
        let (raw, key) = match instead {
            Some(text) => (text.raw.as_str(), &text.key_span),
            None => (&*self.raw, &self.key_span),
        };
        if name == &*self.key {
            return out.push_str(raw);
        }
        out.push_str(&raw[..key.start]);
        push_quoted(name, out);
        out.push_str(&raw[key.end..]);
    }

    /// The tool without what it says of tasks: nobody can ask its server for one.
    pub fn without_tasks(self) -> Item {
        if !self.raw.contains("taskSupport") {
            return self;
        }
        let tool = Members::parse(&self.raw, 0, FROM_SERVER).ok();
        let tool = tool.filter(supports_tasks);
        let bytes = tool.map(|tool| edited(&self.raw, leaving(&self.raw, &tool, false, true)));
        let raw = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let plain = raw.and_then(|raw| Item::parse(&raw, ListKind::Tools));
        plain.unwrap_or(self)
    }

    /// The entry without what people do not see; `None` when that is part of its meaning.
    pub fn cleaned(&self, kind: ListKind) -> Option<Item> {
        // The name of a resource is a text for people.
        let also = (kind.key() != "name").then_some("name");
        Item::parse(&visible_text::json_cleaned(&self.raw, also)?, kind)
    }

    /// The entry with its description replaced.
    pub fn with_description(&self, description: &str, kind: ListKind) -> Item {
        let quoted = crate::wire::json::quoted(description);
        let raw = Members::parse(&self.raw, 0, FROM_SERVER)
            .map(|members| members.with("description", &quoted));
        raw.ok()
            .and_then(|raw| Item::parse(&raw, kind))
            .unwrap_or_else(|| self.clone())
    }
}

fn reads_only(tool: &Members<'_>) -> bool {
    let annotations = tool.get("annotations").unwrap_or_default();
    let members = Members::parse(annotations, 1, FROM_SERVER).ok();
    members.is_some_and(|members| members.get("readOnlyHint") == Some("true"))
}

/// Sessions demand that structured content is an object, so a schema of anything else is not
/// for them; only clients of 2025-11-25 know its tasks.
fn tool_instead(raw: &str, tool: &Members<'_>) -> Option<Instead> {
    let is_object = |schema: &str| {
        let members = Members::parse(schema, 1, FROM_SERVER).ok();
        members.is_some_and(|members| members.string("type").as_deref() == Some("object"))
    };
    let schema = tool.get("outputSchema").is_some_and(|raw| !is_object(raw));
    let support = supports_tasks(tool);
    if !schema && !support {
        return None;
    }
    let without = |schema: bool, support: bool| {
        let bytes =
            (schema || support).then(|| edited(raw, leaving(raw, tool, schema, support)))?;
        Text::parse(String::from_utf8(bytes).ok()?, ListKind::Tools)
    };
    Some(Instead {
        session: without(schema, false),
        older: without(schema, support),
        stateless: without(false, support),
    })
}

fn execution<'a>(tool: &Members<'a>) -> Option<Members<'a>> {
    Members::parse(tool.get("execution")?, 1, FROM_SERVER).ok()
}

/// Whether a tool says that it can be called as a task, or that it cannot.
fn supports_tasks(tool: &Members<'_>) -> bool {
    execution(tool).is_some_and(|members| members.get("taskSupport").is_some())
}

/// The edits that take out of a tool its output schema, and what it says of tasks.
fn leaving(
    raw: &str,
    tool: &Members<'_>,
    schema: bool,
    support: bool,
) -> Vec<(Range<usize>, String)> {
    let execution = execution(tool).filter(|_| support);
    let is_emptied = |members: &Members<'_>| members.iter().all(|(key, _)| key == "taskSupport");
    let whole = execution.as_ref().is_some_and(is_emptied);
    let leaves = |key: &str| schema && key == "outputSchema" || whole && key == "execution";
    let mut edits = tool.rewritten(raw, leaves, "");
    if let (Some(members), false) = (execution, whole) {
        edits.extend(members.rewritten(raw, |key| key == "taskSupport", ""));
    }
    edits
}

/// All four lists of one server.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    lists: [Arc<Vec<Item>>; 4],
    hints: [Option<CacheHint>; 4],
}

impl Listing {
    pub fn of(&self, kind: ListKind) -> &Arc<Vec<Item>> {
        &self.lists[kind as usize]
    }

    /// How long and for whom this list may be kept; `None` when the server does not say, as in
    /// the session era.
    pub fn hint(&self, kind: ListKind) -> Option<CacheHint> {
        self.hints[kind as usize]
    }

    pub fn set(&mut self, kind: ListKind, items: Vec<Item>, hint: Option<CacheHint>) {
        self.lists[kind as usize] = Arc::new(items);
        self.hints[kind as usize] = hint;
    }
}

/// One page of a list result.
#[derive(Debug, Default)]
pub struct Page {
    pub items: Vec<Item>,
    /// Entries that were not usable: no name, not an object, too large.
    pub dropped: usize,
    pub next_cursor: Option<String>,
    pub hint: Option<CacheHint>,
}

/// Reads the `result` of a list request. `None` when it is not an object with the list in it.
pub fn parse_page(result: &str, kind: ListKind) -> Option<Page> {
    let members = Members::parse(result, 0, FROM_SERVER).ok()?;
    let raw_items = elements(members.get(kind.member())?, FROM_SERVER)?;
    let items: Vec<Item> = raw_items
        .iter()
        .filter_map(|raw| Item::parse(raw, kind))
        .collect();
    let dropped = raw_items.len() - items.len();
    let next_cursor = members
        .string("nextCursor")
        .map(|cursor| cursor.into_owned());
    Some(Page {
        items,
        dropped,
        next_cursor,
        hint: CacheHint::read(&members),
    })
}

#[cfg(test)]
mod tests {
    use super::{Item, parse_page};
    use crate::mcp::era::Era;
    use crate::mcp::list::ListKind;
    use crate::mcp::revision::Revision;

    const SESSION: Era = Era::Session(Revision::NEWEST);

    #[test]
    fn keeps_good_entries_and_counts_bad_ones() {
        let result = r#"{"tools":[{"x":1.10,"name":"a"},{"name":7},"b",{"name":""}],
            "nextCursor":""}"#;
        let page = parse_page(result, ListKind::Tools).expect("a page");
        assert_eq!(page.items.len(), 1);
        assert_eq!(page.dropped, 3);
        assert_eq!(page.next_cursor.as_deref(), Some(""));
        let mut out = String::new();
        page.items[0].write(SESSION, "s_a", &mut out);
        assert_eq!(out, r#"{"x":1.10,"name":"s_a"}"#);
        let described = page.items[0].with_description("d\"", ListKind::Tools);
        assert_eq!(
            &*described.raw,
            r#"{"x":1.10,"name":"a","description":"d\""}"#
        );
        assert!(parse_page("{}", ListKind::Tools).is_none());
        assert!(parse_page("[]", ListKind::Tools).is_none());
    }

    #[test]
    fn shows_each_era_what_it_knows() {
        let cases = [
            (
                r#"{"outputSchema":{"type":"array"},"name":"a","x":1.10}"#,
                r#"{"name":"N","x":1.10}"#,
                r#"{"outputSchema":{"type":"array"},"name":"N","x":1.10}"#,
            ),
            (
                r#"{"name":"a","outputSchema":{"anyOf":[{"type":"object"}]}}"#,
                r#"{"name":"N"}"#,
                r#"{"name":"N","outputSchema":{"anyOf":[{"type":"object"}]}}"#,
            ),
            (
                r#"{"name":"a","outputSchema":{"type":"object"},"execution":{}}"#,
                r#"{"name":"N","outputSchema":{"type":"object"},"execution":{}}"#,
                r#"{"name":"N","outputSchema":{"type":"object"},"execution":{}}"#,
            ),
            (
                r#"{"execution":{"taskSupport":"optional"},"name":"a"}"#,
                r#"{"execution":{"taskSupport":"optional"},"name":"N"}"#,
                r#"{"name":"N"}"#,
            ),
            (
                r#"{"name":"a","execution":{"y":1, "taskSupport":"required"},"outputSchema":true}"#,
                r#"{"name":"N","execution":{"y":1, "taskSupport":"required"}}"#,
                r#"{"name":"N","execution":{"y":1},"outputSchema":true}"#,
            ),
            (
                r#"{"name":"a","inputSchema":{"outputSchema":1,"execution":{"taskSupport":1}}}"#,
                r#"{"name":"N","inputSchema":{"outputSchema":1,"execution":{"taskSupport":1}}}"#,
                r#"{"name":"N","inputSchema":{"outputSchema":1,"execution":{"taskSupport":1}}}"#,
            ),
        ];
        let old = r#"{"execution":{"taskSupport":"optional"},"outputSchema":true,"name":"a"}"#;
        let item = Item::parse(old, ListKind::Tools).expect("a tool");
        let mut out = String::new();
        item.write(Era::Session(Revision::V2025_06_18), "a", &mut out);
        assert_eq!(out, r#"{"name":"a"}"#);
        let plain = item.without_tasks();
        assert_eq!(&*plain.raw, r#"{"outputSchema":true,"name":"a"}"#);
        for (raw, session, stateless) in cases {
            let item = Item::parse(raw, ListKind::Tools).expect("a tool");
            for (era, expected) in [(SESSION, session), (Era::Stateless, stateless)] {
                for name in ["N", "a"] {
                    let mut out = String::new();
                    item.write(era, name, &mut out);
                    let expected = expected.replace("\"N\"", &format!("{name:?}"));
                    assert_eq!(out, expected, "{raw}");
                }
            }
        }
    }
}
