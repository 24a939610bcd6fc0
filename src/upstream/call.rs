//! What travels between a connection thread and a server: a request going out, and everything
//! that can come back for it.

use std::cell::LazyCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{Thread, current, park_timeout};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::limits;
use crate::journal::metrics::meter::Meter;
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::error::RpcError;
use crate::mcp::method::Ask;

/// Our id of one relayed request; also its id and progress token on the server's wire. One
/// counter for the whole process, so that ids of different servers never meet.
pub type CallId = u64;

pub fn next_call_id() -> CallId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A request on its way to a server: the client's own text, and where to change it.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub text: &'a str,
    pub id: Range<usize>,
    /// What else is replaced, removed or inserted, in any order and without overlaps: the
    /// server's own name for something, or what its era wants to be told.
    pub edits: Vec<(Range<usize>, String)>,
    /// The progress token's literal.
    pub progress_token: Option<Range<usize>>,
    /// What measures it at the server.
    pub meter: Option<Arc<Meter>>,
}

/// What comes back for one call. Exactly one `Answer` or `Failed`, and nothing after it.
#[derive(Debug)]
pub enum Reply {
    Answer(Answer),
    Failed(RpcError),
    /// A progress or log notification for the client, as JSON text.
    Notice(Notice),
    /// The server asks the client something.
    Asked(Asked),
    /// The client took its request back, or its session ended: no response.
    Cancelled,
    /// The client answered a question of this call: the server goes on working.
    AskAnswered,
    /// The server takes its question back; `upstream_id` is its raw id.
    AskWithdrawn {
        upstream_id: String,
    },
}

impl Reply {
    /// Bytes that count against the mailbox: those of messages a server may send at will.
    fn loose_bytes(&self) -> usize {
        match self {
            Reply::Notice(notice) => notice.text.len(),
            Reply::Asked(asked) => asked.text.len(),
            _ => 0,
        }
    }
}

/// A server's response line and where its id stands: to be replaced by the client's.
#[derive(Debug)]
pub struct Answer {
    pub line: Vec<u8>,
    pub id: Range<usize>,
    /// The result, or the error object.
    pub payload: Range<usize>,
    pub is_error: bool,
    /// What the answer says, in the words of metrics.
    pub outcome: Outcome,
}

#[derive(Debug)]
pub struct Notice {
    pub text: Vec<u8>,
    /// Set for log messages: their level.
    pub level: Option<crate::mcp::level::Level>,
}

#[derive(Debug)]
pub struct Asked {
    pub ask: Ask,
    /// The server's own id, raw: the answer goes back under it.
    pub upstream_id: String,
    /// The whole request as it came.
    pub text: String,
    /// It belongs to this very call. False when it may belong to another one of the same
    /// session: then it outlives the call on whose stream it is shown.
    pub certain: bool,
}

/// One thing that came back, and for which call.
#[derive(Debug)]
pub struct Mail {
    pub call: CallId,
    pub reply: Reply,
}

/// The queue of one thread that waits for servers. It outlives single calls, hence the call id
/// in `Mail`.
///
/// A crossbeam channel for the messages, and `park` for the wait: the channel's own wait spins
/// and yields before it sleeps, which costs two cores more than it saves (docs/benchmark.md).
pub struct Mailbox {
    sender: MailSender,
    receiver: Receiver<Mail>,
}

/// A mailbox that is made when it is first needed: it is large.
pub type LazyMailbox = LazyCell<Mailbox>;

/// The way into a mailbox; never waits.
#[derive(Clone)]
pub struct MailSender {
    queue: Sender<Mail>,
    owner: Thread,
    /// Of notices and questions that wait.
    bytes: Arc<AtomicUsize>,
}

impl Mailbox {
    /// For the current thread, which alone may wait at it. `calls`: how many may be in flight.
    pub fn new(calls: usize) -> Mailbox {
        let (queue, receiver) = bounded(limits::MAILBOX + calls);
        let bytes = Arc::new(AtomicUsize::new(0));
        let sender = MailSender {
            queue,
            owner: current(),
            bytes,
        };
        Mailbox { sender, receiver }
    }

    pub fn sender(&self) -> &MailSender {
        &self.sender
    }

    /// For `select!`: the channel itself.
    pub fn receiver(&self) -> &Receiver<Mail> {
        &self.receiver
    }

    /// The next mail; `None` when there is none by `deadline`.
    pub fn wait(&self, deadline: Instant) -> Option<Mail> {
        loop {
            if let Ok(mail) = self.receiver.try_recv() {
                let bytes = mail.reply.loose_bytes();
                self.sender.bytes.fetch_sub(bytes, Ordering::Relaxed);
                return Some(mail);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            // Returns early at once if mail came after the look above.
            park_timeout(left);
        }
    }
}

impl MailSender {
    /// False when the queue is full, or nobody will read it any more. Notices and questions are
    /// refused too while `limits::MAILBOX_BYTES` of them wait.
    pub fn post(&self, call: CallId, reply: Reply) -> bool {
        let bytes = reply.loose_bytes();
        let waiting = self.bytes.load(Ordering::Relaxed);
        if bytes > 0 && waiting > 0 && waiting + bytes > limits::MAILBOX_BYTES {
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.queue.try_send(Mail { call, reply }).is_ok();
        if !taken {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.owner.unpark();
        taken
    }

    /// Mail that waits.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
