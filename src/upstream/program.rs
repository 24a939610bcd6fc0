//! From a command's name to the file that is run, and what to say when there is none.
//!
//! Done before the fork, so that the answer names the cause: after it, exec has one number for
//! a missing program, a missing interpreter and a missing directory. Runs in the thread that
//! owns the server. Deliberately absent: a shell, aliases, and the gateway's own `PATH`.

use std::fmt;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Access;

/// Where programs are looked for when the server's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why a server could not be started. Its text never holds arguments or values of the
/// environment, which may be secret.
#[derive(Debug, PartialEq, Eq)]
pub struct SpawnError {
    pub program: String,
    pub cause: Cause,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Cause {
    Empty,
    NotOnPath {
        path: String,
    },
    NoSuchFile {
        file: PathBuf,
    },
    NotExecutable {
        file: PathBuf,
    },
    NoInterpreter {
        file: PathBuf,
        interpreter: Option<String>,
    },
    NotAProgram {
        file: PathBuf,
    },
    NoDirectory {
        directory: PathBuf,
        reason: String,
    },
    BadArgument,
    BadVariable {
        name: String,
    },
    TooLong,
    NoProcess {
        reason: String,
    },
    NoFiles,
    System {
        reason: String,
    },
}

impl std::error::Error for SpawnError {}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {:?}: {}", self.program, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Empty => f.write_str("the name is empty; give the program as \"command\""),
            Cause::NotOnPath { path } => write!(
                f,
                "not found on PATH; install it, give its full path as \"command\", or set \
                 \"env\": {{\"PATH\": ...}} for this server (searched: {path})"
            ),
            Cause::NoSuchFile { file } => {
                write!(
                    f,
                    "there is no file {}; correct \"command\" or install it",
                    file.display()
                )
            }
            Cause::NotExecutable { file } => write!(
                f,
                "permission denied for {0}; make it a file that may be executed (chmod +x {0}), \
                 on a disk that is not mounted noexec",
                file.display()
            ),
            Cause::NoInterpreter { file, interpreter } => {
                no_interpreter(f, file, interpreter.as_deref())
            }
            Cause::NotAProgram { file } => write!(
                f,
                "{} is not a program for this machine; check its architecture, or start a \
                 script with a first line like #!/bin/sh",
                file.display()
            ),
            Cause::NoDirectory { directory, reason } => write!(
                f,
                "its working directory {} cannot be used: {reason}; create it or correct \"cwd\"",
                directory.display()
            ),
            Cause::BadArgument => f.write_str("\"command\" or \"args\" hold a NUL byte; remove it"),
            Cause::BadVariable { name } => write!(
                f,
                "the variable {name:?} in \"env\" cannot be set: a name is not empty and has no \
                 '=', and neither name nor value has a NUL byte"
            ),
            Cause::TooLong => f.write_str(
                "\"args\" and \"env\" together are too long for the system; shorten them",
            ),
            Cause::NoProcess { reason } => write!(
                f,
                "the system refuses another process: {reason}; raise the limit of processes \
                 (ulimit -u, pids.max, TasksMax) or free memory"
            ),
            Cause::NoFiles => f.write_str(
                "no file descriptor is left; raise the limit of open files (ulimit -n, \
                 LimitNOFILE)",
            ),
            Cause::System { reason } => {
                write!(
                    f,
                    "{reason}; try the command by hand as the user of the gateway"
                )
            }
        }
    }
}

fn no_interpreter(
    f: &mut fmt::Formatter<'_>,
    file: &Path,
    interpreter: Option<&str>,
) -> fmt::Result {
    let file = file.display();
    match interpreter {
        Some(interpreter) => write!(
            f,
            "the interpreter {interpreter} named in the first line of {file} is not there; \
             install it, or name the interpreter as \"command\" and the script in \"args\""
        ),
        None => write!(
            f,
            "{file} is there, but its dynamic loader is not; use a build for this system \
             (glibc or musl)"
        ),
    }
}

