//! `[backup.<name>]`: a backup policy.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// How long copies of the data are kept. Data are copied while the node runs and sealed after its exit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Backup {
    /// Which generations are kept. Default: the last 3.
    #[serde(default)]
    #[schemars(example = json!({ "last": 3 }))]
    pub keep: BackupKeep,
}

/// Which generations are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackupKeep {
    /// How many sealed generations, the newest first. Default: 3.
    #[schemars(example = 3, range(min = 1, max = 1000))]
    pub last: Option<u32>,
}
