//! A generation as one compressed tar file: the same for the same generation, byte for byte, and any tar reads it. Or encrypted.

use super::GenPaths;
use super::ahead::{Holds, Item, read_ahead};
use super::error::BackupError;
use super::pace::{apart, enough_space};
use super::record::{GenState, generations};
use super::roots::Roots;
use super::seal::sealed_state;
use crate::durable::{AtPath as _, create_private, make_private_dir, parent, sync_dir};
use crate::model::{ArchiveFormat, ArchiveSpec, BackupSpec, GenId, UnixMs};
use crate::process::IntoFile;
use crate::store::Layout;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{AtFlags, CWD};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError, Read, Write};
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
    read_ahead(&state.entries, &tree, &mut |item| {
        append(&mut tar, item, pace).at("archive", &tree.full(&item.path))
    })?;
    Ok(tar.finish().at("archive", &tree.dir)?)
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    item: &mut Item,
    pace: &dyn Fn(u64) -> Result<(), BackupError>,
) -> io::Result<()> {
    let ident = &item.ident;
    let (seconds, nanos) = (
        ident.mtime.div_euclid(1_000_000_000),
        ident.mtime.rem_euclid(1_000_000_000),
    );
    let mut more: Vec<(String, Vec<u8>)> = Vec::new();
    if nanos != 0 {
        more.push(("mtime".into(), format!("{seconds}.{nanos:09}").into_bytes()));
    }
    more.append(&mut item.attributes);
    if !more.is_empty() {
        tar.append_pax_extensions(more.iter().map(|(k, v)| (k.as_str(), v.as_slice())))?;
    }
    let mut header = Header::new_gnu();
    header.set_mode(ident.mode & 0o7777);
    header.set_uid(u64::from(ident.uid));
    header.set_gid(u64::from(ident.gid));
    header.set_mtime(u64::try_from(seconds).unwrap_or(0));
    header.set_size(0);
    let path = &item.path;
    match &item.holds {
        Holds::Nothing => {
            // A second root is a directory here, with all that is in it.
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, path, io::empty())
        }
        Holds::Target(target) => {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, path, target)
        }
        Holds::SameAs(first) => {
            header.set_entry_type(EntryType::Link);
            tar.append_link(&mut header, path, first)
        }
        Holds::Bytes(bytes) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            pace(bytes.len() as u64).map_err(io::Error::other)?;
            tar.append_data(&mut header, path, &bytes[..])
        }
        Holds::File(file) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(ident.size);
            tar.append_data(&mut header, path, Paced { file, pace }.take(ident.size))
        }
    }
}

/// A file that is read no faster than it may be.
struct Paced<'a> {
    file: &'a File,
    pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
}

impl Read for Paced<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        (self.pace)(n as u64).map_err(io::Error::other)?;
        Ok(n)
    }
}
