//! What makes the audit log one chain: each line carries the code of the line before and its own,
//! made with a key that is good for one line, and every so often a checkpoint signs how many
//! there were and their sum. Pure. docs/audit-events.md says what that proves and what it cannot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::base::time;
use crate::journal::audit::event::Event;
use crate::journal::audit::head;
use crate::journal::audit::line::{push_number, push_text, push_thousandths};
use crate::wire::hex;

/// What stands before the time in each line.
pub const BEGIN: &str = "{\"schema\":\"audit/1\",\"ts\":\"";
/// What stands before the code of a line, and behind it.
pub const CODE: &str = ",\"mac\":\"";
pub const END: &str = "\"}\n";
/// What stands before a signature; it is of what stands before that.
pub const SIGNATURE: &str = ",\"sig\":\"";

const CHAIN: &[u8] = b"onemcp audit/1 chain";
const SIGN: &[u8] = b"onemcp audit/1 sign";
const MARK: &[u8] = b"onemcp audit/1 mark";

pub type Key = [u8; 32];

/// All that is made of the one secret.
pub struct Keys {
    chain: Key,
    pub signer: Ed25519KeyPair,
    /// For what must be recognised without being told, such as the ids of sessions.
    pub mark: hmac::Key,
}

impl Keys {
    /// `None` when no key can be made of it.
    pub fn of(secret: &[u8]) -> Option<Keys> {
        let master = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let made = |purpose: &[u8]| key_of(hmac::sign(&master, purpose).as_ref());
        Some(Keys {
            chain: made(CHAIN),
            signer: Ed25519KeyPair::from_seed_unchecked(&made(SIGN)).ok()?,
            mark: hmac::Key::new(hmac::HMAC_SHA256, &made(MARK)),
        })
    }

    /// The key of the first line of a run.
    pub fn first(&self, boot: &str) -> Key {
        let chain = hmac::Key::new(hmac::HMAC_SHA256, &self.chain);
        key_of(hmac::sign(&chain, boot.as_bytes()).as_ref())
    }

    /// What signatures are checked with.
    pub fn public(&self) -> String {
        hex::encode(self.signer.public_key().as_ref())
    }
}

fn key_of(bytes: &[u8]) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&bytes[..32]);
    key
}

/// The key of the next line; the one before cannot be found from it.
pub fn next_key(key: &Key) -> Key {
    key_of(digest::digest(&digest::SHA256, key).as_ref())
}

/// The digest of a line: `text` is all of it that stands before [`CODE`].
pub fn digest_of(text: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, text)
}

/// HMAC-SHA256 of the digest of a line. The text is read once, for the sum needs the digest too.
/// Written out, because a key that is good for one line is not worth preparing.
pub fn code(key: &Key, line: &digest::Digest) -> digest::Digest {
    let padded = |pad: u64, text: &digest::Digest| {
        let mut block = [0; 96];
        let (words, _) = block.as_chunks_mut::<8>();
        let of_key = key.as_chunks::<8>().0.iter();
        let of_key = of_key.map(|word| u64::from_ne_bytes(*word));
        for (word, of_key) in words.iter_mut().zip(of_key.chain([0; 4])) {
            *word = (of_key ^ pad).to_ne_bytes();
        }
        block[64..].copy_from_slice(text.as_ref());
        digest::digest(&digest::SHA256, &block)
    };
    let inner = padded(0x3636_3636_3636_3636, line);
    padded(0x5c5c_5c5c_5c5c_5c5c, &inner)
}

/// What the id of a session is known by in the lines of this key.
pub fn mark(key: &hmac::Key, session: &str) -> [u8; 6] {
    let mut short = [0; 6];
    short.copy_from_slice(&hmac::sign(key, session.as_bytes()).as_ref()[..6]);
    short
}

/// When something happened: milliseconds of the calendar and of the process.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub unix_ms: u64,
    pub mono_ms: u64,
}

/// The writer's end of the chain.
pub struct Chain {
    key: Key,
    signer: Ed25519KeyPair,
    /// The code of the line before.
    head: Vec<u8>,
    pub seq: u64,
    /// Lines since the last checkpoint, that one included, and the sum of their digests.
    pub unsigned: u64,
    sum: digest::Context,
    /// What stands between the number and the event in each line of this run.
    run: Vec<u8>,
    /// The second that was written last, and the beginning of its lines.
    second: (u64, String),
}

