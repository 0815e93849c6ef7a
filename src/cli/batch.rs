//! `visor batch list|show|status|validate|import`.

use super::args::{BatchCommand, Format, Global};
use super::context::{Context, set_dir};
use super::error::{CliError, Exit};
use super::out;
use crate::check::{DesiredBatch, DesiredUpgrade, platform};
use crate::host::{RealHost, wall_clock};
use crate::model::{OnFailure, Release, Trigger, UnixMs, human_ms, rfc3339};
use crate::observe::observe;
use crate::plan::{
    Diff, Fact, Gate, Observed, Remark, Standing, Standings, backup_problems, diff as compare,
    trigger, upgrade_problems, wrapped,
};
use crate::release::is_staged;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) fn batch(global: &Global, command: &BatchCommand) -> Result<Exit, CliError> {
    match command {
        BatchCommand::List { format } => list(global, *format),
        BatchCommand::Show { name, format } => show(global, name, *format),
        BatchCommand::Status { name, format } => status(global, name, *format),
        BatchCommand::Validate { name } => validate(global, name.as_deref()),
        BatchCommand::Import { file } => super::import::batch_plan(&set_dir(global), file),
    }
}

fn find<'a>(cx: &'a Context, name: &str) -> Result<&'a DesiredBatch, CliError> {
    let batches = &cx.wish.batches;
    batches
        .iter()
        .find(|b| b.name.as_str() == name)
        .ok_or_else(|| {
            let names: Vec<String> = batches.iter().map(|b| b.name.to_string()).collect();
            let help = if names.is_empty() {
                "The set has none with an upgrade for this node.".to_owned()
            } else {
                format!("There are: {}.", names.join(", "))
            };
            CliError::usage(
                format!(
                    "there is no batch \"{name}\" for node {}",
                    cx.node().spec.name
                ),
                help,
            )
        })
}

/// What the manifests say of a batch. 1: first.
#[derive(Serialize, JsonSchema)]
pub(super) struct Batch {
    version: u32,
    name: String,
    description: Option<String>,
    node: String,
    place: String,
    /// Those that are for this node, in order.
    upgrades: Vec<BatchMember>,
}

#[derive(Serialize, JsonSchema)]
struct BatchMember {
    name: String,
    trigger: String,
    artifact: String,
    backup: Option<String>,
    /// As `phase/name`, in the order in which they run.
    hooks: Vec<String>,
    /// roll-back or hold.
    on_failure: &'static str,
    place: String,
}

fn show(global: &Global, name: &str, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let batch = find(&cx, name)?;
    let upgrades = &cx.node().upgrades;
    let members = batch
        .upgrades
        .iter()
        .filter_map(|n| upgrades.iter().find(|u| u.name == *n));
    let member = |u: &DesiredUpgrade| BatchMember {
        name: u.name.to_string(),
        trigger: u.trigger.to_string(),
        artifact: u.artifact.name.to_string(),
        backup: u.backup.as_ref().map(|b| b.name.clone()),
        hooks: u
            .hooks
            .iter()
            .map(|h| format!("{}/{}", h.spec.phase.as_str(), h.spec.name))
            .collect(),
        on_failure: match u.on_failure {
            OnFailure::RollBack => "roll-back",
            OnFailure::Hold => "hold",
        },
        place: u.place.clone(),
    };
    let shown = Batch {
        version: 1,
        name: batch.name.to_string(),
        description: batch.description.clone(),
        node: cx.node().spec.name.to_string(),
        place: batch.place.clone(),
        upgrades: members.map(member).collect(),
    };
    match format {
        Format::Json => out::json(&shown),
        Format::Human => {
            let mut text = format!(
                "batch {} of node {}  ({})\n",
                shown.name, shown.node, shown.place
            );
            for line in shown.description.iter() {
                text.push_str(&format!("  {line}\n"));
            }
            for (i, m) in shown.upgrades.iter().enumerate() {
                let number = i + 1;
                text.push_str(&format!(
                    "\n  {number}. {} at {}  ({})\n",
                    m.name, m.trigger, m.place
                ));
                let backup = m.backup.as_deref().unwrap_or("none");
                text.push_str(&format!(
                    "     artifact {} · backup {backup} · if bad {}\n",
                    m.artifact, m.on_failure
                ));
                if !m.hooks.is_empty() {
                    text.push_str(&format!("     hooks {}\n", m.hooks.join(", ")));
                }
            }
            out::data(&text);
        }
    }
    Ok(Exit::Done)
}

