//! The key of the sealed file: 32 random bytes as text, and where it comes from: a file, the
//! variable `ONE_MCP_SECRETS_KEY`, or the systemd credential `onemcp-secrets-key`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

use crate::base::{mask, sys};
use crate::secrets::directory;
use crate::wire::base64;
use crate::wire::hex;

/// Not a setting: a key does not belong on a command line.
pub const VARIABLE: &str = "ONE_MCP_SECRETS_KEY";
pub const CREDENTIAL: &str = "onemcp-secrets-key";

pub const KEY_BYTES: usize = 32;

#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl Key {
    pub fn random() -> Key {
        let mut bytes = [0; KEY_BYTES];
        sys::random_bytes(&mut bytes);
        Key(bytes)
    }

    /// Base64 of either alphabet, with or without padding, or 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Key> {
        let text = text.trim();
        let bytes = match text.len() {
            64 => hexadecimal(text)?,
            _ => {
                let url = text
                    .trim_end_matches('=')
                    .replace('+', "-")
                    .replace('/', "_");
                base64::decode_url(url.as_bytes())?
            }
        };
        mask::learn(text);
        Some(Key(bytes.try_into().ok()?))
    }

    /// As it is written to files; the caller keeps it secret.
    pub fn text(&self) -> String {
        base64::encode_url(&self.0)
    }

    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Tells keys apart, and nothing about them.
    pub fn id(&self) -> String {
        let text = [b"onemcp key id\0".as_slice(), &self.0].concat();
        let hash = digest(&SHA256, &text);
        hex::encode(&hash.as_ref()[..6])
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| (0..64).step_by(2).map(digit).collect())?
}

/// Where the key is looked for, in this order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeySource {
    pub file: Option<PathBuf>,
    /// The text of the variable.
    pub variable: Option<String>,
    pub credential: Option<PathBuf>,
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource")
            .field("file", &self.file)
            .field("variable", &self.variable.as_ref().map(|_| "***"))
            .field("credential", &self.credential)
            .finish()
    }
}

impl KeySource {
    pub fn new(file: Option<PathBuf>, variables: &BTreeMap<String, String>) -> KeySource {
        let given = |name: &str| variables.get(name).filter(|text| !text.is_empty());
        KeySource {
            file,
            variable: given(VARIABLE).cloned(),
            credential: given("CREDENTIALS_DIRECTORY").map(|at| Path::new(at).join(CREDENTIAL)),
        }
    }

    /// # Errors
    /// Why there is no key, and what to do.
    pub fn read(&self) -> Result<Key, String> {
        if let Some(path) = &self.file {
            return read_file(path);
        }
        if let Some(text) = &self.variable {
            return Key::parse(text).ok_or_else(|| format!("{VARIABLE} {WRONG}"));
        }
        match &self.credential {
            Some(path) if path.exists() => read_file(path),
            _ => Err(format!(
                "there is no key; make one with onemcp secret key FILE and give it as \
                 --secrets-key-file FILE, or set {VARIABLE}"
            )),
        }
    }

    /// The file that holds it, if one does.
    pub fn path(&self) -> Option<&Path> {
        match (&self.file, &self.variable) {
            (Some(file), _) => Some(file),
            (None, Some(_)) => None,
            (None, None) => self.credential.as_deref(),
        }
    }
}

const WRONG: &str = "holds no key: it must be 32 bytes as base64 or as 64 hexadecimal digits; \
                     make one with onemcp secret key";

fn read_file(path: &Path) -> Result<Key, String> {
    let shown = path.display();
    let text = directory::read(path)
        .map_err(|why| format!("failed to read the key file {shown}: {why}"))?;
    Key::parse(&text).ok_or_else(|| format!("{shown} {WRONG}"))
}

#[cfg(test)]
mod tests {
    use super::{CREDENTIAL, Key, KeySource, VARIABLE};
    use crate::secrets::store::testing::{Folder, variables};

    #[test]
    fn a_key_is_32_bytes_in_any_usual_spelling() {
        let key = Key::parse(&"ab".repeat(32)).unwrap();
        for text in [
            key.text(),
            format!("{}=\n", key.text()),
            key.text().replace('-', "+").replace('_', "/"),
            "AB".repeat(32),
        ] {
            assert_eq!(Key::parse(&text), Some(key.clone()), "{text}");
        }
        for text in [
            "",
            "password",
            &"a".repeat(42),
            &"a".repeat(44),
            &"zz".repeat(32),
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
        assert_ne!(Key::random(), Key::random());
        assert_ne!(Key::random().id(), Key::random().id());
        assert!(!format!("{key:?}").contains(&key.text()));
    }

    #[test]
    fn it_comes_from_the_file_then_the_variable_then_the_credential() {
        let folder = Folder::new("key");
        let (one, two, three) = (Key::random(), Key::random(), Key::random());
        std::fs::write(folder.path("key"), one.text()).unwrap();
        std::fs::write(folder.path(CREDENTIAL), three.text()).unwrap();
        let place = folder.0.to_str().unwrap();
        let text = two.text();
        let all = variables(&[(VARIABLE, &text), ("CREDENTIALS_DIRECTORY", place)]);
        let credential = variables(&[("CREDENTIALS_DIRECTORY", place)]);
        let file = Some(folder.path("key"));
        assert_eq!(KeySource::new(file.clone(), &all).read(), Ok(one));
        assert_eq!(KeySource::new(None, &all).read(), Ok(two));
        assert_eq!(KeySource::new(None, &credential).read(), Ok(three));
        let nowhere = KeySource::default().read().unwrap_err();
        assert!(nowhere.contains("onemcp secret key"), "{nowhere}");
        let bad = variables(&[(VARIABLE, "hunter2")]);
        let error = KeySource::new(None, &bad).read().unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(!format!("{:?}", KeySource::new(None, &bad)).contains("hunter2"));
        std::fs::remove_file(folder.path("key")).unwrap();
        assert!(
            KeySource::new(file, &all).read().is_err(),
            "the file was asked for"
        );
    }
}
