//! What a replica shows with a request that it passes on: for whom it is, whose it was, when, and
//! for which body, sealed by the shared key together with the head. It is good for one request,
//! for a moment, and a request that carries it is passed on by nobody. It says nothing of who may
//! come in: the token is judged again.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ring::digest;

use crate::base::{limits, sys, time};
use crate::front::streamable::SESSION_HEADER;
use crate::http::{Head, Reply};
use crate::model::place::Here;
use crate::wire::hex;

pub const HEADER: &str = "Onemcp-Hop";
/// Who answers a request that was passed on proves here who he is. It is seen by replicas alone.
pub const NAME_HEADER: &str = "Onemcp-Replica";
/// A replica was asked for what another one has.
pub const MISDIRECTED: u16 = 421;

/// A request that another replica has passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    pub client: IpAddr,
    digest: [u8; 32],
    pub nonce: u128,
}

impl Hop {
    /// The header of a request for the replica `to`, and what its answer must be good for.
    pub fn seal(
        here: &Here,
        to: &str,
        head: &Head<'_>,
        body: &[u8],
        client: IpAddr,
    ) -> (u128, String) {
        let mut nonce = [0; 16];
        sys::random_bytes(&mut nonce);
        let nonce = u128::from_le_bytes(nonce);
        let hash = digest::digest(&digest::SHA256, body);
        let plain = format!(
            "{} {nonce} {client} {} {to}",
            time::unix_s(),
            hex::encode(hash.as_ref()),
        );
        let sealed = here.key.seal(&bound(head), plain.as_bytes());
        (nonce, sealed.unwrap_or_default())
    }

    /// # Errors
    /// The answer to what is not to be believed, or is for another replica.
    pub fn open(here: &Here, shown: &str, head: &Head<'_>) -> Result<Hop, Reply> {
        let foreign = || refusal("no key that replicas share has sealed it for this request");
        let plain = here.key.open(&bound(head), shown).ok_or_else(foreign)?;
        let plain = String::from_utf8(plain).map_err(|_| foreign())?;
        let (sent_s, to, hop) = Hop::read(&plain).ok_or_else(foreign)?;
        if to != here.name {
            let (name, proof) = hop.proof(here);
            return Err(Reply::empty(MISDIRECTED).with(name, proof));
        }
        match time::unix_s().abs_diff(sent_s) {
            apart if apart > limits::REPLICA_CLOCKS_S => Err(refusal(
                "it is too old, or the clocks of the replicas differ",
            )),
            _ => Ok(hop),
        }
    }

    fn read(plain: &str) -> Option<(u64, &str, Hop)> {
        let mut words = plain.splitn(5, ' ');
        let sent_s = words.next()?.parse().ok()?;
        let nonce = words.next()?.parse().ok()?;
        let client = words.next()?.parse().ok()?;
        let digest = hex::decode(words.next()?)?.try_into().ok()?;
        let hop = Hop {
            client,
            digest,
            nonce,
        };
        Some((sent_s, words.next()?, hop))
    }

    /// What the answer shows, so that whoever else listens at an address is not believed.
    pub fn proof(&self, here: &Here) -> (&'static str, String) {
        let sealed = here.key.seal(&answered(self.nonce), here.name.as_bytes());
        (NAME_HEADER, sealed.unwrap_or_default())
    }

    /// Whether it was sealed for this body.
    pub fn is_for(&self, body: &[u8]) -> bool {
        digest::digest(&digest::SHA256, body).as_ref() == self.digest
    }
}

/// The replica that proves by `shown` that it answers the hop of this nonce.
pub fn proven(here: &Here, nonce: u128, shown: &str) -> Option<String> {
    let name = here.key.open(&answered(nonce), shown)?;
    String::from_utf8(name).ok()
}

fn answered(nonce: u128) -> Vec<u8> {
    format!("answer\n{nonce}").into_bytes()
}

/// What must be the same at both ends. No value has a line break in it.
fn bound(head: &Head<'_>) -> Vec<u8> {
    let header = |name| head.header(name).unwrap_or_default();
    let parts = [
        "hop",
        head.method.as_str(),
        head.path,
        head.query.unwrap_or_default(),
        header("Authorization"),
        header(SESSION_HEADER),
    ];
    parts.join("\n").into_bytes()
}

pub fn refusal(why: &str) -> Reply {
    Reply::json(
        403,
        format!("{{\"error\":\"Not accepted from another replica: {why}\"}}"),
    )
}

/// What was shown within the time for which it is good, in two halves of that. Only time makes
/// it forgotten: were there a way to fill it, what was shown would be good once more.
#[derive(Default)]
pub struct Nonces(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    since: Option<Instant>,
    /// In short lists by their last byte: a set of the standard library is ten times the code.
    now: Vec<Vec<u128>>,
    before: Vec<Vec<u128>>,
}

/// What is known of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    New,
    Shown,
    /// No more can be remembered for now.
    Full,
}

const LISTS: usize = 256;

