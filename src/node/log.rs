//! The node's log. The node writes `logs/node.log` itself, in append mode, so neither visor nor its death stands in its way; visor
//! takes what is complete out of it, without the node's help and without losing a byte:
//!
//! ```text
//!  1. [from, to) of node.log ──gzip──▶ node.<when>.<from>-<to>.log.gz    synced, renamed; `to` is behind a line's end
//!  2. rotation.json: rotated up to `to`, not yet punched                  synced
//!  3. a hole in the place of [0, to)                                      the bytes are freed, offsets stay as they are
//!  4. rotation.json: punched
//! ```
//!
//! A death before 2 leaves a piece that the record does not know: it goes, for its bytes still stand in the log. One before 4 makes
//! the hole again. Where a file system cannot make holes nothing is rotated.

use crate::durable::{AtPath as _, PathError, read_record, sync_dir, write_atomic};
use crate::model::{LogPolicy, UnixMs};
use crate::store::Layout;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{FallocateFlags, SeekFrom as Seek};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const RECORD_VERSION: u32 = 1;
/// How far back from the end of the file a line's end is looked for.
const LONGEST_LINE: u64 = 1024 * 1024;

/// What is known of `node.log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rotation {
    version: u32,
    /// Which file this is about: a person may have taken it away.
    inode: u64,
    born: Option<UnixMs>,
    /// Up to where it was cut.
    pub(super) to: u64,
    /// The beginning was freed since.
    punched: bool,
    /// When the last piece was cut; at first when the file was seen.
    pub(super) at: UnixMs,
}

/// A piece that was rotated out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    pub at: UnixMs,
    pub from: u64,
    pub to: u64,
    pub path: PathBuf,
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotated {
    NotDue,
    Cut(Piece),
    /// The file system frees no part of a file.
    NoHoles,
}

/// All pieces, oldest first.
pub fn pieces(layout: &Layout) -> Vec<Piece> {
    let log = layout.log();
    let Ok(entries) = fs::read_dir(crate::durable::parent(&log)) else {
        return vec![];
    };
    let mut all: Vec<Piece> = entries.filter_map(|e| piece(&e.ok()?.path())).collect();
    all.sort_unstable();
    all
}

fn piece(path: &Path) -> Option<Piece> {
    let name = path.file_name()?.to_str()?;
    let middle = name.strip_prefix("node.")?.strip_suffix(".log.gz")?;
    let (at, range) = middle.split_once('.')?;
    let (from, to) = range.split_once('-')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to).then_some(Piece {
        at: at.parse().ok()?,
        from,
        to,
        path: path.to_owned(),
    })
}

/// Cuts a piece out of the log if its size or its age asks for it, and drops the pieces that are too many.
///
/// A piece has about the size of the policy, so that a log which grew without visor comes in many; an interrupted one is left for
/// another time.
pub fn rotate(
    layout: &Layout,
    policy: &LogPolicy,
    now: UnixMs,
    interrupted: &dyn Fn() -> bool,
) -> Result<Rotated, PathError> {
    let path = layout.log();
    let logs = crate::durable::parent(&path);
    let Some(mut file) = open_log(layout)? else {
        return Ok(Rotated::NotDue);
    };
    let mut is_new = false;
    let mut record = match known(layout, &file)? {
        Some(record) if record.punched => record,
        Some(record) if is_cut(layout, &mut file, &record)? => free(layout, &file, record)?,
        _ => {
            let last = pieces(layout).last().map_or(0, |p| p.at + 1);
            let meta = file.metadata().at("look at", &path)?;
            let record = Rotation {
                version: RECORD_VERSION,
                inode: meta.ino(),
                born: born(&meta),
                to: 0,
                punched: true,
                at: now.max(last),
            };
            write(layout, &record)?;
            is_new = true;
            record
        }
    };
    for unknown in pieces(layout).iter().filter(|p| p.at > record.at) {
        fs::remove_file(&unknown.path).at("remove", &unknown.path)?;
    }
    let length = file.metadata().at("look at", &path)?.len();
    let waiting = length.saturating_sub(record.to);
    let age = now.saturating_sub(record.at);
    let is_due = waiting >= policy.size || policy.age_ms.is_some_and(|most| age >= most);
    if waiting == 0 || !is_due {
        return Ok(Rotated::NotDue);
    }
    if !makes_holes(logs)? {
        return Ok(Rotated::NoHoles);
    }
    let (from, at) = (record.to, now.max(record.at + 1));
    let end = length.min(from.saturating_add(policy.size.max(LONGEST_LINE)));
    let to = last_line_end(&mut file, from, end).at("read", &path)?;
    let cut = Piece {
        at,
        from,
        to,
        path: logs.join(format!("node.{at:013}.{from:020}-{to:020}.log.gz")),
    };
    let part = logs.join("node.part");
    if let Err(error) = compress(&mut file, &cut, &part, interrupted) {
        let _ = fs::remove_file(&part);
        if interrupted() {
            return Ok(Rotated::NotDue);
        }
        return Err(error).at("write", &part);
    }
    crate::killpoint::hit("log:written");
    fs::rename(&part, &cut.path).at("rename", &cut.path)?;
    sync_dir(logs)?;
    crate::killpoint::hit("log:renamed");
    (record.to, record.at, record.punched) = (to, at, false);
    write(layout, &record)?;
    crate::killpoint::hit("log:recorded");
    free(layout, &file, record)?;
    let all = pieces(layout);
    if is_new {
        // Nothing is dropped for the sake of a log that only just seems to have begun.
        return Ok(Rotated::Cut(cut));
    }
    let too_many = all.len().saturating_sub(policy.keep as usize);
    for old in &all[..too_many] {
        fs::remove_file(&old.path).at("remove", &old.path)?;
    }
    Ok(Rotated::Cut(cut))
}

