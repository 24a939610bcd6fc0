//! A container of Docker or Podman as a finding. Pure.
//!
//! The address is what the engine says, never what a label says. A container in the network of
//! the host has no address of its own, and is none.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::base::fields::text;
use crate::config::discovery::docker::Spec;
use crate::gateway::discovery::Found;
use crate::gateway::discovery::hints::{Hints, Record};

/// `None` when it does not bear the label, or does not run.
pub fn record(object: &Value, spec: &Spec) -> Option<Record> {
    let (key, value) = match spec.label.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (spec.label.as_str(), None),
    };
    let label = object["Labels"][key].as_str()?;
    let runs = object["State"]
        .as_str()
        .is_none_or(|word| word == "running");
    if value.is_some_and(|value| value != label) || !runs {
        return None;
    }
    let id = text(object, "Id")?;
    let name = object["Names"][0].as_str().unwrap_or_default();
    let name = name.trim_start_matches('/');
    let outcome = found(object, spec, name);
    Some(Record {
        made: format!("{:020}", object["Created"].as_u64().unwrap_or(u64::MAX)),
        key: id,
        outcome: outcome.map_err(|why| format!("container {name:?}: {why}")),
    })
}

fn found(object: &Value, spec: &Spec, name: &str) -> Result<Found, String> {
    let hints = Hints {
        texts: &object["Labels"],
        prefix: "onemcp.",
    };
    let port = port(&object["Ports"], &hints)?;
    let (address, reached) = match spec.is_published {
        true => published(&object["Ports"], port)?,
        false => (address(object, spec, &hints)?, port),
    };
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let is_https = hints.is_https(port == 443)?;
    Ok(Found {
        name: hints.get("name").unwrap_or(name).to_owned(),
        entry: hints.entry(&host, reached, is_https)?,
        place: format!("container {name:?}"),
    })
}

fn is_tcp(port: &&Value) -> bool {
    port["Type"].as_str().is_none_or(|word| word == "tcp")
}

fn number(port: &Value, key: &str) -> Option<u16> {
    let number = u16::try_from(port[key].as_u64()?).ok();
    number.filter(|port| *port > 0)
}

/// Inside the container: the one that a label names, or the only one.
fn port(ports: &Value, hints: &Hints<'_>) -> Result<u16, String> {
    if let Some(text) = hints.get("port") {
        let port = text.parse().ok().filter(|port| *port > 0);
        return port.ok_or_else(|| hints.bad("port", "is no port"));
    }
    let ports = ports.as_array().into_iter().flatten().filter(is_tcp);
    let mut all: Vec<u16> = ports
        .filter_map(|port| number(port, "PrivatePort"))
        .collect();
    // It stands there for each address at which it is published.
    all.dedup();
    match all.as_slice() {
        [only] => Ok(*only),
        _ => Err(hints.bad("port", "must say which port it is")),
    }
}

/// Where the engine publishes a port on this host.
fn published(ports: &Value, port: u16) -> Result<(IpAddr, u16), String> {
    let ports = ports.as_array().into_iter().flatten().filter(is_tcp);
    for one in ports.filter(|one| number(one, "PrivatePort") == Some(port)) {
        let Some(reached) = number(one, "PublicPort") else {
            continue;
        };
        let address = one["IP"].as_str().unwrap_or_default().parse().ok();
        let address = address.filter(|address: &IpAddr| !address.is_unspecified());
        let here = IpAddr::from([127, 0, 0, 1]);
        return Ok((address.unwrap_or(here), reached));
    }
    Err(format!("its port {port} is not published on this host"))
}

