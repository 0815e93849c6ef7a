//! One entry from the live data into the copy.
//!
//! A file is always a new one under a temporary name, then renamed; only a file that grows at its end is added to, and only while
//! no other generation shares it. So a cut leaves the old state or the new one, and what lies behind the length that the baseline
//! knows is cut off by the next visor.

use super::contents::copy_contents;
use super::dress::{Source, copy_xattrs, dress, link_time, time_of, times};
use super::error::BackupError;
use super::hot::is_hot;
use super::linked::Linked;
use super::roots::Roots;
use super::scan::{Changed, gone_is_none};
use super::tree::{Class, Entry, Ident, Kind, Map, Tree};
use super::view::DataView;
use super::whole::Whole;
use crate::durable::{AtPath as _, PathError, create_private, make_private_dir, remove_all};
use crate::model::Method;
use rustix::fs::{Advice, AtFlags, CWD, fadvise, linkat, utimensat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{
    MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, lchown, symlink,
};
use std::path::{Path, PathBuf};

/// The sealed generation before, whose immutable files need no second copy.
#[derive(Debug)]
pub(super) struct Seed {
    pub(super) entries: Tree,
    pub(super) tree: DataView,
}

/// How files below a path are copied.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Where they are until they are whole.
    tmp: PathBuf,
    /// That is in the tree.
    tmp_inside: bool,
    method: Method,
}

/// Where a copy goes, and what watches over it.
pub(super) struct Copier<'a> {
    pub(super) source: &'a DataView,
    /// `tree/` of the generation, with the copies of second roots.
    pub(super) tree: DataView,
    /// That of the data, then those of second roots.
    places: Vec<Place>,
    pub(super) seed: Option<&'a Seed>,
    /// Called with each chunk's bytes; an error ends the copy.
    pub(super) pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
    /// Files of several names that were copied in this pass: the first name, and as what.
    linked: Map<(u64, u64), (PathBuf, Entry)>,
    /// Those that were copied before.
    pub(super) known: Linked,
    /// What this pass has put or removed, as long as there are known names.
    replaced: BTreeSet<PathBuf>,
    /// Directories, relative to the tree, whose names have changed and are not synced.
    dirty_dirs: BTreeSet<PathBuf>,
    /// Tops with files that are not synced one by one.
    unsynced: BTreeSet<PathBuf>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) syncs: u64,
}

/// Where files under way are in a tree that is a subvolume or a dataset. It goes with the end of the pass.
const TMP_INSIDE: &str = ".visor-files-under-way";
/// Before a tail is added, so much before it must be what was copied.
const TAIL_CHECK: u64 = 64 * 1024;
/// While the node runs, so many files of a round are synced one by one; then all at once.
const SINGLE_SYNCS: u64 = 64;
/// From this size on a file is synced by itself, and leaves the page cache.
const LARGE: u64 = 1024 * 1024;

impl<'a> Copier<'a> {
    /// `generation`: its directory, under the name that it has by now.
    pub(super) fn new(
        source: &'a DataView,
        roots: &Roots,
        generation: &Path,
        method: Method,
        pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
    ) -> Self {
        let tree = generation.join("tree");
        // Nothing is renamed from one subvolume into another.
        let tmp_inside = method == Method::Snapshot;
        let own = Place {
            path: PathBuf::new(),
            tmp: match tmp_inside {
                true => tree.join(TMP_INSIDE),
                false => generation.join("tmp"),
            },
            tmp_inside,
            // What changes after the snapshot of a dataset shares nothing with the copy.
            method: match Whole::at(&tree) {
                Some(Whole::Dataset) => Method::Copy,
                _ => method,
            },
        };
        let of_roots = roots.iter().map(|root| Place {
            path: root.path.clone(),
            tmp: roots.place(root).join("tmp"),
            tmp_inside: false,
            method: root.method,
        });
        Self {
            source,
            places: std::iter::once(own).chain(of_roots).collect(),
            tree: roots.of_copy(&tree),
            seed: None,
            pace,
            linked: Map::default(),
            known: Linked::default(),
            replaced: BTreeSet::new(),
            dirty_dirs: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            files: 0,
            bytes: 0,
            syncs: 0,
        }
    }

