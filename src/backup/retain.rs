//! Retention: which sealed generations stay, and what unfinished runs left behind.

use super::GenPaths;
use super::error::BackupError;
use super::record::{GenState, generations, is_held};
use crate::durable::{AtPath as _, make_private_dir};
use crate::model::{BackupSpec, GenId, UnixMs};
use crate::store::Layout;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

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

/// Keeps what the policy names, and never removes `current`; sweeps parts of other runs, but for those that somebody is at work on.
pub fn prune(
    layout: &Layout,
    policy: &BackupSpec,
    current: GenId,
    now: UnixMs,
) -> Result<u32, BackupError> {
    let mut removed = 0;
    for old in old_generations(layout, policy, now) {
        if old.generation != current {
            remove(layout, &old.done)?;
            removed += 1;
        }
    }
    let own = GenPaths::new(layout, current).part;
    let Ok(entries) = fs::read_dir(layout.generations()) else {
        return Ok(removed);
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "part") && path != own && !is_held(&path) {
            remove(layout, &path)?;
        }
    }
    Ok(removed)
}

/// Sealed generations that a policy no longer keeps, oldest first.
fn old_generations(layout: &Layout, policy: &BackupSpec, now: UnixMs) -> Vec<GenPaths> {
    let newest_verified = newest_verified(layout);
    let sealed = sealed_generations(layout);
    let keep = usize::try_from(policy.keep_last).unwrap_or(usize::MAX);
    let excess = sealed.len().saturating_sub(keep);
    let old = sealed.into_iter().take(excess);
    old.filter(|g| !is_young(*g, policy, now) && !newest_verified.contains(g))
        .map(|g| GenPaths::new(layout, g))
        .filter(|paths| !paths.done.join("PINNED").is_file())
        .collect()
}

fn is_young(generation: GenId, policy: &BackupSpec, now: UnixMs) -> bool {
    let age = now.saturating_sub(generation.0.timestamp_ms());
    policy.keep_within.is_some_and(|within| age < within)
}

/// What a person may remove: generations that a policy no longer keeps, and data that a restore or a roll-back set aside when they are
/// older than it keeps.
pub fn superfluous(layout: &Layout, policy: &BackupSpec, now: UnixMs) -> Vec<PathBuf> {
    let old = old_generations(layout, policy, now);
    let mut all: Vec<PathBuf> = old.into_iter().map(|paths| paths.done).collect();
    let aside = fs::read_dir(layout.failed())
        .into_iter()
        .flatten()
        .flatten();
    let mut aside: Vec<PathBuf> = aside
        .filter(|e| {
            let id = e.file_name().to_str().and_then(|n| n.parse().ok());
            id.is_some_and(|id| !is_young(id, policy, now))
        })
        .map(|e| e.path())
        .collect();
    aside.sort_unstable();
    all.extend(aside);
    all
}

/// Backups that other tools left in a node's home: `data-backup-*` of cosmovisor, `*.tar.gz` in `backups` of wemixvisor.
pub fn foreign_backups(home: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path, wanted: fn(&str) -> bool| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let wanted = entries.filter(move |e| wanted(&e.file_name().to_string_lossy()));
        wanted.map(|e| e.path()).collect::<Vec<_>>()
    };
    let mut all = list(home, |name| {
        name.starts_with("data-backup-") || name.ends_with(".tar.gz")
    });
    all.extend(list(&home.join("backups"), |name| {
        name.ends_with(".tar.gz")
    }));
    all.sort_unstable();
    all
}

/// The newest verified generation of each release: with it each of them can be gone back to.
fn newest_verified(layout: &Layout) -> Vec<GenId> {
    let mut of_release = BTreeMap::new();
    for generation in generations(layout) {
        if generation.state == GenState::Verified {
            of_release.insert(generation.release().map(str::to_owned), generation.id());
        }
    }
    of_release.into_values().collect()
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
pub fn remove(layout: &Layout, dir: &Path) -> Result<(), BackupError> {
    let trash = layout.generations().join("../trash");
    make_private_dir(&trash)?;
    if let Some(name) = dir.file_name() {
        let there = trash.join(name);
        fs::rename(dir, &there).at("rename", dir)?;
    }
    fs::remove_dir_all(&trash).at("remove", &trash)?;
    Ok(())
}
