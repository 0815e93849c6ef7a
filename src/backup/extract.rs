//! Reading an archive: what it holds is not trusted. Nothing leaves the new directory, no link is followed, and it ends before the disk or
//! the memory is full.

use super::archive::{format_of, is_encrypted};
use super::dress::{link_time, times};
use super::error::BackupError;
use super::members::{Map, Member, Members};
use super::pace::{enough_space, total_space};
use super::view::DataView;
use crate::durable::{AtPath as _, create_private, make_private_dir, parent, sync_dir};
use crate::model::{ArchiveFormat, ArchiveSpec};
use crate::process::OutOfFile;
use flate2::read::MultiGzDecoder;
use rustix::fs::{AtFlags, CWD};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// More entries than any node has files.
const MOST_ENTRIES: u64 = 50_000_000;
/// Space is looked at again after so many bytes.
const WATCH_EVERY: u64 = 64 * 1024 * 1024;
/// More than any tar pads its end with.
const MOST_BEHIND: u64 = 64 * 1024 * 1024;

/// What an archive held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extracted {
    pub entries: u64,
    pub bytes: u64,
    /// Sockets, devices and what else is no data.
    pub skipped: u64,
    /// Second roots that something of it belongs to.
    pub roots: BTreeSet<PathBuf>,
}

/// Extracts an archive into a directory that is empty and will be in the place of `data`, which its links may lead to.
/// `strip`: archives of peers hold the data directory itself; its name at the front
/// of every path is taken off.
pub(super) fn extract(
    archive: &Path,
    into: &DataView,
    data: &DataView,
    strip: Option<&OsStr>,
    identities: &[PathBuf],
    reserve: u64,
    pace: &dyn Fn(u64) -> Result<(), BackupError>,
) -> Result<Extracted, BackupError> {
    let reader = reader(archive, identities)?;
    Extraction {
        archive,
        into,
        data,
        strip,
        reserve,
        pace,
        done: Extracted::default(),
        dirs: vec![],
    }
    .run(reader)
}

/// What is in a file of this name; without a known ending the file itself.
fn reader(archive: &Path, identities: &[PathBuf]) -> Result<Box<dyn Read>, BackupError> {
    let file = File::open(archive).at("open", archive)?;
    let bytes: Box<dyn Read> = match is_encrypted(archive) {
        false => Box::new(file),
        true => {
            let mut args = vec!["--decrypt".to_owned()];
            for identity in identities {
                args.extend(["--identity".to_owned(), identity.display().to_string()]);
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            Box::new(OutOfFile::start(ArchiveSpec::AGE, &args, file).at("decrypt", archive)?)
        }
    };
    let file = BufReader::with_capacity(1024 * 1024, bytes);
    Ok(match format_of(archive) {
        Some(ArchiveFormat::TarZst) => {
            Box::new(zstd::Decoder::with_buffer(file).at("read", archive)?)
        }
        Some(ArchiveFormat::TarGz) => Box::new(MultiGzDecoder::new(file)),
        Some(ArchiveFormat::Tar) | None => Box::new(file),
    })
}

struct Extraction<'a> {
    archive: &'a Path,
    into: &'a DataView,
    data: &'a DataView,
    strip: Option<&'a OsStr>,
    reserve: u64,
    pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
    done: Extracted,
    /// Directories and the times that they get once all is in them.
    dirs: Vec<(PathBuf, i64)>,
}

/// What an entry gets beside its contents.
struct Dress {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanos: i64,
    attributes: Vec<(String, Vec<u8>)>,
}

