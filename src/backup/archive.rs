//! Archives: a generation as one compressed tar file, and such a file as a generation.
//!
//! What is written is the same for the same generation, byte for byte, and any tar reads it. What is read is not trusted: nothing leaves
//! the new directory, no link is followed, and it ends before the disk is full.

use super::GenPaths;
use super::error::BackupError;
use super::pace::enough_space;
use super::seal::sealed_state;
use super::tree::{Entry, Kind};
use crate::durable::{AtPath as _, create_private, make_private_dir, parent, sync_dir};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{AtFlags, CWD, lgetxattr, llistxattr};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    TarZst,
    TarGz,
    Tar,
}

impl ArchiveFormat {
    /// By the end of a file's name.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let ends = |all: &[&str]| all.iter().any(|end| name.ends_with(end));
        if ends(&[".tar.zst", ".tzst"]) {
            Some(Self::TarZst)
        } else if ends(&[".tar.gz", ".tgz"]) {
            Some(Self::TarGz)
        } else {
            ends(&[".tar"]).then_some(Self::Tar)
        }
    }

    pub const DEFAULT_LEVEL: i32 = 3;
}

/// More entries than any node has files.
const MOST_ENTRIES: u64 = 50_000_000;
/// Space is looked at again after so many bytes.
const WATCH_EVERY: u64 = 64 * 1024 * 1024;
const MOST_XATTR: usize = 64 * 1024;

/// Writes a sealed generation to a file that is not there yet; it gets its name once it is whole.
pub fn export(
    paths: &GenPaths,
    to: &Path,
    format: ArchiveFormat,
    level: i32,
    pace: &dyn Fn(u64) -> Result<(), BackupError>,
) -> Result<u64, BackupError> {
    let dir = match parent(to) {
        dir if dir.as_os_str().is_empty() => Path::new("."),
        dir => dir,
    };
    let name = to.file_name().unwrap_or(OsStr::new("archive"));
    let part = dir.join(format!(".{}.part", name.to_string_lossy()));
    let file = create_private(&part)?;
    let written = write_archive(paths, &file, &part, format, level, pace);
    if let Err(error) = written {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    file.sync_all().at("sync", &part)?;
    let bytes = file.metadata().at("look at", &part)?.len();
    // Never over what is there.
    match rustix::fs::linkat(CWD, &part, CWD, to, AtFlags::empty()) {
        Ok(()) => fs::remove_file(&part).at("remove", &part)?,
        Err(error) => {
            let _ = fs::remove_file(&part);
            return Err(error).at("name the archive", to)?;
        }
    }
    sync_dir(dir)?;
    Ok(bytes)
}

fn write_archive(
    paths: &GenPaths,
    file: &File,
    part: &Path,
    format: ArchiveFormat,
    level: i32,
    pace: &dyn Fn(u64) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let out = BufWriter::with_capacity(1024 * 1024, file);
    match format {
        ArchiveFormat::Tar => {
            let mut out = out;
            append_all(paths, &mut out, pace)?;
            out.flush().at("write", part)?;
        }
        ArchiveFormat::TarGz => {
            let level = Compression::new(u32::try_from(level.clamp(0, 9)).unwrap_or(6));
            let mut out = GzEncoder::new(out, level);
            append_all(paths, &mut out, pace)?;
            let mut out = out.finish().at("write", part)?;
            out.flush().at("write", part)?;
        }
        ArchiveFormat::TarZst => {
            let mut out = zstd::Encoder::new(out, level).at("write", part)?;
            let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
            out.multithread(u32::try_from(workers).unwrap_or(1))
                .at("write", part)?;
            out.include_checksum(true).at("write", part)?;
            append_all(paths, &mut out, pace)?;
            let mut out = out.finish().at("write", part)?;
            out.flush().at("write", part)?;
        }
    }
    Ok(())
}

/// All entries by path, with times, owners, modes, links and attributes; no name of a user and no time of day.
fn append_all(
    paths: &GenPaths,
    out: &mut dyn Write,
    pace: &dyn Fn(u64) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let (state, _) = sealed_state(paths)?;
    let tree = paths.done.join("tree");
    let mut tar = Builder::new(out);
    let mut first_names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for (path, entry) in state.entries.sorted() {
        if matches!(entry.kind, Kind::Kept | Kind::Special) {
            continue;
        }
        let full = tree.join(&path);
        let meta = fs::symlink_metadata(&full).at("look at", &full)?;
        let mut header = Header::new_gnu();
        header.set_mode(entry.ident.mode & 0o7777);
        header.set_uid(u64::from(entry.ident.uid));
        header.set_gid(u64::from(entry.ident.gid));
        let (seconds, nanos) = (
            entry.ident.mtime.div_euclid(1_000_000_000),
            entry.ident.mtime.rem_euclid(1_000_000_000),
        );
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        header.set_size(0);
        extensions(&mut tar, &full, entry, seconds, nanos).at("archive", &full)?;
        let again = if entry.kind == Kind::File && meta.nlink() > 1 {
            let id = (meta.dev(), meta.ino());
            let first = first_names.get(&id).cloned();
            first_names.entry(id).or_insert_with(|| path.clone());
            first
        } else {
            None
        };
        match (entry.kind, again) {
            (Kind::Dir, _) => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, &path, io::empty())
                    .at("archive", &full)?;
            }
            (Kind::Link, _) => {
                header.set_entry_type(EntryType::Symlink);
                let target = fs::read_link(&full).at("read link", &full)?;
                tar.append_link(&mut header, &path, &target)
                    .at("archive", &full)?;
            }
            (_, Some(first)) => {
                header.set_entry_type(EntryType::Link);
                tar.append_link(&mut header, &path, &first)
                    .at("archive", &full)?;
            }
            (_, None) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(meta.len());
                let file = File::open(&full).at("open", &full)?;
                let paced = Paced { file, pace };
                tar.append_data(&mut header, &path, paced.take(meta.len()))
                    .at("archive", &full)?;
            }
        }
    }
    Ok(tar.finish().at("archive", &tree)?)
}

