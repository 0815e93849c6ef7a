//! Where the upgrades of a node stand, whatever the chain says.

use super::compile::upgrade_digest;
use super::observed::Observed;
use crate::check::{DesiredNode, DesiredUpgrade};
use crate::model::{Name, Release};
use std::collections::{HashMap, HashSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A run committed it.
    Applied,
    /// Its height, or a later member of its batch, is behind the current release.
    Passed,
    /// It failed, and is not tried again.
    Failed,
    Open,
}

/// What is looked up for every upgrade of a node.
pub struct Standings<'a> {
    upgrades: HashMap<&'a Name, &'a DesiredUpgrade>,
    /// Applied by a run, or current.
    applied: HashSet<&'a Name>,
    /// The digests that failed, by upgrade.
    denied: HashSet<(&'a Name, &'a str)>,
    /// Upgrades of lower heights are behind the current release: below and at its own height where the set has it, below it where only
    /// the runs know it, for what has the same height then takes its place.
    ahead: Option<u64>,
    platform: &'a str,
}

impl<'a> Standings<'a> {
    pub fn new(node: &'a DesiredNode, observed: &'a Observed, platform: &'a str) -> Self {
        let upgrades: HashMap<&Name, &DesiredUpgrade> =
            node.upgrades.iter().map(|u| (&u.name, u)).collect();
        let current = match observed.current.known() {
            Some(Some(Release::Upgrade(name))) => Some(name),
            _ => None,
        };
        let denied = observed.denied.iter();
        Self {
            ahead: current
                .and_then(|c| upgrades.get(c)?.trigger.height())
                .map(|height| height.saturating_add(1))
                .or(observed.reached),
            applied: observed
                .applied
                .iter()
                .map(|a| &a.name)
                .chain(current)
                .collect(),
            denied: denied.map(|d| (&d.upgrade, d.digest.as_str())).collect(),
            upgrades,
            platform,
        }
    }

    /// Where an upgrade stands.
    pub fn of(&self, upgrade: &DesiredUpgrade) -> Standing {
        if self.applied.contains(&upgrade.name) {
            return Standing::Applied;
        }
        let heights = upgrade.trigger.height().zip(self.ahead);
        let is_behind = heights.is_some_and(|(height, ahead)| height < ahead);
        let mut later = upgrade.batch.iter().flat_map(|b| b.after());
        if is_behind || later.any(|name| self.applied.contains(name)) {
            return Standing::Passed;
        }
        let is_denied = || {
            let digest = upgrade_digest(upgrade, upgrade.artifact.file(self.platform)?);
            Some(self.denied.contains(&(&upgrade.name, digest.as_str())))
        };
        let may_be = self.denied.iter().any(|(name, _)| **name == upgrade.name);
        if may_be && is_denied() == Some(true) {
            Standing::Failed
        } else {
            Standing::Open
        }
    }

    /// The member of the batch that holds an upgrade back: the first before it that is neither applied nor passed.
    pub fn holder(&self, upgrade: &DesiredUpgrade) -> Option<(&'a Name, Standing)> {
        let before = upgrade.batch.iter().flat_map(|b| b.before());
        before
            .filter_map(|name| self.upgrades.get(name))
            .map(|u| (&u.name, self.of(u)))
            .find(|(_, stands)| matches!(stands, Standing::Failed | Standing::Open))
    }
}