/// The JSON form. 1: first.
#[derive(Serialize, JsonSchema)]
pub(super) struct BatchStatus {
    version: u32,
    name: String,
    description: Option<String>,
    node: String,
    place: String,
    total_upgrades: usize,
    /// Applied or passed.
    completed: usize,
    pending: usize,
    failed: usize,
    /// The member whose run is open, or that is due and not held.
    active: Option<String>,
    current_height: Option<u64>,
    /// Why the height is not known, when it is not.
    height_unknown: Option<String>,
    /// Of the members, how many percent are completed.
    progress: u32,
    /// Measured over the last blocks.
    block_time_ms: Option<u64>,
    /// A hold, a stop and approvals that people have set on the node.
    overrides: Vec<String>,
    upgrades: Vec<Member>,
}

#[derive(Serialize, JsonSchema)]
struct Member {
    name: String,
    trigger: String,
    height: Option<u64>,
    /// applied, passed, failed, running, stuck, due, held or pending. What is held is due, and a member before it, or a person, is in
    /// the way.
    state: &'static str,
    /// Blocks to go.
    remaining: Option<u64>,
    /// When the height is reached at the measured block time.
    due_at: Option<UnixMs>,
    ready: Vec<String>,
    missing: Vec<String>,
    place: String,
}

fn gather(
    cx: &Context,
    host: &RealHost,
    observed: &Observed,
    batch: &DesiredBatch,
) -> Result<BatchStatus, CliError> {
    let head = observed.chain.head.known().copied();
    let block_time = host.block_time(&cx.node().spec.chain).ok();
    let block_ms = block_time.and_then(|t| u64::try_from(t.as_millis()).ok());
    let mut upgrades = Vec::new();
    // In the batch's order, those that are for this node.
    let members = batch
        .upgrades
        .iter()
        .filter_map(|n| cx.node().upgrades.iter().find(|u| u.name == *n));
    let platform = platform();
    let look = Look {
        cx,
        observed,
        standings: Standings::new(cx.node(), observed, &platform),
        diff: compare(cx.node(), observed, &platform),
        block_ms,
    };
    for upgrade in members {
        upgrades.push(look.member(upgrade)?);
    }
    let count = |states: &[&str]| {
        upgrades
            .iter()
            .filter(|m| states.contains(&m.state))
            .count()
    };
    let total = upgrades.len();
    let completed = count(&["applied", "passed"]);
    let active = ["stuck", "running", "due"]
        .iter()
        .find_map(|s| upgrades.iter().find(|m| m.state == *s));
    Ok(BatchStatus {
        version: 1,
        name: batch.name.to_string(),
        description: batch.description.clone(),
        node: cx.node().spec.name.to_string(),
        place: batch.place.clone(),
        total_upgrades: total,
        completed,
        pending: count(&["pending", "due", "held"]),
        failed: count(&["failed"]),
        active: active.map(|m| m.name.clone()),
        current_height: head,
        height_unknown: match &observed.chain.head {
            Fact::Known(_) => None,
            Fact::Unknown(why) => Some(why.clone()),
        },
        progress: u32::try_from(100 * completed / total.max(1)).unwrap_or(100),
        block_time_ms: block_ms,
        overrides: look.diff.overrides,
        upgrades,
    })
}

/// What is known of the node, for each of its members.
struct Look<'a> {
    cx: &'a Context,
    observed: &'a Observed,
    standings: Standings<'a>,
    diff: Diff,
    block_ms: Option<u64>,
}

