//! Rounds of copying beside the running node: a full one, then short ones, each ending with a synced baseline.

use super::GenPaths;
use super::baseline::Baseline;
use super::copy::{Copier, Seed};
use super::error::BackupError;
use super::linked::Linked;
use super::method::{ladder, taken};
use super::pace::{Pace, enough_inodes, enough_space};
use super::pass::{Change, Watcher, align, pass};
use super::record::{GenRecord, write_record};
use super::restore::exchange_names;
use super::scan::{Look, Scanner, scan};
use super::subvolume::{is_subvolume, snapshot};
use super::tree::{Class, Kind, Tree};
use super::view::DataView;
use crate::durable::{AtPath as _, make_private_dir, parent, sync_dir};
use crate::host::{HostError, Precopy, wall_clock};
use crate::model::{BackupSpec, DataSpec, GenId, Method};
use crate::process::give_way;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How far the first round has come is written down so often: what was written for it is synced then, which the node feels.
const NOTE_EVERY: Duration = Duration::from_secs(if cfg!(feature = "test-programs") {
    1
} else {
    60
});

/// The background task of one generation. Dropping it ends the rounds.
#[derive(Debug)]
pub struct Precopier {
    pub generation: GenId,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Ready, BackupError>>>,
    ended: Option<Ready>,
}

/// What the final pass needs, made ready while the node runs.
#[derive(Debug)]
pub struct Ready {
    pub(super) baseline: Baseline,
    pub(super) view: DataView,
    pub(super) linked: Linked,
    pub(super) scanner: Scanner,
    pub(super) kept: BTreeSet<PathBuf>,
}

