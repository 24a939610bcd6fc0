//! What the endpoint says without being asked: the GET stream of a session, opened again whenever
//! it ends. An endpoint need not have one. The thread is `listen`.

use std::time::Duration;

use crate::base::limits;
use crate::cli::proxy::session::{Session, State};
use crate::cli::proxy::{Proxy, letter, lock};
use crate::net::client::{Method, Response};
use crate::net::stop::Stop;
use crate::wire::sse::Parser;

/// Where reading goes on.
#[derive(Default)]
struct Place {
    session: u64,
    last_id: Option<String>,
    /// It had a stream before.
    again: bool,
    /// Streams in a row that gave nothing.
    fruitless: u32,
}

/// What came of one try.
enum Opened {
    Stream(Box<Response>),
    /// The session has no stream.
    Never,
    Later,
}

impl Proxy {
    /// Until the end of the proxy.
    pub(super) fn follow(&self) {
        let mut place = Place::default();
        let mut never = 0;
        loop {
            // A session that has a stream, or may have one.
            let is_due = |state: &State| {
                state
                    .session
                    .as_ref()
                    .is_some_and(|session| session.number != never)
            };
            while !self.wait(limits::PROXY_SILENCE, is_due) {
                if lock(&self.state).is_closed {
                    return;
                }
            }
            let session = lock(&self.state).session.clone();
            let (Some(session), Some(stop)) = (session, self.stop_for_listening()) else {
                return;
            };
            if session.number != place.session {
                place = Place {
                    session: session.number,
                    ..Place::default()
                };
            }
            match self.open_stream(&session, &place, &stop) {
                Opened::Stream(response) => self.read_on(*response, &mut place),
                Opened::Never => never = session.number,
                Opened::Later => place.fruitless += 1,
            }
            if place.fruitless > 0 {
                let doublings = place.fruitless.min(6) - 1;
                let pause = limits::PROXY_RETRY * (1 << doublings);
                let number = session.number;
                let is_other = move |session: &Option<Session>| {
                    session
                        .as_ref()
                        .is_some_and(|session| session.number != number)
                };
                self.wait(pause, |state| is_other(&state.session));
            }
        }
    }

    fn open_stream(&self, session: &Session, place: &Place, stop: &Stop) -> Opened {
        let mut headers = letter::of_session(Some(session));
        if let Some(id) = &place.last_id {
            headers.push(("Last-Event-ID".to_owned(), id.clone()));
        }
        let response = match self.send(Method::Get, &headers, b"", self.timeout, stop) {
            Ok(response) => response,
            Err(error) => {
                log::debug!("stream not open: failed to {error}");
                return Opened::Later;
            }
        };
        match (response.status(), response.media_type().as_str()) {
            (200, "text/event-stream") => Opened::Stream(Box::new(response)),
            // Some have no such path for GET, and still know the session.
            (404, _) if session.id.is_some() && place.again => match self.renew(session.number) {
                Ok(()) => Opened::Later,
                Err(why) => {
                    log::warn!("no other session: failed to {why}");
                    Opened::Never
                }
            },
            (429 | 502..=504, _) => Opened::Later,
            (status, _) => {
                log::debug!("the endpoint has no stream status={status}");
                Opened::Never
            }
        }
    }

    fn read_on(&self, mut response: Response, place: &mut Place) {
        let mut parser = Parser::new(limits::LINE_BYTES);
        let mut buffer = [0; 16 * 1024];
        place.again = true;
        place.fruitless += 1;
        while let Ok(count @ 1..) = response.read(&mut buffer) {
            // Comments count: it lives.
            place.fruitless = 0;
            for event in parser.feed(&buffer[..count]) {
                let is_message = event.name.is_empty() || event.name == "message";
                if let Some(skipped) = event.skipped {
                    log::warn!("message left out bytes={}: it is too long", skipped.bytes);
                } else if is_message && !event.data.trim().is_empty() {
                    self.channel.send(event.data.into_bytes());
                }
            }
            if let Some(id) = parser.last_id() {
                place.last_id = Some(id.to_owned());
            }
        }
        let retry = parser.retry_ms().map(Duration::from_millis);
        self.wait(retry.unwrap_or_default().min(limits::PROXY_PAUSE), |_| {
            false
        });
    }
}
