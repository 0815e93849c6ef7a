//! Steps and plans: what a run will do, in which order, with all inputs resolved.
//!
//! A plan on disk (`plan.json`), shortened:
//!
//! ```json
//! {"version":1,"visor":"0.1.0","digest":"9f…","node":{"name":"demo", …},
//!  "action":{"upgrade":{"name":"v2","from":"genesis", …}},
//!  "steps":[{"id":"5c1e…","name":"prepare/fetch","phase":"prepare","after":[],"kind":{"fetch":{…}}}, …],
//!  "undo":[{"id":"77ab…","name":"undo/stop-new","phase":"undo","after":[],"kind":"stop-new"}, …]}
//! ```

use super::graph;
use crate::model::{
    ArtifactSpec, BackupSpec, ChainSpec, HealthSpec, HookSpec, Name, NodeSpec, OnFailure, Release,
    StopPolicy, Trigger, sha256_hex,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// The format of `plan.json`. 1: first.
pub const PLAN_VERSION: u32 = 1;

/// Stable identity of a step: the first 16 hex digits of SHA-256 over node, action, name and resolved inputs.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct StepId(pub String);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where in a run a step stands. The node is down only in `Critical`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Prepare,
    Gate,
    Critical,
    Confirm,
    After,
    Undo,
}

impl Phase {
    /// The way forward, in order.
    pub(super) const FORWARD: [Self; 5] = [
        Self::Prepare,
        Self::Gate,
        Self::Critical,
        Self::Confirm,
        Self::After,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Gate => "gate",
            Self::Critical => "critical",
            Self::Confirm => "confirm",
            Self::After => "after",
            Self::Undo => "undo",
        }
    }
}

/// Everything visor can do in a run. A closed set; `step/table.rs` says how each is probed and undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Bring the artifact's bytes to the cache and verify them.
    Fetch {
        artifact: ArtifactSpec,
        release: Release,
    },
    /// Give the verified file its place as an executable of the release.
    Stage {
        artifact: ArtifactSpec,
        release: Release,
    },
    /// Run a hook.
    Hook(HookSpec),
    /// Copy the data while the node runs, again and again, until the gates open.
    Precopy { backup: BackupSpec },
    /// Wait for the trigger.
    Trigger { trigger: Trigger },
    /// Wait until the chain is known to be in a state that allows a stop.
    ChainSafe { chain: ChainSpec },
    /// End the node's process and see it gone.
    Stop { policy: StopPolicy },
    /// Copy what changed since the last pre-copy round and seal the generation.
    Seal { backup: BackupSpec },
    /// Point `current` at the new release.
    Switch { from: Option<Release>, to: Release },
    /// Start the node from `current`.
    Start,
    /// Wait until the new release is healthy.
    Health { health: HealthSpec },
    /// The point of no return: from here on nothing is rolled back.
    Commit,
    /// Read all of the sealed generation, compare it with what is unchanged, write its digests down.
    Verify { backup: BackupSpec },
    /// Pack the generation into one file.
    Archive { backup: BackupSpec },
    /// Remove generations that the policy no longer keeps.
    Prune { backup: BackupSpec },
    /// Undo: see the new process gone.
    StopNew { policy: StopPolicy },
    /// Undo: mark the sealed generation as used up.
    Consume,
    /// Undo: carry signer state and other `keep` paths from the live data into the generation.
    CarryKeep,
    /// Undo: exchange the live data directory with the generation's.
    Exchange,
    /// Undo: move the failed data to `failed/`.
    SetAside,
    /// Undo: point `current` at the old release again.
    SwitchBack { to: Release },
    /// Undo: start the old release.
    StartOld,
    /// Undo: wait until the old release is healthy.
    HealthOld { health: HealthSpec },
}

impl StepKind {
    /// The kind's word, as in step names and in the book.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "fetch",
            Self::Stage { .. } => "stage",
            Self::Hook(_) => "hook",
            Self::Precopy { .. } => "precopy",
            Self::Trigger { .. } => "trigger",
            Self::ChainSafe { .. } => "chain-safe",
            Self::Stop { .. } => "stop",
            Self::Seal { .. } => "seal",
            Self::Switch { .. } => "switch",
            Self::Start => "start",
            Self::Health { .. } => "health",
            Self::Commit => "commit",
            Self::Verify { .. } => "verify",
            Self::Archive { .. } => "archive",
            Self::Prune { .. } => "prune",
            Self::StopNew { .. } => "stop-new",
            Self::Consume => "consume",
            Self::CarryKeep => "carry-keep",
            Self::Exchange => "exchange",
            Self::SetAside => "set-aside",
            Self::SwitchBack { .. } => "switch-back",
            Self::StartOld => "start-old",
            Self::HealthOld { .. } => "health-old",
        }
    }

    /// Why nothing takes the step back, where nothing does.
    pub fn irreversible(&self) -> Option<&'static str> {
        match self {
            Self::Hook(_) => Some("what it does is not undone"),
            Self::Commit => Some("from here on nothing is rolled back"),
            Self::Prune { .. } => Some("copies that the policy no longer keeps are gone"),
            _ => None,
        }
    }

    /// True for steps of the way back that a look at the machine finds done or not done: after a power loss they are met again as they are,
    /// so no record of theirs is waited for while the node is down.
    pub fn leaves_evidence(&self) -> bool {
        self.restores_data()
            || matches!(
                self,
                Self::StopNew { .. } | Self::SwitchBack { .. } | Self::StartOld
            )
    }

    /// True for the undo steps that put the sealed data back.
    pub fn restores_data(&self) -> bool {
        matches!(
            self,
            Self::Consume | Self::CarryKeep | Self::Exchange | Self::SetAside
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub id: StepId,
    /// Readable and unique within the plan: `critical/stop`, `gate/pre-stop/check-disk`.
    pub name: String,
    pub phase: Phase,
    pub after: Vec<StepId>,
    pub kind: StepKind,
}

/// What the whole run is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Stage the first release and point `current` at it. The node is not running.
    Install {
        release: Release,
        /// What the release's upgrade waited for, where it has one: upgrades up to its height are behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trigger: Option<Trigger>,
    },
    Upgrade {
        name: Name,
        from: Release,
        to: Release,
        trigger: Trigger,
        on_failure: OnFailure,
        /// Digest of the resolved upgrade for this node; what the deny list remembers.
        digest: String,
    },
}

