//! Who goes first: priorities of processes and threads.

#![expect(
    clippy::disallowed_methods,
    reason = "priorities of I/O are set by the program ionice: no safe call does it"
)]

use rustix::process::Pid;
use std::io;
use std::process::{Command, Stdio};

/// The class of I/O of a process or a thread, as ionice numbers it (1 realtime, 2 best effort, 3 idle), and the level in it.
pub fn set_io_priority(of: Pid, class: u8, level: Option<u8>) -> io::Result<()> {
    let mut command = Command::new("ionice");
    let (class, of) = (class.to_string(), of.as_raw_nonzero().to_string());
    command.args(["-c", &class, "-p", &of]).stdin(Stdio::null());
    if let Some(level) = level {
        command.args(["-n", &level.to_string()]);
    }
    let out = command
        .output()
        .map_err(|e| io::Error::other(format!("priorities of I/O need the program ionice: {e}")))?;
    if out.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&out.stderr);
    Err(io::Error::other(why.trim().to_owned()))
}

/// Makes the calling thread give way to the node, at the CPU and at the disk. What cannot be had is done without.
pub fn give_way() {
    const NICE: i32 = 10;
    const IDLE: u8 = 3;
    let own = rustix::thread::gettid();
    let _ = rustix::process::setpriority_process(Some(own), NICE);
    let _ = set_io_priority(own, IDLE, None);
}
