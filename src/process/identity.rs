//! Which process is meant: (boot id, pid, start time). The executable is shown, never compared: launchers exec.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::sync::OnceLock;

/// Identity of a process on this machine for all time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub boot: String,
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks after boot. It survives `exec`.
    pub start_time: u64,
}

/// The kernel's id of this boot, which no process outlives.
pub fn boot_id() -> io::Result<&'static str> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(KNOWN.get_or_init(|| read.trim().to_owned()))
}

impl Identity {
    pub fn of(pid: i32) -> io::Result<Self> {
        let start_time = stat(pid)?.start_time;
        Ok(Self {
            boot: boot_id()?.to_owned(),
            pid,
            start_time,
        })
    }

    /// True while the process lives; a zombie has ended.
    pub fn is_alive(&self) -> bool {
        let same = |stat: Stat| stat.start_time == self.start_time && stat.is_alive();
        boot_id().is_ok_and(|boot| boot == self.boot) && stat(self.pid).is_ok_and(same)
    }

    pub fn is_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
    }
}

/// What `/proc/<pid>/stat` says.
pub(super) struct Stat {
    pub(super) name: String,
    state: char,
    pub(super) session: i32,
    start_time: u64,
}

impl Stat {
    /// A zombie has ended.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// Fifty numbers and a name of 64 bytes, which the kernel gives in one read: all processes are looked at while a node is down.
const MAX_STAT: usize = 2048;

/// The name in parentheses may hold anything, so the numbers are read from behind the last `)`.
pub(super) fn stat(pid: i32) -> io::Result<Stat> {
    // A name may be bytes of any kind.
    let mut bytes = [0; MAX_STAT];
    let n = File::open(format!("/proc/{pid}/stat"))?.read(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..n]);
    let read = || {
        let (head, rest) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Stat {
            name: name.chars().filter(|c| !c.is_control()).collect(),
            state: fields.next()?.chars().next()?,
            session: fields.nth(2)?.parse().ok()?,
            start_time: fields.nth(15)?.parse().ok()?,
        })
    };
    read().ok_or_else(|| {
        let what = "unexpected form of /proc/<pid>/stat";
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other() {
        let own = Identity::of(i32::try_from(std::process::id()).expect("a pid")).expect("read");
        assert!(own.is_alive());
        assert!(
            !Identity {
                start_time: own.start_time + 1,
                ..own.clone()
            }
            .is_alive()
        );
        assert!(
            !Identity {
                boot: "other".into(),
                ..own
            }
            .is_alive()
        );
    }
}
