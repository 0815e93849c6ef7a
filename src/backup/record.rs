//! What is known of each generation: who made it and from what, whether it is proved, whether it stays.
//!
//! ```text
//!  record.json   {"version":1,"node":"demo","label":"pre-upgrade-v2","release":"genesis","created_at":1700000000000}
//!  SEAL          when, at which height
//!  VERIFIED      {"version":1,"at":…,"files":120,"bytes":…,"proved":117,"bad":[]}; with anything in `bad` it is called BAD
//!  SHA256SUMS    digests of the files of tree/, as `sha256sum -c` reads them
//!  PINNED        an empty file: kept whatever the policy says
//! ```

use super::GenPaths;
use super::error::BackupError;
use super::seal::sealed_state;
use crate::durable::{
    AtPath as _, create_private, make_private_dir, open_lock, read_record, sync_dir, write_atomic,
};
use crate::model::{GenId, UnixMs};
use crate::store::Layout;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::path::Path;

/// The format of `record.json`. 1: first.
const RECORD_VERSION: u32 = 1;
/// The format of `VERIFIED` and `BAD`. 1: first.
const VERDICT_VERSION: u32 = 1;
const MAX_BYTES: u64 = 1024 * 1024;
/// So many bad files are named.
pub(super) const MOST_BAD: usize = 100;

/// Who made a generation, and from what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenRecord {
    pub version: u32,
    pub node: String,
    pub label: String,
    /// The release that had the data.
    pub release: Option<String>,
    pub created_at: UnixMs,
    /// The node ran while it was sealed: files of different moments.
    #[serde(default)]
    pub running: bool,
}

impl GenRecord {
    pub fn new(node: &str, label: &str, release: Option<String>, created_at: UnixMs) -> Self {
        Self {
            version: RECORD_VERSION,
            node: node.to_owned(),
            label: label.to_owned(),
            release,
            created_at,
            running: false,
        }
    }
}

/// What a look at all contents of a generation found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    pub version: u32,
    pub at: UnixMs,
    pub files: u64,
    pub bytes: u64,
    /// Files whose sources are unchanged since the seal and have the same contents.
    pub proved: u64,
    /// Files that are missing, or not as they were, at most a hundred.
    pub bad: Vec<String>,
}

impl Verdict {
    pub(super) fn new(at: UnixMs) -> Self {
        Self {
            version: VERDICT_VERSION,
            at,
            files: 0,
            bytes: 0,
            proved: 0,
            bad: vec![],
        }
    }
}

/// How far a generation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GenState {
    /// Being made, or left half-made.
    Part,
    /// Whole, by stamps; its contents are not looked at yet.
    Sealed,
    /// Its contents are those of the data.
    Verified,
    /// Its contents are not what they should be. It is never restored.
    Bad,
    /// Used up by a roll-back or a restore: it holds what the data were before that.
    Consumed,
}

impl GenState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::Sealed => "sealed",
            Self::Verified => "verified",
            Self::Bad => "bad",
            Self::Consumed => "consumed",
        }
    }
}

/// A generation, as far as its records tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub paths: GenPaths,
    pub state: GenState,
    pub record: Option<GenRecord>,
    pub verdict: Option<Verdict>,
    pub pinned: bool,
    /// When it was sealed; of one that is not, when it was begun.
    pub at: UnixMs,
}

impl Generation {
    /// Its files are of different moments.
    pub fn is_of_a_running_node(&self) -> bool {
        self.record.as_ref().is_some_and(|r| r.running)
    }

    pub fn id(&self) -> GenId {
        self.paths.generation
    }

    /// When it was begun.
    pub fn created_at(&self) -> UnixMs {
        self.id().0.timestamp_ms()
    }

    pub fn label(&self) -> &str {
        self.record.as_ref().map_or("", |r| r.label.as_str())
    }

    pub fn release(&self) -> Option<&str> {
        self.record.as_ref()?.release.as_deref()
    }
}

/// Files and bytes of a sealed generation, and when and at which height it was sealed, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Contents {
    pub files: u64,
    pub bytes: u64,
    pub sealed_at: UnixMs,
    pub height: Option<u64>,
}

