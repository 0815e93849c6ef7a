//! Who holds a lock on a file of a directory: how a node that somebody else started is found.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A process, and the locked file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    /// Its command line; nothing when it may not be read.
    pub args: Vec<String>,
    pub file: PathBuf,
}

/// The process with the lowest pid that holds a lock below a directory, other than this one. The cost is in the number of locks of the
/// machine, not in the size of the directory. What this user may not see is not found, nor are locks of open
/// file descriptions (OFD), of which the kernel names no process.
pub fn lock_holder(dir: &Path) -> io::Result<Option<Holder>> {
    let dir = match fs::canonicalize(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let locks = fs::read_to_string("/proc/locks")?;
    // 1: POSIX  ADVISORY  WRITE 4711 08:01:1310 0 EOF
    let pid = |line: &str| line.split_whitespace().nth(4)?.parse::<i32>().ok();
    let pids: BTreeSet<i32> = locks.lines().filter_map(pid).collect();
    for pid in pids.into_iter().filter(|pid| *pid > 0 && *pid != own) {
        if let Some(file) = locked_below(pid, &dir) {
            return Ok(Some(Holder {
                pid,
                args: command_line(pid),
                file,
            }));
        }
    }
    Ok(None)
}

/// True when a process has a file for itself, by a lock of its own or one that it inherited. Whoever only looks whether it is free has it shared.
/// `file` is a device and an inode: in another mount namespace the same path may be another file.
pub(super) fn has_locked(pid: i32, file: (u64, u64)) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    fds.flatten().any(|fd| {
        let is_it = fs::metadata(fd.path()).is_ok_and(|m| (m.dev(), m.ino()) == file);
        is_it && lock_line(pid, &fd).is_some_and(|line| line.contains("WRITE"))
    })
}

/// A file below a directory that a process has open and locked.
fn locked_below(pid: i32, dir: &Path) -> Option<PathBuf> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    fds.flatten().find_map(|fd| {
        let file = fs::read_link(fd.path()).ok()?;
        let is_below = file.starts_with(dir);
        (is_below && lock_line(pid, &fd).is_some()).then_some(file)
    })
}

/// What the kernel says of the lock of an open file.
fn lock_line(pid: i32, fd: &DirEntry) -> Option<String> {
    let info = Path::new("/proc")
        .join(pid.to_string())
        .join("fdinfo")
        .join(fd.file_name());
    let info = fs::read_to_string(info).ok()?;
    let line = info.lines().find(|l| l.starts_with("lock:"));
    line.map(str::to_owned)
}

fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let args = bytes.split(|b| *b == 0).filter(|a| !a.is_empty());
    args.map(|a| String::from_utf8_lossy(a).into_owned())
        .collect()
}
