//! The final pass over the stopped node's data, and the SEAL. All of this is inside the outage.

use super::GenPaths;
use super::baseline::{Baseline, Sealed, read_seal};
use super::error::BackupError;
use super::precopy::{align, copier, pass, same};
use super::scan::{DataView, scan};
use crate::durable::{AtPath as _, create_private, parent, sync_dir};
use crate::host::{SealReport, SealState};
use crate::killpoint;
use crate::model::{DataSpec, GenId};
use std::fs;
use std::io::Write as _;

/// Copies what changed since the baseline, writes the SEAL, gives the generation its name. `baseline` is the one in
/// memory; a recovering visor reads the synced one.
pub fn seal(
    paths: &GenPaths,
    generation: GenId,
    data: &DataSpec,
    baseline: Option<Baseline>,
    compare: bool,
) -> Result<SealReport, BackupError> {
    if paths.done.join("SEAL").is_file() {
        return Ok(SealReport::default());
    }
    let view = DataView::new(data)?;
    let baseline = match baseline {
        Some(baseline) => baseline,
        None => {
            let mut found = Baseline::read(&paths.part.join("baseline"))?
                .ok_or(BackupError::NoBaseline(generation))?;
            align(&paths.part.join("tree"), &mut found)?;
            found
        }
    };
    if baseline.source != view.dir {
        let begun = baseline.source;
        return Err(BackupError::OtherSource {
            begun,
            now: view.dir,
        });
    }
    let mut copier = copier(paths, &view, &|_| Ok(()));
    let changes = pass(&mut copier, &view, &baseline, false, compare)?;
    copier.sync_dirs()?;
    let gone = changes.values().filter(|c| c.is_none()).count();
    let new = changes
        .iter()
        .filter(|(p, c)| c.is_some() && !baseline.entries.contains_key(*p))
        .count();
    let mut report = SealReport {
        files: copier.files,
        bytes: copier.bytes,
        total_files: (baseline.entries.len() + new - gone) as u64,
        syncs: copier.syncs,
    };
    killpoint::hit("seal:copied");
    let sealed = Sealed {
        generation,
        source: view.dir.clone(),
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
    Ok(report)
}

/// Only a generation under its final name counts as sealed.
pub fn seal_state(paths: &GenPaths) -> SealState {
    let at = |dir: &std::path::Path, name: &str| dir.join(name).is_file();
    if at(&paths.aside, "CONSUMED") || at(&paths.done, "CONSUMED") {
        SealState::Consumed
    } else if at(&paths.done, "SEAL") {
        SealState::Sealed
    } else {
        SealState::None
    }
}

/// The state that a sealed generation stands for.
pub(super) fn sealed_state(
    dir: &std::path::Path,
    generation: GenId,
) -> Result<Baseline, BackupError> {
    let baseline =
        Baseline::read(&dir.join("baseline"))?.ok_or(BackupError::NoBaseline(generation))?;
    let seal = match read_seal(&dir.join("SEAL"))? {
        Some(seal) => Some(seal),
        None => read_seal(&dir.join("CONSUMED"))?,
    };
    Ok(match seal {
        Some(seal) => baseline.with(&seal),
        None => baseline,
    })
}

/// True when names, inodes and stamps of the live data are those of the seal.
pub fn seal_holds(
    paths: &GenPaths,
    generation: GenId,
    data: &DataSpec,
) -> Result<bool, BackupError> {
    let sealed = sealed_state(&paths.done, generation)?;
    let now = scan(&DataView::new(data)?)?;
    let one = |(path, entry)| sealed.entries.get(path).is_some_and(|old| same(old, entry));
    Ok(now.len() == sealed.entries.len() && now.iter().all(one))
}

/// Takes the seal off: the generation is a part again, with its baseline as it was before the final pass.
pub fn unseal(paths: &GenPaths) -> Result<(), BackupError> {
    fs::rename(&paths.done, &paths.part).at("rename", &paths.done)?;
    let seal = paths.part.join("SEAL");
    fs::remove_file(&seal).at("remove", &seal)?;
    sync_dir(&paths.part)?;
    Ok(sync_dir(parent(&paths.part))?)
}
