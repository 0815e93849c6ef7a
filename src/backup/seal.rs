//! The final pass over the stopped node's data, and the SEAL. All of this is inside the outage.

use super::GenPaths;
use super::baseline::{Baseline, Sealed, read_seal};
use super::copy::Copier;
use super::error::BackupError;
use super::pass::{Change, Watcher, align, last_of_each, pass};
use super::precopy::Ready;
use super::roots::Roots;
use super::scan::{Listing, Look, Scanner, scan};
use super::tree::Kind;
use super::view::DataView;
use crate::durable::{AtPath as _, create_private, parent, sync_dir};
use crate::host::{SealReport, SealState, wall_clock};
use crate::killpoint;
use crate::model::DataSpec;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// What the final pass goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Final {
    /// Stamps prove nothing on this file system: contents are compared.
    pub compare: bool,
    /// The node runs: files of different moments.
    pub live: bool,
    /// The chain's last known head, for people.
    pub height: Option<u64>,
}

/// What a way back need not find out while the node is down.
#[derive(Debug)]
pub struct Remembered {
    pub(super) view: DataView,
    /// The directories of the data as the final pass found them; it spares a look at most of their names.
    pub(super) listing: Listing,
}

/// Copies what changed since the baseline, writes the SEAL, gives the generation its name. `baseline` is the one in
/// memory; a recovering visor reads the synced one. With the report comes what is remembered for a way back.
pub fn seal(
    paths: &GenPaths,
    data: &DataSpec,
    ready: Option<Ready>,
    look: Final,
) -> Result<(SealReport, Option<Remembered>), BackupError> {
    let generation = paths.generation;
    if paths.done.join("SEAL").is_file() {
        return Ok((SealReport::default(), None));
    }
    let mut changes = Told(Vec::new());
    let ready = match ready {
        Some(ready) => ready,
        None => {
            let mut found = Baseline::read(&paths.part.join("baseline"))?
                .ok_or(BackupError::NoBaseline(generation))?;
            // The baseline that is written down knows them still.
            let roots = Roots::read(&paths.part, generation)?;
            let lost = align(&roots.of_copy(&paths.part.join("tree")), &mut found.entries)?;
            changes.0.extend(lost.into_iter().map(|path| (path, None)));
            let view = roots.of_data(DataView::new(data)?);
            Ready::new(found, view, roots, Scanner::default())
        }
    };
    let Ready {
        mut baseline,
        view,
        roots,
        linked,
        mut scanner,
        mut kept,
    } = ready;
    if baseline.source != view.dir {
        let begun = baseline.source;
        return Err(BackupError::OtherSource {
            begun,
            now: view.dir,
        });
    }
    let mut copier = Copier::new(&view, &roots, &paths.part, baseline.method, &|_| Ok(()));
    copier.known = linked;
    let at = wall_clock();
    let height = look.height;
    let look = match look {
        Final { live: true, .. } => Look::Live,
        Final { compare: true, .. } => Look::Compare,
        _ => Look::AtRest,
    };
    pass(
        &mut copier,
        &mut scanner,
        &view,
        &mut baseline,
        look,
        &mut changes,
    )?;
    let mut report = SealReport {
        files: copier.files,
        bytes: copier.bytes,
        total_files: baseline.entries.len() as u64,
        syncs: copier.syncs,
        passed_over: scanner.passed_over,
    };
    killpoint::hit("seal:copied");
    let changes = last_of_each(changes.0);
    for (path, entry) in &changes {
        match entry {
            Some(entry) if entry.kind == Kind::Kept => {
                kept.insert(path.clone());
            }
            Some(entry) if matches!(entry.kind, Kind::Dir | Kind::Root) => {}
            _ => forget_below(&mut kept, path),
        }
    }
    let sealed = Sealed {
        generation,
        source: view.dir.clone(),
        at,
        height,
        method: baseline.method,
        kept: Some(kept),
        changes,
    };
    let path = paths.part.join("SEAL");
    let mut file = create_private(&path)?;
    file.write_all(&sealed.to_bytes()).at("write", &path)?;
    file.sync_all().at("sync", &path)?;
    sync_dir(&paths.part)?;
    killpoint::hit("seal:written");
    fs::rename(&paths.part, &paths.done).at("rename into place", &paths.done)?;
    sync_dir(parent(&paths.done))?;
    killpoint::hit("seal:named");
    report.syncs += 3;
    let listing = match look {
        Look::AtRest => std::mem::take(&mut scanner.listing),
        Look::Live | Look::Compare => Listing::default(),
    };
    // The node does not wait until all that is freed.
    let _ = std::thread::Builder::new().spawn(move || drop((baseline, scanner)));
    Ok((report, Some(Remembered { view, listing })))
}