/// What a plain header cannot say, in the form of PAX.
fn extensions<W: Write>(
    tar: &mut Builder<W>,
    full: &Path,
    entry: &Entry,
    seconds: i64,
    nanos: i64,
) -> io::Result<()> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    if nanos != 0 {
        all.push(("mtime".into(), format!("{seconds}.{nanos:09}").into_bytes()));
    }
    if entry.kind != Kind::Link {
        all.extend(attributes(full)?.into_iter().filter_map(|(name, value)| {
            Some((
                format!("SCHILY.xattr.{}", String::from_utf8(name).ok()?),
                value,
            ))
        }));
    }
    if all.is_empty() {
        return Ok(());
    }
    tar.append_pax_extensions(all.iter().map(|(k, v)| (k.as_str(), v.as_slice())))
}

/// Extended attributes by name.
fn attributes(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0_u8; MOST_XATTR];
    let length = match llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Err(other) => return Err(other.into()),
    };
    let mut all = BTreeMap::new();
    let mut value = vec![0_u8; MOST_XATTR];
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let length = lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        all.insert(name.to_vec(), value[..length].to_vec());
    }
    Ok(all)
}

/// A file that is read no faster than it may be.
struct Paced<'a> {
    file: File,
    pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
}

impl Read for Paced<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        (self.pace)(n as u64).map_err(io::Error::other)?;
        Ok(n)
    }
}

/// What an archive held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extracted {
    pub entries: u64,
    pub bytes: u64,
    /// Sockets, devices and what else is no data.
    pub skipped: u64,
}

/// Extracts an archive into a directory that is empty. `strip`: archives of peers hold the data directory itself; its name at the front
/// of every path is taken off.
pub(super) fn extract(
    archive: &Path,
    into: &Path,
    strip: Option<&OsStr>,
    reserve: u64,
    pace: &dyn Fn(u64) -> Result<(), BackupError>,
) -> Result<Extracted, BackupError> {
    let file = File::open(archive).at("open", archive)?;
    let file = BufReader::with_capacity(1024 * 1024, file);
    let reader = reader(file, archive)?;
    Extraction {
        archive,
        into,
        strip,
        reserve,
        pace,
        done: Extracted::default(),
        dirs: vec![],
    }
    .run(reader)
}

/// What is in a file of this name; without a known ending the file itself.
fn reader(file: BufReader<File>, archive: &Path) -> Result<Box<dyn Read>, BackupError> {
    Ok(match ArchiveFormat::of(archive) {
        Some(ArchiveFormat::TarZst) => {
            Box::new(zstd::Decoder::with_buffer(file).at("read", archive)?)
        }
        Some(ArchiveFormat::TarGz) => Box::new(MultiGzDecoder::new(file)),
        Some(ArchiveFormat::Tar) | None => Box::new(file),
    })
}