/// Reads the whole baseline of a generation.
pub fn contents(paths: &GenPaths) -> Result<Contents, BackupError> {
    let (state, seal) = sealed_state(paths)?;
    Ok(Contents {
        files: state.entries.files(),
        bytes: state.entries.bytes(),
        sealed_at: seal.as_ref().map_or(0, |s| s.at),
        height: seal.and_then(|s| s.height),
    })
}

/// All generations, the one that was sealed first before the others. A record that cannot be read is as one that is not there: a generation is listed whatever lies in it.
pub fn generations(layout: &Layout) -> Vec<Generation> {
    let Ok(entries) = fs::read_dir(layout.generations()) else {
        return vec![];
    };
    let mut all: Vec<Generation> = entries
        .flatten()
        .filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let is_part = name.ends_with(".part");
            let id: GenId = name.trim_end_matches(".part").parse().ok()?;
            let paths = GenPaths::new(layout, id);
            let dir = if is_part { &paths.part } else { &paths.done };
            let has = |file: &str| dir.join(file).is_file();
            let state = if is_part {
                GenState::Part
            } else if has("CONSUMED") {
                GenState::Consumed
            } else if !has("SEAL") {
                GenState::Part
            } else if has("BAD") {
                GenState::Bad
            } else if has("VERIFIED") {
                GenState::Verified
            } else {
                GenState::Sealed
            };
            Some(Generation {
                record: read_json(&dir.join("record.json"), RECORD_VERSION),
                verdict: ["BAD", "VERIFIED"]
                    .iter()
                    .find_map(|file| read_json(&dir.join(file), VERDICT_VERSION)),
                pinned: has("PINNED"),
                at: ["SEAL", "CONSUMED"]
                    .iter()
                    .find_map(|file| written_at(&dir.join(file)))
                    .unwrap_or_else(|| id.0.timestamp_ms()),
                state,
                paths,
            })
        })
        .collect();
    all.sort_unstable_by_key(|g| (g.at, g.id()));
    all
}

fn written_at(path: &Path) -> Option<UnixMs> {
    let modified = fs::metadata(path).and_then(|m| m.modified()).ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, version: u32) -> Option<T> {
    read_record(path, MAX_BYTES, version).ok().flatten()
}

/// Lays down who makes a generation; what is there already stays.
pub(super) fn write_record(paths: &GenPaths, record: &GenRecord) -> Result<(), BackupError> {
    let path = paths.part.join("record.json");
    if path.is_file() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(record).expect("plain data");
    Ok(write_atomic(&path, &bytes, true)?)
}

/// The same for a generation that is sealed, when something about it was found out later.
pub fn rewrite_record(paths: &GenPaths, record: &GenRecord) -> Result<(), BackupError> {
    let bytes = serde_json::to_vec(record).expect("plain data");
    Ok(write_atomic(&paths.done.join("record.json"), &bytes, true)?)
}

/// Makes a part and holds it: while somebody does, no pruning sweeps it.
pub fn hold_part(paths: &GenPaths) -> Result<File, BackupError> {
    make_private_dir(&paths.part)?;
    let path = paths.part.join("lock");
    let lock = open_lock(&path)?;
    lock.try_lock()
        .map_err(|e| std::io::Error::other(e.to_string()))
        .at("lock", &path)?;
    Ok(lock)
}

/// True while somebody holds a part.
pub(super) fn is_held(part: &Path) -> bool {
    File::open(part.join("lock"))
        .is_ok_and(|f| matches!(f.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Lays down a verdict in the place of an earlier one.
pub(super) fn write_verdict(paths: &GenPaths, verdict: &Verdict) -> Result<(), BackupError> {
    let bytes = serde_json::to_vec(verdict).expect("plain data");
    let (name, other) = if verdict.bad.is_empty() {
        ("VERIFIED", "BAD")
    } else {
        ("BAD", "VERIFIED")
    };
    write_atomic(&paths.done.join(name), &bytes, true)?;
    let other = paths.done.join(other);
    match fs::remove_file(&other) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("remove", &other)?,
        _ => {}
    }
    Ok(sync_dir(&paths.done)?)
}

/// Pins a generation, or lets go of it.
pub fn pin(paths: &GenPaths, pinned: bool) -> Result<(), BackupError> {
    let path = paths.done.join("PINNED");
    if pinned {
        create_private(&path)?;
    } else {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("remove", &path)?,
            _ => {}
        }
    }
    Ok(sync_dir(&paths.done)?)
}
