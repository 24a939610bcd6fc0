//! Everything that a template may name: variables, secrets and files. Remembers which secrets
//! and files were asked for, because a change of one of them is a change of the configuration.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::secret::is_secret_name;
use crate::base::{limits, mask};
use crate::config::Environment;
use crate::config::expand::{Lack, Wanted};
use crate::secrets::answer::Why;
use crate::secrets::key;
use crate::secrets::store::Store;

pub struct Lookups<'l> {
    /// `.env`, over which the variables of the process win.
    variables: &'l Environment,
    /// Where relative paths begin.
    folder: &'l Path,
    secrets: &'l Store,
    used: RefCell<Used>,
}

/// What was asked for, whether it was there or not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub secrets: BTreeSet<String>,
    pub files: BTreeSet<PathBuf>,
}

impl<'l> Lookups<'l> {
    pub fn new(variables: &'l Environment, folder: &'l Path, secrets: &'l Store) -> Lookups<'l> {
        let used = RefCell::default();
        Lookups {
            variables,
            folder,
            secrets,
            used,
        }
    }

    /// # Errors
    /// Why there is nothing, without a value and without the name.
    pub fn find(&self, wanted: Wanted<'_>) -> Result<String, Lack> {
        match wanted {
            Wanted::Variable(name) => {
                let value = self.variable(name);
                // Whatever it is put into.
                if let Some(value) = value.as_deref().filter(|_| is_secret_name(name)) {
                    mask::learn(value);
                }
                value.ok_or_else(|| Lack::Absent("is not set".into()))
            }
            Wanted::Secret(name) => {
                self.used.borrow_mut().secrets.insert(name.to_owned());
                let found = self.secrets.get(name);
                found
                    .map(|secret| secret.expose().to_owned())
                    .map_err(|missing| match missing.why {
                        Why::Trouble(_) => Lack::Unsure(missing.to_string()),
                        Why::BadName(right) => Lack::BadName(right),
                        _ => Lack::Absent(missing.to_string()),
                    })
            }
            Wanted::File(path) => {
                let path = self.folder.join(path);
                let text = read_text(&path);
                self.used.borrow_mut().files.insert(path);
                // A file of its own holds a secret more often than not.
                if let Ok(text) = text.as_deref() {
                    text.lines().for_each(mask::learn);
                }
                text.map_err(Lack::Absent)
            }
        }
    }

    /// The key of the sealed file is for the gateway alone.
    pub fn variable(&self, name: &str) -> Option<String> {
        let value = self.variables.get(name);
        value.filter(|_| name != key::VARIABLE).cloned()
    }

    /// What was used since this was asked last.
    pub fn take_used(&self) -> Used {
        self.used.take()
    }
}

/// A whole file as text, without the newline that an editor puts at its end. Nothing of it is
/// in the error, nor is its path: a part of that may have been a variable.
fn read_text(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| error.kind().to_string();
    // A pipe or a device could keep a reader waiting for ever.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("it is not a file".into());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let most = limits::TEMPLATE_FILE_BYTES;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(format!("it is larger than {most} bytes"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::Lookups;
    use crate::base::limits;
    use crate::config::Environment;
    use crate::config::expand::Wanted;
    use crate::secrets::store::Store;

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("onemcp-lookups-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("sub")).unwrap();
        folder
    }

    #[test]
    fn files_are_read_as_texts_and_remembered() {
        let folder = folder();
        let variables = Environment::from([("A".to_owned(), "1".to_owned())]);
        let store = Store::default();
        let lookups = Lookups::new(&variables, &folder, &store);
        let check = |name: &str, bytes: &[u8], expect: Result<&str, &str>| {
            fs::write(folder.join(name), bytes).unwrap();
            let found = lookups.find(Wanted::File(name));
            match (found, expect) {
                (Ok(text), Ok(expect)) => assert_eq!(text, expect),
                (Err(why), Err(expect)) => assert!(why.to_string().contains(expect), "{why}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        };
        check("a", b"x", Ok("x"));
        check("a", b"x\n", Ok("x"));
        check("a", b"x\r\n", Ok("x"));
        check("a", b"x\n\n", Ok("x\n"));
        check("a", b"", Ok(""));
        check("sub/b", b"${A}", Ok("${A}"));
        let most = usize::try_from(limits::TEMPLATE_FILE_BYTES).unwrap();
        check("a", &vec![b'x'; most + 1], Err("larger than 65536"));
        check("a", b"\xff", Err("not UTF-8"));
        for (name, expect) in [("none", "not found"), ("sub", "not a file")] {
            let why = lookups.find(Wanted::File(name)).unwrap_err();
            assert!(why.to_string().contains(expect), "{why}");
        }
        let why = lookups.find(Wanted::File("/dev/zero")).unwrap_err();
        assert!(why.to_string().contains("not a file"), "{why}");
        let used = lookups.take_used();
        let files: Vec<&Path> = used.files.iter().map(PathBuf::as_path).collect();
        let names = ["a", "none", "sub", "sub/b"].map(|name| folder.join(name));
        assert!(
            names.iter().all(|name| files.contains(&name.as_path())),
            "{files:?}"
        );
        assert!(lookups.take_used().files.is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }
}
