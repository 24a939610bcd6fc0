//! What a server says without being asked: the GET stream of a session (`st:NAME`), opened again
//! whenever it ends, and the one stream of HTTP with SSE, on which everything comes and whose end
//! is the end of the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::net::client::Response;
use crate::net::url::Url;
use crate::upstream::remote::flight::Flight;
use crate::upstream::remote::road::{endpoint, small_body};
use crate::upstream::remote::state::Manner;
use crate::upstream::remote::trouble::{Cause, Trouble, is_lost_session};
use crate::upstream::remote::{Last, Remote, lock};
use crate::wire::sse::{Event, Parser};

/// Where reading goes on.
#[derive(Default)]
struct Place {
    session: u64,
    last_id: Option<String>,
    retry: Option<Duration>,
    /// Streams in a row that gave nothing.
    fruitless: u32,
    /// One was open before.
    again: bool,
    /// None was open in this session.
    is_new: bool,
}

/// What came of opening a stream.
enum Opened {
    Stream(Box<Response>),
    /// The server has none, and needs none.
    Never,
    /// At once: there is another session.
    AtOnce,
    Later,
}

impl Remote {
    /// Starts to read what belongs to no call.
    pub(super) fn follow(self: &Arc<Self>) -> std::io::Result<()> {
        let remote = self.clone();
        self.crew.thread("st", move || remote.run_stream())
    }

    fn run_stream(&self) {
        let mut place = Place::default();
        while let Some(flight) = self.flights.enter(None) {
            *lock(&self.stream) = Some(flight.clone());
            let opened = self.open_stream(&flight, &mut place);
            let pause = match opened {
                Opened::Never => None,
                Opened::AtOnce => Some(Duration::ZERO),
                Opened::Later => {
                    place.fruitless += 1;
                    Some(place.pause())
                }
                Opened::Stream(response) => Some(self.read_on(&flight, *response, &mut place)),
            };
            lock(&self.stream).take();
            self.flights.leave(&flight);
            match pause {
                Some(pause) if self.crew.rest(Instant::now() + pause) => {}
                _ => return,
            }
        }
    }

    fn open_stream(&self, flight: &Flight, place: &mut Place) -> Opened {
        let Some(session) = lock(&self.state).session().cloned() else {
            return Opened::Never;
        };
        if session.number != place.session {
            place.session = session.number;
            place.last_id = None;
            place.is_new = true;
        }
        let mut headers = session.headers();
        if let Some(id) = &place.last_id {
            headers.push(("Last-Event-ID".to_owned(), id.clone()));
        }
        let mut response = match self.road.get(&headers, &flight.stop) {
            Ok(response) => response,
            // Stopped for a new session, or for good: the next look says which.
            Err(trouble) if trouble.cause == Cause::Stopped => return Opened::AtOnce,
            Err(trouble) => {
                log::debug!(
                    "stream not open server={:?}: {}",
                    self.server,
                    trouble.detail
                );
                // Whether the server is still there is asked in another way.
                self.is_doubtful.store(true, Ordering::Relaxed);
                return Opened::Later;
            }
        };
        let (status, media) = (response.status(), response.media_type());
        if status == 200 && media == "text/event-stream" {
            self.went_well(false);
            place.is_new = false;
            return Opened::Stream(Box::new(response));
        }
        let body = small_body(&mut response);
        if session.id.is_some() && is_lost_session(status, &body) {
            return match (place.again, place.is_new) {
                // Some servers have no such path for GET, and still know the session.
                (false, _) => Opened::Never,
                // Nor does another session help.
                (true, true) => Opened::Later,
                (true, false) => match self.renew(session.number) {
                    Ok(()) => Opened::AtOnce,
                    Err(_) => Opened::Later,
                },
            };
        }
        log::debug!(
            "no stream server={:?} status={status} media={media:?}",
            self.server
        );
        match status {
            429 | 502..=504 => Opened::Later,
            _ => Opened::Never,
        }
    }

