//! How data are copied: the words of a backup policy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a file gets into the copy, the better way first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Each file shares its blocks with the copy until one of them is written.
    Reflink,
    /// Immutable files get a second name, all others are copied.
    LinkCopy,
    /// Every file is copied.
    Copy,
}

impl Method {
    pub const ALL: [Method; 3] = [Method::Reflink, Method::LinkCopy, Method::Copy];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::LinkCopy => "link-copy",
            Self::Copy => "copy",
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

/// A policy, as an upgrade goes by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupSpec {
    pub name: String,
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

    /// A policy of this name with all that can be left out left out, but that it keeps nothing by its age.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            keep_last: Self::DEFAULT_KEEP_LAST,
            keep_within: None,
            method: None,
            rate: Rate::default(),
            late: Late::default(),
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
