//! The first process of a container. The kernel gives it every orphan, and kills all others when it ends; so it does nothing but
//! reap and hand signals on, and the command runs below it.

#![expect(
    clippy::disallowed_methods,
    reason = "this capability makes a process, of the same arguments"
)]

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, wait,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;
use std::process::Command;
use std::time::Duration;

/// True for the first process of a pid namespace.
pub fn is_first() -> bool {
    rustix::process::getpid().is_init()
}

/// Runs this command below itself until it ends, then asks what is left to end, and waits for it. The command's exit status.
///
/// A command that is killed is run again: it finds the node as it left it. `refuse_to_leave` is called for USR1, which would take
/// the node along.
pub fn run_as_first(refuse_to_leave: &dyn Fn()) -> io::Result<u8> {
    if !is_first() {
        return Err(io::Error::other(
            "only the first process may end all others",
        ));
    }
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let mut told_to_end = false;
    loop {
        let child = below()?;
        let status = 'alive: loop {
            for signal in signals.wait() {
                match signal {
                    SIGCHLD => {
                        if let Some(status) = reap(child) {
                            break 'alive status;
                        }
                    }
                    SIGUSR1 => refuse_to_leave(),
                    SIGHUP => hand_on(child, Signal::HUP),
                    _ => {
                        told_to_end = true;
                        hand_on(child, Signal::TERM);
                    }
                }
            }
        };
        let code = status.exit_status();
        if code.is_none() && !told_to_end {
            std::thread::sleep(Duration::from_secs(1));
            continue;
        }
        end_all();
        let code = code.and_then(|c| u8::try_from(c).ok());
        return Ok(code.unwrap_or(70));
    }
}

fn below() -> io::Result<Pid> {
    let args = std::env::args_os().skip(1);
    let child = Command::new("/proc/self/exe").args(args).spawn()?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("a child without a pid"))
}

fn hand_on(child: Pid, signal: Signal) {
    // It may have ended just now.
    let _ = kill_process(child, signal);
}

/// Reaps all that have ended; the status of the command if it is among them.
fn reap(child: Pid) -> Option<WaitStatus> {
    let mut found = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            found = Some(status);
        }
    }
    found
}

/// Asks every process of the container to end, and waits until none is left.
fn end_all() {
    // kill(-1): all that may be signalled, but for the first process itself.
    let _ = kill_process_group(Pid::INIT, Signal::TERM);
    loop {
        match wait(WaitOptions::empty()) {
            Err(Errno::CHILD) => return,
            Err(Errno::INTR) | Ok(_) => {}
            Err(_) => return,
        }
    }
}