impl Look<'_> {
    fn member(&self, upgrade: &DesiredUpgrade) -> Result<Member, CliError> {
        let Self {
            cx,
            observed,
            standings,
            block_ms,
            ..
        } = self;
        let head = observed.chain.head.known().copied();
        let open = observed
            .open_run
            .as_ref()
            .filter(|o| o.upgrade.as_ref() == Some(&upgrade.name));
        let gate = trigger(
            &upgrade.trigger,
            &upgrade.name,
            &observed.chain,
            &observed.overrides,
        );
        let state = match (open, standings.of(upgrade)) {
            (Some(open), _) if open.stuck.is_some() => "stuck",
            (Some(_), _) => "running",
            (None, Standing::Applied) => "applied",
            (None, Standing::Passed) => "passed",
            (None, Standing::Failed) => "failed",
            (None, Standing::Open) if matches!(gate, Gate::Open(_)) => {
                let o = &observed.overrides;
                let is_held = o.hold.is_some() || o.stop.is_some();
                if is_held || standings.holder(upgrade).is_some() {
                    "held"
                } else {
                    "due"
                }
            }
            (None, Standing::Open) => "pending",
        };
        let height = upgrade.trigger.height();
        let is_ahead = !matches!(state, "applied" | "passed");
        let remaining = height
            .zip(head)
            .filter(|_| is_ahead)
            .map(|(h, head)| h.saturating_sub(head));
        let due_at = remaining
            .zip(*block_ms)
            .map(|(n, ms)| wall_clock().saturating_add(n.saturating_mul(ms)));
        let (mut ready, mut missing) = (Vec::new(), Vec::new());
        if is_ahead {
            let release = Release::Upgrade(upgrade.name.clone());
            let said = |what: &str, help: &str| {
                let what = what.trim_start_matches([':', ' ']);
                format!("{what}. {help}")
            };
            let problems = upgrade_problems(upgrade, observed);
            missing.extend(problems.iter().map(|(what, help)| said(what, help)));
            if let Some(file) = upgrade.artifact.file(&platform()) {
                if is_staged(&cx.layout, file, &release, &cx.node().spec.launch.binary)? {
                    ready.push("the release is staged".to_owned());
                } else {
                    missing.push("the release is not fetched yet".to_owned());
                }
                // Of an upgrade that nothing hinders the difference says what it waits for; else it says the same.
                let its = |r: &&Remark| r.upgrade.as_ref() == Some(&upgrade.name);
                let remarks = self.diff.blocked.iter().filter(its);
                missing.extend(remarks.filter(|_| problems.is_empty()).map(|r| {
                    let what = r.what.strip_prefix(&format!("upgrade {}", upgrade.name));
                    said(what.unwrap_or(&r.what), &r.help)
                }));
            } else {
                let (artifact, here) = (&upgrade.artifact.name, platform());
                missing.push(format!("artifact {artifact} has no file for {here}"));
            }
            for hook in &upgrade.hooks {
                if observed.hook_problem(&hook.spec).is_none() {
                    let (phase, name) = (hook.spec.phase.as_str(), &hook.spec.name);
                    ready.push(format!("hook {phase}/{name} can be run"));
                }
            }
            if upgrade.backup.is_some() && backup_problems(upgrade, observed).is_empty() {
                ready.push("a backup can be made".to_owned());
            }
            if upgrade.trigger == Trigger::Manual && matches!(gate, Gate::Closed(_)) {
                missing.push(format!("`visor upgrade approve {}`", upgrade.name));
            }
        }
        Ok(Member {
            name: upgrade.name.to_string(),
            trigger: upgrade.trigger.to_string(),
            height,
            state,
            remaining,
            due_at,
            ready,
            missing,
            place: upgrade.place.clone(),
        })
    }
}

fn status(global: &Global, name: &str, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let batch = find(&cx, name)?;
    let host = cx.host();
    let observed = observe(cx.node(), &host)?;
    let status = gather(&cx, &host, &observed, batch)?;
    match format {
        Format::Json => out::json(&status),
        Format::Human => out::data(&text(&status)),
    }
    Ok(if status.upgrades.iter().any(|m| m.state == "stuck") {
        Exit::Stuck
    } else {
        Exit::Done
    })
}

/// Below a member's words.
const BELOW: &str = "                    ";

fn text(s: &BatchStatus) -> String {
    let mut out = format!(
        "batch {} of node {} · {} of {} done, {} %\n",
        s.name, s.node, s.completed, s.total_upgrades, s.progress
    );
    if let Some(description) = &s.description {
        out.push_str(&format!("  {description}\n"));
    }
    let head = match (s.current_height, &s.height_unknown) {
        (Some(height), _) => format!("head {height}"),
        (None, Some(why)) => format!("head unknown: {why}"),
        (None, None) => "head unknown".to_owned(),
    };
    let pace = s
        .block_time_ms
        .map_or("block time unknown".to_owned(), |ms| {
            format!("a block every {}", human_ms(ms))
        });
    out.push_str(&format!("  {head}, {pace}\n"));
    for said in &s.overrides {
        out.push_str(&wrapped("  ", "  ", said));
    }
    out.push('\n');
    for m in &s.upgrades {
        out.push_str(&format!("  {:<8} {:<20} {}\n", m.state, m.name, m.trigger));
        if let Some(n) = m.remaining.filter(|n| *n > 0) {
            let due = m
                .due_at
                .map(|at| format!(", about {}", minute(at)))
                .unwrap_or_default();
            out.push_str(&format!("           {n} blocks to go{due}\n"));
        }
        for text in &m.missing {
            out.push_str(&wrapped("           missing: ", BELOW, text));
        }
        if !m.ready.is_empty() {
            out.push_str(&wrapped("           ready:   ", BELOW, &m.ready.join(", ")));
        }
    }
    out
}

