#![no_main]
//! Objects of Docker and Kubernetes: whatever they say, what is found is an HTTP server under a
//! harmless key, at an address that the engine said, or at the name of the Service.

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use onemcp::config::discovery::docker::Spec;
use onemcp::config::discovery::entry::KEYS;
use onemcp::gateway::discovery::hints::{Record, findings};
use onemcp::gateway::discovery::{Found, container, service};
use onemcp::net::url::Url;
use onemcp_fuzz::bounded;
use serde_json::Value;

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let objects = match value {
        Value::Array(objects) => objects,
        object => vec![object],
    };
    for is_published in [false, true] {
        let spec = Spec {
            socket: "/run/docker.sock".into(),
            label: "onemcp.enable=true".into(),
            networks: Vec::new(),
            is_published,
        };
        let records = objects.iter().filter_map(|object| {
            let record = container::record(object, &spec)?;
            assert_eq!(object["Labels"]["onemcp.enable"], "true");
            Some((object, record))
        });
        let records: Vec<(&Value, Record)> = records.collect();
        for (object, record) in &records {
            if let Ok(found) = &record.outcome {
                let url = harmless(found);
                let address = url.address().expect("an address, never a name");
                assert!(is_published || is_said(object, address), "{address}");
            }
        }
        once(records.iter().map(|(_, record)| record));
    }
    let records = objects.iter().filter_map(|object| {
        let record = service::record(object, false, Some("cluster.local"))?;
        assert_eq!(service::key(object).as_ref(), Some(&record.key));
        if let Ok(found) = &record.outcome {
            let url = harmless(found);
            let (namespace, name) = record.key.split_once('/').expect("two parts");
            assert_eq!(url.host(), format!("{name}.{namespace}.svc.cluster.local"));
            assert!(found.name.starts_with(&format!("{namespace}.")));
        }
        Some(record)
    });
    let records: Vec<Record> = records.collect();
    once(records.iter());
}));

fn harmless(found: &Found) -> Url {
    for key in found.entry.keys() {
        assert!(KEYS.contains(&key.as_str()), "{key}");
    }
    let text = found.entry["url"].as_str().expect("a URL");
    let url = Url::parse(text).expect("a URL that can be asked");
    assert!(
        url.query().is_none() && !text.contains(['#', '@']) || !text.contains("/@"),
        "{text}"
    );
    url
}

/// Somewhere among the networks of the object.
fn is_said(object: &Value, address: IpAddr) -> bool {
    let networks = object["NetworkSettings"]["Networks"].as_object();
    networks.into_iter().flatten().any(|(_, network)| {
        let says = |key: &str| network[key].as_str().and_then(|text| text.parse().ok());
        [says("IPAddress"), says("GlobalIPv6Address")].contains(&Some(address))
    })
}

/// Each name once, and nothing is left out without a word.
fn once<'r>(records: impl Iterator<Item = &'r Record> + Clone) {
    let count = records.clone().count();
    let (found, odd) = findings(records);
    assert_eq!(found.len() + odd.len(), count);
    let mut names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), found.len());
}
