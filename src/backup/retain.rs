//! Retention: which sealed generations stay, and what unfinished runs left behind.

use super::GenPaths;
use super::archive::prune_archives;
use super::dataset::may_be_removed;
use super::error::BackupError;
use super::record::{GenState, Generation, generations, is_held};
use super::roots::Roots;
use super::whole;
use crate::durable::{AtPath as _, make_private_dir};
use crate::model::{BackupSpec, GenId, UnixMs};
use crate::store::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Sealed generations, the one that was sealed first before the others.
pub fn sealed_generations(layout: &Layout) -> Vec<GenId> {
    let sealed = |g: &Generation| {
        matches!(
            g.state,
            GenState::Sealed | GenState::Verified | GenState::Bad
        )
    };
    ids(generations(layout).into_iter().filter(sealed))
}

/// Those of them that are not known to be bad.
pub fn good_generations(layout: &Layout) -> Vec<GenId> {
    let is_good = |g: &Generation| matches!(g.state, GenState::Sealed | GenState::Verified);
    ids(generations(layout).into_iter().filter(is_good))
}

fn ids(all: impl Iterator<Item = Generation>) -> Vec<GenId> {
    all.map(|g| g.id()).collect()
}

/// Keeps what the policy names, and never removes `current`; sweeps parts of other runs, but for those that somebody is at work on.
pub fn prune(
    layout: &Layout,
    node: &str,
    policy: &BackupSpec,
    current: GenId,
    now: UnixMs,
) -> Result<u32, BackupError> {
    let old = old_generations(layout, policy, now).into_iter();
    let old = old.filter(|old| old.generation != current);
    let removed = remove_each(layout, old.map(|old| old.done));
    let archives = prune_archives(layout, node, policy, now);
    let own = GenPaths::new(layout, current).part;
    let entries = fs::read_dir(layout.generations());
    let parts = entries.into_iter().flatten().flatten().map(|e| e.path());
    let is_left =
        |p: &PathBuf| p.extension().is_some_and(|e| e == "part") && *p != own && !is_held(p);
    remove_each(layout, parts.filter(is_left))?;
    Ok(removed? + archives?)
}

/// Removes generations, or data set aside; one that cannot be removed is not in the way of those behind it. How many, or the first error.
pub fn remove_each(
    layout: &Layout,
    dirs: impl Iterator<Item = PathBuf>,
) -> Result<u32, BackupError> {
    let (mut removed, mut failed) = (0, None);
    for dir in dirs {
        match remove(layout, &dir) {
            Ok(()) => removed += 1,
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(removed), Err)
}

/// Sealed generations that a policy no longer keeps, oldest first. Bad ones count for nothing.
fn old_generations(layout: &Layout, policy: &BackupSpec, now: UnixMs) -> Vec<GenPaths> {
    let all = generations(layout);
    let is_good = |g: &&Generation| matches!(g.state, GenState::Sealed | GenState::Verified);
    let good: Vec<&Generation> = all.iter().filter(is_good).collect();
    let keep = usize::try_from(policy.keep_last).unwrap_or(usize::MAX);
    let mut kept: BTreeSet<GenId> = good.iter().rev().take(keep).map(|g| g.id()).collect();
    // With the newest of each release, proved and of one moment, each of them can be gone back to.
    let mut of_release = BTreeMap::new();
    for g in &good {
        if g.state == GenState::Verified && !g.is_of_a_running_node() {
            of_release.insert(g.release(), g.id());
        }
    }
    kept.extend(of_release.into_values());
    let is_old = |g: &Generation| {
        matches!(
            g.state,
            GenState::Sealed | GenState::Verified | GenState::Bad
        ) && !g.pinned
            && !kept.contains(&g.id())
            && !is_young(g.at, policy, now)
    };
    let old = all.into_iter().filter(is_old);
    old.map(|g| g.paths).collect()
}

fn is_young(at: UnixMs, policy: &BackupSpec, now: UnixMs) -> bool {
    let age = now.saturating_sub(at);
    policy.keep_within.is_some_and(|within| age < within)
}

/// What a person may remove: generations that a policy no longer keeps, and data that a restore or a roll-back set aside longer ago than it
/// keeps, or than a week where it says nothing of time. `needed`: generations of open runs.
pub fn superfluous(
    layout: &Layout,
    policy: &BackupSpec,
    needed: &[GenId],
    now: UnixMs,
) -> Vec<PathBuf> {
    let old = old_generations(layout, policy, now);
    let free = old.into_iter().filter(|p| !needed.contains(&p.generation));
    let mut all: Vec<PathBuf> = free.map(|paths| paths.done).collect();
    let of_aside = BackupSpec {
        keep_within: policy.keep_within.or(BackupSpec::built_in().keep_within),
        ..policy.clone()
    };
    let aside = fs::read_dir(layout.failed())
        .into_iter()
        .flatten()
        .flatten();
    let mut aside: Vec<PathBuf> = aside
        .filter(|e| {
            let name = e.file_name();
            let id: Option<GenId> = name.to_str().and_then(|n| n.parse().ok());
            // Since when it is there its change of name tells.
            let at = e.metadata().map_or(now, |m| {
                u64::try_from(m.ctime()).unwrap_or(0).saturating_mul(1_000)
            });
            id.is_some_and(|id| !needed.contains(&id))
                && !e.path().join("PINNED").is_file()
                && !is_young(at, &of_aside, now)
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
    may_be_removed(&dir.join("tree"))?;
    let trash = layout.generations().join("../trash");
    make_private_dir(&trash)?;
    // What earlier removals left, if it can be removed by now.
    for left in fs::read_dir(&trash).at("list", &trash)?.flatten() {
        let _ = remove_whole(&left.path());
    }
    if let Some(name) = dir.file_name() {
        let there = trash.join(name);
        fs::rename(dir, &there).at("rename", dir)?;
        remove_whole(&there)?;
    }
    // Others may be at it.
    let _ = fs::remove_dir(&trash);
    Ok(())
}

/// Removes a generation that is out of sight. What lies elsewhere goes first: its own directory knows of that.
fn remove_whole(there: &Path) -> Result<(), BackupError> {
    let name = there.file_name().unwrap_or_default().to_string_lossy();
    // Somebody who has taken the tree has taken what its links lead to.
    let id = name.trim_end_matches(".part").parse().ok();
    if let Some(id) = id.filter(|_| there.join("tree").is_dir()) {
        Roots::recorded(there, id)?.remove()?;
    }
    whole::remove(&there.join("tree"))?;
    match fs::remove_dir_all(there) {
        // Another visor was at it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other.at("remove", there)?),
    }
}
