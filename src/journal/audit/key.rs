//! The one secret behind the chain: read from its file, or made in the state directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::base::{limits, sys};
use crate::journal::audit::chain::Keys;
use crate::secrets::private;
use crate::wire::hex;

/// Where it is when nobody says otherwise, in the state directory.
pub const FILE: &str = "audit.key";

/// # Errors
/// What is wrong with the file, behind its path.
pub fn read(path: &Path) -> Result<Keys, String> {
    let told = |what: String| format!("{}: {what}", path.display());
    let mut file = File::open(path).map_err(|error| told(error.to_string()))?;
    // Who has it makes a log that verifies.
    private::check(&file, path).map_err(told)?;
    let mut text = Vec::new();
    let read = file.read_to_end(&mut text);
    read.map_err(|error| told(error.to_string()))?;
    let secret = text.trim_ascii();
    if secret.len() < limits::AUDIT_KEY_BYTES {
        let least = limits::AUDIT_KEY_BYTES;
        let what = format!("holds {} bytes; a key has at least {least}", secret.len());
        return Err(told(what));
    }
    Keys::of(secret).ok_or_else(|| told("no key can be made of it".to_owned()))
}

/// The same; where there is none yet, one is made.
///
/// # Errors
/// As `read`, and when it cannot be written.
pub fn read_or_make(path: &Path) -> Result<Keys, String> {
    match make(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(format!("{}: {error}", path.display()))
        }
        _ => read(path),
    }
}

fn make(path: &Path) -> io::Result<()> {
    let mut secret = [0; limits::AUDIT_KEY_BYTES];
    sys::random_bytes(&mut secret);
    // Under another name first: a half-written key would be taken for one.
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    let written = writeln!(file, "{}", hex::encode(&secret)).and_then(|()| file.sync_all());
    let made = written.and_then(|()| fs::hard_link(&new, path));
    let _ = fs::remove_file(&new);
    made
}
