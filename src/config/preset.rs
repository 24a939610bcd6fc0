//! `presets.json`: named tag queries. It is optional and nothing in it stops a start: what is
//! wrong there is a warning, and the preset it concerns does not exist.

use std::collections::BTreeMap;

use crate::base::limits;
use crate::config::document::{Lines, Member, Node, Notes, Spot, parse};
use crate::config::near::did_you_mean;
use crate::config::problem::{Problem, Scope};
use crate::model::filter::{FilterError, TagExpression};

#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    pub name: String,
    pub description: Option<String>,
    /// `None` matches every server.
    pub query: Option<TagExpression>,
}

const KEYS: &[&str] = &[
    "name",
    "description",
    "strategy",
    "tagQuery",
    "created",
    "lastModified",
];
const OPERATORS: &[&str] = &["tag", "$or", "$and", "$not", "$in", "$advanced"];

/// `None` when the text is not JSON.
pub fn read(
    file: &str,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Option<BTreeMap<String, Preset>> {
    let lines = Lines::new(file, text);
    let mut notes = Notes::new(Scope::File);
    let presets = parse(&lines, &mut notes).map(|value| {
        let mut presets = BTreeMap::new();
        let root = Node::root(&lines, &value);
        read_file(&root, &mut presets, problems, &mut notes);
        presets
    });
    notes.soften();
    problems.append(&mut notes.problems);
    presets
}

fn read_file(
    root: &Node<'_>,
    presets: &mut BTreeMap<String, Preset>,
    problems: &mut Vec<Problem>,
    notes: &mut Notes,
) {
    for member in root.members(notes).unwrap_or_default() {
        match member.name {
            "version" | "$schema" => {}
            "presets" => {
                for preset in member.node.members(notes).unwrap_or_default() {
                    if presets.len() >= limits::CONFIG_PRESETS {
                        let remedy = format!("at most {} are read", limits::CONFIG_PRESETS);
                        preset.spot.error(notes, "too many presets", remedy);
                        return;
                    }
                    let mut own = Notes::new(Scope::Preset(preset.name.to_owned()));
                    let read = read_preset(preset.name, &preset.spot, &preset.node, &mut own);
                    if let (Some(read), None) = (read, own.first_error()) {
                        presets.insert(preset.name.to_owned(), read);
                    }
                    own.soften();
                    problems.append(&mut own.problems);
                }
            }
            name => {
                let remedy = did_you_mean(name, ["presets", "version"], "remove it");
                member.spot.warn(notes, "unknown key", remedy);
            }
        }
    }
}

fn read_preset(name: &str, spot: &Spot<'_>, node: &Node<'_>, notes: &mut Notes) -> Option<Preset> {
    let mut description = None;
    let mut tag_query = None;
    for member in node.members(notes)? {
        match member.name {
            "description" => description = member.node.text(notes).map(str::to_owned),
            "tagQuery" => tag_query = Some(whole_query(&member.node, notes)?),
            // The query says it all; the rest is bookkeeping of 1MCP's editor.
            known if KEYS.contains(&known) => {}
            unknown => {
                let remedy = did_you_mean(unknown, KEYS.iter().copied(), "remove it");
                member.spot.warn(notes, "unknown key", remedy);
            }
        }
    }
    let Some(query) = tag_query else {
        spot.error(
            notes,
            "has no tagQuery",
            "write \"tagQuery\": {\"tag\": \"name\"}",
        );
        return None;
    };
    Some(Preset {
        name: name.to_owned(),
        description,
        query,
    })
}

/// The query of a preset; an empty object matches every server.
fn whole_query(node: &Node<'_>, notes: &mut Notes) -> Option<Option<TagExpression>> {
    let empty = |object: &jsonc_parser::ast::Object<'_>| object.properties.is_empty();
    if node.value.as_object().is_some_and(empty) {
        return Some(None);
    }
    query(node, 0, notes).map(Some)
}

/// All members of an object must hold.
fn query(node: &Node<'_>, depth: usize, notes: &mut Notes) -> Option<TagExpression> {
    if depth >= limits::PRESET_DEPTH {
        node.spot
            .error(notes, "the query is nested too deep", "write it flatter");
        return None;
    }
    let members = node.members(notes)?;
    if members.is_empty() {
        node.spot
            .error(notes, "is empty", "name a tag or remove it");
        return None;
    }
    let parts: Option<Vec<TagExpression>> = members
        .iter()
        .map(|member| operation(member, depth, notes))
        .collect();
    Some(all_of(parts?))
}

fn operation(member: &Member<'_>, depth: usize, notes: &mut Notes) -> Option<TagExpression> {
    let operand = &member.node;
    match member.name {
        "tag" if operand.value.as_object().is_some() => tag_in(operand, notes),
        "tag" => tag(operand, notes),
        "$in" => tag_list(operand, notes).map(any_of),
        "$or" => query_list(operand, depth, notes).map(any_of),
        "$and" => query_list(operand, depth, notes).map(all_of),
        "$not" => Some(TagExpression::Not(Box::new(query(
            operand,
            depth + 1,
            notes,
        )?))),
        "$advanced" => advanced(operand, notes),
        unknown => {
            let remedy = did_you_mean(
                unknown,
                OPERATORS.iter().copied(),
                "use tag, $or, $and, $not, $in or $advanced",
            );
            member.spot.error(notes, "unknown operator", remedy);
            None
        }
    }
}

/// The normal form of `TagExpression`: at least two members, none of their own kind.
fn any_of(parts: Vec<TagExpression>) -> TagExpression {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            TagExpression::Or(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    if flat.len() == 1 {
        flat.swap_remove(0)
    } else {
        TagExpression::Or(flat)
    }
}

fn all_of(parts: Vec<TagExpression>) -> TagExpression {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            TagExpression::And(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    if flat.len() == 1 {
        flat.swap_remove(0)
    } else {
        TagExpression::And(flat)
    }
}

fn tag(node: &Node<'_>, notes: &mut Notes) -> Option<TagExpression> {
    let text = node.text(notes)?.trim().to_lowercase();
    if text.is_empty() || text.chars().count() > limits::TAG_CHARS {
        let remedy = format!("write 1 to {} characters", limits::TAG_CHARS);
        node.spot.error(notes, "is not a tag", remedy);
        return None;
    }
    Some(TagExpression::Tag(text))
}

/// `{"tag": {"$in": [...]}}`.
fn tag_in(node: &Node<'_>, notes: &mut Notes) -> Option<TagExpression> {
    let members = node.members(notes)?;
    match members.as_slice() {
        [member] if member.name == "$in" => tag_list(&member.node, notes).map(any_of),
        _ => {
            node.spot.error(
                notes,
                "is not a tag",
                "write \"name\" or {\"$in\": [\"name\"]}",
            );
            None
        }
    }
}

fn tag_list(node: &Node<'_>, notes: &mut Notes) -> Option<Vec<TagExpression>> {
    let elements = bounded_elements(node, notes)?;
    elements.iter().map(|element| tag(element, notes)).collect()
}

fn query_list(node: &Node<'_>, depth: usize, notes: &mut Notes) -> Option<Vec<TagExpression>> {
    let elements = bounded_elements(node, notes)?;
    elements
        .iter()
        .map(|element| query(element, depth + 1, notes))
        .collect()
}

fn bounded_elements<'d>(node: &Node<'d>, notes: &mut Notes) -> Option<Vec<Node<'d>>> {
    let elements = node.elements(notes)?;
    if elements.is_empty() || elements.len() > limits::FILTER_TAGS {
        let remedy = format!("write 1 to {} elements", limits::FILTER_TAGS);
        node.spot
            .error(notes, format!("has {} elements", elements.len()), remedy);
        return None;
    }
    Some(elements)
}

fn advanced(node: &Node<'_>, notes: &mut Notes) -> Option<TagExpression> {
    match TagExpression::parse(node.text(notes)?) {
        Ok(expression) => Some(expression),
        Err(error) => {
            node.spot
                .error(notes, "is not a tag expression", filter_remedy(&error));
            None
        }
    }
}

/// Where and what, in the form of a remedy.
pub fn filter_remedy(error: &FilterError) -> String {
    format!("at character {}: {}", error.position, error.problem)
}

#[cfg(test)]
mod tests {
    use super::read;

    fn matched(query: &str, tags: &[&str]) -> Option<bool> {
        let text = format!("{{\"presets\": {{\"p\": {{\"tagQuery\": {query}}}}}}}");
        let mut problems = Vec::new();
        let presets = read("presets.json", &text, &mut problems).unwrap();
        assert!(
            problems.iter().all(|problem| !problem.is_error()),
            "{problems:?}"
        );
        assert_eq!(
            presets.is_empty(),
            !problems.is_empty(),
            "{query}: {problems:?}"
        );
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        presets.get("p").map(|preset| {
            preset
                .query
                .as_ref()
                .is_none_or(|query| query.matches(&tags))
        })
    }

    #[test]
    fn queries() {
        let check = |query: &str, tags: &[&str], expect: Option<bool>| {
            assert_eq!(matched(query, tags), expect, "{query} {tags:?}");
        };
        check(r#"{"tag": "Web"}"#, &["web"], Some(true));
        check(r#"{"tag": "web"}"#, &["db"], Some(false));
        check(
            r#"{"$or": [{"tag": "a"}, {"tag": "b"}]}"#,
            &["b"],
            Some(true),
        );
        check(
            r#"{"$and": [{"tag": "a"}, {"tag": "b"}]}"#,
            &["b"],
            Some(false),
        );
        check(
            r#"{"$and": [{"tag": "a"}, {"tag": "b"}]}"#,
            &["a", "b"],
            Some(true),
        );
        check(r#"{"$not": {"tag": "a"}}"#, &["b"], Some(true));
        check(r#"{"$not": {"tag": "a"}}"#, &["a"], Some(false));
        check(r#"{"$in": ["a", "b"]}"#, &["b"], Some(true));
        check(r#"{"tag": {"$in": ["a", "b"]}}"#, &["c"], Some(false));
        check(r#"{"$advanced": "web"}"#, &["web"], Some(true));
        check(r#"{"tag": "a", "$not": {"tag": "b"}}"#, &["a"], Some(true));
        check(
            r#"{"tag": "a", "$not": {"tag": "b"}}"#,
            &["a", "b"],
            Some(false),
        );
        check("{}", &[], Some(true));
        check(
            r#"{"$or": [{"$or": [{"tag": "a"}, {"tag": "b"}]}]}"#,
            &["b"],
            Some(true),
        );
    }

    #[test]
    fn bad_queries_make_no_preset() {
        let check = |query: &str| assert_eq!(matched(query, &[]), None, "{query}");
        check(r#"{"$nor": []}"#);
        check(r#"{"$or": []}"#);
        check(r#"{"$or": [{}]}"#);
        check(r#"{"$not": {}}"#);
        check(r#"{"$or": {"tag": "a"}}"#);
        check(r#"{"$in": [1]}"#);
        check(r#"{"tag": ""}"#);
        check(r#"{"tag": 5}"#);
        check(r#"{"tag": {"$eq": "a"}}"#);
        check(r#"{"$advanced": "(("}"#);
        check(r#""web""#);
        check("null");
        check(&format!(
            "{}{{}}{}",
            r#"{"$not":"#.repeat(40),
            "}".repeat(40)
        ));
    }

    #[test]
    fn one_bad_preset_leaves_the_others() {
        let text = r#"{"version": "1", "presets": {
            "bad": {"tagQuery": {"$nor": []}},
            "none": {},
            "good": {"name": "good", "strategy": "or", "tagQuery": {"tag": "a"}, "created": "x"},
        }, "extra": 1}"#;
        let mut problems = Vec::new();
        let presets = read("presets.json", text, &mut problems).unwrap();
        assert_eq!(presets.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        let broken = read("presets.json", "{", &mut problems);
        assert!(broken.is_none());
        assert!(!problems[3].is_error());
    }
}
