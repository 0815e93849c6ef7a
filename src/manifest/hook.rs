//! `[hook.<name>]`: a program run at a phase of an upgrade.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// A program and its contract: exit status 0 goes on, anything else is tried again and then fails.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hook {
    /// Program and arguments; no shell. A relative program is a file of the set. `${node.*}`, `${chain.*}`,
    /// `${upgrade.name}` and `${upgrade.height}` are replaced.
    #[schemars(example = ["hooks/check-disk.sh"], length(min = 1))]
    pub run: Vec<String>,
    /// Environment, beside `PATH HOME LANG TZ`, `VISOR_*`, `DAEMON_*` and `UPGRADE_*`. Default: none.
    #[serde(default)]
    #[schemars(example = BTreeMap::from([("LEVEL", "2")]))]
    pub env: BTreeMap<String, String>,
    /// How long one attempt may take; then its process group is killed. A duration. Default: `"60s"`.
    #[schemars(example = &"60s")]
    pub timeout: Option<String>,
    /// Further attempts after a failed one. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "times": 3, "delay": "1s" }))]
    pub retry: Retry,
    /// It must not run twice: a crash of visor inside it needs a person. Default: false.
    #[serde(default)]
    #[schemars(example = true)]
    pub once: bool,
    /// It may run in `visor rehearse`. Default: false.
    #[serde(default)]
    #[schemars(example = true)]
    pub rehearse: bool,
}

/// Further attempts after a failed one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Retry {
    /// How many. Default: 0.
    #[serde(default)]
    #[schemars(example = 3, range(max = 100))]
    pub times: u32,
    /// The pause before each. A duration. Default: `"1s"`.
    #[schemars(example = &"1s")]
    pub delay: Option<String>,
}