/// In one of the networks that are allowed.
fn address(object: &Value, spec: &Spec, hints: &Hints<'_>) -> Result<IpAddr, String> {
    let none = Map::new();
    let networks = object["NetworkSettings"]["Networks"].as_object();
    let networks = networks.unwrap_or(&none);
    let mut names: Vec<&str> = match spec.networks.as_slice() {
        [] => networks.keys().map(String::as_str).collect(),
        allowed => allowed.iter().map(String::as_str).collect(),
    };
    if let Some(wanted) = hints.get("network") {
        names.retain(|name| *name == wanted);
    }
    let address = |name: &str| {
        let network = networks.get(name)?;
        let text = |key: &str| network[key].as_str()?.parse::<IpAddr>().ok();
        text("IPAddress").or_else(|| text("GlobalIPv6Address"))
    };
    let found = names.iter().find_map(|name| address(name));
    found.ok_or_else(|| "it has no address in a network that is allowed".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::record;
    use crate::config::discovery::docker::Spec;

    fn spec(networks: &[&str], is_published: bool) -> Spec {
        Spec {
            socket: "/s".into(),
            label: "onemcp.enable=true".into(),
            networks: networks.iter().map(ToString::to_string).collect(),
            is_published,
        }
    }

    /// As Docker 27 lists it.
    fn container() -> Value {
        json!({
            "Id": "8dfafdbc3a40", "Names": ["/web"], "Created": 1367854155, "State": "running",
            "Labels": {"onemcp.enable": "true"},
            "Ports": [{"IP": "0.0.0.0", "PrivatePort": 8080, "PublicPort": 32768, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 8080, "PublicPort": 32768, "Type": "tcp"},
                {"PrivatePort": 53, "Type": "udp"}],
            "NetworkSettings": {"Networks": {
                "bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""},
                "mcp": {"IPAddress": "", "GlobalIPv6Address": "fd00::2"}}},
        })
    }

    fn told(object: &Value, spec: &Spec) -> String {
        match record(object, spec).map(|record| record.outcome) {
            None => "none".into(),
            Some(Ok(found)) => {
                format!("{} {}", found.name, found.entry["url"].as_str().unwrap())
            }
            Some(Err(why)) => why,
        }
    }

    #[test]
    fn a_container_says_where_its_server_is() {
        let (any, mcp) = (spec(&[], false), spec(&["mcp", "bridge"], false));
        let (other, published) = (spec(&["other"], false), spec(&[], true));
        let lacks = "container \"web\": it has no address in a network that is allowed";
        let with = |key: &str, value: &str| {
            let mut object = container();
            object["Labels"][key] = value.into();
            object
        };
        for (object, spec, expect) in [
            (container(), &any, "web http://172.17.0.2:8080/mcp"),
            (container(), &mcp, "web http://[fd00::2]:8080/mcp"),
            (container(), &other, lacks),
            (container(), &published, "web http://127.0.0.1:32768/mcp"),
            (
                with("onemcp.network", "bridge"),
                &mcp,
                "web http://172.17.0.2:8080/mcp",
            ),
            (with("onemcp.network", "secret"), &mcp, lacks),
            (
                with("onemcp.port", "443"),
                &any,
                "web https://172.17.0.2:443/mcp",
            ),
            (
                with("onemcp.name", "a b"),
                &any,
                "a b http://172.17.0.2:8080/mcp",
            ),
            (
                with("onemcp.port", "99"),
                &published,
                "container \"web\": its port 99 is not published on this host",
            ),
            (
                with("onemcp.port", "a"),
                &any,
                "container \"web\": onemcp.port is no port",
            ),
            (with("onemcp.enable", "false"), &any, "none"),
        ] {
            assert_eq!(told(&object, spec), expect);
        }
        let mut paused = container();
        paused["State"] = "paused".into();
        assert_eq!(told(&paused, &any), "none");
        let mut on_host = container();
        on_host["NetworkSettings"]["Networks"] = json!({"host": {"IPAddress": ""}});
        assert_eq!(told(&on_host, &any), lacks);
    }

    #[test]
    fn whatever_an_engine_says_hurts_nobody() {
        let odd = [
            json!(null),
            json!(1),
            json!("a"),
            json!([1]),
            json!({"a": []}),
        ];
        for key in [
            "Id",
            "Names",
            "Created",
            "State",
            "Labels",
            "Ports",
            "NetworkSettings",
        ] {
            for value in &odd {
                let mut object = container();
                object[key] = value.clone();
                for spec in [spec(&[], false), spec(&["mcp"], true)] {
                    told(&object, &spec);
                }
            }
        }
        assert!(odd.iter().all(|one| told(one, &spec(&[], false)) == "none"));
    }
}
