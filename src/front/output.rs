//! Where the answer to one stateless request goes. On HTTP it starts undecided: what comes first
//! decides whether it is one JSON body or an event stream. Nothing of it can be resumed, so
//! events have no ids. On a channel there is nothing to decide; there a request can be taken back.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::front::channel::Voice;
use crate::front::exchange::{Accepts, with_type};
use crate::front::flight::Flight;
use crate::front::listen;
use crate::http::Responder;
use crate::wire::message::blank_line_breaks;
use crate::wire::sse;

pub enum Output<'a, 'c> {
    Http(Http<'a, 'c>),
    Channel(Voice<'a>, &'a Flight),
}

pub struct Http<'a, 'c> {
    pub out: &'a mut Responder<'c>,
    /// CORS headers.
    headers: &'a [(&'a str, &'a str)],
    accepts: Accepts,
    is_stream: bool,
    /// The client has ended its own direction, and was sent something since.
    is_probed: bool,
}

impl<'a, 'c> Output<'a, 'c> {
    pub fn http(
        out: &'a mut Responder<'c>,
        headers: &'a [(&'a str, &'a str)],
        accepts: Accepts,
    ) -> Output<'a, 'c> {
        Output::Http(Http {
            out,
            headers,
            accepts,
            is_stream: false,
            is_probed: false,
        })
    }

    /// Whether notifications can be shown.
    pub fn takes_notices(&self) -> bool {
        match self {
            Output::Http(http) => http.accepts.stream,
            Output::Channel(..) => true,
        }
    }

    /// The response, in parts that belong together, and the end. `status` counts only while
    /// nothing was sent.
    pub fn respond(&mut self, status: u16, parts: &[&[u8]]) {
        match self {
            Output::Http(http) => http.respond(status, parts),
            // After it was taken back nothing may be sent.
            Output::Channel(_, flight) if flight.is_over() => {}
            Output::Channel(voice, _) => voice.answer(parts.concat()),
        }
    }

    /// A notification. False: the client is gone.
    pub fn event(&mut self, data: Vec<u8>) -> bool {
        match self {
            Output::Http(http) => http.event(data),
            Output::Channel(voice, flight) => {
                if !flight.is_over() {
                    voice.tell(data);
                }
                !flight.is_over()
            }
        }
    }

    /// Nothing came for a while: shows that the answer is still to come. False: the client is
    /// gone.
    pub fn keep_alive(&mut self) -> bool {
        match self {
            Output::Http(http) if http.accepts.stream => {
                http.open() && http.out.write_stream(sse::KEEP_ALIVE)
            }
            Output::Http(_) => true,
            Output::Channel(_, flight) => !flight.is_over(),
        }
    }

    /// Waits for a bell, at most so long. False: the client is gone.
    pub fn sleep(&self, waker: &OwnedFd, limit: Duration) -> bool {
        match self {
            Output::Http(http) => listen::sleep(waker, limit, http.out),
            Output::Channel(_, flight) => flight.sleep(waker, limit),
        }
    }

    /// Whether the channel is to end, and what lasts as long as it with it.
    pub fn is_finishing(&self) -> bool {
        match self {
            Output::Http(_) => false,
            Output::Channel(_, flight) => flight.is_finishing(),
        }
    }

    /// Whether nobody waits for the answer any more. On HTTP nothing is sent after that.
    pub fn is_gone(&mut self) -> bool {
        match self {
            Output::Http(http) => {
                let is_gone = http.is_gone();
                if is_gone {
                    http.out.abandon();
                }
                is_gone
            }
            Output::Channel(_, flight) => flight.is_over(),
        }
    }
}

impl Http<'_, '_> {
    /// A client that has ended its own direction may have closed the connection, or only have
    /// nothing more to say. Whoever closed it answers what comes with a reset, which is seen at
    /// the next look. One that takes no stream can be sent nothing, and counts as gone.
    fn is_gone(&mut self) -> bool {
        if !self.out.hung_up() {
            return false;
        }
        if self.out.is_lost() || !self.accepts.stream {
            return true;
        }
        if self.is_probed {
            return false;
        }
        self.is_probed = true;
        !(self.open() && self.out.write_stream(sse::KEEP_ALIVE))
    }

    fn open(&mut self) -> bool {
        if !self.is_stream {
            self.is_stream = true;
            let headers = with_type(self.headers, "text/event-stream");
            return self.out.start_stream(200, &headers);
        }
        true
    }

    fn event(&mut self, mut data: Vec<u8>) -> bool {
        blank_line_breaks(&mut data);
        let mut event = Vec::new();
        sse::write_event(None, None, &data, &mut event);
        self.open() && self.out.write_stream(&event)
    }

    fn respond(&mut self, status: u16, parts: &[&[u8]]) {
        // What is refused is refused in one piece, whatever the client would rather have.
        if !self.is_stream && (self.accepts.json || status != 200) {
            let headers = with_type(self.headers, "application/json");
            return self.out.send(status, &headers, parts);
        }
        if self.event(parts.concat()) {
            self.out.finish_stream();
        }
    }
}
