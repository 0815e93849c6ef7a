//! An archive as a generation: extracted beside the data, and sealed as if it had been copied from them.

use super::GenPaths;
use super::archive::format_of;
use super::baseline::{Baseline, Sealed};
use super::error::BackupError;
use super::extract::{extract, only_top};
use super::record::{GenRecord, write_record};
use super::roots::{Root, Roots};
use super::sift::sift;
use super::view::DataView;
use super::whole;
use crate::durable::{AtPath as _, create_private, make_private_dir, parent, sync_dir};
use crate::host::wall_clock;
use crate::model::{BackupSpec, DataSpec};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Extracts an archive into a new generation and seals it. What `exclude` names is left out; what `keep` names is never taken from an
/// archive: keys and signer state come from the live data, or a person puts them there.
pub fn import(
    paths: &GenPaths,
    archive: &Path,
    identities: &[PathBuf],
    data: &DataSpec,
    record: &GenRecord,
    backup: &BackupSpec,
    interrupted: &dyn Fn() -> bool,
) -> Result<(), BackupError> {
    if format_of(archive).is_none() {
        return Err(BackupError::Archive {
            path: archive.to_owned(),
            what: "its name ends with none of .tar, .tar.gz, .tgz, .tar.zst, .tzst, nor with one of them and .age".into(),
        });
    }
    let mut view = DataView::new(data)?;
    let own = parent(&paths.part);
    let (mut roots, _) = Roots::find(&mut view, data, paths.generation, own, backup.method)?;
    let tree = paths.part.join("tree");
    make_private_dir(&paths.part)?;
    whole::create(data, &tree, paths.generation)?;
    write_record(paths, record)?;
    roots.make(&paths.part)?;
    let name = data.path.file_name().unwrap_or_default();
    let strip = only_top(archive, name, identities)?.then_some(name);
    let pace = |_| match interrupted() {
        true => Err(BackupError::Interrupted),
        false => Ok(()),
    };
    let into = roots.of_copy(&tree);
    let extracted = extract(
        archive,
        &into,
        &view,
        strip,
        identities,
        backup.reserve,
        &pace,
    )?;
    if extracted.entries == 0 {
        return Err(BackupError::Archive {
            path: archive.to_owned(),
            what: "it is empty".into(),
        });
    }
    let is_held = |root: &Root| extracted.roots.contains(&root.path);
    roots.keep_those(&paths.part, is_held)?;
    roots.link_copies(&view, &tree)?;
    let view = roots.of_data(view);
    let mut baseline = Baseline::new(paths.generation, &view.dir);
    baseline.entries = sift(&view, &roots.of_copy(&tree))?;
    baseline.whole = true;
    baseline.write(&paths.part.join("baseline"))?;
    let sealed = Sealed {
        generation: paths.generation,
        source: view.dir,
        at: wall_clock(),
        height: None,
        method: baseline.method,
        kept: Some(baseline.entries.kept()),
        changes: BTreeMap::new(),
    };
    let path: PathBuf = paths.part.join("SEAL");
    let mut file = create_private(&path)?;
    file.write_all(&sealed.to_bytes()).at("write", &path)?;
    file.sync_all().at("sync", &path)?;
    sync_dir(&paths.part)?;
    fs::rename(&paths.part, &paths.done).at("rename into place", &paths.done)?;
    Ok(sync_dir(parent(&paths.done))?)
}
