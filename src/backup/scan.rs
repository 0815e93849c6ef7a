//! A walk over a data directory: names, inodes, times. What is excluded or kept is told apart here.

use super::error::BackupError;
use crate::durable::{AtPath as _, PathError};
use crate::model::DataSpec;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What a change of a file shows itself by. All of it is compared for equality, never for order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ident {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// Nanoseconds since the epoch, both.
    pub mtime: i128,
    pub ctime: i128,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Ident {
    pub fn of(meta: &Metadata) -> Self {
        let nanos = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            mtime: nanos(meta.mtime(), meta.mtime_nsec()),
            ctime: nanos(meta.ctime(), meta.ctime_nsec()),
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    File,
    Dir,
    Link,
    /// Named by `keep`: never copied, carried over at a restore.
    Kept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub kind: Kind,
    pub ident: Ident,
    /// Changed so shortly before it was looked at that a later change might not show.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hot: bool,
}

/// A data directory and the globs that part it.
#[derive(Debug)]
pub struct DataView {
    /// Symbolic links resolved: what is exchanged is the target, not the link.
    pub dir: PathBuf,
    exclude: GlobSet,
    keep: GlobSet,
    /// `keep` paths without wildcards: files that must not vanish.
    pub must_keep: Vec<PathBuf>,
}

impl DataView {
    pub fn new(data: &DataSpec) -> Result<Self, BackupError> {
        let dir = fs::canonicalize(&data.path).at("resolve", &data.path)?;
        let literal = |p: &&String| !p.contains(['*', '?', '[', '{']);
        Ok(Self {
            dir,
            exclude: globs(&data.exclude)?,
            keep: globs(&data.keep)?,
            must_keep: data
                .keep
                .iter()
                .filter(literal)
                .map(PathBuf::from)
                .collect(),
        })
    }

    /// A directory without exceptions.
    pub fn all(dir: &Path) -> Result<Self, BackupError> {
        let (exclude, keep) = (globs(&[])?, globs(&[])?);
        Ok(Self {
            dir: dir.to_owned(),
            exclude,
            keep,
            must_keep: vec![],
        })
    }

    /// True when a path, or a directory above it, is disposable and not kept.
    fn is_excluded(&self, path: &Path) -> bool {
        !self.is_kept(path) && path.ancestors().any(|p| self.exclude.is_match(p))
    }

    /// True for a path below `dir` that `keep` names, itself or by a directory above it.
    pub fn is_kept(&self, path: &Path) -> bool {
        path.ancestors().any(|p| self.keep.is_match(p))
    }
}

/// Globs relative to the data directory; `*` stays within a segment, `**` crosses them.
fn globs(patterns: &[String]) -> Result<GlobSet, BackupError> {
    let mut set = GlobSetBuilder::new();
    let bad = |glob: &str| {
        let glob = glob.to_owned();
        move |source| BackupError::Glob { glob, source }
    };
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern.trim_end_matches('/'))
            .literal_separator(true)
            .build();
        set.add(glob.map_err(bad(pattern))?);
    }
    set.build().map_err(bad("the set of globs"))
}

/// All entries below the directory by relative path. What vanishes during the walk is left out. Sockets, FIFOs and devices
/// are no data.
pub fn scan(view: &DataView) -> Result<BTreeMap<PathBuf, Entry>, BackupError> {
    let mut entries = BTreeMap::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(rel) = dirs.pop() {
        let dir = view.dir.join(&rel);
        let Some(list) = gone_is_none(fs::read_dir(&dir), "list", &dir)? else {
            continue;
        };
        for found in list {
            let found = found.at("list", &dir)?;
            let path = rel.join(found.file_name());
            let full = found.path();
            let Some(meta) = gone_is_none(found.metadata(), "look at", &full)? else {
                continue;
            };
            let kind = match meta.file_type() {
                t if t.is_dir() => Kind::Dir,
                t if t.is_file() => Kind::File,
                t if t.is_symlink() => Kind::Link,
                t if t.is_socket() || t.is_fifo() || t.is_block_device() || t.is_char_device() => {
                    continue;
                }
                _ => continue,
            };
            let kept = view.is_kept(&path);
            let excluded = view.is_excluded(&path);
            // Something that is kept may lie below what is excluded.
            if kind == Kind::Dir && !(excluded && view.keep.is_empty()) {
                dirs.push(path.clone());
            }
            if excluded {
                continue;
            }
            let kind = if kept { Kind::Kept } else { kind };
            entries.insert(
                path,
                Entry {
                    kind,
                    ident: Ident::of(&meta),
                    hot: false,
                },
            );
        }
    }
    Ok(entries)
}

pub(super) fn gone_is_none<T>(
    result: io::Result<T>,
    what: &'static str,
    path: &Path,
) -> Result<Option<T>, PathError> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.at(what, path).map(Some),
    }
}