    /// Reads until the stream ends; gives the pause until the next one.
    fn read_on(&self, flight: &Flight, mut response: Response, place: &mut Place) -> Duration {
        if std::mem::replace(&mut place.again, true) && place.last_id.is_none() {
            // Nobody knows what was said meanwhile.
            self.signals.missed();
        }
        let since = Instant::now();
        let mut parser = Parser::new(limits::LINE_BYTES);
        let mut buffer = vec![0; limits::REMOTE_READ_BYTES];
        let (mut events, mut messages) = (0_usize, 0_usize);
        while let Ok(count @ 1..) = response.read(&mut buffer) {
            for event in parser.feed(&buffer[..count]) {
                events += 1;
                messages += usize::from(!event.data.trim().is_empty());
                self.event(flight, event);
            }
        }
        place.last_id = parser.last_id().map(str::to_owned).or(place.last_id.take());
        let retry = parser.retry_ms().map(Duration::from_millis);
        place.retry = retry.or(place.retry);
        let is_good = since.elapsed() >= limits::REMOTE_STREAM_GOOD;
        place.fruitless = match (is_good, messages > 0) {
            (true, _) => 0,
            // Each stream brings little: not more often, and not much less often either.
            (false, true) => (place.fruitless + 1).min(limits::REMOTE_SHORT_STREAMS),
            (false, false) => place.fruitless + 1,
        };
        log::debug!("stream ended server={:?} events={events}", self.server);
        match flight.stop.is_stopped() {
            // There is another session, or this is the end.
            true => Duration::ZERO,
            false => place.pause(),
        }
    }

    /// Opens the one stream of HTTP with SSE, which names the endpoint for our messages.
    pub(super) fn follow_all(self: &Arc<Self>) -> std::io::Result<()> {
        lock(&self.state).manner = Manner::Sse { endpoint: None };
        let remote = self.clone();
        self.crew.thread("st", move || {
            if let Some(flight) = remote.flights.enter(None) {
                if let Err(trouble) = remote.run_only_stream(&flight) {
                    lock(&remote.last).trouble = Some(trouble.clone());
                    remote.signals.lost(&trouble.detail);
                }
                remote.flights.leave(&flight);
            }
        })
    }

    fn run_only_stream(&self, flight: &Flight) -> Result<(), Trouble> {
        let mut response = self.road.get(&Vec::new(), &flight.stop)?;
        let status = response.status();
        *lock(&self.last) = Last {
            status,
            trouble: None,
        };
        if status != 200 || response.media_type() != "text/event-stream" {
            let wants_login = self.road.wants_login(&response);
            let body = small_body(&mut response);
            return Err(match status {
                _ if wants_login => self.login_wanted(status, &body),
                200..=299 => Trouble::unusable("answered GET with something else than events"),
                _ => Trouble::of_status(status, &body, &self.mask),
            });
        }
        let from = response.url().clone();
        let mut parser = Parser::new(limits::LINE_BYTES);
        let mut buffer = vec![0; limits::REMOTE_READ_BYTES];
        loop {
            let count = response.read(&mut buffer);
            let count = count.map_err(|error| Trouble::of_net(&error))?;
            if count == 0 {
                return Err(Trouble::broken("closed its event stream"));
            }
            for event in parser.feed(&buffer[..count]) {
                self.only_event(flight, &from, event)?;
            }
        }
    }

    fn only_event(&self, flight: &Flight, from: &Url, event: Event) -> Result<(), Trouble> {
        if event.name != "endpoint" {
            self.event(flight, event);
            return Ok(());
        }
        let target = endpoint(from, &event.data)?;
        let mut state = lock(&self.state);
        // The first one counts: messages must not be led elsewhere later.
        if state.manner == (Manner::Sse { endpoint: None }) {
            let endpoint = Some(target);
            state.manner = Manner::Sse { endpoint };
            drop(state);
            self.changed.notify_all();
        }
        Ok(())
    }
}

impl Place {
    /// The server's own wish, longer each time that nothing came, within bounds.
    fn pause(&self) -> Duration {
        let first = self.retry.unwrap_or(limits::REMOTE_RETRY);
        let first = first.clamp(limits::REMOTE_RETRY_LEAST, limits::REMOTE_PAUSE_CEILING);
        let doublings = self.fruitless.min(10);
        (first * (1 << doublings)).min(limits::REMOTE_PAUSE_CEILING)
    }
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::base::limits;
    use std::time::Duration;

    #[test]
    fn pauses_follow_the_server_and_grow_while_nothing_comes() {
        let pause = |retry_ms: Option<u64>, fruitless: u32| {
            let place = Place {
                retry: retry_ms.map(Duration::from_millis),
                fruitless,
                ..Place::default()
            };
            place.pause()
        };
        assert_eq!(pause(None, 0), limits::REMOTE_RETRY);
        assert_eq!(pause(Some(250), 0), Duration::from_millis(250));
        assert_eq!(pause(Some(250), 2), Duration::from_millis(1000));
        assert_eq!(pause(Some(0), 0), limits::REMOTE_RETRY_LEAST);
        assert_eq!(pause(Some(u64::MAX), 0), limits::REMOTE_PAUSE_CEILING);
        assert_eq!(pause(None, 1000), limits::REMOTE_PAUSE_CEILING);
    }
}
