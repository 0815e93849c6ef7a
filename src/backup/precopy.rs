//! Rounds of copying beside the running node: a full one, then short ones, each ending with a synced baseline.

use super::GenPaths;
use super::baseline::Baseline;
use super::copy::Copier;
use super::error::BackupError;
use super::scan::{DataView, Entry, Kind, scan};
use crate::durable::{AtPath as _, make_private_dir, sync_dir};
use crate::host::{HostError, Precopy};
use crate::model::{DataSpec, GenId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// At 200 MB/s a node with 20 ms blocks keeps its p99 block interval (23 ms against 21).
const RATE: u64 = 200 * 1024 * 1024;
/// Kept free beside the copy, so that the node never runs out of disk for visor's sake.
const RESERVE: u64 = 256 * 1024 * 1024;
/// Space is looked at again after so many bytes.
const WATCH_EVERY: u64 = 64 * 1024 * 1024;
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The background task of one generation. Dropping it ends the rounds.
#[derive(Debug)]
pub struct Precopier {
    pub generation: GenId,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Baseline, BackupError>>>,
    /// The baseline of the last round, once the rounds have ended.
    ended: Option<Baseline>,
}

#[derive(Debug, Default)]
struct Shared {
    end: Mutex<bool>,
    wake: Condvar,
    /// Ends the copy at the next chunk.
    cancel: AtomicBool,
    rounds: AtomicU32,
    bytes: AtomicU64,
    failed: Mutex<Option<String>>,
}

impl Precopier {
    /// Begins rounds into `<id>.part`; goes on from the baseline that an earlier visor left.
    pub fn start(
        paths: &GenPaths,
        generation: GenId,
        data: &DataSpec,
    ) -> Result<Self, BackupError> {
        let view = DataView::new(data)?;
        let paths = paths.clone();
        for dir in ["tree", "tmp"] {
            make_private_dir(&paths.part.join(dir))?;
        }
        try_exchange(&paths.part.join("tmp"))?;
        let baseline = match Baseline::read(&paths.part.join("baseline")) {
            Ok(Some(mut found)) if found.source == view.dir && found.generation == generation => {
                align(&paths.part.join("tree"), &mut found)?;
                found
            }
            _ => {
                // What an unfinished first round left is not in any baseline.
                let tree = paths.part.join("tree");
                std::fs::remove_dir_all(&tree).at("remove", &tree)?;
                make_private_dir(&tree)?;
                Baseline::new(generation, &view.dir)
            }
        };
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let done = rounds(&paths, &view, baseline, &of_thread);
            if let Err(error) = &done
                && let Ok(mut failed) = of_thread.failed.lock()
            {
                *failed = Some(HostError::from_error(error).to_string());
            }
            done
        });
        Ok(Self {
            generation,
            shared,
            thread: Some(thread),
            ended: None,
        })
    }

    pub fn state(&self) -> Precopy {
        let bytes = self.shared.bytes.load(Ordering::Relaxed);
        if let Some(why) = self.shared.failed.lock().ok().and_then(|f| f.clone()) {
            return Precopy::Failed(why);
        }
        match self.shared.rounds.load(Ordering::Acquire) {
            0 => Precopy::Filling { bytes },
            rounds => Precopy::Ready { rounds, bytes },
        }
    }

    /// True once the rounds were ended as asked. Rounds that failed have not: their failure is still to be heard.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// One last short round, then the end.
    pub fn end(&mut self, interrupted: &dyn Fn() -> bool) -> Result<(), BackupError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.ask_to_end();
        while !thread.is_finished() {
            if interrupted() {
                self.shared.cancel.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let baseline = thread
            .join()
            .map_err(|_| BackupError::Precopy("its thread panicked".into()))??;
        self.ended = Some(baseline);
        Ok(())
    }

    /// The last baseline, for the final pass.
    pub fn into_baseline(mut self) -> Option<Baseline> {
        self.ended.take()
    }

    fn ask_to_end(&self) {
        if let Ok(mut end) = self.shared.end.lock() {
            *end = true;
        }
        self.shared.wake.notify_all();
    }
}

