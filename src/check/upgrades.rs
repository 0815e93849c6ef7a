//! Upgrades: triggers, references, selectors, and heights that are given twice.

use super::desired::{Artifact, DesiredHook, DesiredNode, DesiredUpgrade};
use super::hooks::HookParts;
use super::nodes::NodeParts;
use super::releases::DEFAULT_KEEP_LAST;
use super::run::Rules;
use crate::diag::{Code, Finding, Place};
use crate::manifest::{self, Object, ObjectKind, Selector, Upgrade};
use crate::model::{BackupSpec, ChainSpec, HealthSpec, HookPhase, Name, OnFailure, Trigger};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Blocks that the head must rise before a release counts as healthy.
const DEFAULT_BLOCKS: u64 = 2;

/// An upgrade of a node, in the order of heights.
pub(super) struct AtHeight {
    height: u64,
    blocks: u64,
    upgrade: String,
    place: Place,
}

/// An upgrade without what depends on its node.
struct UpgradeParts<'a> {
    object: &'a Object<Upgrade>,
    name: Name,
    trigger: Option<Trigger>,
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
        let index = NodeIndex::new(&nodes);
        let mut said_no_chain: BTreeSet<&str> = BTreeSet::new();
        for object in &loaded.upgrades {
            let Some(parts) = self.upgrade(object, artifacts, hooks, backups) else {
                continue;
            };
            for i in self.select(object, &nodes, &index) {
                let node = &mut nodes[i];
                let chain = &node.desired.spec.chain;
                if let Some(Trigger::Height(height)) = parts.trigger {
                    let place = loaded.at(object, "/trigger/height");
                    let has_none = *chain == ChainSpec::None && node.chain_is_sound;
                    if has_none && said_no_chain.insert(&object.name) {
                        let message = format!(
                            "a height is awaited, and node \"{}\" has no chain to ask",
                            node.object.name
                        );
                        let help = "Give the node a `chain`, or let the upgrade be `trigger = { manual = true }`.";
                        let finding = Finding::error(Code::BadChain, place.clone(), message, help);
                        self.push(finding.with(loaded.name_of(node.object), "this node"));
                    }
                    if !place.is_nowhere() {
                        node.heights.push(AtHeight {
                            height,
                            blocks: parts.object.value.health.blocks.unwrap_or(DEFAULT_BLOCKS),
                            upgrade: object.name.clone(),
                            place,
                        });
                    }
                }
                let evm = *chain != ChainSpec::None;
                if let Some((artifact, trigger)) = parts.artifact.clone().zip(parts.trigger.clone())
                {
                    node.desired
                        .upgrades
                        .push(parts.for_node(artifact, trigger, evm));
                }
            }
        }
        self.heights(&mut nodes);
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

    /// Two upgrades of one node: not at one height, and not so near that the first cannot be confirmed before the second.
    fn heights(&mut self, nodes: &mut [NodeParts<'_>]) {
        let mut said: BTreeSet<(String, String)> = BTreeSet::new();
        for node in nodes {
            node.heights.sort_by(|a, b| {
                (a.height, &a.upgrade, &a.place).cmp(&(b.height, &b.upgrade, &b.place))
            });
            for pair in node.heights.windows(2) {
                let [first, second] = pair else { continue };
                let apart = second.height - first.height;
                let names = (first.upgrade.clone(), second.upgrade.clone());
                // An upgrade that is defined twice is one mistake, and said already.
                if apart > first.blocks || names.0 == names.1 || !said.insert(names) {
                    continue;
                }
                let node = &node.object.name;
                let (height, place) = (second.height, second.place.clone());
                let finding = if apart == 0 {
                    Finding::error(
                        Code::SameHeight,
                        place,
                        format!("two upgrades of node \"{node}\" at height {height}"),
                        "Give one of them another height, or take it out.",
                    )
                } else {
                    let (blocks, name) = (first.blocks, &first.upgrade);
                    Finding::error(
                        Code::TooClose,
                        place,
                        format!(
                            "height {height} comes {apart} blocks after upgrade \"{name}\" of node \"{node}\", whose health takes {blocks} blocks to show"
                        ),
                        format!(
                            "Leave more than {blocks} blocks between them, or ask for fewer in `health.blocks`."
                        ),
                    )
                };
                self.push(finding.with(first.place.clone(), "the other one"));
            }
        }
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
                self.no_backup(object);
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
            trigger,
            artifact: artifacts.get(&upgrade.artifact).cloned(),
            backup,
            hooks: wanted,
            within,
            alive,
            place: self.place_text(&loaded.name_of(object)),
        })
    }

    /// An upgrade that keeps no copy of the data: worse where a hook is sure to write to them.
    fn no_backup(&mut self, object: &Object<Upgrade>) {
        let (loaded, name, upgrade) = (self.loaded, &object.name, &object.value);
        let place = loaded.at(object, "/backup");
        if upgrade.on_failure == manifest::OnFailure::RollBack
            && !upgrade.hooks.pre_upgrade.is_empty()
        {
            let message = format!(
                "upgrade \"{name}\" is to be rolled back, and what its pre-upgrade hooks do to the data cannot be"
            );
            let help = "Leave `backup` out for the default policy, or say `on-failure = \"hold\"`.";
            let finding = Finding::warning(Code::NoWayBack, place, message, help);
            self.push(finding.with(loaded.at(object, "/hooks/pre-upgrade"), "these hooks"));
            return;
        }
        let message = format!(
            "upgrade \"{name}\" keeps no copy of the data: a roll-back cannot put them back"
        );
        let help = "Leave `backup` out for the default policy; keep \"none\" if that is meant.";
        self.push(Finding::warning(Code::NoBackup, place, message, help));
    }

    /// The nodes that an upgrade is for.
    fn select(
        &mut self,
        object: &Object<Upgrade>,
        nodes: &[NodeParts<'_>],
        index: &NodeIndex,
    ) -> Vec<usize> {
        let loaded = self.loaded;
        let Some(Selector { names, labels }) = &object.value.nodes else {
            return (0..nodes.len()).collect();
        };
        let mut dangling = false;
        for (i, name) in names.iter().flatten().enumerate() {
            dangling |=
                !self.is_named(ObjectKind::Node, name) || self.is_broken(ObjectKind::Node, name);
            let place = loaded.at(object, &format!("/nodes/names/{i}"));
            self.dangling(ObjectKind::Node, name, place);
        }
        let fits = |i: &usize| {
            let node = nodes[*i].object;
            let by_name = names
                .as_ref()
                .is_none_or(|names| names.contains(&node.name));
            let has = |(key, value): (&String, &String)| node.value.labels.get(key) == Some(value);
            by_name && labels.as_ref().is_none_or(|labels| labels.iter().all(has))
        };
        // Only those that some part of the selector names can fit.
        let mut some: Vec<usize> = match (names, labels.as_ref().and_then(|l| l.iter().next())) {
            (Some(names), _) => names
                .iter()
                .filter_map(|n| index.names.get(n))
                .flatten()
                .copied()
                .collect(),
            (None, Some((key, value))) => {
                let key = (key.clone(), value.clone());
                index.labels.get(&key).cloned().unwrap_or_default()
            }
            (None, None) => (0..nodes.len()).collect(),
        };
        some.sort_unstable();
        some.dedup();
        some.retain(fits);
        let unsure = loaded.names_unknown
            || index.some_patched
            || loaded
                .broken
                .iter()
                .any(|(kind, _)| *kind == ObjectKind::Node);
        if some.is_empty() && !dangling && !unsure {
            let help = "Correct names or labels, or leave `nodes` out for every node of the set.";
            self.push(Finding::error(
                Code::NoMatch,
                loaded.at(object, "/nodes"),
                format!("upgrade \"{}\" selects no node", object.name),
                help,
            ));
        }
        some
    }
}

