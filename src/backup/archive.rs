//! A generation as one compressed tar file: the same for the same generation, byte for byte, and any tar reads it.

use super::GenPaths;
use super::error::BackupError;
use super::seal::sealed_state;
use super::tree::{Entry, Kind};
use crate::durable::{AtPath as _, create_private, parent, sync_dir};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{AtFlags, CWD, lgetxattr, llistxattr};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

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