/// Frees what was cut, and writes that down.
fn free(layout: &Layout, file: &File, mut record: Rotation) -> Result<Rotation, PathError> {
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, punch, 0, record.to)
        .map_err(io::Error::from)
        .at("free the beginning of", &layout.log())?;
    crate::killpoint::hit("log:punched");
    record.punched = true;
    write(layout, &record)?;
    Ok(record)
}

/// Whether the last piece holds what stands, or stood, in its place: after a death between the record and the hole, it is asked once
/// more, for in between a person may have emptied the file.
fn is_cut(layout: &Layout, file: &mut File, record: &Rotation) -> Result<bool, PathError> {
    let found = pieces(layout).into_iter().find(|p| p.at == record.at);
    let Some(piece) = found.filter(|p| p.to == record.to) else {
        return Ok(false);
    };
    let log = layout.log();
    let kept = File::open(&piece.path).at("open", &piece.path)?;
    let mut kept = BufReader::new(GzDecoder::new(kept)).bytes();
    file.seek(SeekFrom::Start(piece.from)).at("read", &log)?;
    for live in BufReader::new(file.take(piece.to - piece.from)).bytes() {
        let live = live.at("read", &log)?;
        let kept = kept.next().transpose().at("read", &piece.path)?;
        // NULs where a part of the hole is there already.
        if live != 0 && kept != Some(live) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open_log(layout: &Layout) -> Result<Option<File>, PathError> {
    let path = layout.log();
    match OpenOptions::new().read(true).write(true).open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other.at("open", &path).map(Some),
    }
}

fn born(meta: &Metadata) -> Option<UnixMs> {
    let since = meta.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// The record, if it is about this file.
pub(super) fn known(layout: &Layout, file: &File) -> Result<Option<Rotation>, PathError> {
    let meta = file.metadata().at("look at", &layout.log())?;
    let record: Option<Rotation> = read_record(&record_path(layout), 64 * 1024, RECORD_VERSION)?;
    let block = meta.blksize().max(1);
    let is_of_file = |r: &Rotation| {
        let is_same = r.inode == meta.ino() && r.born == born(&meta) && r.to <= meta.len();
        // Data where there should be a hole were written by somebody who emptied the file first.
        let whole_blocks = r.to / block * block;
        let is_hole = || {
            let mut rest = vec![0; usize::try_from(r.to - whole_blocks).unwrap_or(0)];
            let is_read = file.read_exact_at(&mut rest, whole_blocks).is_ok();
            let is_empty = is_read && rest.iter().all(|b| *b == 0);
            first_data(file, meta.len()) >= whole_blocks && is_empty
        };
        is_same && (!r.punched || is_hole())
    };
    Ok(record.filter(is_of_file))
}

fn first_data(file: &File, length: u64) -> u64 {
    rustix::fs::seek(file, Seek::Data(0)).unwrap_or(length)
}

fn record_path(layout: &Layout) -> PathBuf {
    crate::durable::parent(&layout.log()).join("rotation.json")
}

fn write(layout: &Layout, record: &Rotation) -> Result<(), PathError> {
    let text = serde_json::to_vec(record).expect("plain data");
    write_atomic(&record_path(layout), &text, true)
}

/// More than a block of any file system.
const PROBE: usize = 128 * 1024;

/// Found by trying.
fn makes_holes(dir: &Path) -> Result<bool, PathError> {
    let mut file = tempfile::tempfile_in(dir).at("write into", dir)?;
    file.write_all(&[1; 2 * PROBE]).at("write into", dir)?;
    file.sync_data().at("write into", dir)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let probe = PROBE as u64;
    let is_punched = rustix::fs::fallocate(&file, punch, 0, probe).is_ok();
    // One that cannot be seen would be taken for a log that a person emptied.
    Ok(is_punched && first_data(&file, 2 * probe) == probe)
}

/// Behind the last line that is complete; the end of the file when it has none for long.
fn last_line_end(file: &mut File, from: u64, length: u64) -> io::Result<u64> {
    let start = from.max(length.saturating_sub(LONGEST_LINE));
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(length - start).read_to_end(&mut tail)?;
    let end = tail.iter().rposition(|b| *b == b'\n');
    Ok(end.map_or(length, |at| start + at as u64 + 1))
}

fn compress(
    file: &mut File,
    cut: &Piece,
    part: &Path,
    interrupted: &dyn Fn() -> bool,
) -> io::Result<()> {
    let out = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(part)?;
    let mut encoder = GzEncoder::new(out, Compression::fast());
    file.seek(SeekFrom::Start(cut.from))?;
    let mut left = cut.to - cut.from;
    while left > 0 {
        if interrupted() {
            return Err(ErrorKind::Interrupted.into());
        }
        let copied = io::copy(&mut file.take(left.min(LONGEST_LINE)), &mut encoder)?;
        if copied == 0 {
            return Err(io::Error::other("the log became shorter meanwhile"));
        }
        left -= copied;
    }
    encoder.finish()?.sync_all()
}

/// How far the log had come at a time. The node's lines have no time that visor could read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    at: UnixMs,
    inode: u64,
    offset: u64,
}

/// More are not kept: at two a minute those of a week at the least.
const MOST_MARKS: usize = 40_000;

/// Writes down how far the log has come, for `read_all`.
pub fn mark(layout: &Layout, now: UnixMs) -> Result<(), PathError> {
    let log = layout.log();
    let meta = match fs::metadata(&log) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.at("look at", &log)?,
    };
    let mut all = marks(layout);
    let path = marks_path(layout);
    let mark = Mark {
        at: now,
        inode: meta.ino(),
        offset: meta.len(),
    };
    let is_news = all
        .last()
        .is_none_or(|m| (m.inode, m.offset) != (mark.inode, mark.offset));
    if !is_news {
        return Ok(());
    }
    if all.len() < MOST_MARKS {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .at("open", &path)?;
        return file.write_all(line(&mark).as_bytes()).at("write", &path);
    }
    all.drain(..MOST_MARKS / 2);
    all.push(mark);
    let text: String = all.iter().map(line).collect();
    write_atomic(&path, text.as_bytes(), false)
}

