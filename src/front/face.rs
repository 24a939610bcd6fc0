//! What a client said about itself in `initialize`, as far as the gateway acts on it.

use crate::mcp::error::{INVALID_PARAMS, METHOD_NOT_FOUND, RpcError};
use crate::mcp::method::Ask;
use crate::mcp::revision::Revision;
use crate::wire::members::Members;
use crate::wire::message::FROM_CLIENT;

/// What servers may ask this client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    pub sampling: bool,
    pub sampling_tools: bool,
    pub elicitation_form: bool,
    pub elicitation_url: bool,
    pub roots: bool,
}

/// The parameters of `initialize`. Capabilities and info are raw JSON.
#[derive(Debug, Clone)]
pub struct Initialize {
    pub revision: Revision,
    pub capabilities: String,
    pub info: String,
    pub abilities: Abilities,
}

impl Initialize {
    pub fn parse(params: Option<&str>) -> Result<Initialize, RpcError> {
        let bad = |what: &str| RpcError::new(INVALID_PARAMS, format!("initialize: {what}"));
        let params = params.ok_or_else(|| bad("\"params\" are missing"))?;
        let members =
            Members::parse(params, 1, FROM_CLIENT).map_err(|error| bad(&error.to_string()))?;
        let requested = members
            .string("protocolVersion")
            .ok_or_else(|| bad("\"protocolVersion\" must be a string"))?;
        let object = |key: &str| match members.get(key) {
            None => Ok("{}"),
            Some(raw) if raw.starts_with('{') => Ok(raw),
            Some(_) => Err(bad(&format!("{key:?} must be an object"))),
        };
        let capabilities = object("capabilities")?;
        let info = match object("clientInfo")? {
            "{}" => "{\"name\":\"unknown\",\"version\":\"0\"}",
            info => info,
        };
        Ok(Initialize {
            revision: Revision::negotiate(&requested),
            capabilities: capabilities.to_owned(),
            info: info.to_owned(),
            abilities: Abilities::parse(capabilities),
        })
    }
}

impl Abilities {
    /// A declared capability counts when it is an object. `elicitation: {}` means forms only.
    pub fn parse(capabilities: &str) -> Abilities {
        let declared = |key: &str| -> Option<String> {
            let members = Members::parse(capabilities, 1, FROM_CLIENT).ok()?;
            members
                .get(key)
                .filter(|raw| raw.starts_with('{'))
                .map(str::to_owned)
        };
        let has = |raw: &Option<String>, key: &str| {
            let members = raw
                .as_deref()
                .and_then(|raw| Members::parse(raw, 2, FROM_CLIENT).ok());
            members.is_some_and(|members| members.get(key).is_some())
        };
        let sampling = declared("sampling");
        let elicitation = declared("elicitation");
        let url = has(&elicitation, "url");
        Abilities {
            sampling_tools: has(&sampling, "tools"),
            sampling: sampling.is_some(),
            elicitation_url: url,
            elicitation_form: elicitation.is_some() && (has(&elicitation, "form") || !url),
            roots: declared("roots").is_some(),
        }
    }

    /// The error that a server gets on behalf of a client which cannot answer. `params` is the
    /// question's.
    pub fn refuses(&self, ask: Ask, params: Option<&str>) -> Option<RpcError> {
        let members = params.and_then(|params| Members::parse(params, 1, FROM_CLIENT).ok());
        let has = |key: &str| {
            members
                .as_ref()
                .is_some_and(|members| members.get(key).is_some())
        };
        let missing = |what: &str| {
            let message = format!("the client does not support {what}");
            Some(RpcError::new(METHOD_NOT_FOUND, message))
        };
        match ask {
            Ask::Roots if !self.roots => missing("roots"),
            Ask::Sampling if !self.sampling => missing("sampling"),
            Ask::Sampling if !self.sampling_tools && has("tools") => Some(RpcError::new(
                INVALID_PARAMS,
                "the client does not support tools in sampling",
            )),
            Ask::Elicitation if !self.elicitation_form && !self.elicitation_url => {
                missing("elicitation")
            }
            Ask::Elicitation => {
                let mode = members.as_ref().and_then(|members| members.string("mode"));
                let able = match mode.as_deref() {
                    Some("url") => self.elicitation_url,
                    _ => self.elicitation_form,
                };
                (!able).then(|| {
                    RpcError::new(
                        INVALID_PARAMS,
                        "the client does not support this elicitation mode",
                    )
                })
            }
            Ask::Roots | Ask::Sampling => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Abilities, Initialize};
    use crate::mcp::method::Ask;
    use crate::mcp::revision::Revision;

    #[test]
    fn reads_what_a_client_can_do() {
        let abilities =
            Abilities::parse(r#"{"sampling":{"tools":{}},"elicitation":{},"roots":null}"#);
        let expected = Abilities {
            sampling: true,
            sampling_tools: true,
            elicitation_form: true,
            elicitation_url: false,
            roots: false,
        };
        assert_eq!(abilities, expected);
        let url_only = Abilities::parse(r#"{"elicitation":{"url":{}}}"#);
        assert!(url_only.elicitation_url && !url_only.elicitation_form);
    }

    #[test]
    fn refuses_on_behalf_of_less_able_clients() {
        let none = Abilities::default();
        for ask in [Ask::Sampling, Ask::Elicitation, Ask::Roots] {
            assert_eq!(
                none.refuses(ask, None).map(|error| error.code),
                Some(-32601)
            );
        }
        let forms = Abilities {
            elicitation_form: true,
            sampling: true,
            ..none
        };
        assert_eq!(
            forms.refuses(Ask::Elicitation, Some(r#"{"message":"x"}"#)),
            None
        );
        let url = forms.refuses(Ask::Elicitation, Some(r#"{"mode":"url"}"#));
        assert_eq!(url.map(|error| error.code), Some(-32602));
        let tools = forms.refuses(Ask::Sampling, Some(r#"{"tools":[]}"#));
        assert_eq!(tools.map(|error| error.code), Some(-32602));
    }

    #[test]
    fn parses_initialize() {
        let params = r#"{"protocolVersion":"2025-06-18","capabilities":{}}"#;
        let initialize = Initialize::parse(Some(params)).expect("valid");
        assert_eq!(initialize.revision, Revision::V2025_06_18);
        for bad in [
            None,
            Some("{}"),
            Some(r#"{"protocolVersion":1}"#),
            Some(r#"{"protocolVersion":"2025-06-18","capabilities":[]}"#),
        ] {
            assert!(Initialize::parse(bad).is_err(), "{bad:?}");
        }
    }
}