impl Nonces {
    pub fn show(&self, nonce: u128, now: Instant) -> Known {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |since: Instant| now.saturating_duration_since(since) > limits::REPLICA_NONCES;
        if seen.since.is_none_or(is_old) {
            seen.before = std::mem::replace(&mut seen.now, vec![Vec::new(); LISTS]);
            seen.since = Some(now);
        }
        let at = usize::from(nonce.to_le_bytes()[0]);
        let is_in = |lists: &[Vec<u128>]| lists.get(at).is_some_and(|list| list.contains(&nonce));
        if is_in(&seen.before) || is_in(&seen.now) {
            return Known::Shown;
        }
        let list = &mut seen.now[at];
        if list.len() >= limits::REPLICA_NONCES_KEPT / LISTS {
            return Known::Full;
        }
        list.push(nonce);
        Known::New
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{HEADER, Hop, Known, LISTS, NAME_HEADER, Nonces, proven};
    use crate::base::limits;
    use crate::http::{Head, Parsed, no_fields};
    use crate::model::place::{Here, PlaceKey};

    fn here(key: u8, name: &str) -> Here {
        Here {
            key: Arc::new(PlaceKey::new(&[[key; 32]])),
            name: name.to_owned(),
        }
    }

    fn read<T>(text: &str, body: impl FnOnce(&Head<'_>) -> T) -> T {
        let mut fields = no_fields();
        match Head::parse(text.as_bytes(), &mut fields) {
            Parsed::Complete(head) => body(&head),
            other => panic!("{other:?}"),
        }
    }

    const POST: &str = "POST /mcp?a=b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\
        Mcp-Session-Id: s\r\nContent-Length: 2\r\n\r\n";

    #[test]
    fn is_good_for_one_request_to_one_replica() {
        let client: IpAddr = "192.0.2.7".parse().expect("an address");
        let (one, two) = (here(7, "one"), here(7, "two"));
        let (nonce, shown) = read(POST, |head| Hop::seal(&one, "two", head, b"{}", client));
        let opened = |by: &Here, text: &str| {
            let hop = read(text, |head| Hop::open(by, &shown, head));
            hop.map_err(|reply| reply.status)
        };
        let hop = opened(&two, POST).expect("good");
        assert_eq!(hop.client, client);
        assert!(hop.is_for(b"{}") && !hop.is_for(b"[]"));
        let proof = hop.proof(&two).1;
        assert_eq!(proven(&one, nonce, &proof).as_deref(), Some("two"));
        for stranger in [&*hop.proof(&here(8, "two")).1, "two", ""] {
            assert_eq!(proven(&one, nonce, stranger), None);
        }
        assert_eq!(proven(&one, nonce ^ 1, &proof), None);
        // Who was asked in vain says who it is, and is believed as little without proof.
        let third = read(POST, |head| Hop::open(&here(7, "three"), &shown, head));
        let reply = third.expect_err("for another one");
        let (name, said) = &reply.headers[0];
        assert_eq!((reply.status, *name), (421, NAME_HEADER));
        assert_eq!(proven(&one, nonce, said).as_deref(), Some("three"));
        assert_eq!(opened(&one, POST), Err(421));
        assert_eq!(opened(&here(8, "two"), POST), Err(403));
        for (from, to) in [
            ("POST", "GET"),
            ("/mcp?a=b", "/mcp?a=c"),
            ("/mcp?a=b", "/mcp/a?a=b"),
            ("Bearer t", "Bearer u"),
            ("Id: s", "Id: r"),
        ] {
            assert_eq!(opened(&two, &POST.replace(from, to)), Err(403), "{to}");
        }
        assert_eq!(HEADER, "Onemcp-Hop");
    }

    #[test]
    fn what_was_shown_is_known_for_as_long_as_it_is_good() {
        let (nonces, now) = (Nonces::default(), Instant::now());
        assert_eq!(nonces.show(1, now), Known::New);
        assert_eq!(nonces.show(1, now), Known::Shown);
        let later = now + limits::REPLICA_NONCES + Duration::from_secs(1);
        assert_eq!(nonces.show(2, later), Known::New);
        assert_eq!(nonces.show(1, later), Known::Shown);
    }

    #[test]
    fn what_was_shown_is_not_pushed_out_by_many_others() {
        let (nonces, now) = (Nonces::default(), Instant::now());
        let most = limits::REPLICA_NONCES_KEPT / LISTS;
        let nonce = |at: usize| u128::try_from(at * LISTS).expect("small");
        for at in 0..most {
            assert_eq!(nonces.show(nonce(at), now), Known::New);
        }
        assert_eq!(nonces.show(nonce(most), now), Known::Full);
        assert_eq!(nonces.show(nonce(0), now), Known::Shown);
        assert_eq!(nonces.show(1, now), Known::New);
        let later = now + limits::REPLICA_NONCES + Duration::from_secs(1);
        assert_eq!(nonces.show(nonce(most), later), Known::New);
        assert_eq!(nonces.show(nonce(0), later), Known::Shown);
    }
}