/// Nodes by what upgrades select them by.
struct NodeIndex {
    names: HashMap<String, Vec<usize>>,
    labels: HashMap<(String, String), Vec<usize>>,
    /// Some node's labels could not be read.
    some_patched: bool,
}

impl NodeIndex {
    fn new(nodes: &[NodeParts<'_>]) -> Self {
        let mut out = Self {
            names: HashMap::new(),
            labels: HashMap::new(),
            some_patched: nodes.iter().any(|n| !n.labels_are_sound),
        };
        for (i, node) in nodes.iter().enumerate() {
            out.names
                .entry(node.object.name.clone())
                .or_default()
                .push(i);
            for (key, value) in &node.object.value.labels {
                out.labels
                    .entry((key.clone(), value.clone()))
                    .or_default()
                    .push(i);
            }
        }
        out
    }
}

impl UpgradeParts<'_> {
    fn for_node(&self, artifact: Artifact, trigger: Trigger, evm: bool) -> DesiredUpgrade {
        let default_alive = Duration::from_secs(if evm { 2 } else { 10 }).min(self.within);
        DesiredUpgrade {
            name: self.name.clone(),
            trigger,
            artifact,
            backup: self.backup.clone(),
            hooks: self.hooks.clone(),
            health: HealthSpec {
                within: self.within,
                blocks: self.object.value.health.blocks.unwrap_or(DEFAULT_BLOCKS),
                alive: self.alive.unwrap_or(default_alive),
            },
            on_failure: match self.object.value.on_failure {
                manifest::OnFailure::RollBack => OnFailure::RollBack,
                manifest::OnFailure::Hold => OnFailure::Hold,
            },
            batch: None,
            place: self.place.clone(),
        }
    }
}