    /// Of what lies below a path; a second root's link itself is in the place of what is around it.
    fn place(&self, rel: &Path) -> &Place {
        let is_in = |p: &&Place| rel.starts_with(&p.path) && rel != p.path;
        self.places.iter().rfind(is_in).unwrap_or(&self.places[0])
    }

    /// Copies one entry of the source as it is now; `None` when it has gone. `live`: its writer may be at work.
    pub(super) fn copy(
        &mut self,
        found: &Changed,
        live: bool,
    ) -> Result<Option<Entry>, BackupError> {
        self.roots_stay(&found.path, found.new.kind)?;
        let to = self.tree.name(&found.path);
        if matches!(found.new.kind, Kind::Kept | Kind::Special) {
            // What had been copied under that name is no part of the data any more.
            self.remove(&found.path)?;
            return Ok(Some(found.new));
        }
        self.ready_parent(&found.path)?;
        let place = self.place(&found.path);
        if place.tmp_inside && !place.tmp.is_dir() {
            make_private_dir(&place.tmp)?;
        }
        match found.new.kind {
            Kind::Dir => {
                self.ready_dir(&found.path, &found.new.ident)?;
                Ok(Some(found.new))
            }
            Kind::Link => self.link(found, &to),
            Kind::Root => self.root(found, &to).map(Some),
            _ => self.file(found, &to, live),
        }
    }

    fn file(
        &mut self,
        found: &Changed,
        to: &Path,
        live: bool,
    ) -> Result<Option<Entry>, BackupError> {
        let from = self.source.full(&found.path);
        if self.take_from_seed(found, to)? {
            self.files += 1;
            return Ok(Some(found.new));
        }
        if self.place(&found.path).method == Method::LinkCopy
            && found.new.class == Class::Immutable
            && let Some(entry) = self.hard_link(found, &from, to)?
        {
            return Ok(Some(entry));
        }
        // Never waits for the other end of a FIFO that has come in a file's place.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(&from);
        let Some(file) = gone_is_none(open, "open", &from)? else {
            return Ok(None);
        };
        let meta = file.metadata().at("look at", &from)?;
        if !meta.is_file() {
            return Ok(None);
        }
        let mut before = Ident::of(&meta);
        let mut hot = false;
        let id = (before.dev, before.ino);
        let first = self.linked.get(&id);
        // Where stamps prove nothing, what was copied before may be another state.
        let known = || self.known_name(&before).filter(|_| !found.compare);
        if let Some((first, of_first)) = first.or_else(known)
            && of_first.ident == before
        {
            let (first, hot) = (self.tree.full(first), of_first.hot);
            if let Some(entry) = self.name_again(&first, to, found, before, hot)? {
                return Ok(Some(entry));
            }
        }
        // It has changed between its names: the next round copies it for all of them.
        hot |= self.linked.contains_key(&id);
        let look = || -> Result<Ident, PathError> {
            Ok(Ident::of(&file.metadata().at("look at", &from)?))
        };
        if live && found.new.class != Class::Immutable {
            // A store through a shared mapping moves the times only at its first write to a clean page. Writing back makes
            // all pages clean, so that the next store shows.
            file.sync_data().at("sync", &from)?;
            let synced = look()?;
            hot |= synced != before;
            before = synced;
        }
        // A write after this look, and before the first byte is read, could carry the same stamps.
        hot |= live && is_hot(&before);
        let source = Source {
            file: &file,
            path: &from,
        };
        if !self.add_tail(found, &source, to, &before)? {
            self.whole(&source, to, &found.path, &before, live)?;
        }
        let after = look()?;
        hot |= after != before || live && is_hot(&after);
        self.files += 1;
        // Of one that was written to meanwhile there is so much in the copy as there was before.
        let entry = Entry {
            kind: Kind::File,
            class: found.new.class,
            ident: before,
            hot,
            linked: meta.nlink() > 1,
        };
        if entry.linked {
            self.linked.insert(id, (found.path.clone(), entry));
        }
        Ok(Some(entry))
    }

    /// A name of that file that is in the copy as it was before this pass. A directory that is renamed leaves the stamps of its files
    /// as they are, so that another one may stand there by now.
    fn known_name(&self, now: &Ident) -> Option<&(PathBuf, Entry)> {
        let is_as_it_was = |path: &Path| !path.ancestors().any(|p| self.replaced.contains(p));
        self.known.names(now).find(|(path, _)| is_as_it_was(path))
    }

