//! Desired against observed: what has drifted, what will be done, what waits, what is in the way.

use super::change::{Change, ChangeKind, Reason, upgrade_change};
use super::compile::upgrade_digest;
use super::gate::{Gate, trigger};
use super::observed::{Fact, Liveness, Observed, OpenRun};
use super::standing::{Standing, Standings};
use super::step::Plan;
use super::{compile_install, compile_upgrade, expand_launch};
use crate::check::{DesiredNode, DesiredUpgrade};
use crate::model::{Name, Release, Trigger, rfc3339, sha256_hex};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The format of the JSON form. 1: first.
const DIFF_VERSION: u32 = 1;

/// The difference for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    pub version: u32,
    pub node: Name,
    pub current: Option<String>,
    pub running: bool,
    pub head: Option<u64>,
    /// What is no longer as visor left it.
    pub drift: Vec<Remark>,
    /// What will be done now.
    pub changes: Vec<Change>,
    /// What waits for a trigger that is not due.
    pub scheduled: Vec<Scheduled>,
    /// What cannot be done now, and why.
    pub blocked: Vec<Remark>,
    pub overrides: Vec<String>,
    /// The plan of the first change, or of the next scheduled upgrade with a height.
    #[serde(skip)]
    pub next: Option<Plan>,
    /// What a start would start, as SHA-256: program, arguments, environment and how the process is run.
    #[serde(skip)]
    pub start: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remark {
    /// The upgrade that it is about.
    pub upgrade: Option<Name>,
    pub what: String,
    pub help: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scheduled {
    pub upgrade: Name,
    pub trigger: String,
    pub height: Option<u64>,
    /// Blocks to go, when the head is known.
    pub remaining: Option<u64>,
    pub place: String,
    pub note: Option<String>,
}

impl Diff {
    /// True when something is to be done or has drifted.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty() || !self.drift.is_empty()
    }

    fn change(&self, kind: ChangeKind) -> bool {
        self.changes.iter().any(|c| c.kind == kind)
    }

    pub fn wants_start(&self) -> bool {
        self.change(ChangeKind::Start)
    }

    /// The plan of a change that is due now.
    pub fn due(&self) -> Option<&Plan> {
        let due = self.change(ChangeKind::Install) || self.change(ChangeKind::Upgrade);
        self.next.as_ref().filter(|_| due)
    }
}

/// Compares. Pure: `platform` is the one of this machine, as in `linux/amd64`.
pub fn diff(node: &DesiredNode, observed: &Observed, platform: &str) -> Diff {
    let running = matches!(observed.node, Liveness::Running { .. });
    let current = observed.current.known().cloned().flatten();
    let mut d = Diff {
        version: DIFF_VERSION,
        node: node.spec.name.clone(),
        current: current.as_ref().map(Release::to_string),
        running,
        head: observed.chain.head.known().copied(),
        drift: vec![],
        changes: vec![],
        scheduled: vec![],
        blocked: vec![],
        overrides: overrides(observed),
        next: None,
        start: None,
    };
    if let Liveness::Unclear { why } = &observed.node {
        d.block(
            format!("whether the node runs is not clear: {why}"),
            "See `visor status`; nothing is started while the lock is held.",
        );
    }
    if let Some(open) = &observed.open_run {
        if let Some(reason) = &open.stuck {
            d.block(
                format!("run {} ({}) is stuck: {reason}", open.run, open.what),
                "See `visor status`, then say what is true with `visor resolve`.",
            );
            return d;
        }
        // In the midst of a change of the release nothing else is to be said.
        if !open.waits || open.upgrade.is_none() {
            let mut change = resume(open);
            change.risk.roll_back = "as when it began".into();
            d.changes.push(change);
            return d;
        }
    }
    let current = match &observed.current {
        Fact::Unknown(why) => {
            d.block(
                format!("the current release is unknown: {why}"),
                "Point the link `current` to the release that belongs to the data.",
            );
            return d;
        }
        Fact::Known(None) => {
            first_release(&mut d, node, observed, platform);
            return d;
        }
        Fact::Known(Some(_)) => current.expect("just matched"),
    };
    // A run that is open still may have brought it.
    let open = observed.open_run.as_ref();
    let is_brought =
        open.and_then(|o| o.upgrade.clone()).map(Release::Upgrade) == Some(current.clone());
    let last = observed.last_release.as_ref();
    if let Some(last) = last.filter(|l| **l != current && !is_brought) {
        d.drift.push(Remark {
            upgrade: None,
            what: format!("`current` points to {current}, visor last left it at {last}"),
            help: "Point it back, or leave it: the release it names is taken as the one that runs."
                .into(),
        });
    }
    if running && observed.launch_differs {
        d.drift.push(Remark {
            upgrade: None,
            what: "the node runs with other arguments or environment than the manifest asks for"
                .into(),
            help: "They take effect at its next start: `visor restart`.".into(),
        });
    }
    let stopped = observed.overrides.stop.is_some();
    if let Some(foreign) = &observed.foreign {
        let what = format!(
            "the data directory is in use by a process that visor did not start: {foreign}"
        );
        d.block(
            what,
            "Stop that process, and visor starts the node; it starts nothing beside it.",
        );
    }
    let may_start = !stopped && observed.foreign.is_none();
    if let (Liveness::Stopped { exit }, true) = (&observed.node, may_start) {
        let exit = exit
            .as_deref()
            .map(|e| format!(" ({e})"))
            .unwrap_or_default();
        let what = format!("start the node from {current}");
        let why = Reason {
            fact: format!("it is not running{exit}"),
            place: Some(node.place.clone()),
        };
        d.changes
            .push(Change::harmless(ChangeKind::Start, what, why));
        let launch = serde_json::to_string(&expand_launch(&node.spec));
        d.start = launch.ok().map(|text| sha256_hex(text.as_bytes()));
    }
    upgrades(&mut d, node, observed, &current, platform);
    if let Some(open) = &observed.open_run {
        d.at_work(open);
    }
    d
}

