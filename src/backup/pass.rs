//! One pass over the data: what has changed against the baseline is brought into the copy.

use super::copy::Copier;
use super::error::BackupError;
use super::restore::same_contents;
use super::scan::{Look, Scanner, scan};
use super::tree::{Class, Entry, Kind, Tree};
use super::view::DataView;
use crate::durable::AtPath as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An entry's new state, or `None` for one that has gone, with all below it.
pub(super) type Change = (PathBuf, Option<Entry>);

/// Brings the copy to the source's state, and the baseline with it; tells each change.
pub(super) fn pass(
    copier: &mut Copier<'_>,
    scanner: &mut Scanner,
    view: &DataView,
    known: &mut Tree,
    look: Look,
    tell: &mut dyn FnMut(Change),
) -> Result<(), BackupError> {
    scanner.begin();
    let live = look == Look::Live;
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let changes = scanner.directory(view, known, &dir, look)?;
        for path in changes.gone {
            copier.remove(&path)?;
            known.remove(&path);
            tell((path, None));
        }
        for found in changes.changed {
            if found.compare
                && same_contents(
                    &copier.source.join(&found.path),
                    &copier.tree.join(&found.path),
                )?
            {
                continue;
            }
            match copier.copy(&found, live)? {
                Some(entry) => {
                    known.insert(&found.path, entry);
                    tell((found.path, Some(entry)));
                }
                None if found.old.is_some() => {
                    copier.remove(&found.path)?;
                    known.remove(&found.path);
                    tell((found.path, None));
                }
                None => {}
            }
        }
        dirs.extend(changes.below);
    }
    copier.finish()
}

/// The last change of each path. What lies below something that has gone needs no word.
pub(super) fn last_of_each(changes: Vec<Change>) -> BTreeMap<PathBuf, Option<Entry>> {
    changes.into_iter().collect()
}

/// After a cut: removes from the tree what the baseline does not know, and from the baseline what the tree lacks, so that
/// both say the same. A round that was cut has changed the one and not the other.
pub(super) fn align(tree: &Path, baseline: &mut Tree) -> Result<(), BackupError> {
    let there = scan(&DataView::all(tree))?;
    for (path, found) in there.sorted().into_iter().rev() {
        let full = tree.join(&path);
        match baseline.get(&path) {
            // A tail that was being added.
            Some(known)
                if known.class == Class::Append
                    && known.kind == Kind::File
                    && found.kind == Kind::File
                    && found.ident.size > known.ident.size =>
            {
                let file = std::fs::OpenOptions::new().write(true).open(&full);
                let file = file.at("open", &full)?;
                file.set_len(known.ident.size).at("cut", &full)?;
            }
            Some(_) => {}
            None => match std::fs::symlink_metadata(&full) {
                Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&full).at("remove", &full)?,
                Ok(_) => std::fs::remove_file(&full).at("remove", &full)?,
                Err(_) => {}
            },
        }
    }
    let is_there = |path: &Path, entry: &Entry| {
        matches!(entry.kind, Kind::Kept | Kind::Special)
            || there.get(path).is_some_and(|t| {
                t.kind == entry.kind
                    && (entry.kind != Kind::File || t.ident.size >= entry.ident.size)
            })
    };
    let missing: Vec<PathBuf> = baseline
        .iter()
        .filter(|(path, entry)| !is_there(path, entry))
        .map(|(path, _)| path)
        .collect();
    for path in missing {
        baseline.remove(&path);
    }
    Ok(())
}
