//! Which process is meant: (boot id, pid, start time). The executable is shown, never compared: launchers exec.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;

/// Identity of a process on this machine for all time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub boot: String,
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks after boot. It survives `exec`.
    pub start_time: u64,
}

/// The kernel's id of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

impl Identity {
    pub fn of(pid: i32) -> io::Result<Self> {
        let (_, start_time) = stat(pid)?;
        Ok(Self {
            boot: boot_id()?,
            pid,
            start_time,
        })
    }

    /// True while the process lives; a zombie has ended.
    pub fn is_alive(&self) -> bool {
        let same =
            |(state, start): (char, u64)| start == self.start_time && !matches!(state, 'Z' | 'X');
        boot_id().is_ok_and(|boot| boot == self.boot) && stat(self.pid).is_ok_and(same)
    }

    pub fn is_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
    }
}

/// State letter and start time. The name in parentheses may hold anything, so reading begins behind the last `)`.
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let bad = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "unexpected form of /proc/<pid>/stat",
        )
    };
    let rest = text.rsplit_once(')').ok_or_else(bad)?.1;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields
        .next()
        .and_then(|s| s.chars().next())
        .ok_or_else(bad)?;
    let start = fields
        .nth(18)
        .and_then(|s| s.parse().ok())
        .ok_or_else(bad)?;
    Ok((state, start))
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