impl Chain {
    /// `before`: the code of the last line of the log that this one goes on with, or nothing.
    pub fn new(keys: Keys, boot: &str, instance: &str, before: String) -> Chain {
        let mut run = format!(",\"boot\":\"{boot}\",\"inst\":").into_bytes();
        push_text(&mut run, instance, 128);
        run.extend_from_slice(concat!(",\"ver\":\"", env!("CARGO_PKG_VERSION"), "\",").as_bytes());
        Chain {
            key: keys.first(boot),
            signer: keys.signer,
            head: before.into_bytes(),
            seq: 0,
            unsigned: 0,
            sum: digest::Context::new(&digest::SHA256),
            run,
            second: (u64::MAX, String::new()),
        }
    }

    /// Makes a whole line of the members of an event, and adds it to `out`.
    pub fn seal(&mut self, at: Moment, body: &[u8], out: &mut Vec<u8>) {
        self.seal_with(at, out, |out| out.extend_from_slice(body));
    }

    /// The same of members that `body` adds.
    pub fn seal_with(&mut self, at: Moment, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        self.begin(at, out);
        body(out);
        self.end(start, out);
    }

    /// The same with a count and a sum that are signed. `event` is a checkpoint or the end.
    pub fn sign(&mut self, at: Moment, event: Event, out: &mut Vec<u8>) {
        let start = out.len();
        self.begin(at, out);
        let sum = std::mem::replace(&mut self.sum, digest::Context::new(&digest::SHA256));
        out.extend_from_slice(b"\"event\":\"");
        out.extend_from_slice(event.as_str().as_bytes());
        out.extend_from_slice(b"\",\"outcome\":\"ok\",\"count\":");
        push_number(out, std::mem::take(&mut self.unsigned));
        out.extend_from_slice(b",\"sum\":\"");
        hex::push(out, sum.finish().as_ref());
        out.push(b'"');
        let signature = self.signer.sign(&[&out[start..], &self.head].concat());
        out.extend_from_slice(SIGNATURE.as_bytes());
        hex::push(out, signature.as_ref());
        out.push(b'"');
        self.end(start, out);
    }

    fn begin(&mut self, at: Moment, out: &mut Vec<u8>) {
        self.seq += 1;
        out.extend_from_slice(self.second(at.unix_ms / 1000).as_bytes());
        push_thousandths(out, at.unix_ms % 1000);
        out.extend_from_slice(b"Z\",\"mono\":");
        push_number(out, at.mono_ms);
        out.extend_from_slice(b",\"seq\":");
        push_number(out, self.seq);
        out.extend_from_slice(&self.run);
    }

    fn end(&mut self, start: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"prev\":\"");
        out.extend_from_slice(&self.head);
        out.push(b'"');
        let digest = digest_of(&out[start..]);
        let tag = code(&self.key, &digest);
        self.key = next_key(&self.key);
        self.head.clear();
        hex::push(&mut self.head, tag.as_ref());
        out.extend_from_slice(CODE.as_bytes());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(END.as_bytes());
        self.sum.update(digest.as_ref());
        self.unsigned += 1;
    }

    /// Where it stands, signed: what is kept beside the log.
    pub fn stand(&self, boot: &str) -> String {
        head::text(
            &self.signer,
            boot,
            self.seq,
            &String::from_utf8_lossy(&self.head),
        )
    }

    /// As far as the second.
    fn second(&mut self, unix_s: u64) -> &str {
        if self.second.0 != unix_s {
            let mut text = BEGIN.to_owned() + &time::rfc3339_of_s(unix_s);
            text.truncate(BEGIN.len() + "2026-11-22T12:00:00".len());
            self.second = (unix_s, text);
        }
        &self.second.1
    }
}

impl Moment {
    /// When the process was so old: told from now, for no clock changes between.
    pub fn at(self, mono_ms: u64) -> Moment {
        let since = self.mono_ms.saturating_sub(mono_ms);
        Moment {
            unix_ms: self.unix_ms.saturating_sub(since),
            mono_ms,
        }
    }
}

/// Now, `began` being the start of the run.
pub fn now(began: std::time::Instant) -> Moment {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Moment {
        unix_ms: ms(unix.unwrap_or_default()),
        mono_ms: ms(began.elapsed()),
    }
}
