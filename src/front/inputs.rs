//! The answers of a client to what a stateless server wants to know for one call. They come in on
//! other connections than the one that waits for them. Deliberately absent: the waiting itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::mcp::method::Ask;
use crate::wire::json::elements;
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_CLIENT, Kind};

/// What the client answered to the questions of one round. Other connections of the client put
/// it here, and wake the one that waits.
#[derive(Default)]
pub struct Inputs {
    given: Mutex<Vec<(u64, Input)>>,
    is_ready: AtomicBool,
    wanted: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Raw JSON of an object.
    Result(String),
    /// Why there is none.
    Refused(String),
}

impl Inputs {
    pub fn new(wanted: usize) -> Inputs {
        Inputs {
            wanted,
            ..Inputs::default()
        }
    }

    /// The client's response to question `id`, as it came.
    pub fn put(&self, id: u64, ask: Ask, response: &str) {
        let input = Input::of(ask, response);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fatal = is_fatal(ask, &input);
        given.push((id, input));
        if given.len() >= self.wanted || is_fatal {
            self.is_ready.store(true, Ordering::Release);
        }
    }

    /// Whether the call can go on, or can only end.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    pub fn of(&self, id: u64) -> Option<Input> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let found = given.iter().find(|(known, _)| *known == id);
        found.map(|(_, input)| input.clone())
    }
}

/// Only a form can be left unanswered: what a server is given instead is a result, and those of
/// the other kinds cannot say no.
fn is_fatal(ask: Ask, input: &Input) -> bool {
    ask != Ask::Elicitation && matches!(input, Input::Refused(_))
}

impl Input {
    fn of(ask: Ask, response: &str) -> Input {
        match Envelope::parse(response, FROM_CLIENT).map(|envelope| envelope.kind) {
            Ok(Kind::Result { result, .. }) if fits(ask, result) => {
                Input::Result(result.to_owned())
            }
            Ok(Kind::Error { error, .. }) => {
                let members = Members::parse(error, 1, FROM_CLIENT).ok();
                let message = members.and_then(|members| members.string("message"));
                Input::Refused(message.map_or_else(String::new, |text| text.into_owned()))
            }
            _ => Input::Refused("its answer is no result of the request".to_owned()),
        }
    }
}

/// Whether `answer` has what the result of `ask` must have.
pub fn fits(ask: Ask, answer: &str) -> bool {
    let Ok(members) = Members::parse(answer, 3, FROM_CLIENT) else {
        return false;
    };
    let is = |key: &str, known: &[&str]| {
        let value = members.string(key);
        value.is_some_and(|value| known.contains(&&*value))
    };
    let content = members.get("content");
    match ask {
        Ask::Elicitation => {
            is("action", &["accept", "decline", "cancel"])
                && content.is_none_or(|raw| raw.starts_with('{'))
        }
        Ask::Sampling => is("role", &["user", "assistant"]) && content.is_some_and(is_content),
        Ask::Roots => {
            let roots = members.get("roots");
            let roots = roots.and_then(|raw| elements(raw, FROM_CLIENT));
            roots.is_some_and(|roots| roots.into_iter().all(is_root))
        }
    }
}

/// One block of content, or several.
fn is_content(raw: &str) -> bool {
    match elements(raw, FROM_CLIENT) {
        Some(blocks) => blocks.iter().all(|block| block.starts_with('{')),
        None => raw.starts_with('{'),
    }
}

fn is_root(raw: &str) -> bool {
    let members = Members::parse(raw, 5, FROM_CLIENT);
    members.is_ok_and(|members| members.string("uri").is_some())
}

#[cfg(test)]
mod tests {
    use super::{Input, Inputs, fits};
    use crate::mcp::method::Ask;

    fn response(rest: &str) -> String {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{rest}}}")
    }

    #[test]
    fn is_ready_when_all_is_answered_or_nothing_can_be() {
        let roots = response("\"result\":{\"roots\":[]}");
        let sampled = response("\"result\":{\"role\":\"user\",\"content\":{}}");
        let error = response("\"error\":{\"code\":-1,\"message\":\"no\"}");
        for (answers, is_ready) in [
            (vec![(Ask::Roots, &roots)], false),
            (vec![(Ask::Roots, &roots), (Ask::Sampling, &sampled)], true),
            (vec![(Ask::Sampling, &roots)], true),
            (vec![(Ask::Elicitation, &error)], false),
            (vec![(Ask::Roots, &error)], true),
        ] {
            let inputs = Inputs::new(2);
            for (id, (ask, text)) in answers.iter().enumerate() {
                inputs.put(id as u64, *ask, text);
            }
            assert_eq!(inputs.is_ready(), is_ready, "{answers:?}");
        }
    }

    #[test]
    fn keeps_answers_as_they_came_and_takes_anything_else_for_a_refusal() {
        let inputs = Inputs::new(9);
        let put = |id, rest: &str| inputs.put(id, Ask::Elicitation, &response(rest));
        put(1, "\"result\":{ \"action\":\"decline\",\"a\":1.10}");
        put(2, "\"result\":7");
        put(3, "\"error\":{\"code\":-1,\"message\":\"n\\u006f\"}");
        put(4, "\"error\":null");
        let kept = "{ \"action\":\"decline\",\"a\":1.10}";
        assert_eq!(inputs.of(1), Some(Input::Result(kept.into())));
        assert_eq!(inputs.of(3), Some(Input::Refused("no".into())));
        for id in [2, 4] {
            assert!(matches!(inputs.of(id), Some(Input::Refused(_))), "{id}");
        }
        assert_eq!(inputs.of(5), None);
    }

    #[test]
    fn knows_the_results_of_each_question() {
        for (ask, answer, is_one) in [
            (
                Ask::Elicitation,
                r#"{"action":"accept","content":{}}"#,
                true,
            ),
            (Ask::Elicitation, r#"{"action":"cancel"}"#, true),
            (Ask::Elicitation, r#"{"action":"perhaps"}"#, false),
            (
                Ask::Elicitation,
                r#"{"action":"accept","content":5}"#,
                false,
            ),
            (
                Ask::Elicitation,
                r#"{"action":"accept","content":[1]}"#,
                false,
            ),
            (
                Ask::Elicitation,
                r#"{"action":"accept","action":"decline"}"#,
                false,
            ),
            (Ask::Sampling, r#"{"role":"user","content":{}}"#, true),
            (
                Ask::Sampling,
                r#"{"role":"assistant","content":[{}]}"#,
                true,
            ),
            (Ask::Sampling, r#"{"role":"system","content":{}}"#, false),
            (Ask::Sampling, r#"{"role":"user","content":"x"}"#, false),
            (Ask::Sampling, r#"{"role":"user","content":["x"]}"#, false),
            (Ask::Sampling, r#"{"role":"user"}"#, false),
            (Ask::Roots, r#"{"roots":[{"uri":"file:///"}]}"#, true),
            (Ask::Roots, r#"{"roots":[{"name":"x"}]}"#, false),
            (Ask::Roots, r#"{"roots":["file:///"]}"#, false),
            (Ask::Roots, r#"{"roots":{}}"#, false),
        ] {
            assert_eq!(fits(ask, answer), is_one, "{answer}");
        }
    }
}
