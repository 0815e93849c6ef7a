//! Data that are a btrfs subvolume: they exchange names with another subvolume only, and a snapshot of them costs nothing.
//!
//! A snapshot has the inode numbers and the stamps of its source, so it serves as the first round: what is copied afterwards is what has
//! changed since.

use super::dress::times;
use super::error::BackupError;
use super::scan::scan;
use super::tree::{Entry, Ident, Kind, Tree};
use super::view::DataView;
use crate::durable::{AtPath as _, PathError, remove_all};
use crate::host::wall_clock;
use crate::model::Method;
use crate::process::{has_program, run_quietly};
use rustix::fs::{AtFlags, CWD, StatxFlags, utimensat};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const BTRFS: &str = "btrfs";
/// Its magic number, of `statfs(2)`.
const BTRFS_MAGIC: i64 = 0x9123_683e;
/// The inode number of the top of each subvolume, and of the empty directory that stands in a snapshot for a subvolume inside its source.
const TOP: u64 = 256;
const STANDS_FOR_ONE: u64 = 2;
/// `STATX_SUBVOL`, of Linux 6.10.
const SUBVOL: u32 = 0x8000;
/// Changes of this time before a snapshot, in nanoseconds, may not all show in its stamps.
const HOT_NS: i64 = 50_000_000;

pub fn is_subvolume(dir: &Path) -> bool {
    let is_btrfs = rustix::fs::statfs(dir).is_ok_and(|s| {
        #[expect(
            clippy::useless_conversion,
            reason = "the field's type differs between targets"
        )]
        let magic = i64::try_from(s.f_type).unwrap_or(0);
        magic == BTRFS_MAGIC
    });
    is_btrfs && fs::metadata(dir).is_ok_and(|m| m.ino() == TOP)
}

/// The number of a subvolume, which outlives its name; the tops of all of them have the same inode number.
pub(super) fn number(dir: &Path) -> Option<u64> {
    let flags = StatxFlags::from_bits_retain(SUBVOL);
    let stat = rustix::fs::statx(CWD, dir, AtFlags::empty(), flags).ok()?;
    (is_subvolume(dir) && stat.stx_mask & SUBVOL != 0).then_some(stat.stx_subvol)
}

/// Why no snapshot of data can take their place, if it cannot.
pub fn snapshot_refusal(data: &Path) -> Option<String> {
    if !is_subvolume(data) {
        Some("the data are no btrfs subvolume".into())
    } else if number(data).is_none() {
        Some("the kernel does not tell subvolumes apart (Linux 6.10 does)".into())
    } else if !has_program(BTRFS) {
        Some("the program `btrfs` is not there (btrfs-progs)".into())
    } else {
        None
    }
}

/// An empty subvolume.
pub(super) fn create(dir: &Path) -> Result<(), PathError> {
    run_quietly(
        BTRFS,
        &["subvolume".as_ref(), "create".as_ref(), dir.as_os_str()],
    )
    .at("make a subvolume of", dir)?;
    private(dir)
}

fn private(dir: &Path) -> Result<(), PathError> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).at("set the mode of", dir)
}

/// Makes `tree` a snapshot of the data, without what is no part of a copy; returns what it holds, as if each file had been copied.
pub(super) fn snapshot(view: &DataView, tree: &Path) -> Result<Tree, BackupError> {
    remove_all(tree)?;
    let began = wall_clock();
    let (from, to) = (view.dir.as_os_str(), tree.as_os_str());
    run_quietly(
        BTRFS,
        &["subvolume".as_ref(), "snapshot".as_ref(), from, to],
    )
    .at("make a snapshot as", tree)?;
    private(tree)?;
    let found = scan(&view.at(tree))?;
    let gone = take_out(tree, &found)?;
    let dev = fs::metadata(&view.dir).at("look at", &view.dir)?.dev();
    let young = i64::try_from(began)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000)
        - HOT_NS;
    let mut entries = Tree::default();
    for (path, entry) in found.iter() {
        let full = tree.join(&path);
        if entry.kind == Kind::Dir && entry.ident.ino == STANDS_FOR_ONE {
            let why = format!(
                "{} is a subvolume of its own, which no snapshot of the data holds",
                view.dir.join(&path).display()
            );
            return Err(BackupError::NoMethod {
                method: Method::Snapshot,
                why,
            });
        }
        let is_linked = entry.kind == Kind::File
            && fs::symlink_metadata(&full).at("look at", &full)?.nlink() > 1;
        let known = Entry {
            ident: Ident { dev, ..entry.ident },
            // A store between its flush and the snapshot could be in the stamps and not in the contents.
            hot: entry.kind == Kind::File && entry.ident.mtime.max(entry.ident.ctime) >= young,
            linked: is_linked,
            ..*entry
        };
        entries.insert(&path, known);
    }
    // Those below first: a time set above would be moved again.
    for dir in gone.into_iter().rev() {
        if let Some(entry) = found.get(&dir) {
            let full = tree.join(&dir);
            utimensat(CWD, &full, &times(entry.ident.mtime), AtFlags::empty())
                .at("set the time of", &full)?;
        }
    }
    let dir = File::open(tree).at("open", tree)?;
    rustix::fs::syncfs(&dir).at("sync the file system of", tree)?;
    Ok(entries)
}

/// Removes what is excluded, kept or special; the directories that had some of it.
fn take_out(tree: &Path, found: &Tree) -> Result<BTreeSet<PathBuf>, BackupError> {
    let mut of = BTreeSet::new();
    for (path, _) in scan(&DataView::all(tree))?.sorted() {
        let is_copied = found
            .get(&path)
            .is_some_and(|e| !matches!(e.kind, Kind::Kept | Kind::Special));
        if !is_copied && remove_all(&tree.join(&path))? {
            of.extend(path.parent().map(Path::to_owned));
        }
    }
    Ok(of)
}