impl Extraction<'_> {
    fn bad(&self, what: String) -> BackupError {
        BackupError::Archive {
            path: self.archive.to_owned(),
            what,
        }
    }

    fn run(mut self, reader: Box<dyn Read>) -> Result<Extracted, BackupError> {
        let mut members = Members::new(reader);
        while let Some(member) = members.next().map_err(|e| self.bad(e.to_string()))? {
            self.take(&member, &mut members)?;
            self.pass_over(&mut members)?;
        }
        // Those below first: a time set above would be moved again.
        for (dir, mtime) in self.dirs.iter().rev() {
            rustix::fs::utimensat(CWD, dir, &times(*mtime), AtFlags::empty())
                .at("set the time of", dir)?;
            sync_dir(dir)?;
        }
        for (_, top) in self.into.tops() {
            sync_dir(top)?;
        }
        if is_encrypted(self.archive) {
            // What was encrypted is whole only when its end has been seen.
            let rest = &mut members.into_inner().take(MOST_BEHIND);
            let behind = io::copy(rest, &mut io::sink()).at("read", self.archive)?;
            if behind == MOST_BEHIND {
                return Err(BackupError::Archive {
                    path: self.archive.to_owned(),
                    what: "it goes on behind its end".into(),
                });
            }
        }
        Ok(self.done)
    }

    fn take(&mut self, member: &Member, members: &mut Members) -> Result<(), BackupError> {
        let kind = member.header.entry_type();
        self.done.entries += 1;
        if self.done.entries > MOST_ENTRIES {
            return Err(self.bad(format!("it has more than {MOST_ENTRIES} entries")));
        }
        let path = member.path();
        let shown = String::from_utf8_lossy(&path).into_owned();
        let Some(path) = self.inside(Path::new(OsStr::from_bytes(&path)), &shown)? else {
            return match kind {
                EntryType::Directory => Ok(()),
                _ => Err(self.bad(format!(
                    "{shown}: a file in the place of the data directory"
                ))),
            };
        };
        for top in self.into.roots.iter().filter(|t| path.starts_with(&t.path)) {
            if !self.done.roots.contains(&top.path) {
                self.done.roots.insert(top.path.clone());
            }
            if path == top.path && kind != EntryType::Directory {
                return Err(self.bad(format!("{shown}: the data have a directory there")));
            }
        }
        let target = member.link();
        let target = target.map(|t| PathBuf::from(OsStr::from_bytes(&t)));
        let no_target = || self.bad(format!("{shown}: a link to nothing"));
        let dress = dress(member).map_err(|e| self.bad(format!("{shown}: {e}")))?;
        let to = self.into.full(&path);
        self.ready_parent(&path, &shown)?;
        match kind {
            EntryType::Directory => {
                if !is_real_dir(&to) {
                    self.refuse_existing(&to, &shown)?;
                    make_private_dir(&to)?;
                }
                // Its time once all is in it.
                wear(&to, &dress)?;
                self.dirs.push((to, dress.mtime()));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.refuse_existing(&to, &shown)?;
                let mut file = create_private(&to)?;
                match &member.map {
                    Some(map) => self.parts(map, members, &mut file, &to, &shown)?,
                    None => {
                        let length = self.contents(members, &mut file, &to)?;
                        file.set_len(length).at("set the length of", &to)?;
                    }
                }
                wear(&to, &dress)?;
                file.sync_data().at("sync", &to)?;
            }
            EntryType::Symlink => {
                let target = target.ok_or_else(no_target)?;
                if !stays_inside(&path, &target) && !names_data(self.data, &target) {
                    let target = target.display();
                    return Err(
                        self.bad(format!("{shown}: a link that leads out of it, to {target}"))
                    );
                }
                self.refuse_existing(&to, &shown)?;
                std::os::unix::fs::symlink(&target, &to).at("link", &to)?;
                if rustix::process::geteuid().is_root() {
                    std::os::unix::fs::lchown(&to, Some(dress.uid), Some(dress.gid))
                        .at("set the owner of", &to)?;
                }
                link_time(&to, dress.mtime());
            }
            EntryType::Link => {
                self.refuse_existing(&to, &shown)?;
                let first = self.inside(&target.ok_or_else(no_target)?, &shown)?;
                let first = first.and_then(|f| self.real_file(&f)).ok_or_else(|| {
                    self.bad(format!("{shown}: a link to what is no file of the archive"))
                })?;
                match fs::hard_link(&first, &to) {
                    // A second root has come between them.
                    Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                        fs::copy(&first, &to).at("copy", &first)?;
                        wear(&to, &dress)?;
                    }
                    other => other.at("link", &to)?,
                }
            }
            _ => self.done.skipped += 1,
        }
        Ok(())
    }

    /// A file that was extracted, by real directories alone.
    fn real_file(&self, path: &Path) -> Option<PathBuf> {
        let mut above = path.ancestors().skip(1);
        if !above.all(|dir| is_real_dir(&self.into.full(dir))) {
            return None;
        }
        let at = self.into.full(path);
        fs::symlink_metadata(&at)
            .is_ok_and(|m| m.is_file())
            .then_some(at)
    }

    /// The path below the new directory; `None` for the directory itself. Whatever leads elsewhere is an error.
    fn inside(&self, path: &Path, shown: &str) -> Result<Option<PathBuf>, BackupError> {
        let mut inside = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => inside.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(self.bad(format!("{shown}: a path that leads out of it")));
                }
            }
        }
        let inside = match self.strip {
            Some(strip) => inside.strip_prefix(strip).map_err(|_| {
                let strip = strip.to_string_lossy();
                self.bad(format!(
                    "{shown}: it is not below {strip}/, as the first entry is"
                ))
            })?,
            None => &inside,
        };
        Ok((!inside.as_os_str().is_empty()).then(|| inside.to_owned()))
    }

    /// Every directory above is a real one of this extraction, and no link.
    fn ready_parent(&self, path: &Path, shown: &str) -> Result<(), BackupError> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for dir in above {
            let dir = self.into.full(dir);
            match fs::symlink_metadata(&dir) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => {
                    return Err(self.bad(format!("{shown}: it lies below what is no directory")));
                }
                Err(_) => make_private_dir(&dir)?,
            }
        }
        Ok(())
    }

    fn refuse_existing(&self, to: &Path, shown: &str) -> Result<(), BackupError> {
        if fs::symlink_metadata(to).is_ok() {
            return Err(self.bad(format!("{shown}: it is in the archive twice")));
        }
        Ok(())
    }

    /// A file with holes.
    fn parts(
        &mut self,
        map: &Map,
        members: &mut Members,
        file: &mut File,
        to: &Path,
        shown: &str,
    ) -> Result<(), BackupError> {
        // Holes take no space, and whoever reads them reads without end.
        if map.size > total_space(parent(to))? {
            let size = bytesize::ByteSize(map.size);
            return Err(self.bad(format!(
                "{shown}: {size} with its holes, more than its disk could hold"
            )));
        }
        for (offset, length) in &map.parts {
            file.seek(SeekFrom::Start(*offset)).at("seek in", to)?;
            self.contents(&mut members.take(*length), file, to)?;
        }
        Ok(file.set_len(map.size).at("set the length of", to)?)
    }

    /// Writes on from where the file stands; how many bytes it was.
    fn contents(
        &mut self,
        from: &mut impl Read,
        file: &mut File,
        to: &Path,
    ) -> Result<u64, BackupError> {
        let mut buffer = vec![0; 256 * 1024];
        let mut length = 0_u64;
        loop {
            let n = from.read(&mut buffer).at("read", self.archive)?;
            if n == 0 {
                return Ok(length);
            }
            length += n as u64;
            // What holds nothing stays a hole.
            if buffer[..n].iter().all(|b| *b == 0) {
                let over = i64::try_from(n).unwrap_or(i64::MAX);
                file.seek(SeekFrom::Current(over)).at("seek in", to)?;
            } else {
                file.write_all(&buffer[..n]).at("write", to)?;
            }
            let before = self.done.bytes;
            self.done.bytes += n as u64;
            if self.done.bytes / WATCH_EVERY != before / WATCH_EVERY {
                for (_, top) in self.into.tops() {
                    enough_space(top, 0, self.reserve)?;
                }
            }
            (self.pace)(n as u64)?;
        }
    }

    /// What is no data, to its end.
    fn pass_over(&self, members: &mut Members) -> Result<(), BackupError> {
        let mut buffer = [0; 64 * 1024];
        loop {
            let n = members.read(&mut buffer).at("read", self.archive)?;
            if n == 0 {
                return Ok(());
            }
            (self.pace)(n as u64)?;
        }
    }
}

fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

fn dress(member: &Member) -> io::Result<Dress> {
    let (header, more) = (&member.header, &member.more);
    let id = |id: io::Result<u64>| Ok::<_, io::Error>(u32::try_from(id?).unwrap_or(u32::MAX));
    let (seconds, nanos) = match more.mtime {
        Some(time) => time,
        None => (i64::try_from(header.mtime()?).unwrap_or(0), 0),
    };
    Ok(Dress {
        mode: header.mode()? & 0o7777,
        uid: more.uid.map_or_else(|| id(header.uid()), Ok)?,
        gid: more.gid.map_or_else(|| id(header.gid()), Ok)?,
        seconds,
        nanos,
        attributes: more.attributes.clone(),
    })
}

/// True for a relative link from a path that ends at or below the top.
fn stays_inside(from: &Path, target: &Path) -> bool {
    let mut depth = from.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// True for the path of something in the data.
fn names_data(data: &DataView, target: &Path) -> bool {
    let goes_up = target.components().any(|c| c == Component::ParentDir);
    !goes_up && data.tops().any(|(_, dir)| target.starts_with(dir))
}

impl Dress {
    /// In nanoseconds.
    fn mtime(&self) -> i64 {
        self.seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(self.nanos)
    }
}

fn wear(path: &Path, dress: &Dress) -> Result<(), BackupError> {
    // Whoever is not root owns all that he makes.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(dress.uid), Some(dress.gid))
            .at("set the owner of", path)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(dress.mode))
        .at("set the mode of", path)?;
    for (name, value) in &dress.attributes {
        let set =
            rustix::fs::lsetxattr(path, name.as_str(), value, rustix::fs::XattrFlags::empty());
        match set {
            Err(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP)
                if !name.starts_with("user.") => {}
            other => other.at("write an attribute of", path)?,
        }
    }
    rustix::fs::utimensat(CWD, path, &times(dress.mtime()), AtFlags::empty())
        .at("set the time of", path)?;
    Ok(())
}

/// The directory that every path of an archive lies in, if there is one of that name only: archives of peers hold the data directory
/// itself.
pub(super) fn only_top(
    archive: &Path,
    data: &OsStr,
    identities: &[PathBuf],
) -> Result<bool, BackupError> {
    let mut members = Members::new(reader(archive, identities)?);
    while let Some(member) = members.next().at("read", archive)? {
        let path = member.path();
        let path = Path::new(OsStr::from_bytes(&path));
        let top = path.components().find(|c| *c != Component::CurDir);
        match top {
            None => {}
            Some(Component::Normal(name)) => return Ok(name == data),
            Some(_) => return Ok(false),
        }
    }
    Ok(false)
}
