//! A look at a data directory, one directory at a time, against what is known of it.
//!
//! Names and inodes come from the directory itself; only where they do not tell enough is a file looked at.

use super::error::BackupError;
use super::hot::is_hot;
use super::mounts::refuse_mounts;
use super::tree::{Class, Entry, Ident, Kind, Map, Tree};
use super::view::DataView;
use crate::durable::{AtPath as _, PathError};
use crate::model::UnixMs;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How closely is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The node runs: every file's stamps.
    Live,
    /// Nobody writes: what is immutable is known by its name and inode.
    AtRest,
    /// As at rest, but stamps prove nothing here: every file that is not immutable may have changed.
    Compare,
}

/// What one directory has that is not as it was.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// With the entry that was known, and whether only a comparison of contents can tell.
    pub(super) changed: Vec<Changed>,
    pub(super) gone: Vec<PathBuf>,
    /// Directories to be looked at next.
    pub(super) below: Vec<PathBuf>,
    /// To be remembered when all of this is in the copy.
    pub(super) listed: Option<Listed>,
}

#[derive(Debug)]
pub(super) struct Changed {
    pub(super) path: PathBuf,
    pub(super) old: Option<Entry>,
    pub(super) new: Entry,
    /// It looks unchanged; only its contents can tell.
    pub(super) compare: bool,
}

impl Changes {
    /// An entry that is known is there, as `stat` says.
    fn met(
        &mut self,
        view: &DataView,
        dir: &Path,
        name: &OsStr,
        old: &Entry,
        stat: &Statx,
        look: Look,
    ) {
        let kind = match old.kind {
            Kind::Kept => Kind::Kept,
            _ => kind_of(view, dir, name, stat),
        };
        let new = Entry {
            kind,
            class: old.class,
            ident: Ident::of_statx(stat),
            hot: false,
            linked: false,
        };
        if is_dir(stat) || kind == Kind::Root {
            self.below.push(dir.join(name));
        }
        // Times of a directory move with every name in it, also with those that are no part of the copy.
        let is_still = old.is_still(&new) && (kind != Kind::Dir || old.ident == new.ident);
        let compare = is_still && look == Look::Compare && kind == Kind::File;
        if !is_still || compare {
            self.changed.push(Changed {
                path: dir.join(name),
                old: Some(*old),
                new,
                compare,
            });
        }
    }
}

/// The kernel's answers for one directory after another. One scanner for one tree of entries: they remember its rounds.
#[derive(Debug)]
pub(super) struct Scanner {
    buffer: Vec<MaybeUninit<u8>>,
    round: u32,
    /// An immutable file that was changed last before this time, in nanoseconds, was whole when it was looked at.
    settled: i64,
    pub(super) listing: Listing,
    /// By directory, entries that may have changed without a change of their names.
    restless: Map<PathBuf, Vec<Box<OsStr>>>,
    /// Directories that were not listed, for they were as they had been.
    pub(super) passed_over: u64,
}

/// What directories were like when all that is in them was in the copy.
#[derive(Debug, Default)]
pub(super) struct Listing(Map<PathBuf, Listed>);

impl Listing {
    /// The directories in one that is as it was: no name in it has changed.
    pub(super) fn unchanged(&self, dir: &Path, now: &Ident) -> Option<&[PathBuf]> {
        let listed = self.0.get(dir).filter(|l| l.ident == *now)?;
        Some(&listed.below)
    }
}

/// A directory as it was when its names were read last. Every name that comes, goes or moves shows in its stamps.
#[derive(Debug)]
pub(super) struct Listed {
    /// Its stamps before that.
    ident: Ident,
    round: u32,
    /// Directories in it that are to be looked at.
    below: Vec<PathBuf>,
}

/// A file that nobody has written to for so long has got all that it will hold: tables are written in one go.
const SETTLED_AFTER_MS: u64 = 60_000;

impl Default for Scanner {
    fn default() -> Self {
        Self {
            buffer: vec![MaybeUninit::uninit(); 256 * 1024],
            round: 0,
            settled: 0,
            listing: Listing::default(),
            restless: Map::default(),
            passed_over: 0,
        }
    }
}

impl Scanner {
    /// Makes all ready for a look at rest. `looked`: when the last look at all stamps began; 0 when that is not known.
    pub(super) fn settle(&mut self, known: &Tree, looked: UnixMs) {
        let settled = looked.saturating_sub(SETTLED_AFTER_MS);
        let settled = i64::try_from(settled).unwrap_or(0);
        self.settled = settled.saturating_mul(1_000_000);
        for dir in self.listing.0.keys() {
            let names = known.names(dir).into_iter().flatten();
            let restless = names.filter(|(_, slot)| !is_settled(&slot.entry, self.settled));
            let restless = restless.map(|(name, _)| name.clone()).collect();
            self.restless.insert(dir.clone(), restless);
        }
    }

