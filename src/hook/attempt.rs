//! One attempt of a hook: recorded, run, timed, captured; and the end of one that outlived its visor.

#![expect(clippy::disallowed_methods, reason = "this capability makes processes")]

use crate::durable::{self, AtPath as _, PathError, open_lock, read_bounded, write_atomic};
use crate::host::{Attempt, HookEnd};
use crate::killpoint;
use crate::model::HookSpec;
use crate::process::{Identity, Watch, kill_group};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::TryLockError;
use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The format of attempt records. 1: first.
const RECORD_VERSION: u32 = 1;
/// The end of a hook's output that is kept.
const OUTPUT_KEPT: usize = 16 * 1024;
/// After a KILL, and for a lock to be given up.
const END_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AttemptRecord {
    pub(super) version: u32,
    pub(super) number: u32,
    pub(super) ok: Option<bool>,
    #[serde(default)]
    pub(super) fenced: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("interrupted")]
    Interrupted,
    #[error("hook {hook}: the process could not be made")]
    Spawn {
        hook: String,
        #[source]
        source: io::Error,
    },
    #[error("an earlier attempt (pid {0}) could not be ended within {END_WITHIN:?}")]
    Survives(i32),
}

/// Runs one attempt. `record` is the attempt record's path, `env` the whole environment.
pub fn run(
    record: &Path,
    hook: &HookSpec,
    number: u32,
    env: &BTreeMap<String, String>,
    cwd: &Path,
    interrupted: &dyn Fn() -> bool,
) -> Result<HookEnd, HookError> {
    let mut attempt = AttemptRecord {
        version: RECORD_VERSION,
        number,
        ok: None,
        fenced: false,
    };
    write(record, &attempt, true)?;
    killpoint::hit("hook:recorded");
    let spawn_error = |source| HookError::Spawn {
        hook: hook.name.to_string(),
        source,
    };
    let (reader, writer) = io::pipe().map_err(spawn_error)?;
    let both = writer.try_clone().map_err(spawn_error)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["hook-exec", "--number", &number.to_string(), "--record"])
        .arg(record)
        .arg("--")
        .args(&hook.run)
        .env_clear()
        .envs(env)
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(both);
    let mut child = command.spawn().map_err(spawn_error)?;
    // Our ends of the pipe go with the command; else the reader would never see its end.
    drop(command);
    let output = capture(reader);
    let pid = i32::try_from(child.id()).expect("pids fit");
    let watch = Identity::of(pid)
        .ok()
        .and_then(|i| Watch::open(&i).ok())
        .flatten();
    let ended = match &watch {
        Some(watch) => watch
            .wait(hook.timeout, interrupted)
            .map_err(|e| spawn_error(e.into()))?,
        None => Some(true),
    };
    if ended != Some(true) {
        kill_group(pid);
        let _ = child.kill();
    }
    let status = child.wait().map_err(spawn_error)?;
    killpoint::hit("hook:ended");
    if ended.is_none() {
        // The record keeps its open end: the next visor decides what a cut attempt means.
        return Err(HookError::Interrupted);
    }
    let end = if ended == Some(false) {
        Some(format!(
            "ran longer than {:?} and was killed with its process group",
            hook.timeout
        ))
    } else {
        match (status.code(), status.signal()) {
            (Some(0), _) => None,
            (Some(code), _) => Some(format!("ended with exit status {code}")),
            (_, signal) => Some(format!("was killed by signal {}", signal.unwrap_or(0))),
        }
    };
    attempt.ok = Some(end.is_none());
    write(record, &attempt, true)?;
    Ok(match end {
        None => HookEnd::Ok,
        Some(what) => HookEnd::Failed {
            what,
            output: output.text(),
        },
    })
}

/// The last attempt on record.
pub fn read_attempt(record: &Path) -> Result<Option<Attempt>, PathError> {
    Ok(read_record(record)?.map(|r| Attempt {
        number: r.number,
        ok: r.ok,
    }))
}

/// Ends an attempt that has no recorded end, and fences it off if it has not come so far as to record itself.
pub fn reap(record: &Path) -> Result<(), HookError> {
    let Some(mut attempt) = read_record(record)? else {
        return Ok(());
    };
    let path = lock_path(record, attempt.number);
    let lock = open_lock(&path)?;
    let began = Instant::now();
    let mut last_pid = 0;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(e)) => return Err(e).at("lock", &path)?,
            Err(TryLockError::WouldBlock) => {}
        }
        if let Some(identity) = read_identity(&pid_path(record, attempt.number))? {
            last_pid = identity.pid;
            // The leader may be gone while its group lives on, which keeps the number from being used again. A process of
            // this number that is not the leader is a stranger.
            let vacant = !Path::new(&format!("/proc/{}", identity.pid)).exists();
            if identity.is_this_boot() && (identity.is_alive() || vacant) {
                kill_group(identity.pid);
            }
        }
        if began.elapsed() > END_WITHIN {
            return Err(HookError::Survives(last_pid));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    attempt.fenced = true;
    write(record, &attempt, true)?;
    Ok(())
}

pub(super) fn read_record(record: &Path) -> Result<Option<AttemptRecord>, PathError> {
    durable::read_record(record, 64 * 1024, RECORD_VERSION)
}

pub(super) fn lock_path(record: &Path, number: u32) -> PathBuf {
    record.with_extension(format!("{number}.lock"))
}

pub(super) fn pid_path(record: &Path, number: u32) -> PathBuf {
    record.with_extension(format!("{number}.pid"))
}

fn read_identity(path: &Path) -> Result<Option<Identity>, PathError> {
    Ok(read_bounded(path, 4096)?.and_then(|b| serde_json::from_slice(&b).ok()))
}

fn write(record: &Path, attempt: &AttemptRecord, sync: bool) -> Result<(), PathError> {
    write_atomic(
        record,
        &serde_json::to_vec(attempt).expect("plain data"),
        sync,
    )
}

/// The last part of what a hook wrote. A child that keeps the pipe open does not keep us.
struct Captured {
    tail: Arc<Mutex<VecDeque<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

fn capture(mut pipe: io::PipeReader) -> Captured {
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let into = Arc::clone(&tail);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n) = pipe.read(&mut buffer) {
            if n == 0 {
                break;
            }
            let Ok(mut tail) = into.lock() else { break };
            tail.extend(&buffer[..n]);
            let excess = tail.len().saturating_sub(OUTPUT_KEPT);
            tail.drain(..excess);
        }
    });
    Captured { tail, reader }
}

impl Captured {
    fn text(self) -> String {
        let began = Instant::now();
        while !self.reader.is_finished() && began.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let bytes: Vec<u8> = self
            .tail
            .lock()
            .map(|t| t.iter().copied().collect())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}