/// An estimate is no better than its minute.
fn minute(at: UnixMs) -> String {
    let text = rfc3339(at);
    text.get(..16)
        .map_or(text.clone(), |t| format!("{}Z", t.replace('T', " ")))
}

#[derive(Serialize, JsonSchema)]
pub(super) struct BatchList {
    version: u32,
    node: String,
    batches: Vec<BatchStatus>,
}

fn list(global: &Global, format: Format) -> Result<Exit, CliError> {
    let cx = Context::open(global)?;
    let host = cx.host();
    let observed = observe(cx.node(), &host)?;
    let mut batches = Vec::new();
    for batch in &cx.wish.batches {
        batches.push(gather(&cx, &host, &observed, batch)?);
    }
    let node = cx.node().spec.name.to_string();
    let list = BatchList {
        version: 1,
        node,
        batches,
    };
    match format {
        Format::Json => out::json(&list),
        Format::Human if list.batches.is_empty() => out::data("no batch for this node\n"),
        Format::Human => {
            let mut rows = vec![
                ["BATCH", "DONE", "NOW", "NEXT", "PLACE"]
                    .map(str::to_owned)
                    .to_vec(),
            ];
            for b in &list.batches {
                let next = b.upgrades.iter().find(|m| m.state == "pending");
                let due = next.map(|m| {
                    let at = m.due_at.map(|at| format!(", about {}", minute(at)));
                    format!("{}{}", m.name, at.unwrap_or_default())
                });
                rows.push(vec![
                    b.name.clone(),
                    format!("{} of {}", b.completed, b.total_upgrades),
                    now(b).unwrap_or_else(|| "-".into()),
                    due.unwrap_or_else(|| "-".into()),
                    b.place.clone(),
                ]);
            }
            out::data(&out::table(&rows));
        }
    }
    Ok(Exit::Done)
}

/// What a batch is at: its failed member, which holds the rest, or the one that is active, or that a person holds.
fn now(b: &BatchStatus) -> Option<String> {
    let in_state = |state: &str| b.upgrades.iter().find(|m| m.state == state);
    let word = |m: &Member| format!("{} {}", m.name, m.state);
    let active = || b.active.clone();
    in_state("failed")
        .map(word)
        .or_else(active)
        .or_else(|| in_state("held").map(word))
}

/// The whole set must be right for a batch to be.
fn validate(global: &Global, name: Option<&str>) -> Result<Exit, CliError> {
    let mut set = crate::source::read_set(&set_dir(global))?;
    let checked = crate::check::check(&set);
    let Some(desired) = checked.desired else {
        crate::diag::mask(&checked.findings, &mut set.files);
        out::raw(&crate::diag::human(
            &checked.findings,
            &set.files,
            out::style(&std::io::stdout()),
        ));
        out::line(&format!(
            "visor: the set has errors, so {} cannot be said to be valid",
            name.map_or("its batches".to_owned(), |n| format!("batch {n}"))
        ));
        return Ok(Exit::Findings);
    };
    if let Some(name) = name
        && !desired.batches.iter().any(|b| b.name.as_str() == name)
    {
        let names: Vec<String> = desired.batches.iter().map(|b| b.name.to_string()).collect();
        let message = format!("there is no batch \"{name}\" in the set");
        return Err(CliError::usage(
            message,
            format!("There are: {}.", names.join(", ")),
        ));
    }
    for batch in desired
        .batches
        .iter()
        .filter(|b| name.is_none_or(|n| n == b.name.as_str()))
    {
        let names: Vec<String> = batch.upgrades.iter().map(ToString::to_string).collect();
        out::data(&format!(
            "batch {} is valid: {}\n",
            batch.name,
            names.join(" → ")
        ));
    }
    Ok(Exit::Done)
}
