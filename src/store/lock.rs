//! One visor a node: a lock that the kernel frees when its holder dies.

use super::Layout;
use crate::durable::{
    AtPath as _, PathError, make_private_dir, open_lock, read_bounded, write_atomic,
};
use crate::model::{UnixMs, rfc3339};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};

/// Who holds the lock. For messages only: the lock itself is the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Owner {
    pub pid: u32,
    pub command: String,
    pub since: UnixMs,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another visor works on this node: {}", describe(.0.as_ref()))]
    Held(Option<Owner>),
    #[error(transparent)]
    Path(#[from] PathError),
}

fn describe(owner: Option<&Owner>) -> String {
    owner.map_or_else(
        || "it left no record of itself".into(),
        |o| {
            format!(
                "`visor {}`, pid {}, since {}",
                o.command,
                o.pid,
                rfc3339(o.since)
            )
        },
    )
}

/// The lock of a state directory, held until it is dropped or the process dies.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    pub fn acquire(layout: &Layout, command: &str, now: UnixMs) -> Result<Self, LockError> {
        let state = layout.state();
        make_private_dir(&state)?;
        let path = state.join("lock");
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(Self::owner(layout))),
            Err(TryLockError::Error(e)) => return Err(e).at("lock", &path)?,
        }
        let owner = Owner {
            pid: std::process::id(),
            command: command.to_owned(),
            since: now,
        };
        let bytes = serde_json::to_vec(&owner).expect("an owner is plain data");
        write_atomic(&state.join("owner.json"), &bytes, false)?;
        Ok(Self { _file: file })
    }

    /// Who holds the lock now; `None` when nobody does.
    pub fn holder(layout: &Layout) -> Option<Owner> {
        let file = File::open(layout.state().join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(Self::owner(layout).unwrap_or(Owner {
                pid: 0,
                command: "unknown".into(),
                since: 0,
            })),
            _ => None,
        }
    }

    fn owner(layout: &Layout) -> Option<Owner> {
        let bytes = read_bounded(&layout.state().join("owner.json"), 4096).ok()??;
        serde_json::from_slice(&bytes).ok()
    }
}
