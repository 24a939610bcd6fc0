//! One exchange: a message is posted, and what comes back is handed to the client. Runs on a
//! `call` thread; its flight can be stopped at any point.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::cli::proxy::flight::Flight;
use crate::cli::proxy::letter::Headers;
use crate::cli::proxy::{Proxy, letter, lock};
use crate::front::channel::leave_gap;
use crate::front::streamable::SESSION_HEADER;
use crate::mcp::error::{HEADER_MISMATCH, INTERNAL_ERROR, RpcError};
use crate::mcp::{era, meta};
use crate::net::client::{Method, Request, Response};
use crate::net::error::NetError;
use crate::net::stop::Stop;
use crate::wire::json::quoted;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;
use crate::wire::sse::{Parser, Skipped};

/// Where a stream of a session goes on after it broke.
#[derive(Default)]
struct Trail {
    last_id: Option<String>,
    retry: Option<Duration>,
}

impl Proxy {
    pub(super) fn with_own(&self, headers: &Headers) -> Headers {
        self.headers.iter().chain(headers).cloned().collect()
    }

    /// Sends one message; `headers` beside those that all have.
    pub(super) fn send(
        &self,
        method: Method,
        headers: &Headers,
        body: &[u8],
        patience: Duration,
        stop: &Stop,
    ) -> Result<Response, NetError> {
        let mut all = self.with_own(headers);
        let accept = match method {
            Method::Get => "text/event-stream",
            Method::Post | Method::Delete => "application/json, text/event-stream",
        };
        all.push(("Accept".to_owned(), accept.to_owned()));
        if method == Method::Post {
            all.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        let headers: Vec<(&str, &str)> = all.iter().map(|(n, v)| (&**n, &**v)).collect();
        let request = Request {
            method,
            url: &self.endpoint,
            headers: &headers,
            body,
            head_timeout: patience,
            idle_timeout: Some(limits::PROXY_SILENCE),
        };
        let response = self.net.send(&request, stop)?;
        self.note_reached(&response);
        Ok(response)
    }

    /// A message that nothing comes back for.
    pub(super) fn tell(&self, line: &str) {
        let session = lock(&self.state).session.clone();
        let headers = letter::of_session(session.as_ref());
        let stop = Stop::default();
        match self.send(
            Method::Post,
            &headers,
            line.as_bytes(),
            limits::PROXY_NOTE,
            &stop,
        ) {
            Ok(mut response) => {
                let status = response.status();
                response.set_deadline(Some(Instant::now() + limits::CLIENT_CLOSE));
                // Read, so that the connection serves the next one too.
                if response.read_to_end(limits::STDERR_LINE_BYTES).is_err() || status >= 400 {
                    log::warn!("message not taken by the endpoint status={status}");
                }
            }
            Err(error) => log::warn!("message lost: failed to {error}"),
        }
    }

    /// Carries out a request.
    ///
    /// # Errors
    /// Why it has no answer; fits behind "failed to".
    pub(super) fn converse(&self, flight: &Flight, line: &str) -> Result<(), String> {
        // Each is mended once.
        let (mut has_renewed, mut has_learned) = (false, false);
        loop {
            let session = lock(&self.state).session.clone();
            let session = session.filter(|_| !flight.is_stateless && !flight.is_initialize());
            let headers = match flight.is_stateless {
                true => letter::of_request(line, &lock(&self.state).mirrored),
                false => letter::of_session(session.as_ref()),
            };
            let body = line.as_bytes();
            let sent = self.send(Method::Post, &headers, body, self.timeout, &flight.stop);
            let mut response = match sent {
                Ok(response) => response,
                Err(_) if flight.is_cancelled() => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            if !flight.is_endless() {
                response.set_deadline(Some(Instant::now() + self.timeout));
            }
            let status = response.status();
            if (200..300).contains(&status) {
                if !flight.is_stateless {
                    lock(&self.state).note_wish(line);
                }
                return self.accepted(flight, response, session.is_some());
            }
            let body = response
                .read_to_end(limits::STDERR_LINE_BYTES)
                .unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            let lost = session.filter(|session| status == 404 && session.id.is_some());
            if let (Some(session), false) = (lost, has_renewed) {
                has_renewed = true;
                self.renew(session.number)?;
            } else if is_mismatch(&body) && flight.method == "tools/call" && !has_learned {
                has_learned = true;
                self.ask_for_tools(flight)?;
            } else {
                self.refused(flight, status, &body);
                return Ok(());
            }
        }
    }

    fn accepted(
        &self,
        flight: &Flight,
        mut response: Response,
        has_session: bool,
    ) -> Result<(), String> {
        let session_id = response.header(SESSION_HEADER).map(str::to_owned);
        let session_id = session_id.as_deref();
        let status = response.status();
        match response.media_type().as_str() {
            "text/event-stream" => self.read_stream(flight, response, has_session)?,
            // A request that was taken back.
            "" if flight.is_cancelled() => return Ok(()),
            "application/json" => {
                let body = response.read_to_end(limits::LINE_BYTES);
                match body {
                    Ok(body) => self.deliver(flight, body, session_id),
                    Err(_) if flight.is_cancelled() => return Ok(()),
                    Err(error) => return Err(error.to_string()),
                }
            }
            _ => {}
        }
        match flight.has_open() {
            false => Ok(()),
            true => Err(format!(
                "get an answer: the endpoint took the request (HTTP {status}) and gave none"
            )),
        }
    }

    /// Hands one message to the client.
    pub(super) fn deliver(&self, flight: &Flight, bytes: Vec<u8>, session_id: Option<&str>) {
        let text = String::from_utf8_lossy(&bytes);
        if flight.is_cancelled() || text.trim().is_empty() {
            return;
        }
        let is_answer = flight.note_answers(&text);
        if is_answer && flight.is_initialize() {
            self.opened(&text, session_id);
        }
        if is_answer && flight.method == "tools/list" {
            self.learn(&text);
        }
        if is_answer {
            leave_gap(flight.told());
        }
        self.channel.send(bytes);
        if !is_answer {
            flight.note_told();
        }
    }

    /// Reads the stream of a request until it is answered. One that breaks is taken up again where
    /// it was, if it belongs to a session and says where that is.
    fn read_stream(
        &self,
        flight: &Flight,
        mut response: Response,
        has_session: bool,
    ) -> Result<(), String> {
        let session_id = response.header(SESSION_HEADER).map(str::to_owned);
        let mut trail = Trail::default();
        for _ in 0..limits::PROXY_RESUMPTIONS {
            let seen = trail.last_id.clone();
            let end = self.read_events(flight, &mut response, &mut trail, session_id.as_deref());
            if !flight.has_open() {
                return Ok(());
            }
            let why = match end {
                Ok(()) => "read the answer: its stream ended early".to_owned(),
                Err(error) => error.to_string(),
            };
            if !has_session || trail.last_id.is_none() {
                return Err(why);
            }
            match (trail.retry, trail.last_id == seen) {
                (Some(retry), _) => self.wait(retry.min(limits::PROXY_PAUSE), |_| false),
                (None, true) => self.wait(limits::PROXY_RETRY, |_| false),
                (None, false) => true,
            };
            response = self.resume(flight, &trail, &why)?;
        }
        Err("read the answer: its stream breaks again and again".to_owned())
    }

    fn resume(&self, flight: &Flight, trail: &Trail, why: &str) -> Result<Response, String> {
        let session = lock(&self.state).session.clone();
        let mut headers = letter::of_session(session.as_ref());
        let id = trail.last_id.clone().unwrap_or_default();
        headers.push(("Last-Event-ID".to_owned(), id));
        let response = self.send(Method::Get, &headers, b"", self.timeout, &flight.stop);
        let response = response.map_err(|error| format!("{why}; then failed to {error}"))?;
        match (response.status(), response.media_type().as_str()) {
            (200, "text/event-stream") => Ok(response),
            (status, _) => Err(format!("{why}; the rest of it is gone (HTTP {status})")),
        }
    }

    fn read_events(
        &self,
        flight: &Flight,
        response: &mut Response,
        trail: &mut Trail,
        session_id: Option<&str>,
    ) -> Result<(), NetError> {
        let mut parser = Parser::new(limits::LINE_BYTES);
        let mut buffer = [0; 16 * 1024];
        let mut is_answered = false;
        loop {
            let count = response.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            for event in parser.feed(&buffer[..count]) {
                match event.skipped {
                    Some(skipped) => self.skipped(flight, &skipped),
                    None if event.name.is_empty() || event.name == "message" => {
                        self.deliver(flight, event.data.into_bytes(), session_id);
                    }
                    None => {}
                }
            }
            if let Some(id) = parser.last_id() {
                trail.last_id = Some(id.to_owned());
            }
            trail.retry = parser.retry_ms().map(Duration::from_millis).or(trail.retry);
            if !flight.has_open() && !is_answered {
                // What may still come is not for the client; its end frees the connection.
                is_answered = true;
                response.set_deadline(Some(Instant::now() + limits::CLIENT_CLOSE));
            }
        }
    }

    /// A message that is too long for us: if it was the answer, the client is told.
    fn skipped(&self, flight: &Flight, skipped: &Skipped) {
        let (bytes, limit) = (skipped.bytes, limits::LINE_BYTES);
        log::warn!("message left out bytes={bytes}: at most {limit} are taken");
        let is_answer = skipped.id.is_none_or(|id| flight.has_id(&id.to_string()));
        if is_answer && !flight.method.is_empty() {
            self.fail(
                flight,
                &format!("take the answer: {bytes} bytes, at most {limit}"),
            );
        }
    }

    /// The answer to a request of our own.
    pub(super) fn first_answer(&self, response: &mut Response) -> Result<String, String> {
        response.set_deadline(Some(Instant::now() + self.timeout));
        if response.media_type() != "text/event-stream" {
            let body = response.read_to_end(limits::LINE_BYTES);
            let body = body.map_err(|error| error.to_string())?;
            return Ok(String::from_utf8_lossy(&body).into_owned());
        }
        let mut parser = Parser::new(limits::LINE_BYTES);
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = response
                .read(&mut buffer)
                .map_err(|error| error.to_string())?;
            let mut events = parser.feed(&buffer[..count]).into_iter();
            let is_answer = |text: &str| text.contains("\"result\"") || text.contains("\"error\"");
            if let Some(event) = events.find(|event| is_answer(&event.data)) {
                return Ok(event.data);
            }
            if count == 0 {
                return Err("read the answer: its stream ended early".to_owned());
            }
        }
    }

    /// The endpoint says that headers are missing: reads which ones its tools want.
    fn ask_for_tools(&self, flight: &Flight) -> Result<(), String> {
        let mut cursor = String::new();
        for page in 0..limits::LIST_PAGES {
            let line = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":\"onemcp-proxy-{page}\",\"method\":\"tools/list\",\
                 \"params\":{{\"_meta\":{{\"{}\":\"{}\",\"{}\":{{}}}}{cursor}}}}}",
                meta::PROTOCOL_VERSION,
                era::STATELESS,
                meta::CLIENT_CAPABILITIES,
            );
            let headers = letter::of_request(&line, &HashMap::new());
            let body = line.as_bytes();
            let sent = self.send(Method::Post, &headers, body, self.timeout, &flight.stop);
            let mut response = sent.map_err(|error| error.to_string())?;
            let answer = self.first_answer(&mut response)?;
            match self.learn(&answer) {
                Some(next) => cursor = format!(",\"cursor\":{}", quoted(&next)),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// A status that is no success may carry the endpoint's own error.
    fn refused(&self, flight: &Flight, status: u16, body: &str) {
        if flight.is_cancelled() {
            return;
        }
        if flight.first_open().is_some() && flight.note_answers(body) {
            return self.channel.send(body.as_bytes().to_vec());
        }
        let said = Members::parse(body, 0, FROM_SERVER).ok();
        let object = said.and_then(|said| said.get("error").filter(|raw| raw.starts_with('{')));
        let excerpt: String = body.chars().take(300).collect();
        let remedy = match status {
            401 | 403 => "; give what it wants with --header",
            404 => "; is the path right?",
            _ => "",
        };
        let text = format!("the endpoint answers HTTP {status}{remedy}: {excerpt}");
        let ours = RpcError::new(INTERNAL_ERROR, text).object();
        let object = object.map_or(ours, str::to_owned);
        let open = flight.take_open();
        if open.is_empty() && flight.method.is_empty() {
            // A batch in which there is no request: what is wrong with it belongs to no id.
            let response = format!("{{\"jsonrpc\":\"2.0\",\"error\":{object}}}");
            return self.channel.send(response.into_bytes());
        }
        for id in open {
            let response = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{object}}}");
            self.channel.send(response.into_bytes());
        }
    }
}

fn is_mismatch(body: &str) -> bool {
    let members = Members::parse(body, 0, FROM_SERVER).ok();
    let error =
        members.and_then(|members| Members::parse(members.get("error")?, 1, FROM_SERVER).ok());
    error.is_some_and(|error| error.get("code") == Some(&HEADER_MISMATCH.to_string()))
}
