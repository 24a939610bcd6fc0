//! The source `dns`: the SRV records of one name, each a server. Asked again when the first of
//! them has outlived its life, and sooner than that never.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::limits;
use crate::config::discovery::dns::Spec;
use crate::gateway::discovery::watching::Pauses;
use crate::gateway::discovery::{Found, Sink, Stop};
use crate::net::dns;
use crate::net::dns_message::{Answer, ODD, Srv};

pub fn run(spec: &Spec, sink: &Sink, stop: &Stop) {
    let mut pauses = Pauses::default();
    loop {
        let servers = spec.nameserver.map_or_else(dns::servers, |one| vec![one]);
        let mut pause = Duration::from_millis(spec.interval_ms);
        match dns::ask(&spec.srv, &servers, stop.net()) {
            Ok(answer) => {
                pauses.forget();
                let (mut all, mut odd) = (Vec::new(), Vec::new());
                if let Answer::Records(records, ttl_s) = answer {
                    pause = Duration::from_secs(ttl_s.into()).clamp(LEAST, pause);
                    (all, odd) = found_in(spec, &records);
                }
                sink.publish_with(all, odd);
            }
            Err(_) if stop.is_stopped() => return,
            Err(error) => {
                // What was found goes in a while; the next question must come before that.
                pause = pauses.longer().max(LEAST).min(pause);
                sink.fail(error);
            }
        }
        if stop.wait(pause) {
            return;
        }
    }
}

const LEAST: Duration = Duration::from_millis(limits::DNS_ASK_MS_LEAST);

/// Servers, and what is wrong with the other records.
fn found_in(spec: &Spec, records: &[Srv]) -> (Vec<Found>, Vec<String>) {
    let (mut all, mut odd) = (Vec::new(), Vec::new());
    for one in records {
        match one.target.contains(ODD) {
            true => odd.push(format!("SRV {}: no host is {:?}", spec.srv, one.target)),
            false => all.extend(found(spec, one)),
        }
    }
    (all, odd)
}

/// `None`: the record says that there is no service.
fn found(spec: &Spec, srv: &Srv) -> Option<Found> {
    if srv.target.is_empty() || srv.port == 0 {
        return None;
    }
    let (scheme, usual) = match spec.is_https {
        true => ("https", 443),
        false => ("http", 80),
    };
    let Srv { target, port, .. } = srv;
    let url = format!("{scheme}://{target}:{port}{}", spec.path);
    // By its own words alone, whatever else is found beside it.
    let mut name = short(target, &spec.srv).to_owned();
    if *port != usual {
        name = format!("{name}-{port}");
    }
    Some(Found {
        name,
        entry: Map::from_iter([("url".to_owned(), Value::from(url))]),
        place: format!("SRV {}", spec.srv),
    })
}

/// Without the domain that the service is in.
fn short<'t>(target: &'t str, srv: &str) -> &'t str {
    let mut domain = srv;
    while let Some((label, rest)) = domain.split_once('.')
        && label.starts_with('_')
    {
        domain = rest;
    }
    let host = target.strip_suffix(domain);
    let host = host.and_then(|host| host.strip_suffix('.'));
    host.filter(|host| !host.is_empty()).unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::{found, found_in, short};
    use crate::config::discovery::dns::Spec;
    use crate::net::dns_message::Srv;

    fn spec(is_https: bool) -> Spec {
        Spec {
            srv: "_mcp._tcp.example.com".to_owned(),
            is_https,
            path: "/mcp".to_owned(),
            nameserver: None,
            interval_ms: 1000,
        }
    }

    fn srv(port: u16, target: &str) -> Srv {
        Srv {
            priority: 0,
            weight: 0,
            port,
            target: target.to_owned(),
        }
    }

    #[test]
    fn what_is_no_host_is_told_and_hides_no_other() {
        let records = [srv(80, "a?b.example.com"), srv(80, "c.example.com")];
        let (all, odd) = found_in(&spec(false), &records);
        assert_eq!((all.len(), odd.len()), (1, 1));
        assert_eq!(all[0].name, "c");
        assert!(odd[0].contains("a?b.example.com"), "{odd:?}");
    }

    #[test]
    fn a_record_becomes_a_server() {
        let of = |is_https, port, target: &str| {
            found(&spec(is_https), &srv(port, target))
                .map(|found| format!("{} {}", found.name, found.entry["url"].as_str().unwrap()))
        };
        let check = |got: Option<String>, expect: &str| assert_eq!(got.unwrap(), expect);
        check(
            of(false, 8080, "files.example.com"),
            "files-8080 http://files.example.com:8080/mcp",
        );
        check(of(true, 443, "a.org"), "a.org https://a.org:443/mcp");
        assert_eq!(of(false, 80, ""), None);
        assert_eq!(of(false, 0, "a.org"), None);
    }

    #[test]
    fn only_the_whole_domain_is_left_out() {
        assert_eq!(short("a.example.com", "_mcp._tcp.example.com"), "a");
        assert_eq!(
            short("badexample.com", "_mcp._tcp.example.com"),
            "badexample.com"
        );
        assert_eq!(short("example.com", "_mcp._tcp.example.com"), "example.com");
        assert_eq!(short("a.b", "mcp"), "a.b");
    }
}
