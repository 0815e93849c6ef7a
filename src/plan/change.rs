//! What a change means for the node: why it is made, what comes before it, what it risks.

use super::observed::{MeasuredOutage, Observed};
use super::step::{Phase, Plan, StepKind};
use crate::check::{DesiredNode, DesiredUpgrade};
use crate::model::{
    BackupSpec, ChainSpec, CopyFacts, HookPhase, HookSpec, Late, Method, Name, OnFailure, Release,
    SecondRoot, rfc3339,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// An open run goes on.
    Resume,
    Install,
    Start,
    Upgrade,
}

/// Something that will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    pub kind: ChangeKind,
    pub upgrade: Option<Name>,
    pub what: String,
    pub why: Vec<Reason>,
    /// What must have happened before the node is touched, in order.
    pub first: Vec<String>,
    /// How the data are copied here, why not in a better way, and what happens when the copy is late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copy: Vec<String>,
    pub risk: Risk,
}

/// A fact that asks for a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    pub fact: String,
    /// `file:line` of the wish that it meets.
    pub place: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Risk {
    pub outage: Outage,
    /// Steps that no roll-back takes back, and why.
    pub irreversible: Vec<String>,
    /// What happens when the new release is bad.
    pub roll_back: String,
}

/// How long the node will not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outage {
    /// What it is made of, in order; nothing when there is none, and of a run in the midst of its change.
    pub parts: Vec<OutagePart>,
    /// What the parts took in the last upgrade of this node, when there was one. Milliseconds.
    pub estimate_ms: Option<u64>,
    /// The upgrade that was measured, and when.
    pub measured: Option<String>,
    /// When every limit is used up; later than that the run is stuck or rolled back. Milliseconds.
    pub limit_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutagePart {
    pub what: String,
    pub estimate_ms: Option<u64>,
    pub limit_ms: Option<u64>,
}

impl Outage {
    pub(super) fn none() -> Self {
        Self {
            parts: vec![],
            estimate_ms: None,
            measured: None,
            limit_ms: None,
        }
    }
}

impl Change {
    /// A change that takes no node down.
    pub(super) fn harmless(kind: ChangeKind, what: String, why: Reason) -> Self {
        Self {
            kind,
            upgrade: None,
            what,
            why: vec![why],
            first: vec![],
            copy: vec![],
            risk: Risk {
                outage: Outage::none(),
                irreversible: vec![],
                roll_back: String::new(),
            },
        }
    }
}

/// An upgrade that is due. `seen` is what opened its trigger.
pub(super) fn upgrade_change(
    node: &DesiredNode,
    upgrade: &DesiredUpgrade,
    plan: &Plan,
    from: &Release,
    seen: String,
    observed: &Observed,
) -> Change {
    let fact = if node.spec.chain == ChainSpec::None {
        seen
    } else {
        format!("{seen} ({})", upgrade.trigger)
    };
    let mut why = vec![
        Reason {
            fact,
            place: Some(upgrade.trigger_place.clone()),
        },
        Reason {
            fact: format!("the current release is {from}"),
            place: Some(upgrade.place.clone()),
        },
    ];
    let tried = observed.last_abandoned.as_ref();
    if let Some((_, at, cause)) = tried.filter(|(name, ..)| *name == upgrade.name) {
        why.push(Reason {
            fact: format!("the last try, at {}, was given up: {cause}", rfc3339(*at)),
            place: None,
        });
    }
    Change {
        kind: ChangeKind::Upgrade,
        upgrade: Some(upgrade.name.clone()),
        what: format!("upgrade from {from} to {}", upgrade.name),
        why,
        first: first(plan),
        copy: upgrade
            .backup
            .as_ref()
            .zip(observed.copy.as_ref())
            .map_or(vec![], |(backup, facts)| copy(backup, facts)),
        risk: Risk {
            outage: outage(plan, observed),
            irreversible: irreversible(plan),
            roll_back: roll_back(upgrade, from),
        },
    }
}

/// How the data are copied.
fn copy(backup: &BackupSpec, facts: &CopyFacts) -> Vec<String> {
    let method = backup.method.unwrap_or_else(|| facts.best());
    let size = |bytes| bytesize::ByteSize(bytes);
    let need = facts
        .need(method)
        .map_or_else(|| "all others".to_owned(), |n| size(n).to_string());
    let how = match method {
        Method::Snapshot => "a snapshot of the data".to_owned(),
        Method::Reflink => "each file shares its blocks with the copy".to_owned(),
        Method::LinkCopy => format!("files that never change are linked, {need} are copied"),
        Method::Copy => match facts.need(method) {
            Some(_) => format!("{need} are copied"),
            None => "all files are copied".to_owned(),
        },
    };
    let mut lines = vec![format!(
        "{}: {how}; {} of the disk stay free",
        method.as_str(),
        size(backup.reserve)
    )];
    let better = facts.ladder.iter().take_while(|r| r.method != method);
    lines.extend(better.map(|r| {
        let why = r.refusal.as_deref().unwrap_or("the policy says so");
        format!("not {}: {why}", r.method.as_str())
    }));
    lines.extend(facts.roots.iter().map(|root| {
        let compared = match root.compared {
            true => ", and contents are compared while the node is down",
            false => "",
        };
        format!(
            "with {}, where {} leads: {}{compared}",
            root.dir.display(),
            root.link.display(),
            SecondRoot::method(&root.ladder, backup.method).as_str()
        )
    }));
    lines.push(match backup.late {
        Late::Wait => "if it is not ready in time, the upgrade waits".to_owned(),
        Late::StopAnyway => {
            "if it is not ready in time, the rest is copied while the node is down".to_owned()
        }
        Late::SkipUpgrade => "if it is not ready in time, the upgrade is given up".to_owned(),
    });
    lines
}

