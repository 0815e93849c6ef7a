//! Absolute hook programs: may visor run them?

use crate::plan::HookFile;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Owned by root or by visor's user, executable, and writable by nobody else; the same for its directory.
pub(super) fn judge(path: &Path) -> HookFile {
    let own = rustix::process::geteuid().as_raw();
    let problem = match fs::metadata(path) {
        Err(error) => Some(format!("{}: {error}", path.display())),
        Ok(meta) if !meta.is_file() => Some(format!("{} is not a file", path.display())),
        Ok(meta) if meta.mode() & 0o111 == 0 => {
            Some(format!("{} is not executable", path.display()))
        }
        Ok(meta) => loose(path, meta.uid(), meta.mode(), own).or_else(|| {
            let dir = crate::durable::parent(path);
            // In a sticky directory such as /tmp only the owner can replace a file.
            let meta = fs::metadata(dir).ok().filter(|m| m.mode() & 0o1000 == 0)?;
            loose(dir, meta.uid(), meta.mode(), own)
        }),
    };
    HookFile {
        path: path.to_owned(),
        problem,
    }
}

fn loose(path: &Path, uid: u32, mode: u32, own: u32) -> Option<String> {
    if uid != 0 && uid != own {
        return Some(format!("{} belongs to user {uid}", path.display()));
    }
    (mode & 0o022 != 0).then(|| {
        format!(
            "{} can be changed by others (mode {:o})",
            path.display(),
            mode & 0o7777
        )
    })
}
