//! A person's word about a step that visor could not prove.

use serde::{Deserialize, Serialize};

/// What a person said about a stuck step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It has happened: go on after it.
    Done,
    /// It has not happened: do it again.
    NotDone,
    /// Leave the machine as it is and close the run.
    GiveUp,
    /// Undo the run: back to the old release.
    RollBack,
}
