//! One pass over the data: what has changed against the baseline is brought into the copy.

use super::baseline::Baseline;
use super::copy::Copier;
use super::dress::time_of;
use super::error::BackupError;
use super::mounts::refuse_mounts;
use super::restore::same_contents;
use super::scan::{Look, Scanner, scan};
use super::tree::{Class, Entry, Kind, Tree};
use super::view::DataView;
use crate::durable::{AtPath as _, remove_all};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// An entry's new state, or `None` for one that has gone, with all below it.
pub(super) type Change = (PathBuf, Option<Entry>);

/// Hears of a pass while it goes on.
pub(super) trait Watcher {
    /// An entry of the copy and of the baseline has changed.
    fn changed(&mut self, change: Change);

    /// Copy and baseline say the same, but for what the copier has not finished.
    fn between(
        &mut self,
        _copier: &mut Copier<'_>,
        _baseline: &Baseline,
    ) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Brings the copy to the source's state, and the baseline with it.
pub(super) fn pass(
    copier: &mut Copier<'_>,
    scanner: &mut Scanner,
    view: &DataView,
    baseline: &mut Baseline,
    look: Look,
    watcher: &mut dyn Watcher,
) -> Result<(), BackupError> {
    refuse_mounts(view)?;
    scanner.begin();
    let live = look == Look::Live;
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let look = match look {
            Look::AtRest if view.is_unreliable(&dir) => Look::Compare,
            look => look,
        };
        let changes = scanner.directory(view, &mut baseline.entries, &dir, look)?;
        for path in changes.gone {
            copier.remove(&path)?;
            baseline.entries.remove(&path);
            watcher.changed((path, None));
        }
        for found in changes.changed {
            if found.compare
                && same_contents(
                    &copier.source.full(&found.path),
                    &copier.tree.full(&found.path),
                )?
            {
                continue;
            }
            // The copy would not hold what it names.
            if found.new.kind == Kind::Link {
                let link = view.name(&found.path);
                if let Some(to) = view.leads_out(&link) {
                    return Err(BackupError::NewRoot { link, to });
                }
            }
            match copier.copy(&found, live)? {
                Some(entry) => {
                    baseline.entries.insert(&found.path, entry);
                    watcher.changed((found.path, Some(entry)));
                }
                None if found.old.is_some() => {
                    copier.remove(&found.path)?;
                    baseline.entries.remove(&found.path);
                    watcher.changed((found.path, None));
                }
                None => {}
            }
            watcher.between(copier, baseline)?;
        }
        // Where stamps prove nothing, those of a directory do not either.
        if look != Look::Compare {
            scanner.remember(dir, changes.listed);
        }
        dirs.extend(changes.below);
    }
    if live {
        scanner.end();
    }
    copier.finish()
}

/// The last change of each path. What lies below something that has gone needs no word.
pub(super) fn last_of_each(changes: Vec<Change>) -> BTreeMap<PathBuf, Option<Entry>> {
    changes.into_iter().collect()
}

/// After a cut: removes from the tree what the baseline does not know, and from the baseline what the tree lacks, so that
/// both say the same. A round that was cut has changed the one and not the other. Returns what the baseline has lost.
pub(super) fn align(tree: &DataView, baseline: &mut Tree) -> Result<Vec<PathBuf>, BackupError> {
    // Names of one file that are not so in the copy are copied again, all of them.
    let mut names: BTreeMap<(u64, u64), Vec<PathBuf>> = BTreeMap::new();
    for (path, entry) in baseline.iter().filter(|(_, e)| e.linked) {
        let id = (entry.ident.dev, entry.ident.ino);
        names.entry(id).or_default().push(path);
    }
    let inode = |path: &PathBuf| {
        std::fs::symlink_metadata(tree.name(path))
            .map(|m| m.ino())
            .ok()
    };
    let mut lost: Vec<PathBuf> = names
        .into_values()
        .filter(|names| {
            let first = inode(&names[0]);
            first.is_none() || names.iter().any(|name| inode(name) != first)
        })
        .flatten()
        .collect();
    for path in &lost {
        baseline.remove(path);
    }
    let there = scan(tree)?;
    for (path, found) in there.sorted().into_iter().rev() {
        let full = tree.name(&path);
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
                file.set_modified(time_of(known.ident.mtime))
                    .at("set the time of", &full)?;
            }
            Some(_) => {}
            None => {
                remove_all(&full)?;
            }
        }
    }
    let is_there = |path: &Path, entry: &Entry| {
        let above = path.parent().unwrap_or(Path::new(""));
        let is_above = baseline.get(above).is_none() || there.get(above).is_some();
        matches!(entry.kind, Kind::Kept | Kind::Special) && is_above
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
    for path in &missing {
        baseline.remove(path);
        // Another one may be there under its name.
        remove_all(&tree.name(path))?;
    }
    lost.extend(missing);
    Ok(lost)
}
