//! What `keep` names in the live data. The look for it is inside the outage of a way back, so it looks at no file that cannot be kept, and
//! lists no directory that is as the final pass left it.

use super::error::BackupError;
use super::mounts::refuse_mounts;
use super::scan::{Listing, gone_is_none};
use super::tree::{Entry, Ident};
use super::view::DataView;
use crate::durable::AtPath as _;
use rustix::fs::{FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// `sealed`: what `keep` named when the data were sealed. `listing`: what the final pass remembers of their directories; without it all names
/// are read.
pub(super) fn find_kept(
    view: &DataView,
    sealed: &BTreeSet<PathBuf>,
    listing: &Listing,
) -> Result<BTreeMap<PathBuf, Entry>, BackupError> {
    refuse_mounts(view)?;
    let mut finder = Finder {
        view,
        found: BTreeMap::new(),
        dirs: vec![],
        buffer: vec![MaybeUninit::uninit(); 256 * 1024],
    };
    for from in &view.kept_from {
        if !finder.is_reached(from)? {
            continue;
        }
        if view.is_kept(from) {
            finder.take(from)?;
        }
        if finder.look(from)?.is_some_and(|m| m.is_dir()) {
            finder.dirs.push(from.clone());
        }
    }
    // Whatever is remembered of directories, what was kept is never lost sight of.
    for path in sealed.iter().filter(|path| view.is_kept(path)) {
        if finder.is_reached(path)? {
            finder.take(path)?;
        }
    }
    while let Some(dir) = finder.dirs.pop() {
        let Some(now) = finder.look(&dir)? else {
            continue;
        };
        match listing.unchanged(&dir, &Ident::of(&now)) {
            Some(below) => {
                let below = below.iter().filter(|dir| view.may_hold_kept(dir));
                finder.dirs.extend(below.cloned());
            }
            None => finder.list(&dir)?,
        }
    }
    Ok(finder.found)
}

struct Finder<'a> {
    view: &'a DataView,
    found: BTreeMap<PathBuf, Entry>,
    /// Still to be looked into.
    dirs: Vec<PathBuf>,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Finder<'_> {
    /// `None` if nothing is there; what cannot be looked at is an error.
    fn look(&self, path: &Path) -> Result<Option<fs::Metadata>, BackupError> {
        let full = self.view.full(path);
        match fs::symlink_metadata(&full) {
            // Its place is no directory any more.
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
            other => Ok(gone_is_none(other, "look at", &full)?),
        }
    }

    /// True if all above a path are directories: no look goes through a link, but for one to a second root.
    fn is_reached(&self, path: &Path) -> Result<bool, BackupError> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for dir in above {
            if !self.look(dir)?.is_some_and(|m| m.is_dir()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, path: &Path) -> Result<(), BackupError> {
        if let Some(meta) = self.look(path)? {
            let entry = Entry::kept(Ident::of(&meta));
            self.found.insert(path.to_owned(), entry);
        }
        Ok(())
    }

    /// Reads the names of a directory.
    fn list(&mut self, dir: &Path) -> Result<(), BackupError> {
        let full = self.view.full(dir);
        let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = match rustix::fs::open(&full, open, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.at("open", &full)?,
        };
        let is_kept = self.view.is_kept(dir);
        let mut kept = Vec::new();
        let mut list = RawDir::new(&fd, &mut self.buffer);
        while let Some(found) = list.next() {
            let found = match found {
                Err(Errno::NOENT) => return Ok(()),
                other => other.at("list", &full)?,
            };
            let name = found.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let name = OsStr::from_bytes(name);
            let kind = found.file_type();
            let mut is_dir = matches!(kind, FileType::Directory | FileType::Unknown);
            is_dir |= kind == FileType::Symlink && self.view.is_root(&dir.join(name));
            if !is_dir && !is_kept && !self.view.may_be_kept(name) {
                continue;
            }
            let path = dir.join(name);
            // One that turns out to be none is passed over when its turn comes.
            if is_dir && self.view.may_hold_kept(&path) {
                self.dirs.push(path.clone());
            }
            if self.view.is_kept(&path) {
                kept.push(path);
            }
        }
        kept.iter().try_for_each(|path| self.take(path))
    }
}
