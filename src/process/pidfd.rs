//! Waiting for, and signalling, exactly one process through its pidfd.

use super::identity::Identity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use std::time::{Duration, Instant};

/// A living process that cannot be mistaken for another.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
}

impl Watch {
    /// `None` when the process has ended. The identity is checked again once the fd is there.
    pub fn open(identity: &Identity) -> Result<Option<Self>, Errno> {
        let Some(pid) = Pid::from_raw(identity.pid) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::SRCH) => return Ok(None),
            Err(other) => return Err(other),
        };
        Ok(identity.is_alive().then_some(Self { fd }))
    }

    /// Sends a signal; a process that has just ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// `Some(true)`: it has ended. `Some(false)`: the time is over. `None`: interrupted.
    pub fn wait(
        &self,
        time: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<bool>, Errno> {
        let began = Instant::now();
        loop {
            let left = time.saturating_sub(began.elapsed());
            let slice = left.min(Duration::from_millis(100));
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(slice.subsec_nanos()),
            };
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(n) if n > 0 => return Ok(Some(true)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(other) => return Err(other),
            }
            if left.is_zero() {
                return Ok(Some(false));
            }
            if interrupted() {
                return Ok(None);
            }
        }
    }
}

/// KILL to a whole process group; a group that is gone is no error.
pub fn kill_group(leader: i32) {
    if let Some(pid) = Pid::from_raw(leader) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}