impl Drop for Precopier {
    fn drop(&mut self) {
        self.shared.cancel.store(true, Ordering::Relaxed);
        self.ask_to_end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn rounds(
    paths: &GenPaths,
    view: &DataView,
    mut baseline: Baseline,
    shared: &Shared,
) -> Result<Baseline, BackupError> {
    let mut last = false;
    loop {
        let began = Instant::now();
        let pace = Pace::new(paths, shared);
        let spend = |n| pace.spend(n);
        let mut copier = copier(paths, view, &spend);
        let first = baseline.entries.is_empty();
        if first {
            links_stay_inside(view)?;
            reckon_space(&paths.part, view)?;
        }
        let changes = pass(&mut copier, view, &baseline, true, false)?;
        copier.sync_dirs()?;
        apply(&mut baseline.entries, &changes);
        baseline.write(&paths.part.join("baseline"))?;
        if first {
            sync_dir(&paths.part)?;
            sync_dir(crate::durable::parent(&paths.part))?;
        }
        shared.rounds.fetch_add(1, Ordering::Release);
        if last {
            return Ok(baseline);
        }
        // The longer a round takes, the rarer it is: a tenth of the time at the most.
        let rest = (began.elapsed() * 10).clamp(SHORTEST_REST, LONGEST_REST);
        let Ok(end) = shared.end.lock() else {
            return Ok(baseline);
        };
        let (end, _) = match shared.wake.wait_timeout_while(end, rest, |end| !*end) {
            Ok(woken) => woken,
            Err(_) => return Ok(baseline),
        };
        last = *end;
    }
}

pub(super) fn copier<'a>(
    paths: &GenPaths,
    view: &'a DataView,
    pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
) -> Copier<'a> {
    Copier {
        source: &view.dir,
        tree: paths.part.join("tree"),
        tmp: paths.part.join("tmp"),
        pace,
        dirty_dirs: BTreeSet::new(),
        files: 0,
        bytes: 0,
        syncs: 0,
    }
}

/// Brings the copy to the source's state; returns what changed against the baseline. `live`: the node may write
/// meanwhile. `compare`: stamps prove nothing here, contents are compared.
pub(super) fn pass(
    copier: &mut Copier<'_>,
    view: &DataView,
    baseline: &Baseline,
    live: bool,
    compare: bool,
) -> Result<BTreeMap<PathBuf, Option<Entry>>, BackupError> {
    let now = scan(view)?;
    let mut changes = BTreeMap::new();
    for path in baseline.entries.keys().filter(|p| !now.contains_key(*p)) {
        copier.remove(path)?;
        changes.insert(path.clone(), None);
    }
    for (path, entry) in &now {
        let old = baseline.entries.get(path);
        if old.is_some_and(|old| same(old, entry))
            && !(compare && entry.kind == Kind::File && differs(copier, path)?)
        {
            continue;
        }
        match copier.copy(path, entry, live)? {
            Some(entry) => drop(changes.insert(path.clone(), Some(entry))),
            None if old.is_some() => {
                copier.remove(path)?;
                changes.insert(path.clone(), None);
            }
            None => {}
        }
    }
    Ok(changes)
}

/// True when an entry need not be copied again.
pub(super) fn same(old: &Entry, new: &Entry) -> bool {
    old.kind == new.kind
        && match new.kind {
            Kind::File | Kind::Link => !old.hot && old.ident == new.ident,
            Kind::Dir => {
                (old.ident.mode, old.ident.uid, old.ident.gid)
                    == (new.ident.mode, new.ident.uid, new.ident.gid)
            }
            Kind::Kept => true,
        }
}