/// How far a file had come at a time, as far as that is known; nothing of before it was emptied.
pub(super) fn offset_at(marks: &[Mark], inode: u64, at: UnixMs) -> u64 {
    let mut of_file: Vec<&Mark> = marks.iter().filter(|m| m.inode == inode).collect();
    let mut pairs = of_file.windows(2);
    if let Some(emptied) = pairs.rposition(|w| w[1].offset < w[0].offset) {
        of_file.drain(..=emptied);
    }
    let before = of_file.into_iter().rfind(|m| m.at <= at);
    before.map_or(0, |m| m.offset)
}

fn line(mark: &Mark) -> String {
    format!("{} {} {}\n", mark.at, mark.inode, mark.offset)
}

fn marks_path(layout: &Layout) -> PathBuf {
    crate::durable::parent(&layout.log()).join("marks")
}

/// Lines that are no marks are left out: a death can cut one.
pub(super) fn marks(layout: &Layout) -> Vec<Mark> {
    let text = fs::read_to_string(marks_path(layout)).unwrap_or_default();
    let of = |line: &str| {
        let mut words = line.split(' ').map(|w| w.parse::<u64>().ok());
        Some(Mark {
            at: words.next()??,
            inode: words.next()??,
            offset: words.next()??,
        })
    };
    text.lines().filter_map(of).collect()
}