impl Ready {
    pub(super) fn new(baseline: Baseline, view: DataView, mut scanner: Scanner) -> Self {
        scanner.settle(&baseline.entries, baseline.looked);
        Self {
            scanner,
            linked: Linked::of(&baseline.entries),
            kept: baseline.entries.kept(),
            baseline,
            view,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    end: Mutex<bool>,
    wake: Condvar,
    /// Ends the copy at the next chunk.
    cancel: AtomicBool,
    /// Ends the round at the next chunk, with what it has.
    cut: AtomicBool,
    rounds: AtomicU32,
    bytes: AtomicU64,
    /// What the first round had to copy when it was begun or gone on with, and when that was.
    of: OnceLock<(u64, Instant)>,
    failed: Mutex<Option<String>>,
}

/// What one generation is made of and how.
struct Work {
    paths: GenPaths,
    view: DataView,
    method: Method,
    backup: BackupSpec,
    seed: Option<Seed>,
}

impl Precopier {
    /// Begins rounds into `<id>.part`; goes on from the baseline that an earlier visor left. `before`: a sealed generation whose
    /// immutable files need no second copy.
    pub fn start(
        paths: &GenPaths,
        record: &GenRecord,
        data: &DataSpec,
        backup: &BackupSpec,
        before: Option<&GenPaths>,
    ) -> Result<Self, BackupError> {
        let generation = paths.generation;
        let view = DataView::new(data)?;
        for dir in ["tree", "tmp"] {
            make_private_dir(&paths.part.join(dir))?;
        }
        write_record(paths, record)?;
        try_exchange(&paths.part.join("tmp"))?;
        let method = method_of(paths, data, backup)?;
        let baseline = match Baseline::read(&paths.part.join("baseline")) {
            Ok(Some(mut found))
                if found.source == view.dir
                    && found.generation == generation
                    && is_subvolume(&paths.part.join("tree")) == (method == Method::Snapshot) =>
            {
                let lost = align(&paths.part.join("tree"), &mut found.entries)?;
                if !lost.is_empty() {
                    found.write(&paths.part.join("baseline"))?;
                }
                found
            }
            _ => {
                // What is left of a round that wrote nothing down.
                let tree = paths.part.join("tree");
                std::fs::remove_dir_all(&tree).at("remove", &tree)?;
                make_private_dir(&tree)?;
                Baseline::new(generation, &view.dir)
            }
        };
        let work = Work {
            seed: before
                .filter(|_| method == Method::Copy)
                .and_then(|before| seed(before, &view.dir)),
            paths: paths.clone(),
            view,
            method,
            backup: backup.clone(),
        };
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            give_way();
            let done = rounds(work, baseline, &of_thread);
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
            0 => {
                let of = self.shared.of.get();
                let since = of.map_or(Duration::ZERO, |(_, since)| since.elapsed());
                Precopy::Filling {
                    bytes,
                    of: of.map(|(of, _)| *of),
                    ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
                }
            }
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
        let ready = thread
            .join()
            .map_err(|_| BackupError::Precopy("its thread panicked".into()))??;
        self.ended = Some(ready);
        Ok(())
    }

    /// Ends the rounds where they stand, the first one too.
    pub fn cut(&mut self) -> Result<(), BackupError> {
        self.shared.cut.store(true, Ordering::Relaxed);
        self.end(&|| false)
    }

    /// What the last round saw, for the final pass.
    pub fn into_ready(mut self) -> Option<Ready> {
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

fn rounds(work: Work, mut baseline: Baseline, shared: &Shared) -> Result<Ready, BackupError> {
    let Work {
        paths,
        view,
        method,
        backup,
        mut seed,
    } = work;
    baseline.method = method;
    let mut scanner = Scanner::default();
    let mut last = false;
    loop {
        let began = Instant::now();
        let looked = wall_clock();
        let reserve = backup.reserve;
        let pace = Pace::new(
            backup.rate,
            reserve,
            &paths.part,
            &shared.cancel,
            &shared.cut,
            &shared.bytes,
        );
        let spend = |n| pace.spend(n);
        let first = !baseline.whole;
        if first {
            links_stay_inside(&view)?;
            if method == Method::Snapshot && baseline.entries.is_empty() {
                baseline.entries = snapshot(&view, &paths.part.join("tree"))?;
            }
            let need = need(&view, method, seed.as_ref(), &baseline.entries)?;
            enough_space(&paths.part, need.bytes, reserve)?;
            enough_inodes(&paths.part, need.inodes)?;
            let _ = shared.of.set((need.bytes, Instant::now()));
        } else {
            enough_space(&paths.part, 0, reserve)?;
        }
        let mut copier = Copier::new(&view.dir, &paths.part, method, &spend);
        copier.seed = seed.as_ref();
        copier.known = Linked::of(&baseline.entries);
        let mut notes = Notes::new(&paths, first);
        let passed = pass(
            &mut copier,
            &mut scanner,
            &view,
            &mut baseline,
            Look::Live,
            &mut notes,
        );
        match passed {
            Ok(()) => {
                baseline.looked = looked;
                baseline.whole = true;
            }
            // What is copied is copied; when all was looked at last stays as it was.
            Err(BackupError::Cut) => {
                copier.finish()?;
                last = true;
            }
            // The next visor goes on from here.
            Err(BackupError::Interrupted) if first => {
                notes.write(&mut copier, &baseline)?;
                return Err(BackupError::Interrupted);
            }
            Err(other) => return Err(other),
        }
        if notes.moved || first || last {
            baseline.write(&paths.part.join("baseline"))?;
        }
        if first {
            sync_dir(&paths.part)?;
            sync_dir(parent(&paths.part))?;
        }
        // What it had is in the copy by now.
        seed = None;
        shared.rounds.fetch_add(1, Ordering::Release);
        if last {
            return Ok(Ready::new(baseline, view, scanner));
        }
        // The longer a round takes, the rarer it is: a tenth of the time at the most.
        let rest = (began.elapsed() * 10).clamp(SHORTEST_REST, LONGEST_REST);
        let Ok(end) = shared.end.lock() else {
            return Ok(Ready::new(baseline, view, scanner));
        };
        let (end, _) = match shared.wake.wait_timeout_while(end, rest, |end| !*end) {
            Ok(woken) => woken,
            Err(_) => return Ok(Ready::new(baseline, view, scanner)),
        };
        last = *end;
    }
}

/// Writes down how far the first round has come, so that a visor that follows goes on from there.
struct Notes<'a> {
    paths: &'a GenPaths,
    first: bool,
    /// Something has changed in this round.
    moved: bool,
    written: Instant,
    took: Duration,
}

impl<'a> Notes<'a> {
    fn new(paths: &'a GenPaths, first: bool) -> Self {
        Self {
            paths,
            first,
            moved: false,
            written: Instant::now(),
            took: Duration::ZERO,
        }
    }

    fn write(&mut self, copier: &mut Copier<'_>, baseline: &Baseline) -> Result<(), BackupError> {
        let began = Instant::now();
        copier.finish()?;
        baseline.write(&self.paths.part.join("baseline"))?;
        self.written = Instant::now();
        self.took = self.written - began;
        Ok(())
    }
}

impl Watcher for Notes<'_> {
    fn changed(&mut self, _: Change) {
        self.moved = true;
    }

    fn between(&mut self, copier: &mut Copier<'_>, baseline: &Baseline) -> Result<(), BackupError> {
        // It holds all entries: a twentieth of the time at the most.
        let due = self.written.elapsed() > NOTE_EVERY.max(self.took * 20);
        match self.first && due {
            true => self.write(copier, baseline),
            false => Ok(()),
        }
    }
}

/// The method that was asked for, if it can be had, or the best that can.
pub(super) fn method_of(
    paths: &GenPaths,
    data: &DataSpec,
    backup: &BackupSpec,
) -> Result<Method, BackupError> {
    let mut rungs = ladder(parent(&paths.part), data).into_iter();
    match backup.method {
        None => Ok(rungs
            .find(|r| r.refusal.is_none())
            .map_or(Method::Copy, |r| r.method)),
        Some(method) => match rungs.find(|r| r.method == method).and_then(|r| r.refusal) {
            Some(why) => Err(BackupError::NoMethod { method, why }),
            None => Ok(method),
        },
    }
}

fn seed(before: &GenPaths, source: &Path) -> Option<Seed> {
    let (entries, _) = super::seal::sealed_state(before).ok()?;
    (entries.source == source).then(|| Seed {
        entries: entries.entries,
        tree: before.done.join("tree"),
    })
}

/// A link that leads out of the data directory names data that no copy would hold.
fn links_stay_inside(view: &DataView) -> Result<(), BackupError> {
    for (path, entry) in scan(view)?.iter() {
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

/// What a first round takes of the disk.
struct Need {
    bytes: u64,
    inodes: u64,
}

/// What a first round will take, or what is left of it.
fn need(
    view: &DataView,
    method: Method,
    seed: Option<&Seed>,
    done: &Tree,
) -> Result<Need, BackupError> {
    let all: Tree = scan(view)?;
    let is_done = |path: &Path, entry| done.get(path).is_some_and(|old| old.is_still(entry));
    // By a second name.
    let is_linked = |path: &Path, class: Class| {
        class == Class::Immutable
            && match method {
                Method::Snapshot | Method::Reflink => false,
                Method::LinkCopy => true,
                Method::Copy => seed.is_some_and(|s| s.entries.get(path).is_some()),
            }
    };
    let mut need = Need {
        bytes: 0,
        inodes: 0,
    };
    for (path, entry) in all.iter() {
        let is_nothing = matches!(entry.kind, Kind::Kept | Kind::Special);
        if is_nothing || is_done(&path, entry) {
            continue;
        }
        let is_file = entry.kind == Kind::File;
        if is_file && is_linked(&path, entry.class) {
            continue;
        }
        need.inodes += 1;
        if is_file && !method.shares_blocks() {
            need.bytes += taken(&view.dir.join(&path));
        }
    }
    Ok(need)
}

/// Finds out early whether this file system can exchange two directories: a restore depends on it.
fn try_exchange(tmp: &Path) -> Result<(), BackupError> {
    let (a, b) = (tmp.join("exchange-a"), tmp.join("exchange-b"));
    make_private_dir(&a)?;
    make_private_dir(&b)?;
    exchange_names(&a, &b)?;
    for dir in [a, b] {
        std::fs::remove_dir(&dir).at("remove", &dir)?;
    }
    Ok(())
}
