//! Headers of the stateless era on HTTP: they repeat what the body says, so that proxies may
//! decide without reading it. Whoever is checked by a header must not be served by another body,
//! so each difference is refused. Values only; nothing here answers.

use std::borrow::Cow;

use crate::http::Head;
use crate::mcp::error::{HEADER_MISMATCH, RpcError};
use crate::model::mirror::Mirror;
use crate::wire::base64::decode_standard;
use crate::wire::json::string_value;

pub const VERSION: &str = "MCP-Protocol-Version";
const METHOD: &str = "Mcp-Method";
const NAME: &str = "Mcp-Name";
/// Around a value that is not plain ASCII.
const SENTINEL: (&str, &str) = ("=?base64?", "?=");

/// The revision that the headers name. It is there on each request that has a body of this era.
pub fn version<'h>(head: &Head<'h>) -> Result<&'h str, RpcError> {
    one(head, VERSION)?.ok_or_else(|| missing(VERSION))
}

/// Compares what the headers name with what the body says. `named`: the name, URI or task that
/// the method is about, if it is about one.
pub fn agree(head: &Head<'_>, method: &str, named: Option<&str>) -> Result<(), RpcError> {
    let said = one(head, METHOD)?.ok_or_else(|| missing(METHOD))?;
    if said != method {
        return Err(differs(METHOD));
    }
    let Some(named) = named else {
        return Ok(());
    };
    let said = one(head, NAME)?.ok_or_else(|| missing(NAME))?;
    match decoded(NAME, said)? {
        said if said == named => Ok(()),
        _ => Err(differs(NAME)),
    }
}

/// The same for the arguments of a tool that have a header. `arguments` is raw JSON.
pub fn mirrored(
    head: &Head<'_>,
    mirrors: &[Mirror],
    arguments: Option<&str>,
) -> Result<(), RpcError> {
    for mirror in mirrors {
        let header = mirror.header.as_str();
        match (mirror.value(arguments), one(head, header)?) {
            (None, None) => {}
            (Some(_), None) => return Err(missing(header)),
            (None, Some(_)) => return Err(differs(header)),
            (Some(value), Some(said)) => {
                if !is_same(value, &decoded(header, said)?) {
                    return Err(differs(header));
                }
            }
        }
    }
    Ok(())
}

/// A header that decides something must not have two values: a proxy may read the other one.
fn one<'h>(head: &Head<'h>, name: &str) -> Result<Option<&'h str>, RpcError> {
    let mut values = head.header_values(name);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(mismatch(format!("header {name} is given twice"))),
    }
}

fn decoded<'h>(name: &str, value: &'h str) -> Result<Cow<'h, str>, RpcError> {
    let inner = value
        .strip_prefix(SENTINEL.0)
        .and_then(|rest| rest.strip_suffix(SENTINEL.1));
    let Some(inner) = inner else {
        return Ok(Cow::Borrowed(value));
    };
    let text = decode_standard(inner.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Cow::Owned)
        .ok_or_else(|| mismatch(format!("header {name} is not valid Base64 of UTF-8")))
}

/// Whether a header says what a raw JSON value does. Only strings, numbers and booleans can be
/// said in a header.
fn is_same(value: &str, said: &str) -> bool {
    match value.as_bytes().first() {
        Some(b'"') => string_value(value).is_some_and(|text| text == said),
        Some(b'{' | b'[') | None => false,
        _ if value == said => true,
        _ => integer(value).is_some_and(|number| integer(said) == Some(number)),
    }
}

/// `42`, and also `42.0`.
fn integer(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_whole = fraction.bytes().all(|byte| byte == b'0') && !fraction.is_empty();
    (are_digits(digits) && is_whole).then(|| whole.parse().ok())?
}

fn missing(name: &str) -> RpcError {
    mismatch(format!("header {name} is missing"))
}

pub fn differs(name: &str) -> RpcError {
    mismatch(format!("header {name} says something else than the body"))
}

fn mismatch(message: String) -> RpcError {
    RpcError::new(HEADER_MISMATCH, message)
}

#[cfg(test)]
mod tests {
    use super::{agree, decoded, is_same, mirrored, version};
    use crate::http::{Head, Parsed, no_fields};
    use crate::model::mirror::Mirror;

