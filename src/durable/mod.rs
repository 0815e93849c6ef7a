//! Effects on disk that survive a power loss: atomic replacement, synced directories.
//!
//! Every capability writes through here, in one order: temporary name, contents, fsync, rename, fsync of the directory.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// An I/O error with what was being done and to which path.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} {}", path.display())]
pub struct PathError {
    pub what: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// Adds the deed and the path to an I/O error.
pub trait AtPath<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, PathError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, PathError> {
        self.map_err(|source| PathError {
            what,
            path: path.to_owned(),
            source,
        })
    }
}

impl<T> AtPath<T> for rustix::io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, PathError> {
        self.map_err(|e| PathError {
            what,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}

/// Makes a directory and its parents, each for its owner only.
pub fn make_private_dir(dir: &Path) -> Result<(), PathError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .at("make directory", dir)
}

/// Syncs a directory, so that renames and new names in it last.
pub fn sync_dir(dir: &Path) -> Result<(), PathError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .at("sync directory", dir)
}

/// The directory that holds a path.
pub fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Removes what is there under a name, a directory with all below it; false when nothing is. Not synced.
pub fn remove_all(path: &Path) -> Result<bool, PathError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).at("remove", path)?,
        Ok(_) => fs::remove_file(path).at("remove", path)?,
        Err(_) => return Ok(false),
    }
    Ok(true)
}

/// Opens a new private file for writing; what had this temporary name is removed first.
pub fn create_private(path: &Path) -> Result<File, PathError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at("remove", path),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .at("create", path)
}

/// Opens a file that is only there to be locked; made, private, when it is not there.
pub fn open_lock(path: &Path) -> Result<File, PathError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(path).at("open", path)
}

/// Replaces a file by these bytes, mode 0600. With `sync` the new contents and the name survive a power loss.
pub fn write_atomic(path: &Path, bytes: &[u8], sync: bool) -> Result<(), PathError> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let mut file = create_private(&temporary)?;
    let mut put = || {
        file.write_all(bytes).at("write", &temporary)?;
        if sync {
            file.sync_all().at("sync", &temporary)?;
        }
        fs::rename(&temporary, path).at("rename into place", path)
    };
    if let Err(error) = put() {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    if sync {
        sync_dir(parent(path))?;
    }
    Ok(())
}

/// Replaces the text of a file of the user's, which keeps its mode; a link is followed.
pub fn replace_text(path: &Path, text: &str) -> Result<(), PathError> {
    let path = fs::canonicalize(path).at("resolve", path)?;
    let mode = fs::metadata(&path).at("look at", &path)?.permissions();
    let mut file =
        tempfile::NamedTempFile::new_in(parent(&path)).at("make a file beside", &path)?;
    file.write_all(text.as_bytes()).at("write beside", &path)?;
    file.as_file()
        .set_permissions(mode)
        .at("set the mode of", &path)?;
    file.as_file().sync_all().at("sync", &path)?;
    file.persist(&path)
        .map_err(|e| e.error)
        .at("rename into place", &path)?;
    sync_dir(parent(&path))
}

/// Points a symbolic link at `target` by replacing it in one step.
pub fn replace_link(link: &Path, target: &Path) -> Result<(), PathError> {
    let name = link
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = link.with_file_name(format!(".{name}.tmp"));
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at("remove", &temporary),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &temporary).at("link", &temporary)?;
    fs::rename(&temporary, link).at("rename into place", link)?;
    sync_dir(parent(link))
}

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.at("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .at("read", path)?;
    if bytes.len() as u64 > limit {
        let error = io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        );
        return Err(error).at("read", path);
    }
    Ok(Some(bytes))
}

/// Reads a JSON record that says its format's version; `None` when it is not there or was never whole. One of a newer format than
/// `newest` is an error: what it says is not known here.
pub fn read_record<T: DeserializeOwned>(
    path: &Path,
    limit: u64,
    newest: u32,
) -> Result<Option<T>, PathError> {
    #[derive(Deserialize)]
    struct Header {
        version: u32,
    }
    let Some(bytes) = read_bounded(path, limit)? else {
        return Ok(None);
    };
    let header = serde_json::from_slice::<Header>(&bytes).ok();
    if let Some(Header { version }) = header.filter(|h| h.version > newest) {
        let what = format!("it has format version {version}, this visor reads {newest}");
        return Err(io::Error::other(what)).at("read", path);
    }
    Ok(serde_json::from_slice(&bytes).ok())
}

/// Makes a file executable by those who may read it.
pub fn make_executable(file: &File, path: &Path) -> Result<(), PathError> {
    file.set_permissions(fs::Permissions::from_mode(0o755))
        .at("make executable", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        for text in ["one", "two"] {
            write_atomic(&path, text.as_bytes(), true).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
        assert_eq!(
            fs::metadata(&path).expect("there").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        assert!(read_bounded(&path, 2).is_err());
        assert!(matches!(
            read_bounded(&dir.path().join("none"), 2),
            Ok(None)
        ));
    }
}
