//! Starting the node: the shim is spawned, and the start record is awaited.

#![expect(clippy::disallowed_methods, reason = "this capability makes processes")]

use super::attributes::{identity, open_the_way, reach_directory, variables};
use super::records::{LaunchRecord, RECORD_VERSION, STARTS_KEPT, dir, read_start, starts};
use super::state::{fence, lock_is_free};
use crate::durable::{AtPath as _, PathError, make_private_dir, write_atomic};
use crate::killpoint;
use crate::model::{Launch, NodeSpec, ProcessSpec, StartId};
use crate::process::Delegated;
use crate::store::Layout;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("the node's `process` cannot be had: {0}")]
    Identity(std::io::Error),
    #[error("the node's `process.cgroup` cannot be had: {0}")]
    Cgroup(String),
    #[error("the shim could not be started")]
    Spawn(#[source] std::io::Error),
    #[error("the node was not started: {0}")]
    Refused(String),
    #[error("the shim left no start record within {0:?}")]
    NoRecord(Duration),
}

const RECORD_WITHIN: Duration = Duration::from_secs(15);

/// Why this machine would not have the node started like this, as far as it can be known before.
///
/// `here`: this process would start it, so the control group that it is in counts.
pub fn start_problem(process: &ProcessSpec, here: bool) -> Option<String> {
    if let Err(why) = identity(process) {
        return Some(why.to_string());
    }
    if let Err(why) = variables(process).and_then(|_| reach_directory(process)) {
        return Some(why.to_string());
    }
    if !here || process.cgroup.is_none() {
        return None;
    }
    let files = process.cgroup.files();
    let refusal = match Delegated::find() {
        Ok(delegated) => delegated
            .refusal(files.iter().map(|(file, _)| *file))
            .or_else(|| {
                // One at a time: they are all of one name.
                let _only = TRIAL.lock().unwrap_or_else(PoisonError::into_inner);
                let tried = delegated.try_make("trial-of-limits", &files);
                tried.err().map(|e| e.to_string())
            }),
        Err(why) => Some(why),
    };
    refusal.map(|why| format!("`process.cgroup` cannot be had: {why}"))
}

static TRIAL: Mutex<()> = Mutex::new(());

/// The prefix of the names of the node's control groups.
fn cgroup_prefix(node: &NodeSpec) -> String {
    format!("{}@", node.name)
}

/// The control group for a start; none where there is none to be had, unless limits are asked for.
fn make_cgroup(
    delegated: &Result<Delegated, String>,
    node: &NodeSpec,
    process: &ProcessSpec,
    start: StartId,
) -> Result<Option<PathBuf>, StartError> {
    let name = format!("{}{start}", cgroup_prefix(node));
    let files = process.cgroup.files();
    let made = match delegated {
        Ok(delegated) => match delegated.refusal(files.iter().map(|(file, _)| *file)) {
            Some(why) => Err(why),
            None => delegated.make(&name, &files).map_err(|e| e.to_string()),
        },
        Err(why) => Err(why.clone()),
    };
    match made {
        Ok(dir) => Ok(Some(dir)),
        Err(_) if files.is_empty() => Ok(None),
        Err(why) => Err(StartError::Cgroup(why)),
    }
}

/// Starts the program of `current`. `env` is the allow-listed part of visor's own environment.
pub fn start(
    layout: &Layout,
    node: &NodeSpec,
    launch: &Launch,
    start: StartId,
    env: &BTreeMap<String, String>,
) -> Result<(), StartError> {
    let dir = dir(layout, start);
    make_private_dir(&dir)?;
    for mark in ["cancelled", "refused", "not-executed", "gone"] {
        let path = dir.join(mark);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).at("remove", &path)?;
            }
            _ => {}
        }
    }
    let identity = identity(&launch.process).map_err(StartError::Identity)?;
    let mut all_env = env.clone();
    // Another user has another home than visor's.
    if let Some(home) = identity.as_ref().and_then(|i| i.home.as_ref()) {
        all_env.insert("HOME".into(), home.display().to_string());
    }
    all_env.extend(launch.env.clone());
    let delegated = Delegated::find();
    let record = LaunchRecord {
        version: RECORD_VERSION,
        program: layout.current().join("bin").join(&launch.binary),
        args: launch.args.clone(),
        env: all_env,
        cwd: node.home.clone(),
        process: launch.process.clone(),
        cgroup: make_cgroup(&delegated, node, &launch.process, start)?,
    };
    if identity.is_some() {
        open_the_way(&layout.root, &record.program).map_err(StartError::Identity)?;
    }
    write_atomic(
        &dir.join("launch.json"),
        &serde_json::to_vec(&record).expect("plain data"),
        false,
    )?;
    // Some programs write into their data directory and do not make it.
    let above = node.data.path.ancestors();
    let missing: Vec<&Path> = above.take_while(|dir| !dir.exists()).collect();
    if !missing.is_empty() {
        make_private_dir(&node.data.path)?;
    }
    if let Some(identity) = identity {
        let (uid, gid) = (identity.uid.as_raw(), identity.gid.as_raw());
        for dir in missing {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).at("give away", dir)?;
        }
    }
    let log_path = layout.log();
    make_private_dir(crate::durable::parent(&log_path))?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log_path)
        .at("open", &log_path)?;
    let copy = log.try_clone().at("open", &log_path)?;
    killpoint::hit("start:before");
    // From /proc, so that a visor that was replaced on disk can still start its own shim.
    let mut shim = Command::new("/proc/self/exe")
        .args(["shim", "--start", &start.to_string(), "--root"])
        .arg(&layout.root)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy)
        .spawn()
        .map_err(StartError::Spawn)?;
    killpoint::hit("start:spawned");
    let began = Instant::now();
    let result = loop {
        if read_start(layout, start)?.is_some() {
            break Ok(());
        }
        // A shim that has ended may have forked before; its second stage then holds the lock and will leave the record.
        if shim.try_wait().map_err(StartError::Spawn)?.is_some() && lock_is_free(layout)? {
            break match read_start(layout, start)? {
                Some(_) => Ok(()),
                None => {
                    let why = std::fs::read_to_string(dir.join("refused"))
                        .unwrap_or_else(|_| "the shim ended".into());
                    Err(StartError::Refused(why))
                }
            };
        }
        if began.elapsed() > RECORD_WITHIN {
            // It must not come to life later: ended, and forbidden for a shim that the kill comes too late for.
            let _ = shim.kill();
            fence(layout)?;
            break Err(StartError::NoRecord(RECORD_WITHIN));
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    killpoint::hit("start:recorded");
    // The shim outlives us; while we live, we reap it. Without a thread for that it is reaped when we end.
    let _ = std::thread::Builder::new().spawn(move || shim.wait());
    forget_old(layout, start);
    if let Ok(delegated) = delegated {
        delegated.remove_empty(&cgroup_prefix(node));
    }
    result
}

/// Removes the records of all but the last starts; a failure changes nothing.
fn forget_old(layout: &Layout, own: StartId) {
    let all = starts(layout);
    for old in all.iter().rev().skip(STARTS_KEPT).filter(|s| **s != own) {
        // A clock that went back gives a living start an old name.
        if read_start(layout, *old).is_ok_and(|r| r.is_none_or(|r| !r.identity.is_alive())) {
            let _ = std::fs::remove_dir_all(dir(layout, *old));
        }
    }
}