    /// A new file with all of the contents.
    fn whole(
        &mut self,
        source: &Source<'_>,
        to: &Path,
        rel: &Path,
        ident: &Ident,
        live: bool,
    ) -> Result<(), BackupError> {
        let place = self.place(rel);
        let (temporary, method) = (place.tmp.join("file"), place.method);
        let copy = create_private(&temporary)?;
        let mut cloned = false;
        if method.shares_blocks() {
            match rustix::fs::ioctl_ficlone(&copy, source.file) {
                Ok(()) => {
                    cloned = true;
                    // It may have grown since it was looked at.
                    copy.set_len(ident.size)
                        .at("set the length of", &temporary)?;
                    (self.pace)(0)?;
                }
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY) => {}
                Err(other) => return Err(other).at("clone", source.path)?,
            }
        }
        if !cloned {
            let target = Source {
                file: &copy,
                path: &temporary,
            };
            self.contents(source, &target, 0..ident.size)?;
        }
        copy_xattrs(source, &copy)?;
        dress(&copy, &temporary, ident)?;
        if live && ident.size < LARGE && self.files >= SINGLE_SYNCS {
            let top = self.place(rel).path.clone();
            self.unsynced.insert(top);
        } else {
            copy.sync_all().at("sync", &temporary)?;
            self.syncs += 1;
            if live && ident.size >= LARGE && !cloned {
                // The node's cache is the node's.
                let _ = fadvise(&copy, 0, NonZeroU64::new(ident.size), Advice::DontNeed);
            }
        }
        self.replace(&temporary, to, rel)
    }

    /// Adds what has come since to a file that grows at its end; false when it has to be copied whole.
    fn add_tail(
        &mut self,
        found: &Changed,
        source: &Source<'_>,
        to: &Path,
        ident: &Ident,
    ) -> Result<bool, BackupError> {
        let Some(old) = &found.old else {
            return Ok(false);
        };
        let grows = found.new.class == Class::Append
            && old.kind == Kind::File
            && (old.ident.dev, old.ident.ino) == (ident.dev, ident.ino)
            && (old.ident.mode, old.ident.uid, old.ident.gid) == (ident.mode, ident.uid, ident.gid)
            && ident.size >= old.ident.size
            // Written to without growing: in place.
            && (ident.size > old.ident.size || old.ident == *ident)
            && !found.compare
            && !self.place(&found.path).method.shares_blocks();
        if !grows {
            return Ok(false);
        }
        let Ok(copy) = OpenOptions::new().read(true).write(true).open(to) else {
            return Ok(false);
        };
        let there = copy.metadata().at("look at", to)?;
        if !there.is_file() || there.nlink() != 1 || there.len() != old.ident.size {
            return Ok(false);
        }
        let target = Source {
            file: &copy,
            path: to,
        };
        let check = old.ident.size.min(TAIL_CHECK);
        // A file that is used again is written anew from its beginning.
        for at in [0, old.ident.size - check] {
            if source.bytes(at, check)? != target.bytes(at, check)? {
                return Ok(false);
            }
        }
        self.contents(source, &target, old.ident.size..ident.size)?;
        copy.set_modified(time_of(ident.mtime))
            .at("set the time of", to)?;
        copy.sync_all().at("sync", to)?;
        self.syncs += 1;
        Ok(true)
    }

    fn contents(
        &mut self,
        from: &Source<'_>,
        to: &Source<'_>,
        range: Range<u64>,
    ) -> Result<(), BackupError> {
        let (bytes, pace) = (&mut self.bytes, self.pace);
        copy_contents(from, to, range, &mut |n| {
            *bytes += n;
            pace(n)
        })
    }

    /// Gives an immutable file of the live data a second name in the copy; `None` where that cannot be.
    fn hard_link(
        &mut self,
        found: &Changed,
        from: &Path,
        to: &Path,
    ) -> Result<Option<Entry>, BackupError> {
        if !self.link_into_place(from, to, &found.path)? {
            return Ok(None);
        }
        // The second name has moved the time of change.
        let meta = fs::symlink_metadata(to).at("look at", to)?;
        if !meta.is_file() {
            return Ok(None);
        }
        self.files += 1;
        Ok(Some(Entry {
            ident: Ident::of(&meta),
            ..found.new
        }))
    }

    /// A further name of a file that is in the copy already; `None` where that cannot be.
    fn name_again(
        &mut self,
        first: &Path,
        to: &Path,
        found: &Changed,
        ident: Ident,
        hot: bool,
    ) -> Result<Option<Entry>, BackupError> {
        if !self.link_into_place(first, to, &found.path)? {
            return Ok(None);
        }
        self.files += 1;
        Ok(Some(Entry {
            ident,
            hot,
            linked: true,
            ..found.new
        }))
    }

    /// An immutable file that the generation before has already, where the live one cannot be linked.
    fn take_from_seed(&mut self, found: &Changed, to: &Path) -> Result<bool, BackupError> {
        let Some(seed) = self.seed else {
            return Ok(false);
        };
        let is_there = self.place(&found.path).method == Method::Copy
            && found.new.class == Class::Immutable
            && found.old.is_none()
            && seed
                .entries
                .get(&found.path)
                .is_some_and(|old| old.kind == Kind::File && old.is_still(&found.new));
        Ok(is_there && self.link_into_place(&seed.tree.full(&found.path), to, &found.path)?)
    }

    /// False where the file system, the owner or a limit does not let it be.
    fn link_into_place(&mut self, from: &Path, to: &Path, rel: &Path) -> Result<bool, BackupError> {
        let same = |a: &Path, b: &Path| {
            let id = |p: &Path| fs::symlink_metadata(p).map(|m| (m.dev(), m.ino())).ok();
            id(a).is_some() && id(a) == id(b)
        };
        // A rename of one name of a file onto another does nothing.
        if same(from, to) {
            return Ok(true);
        }
        let temporary = self.place(rel).tmp.join("link");
        let _ = fs::remove_file(&temporary);
        match linkat(CWD, from, CWD, &temporary, AtFlags::empty()) {
            Ok(()) => {}
            Err(
                Errno::PERM
                | Errno::XDEV
                | Errno::MLINK
                | Errno::OPNOTSUPP
                | Errno::NOENT
                | Errno::ACCESS,
            ) => return Ok(false),
            Err(other) => return Err(other).at("link", from)?,
        }
        (self.pace)(0)?;
        self.replace(&temporary, to, rel)?;
        Ok(true)
    }

    fn link(&mut self, found: &Changed, to: &Path) -> Result<Option<Entry>, BackupError> {
        let from = self.source.full(&found.path);
        let Some(target) = gone_is_none(fs::read_link(&from), "read link", &from)? else {
            return Ok(None);
        };
        self.put_link(&target, found, to)?;
        Ok(Some(found.new))
    }

    /// The link to a second root, which in the copy leads to the copy of that.
    fn root(&mut self, found: &Changed, to: &Path) -> Result<Entry, BackupError> {
        let (link, dir) = (self.source.name(&found.path), self.source.full(&found.path));
        if !fs::canonicalize(&link).is_ok_and(|now| now == dir) {
            return Err(BackupError::OtherRoot { link, dir });
        }
        self.put_link(&self.tree.full(&found.path), found, to)?;
        let meta = fs::metadata(&dir).at("look at", &dir)?;
        self.ready_dir(&found.path, &Ident::of(&meta))?;
        Ok(found.new)
    }

    /// An error where something comes in the place of a link to a second root, or of a directory above one.
    fn roots_stay(&self, rel: &Path, kind: Kind) -> Result<(), BackupError> {
        let is_in_the_way = |place: &&Place| match place.path.strip_prefix(rel) {
            Ok(below) if below.as_os_str().is_empty() => kind != Kind::Root,
            Ok(_) => !matches!(kind, Kind::Dir | Kind::Root),
            Err(_) => false,
        };
        match self.places[1..].iter().find(is_in_the_way) {
            Some(root) => Err(BackupError::OtherRoot {
                link: self.source.name(&root.path),
                dir: self.source.full(&root.path),
            }),
            None => Ok(()),
        }
    }

    fn put_link(&mut self, target: &Path, found: &Changed, to: &Path) -> Result<(), BackupError> {
        let temporary = self.place(&found.path).tmp.join("link");
        let _ = fs::remove_file(&temporary);
        let ident = &found.new.ident;
        symlink(target, &temporary).at("link", &temporary)?;
        lchown(&temporary, Some(ident.uid), Some(ident.gid)).at("set the owner of", &temporary)?;
        link_time(&temporary, ident.mtime);
        self.replace(&temporary, to, &found.path)
    }

    fn replace(&mut self, temporary: &Path, to: &Path, rel: &Path) -> Result<(), BackupError> {
        if fs::symlink_metadata(to).is_ok_and(|m| m.is_dir()) {
            fs::remove_dir_all(to).at("remove", to)?;
        }
        fs::rename(temporary, to).at("rename into place", to)?;
        self.note_replaced(rel);
        Ok(())
    }

    /// Notes that a name has changed in the directory of a path.
    fn dirty(&mut self, rel: &Path) {
        let dir = rel.parent().unwrap_or(Path::new(""));
        if !self.dirty_dirs.contains(dir) {
            self.dirty_dirs.insert(dir.to_owned());
        }
    }

    fn ready_parent(&mut self, rel: &Path) -> Result<(), BackupError> {
        let Some(dir) = rel.parent().filter(|d| !d.as_os_str().is_empty()) else {
            return Ok(());
        };
        let full = self.tree.full(dir);
        if !full.is_dir() {
            let _ = fs::remove_file(&full);
            make_private_dir(&full)?;
            self.dirty(dir);
        }
        Ok(())
    }

    pub(super) fn ready_dir(&mut self, rel: &Path, ident: &Ident) -> Result<(), BackupError> {
        let to = self.tree.full(rel);
        if !fs::symlink_metadata(&to).is_ok_and(|m| m.is_dir()) {
            let _ = fs::remove_file(&to);
            make_private_dir(&to)?;
            self.dirty(rel);
        }
        self.dirty_dirs.insert(rel.to_owned());
        fs::set_permissions(&to, fs::Permissions::from_mode(ident.mode & 0o7777))
            .at("set the mode of", &to)?;
        chown(&to, Some(ident.uid), Some(ident.gid)).at("set the owner of", &to)?;
        let from = self.source.full(rel);
        if let (Ok(from_dir), Ok(to_dir)) = (File::open(&from), File::open(&to)) {
            let source = Source {
                file: &from_dir,
                path: &from,
            };
            copy_xattrs(&source, &to_dir)?;
        }
        Ok(())
    }

    /// Removes from the copy what the source no longer has.
    pub(super) fn remove(&mut self, rel: &Path) -> Result<(), BackupError> {
        self.roots_stay(rel, Kind::Link)?;
        let to = self.tree.name(rel);
        if remove_all(&to)? {
            self.note_replaced(rel);
        }
        Ok(())
    }

    fn note_replaced(&mut self, rel: &Path) {
        if !self.known.is_empty() {
            self.replaced.insert(rel.to_owned());
        }
        self.dirty(rel);
    }

    /// Makes all that was done last: directories get their times and are synced, and files that were not synced by themselves.
    pub(super) fn finish(&mut self) -> Result<(), BackupError> {
        if self.places[0].tmp_inside {
            remove_all(&self.places[0].tmp)?;
        }
        for top in std::mem::take(&mut self.unsynced) {
            let tree = self.tree.full(&top);
            let file = File::open(&tree).at("open", &tree)?;
            rustix::fs::syncfs(&file).at("sync the file system of", &tree)?;
            self.syncs += 1;
        }
        // Those below first: a time set above would be moved again.
        for rel in std::mem::take(&mut self.dirty_dirs).into_iter().rev() {
            let dir = self.tree.full(&rel);
            if !dir.is_dir() {
                continue;
            }
            if let Ok(meta) = fs::symlink_metadata(self.source.full(&rel)) {
                let mtime = Ident::of(&meta).mtime;
                utimensat(CWD, &dir, &times(mtime), AtFlags::empty())
                    .at("set the time of", &dir)?;
            }
            crate::durable::sync_dir(&dir)?;
            self.syncs += 1;
        }
        Ok(())
    }
}