    /// Begins a round: what `directory` does not meet in it has gone.
    pub(super) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1).max(1);
    }

    /// All that was found in a directory is in the copy.
    pub(super) fn remember(&mut self, dir: PathBuf, found: Option<Listed>) {
        if let Some(found) = found {
            self.listing.0.insert(dir, found);
        }
    }

    /// Ends a round that went over all: what it did not meet is forgotten.
    pub(super) fn end(&mut self) {
        let round = self.round;
        self.listing.0.retain(|_, listed| listed.round == round);
    }

    /// Looks at one directory. What vanishes meanwhile is gone.
    pub(super) fn directory(
        &mut self,
        view: &DataView,
        known: &mut Tree,
        dir: &Path,
        look: Look,
    ) -> Result<Changes, BackupError> {
        let full = view.full(dir);
        let is_top = dir.as_os_str().is_empty() || view.is_root(dir);
        let mut changes = Changes::default();
        let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = match rustix::fs::open(&full, open, Mode::empty()) {
            // Its own directory says that it has gone.
            Err(Errno::NOENT | Errno::NOTDIR) if !is_top => return Ok(changes),
            other => other.at("open", &full)?,
        };
        let own = rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
        let ident = Ident::of_statx(&own.at("look at", &full)?);
        // A name that came after this look and before the list could have left the same stamps.
        let is_hot = is_hot(&ident);
        let mut names = known.names_mut(dir);
        let known_as = self.listing.0.get(dir).filter(|l| l.ident == ident);
        let restless = self.restless.get(dir);
        if let (Look::AtRest, Some(listed), Some(restless), Some(names)) =
            (look, known_as, restless, &names)
        {
            for name in restless {
                let Some(slot) = names.get(name) else {
                    continue;
                };
                match look_at(&fd, name, &full)? {
                    Some(stat) => changes.met(view, dir, name, &slot.entry, &stat, look),
                    None => changes.gone.push(dir.join(&**name)),
                }
            }
            changes.below.clone_from(&listed.below);
            self.passed_over += 1;
            return Ok(changes);
        }
        // Only a pass that comes to an end over it brings it back.
        self.listing.0.remove(dir);
        let mut met = 0;
        let mut list = RawDir::new(&fd, &mut self.buffer);
        while let Some(found) = list.next() {
            let found = match found {
                // It was removed between its opening and its list.
                Err(Errno::NOENT) if !is_top => return Ok(Changes::default()),
                other => other.at("list", &full)?,
            };
            let name = found.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let name = OsStr::from_bytes(name);
            let slot = names.as_mut().and_then(|n| n.get_mut(name));
            if let Some(slot) = slot {
                if slot.round != self.round {
                    slot.round = self.round;
                    met += 1;
                }
                let old = slot.entry;
                let is_as_it_was = look != Look::Live
                    && is_settled(&old, self.settled)
                    && found.ino() == old.ident.ino
                    && found.file_type() == FileType::RegularFile;
                if is_as_it_was {
                    continue;
                }
                let Some(stat) = look_at(&fd, name, &full)? else {
                    slot.round = 0;
                    met -= 1;
                    continue;
                };
                changes.met(view, dir, name, &old, &stat, look);
                continue;
            }
            let path = dir.join(name);
            let Some(stat) = look_at(&fd, name, &full)? else {
                continue;
            };
            let is_excluded = view.is_excluded(&path);
            if is_dir(&stat) && (!is_excluded || view.may_hold_kept(&path)) {
                changes.below.push(path.clone());
            }
            if is_excluded {
                continue;
            }
            let kind = if view.is_kept(&path) {
                Kind::Kept
            } else {
                kind_of(view, dir, name, &stat)
            };
            if kind == Kind::Root {
                changes.below.push(path.clone());
            }
            let new = Entry {
                kind,
                class: view.class(&path),
                ident: Ident::of_statx(&stat),
                hot: false,
                linked: false,
            };
            changes.changed.push(Changed {
                path,
                old: None,
                new,
                compare: false,
            });
        }
        if let Some(names) = names.filter(|n| n.len() != met) {
            let round = self.round;
            let unmet = names.iter().filter(|(_, slot)| slot.round != round);
            changes.gone = unmet.map(|(name, _)| dir.join(&**name)).collect();
        }
        if !is_hot {
            changes.listed = Some(Listed {
                ident,
                round: self.round,
                below: changes.below.clone(),
            });
        }
        Ok(changes)
    }
}

/// Its name and inode tell that it is as it was.
fn is_settled(entry: &Entry, settled: i64) -> bool {
    entry.class == Class::Immutable
        && entry.kind == Kind::File
        && !entry.hot
        && entry.ident.mtime < settled
}

/// All entries of a directory.
pub fn scan(view: &DataView) -> Result<Tree, BackupError> {
    refuse_mounts(view)?;
    let mut tree = Tree::default();
    let mut scanner = Scanner::default();
    scanner.begin();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let changes = scanner.directory(view, &mut tree, &dir, Look::Live)?;
        dirs.extend(changes.below);
        for found in changes.changed {
            tree.insert(&found.path, found.new);
        }
    }
    Ok(tree)
}

fn look_at(dir: &OwnedFd, name: &OsStr, full: &Path) -> Result<Option<Statx>, BackupError> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS) {
        Err(Errno::NOENT) => Ok(None),
        other => Ok(Some(other.at("look at", &full.join(name))?)),
    }
}

fn is_dir(stat: &Statx) -> bool {
    FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory
}

fn kind_of(view: &DataView, dir: &Path, name: &OsStr, stat: &Statx) -> Kind {
    match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::Directory => Kind::Dir,
        FileType::RegularFile => Kind::File,
        FileType::Symlink if view.is_root(&dir.join(name)) => Kind::Root,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    }
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
