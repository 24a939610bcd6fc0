//! Messages of DNS (RFC 1035), as far as SRV records (RFC 2782) want them. Pure: bytes in, values
//! out. Whatever is not exactly an answer to the question is none.

use crate::base::limits;

const SRV: u16 = 33;
const CNAME: u16 = 5;
const OPT: u16 = 41;
const INTERNET: u16 = 1;
const HEAD_BYTES: usize = 12;
/// Of names in one record, and in a chain of aliases.
const LABELS: usize = 128;
const ALIASES: usize = 8;
/// Stands for each byte of a name that no host name has. One such record does not spoil an answer.
pub const ODD: char = '?';

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// In lower case, without a dot at the end; empty where there decidedly is no service. With
    /// `ODD` in it, it is no host.
    pub target: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// With the shortest life of them, in seconds.
    Records(Vec<Srv>, u32),
    /// There is no such name, or nothing of this kind.
    None,
    /// It does not fit into this one: to be asked over TCP.
    Truncated,
    /// The server could or would not answer.
    Refused(u8),
}

/// The question for SRV records of `name`, which was checked.
pub fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + name.len() + 32);
    bytes.extend(id.to_be_bytes());
    // Recursion is desired; one question, and one additional record.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(SRV.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    // EDNS (RFC 6891): how much may come over UDP without being cut on its way.
    bytes.push(0);
    bytes.extend(OPT.to_be_bytes());
    bytes.extend(limits::DNS_UDP_BYTES.to_be_bytes());
    bytes.extend([0; 6]);
    bytes
}

/// What `bytes` say to the question. `None`: they are no answer to it.
pub fn answer(bytes: &[u8], id: u16, name: &str) -> Option<Answer> {
    let mut reader = Reader { bytes, at: 0 };
    let (own, flags) = (reader.u16()?, reader.u16()?);
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.skip(4)?;
    let is_answer = flags & 0x8000 != 0 && flags & 0x7800 == 0;
    if own != id || !is_answer || questions != 1 {
        return None;
    }
    let asked = reader.name()?;
    if asked != name || reader.u16()? != SRV || reader.u16()? != INTERNET {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Answer::Truncated);
    }
    match flags & 0xf {
        0 => {}
        3 => return Some(Answer::None),
        code => return Some(Answer::Refused(u8::try_from(code).unwrap_or(u8::MAX))),
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        records.push(reader.record()?);
    }
    Some(of_name(name, &records))
}

struct Record {
    owner: String,
    ttl_s: u32,
    data: Data,
}

enum Data {
    Srv(Srv),
    Alias(String),
    Other,
}