    fn with_head<T>(headers: &[(&str, &str)], look: impl FnOnce(&Head<'_>) -> T) -> T {
        let mut text = "POST /mcp HTTP/1.1\r\nHost: localhost\r\n".to_owned();
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let mut fields = no_fields();
        match Head::parse(text.as_bytes(), &mut fields) {
            Parsed::Complete(head) => look(&head),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn headers_repeat_the_body_or_are_refused() {
        let cases = [
            (
                vec![("mcp-method", "tools/call"), ("MCP-NAME", " add ")],
                true,
            ),
            (
                vec![
                    ("Mcp-Method", "tools/call"),
                    ("Mcp-Name", "=?base64?YWRk?="),
                ],
                true,
            ),
            (
                vec![("Mcp-Method", "tools/call"), ("Mcp-Name", "=?base64?YWR?=")],
                false,
            ),
            (
                vec![
                    ("Mcp-Method", "tools/call"),
                    ("Mcp-Name", "=?base64?YW!k?="),
                ],
                false,
            ),
            (
                vec![("Mcp-Method", "tools/call"), ("Mcp-Name", "Add")],
                false,
            ),
            (vec![("Mcp-Method", "tools/call")], false),
            (
                vec![("Mcp-Method", "Tools/call"), ("Mcp-Name", "add")],
                false,
            ),
            (vec![("Mcp-Name", "add")], false),
            (
                vec![
                    ("Mcp-Method", "tools/call"),
                    ("Mcp-Name", "add"),
                    ("mcp-name", "add"),
                ],
                false,
            ),
        ];
        for (headers, good) in cases {
            let outcome = with_head(&headers, |head| agree(head, "tools/call", Some("add")));
            assert_eq!(outcome.is_ok(), good, "{headers:?}");
        }
        let list = [("Mcp-Method", "tools/list")];
        assert!(with_head(&list, |head| agree(head, "tools/list", None)).is_ok());
        let code = with_head(&list, |head| version(head).err().map(|error| error.code));
        assert_eq!(code, Some(-32020));
    }

    #[test]
    fn only_the_whole_sentinel_is_an_encoding() {
        for text in [
            "=?base64?SGVsbG8=",
            "SGVsbG8=?=",
            "Hello",
            "=?BASE64?SGVsbG8=?=",
        ] {
            assert_eq!(decoded("N", text).as_deref(), Ok(text));
        }
        assert_eq!(decoded("N", "=?base64?SGVsbG8=?=").as_deref(), Ok("Hello"));
        for broken in [
            "=?base64?SGVsbG8?=",
            "=?base64?SGV%bG8=?=",
            "=?base64?/w==?=",
        ] {
            assert_eq!(
                decoded("N", broken).map_err(|e| e.code),
                Err(-32020),
                "{broken}"
            );
        }
    }

    #[test]
    fn values_are_compared_by_their_kind() {
        for (value, said, same) in [
            ("\"a\\u0062\"", "ab", true),
            ("\"42\"", "42", true),
            ("\"42\"", "42.0", false),
            ("42", "42", true),
            ("42", "42.0", true),
            ("42.0", "42", true),
            ("-7", "-7.00", true),
            ("42", "43", false),
            ("42", "+42", false),
            ("42", "", false),
            ("1.5", "1.5", true),
            ("true", "true", true),
            ("true", "True", false),
            ("[1]", "[1]", false),
        ] {
            assert_eq!(is_same(value, said), same, "{value} {said}");
        }
    }

    #[test]
    fn an_argument_and_its_header_come_together() {
        let mirrors = [Mirror {
            path: vec!["region".to_owned()],
            header: "Mcp-Param-Region".to_owned(),
        }];
        let check = |headers: &[(&str, &str)], arguments: &str| {
            with_head(headers, |head| {
                mirrored(head, &mirrors, Some(arguments)).is_ok()
            })
        };
        let eu = [("mcp-param-region", "eu")];
        assert!(check(&eu, r#"{"region":"eu"}"#));
        assert!(check(&[], r#"{"region":null}"#) && check(&[], "{}"));
        assert!(!check(&[], r#"{"region":"eu"}"#));
        assert!(!check(&eu, "{}") && !check(&eu, r#"{"region":"us"}"#));
        assert!(check(&[("Mcp-Param-Other", "=?base64?!?=")], "{}"));
    }
}
