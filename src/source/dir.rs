//! Reading a directory as a manifest set: `*.toml` files as texts, all others by name and mode.

use crate::diag::SourceText;
use crate::durable::{AtPath as _, PathError};
use crate::manifest::{BesideFile, ManifestSet};
use crate::parallel::each;
use rayon::slice::ParallelSliceMut as _;
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, OpenOptions};
use std::hash::{Hash as _, Hasher as _};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Larger than any manifest a person writes.
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
const MAX_FILES: usize = 200_000;
const MAX_DEPTH: usize = 16;
const MAX_BYTES: usize = 512 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    #[error("{} holds more than {MAX_FILES} files; is it a manifest set?", .0.display())]
    TooMany(PathBuf),
    #[error("the manifests of {} are larger than {} MiB together", .0.display(), MAX_BYTES >> 20)]
    TooLarge(PathBuf),
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
    let mut manifests = Vec::new();
    let mut odd: Vec<(String, String)> = Vec::new();
    let mut level = vec![String::new()];
    for depth in 0..=MAX_DEPTH {
        let found = each(level.len(), level, |at| {
            let listing = list(&dir, &at);
            (at, listing)
        });
        level = Vec::new();
        for (at, listing) in found {
            let listing = match listing {
                // Of the set itself nothing else is to be said.
                Err(SourceError::Path(error)) if !at.is_empty() => {
                    odd.push((at, error.source.to_string()));
                    continue;
                }
                listing => listing?,
            };
            odd.extend(listing.links.into_iter().map(|link| {
                let why = "it is a link to a directory of manifests, and links are not followed";
                (link, why.to_owned())
            }));
            manifests.extend(listing.manifests);
            set.beside.extend(listing.beside);
            if depth < MAX_DEPTH {
                level.extend(listing.dirs);
            } else {
                let dirs = listing.dirs.into_iter();
                let deep = dirs.filter(|deep| holds_manifests(&dir.join(deep)));
                odd.extend(deep.map(|deep| {
                    let why = format!("it lies more than {MAX_DEPTH} directories deep");
                    (deep, why)
                }));
            }
        }
        if manifests.len() + set.beside.len() > MAX_FILES {
            return Err(SourceError::TooMany(dir));
        }
    }
    manifests.par_sort_unstable();
    let bytes = AtomicUsize::new(0);
    let read = each(manifests.len(), manifests, |relative| {
        let text = if bytes.load(Ordering::Relaxed) > MAX_BYTES {
            Err("the set is too large".into())
        } else if relative.contains(char::REPLACEMENT_CHARACTER) {
            Err("its name is not UTF-8".into())
        } else {
            text(&dir.join(&relative))
        };
        let read = text.as_ref().map_or(0, String::len);
        bytes.fetch_add(read, Ordering::Relaxed);
        (relative, text)
    });
    if bytes.into_inner() > MAX_BYTES {
        return Err(SourceError::TooLarge(dir));
    }
    for (path, text) in read {
        let text = text.unwrap_or_else(|why| {
            set.unreadable.push((path.clone(), why));
            String::new()
        });
        set.files.push(SourceText { path, text });
    }
    if !odd.is_empty() {
        let empty = |(path, _): &(String, String)| SourceText {
            path: path.clone(),
            text: String::new(),
        };
        set.files.extend(odd.iter().map(empty));
        set.files.sort_by(|a, b| a.path.cmp(&b.path));
        set.unreadable.extend(odd);
    }
    set.unreadable.sort();
    Ok(set)
}

/// What one directory of a set holds, by paths relative to the set.
#[derive(Default)]
struct Listing {
    dirs: Vec<String>,
    manifests: Vec<String>,
    beside: Vec<(String, BesideFile)>,
    /// Links to directories that hold manifests.
    links: Vec<String>,
}

