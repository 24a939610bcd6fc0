//! What a stateless server needs to know before it can answer: the `input_required` result
//! (basic/patterns/mrtr of 2026-07-28).

use crate::base::limits;
use crate::wire::json::string_value;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRequired {
    pub requests: Vec<InputRequest>,
    /// Raw JSON of a string: it goes back exactly as it came.
    pub state: Option<String>,
}

/// One question of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRequest {
    /// The name under which its answer is expected.
    pub key: String,
    pub method: String,
    /// Raw JSON of an object.
    pub params: Option<String>,
}

impl InputRequired {
    /// The error says what is wrong with it.
    pub fn parse(result: &Members<'_>) -> Result<InputRequired, String> {
        let state = result.get("requestState");
        if state.is_some_and(|raw| string_value(raw).is_none()) {
            return Err("\"requestState\" is not a string".to_owned());
        }
        let requests = match result.get("inputRequests") {
            Some(raw) => requests(raw)?,
            None => Vec::new(),
        };
        if requests.is_empty() && state.is_none() {
            return Err("input_required without inputRequests and requestState".to_owned());
        }
        let state = state.map(str::to_owned);
        Ok(InputRequired { requests, state })
    }
}

fn requests(raw: &str) -> Result<Vec<InputRequest>, String> {
    let members = Members::parse(raw, 2, FROM_SERVER)
        .map_err(|error| format!("\"inputRequests\": {error}"))?;
    if members.iter().count() > limits::INPUT_REQUESTS {
        return Err(format!(
            "more than {} \"inputRequests\"",
            limits::INPUT_REQUESTS
        ));
    }
    members
        .iter()
        .map(|(key, raw)| {
            let bad = |what: &str| format!("\"inputRequests\": {key:?}: {what}");
            let request =
                Members::parse(raw, 3, FROM_SERVER).map_err(|error| bad(&error.to_string()))?;
            let method = request
                .string("method")
                .ok_or_else(|| bad("\"method\" must be a string"))?;
            let params = match request.get("params") {
                None | Some("null") => None,
                Some(raw) if raw.starts_with('{') => Some(raw.to_owned()),
                Some(_) => return Err(bad("\"params\" must be an object")),
            };
            Ok(InputRequest {
                key: key.to_owned(),
                method: method.into_owned(),
                params,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::InputRequired;
    use crate::wire::members::Members;
    use crate::wire::message::FROM_SERVER;

    fn parse(text: &str) -> Result<InputRequired, String> {
        InputRequired::parse(&Members::parse(text, 1, FROM_SERVER).expect("an object"))
    }

    #[test]
    fn reads_questions_and_state() {
        let input = parse(
            r#"{"resultType":"input_required","requestState":"\u0061\/","inputRequests":
            {"k\"1":{"params":{"x":1.10},"method":"elicitation/create"},
             "r":{"method":"roots/list"}}}"#,
        )
        .expect("readable");
        assert_eq!(input.state.as_deref(), Some(r#""\u0061\/""#));
        let read: Vec<_> = input
            .requests
            .iter()
            .map(|r| (r.key.as_str(), r.method.as_str(), r.params.as_deref()))
            .collect();
        assert_eq!(
            read,
            [
                ("k\"1", "elicitation/create", Some(r#"{"x":1.10}"#)),
                ("r", "roots/list", None)
            ]
        );
        let state = parse(r#"{"requestState":""}"#).expect("readable");
        assert!(state.requests.is_empty() && state.state.is_some());
    }

    #[test]
    fn refuses_what_cannot_be_answered() {
        for text in [
            "{}",
            r#"{"inputRequests":{}}"#,
            r#"{"requestState":7}"#,
            r#"{"inputRequests":[]}"#,
            r#"{"inputRequests":{"a":1}}"#,
            r#"{"inputRequests":{"a":{}}}"#,
            r#"{"inputRequests":{"a":{"method":"roots/list","params":[]}}}"#,
            r#"{"inputRequests":{"a":{"method":"x"},"\u0061":{"method":"x"}}}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
