//! From one wish to one step graph.

use super::step::{Action, Phase, Plan, PlanError, Step, StepId, StepKind};
use crate::check::vars::{expand, node_value, upgrade_value};
use crate::check::{DesiredNode, DesiredUpgrade};
use crate::model::{
    ArtifactSpec, ChainSpec, HookPhase, HookSpec, Launch, NodeSpec, Release, sha256_hex,
};

/// The launch of a node with its variables expanded.
pub fn expand_launch(node: &NodeSpec) -> Launch {
    let value = |text: &String| {
        expand(text, |name| node_value(node, name)).expect("`check` has expanded this before")
    };
    Launch {
        binary: node.launch.binary.clone(),
        args: node.launch.args.iter().map(value).collect(),
        env: node
            .launch
            .env
            .iter()
            .map(|(k, v)| (k.clone(), value(v)))
            .collect(),
        process: node.launch.process.clone(),
    }
}

/// The plan that gives a node its first release.
pub fn compile_install(
    node: &DesiredNode,
    artifact: &ArtifactSpec,
    release: &Release,
) -> Result<Plan, PlanError> {
    let release = release.clone();
    let mut spec = node.spec.clone();
    spec.launch = expand_launch(&node.spec);
    let mut steps = Builder::new(&spec.name.to_string(), "install");
    steps.push(
        Phase::Prepare,
        StepKind::Fetch {
            artifact: artifact.clone(),
            release: release.clone(),
        },
    );
    steps.push(
        Phase::Prepare,
        StepKind::Stage {
            artifact: artifact.clone(),
            release: release.clone(),
        },
    );
    steps.push(
        Phase::Critical,
        StepKind::Switch {
            from: None,
            to: release.clone(),
        },
    );
    steps.push(Phase::Confirm, StepKind::Commit);
    let upgrade = node
        .upgrades
        .iter()
        .find(|u| release == Release::Upgrade(u.name.clone()));
    let trigger = upgrade.map(|u| u.trigger.clone());
    let action = Action::Install { release, trigger };
    Plan::new(spec, action, steps.steps, vec![])
}

/// The plan that takes a node from one release to the next.
pub fn compile_upgrade(
    node: &DesiredNode,
    upgrade: &DesiredUpgrade,
    artifact: &ArtifactSpec,
    from: &Release,
) -> Result<Plan, PlanError> {
    let to = Release::Upgrade(upgrade.name.clone());
    let mut spec = node.spec.clone();
    spec.launch = expand_launch(&node.spec);
    let hooks: Vec<HookSpec> = upgrade
        .hooks
        .iter()
        .map(|h| expand_hook(&h.spec, &node.spec, upgrade))
        .collect();
    let of = |phase: HookPhase| {
        hooks
            .iter()
            .filter(move |h| h.phase == phase)
            .cloned()
            .map(StepKind::Hook)
    };
    let salt = format!("{} {}", upgrade.name, from);

    let mut s = Builder::new(&spec.name.to_string(), &salt);
    s.push(
        Phase::Prepare,
        StepKind::Fetch {
            artifact: artifact.clone(),
            release: to.clone(),
        },
    );
    s.push(
        Phase::Prepare,
        StepKind::Stage {
            artifact: artifact.clone(),
            release: to.clone(),
        },
    );
    s.extend(Phase::Prepare, of(HookPhase::Prepare));
    if let Some(backup) = &upgrade.backup {
        s.push(
            Phase::Prepare,
            StepKind::Precopy {
                backup: backup.clone(),
            },
        );
    }
    s.push(
        Phase::Gate,
        StepKind::Trigger {
            trigger: upgrade.trigger.clone(),
        },
    );
    s.extend(Phase::Gate, of(HookPhase::PreStop));
    if spec.chain != ChainSpec::None {
        s.push(
            Phase::Gate,
            StepKind::ChainSafe {
                chain: spec.chain.clone(),
            },
        );
    }
    s.push(
        Phase::Critical,
        StepKind::Stop {
            policy: spec.stop.clone(),
        },
    );
    if let Some(backup) = &upgrade.backup {
        s.push(
            Phase::Critical,
            StepKind::Seal {
                backup: backup.clone(),
            },
        );
    }
    s.extend(Phase::Critical, of(HookPhase::PreUpgrade));
    s.push(
        Phase::Critical,
        StepKind::Switch {
            from: Some(from.clone()),
            to: to.clone(),
        },
    );
    s.push(Phase::Critical, StepKind::Start);
    s.push(
        Phase::Confirm,
        StepKind::Health {
            health: upgrade.health.clone(),
        },
    );
    s.push(Phase::Confirm, StepKind::Commit);
    // Who is told of the upgrade does not wait until all data are read.
    s.extend(Phase::After, of(HookPhase::PostUpgrade));
    if let Some(backup) = &upgrade.backup {
        s.push(
            Phase::After,
            StepKind::Verify {
                backup: backup.clone(),
            },
        );
        if backup.archive.is_some() {
            s.push(
                Phase::After,
                StepKind::Archive {
                    backup: backup.clone(),
                },
            );
        }
        s.push(
            Phase::After,
            StepKind::Prune {
                backup: backup.clone(),
            },
        );
    }

    let mut u = Builder::new(&spec.name.to_string(), &salt);
    u.push(
        Phase::Undo,
        StepKind::StopNew {
            policy: spec.stop.clone(),
        },
    );
    if upgrade.backup.is_some() {
        u.extend(
            Phase::Undo,
            [
                StepKind::Consume,
                StepKind::CarryKeep,
                StepKind::Exchange,
                StepKind::SetAside,
            ],
        );
    }
    u.push(Phase::Undo, StepKind::SwitchBack { to: from.clone() });
    u.push(Phase::Undo, StepKind::StartOld);
    u.push(
        Phase::Undo,
        StepKind::HealthOld {
            health: upgrade.health.clone(),
        },
    );
    u.extend(Phase::Undo, of(HookPhase::OnFailure));

    let action = Action::Upgrade {
        name: upgrade.name.clone(),
        from: from.clone(),
        to,
        trigger: upgrade.trigger.clone(),
        on_failure: upgrade.on_failure,
        digest: upgrade_digest(upgrade, artifact),
    };
    Plan::new(spec, action, s.steps, u.steps)
}

