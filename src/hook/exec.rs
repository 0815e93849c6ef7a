//! The process that becomes a hook: `visor hook-exec`, internal.

#![expect(clippy::disallowed_methods, reason = "this capability makes processes")]

use super::attempt::{AttemptRecord, lock_path, pid_path, read_record};
use crate::durable::write_atomic;
use crate::process::Identity;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Takes the attempt's lock, checks that the attempt still stands, records itself, execs. Never returns in the good case.
#[expect(clippy::print_stderr, reason = "stderr is the hook's captured output")]
pub fn hook_exec_main(record: &Path, number: u32, argv: &[String]) -> ExitCode {
    let error = become_hook(record, number, argv);
    eprintln!("{}: {error}", argv.first().map_or("hook", String::as_str));
    ExitCode::from(127)
}

fn become_hook(record: &Path, number: u32, argv: &[String]) -> io::Error {
    let prepared = || -> io::Result<()> {
        let _ = rustix::process::setsid();
        let path = lock_path(record, number);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        lock.lock()?;
        let stands = |r: &AttemptRecord| r.number == number && r.ok.is_none() && !r.fenced;
        if !read_record(record)
            .map_err(io::Error::other)?
            .as_ref()
            .is_some_and(stands)
        {
            return Err(io::Error::other(
                "this attempt was given up before it began",
            ));
        }
        let identity = Identity::of(rustix::process::getpid().as_raw_nonzero().get())?;
        write_atomic(
            &pid_path(record, number),
            &serde_json::to_vec(&identity)?,
            false,
        )
        .map_err(io::Error::other)?;
        rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())?;
        std::mem::forget(lock);
        Ok(())
    };
    if let Err(error) = prepared() {
        return error;
    }
    match argv.split_first() {
        Some((program, args)) => Command::new(program).args(args).exec(),
        None => io::Error::other("no program"),
    }
}
