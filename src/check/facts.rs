//! What the rules of one file leave for those of the whole set: names, references, and little more.
//!
//! With tens of thousands of files it matters that nothing else is kept: the typed objects and the places of a file are gone
//! before the next one is read.

use super::desired::{Artifact, DesiredBatch, DesiredNode};
use super::hooks::HookParts;
use super::upgrades::UpgradeParts;
use crate::diag::{Finding, Place};
use crate::manifest::{Blind, Kinds, ObjectKind, Selector};
use crate::model::BackupSpec;
use std::path::PathBuf;

/// One file. The parts of `Desired` are there only when they are wanted.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) findings: Vec<Finding>,
    pub(super) references: Vec<Reference>,
    pub(super) names_unknown: Kinds,
    pub(super) mentioned: Vec<String>,
    pub(super) blind: Vec<Blind>,
    /// Programs of the set whose mode is wrong, where they are named.
    pub(super) programs: Vec<(String, Mode, Place)>,
    pub(super) nodes: Vec<NodeFacts>,
    pub(super) upgrades: Vec<UpgradeFacts>,
    pub(super) batches: Vec<BatchFacts>,
    pub(super) artifacts: Vec<(String, Artifact)>,
    pub(super) hooks: Vec<(String, HookParts)>,
    pub(super) backups: Vec<(String, BackupSpec)>,
}

impl Facts {
    /// Gives back the room that lists keep for more: most files hold one object of a kind.
    pub(super) fn shrink(&mut self) {
        self.findings.shrink_to_fit();
        self.references.shrink_to_fit();
        self.nodes.shrink_to_fit();
        self.upgrades.shrink_to_fit();
    }
}

/// What is wrong with a program's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    NotExecutable,
    WritableByAll,
}

/// A place that names an object.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) kind: ObjectKind,
    pub(super) name: String,
    /// Nowhere when it was stood in for: nothing is said.
    pub(super) place: Place,
    /// The node of the file that needs it.
    pub(super) node: Option<usize>,
}

#[derive(Debug)]
pub(super) struct NodeFacts {
    pub(super) name: String,
    /// Of its name.
    pub(super) place: Place,
    pub(super) home: Place,
    /// Root and data, where they can be.
    pub(super) dirs: Option<[PathBuf; 2]>,
    /// In their order.
    pub(super) labels: Vec<(String, String)>,
    pub(super) has_chain: bool,
    /// Nothing was wrong with its `chain`, or with its `labels`.
    pub(super) chain_is_sound: bool,
    pub(super) labels_are_sound: bool,
    /// Labels whose value is stood in for.
    pub(super) odd_labels: Vec<String>,
    /// Something was said of it.
    pub(super) is_unsound: bool,
    pub(super) genesis: Option<String>,
    pub(super) parts: Option<Box<DesiredNode>>,
}

impl NodeFacts {
    pub(super) fn label(&self, key: &str) -> Option<&String> {
        let found = self.labels.binary_search_by(|(k, _)| k.as_str().cmp(key));
        found.ok().map(|i| &self.labels[i].1)
    }
}

#[derive(Debug)]
pub(super) struct UpgradeFacts {
    pub(super) name: String,
    /// The height that it waits for, and where that stands.
    pub(super) height: Option<(u64, Place)>,
    /// Blocks that its health takes to show.
    pub(super) blocks: u64,
    pub(super) nodes: Option<Selector>,
    pub(super) nodes_at: Place,
    pub(super) parts: Option<Box<UpgradeParts>>,
}

#[derive(Debug)]
pub(super) struct BatchFacts {
    pub(super) name: String,
    pub(super) members: Vec<(String, Place)>,
    pub(super) parts: Option<Box<DesiredBatch>>,
}
