//! A generation as one compressed tar file: the same for the same generation, byte for byte, and any tar reads it. Or encrypted.

use super::GenPaths;
use super::error::BackupError;
use super::pace::{apart, enough_space};
use super::record::{GenState, generations};
use super::roots::Roots;
use super::seal::sealed_state;
use super::tree::{Entry, Ident, Kind};
use crate::durable::{AtPath as _, create_private, make_private_dir, parent, sync_dir};
use crate::model::{ArchiveFormat, ArchiveSpec, BackupSpec, GenId, UnixMs};
use crate::process::IntoFile;
use crate::store::Layout;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{AtFlags, CWD, lgetxattr, llistxattr};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// By the end of a file's name.
pub fn format_of(path: &Path) -> Option<ArchiveFormat> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let name = name.strip_suffix(ENCRYPTED).unwrap_or(&name);
    let ends = |all: &[&str]| all.iter().any(|end| name.ends_with(end));
    if ends(&[".tar.zst", ".tzst"]) {
        Some(ArchiveFormat::TarZst)
    } else if ends(&[".tar.gz", ".tgz"]) {
        Some(ArchiveFormat::TarGz)
    } else {
        ends(&[".tar"]).then_some(ArchiveFormat::Tar)
    }
}

/// The end of the name of one that is encrypted.
const ENCRYPTED: &str = ".age";

/// By the end of a file's name, too.
pub fn is_encrypted(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(ENCRYPTED)
}

const MOST_XATTR: usize = 64 * 1024;

