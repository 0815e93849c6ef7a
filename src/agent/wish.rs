//! What is wanted of one node, read again while visor waits.

use crate::check::{DesiredBatch, DesiredNode, check};
use crate::diag::{Finding, Severity, SourceText, mask};
use crate::host::wall_clock;
use crate::manifest::ManifestSet;
use crate::model::BackupSpec;
use crate::observe::{RootError, find_root};
use crate::source::{SourceError, look_of, read_set};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The wish for one node, and where it comes from.
#[derive(Debug, Clone)]
pub struct Wish {
    /// `None`: the wish was made in memory and does not change.
    dir: Option<PathBuf>,
    pub node: DesiredNode,
    /// The batches of the set that have members for this node.
    pub batches: Vec<DesiredBatch>,
    /// The set's backup policies.
    pub backups: Vec<BackupSpec>,
    /// What the set's directory looked like when it was read; nothing when that proves nothing.
    seen: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum WishError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("the manifest set {} has errors", .dir.display())]
    Findings {
        dir: PathBuf,
        findings: Vec<Finding>,
        files: Vec<SourceText>,
    },
    #[error("the set {} has no node", .0.display())]
    NoNode(PathBuf),
    #[error("the node's root is now {}; that takes a new start of visor", .0.display())]
    RootMoved(PathBuf),
    #[error("the set has the nodes {}; say which with --node or VISOR_NODE", .0.join(", "))]
    WhichNode(Vec<String>),
    #[error("the set has no node \"{name}\"; it has {}", .known.join(", "))]
    UnknownNode { name: String, known: Vec<String> },
}

fn now() -> Duration {
    Duration::from_millis(wall_clock())
}

impl WishError {
    fn findings(mut set: ManifestSet, findings: Vec<Finding>) -> Self {
        mask(&findings, &mut set.files);
        let errors = findings
            .into_iter()
            .filter(|f| f.severity == Severity::Error)
            .collect();
        Self::Findings {
            dir: set.dir,
            findings: errors,
            files: set.files,
        }
    }

    /// The error with its first finding and where that is.
    pub fn describe(&self) -> String {
        let Self::Findings {
            findings, files, ..
        } = self
        else {
            return self.to_string();
        };
        let first = findings.first().map(|f| {
            let file = &files[f.place.file];
            let (line, column) = file.position(f.place.start);
            format!(
                ": {}:{line}:{column} {} {}",
                file.path,
                f.code.as_str(),
                f.message
            )
        });
        format!("{self}{}", first.unwrap_or_default())
    }
}

impl Wish {
    /// Reads and checks a set and picks a node: the named one, or the only one.
    pub fn read(dir: &Path, name: Option<&str>) -> Result<Self, WishError> {
        let seen = look_of(dir, now());
        let set = read_set(dir)?;
        let checked = check(&set);
        match checked.desired {
            Some(desired) => {
                let backups = desired.backups;
                let wish = Self::pick(set.dir, desired.nodes, desired.batches, name)?;
                Ok(Self {
                    seen,
                    backups,
                    ..wish
                })
            }
            None => Err(WishError::findings(set, checked.findings)),
        }
    }

    /// The same for what must work whatever is wrong elsewhere in the set: stopping a node, and looking at it. Says what
    /// is wrong when the node itself could be read.
    pub fn read_node(
        dir: &Path,
        name: Option<&str>,
    ) -> Result<(Self, Option<WishError>), WishError> {
        let set = read_set(dir)?;
        let checked = check(&set);
        let at = set.dir.clone();
        match checked.desired {
            Some(desired) => Ok((Self::pick(at, desired.nodes, desired.batches, name)?, None)),
            None => {
                let complaint = WishError::findings(set, checked.findings);
                match Self::pick(at, checked.sound_nodes, vec![], name) {
                    Ok(wish) => Ok((wish, Some(complaint))),
                    Err(_) => Err(complaint),
                }
            }
        }
    }

    fn pick(
        dir: PathBuf,
        nodes: Vec<DesiredNode>,
        batches: Vec<DesiredBatch>,
        name: Option<&str>,
    ) -> Result<Self, WishError> {
        let known: Vec<String> = nodes.iter().map(|n| n.spec.name.to_string()).collect();
        let mut nodes = nodes.into_iter();
        let node = match name {
            Some(name) => nodes
                .find(|n| n.spec.name.as_str() == name)
                .ok_or_else(|| WishError::UnknownNode {
                    name: name.to_owned(),
                    known,
                })?,
            None if known.len() > 1 => return Err(WishError::WhichNode(known)),
            None => nodes.next().ok_or_else(|| WishError::NoNode(dir.clone()))?,
        };
        let concerns =
            |b: &DesiredBatch| node.upgrades.iter().any(|u| b.upgrades.contains(&u.name));
        let batches = batches.into_iter().filter(concerns).collect();
        let mut wish = Self {
            dir: Some(dir),
            node,
            batches,
            backups: vec![],
            seen: None,
        };
        if !wish.node.root_given {
            wish.node.spec.root = find_root(&wish.node.spec.home)?;
        }
        Ok(wish)
    }

    pub fn fixed(node: DesiredNode) -> Self {
        Self {
            dir: None,
            node,
            batches: vec![],
            backups: vec![],
            seen: None,
        }
    }

    /// False when nothing of the set can have changed since it was read.
    pub fn has_changed(&self) -> bool {
        match &self.dir {
            None => false,
            Some(dir) => self.seen.is_none() || look_of(dir, now()) != self.seen,
        }
    }

    /// Reads the set again, unless it is as it was.
    pub fn refresh_if_changed(&mut self) -> Result<(), WishError> {
        if self.has_changed() {
            self.refresh()
        } else {
            Ok(())
        }
    }

    /// Reads the set again. A set that has become wrong leaves the wish as it was.
    pub fn refresh(&mut self) -> Result<(), WishError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let dir = dir.clone();
        // Until it was read well it is read again.
        self.seen = None;
        let next = Self::read(&dir, Some(self.node.spec.name.as_str()))?;
        if next.node.spec.root != self.node.spec.root {
            return Err(WishError::RootMoved(next.node.spec.root));
        }
        *self = next;
        Ok(())
    }
}
