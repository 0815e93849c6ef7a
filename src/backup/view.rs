//! A data directory, with its second roots, and the globs that part it: what is left out, what is kept as it is, and how files change.

use super::error::BackupError;
use super::tree::Class;
use crate::durable::AtPath as _;
use crate::model::DataSpec;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct DataView {
    /// Symbolic links resolved: what is exchanged is the target, not the link; but for a ZFS dataset.
    pub dir: PathBuf,
    pub(super) roots: Vec<Top>,
    exclude: GlobSet,
    keep: GlobSet,
    immutable: GlobSet,
    append: GlobSet,
    /// Directories that are not kept themselves and may hold something that is.
    above_kept: GlobSet,
    /// What `keep` says before its first wildcard: nothing that is kept lies elsewhere.
    pub(super) kept_from: Vec<PathBuf>,
    /// The last segments of `keep`, if none of them has a wildcard: what is kept has one of these names, or lies below what has.
    kept_names: Option<BTreeSet<OsString>>,
    /// `keep` paths without wildcards: files that must not vanish.
    pub must_keep: Vec<PathBuf>,
}

/// A directory that lies elsewhere and is what a link below the data stands for.
#[derive(Debug)]
pub(super) struct Top {
    /// The link, relative to the data.
    pub(super) path: PathBuf,
    pub(super) dir: PathBuf,
    /// Stamps prove nothing there.
    pub(super) unreliable: bool,
}

const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

impl DataView {
    pub fn new(data: &DataSpec) -> Result<Self, BackupError> {
        let dir = fs::canonicalize(&data.path).at("resolve", &data.path)?;
        let is_literal = |p: &&String| !p.contains(WILDCARDS);
        Ok(Self {
            dir,
            roots: vec![],
            exclude: globs(&data.exclude)?,
            keep: globs(&data.keep)?,
            immutable: globs(&data.immutable)?,
            append: globs(&data.append)?,
            above_kept: globs(&data.keep.iter().flat_map(|p| above(p)).collect::<Vec<_>>())?,
            kept_from: kept_from(&data.keep),
            kept_names: data.keep.iter().map(|p| last_name(p)).collect(),
            must_keep: data
                .keep
                .iter()
                .filter(is_literal)
                .map(PathBuf::from)
                .collect(),
        })
    }

