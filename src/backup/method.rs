//! How a copy can be made here: found by trying, not by the file system's name.

use super::error::BackupError;
use super::roots::Roots;
use super::tree::{Class, Kind};
use super::view::DataView;
use super::whole::{Whole, snapshot_refusal};
use crate::durable::parent;
use crate::model::{ArchiveSpec, CopyFacts, DataSpec, GenId, Method, Rung, SecondRoot};
use crate::process::has_program;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Magic numbers of file systems, of `statfs(2)`.
const EXT: i64 = 0xef53;
const XFS: i64 = 0x5846_5342;
pub(super) const BTRFS: i64 = 0x9123_683e;
const OVERLAY: i64 = 0x794c_7630;
/// It clones blocks that it may not share, and has lost some.
pub(super) const ZFS: i64 = 0x2fc1_2fc1;
/// So many entries are looked at for a file to try a clone on.
const TRIES: usize = 1_000;
/// A clone writes back what of a file is not written yet, so it is tried on a small one.
const SMALL: u64 = 1024 * 1024;

/// The kind of the file system that a path is on: its magic number.
pub(super) fn file_system(path: &Path) -> rustix::io::Result<i64> {
    let kind = rustix::fs::statfs(path)?.f_type;
    #[expect(
        clippy::useless_conversion,
        reason = "the field's type differs between targets"
    )]
    Ok(i64::try_from(kind).unwrap_or(0))
}

/// Why stamps prove nothing on the data's file system, so that contents must be compared.
pub fn stamps_unreliable(data: &Path) -> Option<String> {
    let kind = file_system(data).ok()?;
    let known = [EXT, XFS, BTRFS, ZFS, OVERLAY].contains(&kind);
    (!known).then(|| {
        format!("the data's file system (type {kind:#x}) does not show every write through a mapping: the final pass compares all contents")
    })
}

/// How a copy could be made here.
pub fn glance(generations: &Path, data: &DataSpec) -> CopyFacts {
    CopyFacts {
        ladder: ladder(generations, data),
        bytes: None,
        mutable_bytes: None,
        roots: vec![],
        problem: None,
        age: has_program(ArchiveSpec::AGE),
    }
}

/// The same, and how large it would be: looks at every file of the data once.
pub fn survey(generations: &Path, data: &DataSpec) -> CopyFacts {
    match look_at_all(generations, data) {
        Ok(facts) => facts,
        // Who asks may be somebody who may not look at all that visor may.
        Err(why) => CopyFacts {
            problem: matches!(
                why,
                BackupError::LinkOutside { .. } | BackupError::MountInside(_)
            )
            .then(|| why.to_string()),
            ..glance(generations, data)
        },
    }
}

fn look_at_all(generations: &Path, data: &DataSpec) -> Result<CopyFacts, BackupError> {
    let mut view = DataView::new(data)?;
    let nobody = GenId(ulid::Ulid::nil());
    let (roots, all) = Roots::find(&mut view, data, nobody, generations, None)?;
    let (mut bytes, mut mutable_bytes) = (0, 0);
    for (path, entry) in all.iter().filter(|(_, e)| e.kind == Kind::File) {
        let taken = taken(&view.full(&path));
        bytes += taken;
        mutable_bytes += if entry.class == Class::Immutable {
            0
        } else {
            taken
        };
    }
    Ok(CopyFacts {
        bytes: Some(bytes),
        mutable_bytes: Some(mutable_bytes),
        roots: roots
            .iter()
            .map(|root| SecondRoot {
                link: root.path.clone(),
                dir: root.dir.clone(),
                ladder: ladder_of_root(&root.dir, data),
                compared: stamps_unreliable(&root.dir).is_some(),
            })
            .collect(),
        ..glance(generations, data)
    })
}

/// What a file takes on the disk: holes stay holes.
pub(super) fn taken(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |m| m.blocks() * 512)
}

/// How a second root is copied.
pub(super) fn method_of_root(dir: &Path, data: &DataSpec, asked: Option<Method>) -> Method {
    SecondRoot::method(&ladder_of_root(dir, data), asked)
}

