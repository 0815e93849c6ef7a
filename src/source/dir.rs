//! Reading a directory as a manifest set: `*.toml` files as texts, all others by name and mode.

use crate::diag::SourceText;
use crate::durable::{AtPath as _, PathError, read_bounded};
use crate::manifest::{BesideFile, ManifestSet};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Larger than any manifest a person writes.
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
const MAX_FILES: usize = 200_000;
const MAX_DEPTH: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    #[error("{} holds more than {MAX_FILES} files; is it a manifest set?", .0.display())]
    TooMany(PathBuf),
}

/// Reads the set of a directory; of a file, the set of its directory. Hidden files and directories are left out.
pub fn read_set(path: &Path) -> Result<ManifestSet, SourceError> {
    let dir = if path.is_file() {
        crate::durable::parent(path)
    } else {
        path
    };
    if !dir.is_dir() {
        return Err(SourceError::Missing(path.to_owned()));
    }
    let dir = fs::canonicalize(dir).at("resolve", dir)?;
    let mut set = ManifestSet {
        dir: dir.clone(),
        files: vec![],
        unreadable: vec![],
        beside: BTreeMap::new(),
    };
    let mut dirs = vec![(dir.clone(), 0)];
    while let Some((at, depth)) = dirs.pop() {
        for entry in fs::read_dir(&at).at("list", &at)? {
            let entry = entry.at("list", &at)?;
            let path = entry.path();
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            let relative = path
                .strip_prefix(&dir)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            if meta.is_dir() {
                if depth < MAX_DEPTH && !fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink()) {
                    dirs.push((path, depth + 1));
                }
            } else if path.extension().is_some_and(|e| e == "toml") {
                let text = match text(&path) {
                    Ok(text) => text,
                    Err(why) => {
                        set.unreadable.push((relative.clone(), why));
                        String::from("visor = 1\n")
                    }
                };
                set.files.push(SourceText {
                    path: relative,
                    text,
                });
            } else if meta.is_file() {
                set.beside.insert(
                    relative,
                    BesideFile {
                        mode: meta.mode() & 0o7777,
                    },
                );
            }
            if set.files.len() + set.beside.len() > MAX_FILES {
                return Err(SourceError::TooMany(dir));
            }
        }
    }
    set.files.sort_by(|a, b| a.path.cmp(&b.path));
    set.unreadable.sort();
    Ok(set)
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = read_bounded(path, MAX_MANIFEST).map_err(|e| {
        std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string)
    })?;
    String::from_utf8(bytes.unwrap_or_default())
        .map_err(|e| format!("byte {} is not UTF-8", e.utf8_error().valid_up_to() + 1))
}
