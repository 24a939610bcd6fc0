//! Whether files may have changed: what the system says of each path, without reading it. Looked
//! at again and again, because notices of the kernel are not sent for what happens behind a bind
//! mount, on a network file system, or behind the symlinks of a ConfigMap.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::{limits, ordered};

/// Equal for files that are the same, unedited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<Mark>);

/// Device, inode, size, and when content and inode were changed; `None` where nothing is.
type Mark = (PathBuf, Option<(u64, u64, u64, i64, i64, i64, i64)>);

impl Fingerprint {
    /// Of `paths`; for a folder, also of what is directly in it.
    pub fn of(paths: &[PathBuf]) -> Fingerprint {
        let mut marks = Vec::with_capacity(paths.len());
        for path in paths {
            marks.push((path.clone(), mark(path)));
            marks.extend(inside(path).into_iter().map(|path| {
                let mark = mark(&path);
                (path, mark)
            }));
        }
        Fingerprint(marks)
    }
}

/// Follows symlinks: what counts is what would be read.
fn mark(path: &Path) -> Option<(u64, u64, u64, i64, i64, i64, i64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}

fn inside(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let entries = entries.take(limits::CONFIG_FOLDER_ENTRIES);
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    ordered::sort(&mut paths);
    paths
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A folder as Kubernetes mounts it: `mcp.json` -> `..data/mcp.json`, `..data` -> `..one`.
    fn mounted() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("onemcp-print-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for version in ["..one", "..two"] {
            fs::create_dir_all(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("mcp.json"), "{}").unwrap();
        }
        fs::create_dir(folder.join("conf.d")).unwrap();
        symlink("..one", folder.join("..data")).unwrap();
        symlink("..data/mcp.json", folder.join("mcp.json")).unwrap();
        folder
    }

    #[test]
    fn every_kind_of_change_is_seen_and_nothing_else() {
        let folder = mounted();
        let paths = ["mcp.json", "conf.d", ".env"].map(|name| folder.join(name));
        let print = || Fingerprint::of(&paths);
        let swap = || {
            symlink("..two", folder.join("..new")).unwrap();
            fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        };
        let rename = || {
            fs::write(folder.join("edited"), "{}").unwrap();
            fs::rename(folder.join("edited"), folder.join("mcp.json")).unwrap();
        };
        let changes: [(&str, &dyn Fn()); 6] = [
            ("a symlink of a ConfigMap is swapped", &swap),
            ("an editor renames", &rename),
            ("content is written", &|| {
                fs::write(folder.join("mcp.json"), "{ }").unwrap();
            }),
            ("a file appears", &|| {
                fs::write(folder.join(".env"), "A=1").unwrap()
            }),
            ("a fragment appears", &|| {
                fs::write(folder.join("conf.d/a.json"), "{}").unwrap();
            }),
            ("a fragment goes", &|| {
                fs::remove_file(folder.join("conf.d/a.json")).unwrap()
            }),
        ];
        for (what, change) in changes {
            let before = print();
            assert_eq!(before, print(), "before {what}");
            change();
            assert_ne!(before, print(), "{what}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