/// Identity of a resolved upgrade: what it wants, not where it is written. A change of any of it is a new wish.
pub(super) fn upgrade_digest(upgrade: &DesiredUpgrade, artifact: &ArtifactSpec) -> String {
    let hooks: Vec<&HookSpec> = upgrade.hooks.iter().map(|h| &h.spec).collect();
    let all = (
        &upgrade.name,
        &upgrade.trigger,
        &artifact.digest,
        &upgrade.backup,
        hooks,
        &upgrade.health,
        upgrade.on_failure,
    );
    sha256_hex(&serde_json::to_vec(&all).expect("specs hold nothing that JSON cannot say"))
}

fn expand_hook(hook: &HookSpec, node: &NodeSpec, upgrade: &DesiredUpgrade) -> HookSpec {
    let value = |text: &String| {
        expand(text, |name| {
            upgrade_value(node, &upgrade.name, &upgrade.trigger, name)
        })
        .expect("`check` has expanded this before")
    };
    HookSpec {
        run: hook.run.iter().map(value).collect(),
        env: hook
            .env
            .iter()
            .map(|(k, v)| (k.clone(), value(v)))
            .collect(),
        ..hook.clone()
    }
}

/// Chains steps one after the other and names them.
struct Builder {
    node: String,
    salt: String,
    steps: Vec<Step>,
}

impl Builder {
    fn new(node: &str, salt: &str) -> Self {
        Self {
            node: node.to_owned(),
            salt: salt.to_owned(),
            steps: Vec::new(),
        }
    }

    fn push(&mut self, phase: Phase, kind: StepKind) {
        let name = match &kind {
            StepKind::Hook(hook) if hook.phase.as_str() == phase.as_str() => {
                format!("{}/{}", phase.as_str(), hook.name)
            }
            StepKind::Hook(hook) => {
                format!("{}/{}/{}", phase.as_str(), hook.phase.as_str(), hook.name)
            }
            other => format!("{}/{}", phase.as_str(), other.word()),
        };
        let place = self.steps.len();
        let inputs = serde_json::to_string(&kind).expect("specs hold nothing that JSON cannot say");
        let id = sha256_hex(
            format!("{}\0{}\0{name}\0{place}\0{inputs}", self.node, self.salt).as_bytes(),
        );
        let after = self
            .steps
            .last()
            .map(|s| s.id.clone())
            .into_iter()
            .collect();
        self.steps.push(Step {
            id: StepId(id[..16].to_owned()),
            name,
            phase,
            after,
            kind,
        });
    }

    fn extend(&mut self, phase: Phase, kinds: impl IntoIterator<Item = StepKind>) {
        for kind in kinds {
            self.push(phase, kind);
        }
    }
}