struct Extraction<'a> {
    archive: &'a Path,
    into: &'a Path,
    strip: Option<&'a OsStr>,
    reserve: u64,
    pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
    done: Extracted,
    /// Directories and what they get once all is in them.
    dirs: Vec<(PathBuf, Dress)>,
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
        let mut tar = Archive::new(reader);
        let entries = tar.entries().at("read", self.archive)?;
        for entry in entries {
            let mut entry = entry.at("read", self.archive)?;
            self.done.entries += 1;
            if self.done.entries > MOST_ENTRIES {
                return Err(self.bad(format!("it has more than {MOST_ENTRIES} entries")));
            }
            let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(path) = self.inside(&entry.path().at("read", self.archive)?, &shown)? else {
                continue;
            };
            let dress = dress(&mut entry).at("read", self.archive)?;
            let to = self.into.join(&path);
            self.ready_parent(&path, &shown)?;
            match entry.header().entry_type() {
                EntryType::Directory => {
                    if !is_real_dir(&to) {
                        self.refuse_existing(&to, &shown)?;
                        make_private_dir(&to)?;
                    }
                    self.dirs.push((to, dress));
                }
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    self.refuse_existing(&to, &shown)?;
                    let mut file = create_private(&to)?;
                    self.contents(&mut entry, &mut file, &to)?;
                    wear(&to, &dress)?;
                    file.sync_data().at("sync", &to)?;
                }
                EntryType::Symlink => {
                    self.refuse_existing(&to, &shown)?;
                    let target = entry.link_name().at("read", self.archive)?;
                    let target =
                        target.ok_or_else(|| self.bad(format!("{shown}: a link to nothing")))?;
                    std::os::unix::fs::symlink(&target, &to).at("link", &to)?;
                    std::os::unix::fs::lchown(&to, Some(dress.uid), Some(dress.gid))
                        .at("set the owner of", &to)?;
                }
                EntryType::Link => {
                    self.refuse_existing(&to, &shown)?;
                    let first = entry.link_name().at("read", self.archive)?;
                    let first =
                        first.ok_or_else(|| self.bad(format!("{shown}: a link to nothing")))?;
                    let first = self.inside(&first, &shown)?;
                    let first = first.map(|f| self.into.join(f));
                    let first =
                        first.filter(|f| fs::symlink_metadata(f).is_ok_and(|m| m.is_file()));
                    let first = first.ok_or_else(|| {
                        self.bad(format!("{shown}: a link to what is no file of the archive"))
                    })?;
                    fs::hard_link(&first, &to).at("link", &to)?;
                }
                _ => self.done.skipped += 1,
            }
        }
        // Those below first: a time set above would be moved again.
        for (dir, dress) in self.dirs.iter().rev() {
            wear(dir, dress)?;
            sync_dir(dir)?;
        }
        sync_dir(self.into)?;
        Ok(self.done)
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
        let mut dir = self.into.to_owned();
        let above = path.parent().unwrap_or(Path::new(""));
        for part in above {
            dir.push(part);
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

    fn contents(
        &mut self,
        from: &mut impl Read,
        file: &mut File,
        to: &Path,
    ) -> Result<(), BackupError> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let n = from.read(&mut buffer).at("read", self.archive)?;
            if n == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..n]).at("write", to)?;
            let before = self.done.bytes;
            self.done.bytes += n as u64;
            if self.done.bytes / WATCH_EVERY != before / WATCH_EVERY {
                enough_space(self.into, 0, self.reserve)?;
            }
            (self.pace)(n as u64)?;
        }
    }
}

fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

fn dress<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Dress> {
    let id = |id: io::Result<u64>| Ok::<_, io::Error>(u32::try_from(id?).unwrap_or(u32::MAX));
    let header = entry.header();
    let mut dress = Dress {
        mode: header.mode()? & 0o7777,
        uid: id(header.uid())?,
        gid: id(header.gid())?,
        seconds: i64::try_from(header.mtime()?).unwrap_or(0),
        nanos: 0,
        attributes: vec![],
    };
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let (Ok(key), value) = (extension.key(), extension.value_bytes()) else {
            continue;
        };
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            dress.attributes.push((name.to_owned(), value.to_vec()));
        } else if key == "mtime"
            && let Some((seconds, nanos)) = std::str::from_utf8(value).ok().and_then(time)
        {
            (dress.seconds, dress.nanos) = (seconds, nanos);
        }
    }
    Ok(dress)
}

/// Seconds and nanoseconds of `1500000000.123456789`.
fn time(text: &str) -> Option<(i64, i64)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9}");
    Some((seconds.parse().ok()?, nanos.get(..9)?.parse().ok()?))
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
    let nanos = dress
        .seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(dress.nanos);
    rustix::fs::utimensat(CWD, path, &super::dress::times(nanos), AtFlags::empty())
        .at("set the time of", path)?;
    Ok(())
}

/// The directory that every path of an archive lies in, if there is one of that name only: archives of peers hold the data directory
/// itself.
pub(super) fn only_top(archive: &Path, data: &OsStr) -> Result<bool, BackupError> {
    let file = BufReader::new(File::open(archive).at("open", archive)?);
    let reader = reader(file, archive)?;
    let mut tar = Archive::new(reader);
    for entry in tar.entries().at("read", archive)? {
        let entry = entry.at("read", archive)?;
        let path = entry.path().at("read", archive)?.into_owned();
        let top = path.components().find(|c| *c != Component::CurDir);
        match top {
            None => {}
            Some(Component::Normal(name)) => return Ok(name == data),
            Some(_) => return Ok(false),
        }
    }
    Ok(false)
}
