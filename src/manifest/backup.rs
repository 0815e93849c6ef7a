//! `[backup.<name>]`: a backup policy.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// How data are copied and how long copies are kept. Data are copied while the node runs and sealed after its exit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Backup {
    /// How a copy is made. Default: `"auto"`.
    #[serde(default)]
    #[schemars(example = &"link-copy")]
    pub method: Method,
    /// How fast is copied while the node runs: `"auto"` (half of what the disk can do, at most 200 MiB a second), `"unlimited"`, or so much a second:
    /// A size. Default: `"auto"`.
    #[schemars(example = &"100MiB")]
    pub rate: Option<String>,
    /// What happens when an upgrade is due and the copy is not ready. Default: `"wait"`.
    #[serde(default)]
    #[schemars(example = &"stop-anyway")]
    pub late: Late,
    /// So much of the disk stays free beside the copy; a copy that would take of it is given up. A size. Default: `"1GiB"`.
    #[schemars(example = &"20GiB")]
    pub reserve: Option<String>,
    /// The copy is also packed into one file, once the node runs again. Default: it is not.
    #[schemars(example = json!({ "format": "tar.zst", "level": 3 }))]
    pub archive: Option<Archive>,
    /// Absolute path of the directory that archives go to, each node's into one of its name. Default: `backups/archive` in the root.
    #[schemars(example = &"/mnt/backups")]
    pub to: Option<String>,
    /// Which generations are kept, and which archives of this policy. Default: the last 3.
    #[serde(default)]
    #[schemars(example = json!({ "last": 3, "within": "7d" }))]
    pub keep: BackupKeep,
}

/// One compressed file of a copy: mode 0600; unless it is encrypted, the same bytes for the same copy, read by any tar.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Archive {
    /// How it is packed. Default: `"tar.zst"`.
    #[serde(default)]
    #[schemars(example = &"tar.zst")]
    pub format: ArchiveFormat,
    /// How hard it is compressed; of `"tar.gz"` at most 9. Default: 3.
    #[schemars(example = 3, range(min = 1, max = 19))]
    pub level: Option<i32>,
    /// Public keys that it is encrypted to with `age`, which has to be there: `age1…` or an SSH key. Default: it is not encrypted.
    #[serde(default)]
    #[schemars(example = &["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"])]
    pub recipients: Vec<String>,
}

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum ArchiveFormat {
    /// `"tar.zst"`: tar and zstd.
    #[default]
    #[serde(rename = "tar.zst")]
    TarZst,
    /// `"tar.gz"`: tar and gzip.
    #[serde(rename = "tar.gz")]
    TarGz,
}

/// How a file gets into a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// `"auto"`: the first of the others that can be had, found by trying.
    #[default]
    Auto,
    /// `"snapshot"`: of data that are a btrfs subvolume or a link to a ZFS dataset, by the program `btrfs` or `zfs`.
    Snapshot,
    /// `"reflink"`: each file shares its blocks with the copy, as XFS and btrfs can do.
    Reflink,
    /// `"link-copy"`: files that `data.immutable` or the profile names get a second name, all others are copied.
    LinkCopy,
    /// `"copy"`: every file is copied.
    Copy,
}

/// What happens when an upgrade is due and the copy is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// `"wait"`: the upgrade waits for the copy.
    #[default]
    Wait,
    /// `"stop-anyway"`: the node is stopped, and the rest is copied while it is down.
    StopAnyway,
    /// `"skip-upgrade"`: the upgrade is given up, until `visor upgrade retry`.
    SkipUpgrade,
}

/// Which generations are kept: all that one of these names, and always the newest verified one of each release.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackupKeep {
    /// How many sealed generations, the newest first. Default: 3.
    #[schemars(example = 3, range(min = 1, max = 1000))]
    pub last: Option<u32>,
    /// Those that are younger. A duration. Default: none.
    #[schemars(example = &"7d")]
    pub within: Option<String>,
}