fn list(set: &Path, at: &str) -> Result<Listing, SourceError> {
    let dir = set.join(at);
    let mut out = Listing::default();
    for entry in fs::read_dir(&dir).at("list", &dir)? {
        let entry = entry.at("list", &dir)?;
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        if shown.starts_with('.') {
            continue;
        }
        let relative = if at.is_empty() {
            shown.into_owned()
        } else {
            format!("{at}/{shown}")
        };
        let path = || dir.join(&name);
        let kind = entry.file_type().at("look at", &path())?;
        if kind.is_dir() && name.to_str().is_some() {
            out.dirs.push(relative);
        } else if kind.is_dir() || Path::new(&name).extension().is_some_and(|e| e == "toml") {
            out.manifests.push(relative);
        } else if let Ok(meta) = fs::metadata(path()) {
            if meta.is_file() {
                let mode = meta.mode() & 0o7777;
                out.beside.push((relative, BesideFile { mode }));
            } else if meta.is_dir() && holds_manifests(&path()) {
                out.links.push(relative);
            }
        }
        if out.manifests.len() + out.beside.len() > MAX_FILES {
            return Err(SourceError::TooMany(set.to_owned()));
        }
    }
    Ok(out)
}

/// True where a file says in its first lines that it is a manifest: not all that is TOML is one.
fn holds_manifests(dir: &Path) -> bool {
    const HEAD: u64 = 4096;
    let says_so = |path: PathBuf| {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let mut head = Vec::new();
        let read = file.and_then(|f| f.take(HEAD).read_to_end(&mut head));
        let text = String::from_utf8_lossy(&head);
        read.is_ok()
            && text
                .lines()
                .any(|l| l.replace(' ', "").starts_with("visor="))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut manifests = entries
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"));
    manifests.any(says_so)
}

fn text(path: &Path) -> Result<String, String> {
    // Opening a FIFO waits for its writer, unless this is said.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut file = open.map_err(|e| e.to_string())?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    // A directory of that name is none of ours.
    if !meta.is_file() {
        return Err("it is not a file".into());
    }
    let expected = usize::try_from(meta.len().min(MAX_MANIFEST)).unwrap_or(0);
    let mut bytes = vec![0; expected + 1];
    let read = loop {
        match file.read(&mut bytes) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            read => break read.map_err(|e| e.to_string())?,
        }
    };
    bytes.truncate(read);
    if read != expected {
        // It changed meanwhile, or comes in parts.
        let mut rest = file.take(MAX_MANIFEST);
        rest.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    }
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(format!("it is larger than {} MiB", MAX_MANIFEST >> 20));
    }
    String::from_utf8(bytes)
        .map_err(|e| format!("byte {} is not UTF-8", e.utf8_error().valid_up_to() + 1))
}

/// A hash of what the files and directories of a set look like: names, inodes, sizes and times of change. Nothing while something in it
/// changed so lately that one more change could look the same, or when it cannot be read. `now` is since the Unix epoch.
pub fn look_of(dir: &Path, now: Duration) -> Option<u64> {
    const LATELY: i64 = 2;
    let now = i64::try_from(now.as_secs()).ok()?;
    let mut hasher = DefaultHasher::new();
    let mut dirs = vec![(dir.to_owned(), 0)];
    let mut files = 0;
    while let Some((at, depth)) = dirs.pop() {
        let mut entries = fs::read_dir(&at)
            .ok()?
            .collect::<Result<Vec<_>, _>>()
            .ok()?;
        entries.retain(|e| !e.file_name().as_encoded_bytes().starts_with(b"."));
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        files += entries.len();
        if files > MAX_FILES {
            return None;
        }
        for entry in entries {
            let path = entry.path();
            let Ok(meta) = fs::metadata(&path) else {
                // A link to nothing looks like its name.
                path.hash(&mut hasher);
                continue;
            };
            if (now - meta.ctime()).abs() <= LATELY {
                return None;
            }
            let times = (meta.ctime(), meta.ctime_nsec());
            (&path, meta.ino(), meta.size(), times).hash(&mut hasher);
            // As `read_set` does: links to directories are not followed.
            if entry.file_type().ok()?.is_dir() && depth < MAX_DEPTH {
                dirs.push((path, depth + 1));
            }
        }
    }
    Some(hasher.finish())
}
