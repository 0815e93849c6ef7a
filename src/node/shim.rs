//! The shim and its second stage: `visor shim`, internal. It outlives visor; the node outlives it.

#![expect(clippy::disallowed_methods, reason = "this capability makes processes")]

use super::attributes::{apply, reach_directory, variables};
use super::records::{
    ExitRecord, LaunchRecord, RECORD_VERSION, StartRecord, dir, read_launch, read_start,
};
use crate::durable::{create_private, write_atomic};
use crate::killpoint;
use crate::model::{StartId, UnixMs};
use crate::process::{Identity, join, ran_out_of_memory};
use crate::store::Layout;
use std::convert::Infallible;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Which of the two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShimStage {
    Parent,
    Second,
}

/// A probe of the lock by another visor lasts microseconds; a node that lives holds it.
const LOCK_WITHIN: Duration = Duration::from_secs(2);

/// The whole life of the internal command. Its stdout and stderr are the node's log.
pub fn shim_main(layout: &Layout, start: StartId, stage: ShimStage) -> ExitCode {
    let done = match stage {
        ShimStage::Parent => parent(layout, start),
        ShimStage::Second => second(layout, start),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = write_atomic(
                &dir(layout, start).join("refused"),
                why.to_string().as_bytes(),
                false,
            );
            ExitCode::from(70)
        }
    }
}

fn parent(layout: &Layout, start: StartId) -> io::Result<()> {
    // Not led by visor's terminal or session: a signal to visor's group is not for us.
    let _ = rustix::process::setsid();
    let lock = take_lock(layout)?;
    killpoint::hit("shim:locked");
    if dir(layout, start).join("cancelled").exists() {
        return Err(io::Error::other(
            "the start was given up before it took the lock",
        ));
    }
    let mut second = Command::new("/proc/self/exe")
        .args([
            "shim",
            "--second-stage",
            "--start",
            &start.to_string(),
            "--root",
        ])
        .arg(&layout.root)
        .stdin(Stdio::null())
        .spawn()?;
    killpoint::hit("shim:forked");
    let status = second.wait()?;
    let failed = std::fs::read_to_string(dir(layout, start).join("not-executed")).ok();
    let failed = failed.filter(|text| !text.is_empty());
    let record = ExitRecord {
        version: RECORD_VERSION,
        code: status.code(),
        signal: status.signal(),
        not_executed: failed,
        out_of_memory: status.signal() == Some(9) && out_of_memory(layout, start),
        at: now(),
    };
    write_atomic(
        &dir(layout, start).join("exit"),
        &serde_json::to_vec(&record)?,
        false,
    )
    .map_err(io::Error::other)?;
    // Only now may anybody believe that the node is gone.
    drop(lock);
    Ok(())
}

fn out_of_memory(layout: &Layout, start: StartId) -> bool {
    let launch = read_launch(layout, start).ok().flatten();
    if launch.is_none_or(|l| l.process.cgroup.memory_max.is_none()) {
        return false;
    }
    let started = read_start(layout, start).ok().flatten();
    started
        .and_then(|s| s.cgroup)
        .is_some_and(|dir| ran_out_of_memory(&dir))
}

fn second(layout: &Layout, start: StartId) -> io::Result<()> {
    let _ = rustix::process::setsid();
    let launch = read_launch(layout, start)
        .map_err(io::Error::other)?
        .ok_or_else(|| io::Error::other("launch.json is not there"))?;
    let identity = Identity::of(rustix::process::getpid().as_raw_nonzero().get())?;
    let joined = match &launch.cgroup {
        Some(dir) => join(dir).map_err(|e| io::Error::other(format!("{}: {e}", dir.display()))),
        None => Ok(()),
    };
    // Without limits it is for visor's own use, and the node does as well without.
    if !launch.process.cgroup.is_none() {
        joined
            .as_ref()
            .map_err(|e| io::Error::other(format!("`process.cgroup` cannot be had: {e}")))?;
    }
    let record = StartRecord {
        version: RECORD_VERSION,
        identity,
        at: now(),
        cgroup: launch.cgroup.clone().filter(|_| joined.is_ok()),
    };
    killpoint::hit("stage2:unrecorded");
    write_atomic(
        &dir(layout, start).join("start"),
        &serde_json::to_vec(&record)?,
        false,
    )
    .map_err(io::Error::other)?;
    killpoint::hit("stage2:recorded");
    // Opened now: the node's user may not write here. Empty for a node that was executed.
    let mut excuse =
        create_private(&dir(layout, start).join("not-executed")).map_err(io::Error::other)?;
    let text = match execute(&launch) {
        Ok(never) => match never {},
        Err(text) => text,
    };
    let _ = excuse.write_all(text.as_bytes());
    Err(io::Error::other(text))
}

/// Becomes the node.
fn execute(launch: &LaunchRecord) -> Result<Infallible, String> {
    let variables = variables(&launch.process).map_err(|e| e.to_string())?;
    apply(&launch.process).map_err(|e| e.to_string())?;
    reach_directory(&launch.process).map_err(|e| e.to_string())?;
    let directory = launch.process.working_directory.as_ref();
    let error = Command::new(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(&launch.env)
        .envs(variables)
        .current_dir(directory.unwrap_or(&launch.cwd))
        .stdin(Stdio::null())
        .exec();
    Err(format!("{}: {error}", launch.program.display()))
}

/// Takes the node's lock in a way that children inherit.
fn take_lock(layout: &Layout) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(layout.node_lock())?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WITHIN => {
                std::thread::sleep(Duration::from_millis(1))
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("node.lock is held by another process"));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
    Ok(file)
}

fn now() -> UnixMs {
    crate::host::wall_clock()
}
