//! What evidence says of the node's process.

use super::records::{ExitRecord, dir, read_exit, read_start, starts};
use crate::durable::{AtPath as _, PathError, open_lock, write_atomic};
use crate::host::{NodeState, StartEvidence};
use crate::model::StartId;
use crate::process::{Identity, Left, left_behind, members};
use crate::store::Layout;
use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// Running, gone, or unclear. Looks at records first: a node that closed the inherited lock is still found by its record.
/// `gone`: a start that the caller has seen gone before. What it left is not looked for among all processes again, nor what one left that is marked.
pub fn node_state(layout: &Layout, gone: Option<StartId>) -> Result<NodeState, PathError> {
    let all = starts(layout);
    let mut last = None;
    for &start in all.iter().rev() {
        let Some(record) = read_start(layout, start)? else {
            continue;
        };
        if record.identity.is_alive() {
            return Ok(NodeState::Running {
                start,
                pid: record.identity.pid,
                since: record.at,
            });
        }
        last = last.or(Some((start, record.identity)));
    }
    let is_free = lock_is_free(layout)?;
    if let Some((start, identity)) = last.as_ref().filter(|(start, _)| gone != Some(*start)) {
        let left = left(layout, *start, identity, is_free)?;
        if !left.is_empty() {
            let names: Vec<String> = left.iter().map(describe).collect();
            let why = format!(
                "its process has ended, and what it left behind lives on: {}",
                names.join(", ")
            );
            return Ok(NodeState::Unclear { why });
        }
    }
    let last = last.map(|(start, _)| start);
    if !is_free {
        let why = "state/node.lock is held, but no process with a start record lives: a child of the node, or a start under way";
        return Ok(NodeState::Unclear { why: why.into() });
    }
    let record = match last {
        Some(start) => read_exit(layout, start)?,
        None => None,
    };
    Ok(NodeState::Gone {
        last,
        exit: record.as_ref().map(ExitRecord::describe),
        code: record.and_then(|r| r.code),
    })
}

fn describe(left: &Left) -> String {
    format!("pid {} ({})", left.identity.pid, left.name)
}

/// What a node that has ended left behind. Whoever inherited its lock counts, unless that is free.
///
/// A start that was once seen gone is never looked at again: the number of its session is given to others in time.
pub(super) fn left(
    layout: &Layout,
    start: StartId,
    leader: &Identity,
    lock_is_free: bool,
) -> Result<Vec<Left>, PathError> {
    if dir(layout, start).join("gone").exists() {
        return Ok(vec![]);
    }
    let lock = layout.node_lock();
    let held = (!lock_is_free).then_some(lock.as_path());
    let mut left = left_behind(leader, held).at("look for processes with", &lock)?;
    // Its group finds those that have cut all other ties; who had himself moved to another group is found by them.
    let group = read_start(layout, start)?.and_then(|r| r.cgroup);
    if let Some(dir) = group.filter(|_| leader.is_this_boot() && !leader.is_alive()) {
        for member in members(&dir).at("read", &dir)? {
            if !left.contains(&member) {
                left.push(member);
            }
        }
    }
    // A node that has come meanwhile is no one's remains.
    for start in starts(layout).into_iter().rev().take(2) {
        if let Some(record) = read_start(layout, start)? {
            left.retain(|l| l.identity != record.identity);
        }
    }
    Ok(left)
}

/// What is left of one start.
pub fn start_evidence(layout: &Layout, start: StartId) -> Result<StartEvidence, PathError> {
    let Some(record) = read_start(layout, start)? else {
        return Ok(StartEvidence::None);
    };
    if record.identity.is_alive() {
        return Ok(StartEvidence::Alive);
    }
    let exit = read_exit(layout, start)?.map(|e| e.describe());
    Ok(StartEvidence::Dead {
        exit,
        this_boot: record.identity.is_this_boot(),
    })
}

/// Notes that nothing is left of a start.
pub fn mark_gone(layout: &Layout, start: StartId) -> Result<(), PathError> {
    let path = dir(layout, start).join("gone");
    if path.exists() {
        return Ok(());
    }
    write_atomic(&path, b"", false)
}

/// True when no process holds the node's lock. Held shared for an instant; the shim waits that out.
pub fn lock_is_free(layout: &Layout) -> Result<bool, PathError> {
    let path = layout.node_lock();
    let file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other.at("open", &path)?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e).at("lock", &path),
    }
}

const LOOK_LASTS: Duration = Duration::from_millis(50);

/// Forbids every start that has no record yet. Called once by a visor that has just taken the state lock: a shim that its
/// dead predecessor spawned may not have come to the node's lock, and must not come to life later.
pub fn fence(layout: &Layout) -> Result<(), PathError> {
    crate::durable::make_private_dir(&layout.state())?;
    let path = layout.node_lock();
    let file = open_lock(&path)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            // One who only looks holds it for an instant; one who is past the check leaves a record.
            Err(TryLockError::WouldBlock) if began.elapsed() < LOOK_LASTS => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(e).at("lock", &path),
        }
    }
    for start in starts(layout) {
        match read_start(layout, start)? {
            None => write_atomic(&dir(layout, start).join("cancelled"), b"", false)?,
            Some(record) if record.identity.is_alive() => {}
            Some(record) => {
                if left(layout, start, &record.identity, true)?.is_empty() {
                    mark_gone(layout, start)?;
                }
            }
        }
    }
    Ok(())
}
