//! File systems that are mounted inside the data.

use super::error::BackupError;
use super::view::DataView;
use crate::durable::{AtPath as _, PathError};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// What is mounted inside the data would stay with the old directory when names are exchanged. Below what is excluded, and holds nothing that
/// is kept, it is nobody's matter.
pub(super) fn refuse_mounts(view: &DataView) -> Result<(), BackupError> {
    for point in mounts()? {
        for (path, dir) in view.tops() {
            let Ok(rel) = point.strip_prefix(dir) else {
                continue;
            };
            let below = path.join(rel);
            let mut above = below.ancestors().skip(1);
            let is_looked_at = |dir: &Path| !view.is_excluded(dir) || view.may_hold_kept(dir);
            if !rel.as_os_str().is_empty() && above.all(is_looked_at) {
                return Err(BackupError::MountInside(point));
            }
        }
    }
    Ok(())
}

/// What a path is on: names are exchanged within one mount only, even where two show the same file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    /// Subvolumes have numbers of their own.
    pub dev: (u32, u32),
}

impl Mount {
    /// `None` where nothing is there.
    pub fn of(path: &Path) -> Option<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), wanted).ok()?;
        Some(Self {
            id: stat.stx_mnt_id,
            dev: (stat.stx_dev_major, stat.stx_dev_minor),
        })
    }
}

/// Where something is mounted, as this process sees it.
fn mounts() -> Result<Vec<PathBuf>, PathError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read(path).at("read", path)?;
    // id parent device root POINT …
    let points = text
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4));
    Ok(points
        .map(|point| PathBuf::from(OsString::from_vec(plain(point))))
        .collect())
}

/// A name as it is: the kernel writes blanks, line breaks and backslashes in octal.
fn plain(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\');
        let octal = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        out.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_of_mounts_are_read() {
        assert_eq!(plain(br"/a\040b\134c\012"), b"/a b\\c\n");
        assert_eq!(plain(br"/plain\04"), br"/plain\04");
    }
}
