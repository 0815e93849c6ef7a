//! What a process has left behind: the members of its session, and those who inherited its lock.

use super::holder::has_locked;
use super::identity::{Identity, Stat, stat};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A process that came from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub identity: Identity,
    /// The name of its program, as the kernel knows it: its arguments may hold secrets.
    pub name: String,
}

impl Left {
    /// `None` when it has ended.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = stat(pid).ok().filter(Stat::is_alive)?;
        let identity = Identity::of(pid).ok()?;
        Some(Self {
            identity,
            name: stat.name,
        })
    }
}

impl Left {
    /// One that is known to be there and cannot be seen; no signal reaches it.
    pub(super) fn unseen(name: String) -> Self {
        let identity = Identity {
            boot: String::new(),
            pid: 0,
            start_time: 0,
        };
        Self { identity, name }
    }
}

/// The living processes that a session leader, which has ended, left behind: those of its session, and with `lock` those that hold a lock on
/// that file. Internal processes of visor are none. The cost is in the number of processes of the machine.
pub fn left_behind(leader: &Identity, lock: Option<&Path>) -> io::Result<Vec<Left>> {
    if !leader.is_this_boot() || leader.is_alive() {
        return Ok(vec![]);
    }
    let lock = lock.map(fs::metadata).transpose()?;
    let lock = lock.map(|m| (m.dev(), m.ino()));
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let Some(pid) = pid.filter(|pid| *pid != own) else {
            continue;
        };
        let Some(stat) = stat(pid).ok().filter(Stat::is_alive) else {
            continue;
        };
        let in_session = stat.session == leader.pid;
        if in_session && pid == leader.pid {
            // The number has been given again, and so the session is another's.
            return Ok(vec![]);
        }
        let has_lock = || lock.is_some_and(|lock| has_locked(pid, lock));
        if (in_session || has_lock())
            && !is_internal(pid)
            && let Ok(identity) = Identity::of(pid)
        {
            let name = stat.name;
            all.push(Left { identity, name });
        }
    }
    Ok(all)
}

fn is_internal(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).nth(1) == Some(b"shim")
}
