//! A Service of Kubernetes as a finding. Pure.
//!
//! A server is asked for by the name that the cluster gives the Service, so that TLS and the
//! server itself know it; an ExternalName, which would lead anywhere, is none.

use serde_json::Value;

use crate::config::discovery::kubernetes::is_label;
use crate::gateway::discovery::Found;
use crate::gateway::discovery::hints::{Hints, Record};

/// What its API says of an object in `metadata`.
fn said<'o>(object: &'o Value, key: &str) -> &'o str {
    object["metadata"][key].as_str().unwrap_or_default()
}

/// Of the object in its collection; none for what is no object of Kubernetes.
pub fn key(object: &Value) -> Option<String> {
    let (namespace, name) = (said(object, "namespace"), said(object, "name"));
    let fits = is_label(namespace) && is_label(name);
    fits.then(|| format!("{namespace}/{name}"))
}

/// `is_alone`: of one namespace, so that names need not say it.
pub fn record(object: &Value, is_alone: bool, domain: Option<&str>) -> Option<Record> {
    let key = key(object)?;
    let outcome = found(object, is_alone, domain, &key);
    Some(Record {
        made: said(object, "creationTimestamp").to_owned(),
        outcome: outcome.map_err(|why| format!("service {key}: {why}")),
        key,
    })
}

fn found(object: &Value, is_alone: bool, domain: Option<&str>, key: &str) -> Result<Found, String> {
    let hints = Hints {
        texts: &object["metadata"]["annotations"],
        prefix: "onemcp.io/",
    };
    if object["spec"]["type"] == "ExternalName" {
        return Err("an ExternalName may lead anywhere, and is never taken".into());
    }
    let port = port(&object["spec"]["ports"], &hints)?;
    let number = port["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    let number = number.filter(|port| *port > 0).ok_or("its port is none")?;
    let (namespace, name) = (said(object, "namespace"), said(object, "name"));
    let says_https = |key: &str| {
        port[key]
            .as_str()
            .is_some_and(|text| text.starts_with("https"))
    };
    let usual = number == 443 || says_https("name") || says_https("appProtocol");
    let mut host = format!("{name}.{namespace}.svc");
    if let Some(domain) = domain {
        host = format!("{host}.{domain}");
    }
    let own = hints.get("name").unwrap_or(name);
    Ok(Found {
        // No namespace has a dot in it: nobody in another one can take this name.
        name: match is_alone {
            true => own.to_owned(),
            false => format!("{namespace}.{own}"),
        },
        entry: hints.entry(&host, number, hints.is_https(usual)?)?,
        place: format!("service {key}"),
    })
}

/// The one that is named, or `mcp`, or the only one.
fn port<'o>(ports: &'o Value, hints: &Hints<'_>) -> Result<&'o Value, String> {
    let is_tcp = |port: &&Value| port["protocol"].as_str().is_none_or(|word| word == "TCP");
    let ports: Vec<&Value> = ports
        .as_array()
        .into_iter()
        .flatten()
        .filter(is_tcp)
        .collect();
    if let Some(wanted) = hints.get("port") {
        let number = wanted.parse::<u64>().ok();
        let is_it = |port: &&&Value| match number {
            Some(_) => port["port"].as_u64() == number,
            None => port["name"].as_str() == Some(wanted),
        };
        let port = ports.iter().find(is_it).copied();
        return port.ok_or_else(|| hints.bad("port", "names no TCP port of it"));
    }
    match ports.as_slice() {
        [only] => Ok(only),
        all => {
            let mcp = all.iter().find(|port| port["name"] == "mcp").copied();
            mcp.ok_or_else(|| hints.bad("port", "must say which port it is"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::record;

    fn service(annotations: Value, spec: Value) -> Value {
        json!({"metadata": {"namespace": "ns", "name": "web", "annotations": annotations},
            "spec": spec})
    }

    /// `name url`, or why not.
    fn told(object: &Value) -> String {
        let Some(record) = record(object, true, None) else {
            return "none".into();
        };
        match record.outcome {
            Ok(found) => format!("{} {}", found.name, found.entry["url"].as_str().unwrap()),
            Err(why) => why,
        }
    }

    #[test]
    fn a_service_says_where_its_server_is() {
        let one = json!({"ports": [{"port": 80}]});
        let two = json!({"ports": [{"port": 80, "name": "web"}, {"port": 8080, "name": "mcp"}]});
        let udp = json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 443}]});
        let out = json!({"type": "ExternalName", "externalName": "evil", "ports": [{"port": 1}]});
        let bare = json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]});
        for (annotations, spec, expect) in [
            (Value::Null, &one, "web http://web.ns.svc:80/mcp"),
            (Value::Null, &two, "web http://web.ns.svc:8080/mcp"),
            (Value::Null, &udp, "web https://web.ns.svc:443/mcp"),
            (
                json!({"onemcp.io/scheme": "http"}),
                &udp,
                "web http://web.ns.svc:443/mcp",
            ),
            (
                json!({"onemcp.io/port": "web"}),
                &two,
                "web http://web.ns.svc:80/mcp",
            ),
            (
                json!({"onemcp.io/port": "80"}),
                &two,
                "web http://web.ns.svc:80/mcp",
            ),
            (
                json!({"onemcp.io/name": "best one", "onemcp.io/path": "/a"}),
                &one,
                "best one http://web.ns.svc:80/a",
            ),
            (
                json!({"onemcp.io/port": "53"}),
                &udp,
                "service ns/web: onemcp.io/port names no TCP port of it",
            ),
            (
                Value::Null,
                &out,
                "service ns/web: an ExternalName may lead anywhere, and is never taken",
            ),
            (
                Value::Null,
                &bare,
                "service ns/web: onemcp.io/port must say which port it is",
            ),
            (
                json!({"onemcp.io/scheme": "gopher"}),
                &one,
                "service ns/web: onemcp.io/scheme is neither http nor https",
            ),
        ] {
            assert_eq!(told(&service(annotations, spec.clone())), expect);
        }
        let of_all = |annotations| {
            let object = service(annotations, one.clone());
            let record = record(&object, false, Some("cluster.local"));
            record.unwrap().outcome.unwrap()
        };
        let found = of_all(json!({"onemcp.io/name": "other.web"}));
        assert_eq!(found.name, "ns.other.web");
        let found = of_all(Value::Null);
        assert_eq!(found.name, "ns.web");
        assert_eq!(found.entry["url"], "http://web.ns.svc.cluster.local:80/mcp");
    }

    #[test]
    fn what_is_no_service_is_none_and_hurts_nobody() {
        for name in ["", "a.b", "a/b", "A", "-a", "a:1", "a@b", "\u{e9}"] {
            let mut object = service(Value::Null, json!({"ports": [{"port": 80}]}));
            object["metadata"]["name"] = name.into();
            assert_eq!(told(&object), "none", "{name}");
        }
        for odd in [json!(null), json!([]), json!({"metadata": []}), json!("a")] {
            assert_eq!(told(&odd), "none");
        }
        for ports in [
            json!(null),
            json!({}),
            json!([]),
            json!([1]),
            json!([{"port": 0}]),
            json!([{"port": 65536}]),
            json!([{"port": -1}]),
            json!([{"port": "80"}]),
        ] {
            let object = service(json!("odd"), json!({"ports": ports}));
            assert!(told(&object).starts_with("service ns/web: "), "{object}");
        }
    }
}