fn resume(open: &OpenRun) -> Change {
    let what = format!("run {} ({}) goes on", open.run, open.what);
    let why = Reason {
        fact: format!("it is not finished: {}", open.stage),
        place: None,
    };
    let mut change = Change::harmless(ChangeKind::Resume, what, why);
    change.upgrade = open.upgrade.clone();
    change
}

impl Diff {
    /// A run is at work on an upgrade and leaves the node to itself yet, or again. No other is begun.
    fn at_work(&mut self, open: &OpenRun) {
        self.next = None;
        let is_its = |upgrade: &Name| Some(upgrade) == open.upgrade.as_ref();
        if let Some(scheduled) = self.scheduled.iter_mut().find(|s| is_its(&s.upgrade)) {
            let note = format!("run {} is at work on it: {}", open.run, open.stage);
            let before = scheduled.note.take().map(|n| format!("{n}, "));
            scheduled.note = Some(before.unwrap_or_default() + &note);
            return;
        }
        let due = self
            .changes
            .iter_mut()
            .find(|c| c.kind == ChangeKind::Upgrade && c.upgrade.as_ref().is_some_and(is_its));
        if let Some(change) = due {
            let resumed = resume(open);
            change.kind = ChangeKind::Resume;
            change.what = format!("{}: {}", resumed.what, change.what);
            change.why.extend(resumed.why);
        } else if !self
            .blocked
            .iter()
            .any(|b| b.upgrade.as_ref().is_some_and(is_its))
        {
            self.changes.push(resume(open));
        }
    }

    fn block(&mut self, what: String, help: &str) {
        self.blocked.push(Remark {
            upgrade: None,
            what,
            help: help.to_owned(),
        });
    }

    /// The same about one upgrade; `what` goes on after its name.
    fn block_upgrade(&mut self, upgrade: &Name, what: &str, help: &str) {
        self.blocked.push(Remark {
            upgrade: Some(upgrade.clone()),
            what: format!("upgrade {upgrade}{what}"),
            help: help.to_owned(),
        });
    }
}

fn overrides(observed: &Observed) -> Vec<String> {
    let o = &observed.overrides;
    let mut out = Vec::new();
    if let Some(stop) = &o.stop {
        out.push(format!(
            "stopped by {} at {}: {} (`visor start` ends it)",
            stop.by,
            rfc3339(stop.at),
            stop.reason
        ));
    }
    if let Some(hold) = &o.hold {
        let until = hold
            .until
            .map(|u| format!(" until {}", rfc3339(u)))
            .unwrap_or_default();
        out.push(format!(
            "held by {} at {}{until}: {} (`visor release-hold` ends it)",
            hold.by,
            rfc3339(hold.at),
            hold.reason
        ));
    }
    out.extend(o.approvals.iter().map(|a| {
        format!(
            "upgrade {} approved by {} at {}",
            a.upgrade,
            a.by,
            rfc3339(a.at)
        )
    }));
    out
}

