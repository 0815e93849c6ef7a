//! Upgrades: triggers, references, and what they keep to go back to.

use super::desired::{Artifact, DesiredHook, DesiredUpgrade};
use super::facts::UpgradeFacts;
use super::hooks::HookParts;
use super::local::Local;
use crate::diag::{Code, Finding, Place};
use crate::manifest::{self, Object, ObjectKind, Selector, Upgrade};
use crate::model::{BackupSpec, HealthSpec, HookPhase, Name, OnFailure, Trigger};
use foldhash::{HashMap, HashSet, HashSetExt};
use std::time::Duration;

/// Blocks that the head must rise before a release counts as healthy.
const DEFAULT_BLOCKS: u64 = 2;

/// An upgrade before its references are followed and its node is known.
#[derive(Debug)]
pub(super) struct UpgradeParts {
    pub(super) name: Name,
    trigger: Option<Trigger>,
    artifact: String,
    backup: UpgradeBackup,
    hooks: Vec<(HookPhase, String)>,
    within: Duration,
    alive: Option<Duration>,
    blocks: u64,
    on_failure: OnFailure,
    place: String,
    trigger_place: String,
}

/// What an upgrade says of its backup.
#[derive(Debug)]
enum UpgradeBackup {
    Default,
    None,
    Named(String),
}

/// What upgrades name, by name.
pub(super) struct Definitions<'a> {
    pub(super) artifacts: HashMap<&'a str, &'a Artifact>,
    pub(super) hooks: HashMap<&'a str, &'a HookParts>,
    pub(super) backups: HashMap<&'a str, &'a BackupSpec>,
}

