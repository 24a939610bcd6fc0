//! Tasks in messages: where their ids stand, in both forms: that of 2025-11-25, and the extension
//! of 2026-07-28.

use crate::mcp::meta::{RELATED_TASK, TASKS_EXTENSION};
use crate::wire::json::{elements, string_value};
use crate::wire::members::Members;
use crate::wire::message::{FROM_CLIENT, FROM_SERVER};

/// A way from an object down to an id.
#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    /// Every member of an object, or every element of an array.
    Each,
}

type Path = &'static [Step];

const ID: Path = &[Step::Key("taskId")];
const RELATED: Path = &[
    Step::Key("_meta"),
    Step::Key(RELATED_TASK),
    Step::Key("taskId"),
];

/// In the outcome that the state of a task holds, and in the questions that it waits for.
const IN_OUTCOME: Path = &[
    Step::Key("result"),
    Step::Key("_meta"),
    Step::Key(RELATED_TASK),
    Step::Key("taskId"),
];
const IN_QUESTIONS: Path = &[
    Step::Key("inputRequests"),
    Step::Each,
    Step::Key("params"),
    Step::Key("_meta"),
    Step::Key(RELATED_TASK),
    Step::Key("taskId"),
];

/// In a result, in either form. What is named the same in the answer of a tool stands deeper.
const IN_RESULT: &[Path] = &[
    ID,
    RELATED,
    &[Step::Key("task"), Step::Key("taskId")],
    &[Step::Key("tasks"), Step::Each, Step::Key("taskId")],
    IN_OUTCOME,
    IN_QUESTIONS,
];
/// In what a call is answered with that may have become a task of 2025-11-25.
const IN_CREATED: &[Path] = &[RELATED, &[Step::Key("task"), Step::Key("taskId")]];
/// In the parameters of a request or notification that is about a task.
const IN_PARAMS: &[Path] = &[ID, RELATED, IN_OUTCOME, IN_QUESTIONS];
/// In anything else, which is at most for a task.
const IN_META: &[Path] = &[RELATED];

/// What a message is, as far as tasks are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The result of a request that is about tasks, or makes one.
    Result,
    /// The result of a call that may have become one of 2025-11-25.
    Created,
    /// Parameters that are about a task, or one of a list.
    Params,
    /// Another result, or parameters of something else: only its `_meta` may name a task.
    Other,
}

impl Part {
    /// The ids of tasks in an object: their string literals.
    pub fn ids(self, object: &str) -> Vec<&str> {
        let paths = self.paths().iter();
        paths.flat_map(|path| found(object, path)).collect()
    }

    fn paths(self) -> &'static [Path] {
        match self {
            Part::Result => IN_RESULT,
            Part::Created => IN_CREATED,
            Part::Params => IN_PARAMS,
            Part::Other => IN_META,
        }
    }
}

/// The string literals at the end of `path`. What is not shaped so has none.
fn found<'t>(value: &'t str, path: &[Step]) -> Vec<&'t str> {
    let Some((step, rest)) = path.split_first() else {
        return Vec::from_iter(value.starts_with('"').then_some(value));
    };
    match step {
        Step::Each if value.starts_with('[') => {
            let inner = elements(value, FROM_SERVER).unwrap_or_default();
            inner.into_iter().flat_map(|raw| found(raw, rest)).collect()
        }
        Step::Each => {
            let members = Members::parse(value, 1, FROM_SERVER).ok();
            let inner: Vec<&str> = members.iter().flat_map(|m| m.iter()).map(|m| m.1).collect();
            inner.into_iter().flat_map(|raw| found(raw, rest)).collect()
        }
        Step::Key(key) => {
            let members = Members::parse(value, 1, FROM_SERVER).ok();
            let inner = members.and_then(|members| members.get(key));
            inner.map_or_else(Vec::new, |raw| found(raw, rest))
        }
    }
}

/// The task that parameters or a result are for, by its `_meta`.
pub fn related(object: &str) -> Option<String> {
    // Almost nothing is, and looking for the word is quick.
    if !object.contains("related-task") {
        return None;
    }
    let id = found(object, RELATED).pop()?;
    string_value(id).map(|id| id.into_owned())
}

/// The task that a result has made, in the form of 2025-11-25.
pub fn created(result: &str) -> Option<String> {
    let id = found(result, &[Step::Key("task"), Step::Key("taskId")]).pop()?;
    string_value(id).map(|id| id.into_owned())
}

/// Whether capabilities, a client's or a server's, have the extension in them.
pub fn has_extension(capabilities: &str) -> bool {
    let extension = object(capabilities, "extensions");
    extension.is_some_and(|raw| object(raw, TASKS_EXTENSION).is_some())
}

/// Whether a server of 2025-11-25 makes tasks of calls.
pub fn has_calls(capabilities: &str) -> bool {
    let requests = object(capabilities, "tasks").and_then(|raw| object(raw, "requests"));
    let tools = requests.and_then(|raw| object(raw, "tools"));
    tools.is_some_and(|raw| object(raw, "call").is_some())
}

/// Whether such a server has `tasks/list` or `tasks/cancel`.
pub fn has(capabilities: &str, part: &str) -> bool {
    let tasks = object(capabilities, "tasks");
    tasks.is_some_and(|raw| object(raw, part).is_some())
}

fn object<'t>(raw: &'t str, key: &str) -> Option<&'t str> {
    let members = Members::parse(raw, 1, FROM_CLIENT).ok()?;
    members.get(key).filter(|value| value.starts_with('{'))
}

#[cfg(test)]
mod tests {
    use super::{Part, created, has, has_calls, has_extension, related};

    #[test]
    fn finds_ids_where_they_stand_and_nowhere_else() {
        let result = r#"{"taskId":"a","task":{"taskId":"b"},"content":[{"taskId":"x"}],
            "tasks":[{"taskId":"c"},{},7],"result":{"taskId":"x"}}"#;
        let mut found = Part::Result.ids(result);
        found.sort_unstable();
        assert_eq!(found, ["\"a\"", "\"b\"", "\"c\""]);
        assert!(Part::Other.ids(result).is_empty());
        assert_eq!(Part::Created.ids(result), ["\"b\""]);
        assert_eq!(Part::Params.ids(result), ["\"a\""]);
        assert!(
            Part::Result
                .ids(r#"{"taskId":7,"task":[],"tasks":{}}"#)
                .is_empty()
        );
    }

    #[test]
    fn finds_the_task_that_a_message_is_about() {
        let meta = r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"a"}}}"#;
        assert_eq!(related(meta).as_deref(), Some("a"));
        assert_eq!(related(r#"{"related-task":{"taskId":"a"}}"#), None);
        let result = r#"{"task":{"taskId":"a"}}"#;
        assert_eq!(created(result).as_deref(), Some("a"));
        assert_eq!(created(r#"{"taskId":"a"}"#), None);
    }

    #[test]
    fn knows_who_has_tasks() {
        for (capabilities, is_so) in [
            (
                r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
                true,
            ),
            (
                r#"{"extensions":{"io.modelcontextprotocol/tasks":null}}"#,
                false,
            ),
            (r#"{"extensions":{"x":{}}}"#, false),
            (r#"{"io.modelcontextprotocol/tasks":{}}"#, false),
            ("{}", false),
        ] {
            assert_eq!(has_extension(capabilities), is_so, "{capabilities}");
        }
        let all = r#"{"tasks":{"list":{},"requests":{"tools":{"call":{}}}}}"#;
        assert!(has_calls(all) && has(all, "list") && !has(all, "cancel"));
        assert!(!has_calls(r#"{"tasks":{"requests":{"tools":{}}}}"#));
    }
}
