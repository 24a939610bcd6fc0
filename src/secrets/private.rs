//! Whether a file that holds a secret is kept from strangers. Used by whoever reads one, on any
//! thread. Deliberately absent: who owns it, which a container's mounts do not tell.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// # Errors
/// When everybody on this machine may open it, and what to do.
pub fn check(file: &File, path: &Path) -> Result<(), String> {
    let mode = file.metadata().map_err(|error| error.to_string())?.mode();
    match mode & 0o007 {
        0 => Ok(()),
        _ => Err(format!(
            "everybody on this machine may open it; run chmod o= {}",
            path.display()
        )),
    }
}