pub(super) fn apply(
    entries: &mut BTreeMap<PathBuf, Entry>,
    changes: &BTreeMap<PathBuf, Option<Entry>>,
) {
    for (path, change) in changes {
        match change {
            Some(entry) => entries.insert(path.clone(), *entry),
            None => entries.remove(path),
        };
    }
}

fn differs(copier: &Copier<'_>, path: &Path) -> Result<bool, BackupError> {
    Ok(!super::restore::same_contents(
        &copier.source.join(path),
        &copier.tree.join(path),
    )?)
}

/// Slows the copy down and watches the free space.
struct Pace<'a> {
    dir: &'a Path,
    shared: &'a Shared,
    began: Instant,
    spent: AtomicU64,
}

impl<'a> Pace<'a> {
    fn new(paths: &'a GenPaths, shared: &'a Shared) -> Self {
        Self {
            dir: &paths.part,
            shared,
            began: Instant::now(),
            spent: AtomicU64::new(0),
        }
    }

    fn spend(&self, bytes: u64) -> Result<(), BackupError> {
        if self.shared.cancel.load(Ordering::Relaxed) {
            return Err(BackupError::Interrupted);
        }
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.spent.fetch_add(bytes, Ordering::Relaxed);
        let spent = before + bytes;
        if spent / WATCH_EVERY != before / WATCH_EVERY {
            enough_space(self.dir, 0)?;
        }
        let due = Duration::from_secs_f64(spent as f64 / RATE as f64);
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
        Ok(())
    }
}

/// A link that leads out of the data directory names data that no copy would hold.
fn links_stay_inside(view: &DataView) -> Result<(), BackupError> {
    for (path, entry) in scan(view)? {
        if entry.kind == Kind::Link {
            let link = view.dir.join(path);
            let target = std::fs::canonicalize(&link);
            if target.is_ok_and(|t| !t.starts_with(&view.dir)) {
                return Err(BackupError::LinkOutside(link));
            }
        }
    }
    Ok(())
}

fn reckon_space(part: &Path, view: &DataView) -> Result<(), BackupError> {
    let need = scan(view)?
        .values()
        .filter(|e| e.kind == Kind::File)
        .map(|e| e.ident.size)
        .sum();
    enough_space(part, need)
}

fn enough_space(dir: &Path, need: u64) -> Result<(), BackupError> {
    let stat = rustix::fs::statvfs(dir).at("look at the space of", dir)?;
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    if available < need.saturating_add(RESERVE) {
        return Err(BackupError::NoSpace {
            dir: dir.to_owned(),
            need,
            reserve: RESERVE,
            available,
        });
    }
    Ok(())
}

/// After a cut: removes from the tree what the baseline does not know, and from the baseline what the tree lacks, so that
/// both say the same. A round that was cut has changed the one and not the other.
pub(super) fn align(tree: &Path, baseline: &mut Baseline) -> Result<(), BackupError> {
    let there = scan(&DataView::all(tree)?)?;
    for (path, _) in there.iter().rev() {
        if !baseline.entries.contains_key(path) {
            let full = tree.join(path);
            match std::fs::symlink_metadata(&full) {
                Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&full).at("remove", &full)?,
                Ok(_) => std::fs::remove_file(&full).at("remove", &full)?,
                Err(_) => {}
            }
        }
    }
    let same_kind = |path: &PathBuf, entry: &Entry| {
        entry.kind == Kind::Kept || there.get(path).is_some_and(|t| t.kind == entry.kind)
    };
    baseline
        .entries
        .retain(|path, entry| same_kind(path, entry));
    Ok(())
}

/// Finds out early whether this file system can exchange two directories: a restore depends on it.
fn try_exchange(tmp: &Path) -> Result<(), BackupError> {
    let (a, b) = (tmp.join("exchange-a"), tmp.join("exchange-b"));
    make_private_dir(&a)?;
    make_private_dir(&b)?;
    super::restore::exchange_names(&a, &b)?;
    for dir in [a, b] {
        std::fs::remove_dir(&dir).at("remove", &dir)?;
    }
    Ok(())
}
