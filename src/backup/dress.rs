//! What a file or a directory has beside its contents: mode, owner, time, extended attributes.

use super::tree::Ident;
use crate::durable::{AtPath as _, PathError};
use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, XattrFlags, fgetxattr, flistxattr, fsetxattr,
    utimensat,
};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

const MOST_XATTR: usize = 64 * 1024;

/// An open file and its path, for messages.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
}

impl Source<'_> {
    pub(super) fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>, PathError> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match self.file.read_exact_at(&mut bytes, at) {
            // Cut meanwhile: not what was copied.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(vec![]),
            other => other.at("read", self.path).map(|()| bytes),
        }
    }
}

/// Mode, owner and time of the source.
pub(super) fn dress(copy: &File, path: &Path, ident: &Ident) -> Result<(), PathError> {
    // The owner first: a change of owner takes set-user bits away.
    std::os::unix::fs::fchown(copy, Some(ident.uid), Some(ident.gid))
        .at("set the owner of", path)?;
    copy.set_permissions(fs::Permissions::from_mode(ident.mode & 0o7777))
        .at("set the mode of", path)?;
    copy.set_modified(time_of(ident.mtime))
        .at("set the time of", path)
}

/// Extended attributes, access lists among them. What only the system itself may set is left to it.
pub(super) fn copy_xattrs(from: &Source<'_>, to: &File) -> Result<(), PathError> {
    let mut few = [0_u8; 1024];
    let mut many = Vec::new();
    let names = match flistxattr(from.file, &mut few) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(Errno::RANGE) => {
            many.resize(MOST_XATTR, 0);
            let length = flistxattr(from.file, &mut many[..]);
            &many[..length.at("list the attributes of", from.path)?]
        }
        other => &few[..other.at("list the attributes of", from.path)?],
    };
    let mut value = vec![0_u8; MOST_XATTR];
    for name in names.split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let length = match fgetxattr(from.file, name, &mut value[..]) {
            Err(Errno::NODATA) => continue,
            other => other.at("read an attribute of", from.path)?,
        };
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Err(Errno::PERM | Errno::OPNOTSUPP) if !name.starts_with(b"user.") => {}
            other => other.at("write an attribute of the copy of", from.path)?,
        }
    }
    Ok(())
}

pub(super) fn time_of(nanos: i64) -> std::time::SystemTime {
    let whole = u64::try_from(nanos.max(0)).unwrap_or(0);
    std::time::UNIX_EPOCH + std::time::Duration::from_nanos(whole)
}

pub(super) fn times(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.div_euclid(1_000_000_000),
            tv_nsec: mtime.rem_euclid(1_000_000_000),
        },
    }
}

/// Sets the time of a symbolic link itself. Some file systems have none to set, and nothing depends on it.
pub(super) fn link_time(path: &Path, mtime: i64) {
    let _ = utimensat(CWD, path, &times(mtime), AtFlags::SYMLINK_NOFOLLOW);
}