/// The records of the name itself, or of what it is an alias of.
fn of_name(name: &str, records: &[Record]) -> Answer {
    let mut name = name;
    let mut ttl_s = u32::MAX;
    for _ in 0..ALIASES {
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(to) if record.owner == name => Some((to, record.ttl_s)),
            _ => None,
        });
        let Some((to, life_s)) = alias else {
            break;
        };
        (name, ttl_s) = (to, ttl_s.min(life_s));
    }
    let mut found = Vec::new();
    for record in records.iter().filter(|record| record.owner == name) {
        if let Data::Srv(srv) = &record.data {
            ttl_s = ttl_s.min(record.ttl_s);
            found.push(srv.clone());
        }
    }
    match found.is_empty() {
        true => Answer::None,
        false => Answer::Records(found, ttl_s),
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn record(&mut self) -> Option<Record> {
        let owner = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl_s = self.u32()?;
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length)?;
        if end > self.bytes.len() {
            return None;
        }
        let data = match kind {
            SRV if class == INTERNET => Data::Srv(Srv {
                priority: self.u16()?,
                weight: self.u16()?,
                port: self.u16()?,
                target: self.name()?,
            }),
            CNAME if class == INTERNET => Data::Alias(self.name()?),
            _ => {
                self.at = end;
                Data::Other
            }
        };
        (self.at == end).then_some(Record { owner, ttl_s, data })
    }

    /// Lower case. A part that stands elsewhere must stand before: no circle can be closed.
    fn name(&mut self) -> Option<String> {
        let mut text = String::new();
        let (mut at, mut end, mut floor) = (self.at, None, self.at);
        for _ in 0..LABELS {
            let length = usize::from(*self.bytes.get(at)?);
            if length & 0xc0 == 0xc0 {
                let low = usize::from(*self.bytes.get(at + 1)?);
                let to = (length & 0x3f) << 8 | low;
                if to >= floor {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, floor) = (to, to);
                continue;
            }
            at += 1;
            if length == 0 {
                self.at = end.unwrap_or(at);
                return Some(text);
            }
            let label = self.bytes.get(at..at.checked_add(length)?)?;
            at += length;
            if length > 63 {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| match byte {
                b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' => char::from(*byte),
                b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
                _ => ODD,
            }));
            if text.len() > limits::DNS_NAME_BYTES {
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Srv, answer, question};

    const NAME: &str = "_mcp._tcp.example.com";

    fn head(flags: u16, answers: u16) -> Vec<u8> {
        let mut bytes = question(7, NAME);
        bytes.truncate(bytes.len() - 11);
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&answers.to_be_bytes());
        bytes[11] = 0;
        bytes
    }

    /// `owner` and `target` are as they stand on the wire.
    fn srv(owner: &[u8], ttl: u32, port: u16, target: &[u8]) -> Vec<u8> {
        let mut bytes = owner.to_vec();
        bytes.extend([0, 33, 0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend(u16::try_from(6 + target.len()).unwrap().to_be_bytes());
        bytes.extend([0, 1, 0, 2]);
        bytes.extend(port.to_be_bytes());
        bytes.extend(target);
        bytes
    }

    /// "example.com" begins at 12 + "_mcp" and "_tcp" with their lengths.
    const OWNER: &[u8] = &[0xc0, 12];
    const FILES: &[u8] = b"\x05FILES\xc0\x16";

    fn good() -> Vec<u8> {
        let mut bytes = head(0x8180, 2);
        bytes.extend(srv(OWNER, 300, 8080, FILES));
        bytes.extend(srv(OWNER, 60, 443, b"\x01x\x03org\x00"));
        bytes
    }

    #[test]
    fn records_are_read_with_their_shortest_life() {
        let srv = |port, target: &str| Srv {
            priority: 1,
            weight: 2,
            port,
            target: target.to_owned(),
        };
        let expect = vec![srv(8080, "files.example.com"), srv(443, "x.org")];
        let found = answer(&good(), 7, NAME);
        assert_eq!(found, Some(Answer::Records(expect, 60)));
    }

    #[test]
    fn an_alias_is_followed() {
        let mut bytes = head(0x8180, 2);
        bytes.extend(OWNER);
        bytes.extend([0, 5, 0, 1, 0, 0, 0, 9, 0, 7]);
        bytes.extend(b"\x01b\x03org\x00");
        bytes.extend(srv(b"\x01b\x03org\x00", 300, 1, b"\x01t\x00"));
        match answer(&bytes, 7, NAME) {
            Some(Answer::Records(found, 9)) => assert_eq!(found[0].target, "t"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_odd_name_spoils_no_other_record() {
        let mut bytes = head(0x8180, 4);
        bytes.extend(srv(OWNER, 300, 1, b"\x05a /.\xff\x00"));
        bytes.extend(srv(b"\x03a b\x00", 300, 2, FILES));
        bytes.extend(b"\x03c d\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x05\x03e:f\x00");
        bytes.extend(srv(OWNER, 300, 3, FILES));
        let Some(Answer::Records(found, 300)) = answer(&bytes, 7, NAME) else {
            panic!("no answer");
        };
        let targets: Vec<&str> = found.iter().map(|srv| srv.target.as_str()).collect();
        assert_eq!(targets, ["a????", "files.example.com"]);
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_none() {
        assert_eq!(answer(&good(), 8, NAME), None);
        assert_eq!(answer(&good(), 7, "_mcp._tcp.example.org"), None);
        assert_eq!(answer(&head(0x0100, 0), 7, NAME), None);
        assert_eq!(answer(&head(0x8180, 0), 7, NAME), Some(Answer::None));
        assert_eq!(answer(&head(0x8183, 0), 7, NAME), Some(Answer::None));
        assert_eq!(answer(&head(0x8380, 0), 7, NAME), Some(Answer::Truncated));
        assert_eq!(answer(&head(0x8182, 0), 7, NAME), Some(Answer::Refused(2)));
        // A record of another name, a name that leads to itself, one that leads ahead.
        let with = |record: Vec<u8>| [head(0x8180, 1), record].concat();
        let other = with(srv(b"\x01b\x00", 1, 1, FILES));
        assert_eq!(answer(&other, 7, NAME), Some(Answer::None));
        let at = u8::try_from(head(0, 0).len()).unwrap();
        assert_eq!(answer(&with(srv(&[0xc0, at], 1, 1, FILES)), 7, NAME), None);
        assert_eq!(
            answer(&with(srv(&[0xc0, 0xff], 1, 1, FILES)), 7, NAME),
            None
        );
        // More announced than there is.
        assert_eq!(answer(&head(0x8180, 1), 7, NAME), None);
    }

    #[test]
    fn whatever_comes_it_is_read_or_not() {
        let good = good();
        for end in 0..good.len() {
            assert_eq!(answer(&good[..end], 7, NAME), None, "{end}");
        }
        let mut seed = 1_u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap()
        };
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() % bytes.len();
                bytes[at] = u8::try_from(next() % 256).unwrap();
            }
            // To come back at all is what is asked for.
            let _ = answer(&bytes, 7, NAME);
        }
    }
}
