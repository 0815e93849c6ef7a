//! What a copy holds: every entry by directory and name, with the identity that its source had when it was copied.
//!
//! A look at 200,000 entries is inside the outage, so entries are found by the name that the directory lists, without a path being
//! made.

use foldhash::fast::RandomState;
use rustix::fs::{Statx, StatxTimestamp, makedev};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What a change of a file shows itself by. All of it is compared for equality, never for order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ident {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// Nanoseconds since the epoch, both.
    pub mtime: i64,
    pub ctime: i64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

impl Ident {
    pub fn of(meta: &Metadata) -> Self {
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

    pub(super) fn of_statx(stat: &Statx) -> Self {
        let time = |t: StatxTimestamp| nanos(t.tv_sec, i64::from(t.tv_nsec));
        Self {
            dev: makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            size: stat.stx_size,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            mode: u32::from(stat.stx_mode),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    File,
    Dir,
    Link,
    /// A link to a second root: what it leads to is part of the data.
    Root,
    /// Named by `keep`: never copied, carried over at a restore.
    Kept,
    /// A socket, a FIFO or a device: noted, and never opened or copied.
    Special,
}

impl Kind {
    fn holds_entries(self) -> bool {
        matches!(self, Self::Dir | Self::Root)
    }
}

/// How a file's contents change, which says how it is copied and looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// At any place, at any time.
    #[default]
    Mutable,
    /// Written once under its name, then only read and removed.
    Immutable,
    /// Grows at its end; may be cut.
    Append,
}

impl Class {
    fn is_mutable(&self) -> bool {
        *self == Self::Mutable
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Class::is_mutable")]
    pub class: Class,
    pub ident: Ident,
    /// Changed so shortly before it was looked at that a later change might not show.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hot: bool,
    /// The file has other names too. Those in the data, of a file that is not immutable, are names of one file in the copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linked: bool,
}

impl Entry {
    /// Of something that `keep` names.
    pub(super) fn kept(ident: Ident) -> Self {
        Self {
            kind: Kind::Kept,
            class: Class::Mutable,
            ident,
            hot: false,
            linked: false,
        }
    }

    /// True when an entry that is now `new` need not be copied again.
    pub(super) fn is_still(&self, new: &Self) -> bool {
        self.kind == new.kind
            && match new.kind {
                Kind::File | Kind::Link | Kind::Root => !self.hot && self.ident == new.ident,
                // Times move with every name in it.
                Kind::Dir => {
                    let of = |e: &Self| (e.ident.mode, e.ident.uid, e.ident.gid);
                    of(self) == of(new)
                }
                Kind::Kept | Kind::Special => true,
            }
    }
}

pub(super) type Map<K, V> = HashMap<K, V, RandomState>;

/// An entry, and the round that met it last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    pub(super) round: u32,
}

pub(super) type Names = Map<Box<OsStr>, Slot>;

/// Entries by directory and name; the directory at the top is the empty path.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    dirs: Map<PathBuf, Names>,
    len: usize,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for Tree {}

/// The order of paths, which is that of their parts; they are as a directory's list makes them, so that bytes tell it.
fn by_parts(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (a.as_os_str().as_bytes(), b.as_os_str().as_bytes());
    // What ends sooner comes first, and so does what ends a part.
    let rank = |byte: Option<&u8>| match byte {
        None => 0,
        Some(b'/') => 1,
        Some(other) => u16::from(*other) + 2,
    };
    match a.iter().zip(b).position(|(a, b)| a != b) {
        Some(at) => rank(a.get(at)).cmp(&rank(b.get(at))),
        None => a.len().cmp(&b.len()),
    }
}

/// The directory and the name of a path below the top.
fn parts(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

impl Tree {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, path: &Path) -> Option<&Entry> {
        let (dir, name) = parts(path)?;
        Some(&self.dirs.get(dir)?.get(name)?.entry)
    }

    pub fn insert(&mut self, path: &Path, entry: Entry) {
        let Some((dir, name)) = parts(path) else {
            return;
        };
        let slot = Slot { entry, round: 0 };
        let names = match self.dirs.get_mut(dir) {
            Some(names) => names,
            None => self.dirs.entry(dir.to_owned()).or_default(),
        };
        match names.insert(name.into(), slot) {
            None => self.len += 1,
            Some(old) if old.entry.kind.holds_entries() && !entry.kind.holds_entries() => {
                self.remove_below(path);
            }
            Some(_) => {}
        }
    }

    /// Removes an entry and all below it.
    pub fn remove(&mut self, path: &Path) {
        let Some((dir, name)) = parts(path) else {
            return;
        };
        let Some(old) = self.dirs.get_mut(dir).and_then(|d| d.remove(name)) else {
            return;
        };
        self.len -= 1;
        // Kept files may lie below a directory that is not an entry itself.
        if old.entry.kind.holds_entries() || old.entry.kind == Kind::Kept {
            self.remove_below(path);
        }
    }

    fn remove_below(&mut self, path: &Path) {
        let len = &mut self.len;
        self.dirs.retain(|dir, names| {
            let stays = !dir.starts_with(path);
            if !stays {
                *len -= names.len();
            }
            stays
        });
    }

    /// The entries of a directory, to be marked as they are met.
    pub(super) fn names_mut(&mut self, dir: &Path) -> Option<&mut Names> {
        self.dirs.get_mut(dir)
    }

    pub(super) fn names(&self, dir: &Path) -> Option<&Names> {
        self.dirs.get(dir)
    }

    /// All entries in no order.
    pub fn iter(&self) -> impl Iterator<Item = (PathBuf, &Entry)> {
        self.dirs.iter().flat_map(|(dir, names)| {
            names
                .iter()
                .map(move |(name, slot)| (dir.join(&**name), &slot.entry))
        })
    }

    /// All entries by path; a directory before what is in it.
    pub fn sorted(&self) -> Vec<(PathBuf, &Entry)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by(|(a, _), (b, _)| by_parts(a, b));
        all
    }

    /// How many files are copied.
    pub fn files(&self) -> u64 {
        self.iter().filter(|(_, e)| e.kind == Kind::File).count() as u64
    }

    /// What `keep` names.
    pub(super) fn kept(&self) -> BTreeSet<PathBuf> {
        let kept = self.iter().filter(|(_, e)| e.kind == Kind::Kept);
        kept.map(|(path, _)| path).collect()
    }

    /// The bytes of all files that are copied.
    pub fn bytes(&self) -> u64 {
        let files = self.iter().filter(|(_, e)| e.kind == Kind::File);
        files.map(|(_, e)| e.ident.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind) -> Entry {
        let ident = Ident {
            dev: 1,
            ino: 2,
            size: 3,
            mtime: 4,
            ctime: 5,
            mode: 6,
            uid: 7,
            gid: 8,
        };
        Entry {
            kind,
            class: Class::Mutable,
            ident,
            hot: false,
            linked: false,
        }
    }

    #[test]
    fn paths_are_ordered_as_their_parts_are() {
        let mut all: Vec<&Path> = [
            "a", "a/b", "a/b/c", "a-b", "a.b/c", "ab", "b", "a/\u{1}", "a0",
        ]
        .map(Path::new)
        .into();
        let mut as_parts = all.clone();
        as_parts.sort();
        all.sort_by(|a, b| by_parts(a, b));
        assert_eq!(all, as_parts);
    }

    #[test]
    fn what_goes_takes_along_what_is_below_it() {
        let mut tree = Tree::default();
        for (path, kind) in [
            ("a", Kind::Dir),
            ("a/b", Kind::Dir),
            ("a/b/c", Kind::File),
            ("ab", Kind::File),
        ] {
            tree.insert(Path::new(path), entry(kind));
        }
        let paths = |t: &Tree| t.sorted().into_iter().map(|(p, _)| p).collect::<Vec<_>>();
        tree.insert(Path::new("a/b"), entry(Kind::File));
        assert_eq!(paths(&tree), ["a", "a/b", "ab"].map(PathBuf::from));
        tree.remove(Path::new("a"));
        tree.remove(Path::new("gone"));
        assert_eq!(paths(&tree), [PathBuf::from("ab")]);
        assert_eq!(tree.len(), 1);
    }
}
