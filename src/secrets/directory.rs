//! Secrets as files: one folder, one file for each, as Docker, Kubernetes and systemd mount them.
//! Links are followed, because Kubernetes swaps `..data`; what is read is a regular file, bounded.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::base::limits;
use crate::secrets::answer::Answer;

pub fn ask(folder: &Path, name: &str) -> Answer {
    let path = folder.join(name);
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound && !folder.is_dir() => {
            return Answer::Absent("no such folder".into());
        }
        Err(error) if is_absence(error.kind()) => {
            return Answer::Absent("no such file".into());
        }
        // A link that leads nowhere is a swap that is under way, or a mistake.
        _ => {}
    }
    match read(&path) {
        Ok(value) => Answer::Found(value),
        Err(why) => Answer::Trouble(why),
    }
}

fn is_absence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The text of one file, without its last line break.
///
/// # Errors
/// Why it holds no secret. The text names no path: the caller knows it.
pub fn read(path: &Path) -> Result<String, String> {
    // A pipe in its place must not keep the reader waiting.
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let flags = i32::try_from(flags).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| error.to_string())?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let most = limits::SECRET_BYTES;
    let read = file.take(most as u64 + 3).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    value(bytes)
}

/// Bytes from a file, a pipe or a command as the value of a secret.
///
/// # Errors
/// Why they cannot be one.
pub fn value(bytes: Vec<u8>) -> Result<String, String> {
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    check(&text)?;
    Ok(text)
}

/// # Errors
/// Why this cannot be the value of a secret.
pub fn check(text: &str) -> Result<(), String> {
    match text {
        "" => Err("it is empty".into()),
        text if text.len() > limits::SECRET_BYTES => {
            Err(format!("it is longer than {} bytes", limits::SECRET_BYTES))
        }
        text if text.contains('\0') => Err("it holds a NUL character".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::ask;
    use crate::base::limits;
    use crate::secrets::answer::Answer;
    use crate::secrets::store::testing::Folder;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn found(text: &str) -> Answer {
        Answer::Found(text.into())
    }

    #[test]
    fn files_are_read_whole_and_without_their_last_line_break() {
        let folder = Folder::new("directory-read");
        let check = |content: &[u8], expect: &str| {
            fs::write(folder.path("key"), content).unwrap();
            assert_eq!(ask(&folder.0, "key"), found(expect), "{content:?}");
        };
        check(b"value", "value");
        check(b"value\n", "value");
        check(b"value\r\n", "value");
        check(b"two\nlines\n\n", "two\nlines\n");
        check(b" spaces ", " spaces ");
        let most = "x".repeat(limits::SECRET_BYTES);
        check(format!("{most}\n").as_bytes(), &most);
    }

    #[test]
    fn what_is_no_secret_is_said_and_hides_nothing_behind_it() {
        let folder = Folder::new("directory-trouble");
        let trouble = |content: &[u8]| {
            fs::write(folder.path("key"), content).unwrap();
            let answer = ask(&folder.0, "key");
            assert!(matches!(answer, Answer::Trouble(_)), "{answer:?}");
        };
        trouble(b"");
        trouble(b"\n");
        trouble(b"a\0b");
        trouble(b"\xff\xfe");
        trouble(&vec![b'x'; limits::SECRET_BYTES + 1]);
        fs::create_dir(folder.path("folder")).unwrap();
        assert!(matches!(ask(&folder.0, "folder"), Answer::Trouble(_)));
        symlink("nowhere", folder.path("link")).unwrap();
        assert!(matches!(ask(&folder.0, "link"), Answer::Trouble(_)));
        let pipe = folder.path("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(ask(&folder.0, "pipe"), Answer::Trouble(_)));
    }

    #[test]
    fn absence_is_told_from_a_missing_folder() {
        let folder = Folder::new("directory-absent");
        let absent = |why: &str| Answer::Absent(why.into());
        assert_eq!(ask(&folder.0, "key"), absent("no such file"));
        assert_eq!(ask(&folder.path("none"), "key"), absent("no such folder"));
    }

    /// As Kubernetes mounts a Secret.
    #[test]
    fn a_swap_of_the_data_link_is_followed() {
        let folder = Folder::new("directory-swap");
        for (version, text) in [("..one", "old"), ("..two", "new")] {
            fs::create_dir(folder.path(version)).unwrap();
            fs::write(folder.path(version).join("key"), text).unwrap();
        }
        symlink("..one", folder.path("..data")).unwrap();
        symlink("..data/key", folder.path("key")).unwrap();
        assert_eq!(ask(&folder.0, "key"), found("old"));
        symlink("..two", folder.path("..tmp")).unwrap();
        fs::rename(folder.path("..tmp"), folder.path("..data")).unwrap();
        assert_eq!(ask(&folder.0, "key"), found("new"));
    }
}
