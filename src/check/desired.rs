//! What a valid manifest set asks for: names resolved, durations and digests parsed, variables still to be expanded.

use crate::model::{
    ArtifactSpec, BackupSpec, HealthSpec, HookSpec, Name, NodeSpec, OnFailure, Trigger,
};
use std::path::PathBuf;
use std::sync::Arc;

/// A whole set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    pub dir: PathBuf,
    pub nodes: Vec<DesiredNode>,
    pub batches: Vec<DesiredBatch>,
    /// All backup policies, also those that no upgrade names.
    pub backups: Vec<BackupSpec>,
}

/// Upgrades that are reported on as one, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredBatch {
    pub name: Name,
    pub description: Option<String>,
    pub upgrades: Vec<Name>,
    /// `file:line` of its header.
    pub place: String,
}

/// One node, with everything of the set that concerns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredNode {
    /// `args` and `env` of the launch hold `${…}` still.
    pub spec: NodeSpec,
    /// False: `spec.root` is the default, and one of the peers' directories may take its place.
    pub root_given: bool,
    pub genesis: Option<Artifact>,
    /// Those of a height by height, then the manual ones by name.
    pub upgrades: Vec<DesiredUpgrade>,
    /// The node's program may run as it is in a rehearsal.
    pub rehearse: bool,
    /// The group whose members may speak to the visor that keeps it.
    pub control_group: Option<String>,
    /// `file:line` of its header.
    pub place: String,
}

/// One upgrade, for one node. Its hooks hold `${…}` still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredUpgrade {
    pub name: Name,
    pub trigger: Trigger,
    pub artifact: Artifact,
    /// `None`: the manifest says `backup = "none"`.
    pub backup: Option<BackupSpec>,
    pub hooks: Vec<DesiredHook>,
    pub health: HealthSpec,
    pub on_failure: OnFailure,
    /// The batch that it is a member of.
    pub batch: Option<Membership>,
    /// `file:line` of its header, and of its trigger.
    pub place: String,
    pub trigger_place: String,
}

/// A place in a batch, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub batch: Name,
    /// The members that are for this node too, in order, and which of them it is.
    pub members: Arc<[Name]>,
    pub at: usize,
}

impl Membership {
    /// The members before it.
    pub fn before(&self) -> &[Name] {
        &self.members[..self.at]
    }

    /// The members after it.
    pub fn after(&self) -> &[Name] {
        &self.members[self.at + 1..]
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredHook {
    pub spec: HookSpec,
    /// The hook may run in a rehearsal.
    pub rehearse: bool,
}

/// An artifact's files by platform (`linux/amd64`; `None` fits any).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub name: Name,
    pub files: Vec<(Option<String>, ArtifactSpec)>,
}

impl Artifact {
    /// The file for a platform: an exact one before one that fits any.
    pub fn file(&self, platform: &str) -> Option<&ArtifactSpec> {
        let exact = self
            .files
            .iter()
            .find(|(p, _)| p.as_deref() == Some(platform));
        exact
            .or_else(|| self.files.iter().find(|(p, _)| p.is_none()))
            .map(|(_, f)| f)
    }
}

/// The platform that this visor was built for, in the words of artifact files.
pub fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}
