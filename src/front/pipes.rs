//! A client behind two pipes, stdin and stdout of this process: messages are lines. Two threads:
//! `stdin` reads and hands each line on, `stdout` writes what comes on the channel. Neither can be
//! held up for ever: both wait with `poll`, so that the end of the program, or of the client,
//! reaches them.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::base::{limits, thread};
use crate::front::channel::{Channel, Next};
use crate::mcp::error::{INVALID_REQUEST, PARSE_ERROR, RpcError};
use crate::wire::lines::{Line, LineReader};

/// What ended a conversation, or began to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client says no more; it may still read.
    Input,
    /// Everything was written, or the client does not read any more.
    Output,
}

pub struct Pipes {
    channel: Arc<Channel>,
    /// An eventfd: rung when the reader is to end.
    stop: Arc<OwnedFd>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Pipes {
    /// Begins to write what comes on `channel`, and to `take` lines. `ended` is told once for
    /// each direction.
    ///
    /// # Errors
    /// When the system refuses a file descriptor or a thread.
    pub fn start(
        channel: Arc<Channel>,
        (input, output): (OwnedFd, OwnedFd),
        take: impl FnMut(&str) + Send + 'static,
        ended: impl Fn(End) + Clone + Send + 'static,
    ) -> io::Result<Pipes> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (own, tell) = (channel.clone(), ended.clone());
        let writer = thread::spawn("stdout", limits::STACK_WORKER_BYTES, move || {
            write(&own, &output);
            own.cut();
            tell(End::Output);
        })?;
        let input = Input {
            file: input,
            stop: stop.clone(),
        };
        let own = channel.clone();
        let reader = thread::spawn("stdin", limits::STACK_WORKER_BYTES, move || {
            read(input, &own, take);
            ended(End::Input);
        })?;
        Ok(Pipes {
            channel,
            stop,
            reader,
            writer,
        })
    }

    /// Ends both directions at once and joins the threads.
    pub fn stop(self) {
        self.channel.cut();
        // Fails only when the counter is full, and then the reader is awake.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        for thread in [self.reader, self.writer] {
            if thread.join().is_err() {
                log::error!("thread of the client panicked");
            }
        }
    }
}

/// The client's lines, until it ends them or `stop` is rung.
struct Input {
    file: OwnedFd,
    stop: Arc<OwnedFd>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [
                PollFd::new(&self.file, PollFlags::IN),
                PollFd::new(&*self.stop, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            if !fds[1].revents().is_empty() {
                return Ok(0);
            }
            match rustix::io::read(&self.file, &mut *buffer) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

fn read(input: Input, channel: &Channel, mut take: impl FnMut(&str)) {
    let mut lines = LineReader::new(input, limits::LINE_BYTES);
    loop {
        match lines.next_line() {
            Ok(Some(Line::Text(line))) => match std::str::from_utf8(line) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => take(text),
                Err(_) => {
                    let error = RpcError::new(PARSE_ERROR, "the message is not UTF-8");
                    channel.send(error.response(None));
                }
            },
            Ok(Some(Line::TooLong { bytes, id, .. })) => {
                let limit = limits::LINE_BYTES;
                let what = format!("the message is too long: {bytes} bytes, at most {limit}");
                let id = id.map(|id| id.to_string());
                channel.send(RpcError::new(INVALID_REQUEST, what).response(id.as_deref()));
            }
            Ok(None) => return,
            Err(error) => return log::info!("input of the client ended: {error}"),
        }
    }
}

/// Writes what comes on the channel until it is over, or the client does not read.
fn write(channel: &Channel, output: &OwnedFd) {
    loop {
        match channel.next() {
            Next::Message(line) if write_line(channel, output, &line) => {}
            Next::Message(_) | Next::Over => return,
            Next::Wait => {
                // Asked for nothing, told of errors: the reader of a pipe is gone.
                let client = PollFd::new(output, PollFlags::empty());
                let limit = limits::STREAM_KEEP_ALIVE;
                if channel
                    .sleep(client, limit)
                    .intersects(PollFlags::ERR | PollFlags::HUP)
                {
                    return log::info!("the client has closed our output");
                }
            }
        }
    }
}

/// After `OUT` a pipe takes so much without making its writer wait (POSIX: PIPE_BUF); sockets
/// and terminals take more. The file is not made non-blocking, because others may share it.
const PIECE_BYTES: usize = 4096;

/// False when the client takes nothing, is gone, or the channel was cut.
fn write_line(channel: &Channel, output: &OwnedFd, mut line: &[u8]) -> bool {
    let mut deadline = Instant::now() + limits::WRITE_DEADLINE;
    while !line.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = channel.sleep(PollFd::new(output, PollFlags::OUT), left);
        if channel.is_cut() {
            return false;
        }
        if ready.is_empty() {
            if left.is_zero() {
                log::warn!("the client does not read our output");
                return false;
            }
            continue;
        }
        match rustix::io::write(output, &line[..line.len().min(PIECE_BYTES)]) {
            Ok(written) => {
                line = &line[written..];
                deadline = Instant::now() + limits::WRITE_DEADLINE;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => {
                log::info!("the client has closed our output: {error}");
                return false;
            }
        }
    }
    true
}