/// No second root can be snapshot: it is no subvolume, and no dataset.
fn ladder_of_root(dir: &Path, data: &DataSpec) -> Vec<Rung> {
    let of_root = DataSpec {
        path: dir.to_owned(),
        ..data.clone()
    };
    ladder(parent(dir), &of_root)
}

/// The method that was asked for, if it can be had, or the best that can.
pub(super) fn method_of(
    generations: &Path,
    data: &DataSpec,
    asked: Option<Method>,
) -> Result<Method, BackupError> {
    let mut rungs = ladder(generations, data).into_iter();
    match asked {
        None => Ok(rungs
            .find(|r| r.refusal.is_none())
            .map_or(Method::Copy, |r| r.method)),
        Some(method) => match rungs.find(|r| r.method == method).and_then(|r| r.refusal) {
            Some(why) => Err(BackupError::NoMethod {
                method,
                of: data.path.clone(),
                why,
            }),
            None => Ok(method),
        },
    }
}

/// The methods, the better first, each with why it cannot be had here.
fn ladder(generations: &Path, data: &DataSpec) -> Vec<Rung> {
    // What may be refused though all else would do.
    let of_directories = Whole::at(&data.path).map(|whole| {
        format!(
            "the data are a {}, which exchanges names with a snapshot only",
            whole.name()
        )
    });
    Method::ALL
        .iter()
        .map(|method| Rung {
            method: *method,
            refusal: match method {
                Method::Snapshot => snapshot_refusal(&data.path),
                _ if of_directories.is_some() => of_directories.clone(),
                Method::Reflink => reflink_refusal(generations, &data.path),
                Method::LinkCopy => link_refusal(generations, data),
                Method::Copy => None,
            },
        })
        .collect()
}

/// The directory, or the nearest above it that is there.
fn nearest(dir: &Path) -> &Path {
    dir.ancestors()
        .find(|d| d.is_dir())
        .unwrap_or(Path::new("/"))
}

fn reflink_refusal(generations: &Path, data: &Path) -> Option<String> {
    let near = nearest(generations);
    if file_system(near).is_ok_and(|kind| kind == ZFS) {
        return Some("clones of files are not trusted on ZFS".into());
    }
    let Some(file) = a_small_file(data) else {
        return Some("the data have no file yet that a clone could be tried on".into());
    };
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let tried = rustix::fs::open(near, flags, Mode::RUSR | Mode::WUSR).and_then(|nameless| {
        let source = File::open(&file)
            .map_err(|e| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO))?;
        rustix::fs::ioctl_ficlone(&nameless, &source)
    });
    match tried {
        Ok(()) => None,
        Err(why) => Some(format!("a file of the data cannot be cloned here ({why})")),
    }
}

fn a_small_file(data: &Path) -> Option<PathBuf> {
    let mut dirs = vec![data.to_owned()];
    let mut left = TRIES;
    while let Some(dir) = dirs.pop() {
        for found in fs::read_dir(dir).ok()?.flatten() {
            left = left.checked_sub(1)?;
            let Ok(meta) = found.metadata() else { continue };
            if meta.is_dir() {
                dirs.push(found.path());
            } else if meta.is_file() && (1..=SMALL).contains(&meta.len()) {
                return Some(found.path());
            }
        }
    }
    None
}

fn link_refusal(generations: &Path, data: &DataSpec) -> Option<String> {
    if data.immutable.is_empty() {
        return Some("no file of the data is known to be immutable (`data.immutable`)".into());
    }
    let (near, live) = (fs::metadata(nearest(generations)), fs::metadata(&data.path));
    let (near, live) = match (near, live) {
        (Ok(near), Ok(live)) => (near, live),
        (Err(e), _) | (_, Err(e)) => return Some(e.to_string()),
    };
    if near.dev() != live.dev() {
        return Some("the generations are on another file system than the data".into());
    }
    let own = rustix::process::geteuid();
    if !own.is_root() && own.as_raw() != live.uid() {
        return Some("the data are another user's, whose files visor may not link".into());
    }
    None
}
