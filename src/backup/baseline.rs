//! What the last round saw (`baseline`) and what the final pass changed (`SEAL`), on disk.
//!
//! Both are JSON lines: a header, one line an entry, a last line with the number of entries and a CRC over all before it.
//! Paths are percent-escaped, so that names that are not UTF-8 survive.
//!
//! ```text
//! {"version":2,"generation":"01J…","source":"/var/lib/node/data","at":1700000000000}
//! {"p":"chain/000001.ldb","kind":"file","class":"immutable","ident":{"dev":65024,"ino":9,"size":4096,…}}
//! {"p":"chain/000000.ldb","gone":true}
//! {"entries":2,"crc":3735928559}
//! ```

use super::error::BackupError;
use super::tree::{Class, Entry, Ident, Kind, Tree};
use crate::durable::{PathError, read_bounded, write_atomic};
use crate::model::{GenId, Method, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The format of both files. 1: first. 2: classes, special files, when the last look began; 1 is read as one that knows neither.
const VERSION: u32 = 2;
/// About 200 bytes an entry: twenty million files.
const MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Entries of the copy with the identities that their sources had when they were copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    pub generation: GenId,
    pub source: PathBuf,
    /// When the last look at all of it began; 0 where that is not known.
    pub looked: UnixMs,
    /// A round has gone over all of the data. Before that, it is how far the first one has come.
    pub whole: bool,
    /// How the copy is made.
    pub method: Method,
    pub entries: Tree,
}

/// What the final pass changed: an entry's new state, or `None` for one that had gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub generation: GenId,
    pub source: PathBuf,
    /// When it was sealed; 0 where that is not known.
    pub at: UnixMs,
    /// The chain's last known head then.
    pub height: Option<u64>,
    pub method: Method,
    /// What `keep` named then. `None` in a seal of a visor that did not write it: the whole baseline tells it.
    pub kept: Option<BTreeSet<PathBuf>>,
    pub changes: BTreeMap<PathBuf, Option<Entry>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    generation: GenId,
    source: String,
    /// When the last look began, or when it was sealed.
    #[serde(default)]
    at: UnixMs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    #[serde(default = "copy")]
    method: Method,
    /// The first round has not come to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unfinished: bool,
    /// Of a seal: what `keep` named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Vec<String>>,
}

fn copy() -> Method {
    Method::Copy
}

#[derive(Serialize, Deserialize)]
struct Line {
    p: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ident: Option<Ident>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hot: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    linked: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

#[derive(Serialize, Deserialize)]
struct Footer {
    entries: u64,
    crc: u32,
}

impl Header {
    fn new(
        generation: GenId,
        source: &Path,
        at: UnixMs,
        height: Option<u64>,
        method: Method,
    ) -> Self {
        Self {
            version: VERSION,
            generation,
            source: escape(source),
            at,
            height,
            method,
            unfinished: false,
            kept: None,
        }
    }
}

impl Baseline {
    pub fn new(generation: GenId, source: &Path) -> Self {
        Self {
            generation,
            source: source.to_owned(),
            looked: 0,
            whole: false,
            method: Method::Copy,
            entries: Tree::default(),
        }
    }

    /// Replaces the file, synced.
    pub fn write(&self, path: &Path) -> Result<(), PathError> {
        let sorted = self.entries.sorted();
        let lines = sorted.iter().map(|(p, e)| (p.as_path(), Some(*e)));
        let header = Header {
            unfinished: !self.whole,
            ..Header::new(
                self.generation,
                &self.source,
                self.looked,
                None,
                self.method,
            )
        };
        let bytes = encode(&header, lines);
        write_atomic(path, &bytes, true)
    }

    /// `None` when there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>, BackupError> {
        let mut entries = Tree::default();
        let read = decode(path, &mut |path, entry| {
            if let Some(entry) = entry {
                entries.insert(&path, entry);
            }
        })?;
        let Some((header, source)) = read else {
            return Ok(None);
        };
        Ok(Some(Self {
            looked: header.at,
            whole: !header.unfinished,
            method: header.method,
            entries,
            ..Self::new(header.generation, &source)
        }))
    }

    /// The state that a seal on top of this baseline stands for.
    pub fn with(mut self, sealed: &Sealed) -> Self {
        for (path, entry) in &sealed.changes {
            match entry {
                Some(entry) => self.entries.insert(path, *entry),
                None => self.entries.remove(path),
            }
        }
        self
    }
}

impl Sealed {
    pub fn to_bytes(&self) -> Vec<u8> {
        let kept = self.kept.as_ref();
        let header = Header {
            kept: kept.map(|kept| kept.iter().map(|path| escape(path)).collect()),
            ..Header::new(
                self.generation,
                &self.source,
                self.at,
                self.height,
                self.method,
            )
        };
        encode(
            &header,
            self.changes.iter().map(|(p, e)| (p.as_path(), e.as_ref())),
        )
    }
}

/// Reads a SEAL or CONSUMED file; `None` when there is none.
pub fn read_seal(path: &Path) -> Result<Option<Sealed>, BackupError> {
    let mut changes = BTreeMap::new();
    let read = decode(path, &mut |path, entry| {
        changes.insert(path, entry);
    })?;
    let Some((header, source)) = read else {
        return Ok(None);
    };
    let kept = header.kept.map(|kept| {
        let read = |text: &String| {
            unescape(text).ok_or_else(|| damaged(path, format!("bad escape in {text}")))
        };
        kept.iter().map(read).collect::<Result<_, _>>()
    });
    Ok(Some(Sealed {
        generation: header.generation,
        source,
        at: header.at,
        height: header.height,
        method: header.method,
        kept: kept.transpose()?,
        changes,
    }))
}

