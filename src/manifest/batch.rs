//! `[batch.<name>]`: upgrades that are validated and reported on as one.

use schemars::JsonSchema;
use serde::Deserialize;

/// An ordered list of upgrades. Each becomes its own run; one that failed or is held holds those after it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Batch {
    /// What the batch is for, for people's eyes. Default: none.
    #[schemars(example = &"Q4 2026 scheduled upgrades")]
    pub description: Option<String>,
    /// Names of upgrades in their order: heights rise from one to the next, and no upgrade is in two batches.
    #[schemars(example = ["v2.0.0", "v2.1.0"], length(min = 1))]
    pub upgrades: Vec<String>,
}
