//! Overrides and the deny list: small files, replaced whole, edited under a short lock by any visor.

use super::Layout;
use crate::durable::{
    AtPath as _, PathError, make_private_dir, open_lock, read_bounded, write_atomic,
};
use crate::model::UnixMs;
use crate::plan::{Denied, Overrides};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The format of both files. 1: first.
const RECORDS_VERSION: u32 = 1;
/// Changes of overrides that are remembered.
const LOG_LIMIT: usize = 200;

/// `overrides.json`: what holds now, and the last changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverridesFile {
    pub version: u32,
    pub now: Overrides,
    #[serde(default)]
    pub log: Vec<OverrideChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideChange {
    pub at: UnixMs,
    pub by: String,
    pub what: String,
}

/// `deny.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyFile {
    pub version: u32,
    pub denied: Vec<Denied>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{} is not readable; move it away to start without it", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} has format version {found}, this visor reads {RECORDS_VERSION}", .path.display())]
    Newer { path: PathBuf, found: u32 },
}

/// What holds now; a hold that has ended is left out.
pub fn read_overrides(layout: &Layout, now: UnixMs) -> Result<Overrides, RecordError> {
    let file: OverridesFile = read(&layout.overrides())?;
    let mut overrides = file.now;
    overrides.hold = overrides
        .hold
        .filter(|h| h.until.is_none_or(|until| now < until));
    Ok(overrides)
}

/// What changes with each change of the overrides: cheaper than reading them.
pub fn overrides_stamp(layout: &Layout) -> Option<(u64, SystemTime)> {
    let meta = std::fs::metadata(layout.overrides()).ok()?;
    Some((meta.ino(), meta.modified().ok()?))
}

/// Changes the overrides and notes the change.
pub fn edit_overrides(
    layout: &Layout,
    change: OverrideChange,
    edit: impl FnOnce(&mut Overrides),
) -> Result<(), RecordError> {
    let path = layout.overrides();
    let _lock = short_lock(layout)?;
    let mut file: OverridesFile = read(&path)?;
    edit(&mut file.now);
    file.version = RECORDS_VERSION;
    file.log.push(change);
    let excess = file.log.len().saturating_sub(LOG_LIMIT);
    file.log.drain(..excess);
    Ok(write_atomic(
        &path,
        &serde_json::to_vec_pretty(&file).expect("plain data"),
        true,
    )?)
}

pub fn read_deny(layout: &Layout) -> Result<Vec<Denied>, RecordError> {
    let file: DenyFile = read(&layout.state().join("deny.json"))?;
    Ok(file.denied)
}

pub fn edit_deny<T>(
    layout: &Layout,
    edit: impl FnOnce(&mut Vec<Denied>) -> T,
) -> Result<T, RecordError> {
    let path = layout.state().join("deny.json");
    let _lock = short_lock(layout)?;
    let mut file: DenyFile = read(&path)?;
    let out = edit(&mut file.denied);
    file.version = RECORDS_VERSION;
    write_atomic(
        &path,
        &serde_json::to_vec_pretty(&file).expect("plain data"),
        true,
    )?;
    Ok(out)
}

impl OverrideChange {
    pub fn new(at: UnixMs, by: &str, what: String) -> Self {
        Self {
            at,
            by: by.to_owned(),
            what,
        }
    }
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Header {
        version: u32,
    }
    let Some(bytes) = read_bounded(path, 1024 * 1024)? else {
        return Ok(T::default());
    };
    let unreadable = |source| RecordError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let header: Header = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if header.version > RECORDS_VERSION {
        return Err(RecordError::Newer {
            path: path.to_owned(),
            found: header.version,
        });
    }
    serde_json::from_slice(&bytes).map_err(unreadable)
}

/// Held while one of the files is read, changed and replaced; waits for others, who hold it as shortly.
fn short_lock(layout: &Layout) -> Result<std::fs::File, PathError> {
    make_private_dir(&layout.state())?;
    let path = layout.state().join("overrides.lock");
    let file = open_lock(&path)?;
    file.lock().at("lock", &path)?;
    Ok(file)
}
