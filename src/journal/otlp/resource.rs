//! Who the telemetry is from. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are what every
//! program is told so; they add to what the gateway knows itself, and replace it.

use crate::base::sys;
use crate::journal::otlp::json::{Attribute, Resource};
use crate::mcp::trace::Hex;

const NAME: &str = "service.name";

/// Of this process. `variable` reads the environment.
pub fn own(variable: impl Fn(&str) -> Option<String>) -> Resource {
    let mut instance = [0; 16];
    sys::random_bytes(&mut instance);
    let mut resource = Resource {
        attributes: vec![
            Attribute::text(NAME, "onemcp"),
            Attribute::text("service.version", env!("CARGO_PKG_VERSION")),
            Attribute::text("service.instance.id", Hex(&instance).to_string()),
            Attribute::text("host.name", sys::host_name()),
            Attribute::text("process.pid", std::process::id().to_string()),
        ],
    };
    let listed = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    for (key, value) in listed.split(',').filter_map(|item| item.split_once('=')) {
        let value = decoded(value.trim());
        resource.set(key.trim(), value);
    }
    if let Some(name) = variable("OTEL_SERVICE_NAME").filter(|name| !name.is_empty()) {
        resource.set(NAME, name);
    }
    resource
}

impl Resource {
    fn set(&mut self, key: &str, value: String) {
        self.attributes.retain(|attribute| attribute.key != key);
        if !key.is_empty() {
            self.attributes.push(Attribute::text(key, value));
        }
    }
}

/// `%20` and the like; what is no such thing stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn what_the_environment_says_counts() {
        let told = |name: &str, list: &str| {
            let (name, list) = (name.to_owned(), list.to_owned());
            let resource = own(move |variable| match variable {
                "OTEL_SERVICE_NAME" => Some(name.clone()),
                "OTEL_RESOURCE_ATTRIBUTES" => Some(list.clone()),
                _ => None,
            });
            let all = serde_json::to_value(resource.attributes).expect("JSON");
            let all = all.as_array().expect("a list").clone();
            move |key: &str| {
                let found = all.iter().filter(|one| one["key"] == key);
                let found: Vec<String> = found
                    .map(|one| {
                        one["value"]["stringValue"]
                            .as_str()
                            .expect("text")
                            .to_owned()
                    })
                    .collect();
                found.join("|")
            }
        };
        let plain = told("", "");
        assert_eq!(plain("service.name"), "onemcp");
        assert_eq!(plain("service.instance.id").len(), 32);
        let list = "service.name=x, deployment.environment=a%20b%2,=y,z,service.version=1=2";
        let listed = told("", list);
        assert_eq!(listed("service.name"), "x");
        assert_eq!(listed("deployment.environment"), "a b%2");
        assert_eq!(listed("service.version"), "1=2");
        assert_eq!(told("n", list)("service.name"), "n");
    }
}