fn encode<'a>(
    header: &Header,
    lines: impl Iterator<Item = (&'a Path, Option<&'a Entry>)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut line = |value: &dyn erased::Json| {
        out.extend(value.json());
        out.push(b'\n');
    };
    line(header);
    let mut entries = 0;
    for (path, entry) in lines {
        entries += 1;
        line(&Line {
            p: escape(path),
            kind: entry.map(|e| e.kind),
            class: entry.map(|e| e.class).filter(|c| *c != Class::Mutable),
            ident: entry.map(|e| e.ident),
            hot: entry.is_some_and(|e| e.hot),
            linked: entry.is_some_and(|e| e.linked),
            gone: entry.is_none(),
        });
    }
    let crc = crc32fast::hash(&out);
    out.extend(serde_json::to_vec(&Footer { entries, crc }).expect("plain data"));
    out.push(b'\n');
    out
}

mod erased {
    pub(super) trait Json {
        fn json(&self) -> Vec<u8>;
    }
    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> Vec<u8> {
            serde_json::to_vec(self).expect("plain data")
        }
    }
}

fn damaged(path: &Path, what: String) -> BackupError {
    BackupError::Damaged {
        path: path.to_owned(),
        what,
    }
}

/// The header and the source; each entry is told to `each`.
fn decode(
    path: &Path,
    each: &mut dyn FnMut(PathBuf, Option<Entry>),
) -> Result<Option<(Header, PathBuf)>, BackupError> {
    let Some(bytes) = read_bounded(path, MAX_BYTES)? else {
        return Ok(None);
    };
    let damaged = |what| damaged(path, what);
    let text = bytes
        .strip_suffix(b"\n")
        .ok_or_else(|| damaged("it has no end".into()))?;
    let (body, footer) = match text.iter().rposition(|&b| b == b'\n') {
        Some(at) => (&bytes[..=at], &text[at + 1..]),
        None => return Err(damaged("it has no last line".into())),
    };
    let footer: Footer =
        serde_json::from_slice(footer).map_err(|e| damaged(format!("last line: {e}")))?;
    if crc32fast::hash(body) != footer.crc {
        return Err(damaged("its checksum is wrong".into()));
    }
    let mut lines = body.split(|&b| b == b'\n').filter(|l| !l.is_empty());
    let header: Header = serde_json::from_slice(lines.next().unwrap_or_default())
        .map_err(|e| damaged(e.to_string()))?;
    if header.version > VERSION {
        return Err(damaged(format!(
            "it has format version {}, this visor reads {VERSION}",
            header.version
        )));
    }
    let mut entries = 0;
    for line in lines {
        let line: Line = serde_json::from_slice(line).map_err(|e| damaged(e.to_string()))?;
        let entry = match (line.kind, line.ident, line.gone) {
            (Some(kind), Some(ident), false) => Some(Entry {
                kind,
                class: line.class.unwrap_or_default(),
                ident,
                hot: line.hot,
                linked: line.linked,
            }),
            (_, _, true) => None,
            _ => return Err(damaged(format!("the entry of {} is not whole", line.p))),
        };
        let path = unescape(&line.p);
        each(
            path.ok_or_else(|| damaged(format!("bad escape in {}", line.p)))?,
            entry,
        );
        entries += 1;
    }
    if entries != footer.entries {
        return Err(damaged("entries are missing".into()));
    }
    let source = unescape(&header.source).ok_or_else(|| damaged("bad escape".into()))?;
    Ok(Some((header, source)))
}

/// A path as a string of a record, for serde.
pub(super) mod escaped {
    use super::{Path, PathBuf, escape, unescape};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(in super::super) fn serialize<S: Serializer>(
        path: &Path,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&escape(path))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(from)?;
        unescape(&text).ok_or_else(|| D::Error::custom("a path with a bad escape"))
    }
}

fn escape(path: &Path) -> String {
    let mut out = String::new();
    for &b in path.as_os_str().as_bytes() {
        match b {
            b'%' | 0..=0x1f | 0x7f.. => out.push_str(&format!("%{b:02x}")),
            _ => out.push(char::from(b)),
        }
    }
    out
}

fn unescape(text: &str) -> Option<PathBuf> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(if b == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
        } else {
            b
        });
    }
    Some(PathBuf::from(OsString::from_vec(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let ident = Ident {
            dev: 1,
            ino: 2,
            size: 3,
            mtime: 4,
            ctime: -5,
            mode: 0o100_600,
            uid: 0,
            gid: 0,
        };
        Entry {
            kind: Kind::File,
            class: Class::Append,
            ident,
            hot: true,
            linked: true,
        }
    }

    #[test]
    fn a_baseline_reads_back_and_damage_is_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("baseline");
        let mut baseline = Baseline::new(GenId(ulid::Ulid::nil()), Path::new("/data"));
        let odd = PathBuf::from(OsString::from_vec(b"a/\xff%\n".to_vec()));
        baseline.entries.insert(&odd, entry());
        baseline.write(&path).expect("written");
        assert_eq!(Baseline::read(&path).expect("read"), Some(baseline.clone()));
        let sealed = Sealed {
            generation: baseline.generation,
            source: "/data".into(),
            at: 5,
            height: Some(6),
            method: Method::LinkCopy,
            kept: Some([odd.clone()].into()),
            changes: [(odd, None)].into(),
        };
        let seal = dir.path().join("SEAL");
        std::fs::write(&seal, sealed.to_bytes()).expect("written");
        assert_eq!(read_seal(&seal).expect("read"), Some(sealed.clone()));
        assert!(baseline.with(&sealed).entries.is_empty());
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[5] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert!(matches!(
            Baseline::read(&path),
            Err(BackupError::Damaged { .. })
        ));
    }
}
