//! The gateway as the child of its one client: both eras on two pipes.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::front::channel::{Channel, Form};
use crate::front::pipes::{End, Pipes};
use crate::front::talk::{Common, Talk};
use crate::relay::view::Filter;

pub struct Stdio {
    talk: Arc<Talk>,
    pipes: Pipes,
}

impl Stdio {
    /// Begins to serve the client behind `files`, its input and output. `ended` is told once for
    /// each.
    ///
    /// # Errors
    /// When the system refuses a file descriptor or a thread.
    pub fn start(
        common: Arc<Common>,
        filter: Option<Filter>,
        files: (OwnedFd, OwnedFd),
        ended: impl Fn(End) + Clone + Send + 'static,
    ) -> io::Result<Stdio> {
        let channel = Arc::new(Channel::new(Form::Line)?);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let talk = Arc::new(Talk::new(common, channel.clone(), filter, address, None));
        let listener = talk.clone();
        let take = move |text: &str| {
            if let Err(bad) = listener.take(text.to_owned()) {
                listener.channel.send(bad.error.response(bad.id.as_deref()));
            }
        };
        let pipes = Pipes::start(channel, files, take, ended)?;
        Ok(Stdio { talk, pipes })
    }

    /// What was asked is answered; then the output ends.
    pub fn drain(&self) {
        self.talk.drain();
    }

    /// The input has ended: no question is answered any more.
    pub fn end_of_input(&self, deadline: Instant) {
        self.talk.end_of_input(deadline);
    }

    /// Cancels calls in flight and joins the threads.
    pub fn stop(self) {
        self.talk.close();
        self.pipes.stop();
    }
}
