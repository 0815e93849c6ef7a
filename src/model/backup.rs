//! How data are copied: the words of a backup policy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a file gets into the copy, the better way first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The data, a subvolume or a dataset, are snapshot; of a subvolume what changes afterwards shares its blocks too.
    Snapshot,
    /// Each file shares its blocks with the copy until one of them is written.
    Reflink,
    /// Immutable files get a second name, all others are copied.
    LinkCopy,
    /// Every file is copied.
    Copy,
}

impl Method {
    pub const ALL: [Method; 4] = [
        Method::Snapshot,
        Method::Reflink,
        Method::LinkCopy,
        Method::Copy,
    ];

    /// A copied file takes no space of its own until it is written.
    pub fn shares_blocks(self) -> bool {
        matches!(self, Self::Snapshot | Self::Reflink)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Reflink => "reflink",
            Self::LinkCopy => "link-copy",
            Self::Copy => "copy",
        }
    }
}

/// A method, and why it cannot be had on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rung {
    pub method: Method,
    pub refusal: Option<String>,
}

/// What a copy of the data would be here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyFacts {
    /// All methods, the better first.
    pub ladder: Vec<Rung>,
    /// What the files take on the disk, in bytes, where that was looked at.
    pub bytes: Option<u64>,
    /// Those of them that are not immutable.
    pub mutable_bytes: Option<u64>,
    /// Directories outside the data that links in them lead to, where that was looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<SecondRoot>,
    /// Why no copy can be made, where that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Archives can be encrypted here.
    #[serde(default = "yes")]
    pub age: bool,
}

/// A directory outside the data that a link in them leads to, so that it is part of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecondRoot {
    /// The link, relative to the data.
    pub link: PathBuf,
    pub dir: PathBuf,
    /// All methods, the better first.
    pub ladder: Vec<Rung>,
    /// The final pass compares its contents, for its file system's stamps prove nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compared: bool,
}

fn yes() -> bool {
    true
}

impl SecondRoot {
    /// How it is copied: no better than was asked for.
    pub fn method(ladder: &[Rung], asked: Option<Method>) -> Method {
        let is_had = |r: &&Rung| r.refusal.is_none() && asked.is_none_or(|asked| r.method >= asked);
        ladder
            .iter()
            .find(is_had)
            .map_or(Method::Copy, |r| r.method)
    }
}

impl CopyFacts {
    /// The best method that can be had.
    pub fn best(&self) -> Method {
        let had = self.ladder.iter().find(|r| r.refusal.is_none());
        had.map_or(Method::Copy, |r| r.method)
    }

    /// Why a method cannot be had.
    pub fn refusal(&self, method: Method) -> Option<&str> {
        let rung = self.ladder.iter().find(|r| r.method == method)?;
        rung.refusal.as_deref()
    }

    /// Bytes that a first copy writes.
    pub fn need(&self, method: Method) -> Option<u64> {
        match method {
            Method::Snapshot | Method::Reflink => Some(0),
            Method::LinkCopy => self.mutable_bytes,
            Method::Copy => self.bytes,
        }
    }
}

/// How fast is copied while the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// At most half of what the disk can do, and no more than 200 MiB a second.
    #[default]
    Auto,
    /// Bytes a second.
    Fixed(u64),
    Unlimited,
}

/// What happens when an upgrade is due and the copy is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// The upgrade waits for the copy.
    #[default]
    Wait,
    /// The node is stopped, and the rest is copied while it is down.
    StopAnyway,
    /// The upgrade is given up, until somebody asks for it again.
    SkipUpgrade,
}

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveFormat {
    TarZst,
    TarGz,
    Tar,
}

impl ArchiveFormat {
    pub const DEFAULT_LEVEL: i32 = 3;

    /// The end of a file's name.
    pub fn ending(self) -> &'static str {
        match self {
            Self::TarZst => "tar.zst",
            Self::TarGz => "tar.gz",
            Self::Tar => "tar",
        }
    }
}

/// One file of a copy, made once the node runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveSpec {
    pub format: ArchiveFormat,
    pub level: i32,
    /// The directory; none is `backups/archive` in the root.
    pub to: Option<PathBuf>,
    /// Whom it is encrypted to; none: it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
}

impl ArchiveSpec {
    /// The program that encrypts and decrypts.
    pub const AGE: &str = "age";

    /// The end of a file's name.
    pub fn ending(&self) -> String {
        let format = self.format.ending();
        match self.recipients.is_empty() {
            true => format.to_owned(),
            false => format!("{format}.{}", Self::AGE),
        }
    }
}

/// A policy, as an upgrade goes by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupSpec {
    pub name: String,
    /// What the generations are called, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Sealed generations kept, the one of this run included.
    pub keep_last: u32,
    /// Those younger than so many milliseconds are kept too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<u64>,
    /// None: the best that can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub rate: Rate,
    #[serde(default, skip_serializing_if = "is_default")]
    pub late: Late,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveSpec>,
    /// Bytes that stay free on the disk beside the copy.
    #[serde(
        default = "default_reserve",
        skip_serializing_if = "is_default_reserve"
    )]
    pub reserve: u64,
}

impl BackupSpec {
    pub const DEFAULT_KEEP_LAST: u32 = 3;
    pub const DEFAULT_RESERVE: u64 = 1024 * 1024 * 1024;

    /// The policy of who names none: three copies, and all of a week.
    pub fn built_in() -> Self {
        const WEEK_MS: u64 = 7 * 24 * 3_600 * 1_000;
        Self {
            keep_within: Some(WEEK_MS),
            ..Self::named("default")
        }
    }

    /// A policy of this name with all that can be left out left out, but that it keeps nothing by its age.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            label: None,
            keep_last: Self::DEFAULT_KEEP_LAST,
            keep_within: None,
            method: None,
            rate: Rate::default(),
            late: Late::default(),
            archive: None,
            reserve: Self::DEFAULT_RESERVE,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_reserve() -> u64 {
    BackupSpec::DEFAULT_RESERVE
}

fn is_default_reserve(reserve: &u64) -> bool {
    *reserve == BackupSpec::DEFAULT_RESERVE
}