fn first_release(d: &mut Diff, node: &DesiredNode, observed: &Observed, platform: &str) {
    let name = &node.spec.name;
    if !observed.data_empty {
        let what = format!(
            "node {name} has data and no `current` release: which release they belong to is not guessed"
        );
        d.block(
            what,
            "Say it with `visor start --release NAME` (`genesis`, or an upgrade of the set).",
        );
        return;
    }
    let Some(genesis) = &node.genesis else {
        d.block(
            format!("node {name} has no `current` release and its manifest no `genesis`"),
            "Add `genesis = \"ARTIFACT\"`, or say `visor start --release NAME`.",
        );
        return;
    };
    let Some(file) = genesis.file(platform) else {
        d.block(
            format!("artifact {} has no file for {platform}", genesis.name),
            "Add one, or one without `platform`.",
        );
        return;
    };
    let what = format!("install the first release from artifact {}", genesis.name);
    let why = Reason {
        fact: "there are no data and no release".into(),
        place: Some(node.place.clone()),
    };
    let change = Change::harmless(ChangeKind::Install, what, why);
    d.changes.push(change);
    for upgrade in &node.upgrades {
        let entry = schedule(upgrade, None, Some("after the first release".into()));
        d.scheduled.push(entry);
    }
    match compile_install(node, file, &Release::Genesis) {
        Ok(plan) => d.next = Some(plan),
        Err(error) => d.block(
            error.to_string(),
            "This is a fault of visor's; please report it.",
        ),
    }
}

fn upgrades(
    d: &mut Diff,
    node: &DesiredNode,
    observed: &Observed,
    current: &Release,
    platform: &str,
) {
    let mut first = true;
    let standings = Standings::new(node, observed, platform);
    for upgrade in &node.upgrades {
        let name = &upgrade.name;
        let file = upgrade.artifact.file(platform);
        let digest = file.map(|f| upgrade_digest(upgrade, f));
        if let Some(applied) = observed.applied.iter().rfind(|a| a.name == *name) {
            if digest.as_ref() != Some(&applied.digest) {
                d.drift.push(Remark {
                    upgrade: Some(name.clone()),
                    what: format!(
                        "upgrade {name} was changed in the manifests after it was applied at {}",
                        rfc3339(applied.at)
                    ),
                    help: "An applied upgrade is not applied again; give the change a new upgrade."
                        .into(),
                });
            }
            continue;
        }
        if matches!(standings.of(upgrade), Standing::Applied | Standing::Passed) {
            continue;
        }
        let Some((file, digest)) = file.zip(digest) else {
            d.block_upgrade(
                name,
                &format!(
                    ": artifact {} has no file for {platform}",
                    upgrade.artifact.name
                ),
                "Add one, or one without `platform`.",
            );
            continue;
        };
        if let Some(denied) = observed
            .denied
            .iter()
            .find(|x| x.upgrade == *name && x.digest == digest)
        {
            let what = format!(
                " failed at {} and is not tried again: {}",
                rfc3339(denied.at),
                first_line(&denied.reason)
            );
            d.block_upgrade(
                name,
                &what,
                &format!("Correct the manifest, or say `visor upgrade retry {name}`."),
            );
            continue;
        }
        let is_hindered = in_the_way(d, upgrade, observed);
        let held_by = standings.holder(upgrade);
        let gate = trigger(&upgrade.trigger, name, &observed.chain, &observed.overrides);
        let head = d.head;
        let scheduled = |note: Option<String>| schedule(upgrade, head, note);
        let plan = |d: &mut Diff| match compile_upgrade(node, upgrade, file, current) {
            Ok(plan) => Some(plan),
            Err(error) => {
                d.block(
                    error.to_string(),
                    "This is a fault of visor's; please report it.",
                );
                None
            }
        };
        let batch = upgrade
            .batch
            .as_ref()
            .map(|b| b.batch.to_string())
            .unwrap_or_default();
        if is_hindered {
            // The batch stops here: what stands behind it finds it open.
            continue;
        }
        if let Some((holder, how)) = held_by {
            let (is_due, failed) = (matches!(gate, Gate::Open(_)), how == Standing::Failed);
            let why = if failed { "failed" } else { "comes first" };
            if is_due && failed {
                d.block_upgrade(
                    name,
                    &format!(" is held: {holder}, before it in batch {batch}, failed"),
                    &format!(
                        "Say `visor upgrade retry {holder}`, or take one of them out of the batch."
                    ),
                );
            } else {
                let entry = scheduled(Some(format!("held: {holder} of batch {batch} {why}")));
                d.scheduled.push(entry);
            }
            continue;
        }
        match gate {
            Gate::Open(_) if !first => {
                let entry = scheduled(Some("due, after the one before".into()));
                d.scheduled.push(entry);
            }
            Gate::Open(_)
                if observed.overrides.hold.is_some() || observed.overrides.stop.is_some() =>
            {
                d.block_upgrade(
                    name,
                    " is due, and an override is in the way",
                    "`visor release-hold` ends a hold, `visor start` a stop.",
                );
                first = false;
            }
            Gate::Open(seen) => {
                if let Some(plan) = plan(d) {
                    let change = upgrade_change(node, upgrade, &plan, current, seen, observed);
                    d.changes.push(change);
                    d.next = Some(plan);
                }
                first = false;
            }
            Gate::Closed(why) => {
                let unknown = matches!(
                    (&upgrade.trigger, &observed.chain.head),
                    (Trigger::Height(_), Fact::Unknown(_))
                );
                if unknown {
                    d.block_upgrade(
                        name,
                        &format!(": {why}"),
                        "The node must run and answer at the manifest's `chain.rpc`.",
                    );
                }
                let entry = scheduled(None);
                d.scheduled.push(entry);
                if first && matches!(upgrade.trigger, Trigger::Height(_)) && d.next.is_none() {
                    d.next = plan(d);
                }
                // An approved upgrade may go before one whose height is far.
            }
        }
    }
}

