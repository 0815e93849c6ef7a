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
    /// Limits of the control group that it and its children get. Plans of before know none.
    #[serde(skip_serializing_if = "CgroupLimits::is_none")]
    pub cgroup: CgroupLimits,
}

impl ProcessSpec {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of a control group (cgroup v2), by the names of the kernel's files. What is `None` is left as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CgroupLimits {
    /// Bytes of memory; beyond them the kernel kills.
    pub memory_max: Option<u64>,
    /// Bytes of memory; beyond them the kernel slows down and reclaims.
    pub memory_high: Option<u64>,
    /// Bytes of swap.
    pub memory_swap_max: Option<u64>,
    /// CPU time in percent of one CPU.
    pub cpu_max: Option<u32>,
    /// The share of CPU time, 1 to 10,000.
    pub cpu_weight: Option<u32>,
    /// The share of the disk, 1 to 10,000.
    pub io_weight: Option<u32>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
}

impl CgroupLimits {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Each limit that is set: the kernel's file, whose name begins with that of its controller, and what is written into it.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        /// The length of a period of CPU time in microseconds, the kernel's own default.
        const PERIOD: u64 = 100_000;
        fn number(n: Option<impl ToString>) -> Option<String> {
            n.map(|n| n.to_string())
        }
        let quota = |percent: u32| format!("{} {PERIOD}", u64::from(percent) * PERIOD / 100);
        [
            ("memory.max", number(self.memory_max)),
            ("memory.high", number(self.memory_high)),
            ("memory.swap.max", number(self.memory_swap_max)),
            ("cpu.max", self.cpu_max.map(quota)),
            ("cpu.weight", number(self.cpu_weight)),
            ("io.weight", number(self.io_weight)),
            ("pids.max", number(self.pids_max)),
        ]
        .into_iter()
        .filter_map(|(file, text)| Some((file, text?)))
        .collect()
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
