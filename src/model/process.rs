//! What the node's process is given before it becomes the node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Attributes of the node's process. What is `None`, or empty, is as visor has it. Plans that were made before do without it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProcessSpec {
    /// The user it runs as, with that user's groups.
    pub user: Option<String>,
    /// Its first group; that of the user otherwise.
    pub group: Option<String>,
    pub umask: Option<u32>,
    pub limits: BTreeMap<LimitKind, Limit>,
    /// Files with further variables of its environment. They are read at each start and written down nowhere.
    pub env_files: Vec<PathBuf>,
    /// Its working directory; the node's home otherwise.
    pub working_directory: Option<PathBuf>,
    pub nice: Option<i32>,
    pub io: Option<IoPriority>,
    pub oom_score: Option<i32>,
    /// The CPUs it may use; all for none.
    pub cpus: Vec<u32>,
}

impl ProcessSpec {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A resource limit, as `setrlimit` knows it; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// What is limited.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    Nofile,
    Nproc,
    Core,
    Memlock,
    AddressSpace,
    Stack,
    FileSize,
}

/// The class of I/O, and the level in it: 0 comes first, 7 last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IoPriority {
    Realtime(u8),
    BestEffort(u8),
    Idle,
}
