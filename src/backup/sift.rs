//! A tree that came whole, as a snapshot or out of an archive, made what a copy of the data holds.

use super::dress::times;
use super::error::BackupError;
use super::scan::scan;
use super::tree::{Entry, Kind, Tree};
use super::view::DataView;
use crate::durable::{AtPath as _, remove_all};
use rustix::fs::{AtFlags, CWD, utimensat};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Removes what is excluded, kept or special; directories keep their times. Returns the entries of the copy, as they are in the tree.
pub(super) fn sift(view: &DataView, tree: &DataView) -> Result<Tree, BackupError> {
    let mut entries = Tree::default();
    let mut touched: BTreeSet<PathBuf> = BTreeSet::new();
    for (path, found) in scan(tree)?.sorted() {
        let is_excluded = view.is_excluded(&path);
        let entry = match view.is_kept(&path) {
            true => Entry::kept(found.ident),
            false => Entry {
                class: view.class(&path),
                ..*found
            },
        };
        let is_copied = !is_excluded && !matches!(entry.kind, Kind::Kept | Kind::Special);
        if !is_copied && remove_all(&tree.name(&path))? {
            touched.extend(path.parent().map(Path::to_owned));
        }
        if !is_excluded {
            entries.insert(&path, entry);
        }
    }
    // Those below first: a time set above would be moved again.
    for dir in touched.into_iter().rev() {
        if let Some(entry) = entries.get(&dir).filter(|e| e.kind == Kind::Dir) {
            let full = tree.full(&dir);
            utimensat(CWD, &full, &times(entry.ident.mtime), AtFlags::empty())
                .at("set the time of", &full)?;
        }
    }
    Ok(entries)
}
