//! Retention: which sealed generations stay, and what unfinished runs left behind.

use super::GenPaths;
use super::error::BackupError;
use crate::durable::{AtPath as _, make_private_dir};
use crate::model::{BackupSpec, GenId, UnixMs};
use crate::store::Layout;
use std::fs;
use std::path::Path;

/// Sealed generations, oldest first.
pub fn sealed_generations(layout: &Layout) -> Vec<GenId> {
    let Ok(entries) = fs::read_dir(layout.generations()) else {
        return vec![];
    };
    let mut all: Vec<GenId> = entries
        .flatten()
        .filter(|e| e.path().join("SEAL").is_file())
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    all.sort_unstable();
    all
}

/// Keeps what the policy names, and never removes `current`; sweeps parts of other runs.
pub fn prune(
    layout: &Layout,
    policy: &BackupSpec,
    current: GenId,
    now: UnixMs,
) -> Result<u32, BackupError> {
    let sealed = sealed_generations(layout);
    let keep = usize::try_from(policy.keep_last).unwrap_or(usize::MAX);
    let excess = sealed.len().saturating_sub(keep);
    let is_young = |g: &GenId| {
        let age = now.saturating_sub(g.0.timestamp_ms());
        policy.keep_within.is_some_and(|within| age < within)
    };
    let mut removed = 0;
    let old = sealed.into_iter().take(excess);
    for old in old.filter(|g| *g != current && !is_young(g)) {
        remove(layout, &GenPaths::new(layout, old).done)?;
        removed += 1;
    }
    let own = GenPaths::new(layout, current).part;
    let Ok(entries) = fs::read_dir(layout.generations()) else {
        return Ok(removed);
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "part") && path != own {
            remove(layout, &path)?;
        }
    }
    Ok(removed)
}

/// Gives up a part that was never sealed.
pub fn discard(layout: &Layout, generation: GenId) -> Result<(), BackupError> {
    let part = GenPaths::new(layout, generation).part;
    if part.is_dir() {
        remove(layout, &part)
    } else {
        Ok(())
    }
}

/// First out of sight, then away: a half-removed generation is never taken for a whole one.
fn remove(layout: &Layout, dir: &Path) -> Result<(), BackupError> {
    let trash = layout.generations().join("../trash");
    make_private_dir(&trash)?;
    if let Some(name) = dir.file_name() {
        let there = trash.join(name);
        fs::rename(dir, &there).at("rename", dir)?;
    }
    fs::remove_dir_all(&trash).at("remove", &trash)?;
    Ok(())
}
