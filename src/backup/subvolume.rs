//! Data that are a btrfs subvolume: they exchange names with another subvolume only, and a snapshot of them costs nothing.
//!
//! A snapshot has the inode numbers and the stamps of its source, so it serves as the first round: what is copied afterwards is what has
//! changed since.

use super::method::{BTRFS, file_system};
use super::tree::{Entry, Kind};
use crate::durable::{AtPath as _, PathError};
use crate::process::{has_program, run_quietly};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const PROGRAM: &str = "btrfs";
/// The inode number of the top of each subvolume, and of the empty directory that stands in a snapshot for a subvolume inside its source.
const TOP: u64 = 256;
const STANDS_FOR_ONE: u64 = 2;
/// `STATX_SUBVOL`, of Linux 6.10.
const SUBVOL: u32 = 0x8000;

pub(super) fn is_subvolume(dir: &Path) -> bool {
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

/// Why no snapshot of a subvolume can take its place, if it cannot.
pub(super) fn refusal(data: &Path) -> Option<String> {
    if number(data).is_none() {
        Some("the kernel does not tell subvolumes apart (Linux 6.10 does)".into())
    } else if !has_program(PROGRAM) {
        Some("the program `btrfs` is not there (btrfs-progs)".into())
    } else {
        None
    }
}

/// An empty subvolume.
pub(super) fn create(dir: &Path) -> Result<(), PathError> {
    run(&["create".as_ref(), dir.as_os_str()], dir)
}

/// A snapshot of a subvolume, which can be written to.
pub(super) fn snapshot(of: &Path, dir: &Path) -> Result<(), PathError> {
    run(&["snapshot".as_ref(), of.as_os_str(), dir.as_os_str()], dir)
}

fn run(args: &[&OsStr], dir: &Path) -> Result<(), PathError> {
    let args = [&["subvolume".as_ref()], args].concat();
    run_quietly(PROGRAM, &args).at("make a subvolume of", dir)
}

/// True for the empty directory that stands in a snapshot for a subvolume inside its source.
pub(super) fn stands_for_one(entry: &Entry) -> bool {
    entry.kind == Kind::Dir && entry.ident.ino == STANDS_FOR_ONE
}