/// Writes a sealed generation to a file that is not there yet; it gets its name once it is whole. The file's name says nothing: it
/// is encrypted if there are recipients.
pub fn export(
    paths: &GenPaths,
    to: &Path,
    how: &ArchiveSpec,
    pace: &dyn Fn(u64) -> Result<(), BackupError>,
) -> Result<u64, BackupError> {
    let dir = match parent(to) {
        dir if dir.as_os_str().is_empty() => Path::new("."),
        dir => dir,
    };
    let name = to.file_name().unwrap_or(OsStr::new("archive"));
    let part = dir.join(format!(".{}.part", name.to_string_lossy()));
    let file = create_private(&part)?;
    let written = match how.recipients.is_empty() {
        true => write_archive(paths, &file, &part, how, pace),
        false => encrypt(&file, &part, &how.recipients, |into| {
            write_archive(paths, into, &part, how, pace)
        }),
    };
    if let Err(error) = written {
        let _ = fs::remove_file(&part);
        // What ended it has been made another error on its way through the packer, or has ended `age` first.
        pace(0)?;
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

/// Where a node's archives of a policy go: several nodes may share `to`.
fn archive_dir(layout: &Layout, node: &str, archive: &ArchiveSpec) -> PathBuf {
    let own = || layout.generations().join("../archive");
    archive.to.clone().unwrap_or_else(own).join(node)
}

/// Packs a sealed generation as its policy says, while the node runs; the file, and its bytes. One that is there already is left.
pub fn archive(
    layout: &Layout,
    node: &str,
    generation: GenId,
    backup: &BackupSpec,
    interrupted: &dyn Fn() -> bool,
    say: &dyn Fn(&str),
) -> Result<Option<(PathBuf, u64)>, BackupError> {
    let Some(archive) = &backup.archive else {
        return Ok(None);
    };
    let all = generations(layout);
    let found = all.into_iter().find(|g| g.id() == generation);
    let Some(found) = found.filter(|g| matches!(g.state, GenState::Sealed | GenState::Verified))
    else {
        return Err(BackupError::NotGood(generation));
    };
    let dir = archive_dir(layout, node, archive);
    make_private_dir(&dir)?;
    let label = found.label().replace('/', "-");
    let name = format!("{label}-{generation}.{}", archive.ending());
    let to = dir.join(name);
    if let Ok(there) = fs::metadata(&to) {
        return Ok(Some((to, there.len())));
    }
    enough_space(&dir, 0, backup.reserve)?;
    let bytes = apart(
        backup.rate,
        &found.paths.done,
        interrupted,
        say,
        &|pace, _| {
            let watched = |n: u64| {
                pace(n)?;
                // It may go to another disk than that of the data.
                enough_space(&dir, 0, backup.reserve)
            };
            export(&found.paths, &to, archive, &watched)
        },
    )?;
    Ok(Some((to, bytes)))
}

/// Removes archives that visor made by this policy and that it no longer keeps; other files are nobody's business here.
pub(super) fn prune_archives(
    layout: &Layout,
    node: &str,
    backup: &BackupSpec,
    now: UnixMs,
) -> Result<u32, BackupError> {
    let Some(archive) = &backup.archive else {
        return Ok(0);
    };
    let dir = archive_dir(layout, node, archive);
    let ending = format!(".{}", archive.format.ending());
    let own = |name: &str| -> Option<GenId> {
        let name = name.strip_suffix(ENCRYPTED).unwrap_or(name);
        let stem = name.strip_suffix(&ending)?;
        let (_, id) = stem.rsplit_once('-')?;
        id.parse().ok()
    };
    let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut all: Vec<(GenId, PathBuf)> = entries
        .filter_map(|e| Some((own(e.file_name().to_str()?)?, e.path())))
        .collect();
    all.sort_unstable();
    let keep = usize::try_from(backup.keep_last).unwrap_or(usize::MAX);
    let excess = all.len().saturating_sub(keep);
    let mut removed = 0;
    for (id, path) in all.into_iter().take(excess) {
        let age = now.saturating_sub(id.0.timestamp_ms());
        if backup.keep_within.is_some_and(|within| age < within) {
            continue;
        }
        fs::remove_file(&path).at("remove", &path)?;
        removed += 1;
    }
    Ok(removed)
}

/// Passes what is written through `age` into the file.
fn encrypt(
    file: &File,
    part: &Path,
    recipients: &[String],
    write: impl FnOnce(&mut dyn Write) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let mut args = vec!["--encrypt"];
    for recipient in recipients {
        args.extend(["--recipient", recipient]);
    }
    let mut age = IntoFile::start(ArchiveSpec::AGE, &args, file).at("encrypt", part)?;
    write(&mut age)?;
    Ok(age.finish().at("encrypt", part)?)
}

fn write_archive(
    paths: &GenPaths,
    out: impl Write,
    part: &Path,
    how: &ArchiveSpec,
    pace: &dyn Fn(u64) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let out = BufWriter::with_capacity(1024 * 1024, out);
    let level = how.level;
    match how.format {
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
            // Headers and small files come in small pieces, and each piece is a call of the compressor.
            let mut out = BufWriter::with_capacity(1024 * 1024, out);
            append_all(paths, &mut out, pace)?;
            let out = out.into_inner().map_err(IntoInnerError::into_error);
            let mut out = out.and_then(zstd::Encoder::finish).at("write", part)?;
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
    let roots = Roots::read(&paths.done, paths.generation)?;
    let tree = roots.of_copy(&paths.done.join("tree"));
    let mut tar = Builder::new(out);
    let mut attributes = Attributes::new();
    let mut first_names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for (path, entry) in state.entries.sorted() {
        if matches!(entry.kind, Kind::Kept | Kind::Special) {
            continue;
        }
        // A second root is a directory here, with all that is in it.
        let full = tree.full(&path);
        let meta = fs::symlink_metadata(&full).at("look at", &full)?;
        let ident = match entry.kind {
            Kind::Root => Ident::of(&meta),
            // Entries come and go without a new record of their directory.
            Kind::Dir => Ident {
                mtime: Ident::of(&meta).mtime,
                ..entry.ident
            },
            _ => entry.ident,
        };
        let mut header = Header::new_gnu();
        header.set_mode(ident.mode & 0o7777);
        header.set_uid(u64::from(ident.uid));
        header.set_gid(u64::from(ident.gid));
        let mtime = ident.mtime;
        let (seconds, nanos) = (
            mtime.div_euclid(1_000_000_000),
            mtime.rem_euclid(1_000_000_000),
        );
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        header.set_size(0);
        extensions(&mut tar, &full, entry, (seconds, nanos), &mut attributes)
            .at("archive", &full)?;
        let again = if entry.kind == Kind::File && meta.nlink() > 1 {
            let id = (meta.dev(), meta.ino());
            let first = first_names.get(&id).cloned();
            first_names.entry(id).or_insert_with(|| path.clone());
            first
        } else {
            None
        };
        match (entry.kind, again) {
            (Kind::Dir | Kind::Root, _) => {
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
    Ok(tar.finish().at("archive", &tree.dir)?)
}

/// What a plain header cannot say, in the form of PAX.
fn extensions<W: Write>(
    tar: &mut Builder<W>,
    full: &Path,
    entry: &Entry,
    (seconds, nanos): (i64, i64),
    attributes: &mut Attributes,
) -> io::Result<()> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    if nanos != 0 {
        all.push(("mtime".into(), format!("{seconds}.{nanos:09}").into_bytes()));
    }
    if entry.kind != Kind::Link {
        all.extend(
            attributes
                .of(full)?
                .into_iter()
                .filter_map(|(name, value)| {
                    Some((
                        format!("SCHILY.xattr.{}", String::from_utf8(name).ok()?),
                        value,
                    ))
                }),
        );
    }
    if all.is_empty() {
        return Ok(());
    }
    tar.append_pax_extensions(all.iter().map(|(k, v)| (k.as_str(), v.as_slice())))
}

/// Extended attributes of one file after another.
struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Attributes {
    fn new() -> Self {
        Self {
            names: vec![0; MOST_XATTR],
            value: vec![0; MOST_XATTR],
        }
    }

    /// By name.
    fn of(&mut self, path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let length = match llistxattr(path, &mut self.names[..]) {
            Ok(length) => length,
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
            Err(other) => return Err(other.into()),
        };
        let mut all = BTreeMap::new();
        for name in self.names[..length].split(|b| *b == 0) {
            if !name.is_empty() {
                let length = lgetxattr(path, OsStr::from_bytes(name), &mut self.value[..])?;
                all.insert(name.to_vec(), self.value[..length].to_vec());
            }
        }
        Ok(all)
    }
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
