//! The contents of one file into another. Holes stay holes.

use super::dress::Source;
use super::error::BackupError;
use crate::durable::{AtPath as _, PathError};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

const CHUNK: usize = 8 * 1024 * 1024;

/// Copies data of a range that ends at the file's size, and leaves holes where the source has them. `told` hears of each chunk's bytes; its error
/// ends the copy.
pub(super) fn copy_contents(
    from: &Source<'_>,
    to: &Source<'_>,
    range: Range<u64>,
    told: &mut dyn FnMut(u64) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let (mut at, size) = (range.start, range.end);
    while at < size {
        let start = match rustix::fs::seek(from.file, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(other) => return Err(other).at("read", from.path)?,
        };
        let end = match rustix::fs::seek(from.file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => size,
            Err(other) => return Err(other).at("read", from.path)?,
        };
        at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let (mut i, mut o) = (at, at);
            let (source, target) = (from.file, to.file);
            let n = rustix::fs::copy_file_range(source, Some(&mut i), target, Some(&mut o), want);
            let n = match n {
                Ok(n) => n,
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    by_hand(from, to, at, want)?
                }
                Err(other) => return Err(other).at("copy", from.path)?,
            };
            if n == 0 {
                break;
            }
            at += n as u64;
            told(n as u64)?;
        }
        if at < end {
            break;
        }
    }
    // A hole at the end, and a file that shrank meanwhile: the identity shows the latter.
    to.file.set_len(size).at("set the length of", to.path)?;
    Ok(())
}

fn by_hand(from: &Source<'_>, to: &Source<'_>, at: u64, want: usize) -> Result<usize, PathError> {
    let mut buffer = vec![0; want.min(256 * 1024)];
    let n = from.file.read_at(&mut buffer, at).at("read", from.path)?;
    to.file
        .write_all_at(&buffer[..n], at)
        .at("write", to.path)?;
    Ok(n)
}