/// The steps before the critical section, in words.
fn first(plan: &Plan) -> Vec<String> {
    let before = plan.phase(Phase::Prepare).chain(plan.phase(Phase::Gate));
    let words = before.filter_map(|step| match &step.kind {
        StepKind::Fetch { artifact, .. } => {
            Some(format!("artifact {} fetched and verified", artifact.name))
        }
        StepKind::Hook(hook) => Some(format!("hook {} ({})", hook.name, hook.phase.as_str())),
        StepKind::Precopy { .. } => Some("a copy of the data, while the node runs".into()),
        StepKind::ChainSafe { .. } => Some("the chain in sync, its head fresh".into()),
        _ => None,
    });
    words.collect()
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// The longest a hook may take, with all its tries.
fn hook_limit(hook: &HookSpec) -> u64 {
    let tries = u64::from(hook.retries) + 1;
    let pauses = ms(hook.retry_delay).saturating_mul(tries - 1);
    ms(hook.timeout)
        .saturating_mul(tries)
        .saturating_add(pauses)
}

fn outage(plan: &Plan, observed: &Observed) -> Outage {
    let measured = observed.last_outage.as_ref();
    let of = |get: fn(&MeasuredOutage) -> u64| measured.map(get);
    let mut parts = Vec::new();
    for step in plan
        .phase(Phase::Critical)
        .chain(plan.phase(Phase::Confirm))
    {
        let part = match &step.kind {
            StepKind::Stop { policy } => {
                let kill = if policy.kill {
                    policy.dump
                } else {
                    Duration::ZERO
                };
                OutagePart {
                    what: "the node's own stop".into(),
                    estimate_ms: of(|m| m.stop_ms),
                    limit_ms: Some(ms(policy.grace.saturating_add(kill))),
                }
            }
            StepKind::Seal { .. } => OutagePart {
                what: match &observed.slow_backup {
                    Some(why) => format!("a copy that grows with the data: {why}"),
                    None => "the copy of what changes in the last moments".into(),
                },
                estimate_ms: of(|m| m.between_ms),
                limit_ms: None,
            },
            StepKind::Hook(hook) if hook.phase == HookPhase::PreUpgrade => OutagePart {
                what: format!("hook {}", hook.name),
                estimate_ms: None,
                limit_ms: Some(hook_limit(hook)),
            },
            StepKind::Health { health } => OutagePart {
                what: "the node's own start".into(),
                estimate_ms: of(|m| m.start_ms),
                limit_ms: Some(ms(health.within)),
            },
            _ => continue,
        };
        parts.push(part);
    }
    let sum = |of: fn(&OutagePart) -> Option<u64>| parts.iter().filter_map(of).sum();
    Outage {
        estimate_ms: measured.map(|_| sum(|p| p.estimate_ms)),
        measured: measured.map(|m| format!("{}, {}", m.upgrade, rfc3339(m.at))),
        limit_ms: Some(sum(|p| p.limit_ms)),
        parts,
    }
}

fn irreversible(plan: &Plan) -> Vec<String> {
    let mut hooks: Vec<String> = Vec::new();
    let mut out = Vec::new();
    for kind in plan.steps.iter().map(|s| &s.kind) {
        match (kind, kind.irreversible()) {
            (StepKind::Hook(h), Some(_)) => {
                hooks.push(format!("{} ({})", h.name, h.phase.as_str()))
            }
            (other, Some(why)) => out.push(format!("{}: {why}", other.word())),
            (_, None) => {}
        }
    }
    if !hooks.is_empty() {
        let word = if hooks.len() == 1 { "hook" } else { "hooks" };
        out.insert(
            0,
            format!("{word} {}: what they do is not undone", hooks.join(", ")),
        );
    }
    out
}

fn roll_back(upgrade: &DesiredUpgrade, from: &Release) -> String {
    match (upgrade.on_failure, upgrade.backup.is_some()) {
        (OnFailure::Hold, _) => "the new release is held, and a person decides".into(),
        (OnFailure::RollBack, true) => format!(
            "to {from}, with the data of the moment of the stop: data and copy change names; what the new release wrote is kept in failed/"
        ),
        (OnFailure::RollBack, false) => {
            format!("to {from}, on data that the new release has written to: there is no backup")
        }
    }
}