impl Action {
    pub fn describe(&self) -> String {
        match self {
            Self::Install { release, .. } => format!("install {release}"),
            Self::Upgrade { name, .. } => format!("upgrade {name}"),
        }
    }
}

/// A validated step graph for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    pub version: u32,
    /// The version of visor that made it.
    pub visor: String,
    /// SHA-256 over all the rest.
    pub digest: String,
    pub node: NodeSpec,
    pub action: Action,
    /// In the order in which they run.
    pub steps: Vec<Step>,
    /// In the order in which they run when the run is undone.
    pub undo: Vec<Step>,
}

/// Why a stored plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(
        "the plan is not readable; an unknown step kind means that another version of visor made it"
    )]
    Unreadable(#[source] serde_json::Error),
    #[error("the plan has format version {found}, this visor reads {PLAN_VERSION}")]
    Version { found: u32 },
    #[error("the plan's digest is {found}, its contents have {actual}")]
    Digest { found: String, actual: String },
    #[error("the plan's steps wait for each other: {0}")]
    Cycle(graph::Cycle),
}

impl Plan {
    /// Puts the parts together, orders both graphs and computes the digest.
    pub fn new(
        node: NodeSpec,
        action: Action,
        steps: Vec<Step>,
        undo: Vec<Step>,
    ) -> Result<Self, PlanError> {
        let mut plan = Self {
            version: PLAN_VERSION,
            visor: env!("CARGO_PKG_VERSION").to_owned(),
            digest: String::new(),
            node,
            action,
            steps: ordered(steps)?,
            undo: ordered(undo)?,
        };
        plan.digest = plan.content_digest();
        Ok(plan)
    }

    /// Reads `plan.json`, and refuses one that is newer, edited or not a graph.
    pub fn read(bytes: &[u8]) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let header: Header = serde_json::from_slice(bytes).map_err(PlanError::Unreadable)?;
        if header.version != PLAN_VERSION {
            return Err(PlanError::Version {
                found: header.version,
            });
        }
        let plan: Self = serde_json::from_slice(bytes).map_err(PlanError::Unreadable)?;
        let actual = plan.content_digest();
        if plan.digest != actual {
            return Err(PlanError::Digest {
                found: plan.digest,
                actual,
            });
        }
        ordered(plan.steps.clone())?;
        ordered(plan.undo.clone())?;
        Ok(plan)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plans hold nothing that JSON cannot say")
    }

    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.iter().chain(&self.undo).find(|s| s.id == *id)
    }

    /// The steps of one phase, in order.
    pub fn phase(&self, phase: Phase) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |s| s.phase == phase)
    }

    pub fn backup(&self) -> Option<&BackupSpec> {
        self.steps.iter().find_map(|s| match &s.kind {
            StepKind::Seal { backup } => Some(backup),
            _ => None,
        })
    }

    fn content_digest(&self) -> String {
        let bare = Self {
            digest: String::new(),
            ..self.clone()
        };
        sha256_hex(&bare.to_bytes())
    }
}

fn ordered(steps: Vec<Step>) -> Result<Vec<Step>, PlanError> {
    let names: Vec<&str> = steps.iter().map(|s| s.name.as_str()).collect();
    let places: HashMap<&StepId, usize> = steps.iter().zip(0..).map(|(s, i)| (&s.id, i)).collect();
    let place = |id: &StepId| places.get(id).copied();
    let edges: Vec<(usize, usize)> = steps
        .iter()
        .enumerate()
        .flat_map(|(to, s)| s.after.iter().filter_map(place).map(move |from| (from, to)))
        .collect();
    let order = graph::order(&names, &edges).map_err(PlanError::Cycle)?;
    Ok(order.into_iter().map(|i| steps[i].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, after: &[&str]) -> Step {
        Step {
            id: StepId(name.to_owned()),
            name: name.to_owned(),
            phase: Phase::Prepare,
            after: after.iter().map(|a| StepId((*a).to_owned())).collect(),
            kind: StepKind::Start,
        }
    }

    #[test]
    fn a_cycle_is_named_by_the_path_of_names() {
        let steps = vec![
            step("a", &["c"]),
            step("b", &["a"]),
            step("c", &["b"]),
            step("d", &[]),
        ];
        let error = ordered(steps).expect_err("a cycle");
        assert_eq!(
            error.to_string(),
            "the plan's steps wait for each other: a → b → c → a"
        );
    }
}