/// They are sorted, those below a path behind it.
fn forget_below(kept: &mut BTreeSet<PathBuf>, path: &Path) {
    let below = kept.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
    let gone: Vec<PathBuf> = below.take_while(|k| k.starts_with(path)).cloned().collect();
    for path in gone {
        kept.remove(&path);
    }
}

/// All that the pass tells, in its order.
struct Told(Vec<Change>);

impl Watcher for Told {
    fn changed(&mut self, change: Change) {
        self.0.push(change);
    }
}

/// Only a generation under its final name counts as sealed.
pub fn seal_state(paths: &GenPaths) -> SealState {
    let at = |dir: &Path, name: &str| dir.join(name).is_file();
    if at(&paths.aside, "CONSUMED") || at(&paths.done, "CONSUMED") {
        SealState::Consumed
    } else if at(&paths.done, "SEAL") {
        SealState::Sealed
    } else {
        SealState::None
    }
}

/// The state that a sealed generation stands for, and its seal.
pub(super) fn sealed_state(paths: &GenPaths) -> Result<(Baseline, Option<Sealed>), BackupError> {
    let dir = &paths.done;
    let baseline = Baseline::read(&dir.join("baseline"))?;
    let baseline = baseline.ok_or(BackupError::NoBaseline(paths.generation))?;
    Ok(match seal_of(paths)? {
        Some(seal) => (baseline.with(&seal), Some(seal)),
        None => (baseline, None),
    })
}

/// What `keep` named when it was sealed.
pub(super) fn sealed_kept(paths: &GenPaths) -> Result<BTreeSet<PathBuf>, BackupError> {
    if let Some(kept) = seal_of(paths)?.and_then(|seal| seal.kept) {
        return Ok(kept);
    }
    let (state, _) = sealed_state(paths)?;
    Ok(state.entries.kept())
}

fn seal_of(paths: &GenPaths) -> Result<Option<Sealed>, BackupError> {
    match read_seal(&paths.done.join("SEAL"))? {
        Some(seal) => Ok(Some(seal)),
        None => read_seal(&paths.done.join("CONSUMED")),
    }
}

/// True when names, inodes and stamps of the live data are those of the seal.
pub fn seal_holds(paths: &GenPaths, data: &DataSpec) -> Result<bool, BackupError> {
    let (sealed, _) = sealed_state(paths)?;
    let roots = Roots::read(&paths.done, paths.generation)?;
    let now = scan(&roots.of_data(DataView::new(data)?))?;
    let is_same = |path: &Path, entry| {
        let old = sealed.entries.get(path);
        old.is_some_and(|old| old.is_still(entry))
    };
    Ok(now.len() == sealed.entries.len() && now.iter().all(|(path, entry)| is_same(&path, entry)))
}

/// Takes the seal off: the generation is a part again, with its baseline as it was before the final pass.
pub fn unseal(paths: &GenPaths) -> Result<(), BackupError> {
    fs::rename(&paths.done, &paths.part).at("rename", &paths.done)?;
    let seal = paths.part.join("SEAL");
    fs::remove_file(&seal).at("remove", &seal)?;
    sync_dir(&paths.part)?;
    Ok(sync_dir(parent(&paths.part))?)
}
