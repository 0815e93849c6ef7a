//! The proof, while the node runs again: every file of a generation is read, and compared with its source where that is unchanged.
//!
//! Stamps can miss a change; contents cannot. What a look by stamps has missed becomes an alarm here, never a bad backup that nobody
//! knows of.

use super::GenPaths;
use super::error::BackupError;
use super::pace::apart;
use super::record::{MOST_BAD, Verdict, write_verdict};
use super::roots::Roots;
use super::seal::sealed_state;
use super::tree::{Entry, Ident, Kind};
use super::view::DataView;
use crate::durable::{AtPath as _, write_atomic};
use crate::host::wall_clock;
use crate::model::{Hasher, Rate};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const CHUNK: usize = 256 * 1024;
/// Larger than the list of twenty million files.
const MAX_SUMS: u64 = 4 * 1024 * 1024 * 1024;

/// What watches over a long look at contents.
pub struct Watch<'a> {
    /// Called with each chunk's bytes; an error ends the look.
    pub pace: &'a dyn Fn(u64) -> Result<(), BackupError>,
    /// Called with each file: how many of how many are done.
    pub progress: &'a dyn Fn(u64, u64),
}

/// Looks at all contents of a sealed generation and lays down what was found. `live`: the data are still those that were copied, so that
/// what is unchanged there is compared.
pub fn verify(paths: &GenPaths, live: bool, watch: &Watch<'_>) -> Result<Verdict, BackupError> {
    let (state, _) = sealed_state(paths)?;
    let known = read_sums(&paths.done.join("SHA256SUMS"))?;
    let roots = Roots::read(&paths.done, paths.generation)?;
    let tree = roots.of_copy(&paths.done.join("tree"));
    let data = roots.of_data(DataView::all(&state.source));
    let mut verdict = Verdict::new(wall_clock());
    let mut sums = Vec::new();
    let entries = state.entries.sorted();
    for (i, (path, entry)) in entries.iter().enumerate() {
        (watch.progress)(i as u64, entries.len() as u64);
        let mut bad = |why: &str| {
            if verdict.bad.len() < MOST_BAD {
                verdict.bad.push(format!("{}: {why}", path.display()));
            }
        };
        let copy = tree.name(path);
        let meta = match fs::symlink_metadata(&copy) {
            Ok(meta) => meta,
            Err(_) if matches!(entry.kind, Kind::Kept | Kind::Special) => continue,
            Err(error) => {
                bad(&error.to_string());
                continue;
            }
        };
        let is_kind = match entry.kind {
            Kind::File => meta.is_file(),
            Kind::Dir => meta.is_dir(),
            Kind::Link => meta.is_symlink(),
            Kind::Root => fs::read_link(&copy).is_ok_and(|to| to == tree.full(path)),
            Kind::Kept | Kind::Special => true,
        };
        if !is_kind {
            bad("it is not what it was");
            continue;
        }
        if entry.kind != Kind::File {
            continue;
        }
        if meta.len() != entry.ident.size {
            bad(&format!(
                "it has {} bytes and should have {}",
                meta.len(),
                entry.ident.size
            ));
            continue;
        }
        let digest = digest(&copy, watch)?;
        verdict.files += 1;
        verdict.bytes += meta.len();
        if known.get(path).is_some_and(|was| *was != digest) {
            bad("its contents have changed since it was made");
            continue;
        }
        let source = data.full(path);
        let live = live && !data.is_unreliable(path);
        let shares = fs::symlink_metadata(&source)
            .is_ok_and(|s| (s.dev(), s.ino()) == (meta.dev(), meta.ino()) && s.is_file());
        if live && !shares && is_unchanged(&source, entry) {
            let of_source = self::digest(&source, watch);
            // It may have been changed, or removed, while it was read.
            if is_unchanged(&source, entry)
                && let Ok(of_source) = of_source
            {
                if of_source == digest {
                    verdict.proved += 1;
                } else {
                    bad("the copy differs from its source, which looks unchanged since");
                    continue;
                }
            }
        } else if live && shares {
            verdict.proved += 1;
        }
        line(&mut sums, path, &digest);
    }
    (watch.progress)(entries.len() as u64, entries.len() as u64);
    if known.is_empty() && verdict.bad.is_empty() {
        write_atomic(&paths.done.join("SHA256SUMS"), &sums, true)?;
    }
    write_verdict(paths, &verdict)?;
    Ok(verdict)
}

/// The same in a thread that gives way to the node, until it is interrupted; `say` hears how far it is.
pub fn verify_apart(
    paths: &GenPaths,
    live: bool,
    rate: Rate,
    interrupted: &dyn Fn() -> bool,
    say: &dyn Fn(&str),
) -> Result<Verdict, BackupError> {
    apart(rate, &paths.done, interrupted, say, &|pace, progress| {
        verify(paths, live, &Watch { pace, progress })
    })
}

fn is_unchanged(source: &Path, entry: &Entry) -> bool {
    fs::symlink_metadata(source).is_ok_and(|m| Ident::of(&m) == entry.ident)
}

fn digest(path: &Path, watch: &Watch<'_>) -> Result<String, BackupError> {
    let mut file = File::open(path).at("open", path)?;
    let mut hasher = Hasher::sha256();
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = file.read(&mut buffer).at("read", path)?;
        if n == 0 {
            return Ok(hasher.finish().hex());
        }
        hasher.update(&buffer[..n]);
        (watch.pace)(n as u64)?;
    }
}

/// A line as `sha256sum` writes it: a name with a line break or a backslash is escaped, and the line says so.
fn line(sums: &mut Vec<u8>, path: &Path, digest: &str) {
    let name = path.as_os_str().as_bytes();
    let is_odd = |b: &u8| matches!(b, b'\\' | b'\n' | b'\r');
    if name.iter().any(is_odd) {
        sums.push(b'\\');
    }
    sums.extend_from_slice(digest.as_bytes());
    sums.extend_from_slice(b"  ");
    for b in name {
        match b {
            b'\\' => sums.extend_from_slice(b"\\\\"),
            b'\n' => sums.extend_from_slice(b"\\n"),
            b'\r' => sums.extend_from_slice(b"\\r"),
            b => sums.push(*b),
        }
    }
    sums.push(b'\n');
}

fn read_sums(path: &Path) -> Result<HashMap<PathBuf, String>, BackupError> {
    let bytes = crate::durable::read_bounded(path, MAX_SUMS)?.unwrap_or_default();
    let read = |line: &[u8]| {
        let (is_odd, line) = match line.strip_prefix(b"\\") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (digest, name) = line.split_at_checked(64)?;
        let name = name.strip_prefix(b"  ")?;
        let mut plain = Vec::with_capacity(name.len());
        let mut bytes = name.iter();
        while let Some(b) = bytes.next() {
            match (is_odd, b) {
                (true, b'\\') => plain.push(match bytes.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    other => *other,
                }),
                (_, b) => plain.push(*b),
            }
        }
        let name = std::ffi::OsString::from(std::ffi::OsStr::from_bytes(&plain));
        Some((name.into(), std::str::from_utf8(digest).ok()?.to_owned()))
    };
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines
        .map(|l| {
            read(l).ok_or_else(|| BackupError::Damaged {
                path: path.to_owned(),
                what: "a line of it is no digest and name".into(),
            })
        })
        .collect()
}
