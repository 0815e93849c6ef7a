//! One file from the live data into the copy: never into an existing inode, always a new file and a rename.

use super::error::BackupError;
use super::scan::{Entry, Ident, Kind, gone_is_none};
use crate::durable::{AtPath as _, PathError, create_private, make_private_dir, parent};
use rustix::fs::SeekFrom;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a copy goes, and what watches over it.
pub(super) struct Copier<'a> {
    pub(super) source: &'a Path,
    /// `tree/` and `tmp/` of the generation.
    pub(super) tree: PathBuf,
    pub(super) tmp: PathBuf,
    /// Called with each chunk's bytes; an error ends the copy.
    pub(super) pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
    /// Directories of the copy whose names have changed and are not synced.
    pub(super) dirty_dirs: BTreeSet<PathBuf>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) syncs: u64,
}

const CHUNK: usize = 8 * 1024 * 1024;
/// Before 6.13 the kernel stamps files by the tick, 10 ms at the most; with a file system of whole seconds, by the second.
const HOT_FINE_NS: i128 = 50_000_000;
const HOT_COARSE_NS: i128 = 2_000_000_000;

impl Copier<'_> {
    /// Copies one entry of the source as it is now; `None` when it has gone. `live`: its writer may be at work.
    pub(super) fn copy(
        &mut self,
        rel: &Path,
        entry: &Entry,
        live: bool,
    ) -> Result<Option<Entry>, BackupError> {
        let to = self.tree.join(rel);
        self.ready_parent(&to)?;
        match entry.kind {
            Kind::Kept => Ok(Some(*entry)),
            Kind::Dir => {
                self.ready_dir(&to, &entry.ident)?;
                Ok(Some(*entry))
            }
            Kind::Link => self.link(rel, &to, entry),
            Kind::File => self.file(rel, &to, live),
        }
    }

    fn file(&mut self, rel: &Path, to: &Path, live: bool) -> Result<Option<Entry>, BackupError> {
        let from = self.source.join(rel);
        let Some(file) = gone_is_none(File::open(&from), "open", &from)? else {
            return Ok(None);
        };
        let look = || -> Result<Ident, PathError> {
            Ok(Ident::of(&file.metadata().at("look at", &from)?))
        };
        let mut before = look()?;
        let mut hot = false;
        if live {
            // A store through a shared mapping moves the times only at its first write to a clean page. Writing back makes
            // all pages clean, so that the next store shows.
            file.sync_data().at("sync", &from)?;
            let synced = look()?;
            hot |= synced != before;
            before = synced;
        }
        let temporary = self.tmp.join("file");
        let copy = create_private(&temporary)?;
        self.contents(&file, &from, &copy, &temporary, before.size)?;
        let after = look()?;
        hot |= live && (after != before || is_hot(&after));
        copy.set_permissions(fs::Permissions::from_mode(after.mode & 0o7777))
            .at("set the mode of", &temporary)?;
        chown(&temporary, Some(after.uid), Some(after.gid)).at("set the owner of", &temporary)?;
        copy.set_modified(time_of(after.mtime))
            .at("set the time of", &temporary)?;
        copy.sync_all().at("sync", &temporary)?;
        self.syncs += 1;
        self.replace(&temporary, to)?;
        self.files += 1;
        Ok(Some(Entry {
            kind: Kind::File,
            ident: after,
            hot,
        }))
    }

    /// Copies data and leaves holes where the source has them.
    fn contents(
        &mut self,
        from: &File,
        from_path: &Path,
        to: &File,
        to_path: &Path,
        size: u64,
    ) -> Result<(), BackupError> {
        let mut at = 0;
        while at < size {
            let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Ok(start) => start.min(size),
                Err(rustix::io::Errno::NXIO) => break,
                Err(rustix::io::Errno::INVAL) => at,
                Err(other) => return Err(other).at("read", from_path)?,
            };
            let end = match rustix::fs::seek(from, SeekFrom::Hole(start)) {
                Ok(end) => end.min(size),
                Err(rustix::io::Errno::NXIO) => break,
                Err(rustix::io::Errno::INVAL) => size,
                Err(other) => return Err(other).at("read", from_path)?,
            };
            at = start;
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                let (mut i, mut o) = (at, at);
                let n =
                    match rustix::fs::copy_file_range(from, Some(&mut i), to, Some(&mut o), want) {
                        Ok(n) => n,
                        Err(
                            rustix::io::Errno::XDEV
                            | rustix::io::Errno::INVAL
                            | rustix::io::Errno::NOSYS,
                        ) => by_hand(from, from_path, to, to_path, at, want)?,
                        Err(other) => return Err(other).at("copy", from_path)?,
                    };
                if n == 0 {
                    break;
                }
                at += n as u64;
                self.bytes += n as u64;
                (self.pace)(n as u64)?;
            }
            if at < end {
                break;
            }
        }
        // A hole at the end, and a file that shrank meanwhile: the identity shows the latter.
        to.set_len(size).at("set the length of", to_path)?;
        Ok(())
    }

    fn link(&mut self, rel: &Path, to: &Path, entry: &Entry) -> Result<Option<Entry>, BackupError> {
        let from = self.source.join(rel);
        let Some(target) = gone_is_none(fs::read_link(&from), "read link", &from)? else {
            return Ok(None);
        };
        let temporary = self.tmp.join("link");
        let _ = fs::remove_file(&temporary);
        symlink(&target, &temporary).at("link", &temporary)?;
        lchown(&temporary, Some(entry.ident.uid), Some(entry.ident.gid))
            .at("set the owner of", &temporary)?;
        self.replace(&temporary, to)?;
        Ok(Some(*entry))
    }

    fn replace(&mut self, temporary: &Path, to: &Path) -> Result<(), BackupError> {
        if fs::symlink_metadata(to).is_ok_and(|m| m.is_dir()) {
            fs::remove_dir_all(to).at("remove", to)?;
        }
        fs::rename(temporary, to).at("rename into place", to)?;
        self.dirty_dirs.insert(parent(to).to_owned());
        Ok(())
    }

    fn ready_parent(&mut self, to: &Path) -> Result<(), BackupError> {
        let dir = parent(to);
        if !dir.is_dir() {
            let _ = fs::remove_file(dir);
            make_private_dir(dir)?;
            self.dirty_dirs.insert(parent(dir).to_owned());
        }
        Ok(())
    }

    fn ready_dir(&mut self, to: &Path, ident: &Ident) -> Result<(), BackupError> {
        if !fs::symlink_metadata(to).is_ok_and(|m| m.is_dir()) {
            let _ = fs::remove_file(to);
            make_private_dir(to)?;
            self.dirty_dirs.insert(parent(to).to_owned());
        }
        fs::set_permissions(to, fs::Permissions::from_mode(ident.mode & 0o7777))
            .at("set the mode of", to)?;
        chown(to, Some(ident.uid), Some(ident.gid)).at("set the owner of", to)?;
        Ok(())
    }

    /// Removes from the copy what the source no longer has.
    pub(super) fn remove(&mut self, rel: &Path) -> Result<(), BackupError> {
        let to = self.tree.join(rel);
        match fs::symlink_metadata(&to) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&to).at("remove", &to)?,
            Ok(_) => fs::remove_file(&to).at("remove", &to)?,
            Err(_) => return Ok(()),
        }
        self.dirty_dirs.insert(parent(&to).to_owned());
        Ok(())
    }

    /// Syncs the directories whose names changed.
    pub(super) fn sync_dirs(&mut self) -> Result<(), BackupError> {
        for dir in std::mem::take(&mut self.dirty_dirs) {
            if dir.is_dir() {
                crate::durable::sync_dir(&dir)?;
                self.syncs += 1;
            }
        }
        Ok(())
    }
}

fn by_hand(
    from: &File,
    from_path: &Path,
    to: &File,
    to_path: &Path,
    at: u64,
    want: usize,
) -> Result<usize, PathError> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; want.min(256 * 1024)];
    let n = from.read_at(&mut buffer, at).at("read", from_path)?;
    to.write_all_at(&buffer[..n], at).at("write", to_path)?;
    Ok(n)
}

/// True when the stamps are so young that another change might carry the same ones.
fn is_hot(ident: &Ident) -> bool {
    let now = i128::from(crate::host::wall_clock()) * 1_000_000;
    let coarse = ident.mtime % 1_000_000_000 == 0 && ident.ctime % 1_000_000_000 == 0;
    let window = if coarse { HOT_COARSE_NS } else { HOT_FINE_NS };
    now - ident.mtime.max(ident.ctime) < window
}

fn time_of(nanos: i128) -> SystemTime {
    let whole = u64::try_from(nanos.max(0)).unwrap_or(0);
    UNIX_EPOCH + std::time::Duration::from_nanos(whole)
}
