//! `process` of a node: what its process is given before it becomes the node.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Attributes of the node's process. What is not said is as visor has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Process {
    /// The user it runs as, with that user's groups; visor has to run as root for that. Default: visor's own.
    #[schemars(example = &"geth")]
    pub user: Option<String>,
    /// Its first group. Default: the user's.
    #[schemars(example = &"geth")]
    pub group: Option<String>,
    /// The file mode creation mask, in octal. Default: visor's own.
    #[schemars(example = &"0027")]
    pub umask: Option<String>,
    /// Resource limits. Default: visor's own.
    #[serde(default)]
    #[schemars(example = json!({ "nofile": "65536" }))]
    pub limits: Limits,
    /// Absolute paths of files with further variables, a `NAME=value` a line. They win over `env`, are read at each start, and what they
    /// say is written down nowhere: the place for secrets. Default: none.
    #[serde(default)]
    #[schemars(example = ["/etc/visor/geth.env"])]
    pub env_files: Vec<String>,
    /// Absolute path of the working directory. Default: the node's `home`.
    #[schemars(example = &"/var/lib/geth")]
    pub working_directory: Option<String>,
    /// The priority of its CPU time: -20 comes first, 19 last. Default: visor's own.
    #[schemars(range(min = -20, max = 19), example = 5)]
    pub nice: Option<i32>,
    /// The priority of its disk: `"realtime:0"` to `"realtime:7"`, `"best-effort:0"` to `"best-effort:7"`, or `"idle"`; 0 comes
    /// first. Needs the program `ionice`. Default: visor's own.
    #[schemars(example = &"best-effort:2")]
    pub io: Option<String>,
    /// How soon the kernel kills it when memory runs out: -1000 never, 1000 first. Default: visor's own.
    #[schemars(range(min = -1000, max = 1000), example = -500)]
    pub oom_score: Option<i32>,
    /// The CPUs it may use, as a list of numbers and ranges. Default: visor's own.
    #[schemars(example = &"0-3,8")]
    pub cpus: Option<String>,
    /// Limits of the control group that it and its children get; visor has to run where one was delegated to it, as in the
    /// unit of `visor init --systemd`. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "memory-high": "24GiB", "memory-max": "28GiB" }))]
    pub cgroup: Cgroup,
}

/// Limits of a control group, by the names of the kernel's files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cgroup {
    /// Memory beyond which the kernel kills. A size. Default: none.
    #[schemars(example = &"28GiB")]
    pub memory_max: Option<String>,
    /// Memory beyond which the kernel slows the node down and takes its caches back. A size. Default: none.
    #[schemars(example = &"24GiB")]
    pub memory_high: Option<String>,
    /// Swap. A size; `"0B"` is no swap. Default: none.
    #[schemars(example = &"1GiB")]
    pub memory_swap_max: Option<String>,
    /// CPU time in percent of one CPU: `"250%"` is two and a half CPUs. Default: none.
    #[schemars(example = &"250%")]
    pub cpu_max: Option<String>,
    /// The share of CPU time, beside others that want it too. Default: the kernel's, 100.
    #[schemars(range(min = 1, max = 10_000), example = 200)]
    pub cpu_weight: Option<u32>,
    /// The share of the disk, beside others that want it too. Default: the kernel's, 100.
    #[schemars(range(min = 1, max = 10_000), example = 200)]
    pub io_weight: Option<u32>,
    /// Processes and threads, in number. Default: none.
    #[schemars(range(min = 1, max = 4_194_304), example = 4096)]
    pub pids_max: Option<u64>,
}

/// Resource limits: a number, `"infinity"`, or a soft and a hard one as in `"1024:65536"`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Open files. Default: visor's own.
    #[schemars(example = &"65536")]
    pub nofile: Option<String>,
    /// Processes and threads of the user. Default: visor's own.
    #[schemars(example = &"4096")]
    pub nproc: Option<String>,
    /// Bytes of a core dump. Default: visor's own.
    #[schemars(example = &"infinity")]
    pub core: Option<String>,
    /// Bytes of locked memory. Default: visor's own.
    #[schemars(example = &"infinity")]
    pub memlock: Option<String>,
    /// Bytes of address space. Default: visor's own.
    #[schemars(example = &"infinity")]
    pub address_space: Option<String>,
    /// Bytes of the first thread's stack. Default: visor's own.
    #[schemars(example = &"8388608")]
    pub stack: Option<String>,
    /// Bytes of a file. Default: visor's own.
    #[schemars(example = &"infinity")]
    pub file_size: Option<String>,
}
