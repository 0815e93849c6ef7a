//! Data that are a btrfs subvolume: they exchange names with another subvolume only, and a snapshot of them costs nothing.
//!
//! A snapshot has the inode numbers and the stamps of its source, so it serves as the first round: what is copied afterwards is what has
//! changed since.

use super::error::BackupError;
use super::hot::is_hot_at;
use super::method::{BTRFS, file_system};
use super::sift::sift;
use super::tree::{Entry, Ident, Kind, Tree};
use super::view::DataView;
use crate::durable::{AtPath as _, PathError, remove_all};
use crate::host::wall_clock;
use crate::model::Method;
use crate::process::{has_program, run_quietly};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

const PROGRAM: &str = "btrfs";
/// The inode number of the top of each subvolume, and of the empty directory that stands in a snapshot for a subvolume inside its source.
const TOP: u64 = 256;
const STANDS_FOR_ONE: u64 = 2;
/// `STATX_SUBVOL`, of Linux 6.10.
const SUBVOL: u32 = 0x8000;

pub fn is_subvolume(dir: &Path) -> bool {
    file_system(dir).is_ok_and(|kind| kind == BTRFS)
        && fs::metadata(dir).is_ok_and(|m| m.ino() == TOP)
}

/// The number of a subvolume, which outlives its name; the tops of all of them have the same inode number.
pub(super) fn number(dir: &Path) -> Option<u64> {
    if !is_subvolume(dir) {
        return None;
    }
    let flags = StatxFlags::from_bits_retain(SUBVOL);
    let stat = rustix::fs::statx(CWD, dir, AtFlags::empty(), flags).ok()?;
    (stat.stx_mask & SUBVOL != 0).then_some(stat.stx_subvol)
}

/// Why no snapshot of data can take their place, if it cannot.
pub fn snapshot_refusal(data: &Path) -> Option<String> {
    if !is_subvolume(data) {
        Some("the data are no btrfs subvolume".into())
    } else if number(data).is_none() {
        Some("the kernel does not tell subvolumes apart (Linux 6.10 does)".into())
    } else if !has_program(PROGRAM) {
        Some("the program `btrfs` is not there (btrfs-progs)".into())
    } else {
        None
    }
}

/// An empty subvolume.
pub(super) fn create(dir: &Path) -> Result<(), PathError> {
    run_quietly(
        PROGRAM,
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
        PROGRAM,
        &["subvolume".as_ref(), "snapshot".as_ref(), from, to],
    )
    .at("make a snapshot as", tree)?;
    private(tree)?;
    let found = sift(view, &DataView::all(tree))?;
    let dev = fs::metadata(&view.dir).at("look at", &view.dir)?.dev();
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
    let dir = File::open(tree).at("open", tree)?;
    rustix::fs::syncfs(&dir).at("sync the file system of", tree)?;
    Ok(entries)
}