impl Local<'_> {
    pub(super) fn upgrades(&mut self) {
        for object in &self.file.upgrades {
            let facts = self.upgrade(object);
            self.facts.upgrades.push(facts);
        }
    }

    fn upgrade(&mut self, object: &Object<Upgrade>) -> UpgradeFacts {
        let loaded = self.file;
        let upgrade = &object.value;
        let at = |below: &str| loaded.at(object, below);
        if object.name == "genesis" {
            self.push(Finding::error(
                Code::BadName,
                loaded.name_of(object),
                "`genesis` is the name of the first release",
                "Give the upgrade another name.",
            ));
        }
        self.refer(ObjectKind::Artifact, &upgrade.artifact, at("/artifact"));
        let trigger = match (upgrade.trigger.height, upgrade.trigger.manual) {
            (Some(height), None) => Some(Trigger::Height(height)),
            (None, Some(true)) => Some(Trigger::Manual),
            (None, Some(false)) => {
                self.push(Finding::error(
                    Code::BadTrigger,
                    at("/trigger/manual"),
                    "a trigger of `manual = false` never fires",
                    "Say `height = …`, or `manual = true`.",
                ));
                None
            }
            // What stands there instead is said already.
            (None, None)
                if at("/trigger/height").is_nowhere() || at("/trigger/manual").is_nowhere() =>
            {
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
            None => UpgradeBackup::Default,
            Some("none") => {
                self.no_backup(object);
                UpgradeBackup::None
            }
            Some(other) => {
                self.refer(ObjectKind::Backup, other, at("/backup"));
                UpgradeBackup::Named(other.to_owned())
            }
        };
        let mut hooks = Vec::new();
        let phases = [
            (HookPhase::Prepare, &upgrade.hooks.prepare),
            (HookPhase::PreStop, &upgrade.hooks.pre_stop),
            (HookPhase::PreUpgrade, &upgrade.hooks.pre_upgrade),
            (HookPhase::PostUpgrade, &upgrade.hooks.post_upgrade),
            (HookPhase::OnFailure, &upgrade.hooks.on_failure),
        ];
        for (phase, names) in phases {
            let mut seen = HashSet::with_capacity(names.len());
            for (i, name) in names.iter().enumerate() {
                let place = || at(&format!("/hooks/{}/{i}", phase.as_str()));
                self.refer(ObjectKind::Hook, name, place());
                if !seen.insert(name) {
                    let message = format!("hook \"{name}\" is named twice in one phase");
                    self.push(Finding::error(
                        Code::Duplicate,
                        place(),
                        message,
                        "Name it once.",
                    ));
                }
                if self.keep {
                    hooks.push((phase, name.clone()));
                }
            }
        }
        let within = self.time_limit("within", upgrade.health.within.as_deref(), "3m", || {
            at("/health/within")
        });
        let alive = upgrade
            .health
            .alive
            .as_deref()
            .map(|t| self.duration("alive", Some(t), "2s", || at("/health/alive")));
        if alive.is_some_and(|a| a > within) {
            let message =
                "`alive` is longer than `within`, the time in which the process must be healthy";
            self.push(Finding::error(
                Code::BadDuration,
                at("/health/alive"),
                message,
                "Make `alive` shorter than `within`.",
            ));
        }
        let selected = upgrade.nodes.iter().flat_map(|s| s.names.iter().flatten());
        for (i, name) in selected.enumerate() {
            self.refer(ObjectKind::Node, name, at(&format!("/nodes/names/{i}")));
        }
        let height = match trigger {
            Some(Trigger::Height(height)) => Some((height, at("/trigger/height"))),
            _ => None,
        };
        let blocks = upgrade.health.blocks.unwrap_or(DEFAULT_BLOCKS);
        let name = object.name.parse().ok().filter(|_| self.keep);
        let parts = name.map(|name| {
            Box::new(UpgradeParts {
                name,
                trigger,
                artifact: upgrade.artifact.clone(),
                backup,
                hooks,
                within,
                alive,
                blocks,
                on_failure: match upgrade.on_failure {
                    manifest::OnFailure::RollBack => OnFailure::RollBack,
                    manifest::OnFailure::Hold => OnFailure::Hold,
                },
                place: self.place_text(&loaded.name_of(object)),
                trigger_place: self.place_text(&at("/trigger")),
            })
        });
        UpgradeFacts {
            name: object.name.clone(),
            height,
            blocks,
            // Whichever they are, they are not all.
            nodes: if at("/nodes").is_nowhere() {
                Some(Selector {
                    names: Some(vec![]),
                    labels: None,
                })
            } else {
                upgrade.nodes.clone()
            },
            // A part of it may be stood in for.
            nodes_at: match loaded.broken_below(object, "/nodes").as_slice() {
                [] => at("/nodes"),
                _ => Place::NOWHERE,
            },
            parts,
        }
    }

    /// An upgrade that keeps no copy of the data: worse where a hook is sure to write to them.
    fn no_backup(&mut self, object: &Object<Upgrade>) {
        let (loaded, name, upgrade) = (self.file, &object.name, &object.value);
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
}

impl UpgradeParts {
    /// The upgrade for one node; `None` when something that it needs is not there, which is said already.
    pub(super) fn resolve(
        &self,
        by_name: &Definitions<'_>,
        has_chain: bool,
    ) -> Option<DesiredUpgrade> {
        let default_alive = Duration::from_secs(if has_chain { 2 } else { 10 }).min(self.within);
        let hook = |(phase, name): &(HookPhase, String)| {
            let parts = by_name.hooks.get(name.as_str())?;
            Some(DesiredHook {
                spec: parts.spec(*phase),
                rehearse: parts.rehearse,
            })
        };
        Some(DesiredUpgrade {
            name: self.name.clone(),
            trigger: self.trigger.clone()?,
            artifact: (*by_name.artifacts.get(self.artifact.as_str())?).clone(),
            backup: self.backup_of(by_name),
            hooks: self.hooks.iter().filter_map(hook).collect(),
            health: HealthSpec {
                within: self.within,
                blocks: self.blocks,
                alive: self.alive.unwrap_or(default_alive),
            },
            on_failure: self.on_failure,
            batch: None,
            place: self.place.clone(),
            trigger_place: self.trigger_place.clone(),
        })
    }

    fn backup_of(&self, by_name: &Definitions<'_>) -> Option<BackupSpec> {
        let policy = match &self.backup {
            UpgradeBackup::None => None,
            UpgradeBackup::Default => Some(BackupSpec::built_in()),
            UpgradeBackup::Named(name) => by_name.backups.get(name.as_str()).copied().cloned(),
        };
        policy.map(|policy| BackupSpec {
            label: Some(format!("pre-upgrade-{}", self.name)),
            ..policy
        })
    }
}
