//! Upgrades: triggers, references, selectors, and heights that are given twice.

use super::desired::{Artifact, DesiredHook, DesiredNode, DesiredUpgrade};
use super::hooks::HookParts;
use super::nodes::NodeParts;
use super::releases::DEFAULT_KEEP_LAST;
use super::run::Rules;
use crate::diag::{Code, Finding, Place};
use crate::manifest::{self, Object, ObjectKind, Selector, Upgrade};
use crate::model::{BackupSpec, ChainSpec, HealthSpec, HookPhase, Name, OnFailure, Trigger};
use std::collections::BTreeMap;
use std::time::Duration;

/// An upgrade without what depends on its node.
struct UpgradeParts<'a> {
    object: &'a Object<Upgrade>,
    name: Name,
    trigger: Trigger,
    artifact: Option<Artifact>,
    backup: Option<BackupSpec>,
    hooks: Vec<DesiredHook>,
    within: Duration,
    alive: Option<Duration>,
    place: String,
}

impl Rules<'_> {
    /// Gives each node its genesis and its upgrades.
    pub(super) fn upgrades(
        &mut self,
        mut nodes: Vec<NodeParts<'_>>,
        artifacts: &BTreeMap<String, Artifact>,
        hooks: &BTreeMap<String, HookParts>,
        backups: &BTreeMap<String, BackupSpec>,
    ) -> Vec<DesiredNode> {
        let loaded = self.loaded;
        for node in &mut nodes {
            node.desired.genesis = node
                .object
                .value
                .genesis
                .as_ref()
                .and_then(|g| artifacts.get(g))
                .cloned();
        }
        let mut at_height: BTreeMap<(String, u64), (String, Place)> = BTreeMap::new();
        for object in &loaded.upgrades {
            let Some(parts) = self.upgrade(object, artifacts, hooks, backups) else {
                continue;
            };
            let selected = self.select(object, &nodes);
            for node in nodes
                .iter_mut()
                .filter(|n| selected.contains(&n.object.name))
            {
                let chain = &node.desired.spec.chain;
                if let Trigger::Height(height) = parts.trigger {
                    let place = loaded.at(object, "/trigger/height");
                    if *chain == ChainSpec::None {
                        let message = format!(
                            "a height is awaited, and node \"{}\" has no chain to ask",
                            node.object.name
                        );
                        let help = "Give the node a `chain`, or let the upgrade be `trigger = { manual = true }`.";
                        let finding = Finding::error(Code::BadChain, place.clone(), message, help);
                        self.push(finding.with(loaded.name_of(node.object), "this node"));
                    }
                    let here = (object.name.clone(), place.clone());
                    let there = at_height.insert((node.object.name.clone(), height), here);
                    // An upgrade that is defined twice is one mistake, and said already.
                    if let Some((_, first)) = there.filter(|(name, _)| *name != object.name) {
                        let message = format!(
                            "two upgrades of node \"{}\" at height {height}",
                            node.object.name
                        );
                        let finding = Finding::error(
                            Code::SameHeight,
                            place,
                            message,
                            "Give one of them another height, or take it out.",
                        );
                        self.push(finding.with(first, "the other one"));
                    }
                }
                let evm = *chain != ChainSpec::None;
                if let Some(artifact) = parts.artifact.clone() {
                    node.desired.upgrades.push(parts.for_node(artifact, evm));
                }
            }
        }
        for node in &mut nodes {
            node.desired.upgrades.sort_by_key(|u| {
                let height = if let Trigger::Height(h) = u.trigger {
                    h
                } else {
                    u64::MAX
                };
                (height, u.name.clone())
            });
        }
        nodes.into_iter().map(|n| n.desired).collect()
    }

    fn upgrade<'a>(
        &mut self,
        object: &'a Object<Upgrade>,
        artifacts: &BTreeMap<String, Artifact>,
        hooks: &BTreeMap<String, HookParts>,
        backups: &BTreeMap<String, BackupSpec>,
    ) -> Option<UpgradeParts<'a>> {
        let loaded = self.loaded;
        let name = object.name.parse::<Name>().ok()?;
        let upgrade = &object.value;
        let at = |below: &str| loaded.at(object, below);
        if name.as_str() == "genesis" {
            self.push(Finding::error(
                Code::BadName,
                loaded.name_of(object),
                "`genesis` is the name of the first release",
                "Give the upgrade another name.",
            ));
        }
        self.dangling(ObjectKind::Artifact, &upgrade.artifact, at("/artifact"));
        let trigger = match (upgrade.trigger.height, upgrade.trigger.manual) {
            (Some(height), None) => Some(Trigger::Height(height)),
            (None, Some(true)) => Some(Trigger::Manual),
            (None, Some(false)) => {
                self.push(Finding::error(
                    Code::BadTrigger,
                    at("/trigger/manual"),
                    "`manual = false` says when the upgrade is not to begin, not when it is",
                    "Say `height = …` instead.",
                ));
                None
            }
            (None, None) => {
                self.push(Finding::error(
                    Code::BadTrigger,
                    at("/trigger"),
                    "the trigger is empty",
                    "Say `height = …` or `manual = true`.",
                ));
                None
            }
            (Some(_), Some(_)) => {
                self.push(Finding::error(
                    Code::BadTrigger,
                    at("/trigger"),
                    "the trigger has two kinds, `height` and `manual`",
                    "Keep one of them.",
                ));
                None
            }
        };
        let backup = match upgrade.backup.as_deref() {
            None => Some(BackupSpec {
                name: "default".into(),
                keep_last: DEFAULT_KEEP_LAST,
            }),
            Some("none") => {
                let message = format!(
                    "upgrade \"{name}\" keeps no copy of the data: a roll-back cannot put them back"
                );
                self.push(Finding::warning(
                    Code::NoBackup,
                    at("/backup"),
                    message,
                    "Leave `backup` out for the default policy; keep \"none\" if that is meant.",
                ));
                None
            }
            Some(other) => {
                self.dangling(ObjectKind::Backup, other, at("/backup"));
                backups.get(other).cloned()
            }
        };
        let mut wanted = Vec::new();
        let phases = [
            (HookPhase::Prepare, &upgrade.hooks.prepare),
            (HookPhase::PreStop, &upgrade.hooks.pre_stop),
            (HookPhase::PreUpgrade, &upgrade.hooks.pre_upgrade),
            (HookPhase::PostUpgrade, &upgrade.hooks.post_upgrade),
            (HookPhase::OnFailure, &upgrade.hooks.on_failure),
        ];
        for (phase, names) in phases {
            for (i, name) in names.iter().enumerate() {
                let place = || at(&format!("/hooks/{}/{i}", phase.as_str()));
                self.dangling(ObjectKind::Hook, name, place());
                if names[..i].contains(name) {
                    let message = format!("hook \"{name}\" is named twice in one phase");
                    self.push(Finding::error(
                        Code::Duplicate,
                        place(),
                        message,
                        "Name it once.",
                    ));
                }
                if let Some(parts) = hooks.get(name) {
                    wanted.push(DesiredHook {
                        spec: parts.spec(phase),
                        rehearse: parts.rehearse,
                    });
                }
            }
        }
        let within = self.duration("within", upgrade.health.within.as_deref(), "3m", || {
            at("/health/within")
        });
        let alive = upgrade
            .health
            .alive
            .as_deref()
            .map(|t| self.duration("alive", Some(t), "2s", || at("/health/alive")));
        if alive.is_some_and(|a| a > within) {
            let message = "the process must live longer than the time in which it must be healthy";
            self.push(Finding::error(
                Code::BadDuration,
                at("/health/alive"),
                message,
                "Make `alive` shorter than `within`.",
            ));
        }
        Some(UpgradeParts {
            object,
            name,
            trigger: trigger?,
            artifact: artifacts.get(&upgrade.artifact).cloned(),
            backup,
            hooks: wanted,
            within,
            alive,
            place: self.place_text(&loaded.name_of(object)),
        })
    }

    /// Names of the nodes that an upgrade is for.
    fn select(&mut self, object: &Object<Upgrade>, nodes: &[NodeParts<'_>]) -> Vec<String> {
        let loaded = self.loaded;
        let Some(Selector { names, labels }) = &object.value.nodes else {
            return nodes.iter().map(|n| n.object.name.clone()).collect();
        };
        let mut dangling = false;
        for (i, name) in names.iter().flatten().enumerate() {
            dangling |=
                !self.is_named(ObjectKind::Node, name) || self.is_broken(ObjectKind::Node, name);
            self.dangling(
                ObjectKind::Node,
                name,
                loaded.at(object, &format!("/nodes/names/{i}")),
            );
        }
        let fits = |node: &&NodeParts<'_>| {
            let by_name = names
                .as_ref()
                .is_none_or(|names| names.contains(&node.object.name));
            let has =
                |(key, value): (&String, &String)| node.object.value.labels.get(key) == Some(value);
            by_name && labels.as_ref().is_none_or(|labels| labels.iter().all(has))
        };
        let selected: Vec<String> = nodes
            .iter()
            .filter(fits)
            .map(|n| n.object.name.clone())
            .collect();
        let some_broken = loaded
            .broken
            .iter()
            .any(|(kind, _)| *kind == ObjectKind::Node)
            || loaded.names_unknown;
        if selected.is_empty() && !dangling && !some_broken {
            let help = "Correct names or labels, or leave `nodes` out for every node of the set.";
            self.push(Finding::error(
                Code::NoMatch,
                loaded.at(object, "/nodes"),
                format!("upgrade \"{}\" selects no node", object.name),
                help,
            ));
        }
        selected
    }
}

impl UpgradeParts<'_> {
    fn for_node(&self, artifact: Artifact, evm: bool) -> DesiredUpgrade {
        let default_alive = Duration::from_secs(if evm { 2 } else { 10 }).min(self.within);
        DesiredUpgrade {
            name: self.name.clone(),
            trigger: self.trigger.clone(),
            artifact,
            backup: self.backup.clone(),
            hooks: self.hooks.clone(),
            health: HealthSpec {
                within: self.within,
                blocks: self.object.value.health.blocks.unwrap_or(2),
                alive: self.alive.unwrap_or(default_alive),
            },
            on_failure: match self.object.value.on_failure {
                manifest::OnFailure::RollBack => OnFailure::RollBack,
                manifest::OnFailure::Hold => OnFailure::Hold,
            },
            place: self.place.clone(),
        }
    }
}
