//! What is, what should be, what visor waits for, and what comes next: gathered in one look.

use super::states::{Standing, standings};
use crate::agent::{Live, NextTry, Now};
use crate::backup::{GenState, generations, sealed_generations};
use crate::check::{DesiredNode, platform};
use crate::host::RealHost;
use crate::journal::{Outcome, Stage};
use crate::model::{ChainSpec, Name, Trigger, UnixMs};
use crate::node::last_lines;
use crate::observe::{ObserveError, observe, run_summaries};
use crate::plan::{Denied, Diff, Fact, Liveness, StepKind, diff};
use crate::store::{Owner, StateLock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The format of the JSON form. 1: first.
const STATUS_VERSION: u32 = 1;
/// Lines of the log that are shown.
const LAST_LINES: usize = 5;

/// The status of one node. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    pub version: u32,
    pub node: String,
    pub root: String,
    /// What holds, the most urgent first.
    pub states: Vec<Standing>,
    pub current: Option<String>,
    pub process: Liveness,
    /// A process that visor did not start and that works on the data.
    pub foreign: Option<String>,
    pub chain: Option<ChainStatus>,
    pub visor: Option<Owner>,
    /// What the visor that keeps the node does now. Absent when none keeps it, or when it gives no answer.
    pub now: Option<Now>,
    pub run: Option<RunStatus>,
    pub last_run: Option<LastRun>,
    /// Upgrades that failed and are not tried again as they are.
    pub failed: Vec<Denied>,
    /// What comes next, the soonest first.
    pub next: Vec<Next>,
    pub backups: Vec<String>,
    /// Generations whose contents are not what they should be.
    #[serde(default)]
    pub bad_backups: Vec<String>,
    /// The end of the node's log, when the node does not run.
    pub last_output: Vec<String>,
    /// Variables of the peers that are set; the manifests win over them.
    #[serde(default)]
    pub peers_variables: Vec<String>,
    pub diff: Diff,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainStatus {
    pub head: Fact<u64>,
    pub syncing: Fact<bool>,
    pub head_age_ms: Fact<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunStatus {
    pub run: String,
    pub what: String,
    pub stage: String,
    /// When its last record was made.
    pub stage_since: UnixMs,
    pub stuck_at: Option<String>,
    pub reason: Option<String>,
    /// Records in its journal.
    pub records: u64,
    pub done: usize,
    pub steps: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    pub run: String,
    pub what: String,
    pub outcome: Outcome,
    pub detail: String,
    pub at: UnixMs,
}

/// Something that is to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Next {
    pub what: String,
    /// When, where that is known or can be guessed from the chain's pace.
    pub at: Option<UnixMs>,
    pub is_guess: bool,
}

/// Looks at the node. `live` is what its own visor knows beside.
pub fn gather(
    node: &DesiredNode,
    host: &RealHost,
    live: Option<&Live>,
) -> Result<Status, ObserveError> {
    let observed = observe(node, host)?;
    let runs = run_summaries(host)?;
    let run = runs.iter().rfind(|r| r.is_open()).map(|r| {
        let stuck = match &r.status.stage {
            Stage::Stuck(at) => Some(at),
            _ => None,
        };
        RunStatus {
            run: r.run.to_string(),
            what: r.plan.action.describe(),
            stage: r.status.stage.word().to_owned(),
            stage_since: r.ended_at,
            stuck_at: stuck.map(|at| {
                let step = r.plan.step(&at.step);
                step.map_or_else(|| at.step.to_string(), |s| s.name.clone())
            }),
            reason: stuck.map(|at| at.reason.clone()),
            records: r.status.n_records,
            done: r.status.done.len(),
            steps: r.plan.steps.len(),
        }
    });
    let open = runs
        .iter()
        .rfind(|r| r.is_open() && r.status.stage == Stage::Preparing);
    let waits = open.and_then(|r| {
        let height = r.plan.steps.iter().find_map(|s| match &s.kind {
            StepKind::Trigger {
                trigger: Trigger::Height(height),
            } => Some(*height),
            _ => None,
        });
        Some((height?, r.plan.action.describe()))
    });
    let its = observed.open_run.as_ref().and_then(|o| o.upgrade.clone());
    let its = its.filter(|_| waits.is_some());
    let last_run = runs.iter().rfind(|r| !r.is_open()).and_then(|r| {
        let (outcome, detail) = r.outcome()?;
        Some(LastRun {
            run: r.run.to_string(),
            what: r.plan.action.describe(),
            outcome,
            detail: detail.to_owned(),
            at: r.ended_at,
        })
    });
    let age = match &observed.chain.head_age {
        Fact::Known(age) => Fact::Known(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        Fact::Unknown(why) => Fact::Unknown(why.clone()),
    };
    let head_is_old = match (&node.spec.chain, observed.chain.head_age.known()) {
        (ChainSpec::Evm { max_head_age, .. }, Some(age)) => age > max_head_age,
        _ => false,
    };
    let diff = diff(node, &observed, &platform());
    let overrides = observed.overrides;
    let mut status = Status {
        version: STATUS_VERSION,
        node: node.spec.name.to_string(),
        root: host.layout.root.display().to_string(),
        states: vec![],
        current: observed
            .current
            .known()
            .cloned()
            .flatten()
            .map(|r| r.to_string()),
        last_output: match &observed.node {
            Liveness::Stopped { exit: Some(_) } => last_lines(&host.layout, LAST_LINES)?,
            _ => vec![],
        },
        process: observed.node,
        foreign: observed.foreign,
        chain: (node.spec.chain != ChainSpec::None).then_some(ChainStatus {
            head: observed.chain.head,
            syncing: observed.chain.syncing,
            head_age_ms: age,
        }),
        visor: StateLock::holder(&host.layout),
        next: next(&diff, waits, its.as_ref(), live),
        now: live.map(Live::now),
        run,
        last_run,
        failed: observed
            .denied
            .into_iter()
            .filter(|d| node.upgrades.iter().any(|u| u.name == d.upgrade))
            .collect(),
        bad_backups: generations(&host.layout)
            .iter()
            .filter(|g| g.state == GenState::Bad)
            .map(|g| g.id().to_string())
            .collect(),
        backups: sealed_generations(&host.layout)
            .iter()
            .map(ToString::to_string)
            .collect(),
        peers_variables: vec![],
        diff,
    };
    status.states = standings(&status, &overrides, head_is_old);
    Ok(status)
}

/// `waits` is the height that an open run waits for, and what the run is for; `its` is its upgrade.
fn next(
    diff: &Diff,
    waits: Option<(u64, String)>,
    its: Option<&Name>,
    live: Option<&Live>,
) -> Vec<Next> {
    let guess = |height: u64| {
        let (live, head) = live.zip(diff.head)?;
        live.when(head, height)
    };
    let at_height = |what: String, height: Option<u64>| {
        let at = height.and_then(guess);
        Next {
            what,
            at,
            is_guess: at.is_some(),
        }
    };
    let now = live.map(Live::now).unwrap_or_default();
    let again = |what: &str, try_at: Option<NextTry>| {
        try_at.map(|again| Next {
            what: what.into(),
            at: Some(again.at),
            is_guess: false,
        })
    };
    let start = again("the node is started", now.next_start);
    let look = again("what was refused is tried again", now.next_look);
    // Of its own upgrade the run says it.
    let scheduled = diff.scheduled.iter().filter(|s| Some(&s.upgrade) != its);
    let run =
        waits.map(|(height, what)| at_height(format!("{what} at height {height}"), Some(height)));
    let upgrades = scheduled.map(|s| {
        let when = s.height.map_or_else(
            || "once it is approved".to_owned(),
            |height| format!("at height {height}"),
        );
        at_height(format!("upgrade {} {when}", s.upgrade), s.height)
    });
    let at_a_time = start.into_iter().chain(look);
    at_a_time.chain(run).chain(upgrades).collect()
}