/// An upgrade that waits.
fn schedule(upgrade: &DesiredUpgrade, head: Option<u64>, note: Option<String>) -> Scheduled {
    let height = upgrade.trigger.height();
    Scheduled {
        upgrade: upgrade.name.clone(),
        trigger: upgrade.trigger.to_string(),
        height,
        remaining: height.zip(head).map(|(h, head)| h.saturating_sub(head)),
        place: upgrade.place.clone(),
        note,
    }
}

/// Reasons of this machine against an upgrade; true when there is one.
fn in_the_way(d: &mut Diff, upgrade: &DesiredUpgrade, observed: &Observed) -> bool {
    let problems = upgrade_problems(upgrade, observed);
    for (what, help) in &problems {
        d.block_upgrade(&upgrade.name, what, help);
    }
    !problems.is_empty()
}

/// Why this machine would not have an upgrade made, and what to do; `what` goes on after the upgrade's name.
pub fn upgrade_problems(
    upgrade: &DesiredUpgrade,
    observed: &Observed,
) -> Vec<(String, &'static str)> {
    let mut out = Vec::new();
    for hook in &upgrade.hooks {
        if let Some(problem) = observed.hook_problem(&hook.spec) {
            out.push((
                format!(": hook {} cannot be run: {problem}", hook.spec.name),
                "visor runs only programs that root or its own user owns and nobody else can change.",
            ));
        }
    }
    out.extend(backup_problems(upgrade, observed));
    if let Some(problem) = &observed.start_problem {
        out.push((
            format!(": this machine would not have the node started again: {problem}"),
            "Change the node's `process`, or what the machine lacks for it.",
        ));
    }
    out
}

/// Why the backup that an upgrade asks for cannot be made here, and what to do; `what` goes on after the upgrade's name.
pub fn backup_problems(
    upgrade: &DesiredUpgrade,
    observed: &Observed,
) -> Vec<(String, &'static str)> {
    let mut out = Vec::new();
    let Some(backup) = &upgrade.backup else {
        return out;
    };
    if let Some(problem) = &observed.data_problem {
        out.push((
            format!(": no backup can be made that a roll-back could use: {problem}"),
            "Set the node's `root` to a directory on the data's file system, or say `backup = \"none\"`.",
        ));
    }
    let Some(facts) = &observed.copy else {
        return out;
    };
    if let Some(problem) = &facts.problem {
        out.push((
            format!(": no copy of the data can be made: {problem}"),
            "Change what is in the way, or say `backup = \"none\"`.",
        ));
    }
    if let Some((method, why)) = backup.method.and_then(|m| Some((m, facts.refusal(m)?))) {
        out.push((
            format!(
                ": its backup asks for {}, which cannot be had: {why}",
                method.as_str()
            ),
            "Say `method = \"auto\"`, which takes the best that can be had.",
        ));
    }
    let archive = backup.archive.as_ref();
    if archive.is_some_and(|a| !a.recipients.is_empty()) && !facts.age {
        out.push((
            ": its archive is to be encrypted, and the program `age` is not there".to_owned(),
            "Install `age`, or take `recipients` out.",
        ));
    }
    out
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
