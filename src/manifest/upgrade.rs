//! `[upgrade.<name>]`: a wish to be at a release from a trigger on.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Be at this release from this trigger on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Upgrade {
    /// When it may begin: exactly one kind.
    #[schemars(example = json!({ "height": 1_000_000 }))]
    pub trigger: Trigger,
    /// The artifact of the release.
    #[schemars(example = &"gethd-v2")]
    pub artifact: String,
    /// Which nodes it is for. Default: all of the set.
    #[schemars(example = json!({ "labels": { "network": "mainnet" } }))]
    pub nodes: Option<Selector>,
    /// The backup policy, or `"none"`. Default: a backup, of which the last 3 are kept.
    #[schemars(example = &"pre-upgrade")]
    pub backup: Option<String>,
    /// Hooks by phase. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "pre-stop": ["check-disk"] }))]
    pub hooks: Hooks,
    /// When the new release counts as healthy. Default: within 3 minutes, 2 blocks.
    #[serde(default)]
    #[schemars(example = json!({ "within": "3m", "blocks": 5 }))]
    pub health: Health,
    /// What happens when it does not become healthy. Default: `"roll-back"`.
    #[serde(default)]
    #[schemars(example = &"hold")]
    pub on_failure: OnFailure,
}

/// When an upgrade may begin: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trigger {
    /// With the first head at or above this height. Default: none.
    #[schemars(example = 1_000_000, range(min = 1))]
    pub height: Option<u64>,
    /// `true`: with `visor upgrade approve`. Default: none.
    #[schemars(example = true)]
    pub manual: Option<bool>,
}

/// Selects nodes: all that are given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Selector {
    /// Names of nodes. Default: any.
    #[schemars(example = ["node-1"])]
    pub names: Option<Vec<String>>,
    /// Labels that a node must have. Default: any.
    #[schemars(example = BTreeMap::from([("network", "mainnet")]))]
    pub labels: Option<BTreeMap<String, String>>,
}

/// Names of hooks by phase, each run in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hooks {
    /// Early, while the node runs. Default: none.
    #[serde(default)]
    #[schemars(example = ["pull-config"])]
    pub prepare: Vec<String>,
    /// When all gates but the chain's are open, while the node runs: a failure costs no outage. Default: none.
    #[serde(default)]
    #[schemars(example = ["check-disk"])]
    pub pre_stop: Vec<String>,
    /// While the node is down, after the backup is sealed. Default: none.
    #[serde(default)]
    #[schemars(example = ["migrate"])]
    pub pre_upgrade: Vec<String>,
    /// After the commit. A failure is told and changes nothing. Default: none.
    #[serde(default)]
    #[schemars(example = ["tell-team"])]
    pub post_upgrade: Vec<String>,
    /// After a roll-back. A failure is told and changes nothing. Default: none.
    #[serde(default)]
    #[schemars(example = ["tell-team"])]
    pub on_failure: Vec<String>,
}

/// When a new release counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Health {
    /// All must hold within this time of the start. A duration. Default: `"3m"`.
    #[schemars(example = &"3m")]
    pub within: Option<String>,
    /// Blocks that the head must rise, and at least to where the old release stopped. Default: 2.
    #[schemars(example = 5, range(max = 10_000))]
    pub blocks: Option<u64>,
    /// How long the process must have lived. A duration. Default: `"2s"`, and `"10s"` with chain `none`.
    #[schemars(example = &"10s")]
    pub alive: Option<String>,
}

/// What happens when a release does not become healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// `"roll-back"`: back to the old release, and to the old data if anything wrote to them.
    #[default]
    RollBack,
    /// `"hold"`: the new release is left as it is, and a person decides.
    Hold,
}
