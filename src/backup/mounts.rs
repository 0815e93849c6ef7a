//! What is mounted: inside the data, where it is refused, and at a path.

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
    for Mounted { point, kind, .. } in mounts()? {
        for (path, dir) in view.tops() {
            let Ok(rel) = point.strip_prefix(dir) else {
                continue;
            };
            // Somebody looks into a dataset's snapshots, each of which is mounted for some minutes then.
            if kind == "zfs" && rel.starts_with(".zfs/snapshot") {
                continue;
            }
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

/// Something that is mounted, as this process sees it.
pub(super) struct Mounted {
    /// Of its file system, what can be seen here.
    root: PathBuf,
    point: PathBuf,
    /// The file system's name, such as `zfs`.
    pub(super) kind: String,
    /// A device, or what else it is of: the name of a dataset.
    pub(super) source: String,
}

/// What is mounted at a path, if its top is there.
pub(super) fn mounted_whole(at: &Path) -> Result<Option<Mounted>, PathError> {
    // A later one hides those before it.
    let found = mounts()?.into_iter().rfind(|m| m.point == at);
    Ok(found.filter(|m| m.root == Path::new("/")))
}

fn mounts() -> Result<Vec<Mounted>, PathError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read(path).at("read", path)?;
    Ok(text.split(|b| *b == b'\n').filter_map(mounted).collect())
}

/// A line of `proc_pid_mountinfo(5)`: id parent device ROOT POINT options … - KIND SOURCE options
fn mounted(line: &[u8]) -> Option<Mounted> {
    let mut words = line.split(|b| *b == b' ');
    let mut path = |n| Some(PathBuf::from(OsString::from_vec(plain(words.nth(n)?))));
    let (root, point) = (path(3)?, path(0)?);
    let mut words = words.skip_while(|w| *w != b"-").skip(1);
    let mut text = || String::from_utf8(plain(words.next()?)).ok();
    Some(Mounted {
        root,
        point,
        kind: text()?,
        source: text()?,
    })
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
        let line =
            br"90 24 0:52 / /srv/a\040b rw,relatime shared:9 - zfs tank/a\040b rw,xattr,posixacl";
        let found = mounted(line).expect("a line");
        assert_eq!(found.point, Path::new("/srv/a b"));
        assert_eq!(
            (found.root.as_path(), &*found.kind, &*found.source),
            (Path::new("/"), "zfs", "tank/a b")
        );
        let no_source = br"90 24 0:52 / /srv rw - tmpfs  rw";
        assert_eq!(mounted(no_source).expect("a line").source, "");
        assert!(mounted(b"").is_none());
    }
}
