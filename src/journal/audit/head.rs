//! Where an audit log ended: its last line, signed, in a file beside it, so that an end which was
//! cut off is missed. Written by the thread of the file; read at the start and by the judge.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use crate::base::limits;
use crate::journal::audit::chain::CODE;
use crate::journal::file::aside;
use crate::wire::hex;

const BEGIN: &str = "onemcp audit-head/1";

/// The log goes at least as far as this line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub boot: String,
    /// 0 before the first line of all; then there is no code.
    pub seq: u64,
    pub mac: String,
}

/// Where it is kept.
pub fn path(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".head");
    name.into()
}

/// What its file holds.
pub fn text(signer: &Ed25519KeyPair, boot: &str, seq: u64, mac: &str) -> String {
    let mut text = format!("{BEGIN} {boot} {seq} {mac}");
    let signature = signer.sign(text.as_bytes());
    text.push(' ');
    text.push_str(&hex::encode(signature.as_ref()));
    text.push('\n');
    text
}

/// The one of a log, if there is any.
///
/// # Errors
/// Why nobody can rely on it.
pub fn read(log: &Path, public: &[u8]) -> Result<Option<Head>, String> {
    let text = match fs::read(path(log)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = String::from_utf8_lossy(&text);
    let head = parsed(text.trim_end(), public);
    head.map(Some)
        .ok_or_else(|| "is not as it was written".to_owned())
}

fn parsed(text: &str, public: &[u8]) -> Option<Head> {
    let (said, signature) = text.rsplit_once(' ')?;
    let signature = hex::decode(signature)?;
    let key = UnparsedPublicKey::new(&ED25519, public);
    key.verify(said.as_bytes(), &signature).ok()?;
    let mut words = said.strip_prefix(BEGIN)?.split(' ').skip(1);
    Some(Head {
        boot: words.next()?.to_owned(),
        seq: words.next()?.parse().ok()?,
        mac: words.next()?.to_owned(),
    })
}

impl Head {
    /// Whether the log has a line with its code, looked for from the end backwards; whether that
    /// line is good is for the judge.
    pub fn is_in(&self, log: &Path) -> bool {
        let code = [CODE, &self.mac].concat();
        let mut room = limits::AUDIT_LOOK_BYTES;
        let older = (1..).map(|number| aside(log, number));
        let mut files =
            std::iter::once(log.to_owned()).chain(older.take_while(|path| path.exists()));
        self.seq == 0 || files.any(|path| holds(&path, &code, &mut room))
    }
}

fn holds(path: &Path, code: &str, room: &mut u64) -> bool {
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    let mut end = file.metadata().map_or(0, |file| file.len());
    let mut text = Vec::new();
    while end > 0 && *room > 0 {
        let start = end.saturating_sub(limits::AUDIT_HURRY_BYTES as u64);
        *room = room.saturating_sub(end - start);
        text.clear();
        // With the beginning of what was read before: the code may lie across both.
        let length = end - start + code.len() as u64;
        let sought = file.seek(SeekFrom::Start(start));
        if sought.is_err() || (&file).take(length).read_to_end(&mut text).is_err() {
            return false;
        }
        if memchr::memmem::find(&text, code.as_bytes()).is_some() {
            return true;
        }
        end = start;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Head, holds, parsed, text};
    use crate::base::limits;
    use crate::journal::audit::chain::{CODE, Keys};

    #[test]
    fn a_head_is_taken_as_it_was_signed_and_in_no_other_way() {
        use ring::signature::KeyPair;
        let keys = Keys::of(b"a secret of at least 32 bytes, or more").expect("a key");
        let public = keys.signer.public_key().as_ref();
        let good = text(&keys.signer, "0123456789abcdef", 7, "ab");
        let head = Head {
            boot: "0123456789abcdef".to_owned(),
            seq: 7,
            mac: "ab".to_owned(),
        };
        assert_eq!(parsed(good.trim_end(), public), Some(head));
        for at in 0..good.len() - 1 {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            let bad = String::from_utf8_lossy(&bad);
            assert_eq!(parsed(bad.trim_end(), public), None, "{at}");
        }
        let nothing = text(&keys.signer, "-", 0, "-");
        assert_eq!(
            parsed(nothing.trim_end(), public).map(|head| head.seq),
            Some(0)
        );
        assert_eq!(parsed(good.trim_end(), &[0; 32]), None);
        assert_eq!(parsed("", public), None);
    }

    #[test]
    fn a_code_is_found_wherever_it_lies() {
        let path = std::env::temp_dir().join(format!("onemcp-head-{}", std::process::id()));
        let code = format!("{CODE}{}", "7".repeat(64));
        let part = limits::AUDIT_HURRY_BYTES;
        for (before, after) in [(0, 0), (3 * part, 10), (10, part - 20), (10, 2 * part)] {
            let text = ["x".repeat(before), code.clone(), "y".repeat(after)].concat();
            fs::write(&path, text).expect("written");
            let mut room = limits::AUDIT_LOOK_BYTES;
            assert!(holds(&path, &code, &mut room), "{before} {after}");
            assert!(!holds(&path, "nosuch", &mut room));
        }
        let mut room = 1;
        assert!(!holds(&path, &code, &mut room));
        fs::remove_file(&path).expect("removed");
    }
}
