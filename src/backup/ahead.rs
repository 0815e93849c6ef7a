//! Files of a copy, read in a thread of their own ahead of who packs them: many small ones cost more to open than to pack.

use super::error::BackupError;
use super::tree::{Entry, Ident, Kind, Map, Tree};
use super::view::DataView;
use crate::durable::{AtPath as _, PathError};
use rustix::fs::{Mode, OFlags, fgetxattr, flistxattr, openat};
use rustix::io::Errno;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

/// Larger files are only opened.
const SMALL: u64 = 64 * 1024;
/// They are handed over in batches of so many entries, or bytes; to wake somebody costs as much as to read a small file.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 1024 * 1024;
/// So many batches wait at the most.
const AHEAD: usize = 8;
const MOST_XATTR: usize = 64 * 1024;

/// An entry of a copy, with all that an archive says of it.
pub(super) struct Item {
    pub(super) path: PathBuf,
    pub(super) ident: Ident,
    /// Extended ones, by name, in the words of PAX. What has a name that is no text is left out.
    pub(super) attributes: Vec<(String, Vec<u8>)>,
    pub(super) holds: Holds,
}

pub(super) enum Holds {
    /// A directory.
    Nothing,
    /// A link's text.
    Target(PathBuf),
    /// The name that the file has come under before.
    SameAs(PathBuf),
    Bytes(Vec<u8>),
    /// Of so many bytes as its `ident` says.
    File(File),
}

/// Reads all entries that are copied, by path, and hands them over one after the other; an error of `take` ends it.
pub(super) fn read_ahead(
    entries: &Tree,
    tree: &DataView,
    take: &mut dyn FnMut(&mut Item) -> Result<(), PathError>,
) -> Result<(), BackupError> {
    let sorted = entries.sorted();
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(AHEAD);
        scope.spawn(move || {
            let mut reader = Reader {
                tree,
                first_names: Map::default(),
                buffer: vec![0; MOST_XATTR],
                dir: None,
            };
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for (path, entry) in sorted {
                if matches!(entry.kind, Kind::Kept | Kind::Special) {
                    continue;
                }
                let item = reader.read(path, entry);
                bytes += match item.as_ref().map(|item| &item.holds) {
                    Ok(Holds::Bytes(held)) => held.len(),
                    // Not many are open at a time.
                    Ok(Holds::File(_)) => BATCH_BYTES,
                    _ => 0,
                };
                let is_last = item.is_err();
                batch.push(item);
                if is_last || batch.len() == BATCH || bytes >= BATCH_BYTES {
                    bytes = 0;
                    // Nobody takes it any more after an error of theirs.
                    if send.send(std::mem::take(&mut batch)).is_err() || is_last {
                        return;
                    }
                }
            }
            let _ = send.send(batch);
        });
        for item in receive.into_iter().flatten() {
            take(&mut item?)?;
        }
        Ok(())
    })
}

struct Reader<'a> {
    tree: &'a DataView,
    first_names: Map<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
    /// The directory of the file before, relative to the data.
    dir: Option<(PathBuf, File)>,
}

impl Reader<'_> {
    fn read(&mut self, path: PathBuf, entry: &Entry) -> Result<Item, PathError> {
        let full = self.tree.full(&path);
        match entry.kind {
            Kind::Link => Ok(Item {
                ident: entry.ident,
                attributes: vec![],
                holds: Holds::Target(fs::read_link(&full).at("read link", &full)?),
                path,
            }),
            Kind::Dir | Kind::Root => {
                let dir = open(&full)?;
                let now = Ident::of(&dir.metadata().at("look at", &full)?);
                // Entries come and go without a new record of their directory; that of a second root is of its link.
                let ident = match entry.kind {
                    Kind::Root => now,
                    _ => Ident {
                        mtime: now.mtime,
                        ..entry.ident
                    },
                };
                Ok(Item {
                    ident,
                    attributes: self.attributes(&dir, &full)?,
                    holds: Holds::Nothing,
                    path,
                })
            }
            Kind::File | Kind::Kept | Kind::Special => self.file(path, &full, entry),
        }
    }

    fn file(&mut self, path: PathBuf, full: &Path, entry: &Entry) -> Result<Item, PathError> {
        let mut file = self.open_below(&path, full)?;
        let meta = file.metadata().at("look at", full)?;
        let attributes = self.attributes(&file, full)?;
        let ident = Ident {
            size: meta.len(),
            ..entry.ident
        };
        let holds = if let Some(first) = self.first_name(&meta, &path) {
            Holds::SameAs(first)
        } else if meta.len() <= SMALL {
            let mut bytes = vec![0; usize::try_from(meta.len()).unwrap_or(0)];
            file.read_exact(&mut bytes).at("read", full)?;
            Holds::Bytes(bytes)
        } else {
            Holds::File(file)
        };
        Ok(Item {
            path,
            ident,
            attributes,
            holds,
        })
    }

    /// Files come directory by directory: the way to it is gone once.
    fn open_below(&mut self, path: &Path, full: &Path) -> Result<File, PathError> {
        let above = path.parent().unwrap_or(Path::new(""));
        let dir = match self.dir.take() {
            Some((of, dir)) if of == above => (of, dir),
            _ => (above.to_owned(), open(&self.tree.full(above))?),
        };
        let name = path.file_name().unwrap_or_default();
        let file = openat(&dir.1, name, flags(), Mode::empty());
        self.dir = Some(dir);
        Ok(file.at("open", full)?.into())
    }

    /// The name under which a file of several has come already.
    fn first_name(&mut self, meta: &Metadata, path: &Path) -> Option<PathBuf> {
        if meta.nlink() < 2 {
            return None;
        }
        let id = (meta.dev(), meta.ino());
        let first = self.first_names.get(&id).cloned();
        if first.is_none() {
            self.first_names.insert(id, path.to_owned());
        }
        first
    }

    fn attributes(
        &mut self,
        file: &File,
        path: &Path,
    ) -> Result<Vec<(String, Vec<u8>)>, PathError> {
        let length = match flistxattr(file, &mut self.buffer[..]) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(vec![]),
            other => other.at("list the attributes of", path)?,
        };
        let names = self.buffer[..length].split(|b| *b == 0);
        let mut names: Vec<Vec<u8>> = names
            .filter(|n| !n.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        names.sort_unstable();
        let mut all = Vec::new();
        for name in names {
            let length =
                fgetxattr(file, &*name, &mut self.buffer[..]).at("read an attribute of", path)?;
            if let Ok(name) = String::from_utf8(name) {
                all.push((
                    format!("SCHILY.xattr.{name}"),
                    self.buffer[..length].to_vec(),
                ));
            }
        }
        Ok(all)
    }
}

/// Never through a link, and never waiting for the other end of a FIFO.
fn open(path: &Path) -> Result<File, PathError> {
    let file = rustix::fs::open(path, flags(), Mode::empty());
    Ok(file.at("open", path)?.into())
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC
}
