//! The source `docker`: containers of Docker or Podman, asked of the engine over its socket. Each
//! event makes it list them anew, and so does a while without one.
//!
//! An event is just a reason to look: nothing in it is believed. Events are asked for from shortly
//! before a list on, so that nothing falls between.
//!
//! Deliberately absent: everything that could change a container.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use crate::base::{limits, time};
use crate::config::discovery::docker::Spec;
use crate::gateway::discovery::hints::{Record, findings};
use crate::gateway::discovery::watching::{Pauses, lines, net_error};
use crate::gateway::discovery::{Sink, Stop, container};
use crate::net::client::{Client, Method, Request, Response};
use crate::net::error::NetError;
use crate::wire::lines::Line;
use crate::wire::percent::encode;

/// After these a container may have come, gone, or another address. What Docker calls `die`,
/// Podman lets through as `died` only.
const EVENTS: &str = r#"{"type":["container","network"],"event":["start","die","died","pause",
"unpause","rename","connect","disconnect"]}"#;

pub fn run(spec: &Spec, sink: &Sink, stop: &Stop) {
    let engine = Engine {
        spec,
        sink,
        stop,
        socket: sink.folder.join(&spec.socket),
    };
    let mut pauses = Pauses::default();
    loop {
        let begun = Instant::now();
        let ended = engine.follow();
        if stop.is_stopped() {
            return;
        }
        if let Err(error) = ended {
            let socket = engine.socket.display();
            sink.fail(format!("ask the engine at {socket}: failed to {error}"));
        }
        if begun.elapsed() >= limits::DISCOVERY_STEADY {
            pauses.forget();
        }
        if stop.wait(pauses.longer()) {
            return;
        }
    }
}

struct Engine<'a> {
    spec: &'a Spec,
    sink: &'a Sink,
    stop: &'a Stop,
    socket: PathBuf,
}

impl Engine<'_> {
    /// Until the events end, as they do with the engine, or none came for a while.
    fn follow(&self) -> Result<(), String> {
        let client = Client::local(self.socket.clone()).map_err(|error| error.to_string())?;
        let since = time::unix_s().saturating_sub(limits::DISCOVERY_BEFORE_S);
        self.look(&client)?;
        let target = format!("events?since={since}&filters={}", encode(EVENTS));
        // Podman begins to answer with the first event.
        let response = match self.ask(&client, &target, limits::DISCOVERY_RELIST) {
            Err(NetError::Deadline { .. }) => return Ok(()),
            answer => judged(answer)?,
        };
        let mut lines = lines(response);
        loop {
            match lines.next_line() {
                Ok(Some(Line::Text(b""))) => continue,
                Ok(Some(Line::Text(line))) if !is_event(line) => {
                    return Err("understand its events: one is no JSON".to_owned());
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => {
                    return match net_error(&error) {
                        Some(NetError::Silent { .. }) => Ok(()),
                        _ => Err(error.to_string()),
                    };
                }
            }
            if lines.has_line() {
                continue;
            }
            // Few come alone.
            if self.stop.wait(limits::DISCOVERY_RELIST_LEAST) {
                return Ok(());
            }
            self.look(&client)?;
        }
    }

    fn look(&self, client: &Client) -> Result<(), String> {
        let label = Value::from(self.spec.label.as_str());
        let filters = encode(&format!(r#"{{"label":[{label}]}}"#));
        let target = format!("containers/json?filters={filters}");
        let mut response = judged(self.ask(client, &target, limits::DISCOVERY_HEAD))?;
        response.set_deadline(Some(Instant::now() + limits::DISCOVERY_LIST));
        let body = response.read_to_end(limits::DISCOVERY_LIST_BYTES);
        let body = body.map_err(|error| error.to_string())?;
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        let Some(items) = list.as_array() else {
            return Err("understand its list of containers: it is none".to_owned());
        };
        let records = items
            .iter()
            .filter_map(|item| container::record(item, self.spec));
        let records: Vec<Record> = records.collect();
        let (found, odd) = findings(records.iter());
        self.sink.publish_with(found, odd);
        Ok(())
    }

    fn ask(
        &self,
        client: &Client,
        target: &str,
        head_timeout: std::time::Duration,
    ) -> Result<Response, NetError> {
        let request = Request {
            method: Method::Get,
            url: &format!("http://localhost/{target}"),
            headers: &[("Accept", "application/json")],
            body: b"",
            head_timeout,
            idle_timeout: Some(limits::DISCOVERY_RELIST),
        };
        client.send(&request, self.stop.net())
    }
}

fn judged(answer: Result<Response, NetError>) -> Result<Response, String> {
    let response = answer.map_err(|error| error.to_string())?;
    match response.status() {
        200 => Ok(response),
        status => Err(format!(
            "get an answer: status {status}; is it Docker or Podman?"
        )),
    }
}

fn is_event(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|event| event.is_object())
}
