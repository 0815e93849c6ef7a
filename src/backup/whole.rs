//! Data that are snapshot as a whole: a btrfs subvolume, or a ZFS dataset.

use super::dataset::{self, is_dataset};
use super::error::BackupError;
use super::hot::is_hot_at;
use super::method::{ZFS, file_system};
use super::sift::sift;
use super::subvolume::{self, is_subvolume};
use super::tree::{Entry, Ident, Kind, Tree};
use super::view::DataView;
use crate::durable::{AtPath as _, make_private_dir, remove_all};
use crate::host::wall_clock;
use crate::model::{DataSpec, GenId, Method};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// What exchanges its place with its like only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    Subvolume,
    /// By a link: see `dataset.rs`.
    Dataset,
}

impl Whole {
    /// What is at a path, whose last link is not followed.
    pub fn at(path: &Path) -> Option<Self> {
        if is_dataset(path) {
            Some(Self::Dataset)
        } else if is_subvolume(path) {
            Some(Self::Subvolume)
        } else {
            None
        }
    }

    /// In words, behind "a" or "the data are a".
    pub fn name(self) -> &'static str {
        match self {
            Self::Subvolume => "btrfs subvolume",
            Self::Dataset => "ZFS dataset",
        }
    }
}

/// What tells apart what exchanges places, where inode numbers do not.
pub(super) fn number(path: &Path) -> Option<u64> {
    subvolume::number(path).or_else(|| dataset::number(path))
}

/// Why no snapshot of data can take their place, if it cannot.
pub fn snapshot_refusal(data: &Path) -> Option<String> {
    match Whole::at(data) {
        Some(Whole::Subvolume) => subvolume::refusal(data),
        Some(Whole::Dataset) => dataset::refusal(data),
        None if file_system(data).is_ok_and(|kind| kind == ZFS) => {
            Some("the data are no link to a ZFS dataset of their own".into())
        }
        None => Some("the data are no btrfs subvolume".into()),
    }
}

/// An empty tree that data can be exchanged with; where they are directories, a directory will do.
pub(super) fn create(data: &DataSpec, tree: &Path, generation: GenId) -> Result<(), BackupError> {
    match Whole::at(&data.path) {
        Some(Whole::Subvolume) => subvolume::create(tree)?,
        Some(Whole::Dataset) => dataset::create(&data.path, tree, generation)?,
        None => make_private_dir(tree)?,
    }
    private(tree)
}

fn private(tree: &Path) -> Result<(), BackupError> {
    let mode = fs::Permissions::from_mode(0o700);
    Ok(fs::set_permissions(tree, mode).at("set the mode of", tree)?)
}

/// Makes `tree` a snapshot of the data, without what is no part of a copy; returns what it holds, as if each file had been copied.
pub(super) fn snapshot(
    view: &DataView,
    data: &DataSpec,
    tree: &Path,
    generation: GenId,
) -> Result<Tree, BackupError> {
    let began = wall_clock();
    let live = File::open(&view.dir).at("open", &view.dir)?;
    let whole = Whole::at(&data.path);
    // What is in the page cache only, as a store through a mapping, is in no snapshot of a dataset. That of a subvolume writes it itself, and can
    // wait for ever where the space runs out meanwhile (seen on Linux 6.18): so there is little left of it.
    rustix::fs::syncfs(&live).at("sync the file system of", &view.dir)?;
    match whole {
        Some(Whole::Dataset) => dataset::snapshot(&data.path, tree, generation)?,
        _ => {
            remove_all(tree)?;
            subvolume::snapshot(&view.dir, tree)?;
        }
    }
    private(tree)?;
    let tree = fs::canonicalize(tree).at("resolve", tree)?;
    let found = sift(view, &DataView::all(&tree))?;
    let dev = live.metadata().at("look at", &view.dir)?.dev();
    let mut entries = Tree::default();
    for (path, entry) in found.iter() {
        let full = tree.join(&path);
        if whole == Some(Whole::Subvolume) && subvolume::stands_for_one(entry) {
            let why = format!(
                "{} is a subvolume of its own, which no snapshot of the data holds",
                view.dir.join(&path).display()
            );
            return Err(BackupError::NoMethod {
                method: Method::Snapshot,
                of: view.dir.clone(),
                why,
            });
        }
        let is_linked = entry.kind == Kind::File
            && fs::symlink_metadata(&full).at("look at", &full)?.nlink() > 1;
        let known = Entry {
            ident: Ident { dev, ..entry.ident },
            // A store between its flush and the snapshot could be in the stamps and not in the contents.
            hot: entry.kind == Kind::File && is_hot_at(&entry.ident, began),
            linked: is_linked,
            ..*entry
        };
        entries.insert(&path, known);
    }
    let dir = File::open(&tree).at("open", &tree)?;
    rustix::fs::syncfs(&dir).at("sync the file system of", &tree)?;
    Ok(entries)
}

/// An error where a tree is a link to what is not there: its empty mount point would pass for a copy.
pub(super) fn is_there(tree: &Path) -> Result<(), BackupError> {
    match fs::read_link(tree) {
        Ok(top) if !is_dataset(tree) => Err(BackupError::DiskGone(top)),
        _ => Ok(()),
    }
}

/// Removes a tree, whatever it is.
pub(super) fn remove(tree: &Path) -> Result<(), BackupError> {
    dataset::remove(tree)?;
    match fs::remove_dir_all(tree) {
        // Another visor was at it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other.at("remove", tree)?),
    }
}
