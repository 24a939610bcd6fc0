//! The words of OTLP/HTTP in its JSON form (opentelemetry-proto 1.x), as far as they are used
//! here: ids in hexadecimal, 64-bit numbers as text. Data only.

use serde::Serialize;

use crate::journal::span::Value;

#[derive(Debug, Clone, Serialize)]
pub struct Attribute {
    pub key: String,
    pub value: AnyValue,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AnyValue {
    StringValue(String),
    IntValue(String),
}

#[derive(Debug, Clone, Serialize)]
pub struct Resource {
    pub attributes: Vec<Attribute>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Scope {
    pub name: &'static str,
    pub version: &'static str,
}

/// Who says all this.
pub const SCOPE: Scope = Scope {
    name: "onemcp",
    version: env!("CARGO_PKG_VERSION"),
};

impl Attribute {
    pub fn new(key: &str, value: &Value) -> Attribute {
        let value = match value {
            Value::Text(text) => AnyValue::StringValue(text.clone()),
            Value::Number(number) => AnyValue::IntValue(number.to_string()),
        };
        Attribute {
            key: key.to_owned(),
            value,
        }
    }

    pub fn text(key: &str, text: impl Into<String>) -> Attribute {
        Attribute {
            key: key.to_owned(),
            value: AnyValue::StringValue(text.into()),
        }
    }
}
