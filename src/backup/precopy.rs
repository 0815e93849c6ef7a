//! Rounds of copying beside the running node: a full one, then short ones, each ending with a synced baseline.

use super::GenPaths;
use super::baseline::Baseline;
use super::copy::{Copier, Seed};
use super::error::BackupError;
use super::linked::Linked;
use super::method::{method_of, taken};
use super::mounts::Mount;
use super::pace::{Pace, enough_inodes, enough_space};
use super::pass::{Change, Watcher, align, pass};
use super::record::{GenRecord, write_record};
use super::roots::{Root, Roots, try_exchange};
use super::scan::{Look, Scanner, scan};
use super::tree::{Class, Kind, Tree};
use super::view::DataView;
use super::whole::{self, Whole};
use crate::durable::{make_private_dir, parent, sync_dir};
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
    pub(super) roots: Roots,
    pub(super) linked: Linked,
    pub(super) scanner: Scanner,
    pub(super) kept: BTreeSet<PathBuf>,
}

impl Ready {
    pub(super) fn new(
        baseline: Baseline,
        view: DataView,
        roots: Roots,
        mut scanner: Scanner,
    ) -> Self {
        scanner.settle(&baseline.entries, baseline.looked);
        Self {
            scanner,
            linked: Linked::of(&baseline.entries),
            kept: baseline.entries.kept(),
            baseline,
            view,
            roots,
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
    data: DataSpec,
    view: DataView,
    /// None: nobody has looked for them yet.
    roots: Option<Roots>,
    method: Method,
    backup: BackupSpec,
    before: Option<GenPaths>,
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
        let mut view = DataView::new(data)?;
        let tree = paths.part.join("tree");
        if whole::is_there(&tree).is_err() {
            whole::remove(&tree)?;
        }
        for dir in ["tree", "tmp"] {
            make_private_dir(&paths.part.join(dir))?;
        }
        write_record(paths, record)?;
        try_exchange(&paths.part.join("tmp"))?;
        let method = method_of(parent(&paths.part), data, backup.method)?;
        let known = Roots::read(&paths.part, generation)?;
        let (baseline, roots) = match Baseline::read(&paths.part.join("baseline")) {
            Ok(Some(mut found))
                if found.source == view.dir
                    && found.generation == generation
                    && Whole::at(&tree).is_some() == (method == Method::Snapshot) =>
            {
                let lost = align(&known.of_copy(&tree), &mut found.entries)?;
                if !lost.is_empty() {
                    found.write(&paths.part.join("baseline"))?;
                }
                view = known.of_data(view);
                (found, Some(known))
            }
            _ => {
                // What is left of a round that wrote nothing down.
                known.forget(&paths.part)?;
                whole::remove(&tree)?;
                make_private_dir(&tree)?;
                (Baseline::new(generation, &view.dir), None)
            }
        };
        let work = Work {
            paths: paths.clone(),
            data: data.clone(),
            view,
            roots,
            method,
            backup: backup.clone(),
            before: before.cloned(),
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
        data,
        mut view,
        roots,
        method,
        backup,
        before,
    } = work;
    let (roots, mut found) = match roots {
        Some(roots) => (roots, None),
        None => {
            let (id, own) = (paths.generation, parent(&paths.part));
            let (mut roots, found) = Roots::find(&mut view, &data, id, own, backup.method)?;
            roots.make(&paths.part)?;
            (roots, Some(found))
        }
    };
    let mut places = vec![match Whole::at(&data.path) {
        // Clones have their pool and its limits in common with the data.
        Some(Whole::Dataset) if method == Method::Snapshot => view.dir.clone(),
        _ => paths.part.clone(),
    }];
    places.extend(roots.iter().map(|root| roots.place(root)));
    let has_copies = method == Method::Copy || roots.iter().any(|r| r.method == Method::Copy);
    let mut seed = before
        .filter(|_| has_copies)
        .and_then(|before| seed(&before, &view.dir, &roots));
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
            &places,
            &shared.cancel,
            &shared.cut,
            &shared.bytes,
        );
        let spend = |n| pace.spend(n);
        let first = !baseline.whole;
        if first {
            if method == Method::Snapshot && baseline.entries.is_empty() {
                // A file system that runs out of space while a snapshot is made may never come out of it, with the node in it.
                for place in &places {
                    enough_space(place, 0, reserve)?;
                }
                let tree = paths.part.join("tree");
                baseline.entries = whole::snapshot(&view, &data, &tree, paths.generation)?;
            }
            let all = match found.take() {
                Some(found) => found,
                None => scan(&view)?,
            };
            let needs = needs(
                &all,
                &view,
                method,
                &roots,
                seed.as_ref(),
                &baseline.entries,
            );
            for place in &places {
                // Several may be on one disk.
                let disk = Mount::of(place).map(|m| m.dev);
                let here = places.iter().zip(&needs);
                let here = here.filter(|(other, _)| Mount::of(other).map(|m| m.dev) == disk);
                let (bytes, inodes) = here.fold((0, 0), |(bytes, inodes), (_, need)| {
                    (bytes + need.bytes, inodes + need.inodes)
                });
                enough_space(place, bytes, reserve)?;
                enough_inodes(place, inodes)?;
            }
            let bytes = needs.iter().map(|need| need.bytes).sum();
            let _ = shared.of.set((bytes, Instant::now()));
        } else {
            for place in &places {
                enough_space(place, 0, reserve)?;
            }
        }
        let mut copier = Copier::new(&view, &roots, &paths.part, method, &spend);
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
            return Ok(Ready::new(baseline, view, roots, scanner));
        }
        // The longer a round takes, the rarer it is: a tenth of the time at the most.
        let rest = (began.elapsed() * 10).clamp(SHORTEST_REST, LONGEST_REST);
        let Ok(end) = shared.end.lock() else {
            return Ok(Ready::new(baseline, view, roots, scanner));
        };
        let (end, _) = match shared.wake.wait_timeout_while(end, rest, |end| !*end) {
            Ok(woken) => woken,
            Err(_) => return Ok(Ready::new(baseline, view, roots, scanner)),
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

fn seed(before: &GenPaths, source: &Path, roots: &Roots) -> Option<Seed> {
    let (entries, _) = super::seal::sealed_state(before).ok()?;
    let of_before = Roots::read(&before.done, before.generation).ok()?;
    (entries.source == source && of_before.are_those_of(roots)).then(|| Seed {
        entries: entries.entries,
        tree: of_before.of_copy(&before.done.join("tree")),
    })
}

/// What a first round takes of a disk.
#[derive(Default)]
struct Need {
    bytes: u64,
    inodes: u64,
}

/// What a first round will take, or what is left of it: for the data, and for each second root.
fn needs(
    all: &Tree,
    view: &DataView,
    method: Method,
    roots: &Roots,
    seed: Option<&Seed>,
    done: &Tree,
) -> Vec<Need> {
    let is_done = |path: &Path, entry| done.get(path).is_some_and(|old| old.is_still(entry));
    // By a second name.
    let is_linked = |path: &Path, class: Class, method| {
        class == Class::Immutable
            && match method {
                Method::Snapshot | Method::Reflink => false,
                Method::LinkCopy => true,
                Method::Copy => seed.is_some_and(|s| s.entries.get(path).is_some()),
            }
    };
    let mut needs = vec![Need::default()];
    needs.extend(roots.iter().map(|_| Need::default()));
    for (path, entry) in all.iter() {
        let is_nothing = matches!(entry.kind, Kind::Kept | Kind::Special);
        if is_nothing || is_done(&path, entry) {
            continue;
        }
        let is_file = entry.kind == Kind::File;
        let below = |(_, root): &(usize, &Root)| path != root.path && path.starts_with(&root.path);
        let root = roots.iter().enumerate().filter(below).last();
        let (at, method) = root.map_or((0, method), |(i, root)| (i + 1, root.method));
        if is_file && is_linked(&path, entry.class, method) {
            continue;
        }
        let need = &mut needs[at];
        need.inodes += 1;
        if is_file && !method.shares_blocks() {
            need.bytes += taken(&view.full(&path));
        }
    }
    needs
}
