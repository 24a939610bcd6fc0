//! The stderr of servers, each in its own file of one folder. All of them share one ring and one
//! thread; a file that cannot be written costs its own lines only.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::base::limits;
use crate::journal::file::{LogFile, Rotation};
use crate::journal::ring::count_lost;
use crate::wire::hex;

pub struct ServerFiles {
    folder: PathBuf,
    rotation: Rotation,
    files: HashMap<String, Stream>,
}

struct Stream {
    file: LogFile,
    /// After a failure, lines until then are lost.
    refused_until: Option<Instant>,
}

impl ServerFiles {
    pub fn new(folder: PathBuf, rotation: Rotation) -> ServerFiles {
        ServerFiles {
            folder,
            rotation,
            files: HashMap::new(),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn reopen(&mut self) {
        self.files
            .values_mut()
            .for_each(|stream| stream.file.reopen());
    }

    /// A line as it travels through the ring. Without a server it is for all that are open.
    pub fn packed(server: &str, line: &str) -> String {
        let server = server.replace(['\0', '\n'], "_");
        format!("{server}\0{line}")
    }

    /// Writes the first lines, all of one server. Gives their length: they are gone, one way or
    /// the other.
    pub fn write(&mut self, text: &[u8]) -> usize {
        let at = memchr::memchr(0, text).map_or(text.len(), |at| at + 1);
        let prefix = &text[..at];
        let (mut end, mut lines) = (0, Vec::new());
        while let Some(rest) = text[end..].strip_prefix(prefix)
            && lines.len() < limits::LOG_BATCH_BYTES
            && !rest.is_empty()
        {
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            lines.extend_from_slice(&rest[..length]);
            end += prefix.len() + length;
        }
        let server = String::from_utf8_lossy(prefix.strip_suffix(&[0]).unwrap_or(prefix));
        if server.is_empty() {
            self.files
                .values_mut()
                .for_each(|stream| stream.write(&lines));
            return end.max(at);
        }
        // So many servers write seldom: each is opened again when it does.
        if self.files.len() >= limits::SERVER_LOG_FILES && !self.files.contains_key(&*server) {
            self.files.clear();
        }
        let (folder, rotation) = (&self.folder, self.rotation);
        let stream = self
            .files
            .entry(server.into_owned())
            .or_insert_with_key(|server| {
                make_folder(folder);
                Stream {
                    file: LogFile::new(folder.join(file_name(server)), rotation),
                    refused_until: None,
                }
            });
        stream.write(&lines);
        end.max(at)
    }
}

impl Stream {
    fn write(&mut self, lines: &[u8]) {
        if self
            .refused_until
            .is_some_and(|until| Instant::now() < until)
        {
            return count_lost(count(lines));
        }
        let (done, written) = self.write_all(lines);
        match written {
            Ok(()) if self.refused_until.take().is_some() => {
                log::info!("stderr is written again to={:?}", self.file.path());
            }
            Ok(()) => {}
            Err(error) => {
                count_lost(count(&lines[done..]));
                let retry = Instant::now() + limits::LOG_RETRY;
                if self.refused_until.replace(retry).is_none() {
                    log::warn!("stderr not written to={:?}: {error}", self.file.path());
                }
            }
        }
    }

    /// How far it came, and what stopped it.
    fn write_all(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let mut done = 0;
        let deadline = Instant::now() + limits::LOG_RETRY;
        while done < lines.len() {
            match self.file.write(&lines[done..]) {
                Ok(0) if Instant::now() >= deadline => {
                    return (done, Err(ErrorKind::WouldBlock.into()));
                }
                Ok(taken) => done += taken,
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// What comes of it is seen when the file is opened.
fn make_folder(folder: &Path) {
    if let Err(error) = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
    {
        log::debug!("folder not made path={folder:?}: {error}");
    }
}

/// Different servers have different files, none of them outside the folder.
fn file_name(server: &str) -> String {
    let mut name = String::new();
    for (at, byte) in server.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => name.push_str("%2E"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                name.push(char::from(byte));
            }
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > limits::SERVER_LOG_NAME_BYTES {
        // As a digest it is another one for sure.
        let digest = ring::digest::digest(&ring::digest::SHA256, server.as_bytes());
        let digest = hex::encode(&digest.as_ref()[..8]);
        name.truncate(limits::SERVER_LOG_NAME_BYTES);
        name = format!("{name}~{digest}");
    }
    format!("{name}.log")
}

#[cfg(test)]
mod tests {
    use super::{ServerFiles, file_name};
    use crate::base::limits;
    use crate::journal::file::Rotation;
    use crate::journal::ring::lost;

    #[test]
    fn names_stay_in_the_folder_and_apart() {
        assert_eq!(file_name("fs-1.a_B"), "fs-1.a_B.log");
        assert_eq!(file_name("../etc/x"), "%2E.%2Fetc%2Fx.log");
        assert_eq!(file_name("a b"), "a%20b.log");
        let long = "ü".repeat(200);
        let (one, two) = (file_name(&long), file_name(&format!("{long}x")));
        assert!(one != two && one.len() < 255, "{one}");
    }

    #[test]
    fn each_server_has_its_file_and_its_trouble() {
        let name = format!("onemcp-servers-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(folder.join("bad.log")).expect("in the way");
        let rotation = Rotation {
            max_bytes: 0,
            max_files: 5,
        };
        let mut files = ServerFiles::new(folder.clone(), rotation);
        let before = lost();
        let lines = [
            ("a", "one\n"),
            ("bad", "x\n"),
            ("b", "two\n"),
            ("", "all\n"),
        ];
        let text: String = lines
            .iter()
            .map(|(to, line)| ServerFiles::packed(to, line))
            .collect();
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            rest = &rest[files.write(rest)..];
        }
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert_eq!(
            (read("a.log").as_str(), read("b.log").as_str()),
            ("one\nall\n", "two\nall\n")
        );
        assert!(lost() >= before + 2);
        for n in 0..2 * limits::SERVER_LOG_FILES {
            files.write(ServerFiles::packed(&format!("s{n}"), "x\n").as_bytes());
        }
        assert!(files.files.len() <= limits::SERVER_LOG_FILES);
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
