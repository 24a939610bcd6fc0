//! One connection of the control socket: a bounded line in, bounded lines out, each under an
//! absolute deadline. Knows nothing of what is said.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;

use crate::base::limits;

pub struct Conversation<'s> {
    /// Does not block.
    stream: &'s UnixStream,
}

impl<'s> Conversation<'s> {
    pub fn new(stream: &'s UnixStream) -> io::Result<Conversation<'s>> {
        stream.set_nonblocking(true)?;
        Ok(Conversation { stream })
    }

    /// The one line of the client, without its end. `None` when it closes without one.
    ///
    /// # Errors
    /// `TimedOut` when it comes too slowly, `InvalidData` when it is too long.
    pub fn request(&self) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + limits::CONTROL_REQUEST;
        let mut line = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            match { self.stream }.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    let end = buffer[..count].iter().position(|byte| *byte == b'\n');
                    line.extend_from_slice(&buffer[..end.unwrap_or(count)]);
                    if line.len() > limits::CONTROL_REQUEST_BYTES {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    if end.is_some() {
                        return Ok(Some(line));
                    }
                }
                Err(error) => self.again(error, PollFlags::IN, deadline)?,
            }
        }
    }

    /// Says one line.
    ///
    /// # Errors
    /// When the client has gone, or does not take it in time.
    pub fn say(&self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        if text.len() > limits::CONTROL_LINE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        text.push(b'\n');
        let deadline = Instant::now() + limits::CONTROL_WRITE;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            match { self.stream }.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) => self.again(error, PollFlags::OUT, deadline)?,
            }
        }
        Ok(())
    }

    /// Whether to try once more after `error`, when the stream can be used again.
    fn again(&self, error: io::Error, wanted: PollFlags, deadline: Instant) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                match left.is_zero() {
                    true => Err(io::ErrorKind::TimedOut.into()),
                    false => {
                        self.poll(wanted, left);
                        Ok(())
                    }
                }
            }
            _ => Err(error),
        }
    }

    /// Waits, but not for a client that has gone.
    ///
    /// # Errors
    /// When the client has gone, both ways: one that has only ended its input still reads.
    pub fn pause(&self, until: Instant) -> io::Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let found = self.poll(PollFlags::empty(), left);
            if found.intersects(PollFlags::HUP | PollFlags::ERR) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if left.is_zero() {
                return Ok(());
            }
        }
    }

    fn poll(&self, wanted: PollFlags, timeout: Duration) -> PollFlags {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let stream = self.stream.as_fd();
        let mut fds = [PollFd::new(&stream, wanted)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(1..) => fds[0].revents(),
            // Nothing, or a signal came.
            _ => PollFlags::empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::Conversation;
    use crate::base::limits;

    #[test]
    fn takes_one_bounded_line() {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let talk = Conversation::new(&ours).unwrap();
        client.write_all(b"{\"a\":1}\nrest").unwrap();
        assert_eq!(talk.request().unwrap().as_deref(), Some(&b"{\"a\":1}"[..]));
        let (mut client, ours) = UnixStream::pair().unwrap();
        let talk = Conversation::new(&ours).unwrap();
        let long = vec![b'x'; limits::CONTROL_REQUEST_BYTES + 1];
        client.write_all(&long).unwrap();
        assert_eq!(talk.request().unwrap_err().kind(), ErrorKind::InvalidData);
        let (client, ours) = UnixStream::pair().unwrap();
        drop(client);
        assert_eq!(Conversation::new(&ours).unwrap().request().unwrap(), None);
    }

    #[test]
    fn one_that_has_ended_its_input_is_still_there() {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let talk = Conversation::new(&ours).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let soon = || Instant::now() + Duration::from_millis(20);
        assert!(talk.pause(soon()).is_ok());
        talk.say(&"x").unwrap();
        let mut said = [0; 4];
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"\"x\"\n");
        drop(client);
        assert!(talk.pause(soon()).is_err());
    }
}
