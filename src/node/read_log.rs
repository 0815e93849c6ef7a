//! Reading the node's log across the pieces that were cut out of it.

use super::log::{Piece, known, marks, offset_at, pieces};
use crate::durable::{AtPath as _, PathError};
use crate::model::UnixMs;
use crate::store::Layout;
use flate2::read::GzDecoder;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Duration;

/// Between two looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A longer line counts as several.
const LINE_LIMIT: u64 = 1024 * 1024;

/// What of the log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogQuery {
    pub since: UnixMs,
    /// So many lines, the last ones; all for none.
    pub lines: Option<usize>,
    /// Go on with what comes.
    pub follow: bool,
}

/// Shows the log, as long as `is_wanted` when it is followed.
pub fn show_log(
    layout: &Layout,
    query: LogQuery,
    out: &mut dyn Write,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(), PathError> {
    let kept = read_all(layout, query.since)?;
    let log = layout.log();
    print(kept.parts, query.lines, out)
        .and_then(|()| out.flush())
        .at("show", &log)?;
    if query.follow {
        follow_on(layout, kept.live, out, is_wanted).at("show", &log)?;
    }
    Ok(())
}

/// Everything that is kept of the log.
pub struct Kept {
    /// Oldest first: the pieces, then what stands in `node.log` now.
    pub parts: Vec<Box<dyn BufRead>>,
    /// What comes behind them in `node.log`.
    live: Option<Standing>,
}

/// Everything that is kept of the log since a time. Without a mark near the time a piece is given whole.
pub fn read_all(layout: &Layout, since: UnixMs) -> Result<Kept, PathError> {
    let log = layout.log();
    let file = match File::open(&log) {
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        other => Some(other.at("open", &log)?),
    };
    let mut start = 0;
    let mut record = None;
    let last = pieces(layout).last().map_or(0, |p| p.at);
    if let Some(file) = &file {
        let inode = file.metadata().at("look at", &log)?.ino();
        start = offset_at(&marks(layout), inode, since);
        record = known(layout, file)?;
    }
    // A piece that the record does not know yet is read where it still stands.
    let known_to = record.as_ref().map_or(last, |r| r.at);
    let mut parts: Vec<Box<dyn BufRead>> = Vec::new();
    // What was cut after the mark was made is of the same file as the mark.
    let wanted = |p: &Piece| p.at >= since && p.at <= known_to && p.to > start;
    for piece in pieces(layout).into_iter().filter(wanted) {
        match open_piece(&piece, start) {
            // Dropped meanwhile: the oldest go.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            kept => parts.push(Box::new(BufReader::new(kept.at("read", &piece.path)?))),
        }
    }
    let Some(file) = file else {
        return Ok(Kept { parts, live: None });
    };
    let end = file.metadata().at("look at", &log)?.len();
    let from = record.as_ref().map_or(0, |r| r.to).max(start).min(end);
    let standing = |file, at, end| Standing {
        layout: layout.clone(),
        file,
        at,
        end,
        known_to,
        piece: None,
    };
    let shown = standing(file.try_clone().at("open", &log)?, from, end);
    parts.push(Box::new(BufReader::new(shown)));
    Ok(Kept {
        parts,
        live: Some(standing(file, end, end)),
    })
}

/// A piece from this place of the log on, or from its own beginning.
fn open_piece(piece: &Piece, from: u64) -> io::Result<GzDecoder<File>> {
    let mut kept = GzDecoder::new(File::open(&piece.path)?);
    if (piece.from..piece.to).contains(&from) {
        let mut before = (&mut kept).take(from - piece.from);
        io::copy(&mut before, &mut io::sink())?;
    }
    Ok(kept)
}

/// What stands in `node.log` up to a place, read on in the piece that is cut out of it meanwhile.
struct Standing {
    layout: Layout,
    file: File,
    at: u64,
    end: u64,
    /// Pieces up to this time were cut before.
    known_to: UnixMs,
    piece: Option<GzDecoder<File>>,
}

impl Standing {
    /// A log that has just begun, if there is one.
    fn anew(layout: &Layout) -> Option<Self> {
        Some(Self {
            layout: layout.clone(),
            file: File::open(layout.log()).ok()?,
            at: 0,
            end: 0,
            known_to: pieces(layout).last().map_or(0, |p| p.at),
            piece: None,
        })
    }

    /// The piece that holds the place, if it was cut out since. It is there before its place becomes a hole.
    fn cut_since(&self) -> io::Result<Option<GzDecoder<File>>> {
        let holds = |p: &Piece| p.at > self.known_to && (p.from..p.to).contains(&self.at);
        let piece = pieces(&self.layout).into_iter().find(holds);
        piece.map(|p| open_piece(&p, self.at)).transpose()
    }
}

impl Read for Standing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = most.min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        if let Some(piece) = &mut self.piece {
            let n = piece.read(&mut buf[..most])?;
            if n > 0 {
                self.at += n as u64;
                return Ok(n);
            }
            self.piece = None;
        }
        let n = self.file.read_at(&mut buf[..most], self.at)?;
        // A hole reads as NULs; a node may write them too, and a piece may be shorter than its name says.
        if buf[..n].contains(&0)
            && let Some(mut piece) = self.cut_since()?
        {
            let n = piece.read(&mut buf[..most])?;
            if n > 0 {
                self.piece = Some(piece);
                self.at += n as u64;
                return Ok(n);
            }
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}

fn print(
    mut parts: Vec<Box<dyn BufRead>>,
    lines: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Some(wanted) = lines else {
        for part in &mut parts {
            io::copy(part, out)?;
        }
        return Ok(());
    };
    // From the end, so that old pieces are only read when they are needed.
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    while let Some(mut part) = parts.pop() {
        let room = wanted - last.len();
        let mut of_part: VecDeque<Vec<u8>> = VecDeque::new();
        loop {
            let mut line = Vec::new();
            if (&mut part).take(LINE_LIMIT).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            of_part.push_back(line);
            if of_part.len() > room {
                of_part.pop_front();
            }
        }
        of_part.extend(last);
        last = of_part;
        if last.len() >= wanted {
            break;
        }
    }
    last.iter().try_for_each(|line| out.write_all(line))
}

/// Shows what comes behind a place; a log that was taken away or emptied is followed from its new beginning.
fn follow_on(
    layout: &Layout,
    mut live: Option<Standing>,
    out: &mut dyn Write,
    is_wanted: &dyn Fn() -> bool,
) -> io::Result<()> {
    while is_wanted() {
        if let Some(standing) = &mut live {
            standing.end = standing.file.metadata()?.len().max(standing.at);
            io::copy(standing, out)?;
            out.flush()?;
        }
        let is_same = match (&live, std::fs::metadata(layout.log())) {
            (Some(standing), Ok(now)) => {
                standing.file.metadata()?.ino() == now.ino() && standing.at <= now.len()
            }
            (None, Err(_)) => true,
            (Some(_), Err(_)) | (None, Ok(_)) => false,
        };
        if !is_same {
            live = Standing::anew(layout);
            if live.is_some() {
                continue;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// The last lines of `node.log` itself, without control characters and cut to 200 characters.
pub fn last_lines(layout: &Layout, lines: usize) -> Result<Vec<String>, PathError> {
    const LAST_BYTES: u64 = 16 * 1024;
    let log = layout.log();
    let mut file = match File::open(&log) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
        other => other.at("open", &log)?,
    };
    let length = file.metadata().at("look at", &log)?.len();
    let from = length.saturating_sub(LAST_BYTES);
    file.seek(SeekFrom::Start(from)).at("read", &log)?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES)
        .read_to_end(&mut bytes)
        .at("read", &log)?;
    // What was cut out reads as NULs, and the first line may be cut.
    let text = String::from_utf8_lossy(&bytes);
    let written = text.trim_start_matches('\0');
    let is_cut = from > 0 && written.len() == text.len();
    let all: Vec<&str> = written.lines().skip(usize::from(is_cut)).collect();
    let plain = |line: &&str| {
        let shown = line.chars().filter(|c| !c.is_control() || *c == '\t');
        shown.take(200).collect()
    };
    Ok(all.iter().rev().take(lines).rev().map(plain).collect())
}