    /// A directory without exceptions.
    pub fn all(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            roots: vec![],
            exclude: GlobSet::empty(),
            keep: GlobSet::empty(),
            immutable: GlobSet::empty(),
            append: GlobSet::empty(),
            above_kept: GlobSet::empty(),
            kept_from: vec![],
            kept_names: None,
            must_keep: vec![],
        }
    }

    /// The same with these second roots.
    pub(super) fn with(self, roots: Vec<Top>) -> Self {
        Self { roots, ..self }
    }

    /// Where that lies which a path below the data names: through the links to second roots.
    pub(super) fn full(&self, path: &Path) -> PathBuf {
        for top in self.roots.iter().rev() {
            match path.strip_prefix(&top.path) {
                Ok(rest) if rest.as_os_str().is_empty() => return top.dir.clone(),
                Ok(rest) => return top.dir.join(rest),
                Err(_) => {}
            }
        }
        self.dir.join(path)
    }

    /// Where the name itself lies: of a second root, its link.
    pub(super) fn name(&self, path: &Path) -> PathBuf {
        match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) if self.is_root(path) => self.full(dir).join(name),
            _ => self.full(path),
        }
    }

    pub(super) fn is_root(&self, path: &Path) -> bool {
        self.roots.iter().any(|top| top.path == path)
    }

    /// True below a second root whose stamps prove nothing.
    pub(super) fn is_unreliable(&self, path: &Path) -> bool {
        let top = self.roots.iter().rfind(|top| path.starts_with(&top.path));
        top.is_some_and(|top| top.unreliable)
    }

    /// The data's directory and those of second roots, each with its path below the data.
    pub(super) fn tops(&self) -> impl Iterator<Item = (&Path, &Path)> {
        let roots = self.roots.iter().map(|top| (&*top.path, &*top.dir));
        std::iter::once((Path::new(""), &*self.dir)).chain(roots)
    }

    /// Where a link leads, if that is no part of these data. What leads nowhere leads nowhere else.
    pub(super) fn leads_out(&self, link: &Path) -> Option<PathBuf> {
        let to = fs::canonicalize(link).ok()?;
        let is_inside = self.tops().any(|(_, dir)| to.starts_with(dir));
        (!is_inside).then_some(to)
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

    /// True for a directory that is kept, or that something kept may lie in.
    pub(super) fn may_hold_kept(&self, dir: &Path) -> bool {
        self.above_kept.is_match(dir) || self.is_kept(dir)
    }

    /// False for a name that nothing has that `keep` names.
    pub(super) fn may_be_kept(&self, name: &OsStr) -> bool {
        let names = self.kept_names.as_ref();
        names.is_none_or(|names| names.contains(name))
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

/// Globs of the directories above what a glob matches.
fn above(pattern: &str) -> Vec<String> {
    let mut all = Vec::new();
    let segments: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
    for (n, segment) in segments.iter().enumerate() {
        // Braces may hold a separator, and a class may match one.
        if *segment == "**" || segment.contains(['{', '[']) {
            let before = segments[..n].iter().chain(&["**"]);
            all.push(before.copied().collect::<Vec<_>>().join("/"));
            break;
        }
        if n + 1 < segments.len() {
            all.push(segments[..=n].join("/"));
        }
    }
    all
}

/// The literal parts of globs, without those that lie below another.
fn kept_from(patterns: &[String]) -> Vec<PathBuf> {
    let all: BTreeSet<PathBuf> = patterns.iter().map(|p| literal_part(p)).collect();
    let mut tops: Vec<PathBuf> = Vec::new();
    for path in all {
        // They are sorted, those below a path behind it.
        if !tops.last().is_some_and(|top| path.starts_with(top)) {
            tops.push(path);
        }
    }
    tops
}

/// What stands before the first segment with a wildcard.
fn literal_part(pattern: &str) -> PathBuf {
    let segments = pattern.trim_end_matches('/').split('/');
    segments.take_while(|s| !s.contains(WILDCARDS)).collect()
}

/// The last segment, if it has no wildcard.
fn last_name(pattern: &str) -> Option<OsString> {
    let last = pattern.trim_end_matches('/').rsplit('/').next()?;
    (!last.contains(WILDCARDS) && !pattern.contains(['{', '['])).then(|| last.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_for_what_is_kept_goes_only_where_it_can_lie() {
        let dir = tempfile::tempdir().expect("a directory");
        let view = |keep: &[&str]| {
            DataView::new(&DataSpec {
                path: dir.path().to_owned(),
                keep: keep.iter().map(|&p| p.into()).collect(),
                exclude: vec![],
                immutable: vec![],
                append: vec![],
            })
            .expect("globs")
        };
        // A pattern, where the look begins, directories that it goes into, and others.
        let cases: [(&str, &str, &[&str], &[&str]); 7] = [
            ("signer.json", "signer.json", &[], &["chain"]),
            (
                "geth/nodekey",
                "geth/nodekey",
                &["geth"],
                &["geth/chaindata", "other"],
            ),
            (
                "keys/*/k-?.json",
                "keys",
                &["keys", "keys/a"],
                &["keys/a/b", "chain"],
            ),
            (
                "keys/**/k.json",
                "keys",
                &["keys", "keys/a", "keys/a/b"],
                &["chain"],
            ),
            ("**/k.json", "", &["a", "a/b"], &[]),
            ("x/keys[!0-9]*.json", "x", &["x", "x/keys"], &["y"]),
            ("a/{b,c/d}/e", "a", &["a", "a/c/d", "a/b"], &["b"]),
        ];
        for (keep, from, into, past) in cases {
            let view = view(&[keep]);
            assert_eq!(view.kept_from, [PathBuf::from(from)], "{keep}");
            for dir in into {
                assert!(view.may_hold_kept(Path::new(dir)), "{keep} {dir}");
            }
            for dir in past {
                assert!(!view.may_hold_kept(Path::new(dir)), "{keep} {dir}");
            }
        }
        let none = Vec::<PathBuf>::new();
        assert_eq!(view(&[]).kept_from, none);
        let nested = view(&["**/a", "**/b", "c/d", "c"]);
        assert_eq!(nested.kept_from, [PathBuf::from("")]);
        let nested = view(&["c/d", "c", "ca"]);
        assert_eq!(nested.kept_from, [PathBuf::from("c"), PathBuf::from("ca")]);
        assert!(view(&["a/b", "**/c"]).may_be_kept(OsStr::new("c")));
        assert!(!view(&["a/b", "**/c"]).may_be_kept(OsStr::new("d")));
        for odd in ["x[a/]b", "{a,b/c}", "a/*"] {
            assert!(view(&[odd]).may_be_kept(OsStr::new("any")), "{odd}");
        }
        assert!(view(&["keystore"]).may_hold_kept(Path::new("keystore/a")));
    }
}