/// The file to run for `program`, looked for on `path` when it has no slash. Relative names
/// count from `cwd`, where the server will run.
pub(crate) fn find(
    program: &str,
    path: Option<&str>,
    cwd: Option<&Path>,
) -> Result<PathBuf, Cause> {
    if program.is_empty() {
        return Err(Cause::Empty);
    }
    if program.contains('\0') {
        return Err(Cause::BadArgument);
    }
    if program.contains('/') {
        let file = absolute(Path::new(program), cwd);
        return match examine(&file) {
            Found::Program => Ok(file),
            Found::Denied => Err(Cause::NotExecutable { file }),
            Found::Nothing => Err(Cause::NoSuchFile { file }),
        };
    }
    let path = path.unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    // An empty entry would mean the working directory, which is hardly ever meant.
    for directory in path.split(':').filter(|entry| !entry.is_empty()) {
        let file = absolute(&Path::new(directory).join(program), cwd);
        match examine(&file) {
            Found::Program => return Ok(file),
            Found::Denied => denied = denied.or(Some(file)),
            Found::Nothing => {}
        }
    }
    Err(match denied {
        Some(file) => Cause::NotExecutable { file },
        None => Cause::NotOnPath {
            path: path.to_owned(),
        },
    })
}

fn absolute(file: &Path, cwd: Option<&Path>) -> PathBuf {
    let base = cwd.map_or_else(PathBuf::new, Path::to_path_buf);
    let joined = base.join(file);
    std::path::absolute(&joined).unwrap_or(joined)
}

enum Found {
    Program,
    Denied,
    Nothing,
}

fn examine(file: &Path) -> Found {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => match rustix::fs::access(file, Access::EXEC_OK) {
            Ok(()) => Found::Program,
            Err(_) => Found::Denied,
        },
        // A directory of that name is passed over on PATH, as every shell does.
        Ok(_) => Found::Nothing,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Found::Denied,
        Err(_) => Found::Nothing,
    }
}

/// What a refused spawn of a file that was found means.
pub(crate) fn explain(error: &io::Error, file: &Path) -> Cause {
    use rustix::io::Errno;
    let file = file.to_path_buf();
    let reason = error.to_string();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if !file.exists() => Cause::NoSuchFile { file },
        Some(Errno::NOENT) => Cause::NoInterpreter {
            interpreter: interpreter(&file),
            file,
        },
        Some(Errno::ACCESS | Errno::PERM) => Cause::NotExecutable { file },
        Some(Errno::NOEXEC | Errno::LIBBAD) => Cause::NotAProgram { file },
        Some(Errno::TOOBIG) => Cause::TooLong,
        Some(Errno::AGAIN | Errno::NOMEM) => Cause::NoProcess { reason },
        Some(Errno::MFILE | Errno::NFILE) => Cause::NoFiles,
        _ => Cause::System { reason },
    }
}

/// The interpreter in the first line of a script.
fn interpreter(file: &Path) -> Option<String> {
    let mut head = Vec::new();
    std::fs::File::open(file)
        .ok()?
        .take(256)
        .read_to_end(&mut head)
        .ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let text = String::from_utf8_lossy(line);
    Some(text.split_whitespace().next()?.to_owned())
}

/// Whether the directory can be worked in.
pub(crate) fn check_directory(directory: &Path) -> Result<(), Cause> {
    let reason = match directory.metadata() {
        Ok(metadata) if !metadata.is_dir() => "it is not a directory".to_owned(),
        Ok(_) => match rustix::fs::access(directory, Access::EXEC_OK) {
            Ok(()) => return Ok(()),
            Err(_) => "permission denied".to_owned(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => "there is none".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            "permission denied".to_owned()
        }
        Err(error) => error.to_string(),
    };
    Err(Cause::NoDirectory {
        directory: directory.to_path_buf(),
        reason,
    })
}
