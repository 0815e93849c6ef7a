//! A data directory and the globs that part it: what is left out, what is kept as it is, and how files change.

use super::error::BackupError;
use super::tree::Class;
use crate::durable::AtPath as _;
use crate::model::DataSpec;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct DataView {
    /// Symbolic links resolved: what is exchanged is the target, not the link.
    pub dir: PathBuf,
    exclude: GlobSet,
    keep: GlobSet,
    immutable: GlobSet,
    append: GlobSet,
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
            immutable: globs(&data.immutable)?,
            append: globs(&data.append)?,
            must_keep: data
                .keep
                .iter()
                .filter(literal)
                .map(PathBuf::from)
                .collect(),
        })
    }

    /// A directory without exceptions.
    pub fn all(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            exclude: GlobSet::empty(),
            keep: GlobSet::empty(),
            immutable: GlobSet::empty(),
            append: GlobSet::empty(),
            must_keep: vec![],
        }
    }

    /// True when a path, or a directory above it, is disposable and not kept.
    pub(super) fn is_excluded(&self, path: &Path) -> bool {
        !self.exclude.is_empty()
            && !self.is_kept(path)
            && path.ancestors().any(|p| self.exclude.is_match(p))
    }

    /// True for a path below `dir` that `keep` names, itself or by a directory above it.
    pub fn is_kept(&self, path: &Path) -> bool {
        !self.keep.is_empty() && path.ancestors().any(|p| self.keep.is_match(p))
    }

    /// True when something that is kept may lie below what is excluded.
    pub(super) fn looks_below_excluded(&self) -> bool {
        !self.keep.is_empty()
    }

    pub(super) fn class(&self, path: &Path) -> Class {
        if self.immutable.is_match(path) {
            Class::Immutable
        } else if self.append.is_match(path) {
            Class::Append
        } else {
            Class::Mutable
        }
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
