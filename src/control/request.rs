//! What an operator can ask of a node. Each wish is checked, and noted where the visor that works on the node finds it: a
//! wish that was noted survives the death of either.

use crate::check::{DesiredNode, DesiredUpgrade};
use crate::host::{HostError, NodeState, Nodes as _, RealHost, wall_clock};
use crate::journal::Stage;
use crate::model::{Answer, RunId, Trigger, rfc3339};
use crate::observe::{ObserveError, RunSummary, observe, run_summaries};
use crate::plan::{Approval, Hold, Overrides, Resolution, StepKind, StopOverride};
use crate::store::{OverrideChange, RecordError, edit_deny, edit_overrides};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Stop the node, and keep it stopped.
    Stop {
        reason: String,
    },
    /// End a stop.
    Start {},
    /// Stop the node that runs now, and start it again.
    Restart {
        reason: String,
    },
    /// Let no upgrade begin. Milliseconds; without an end until it is released.
    Hold {
        reason: String,
        for_ms: Option<u64>,
    },
    ReleaseHold {},
    /// Read the manifests and look at everything at once.
    Reconcile {},
    /// Fire an upgrade that waits for an approval.
    Approve {
        upgrade: String,
    },
    /// Try a failed upgrade again.
    Retry {
        upgrade: String,
    },
    /// Turn the open run back.
    Abort {},
    /// Say what is true of a stuck step.
    Resolve {
        answer: Answer,
        reason: String,
    },
}

/// Characters of a reason. All changes of the overrides are kept in one small file.
const MOST_REASON: usize = 500;

/// Without what would move a terminal's cursor, and no longer than a reason.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(MOST_REASON).collect()
}

impl Request {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Stop { reason }
            | Self::Restart { reason }
            | Self::Hold { reason, .. }
            | Self::Resolve { reason, .. } => Some(reason),
            _ => None,
        }
    }

    fn with_reason(&self, text: String) -> Self {
        let mut request = self.clone();
        match &mut request {
            Self::Stop { reason }
            | Self::Restart { reason }
            | Self::Hold { reason, .. }
            | Self::Resolve { reason, .. } => *reason = text,
            _ => {}
        }
        request
    }
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ask {
    pub request: Request,
    /// Who is at the terminal. Believed of root and of visor's own user only; of others the kernel says who they are.
    pub person: Option<String>,
    /// Until when the answer is waited for, in milliseconds since 1970: nothing is done for one who has given up.
    pub until: u64,
}

/// A wish that is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Noted {
    /// What came of it, in words.
    pub said: String,
    /// False when it had been so before, and nothing was changed.
    pub changed: bool,
    /// The run that it is about.
    pub run: Option<RunId>,
    /// How many records that run had.
    pub records: u64,
}

/// A wish that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    pub what: String,
    pub help: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("{}", .0.what)]
    Refused(Refusal),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Host(#[from] HostError),
}

fn refuse<T>(what: impl Into<String>, help: impl Into<String>) -> Result<T, RequestError> {
    Err(RequestError::Refused(Refusal {
        what: what.into(),
        help: help.into(),
    }))
}

fn noted(said: impl Into<String>, changed: bool) -> Noted {
    Noted {
        said: said.into(),
        changed,
        run: None,
        records: 0,
    }
}

/// Checks a wish and notes it, in the name of `by`.
pub fn note(
    node: &DesiredNode,
    host: &RealHost,
    by: &str,
    request: &Request,
) -> Result<Noted, RequestError> {
    let now = wall_clock();
    let (by, reason) = (&plain(by), request.reason().unwrap_or_default());
    if reason.chars().count() > MOST_REASON {
        return refuse(
            format!("the reason is longer than {MOST_REASON} characters"),
            "Say it in a sentence; the whole story has its place elsewhere.",
        );
    }
    let request = &request.with_reason(plain(reason));
    let change = |what: String, edit: &mut dyn FnMut(&mut Overrides)| {
        edit_overrides(&host.layout, OverrideChange::new(now, by, what), edit)
    };
    match request {
        Request::Stop { reason } => {
            let stop = StopOverride {
                reason: reason.clone(),
                by: by.clone(),
                at: now,
            };
            change("stop".into(), &mut |o| o.stop = Some(stop.clone()))?;
            Ok(noted("the node is to stop", true))
        }
        Request::Start {} => {
            let mut was = false;
            change("start".into(), &mut |o| was = o.stop.take().is_some())?;
            Ok(noted("the node is to run", was))
        }
        Request::Restart { reason } => {
            restart_is_possible(host)?;
            let NodeState::Running { start, pid, .. } = host.node()? else {
                return refuse(
                    "the node does not run, so it cannot be restarted",
                    "Say `visor start`.",
                );
            };
            change(format!("restart: {reason}"), &mut |o| {
                o.restart = Some(start);
            })?;
            Ok(noted(format!("pid {pid} is to restart"), true))
        }
        Request::Hold { reason, for_ms } => {
            let until = for_ms.map(|ms| now.saturating_add(ms));
            let hold = Hold {
                reason: reason.clone(),
                by: by.clone(),
                at: now,
                until,
            };
            change("hold".into(), &mut |o| o.hold = Some(hold.clone()))?;
            let until = until.map(|u| format!(" until {}", rfc3339(u)));
            let until = until.unwrap_or_default();
            let said = format!("no upgrade begins{until}; `visor release-hold` ends it");
            Ok(noted(said, true))
        }
        Request::ReleaseHold {} => {
            let mut was = false;
            change("release-hold".into(), &mut |o| {
                was = o.hold.take().is_some()
            })?;
            let said = if was {
                "the hold is ended"
            } else {
                "there was no hold"
            };
            Ok(noted(said, was))
        }
        Request::Reconcile {} => Ok(noted("everything is looked at now", true)),
        Request::Approve { upgrade } => {
            let upgrade = find(node, upgrade)?;
            let name = &upgrade.name;
            if upgrade.trigger != Trigger::Manual {
                let trigger = &upgrade.trigger;
                return refuse(
                    format!("upgrade {name} is triggered by {trigger}, not by an approval"),
                    "Only upgrades with `trigger = { manual = true }` are approved.",
                );
            }
            let observed = observe(node, host)?;
            if let Some(applied) = observed.applied.iter().find(|a| a.name == *name) {
                let at = rfc3339(applied.at);
                let said =
                    format!("upgrade {name} was applied at {at}; nothing is left to approve");
                return Ok(noted(said, false));
            }
            let approval = Approval {
                upgrade: name.clone(),
                by: by.clone(),
                at: now,
            };
            change(format!("approve {name}"), &mut |o| {
                o.approvals.retain(|a| a.upgrade != approval.upgrade);
                o.approvals.push(approval.clone());
            })?;
            let said = format!(
                "upgrade {name} is approved; `visor run` takes it up, or `visor reconcile` does"
            );
            Ok(noted(said, true))
        }
        Request::Retry { upgrade } => {
            let name = &find(node, upgrade)?.name;
            let was = edit_deny(&host.layout, |denied| {
                let before = denied.len();
                denied.retain(|d| d.upgrade != *name);
                before > denied.len()
            })?;
            let said = if was {
                format!("upgrade {name} will be tried again")
            } else {
                format!("upgrade {name} had not failed")
            };
            Ok(noted(said, was))
        }
        Request::Abort {} => {
            let Some(open) = open_run(host)? else {
                return refuse(
                    "no run is open, so there is nothing to abort",
                    "See `visor status`.",
                );
            };
            let run = open.run;
            if open.status.stage == Stage::After {
                return refuse(
                    format!("run {run} is committed: from here on nothing is rolled back"),
                    "Write an upgrade to another release instead.",
                );
            }
            change(format!("abort run {run}"), &mut |o| o.abort = Some(run))?;
            Ok(Noted {
                run: Some(run),
                records: open.status.n_records,
                ..noted(format!("run {run} is to turn back"), true)
            })
        }
        Request::Resolve { answer, reason } => {
            let word = resolution(host, *answer, by, reason)?;
            let (run, records) = (word.run, word.seq);
            change(format!("resolve run {run}: {answer:?}"), &mut |o| {
                o.resolution = Some(word.clone());
            })?;
            Ok(Noted {
                run: Some(run),
                records,
                ..noted(format!("the word about run {run} is noted"), true)
            })
        }
    }
}

fn open_run(host: &RealHost) -> Result<Option<RunSummary>, RequestError> {
    let runs = run_summaries(host).map_err(ObserveError::from)?;
    Ok(runs.into_iter().rfind(RunSummary::is_open))
}

/// A run that has the node in its hands is not disturbed.
pub fn restart_is_possible(host: &RealHost) -> Result<(), RequestError> {
    match open_run(host)?.filter(|r| !r.waits()) {
        None => Ok(()),
        Some(open) => refuse(
            format!(
                "run {} ({}) is not finished",
                open.run,
                open.plan.action.describe()
            ),
            "`visor status` shows what it waits for; `visor stop` and `visor start` work at any time.",
        ),
    }
}

fn find<'a>(node: &'a DesiredNode, name: &str) -> Result<&'a DesiredUpgrade, RequestError> {
    let found = node.upgrades.iter().find(|u| u.name.as_str() == name);
    if let Some(found) = found {
        return Ok(found);
    }
    let names: Vec<&str> = node.upgrades.iter().map(|u| u.name.as_str()).collect();
    let help = if names.is_empty() {
        "The set has none for this node.".into()
    } else {
        format!("There are: {}.", names.join(", "))
    };
    let node = &node.spec.name;
    refuse(
        format!("there is no upgrade \"{name}\" for node {node}"),
        help,
    )
}

/// A word about the stuck run, if there is one and the word can be said of it.
fn resolution(
    host: &RealHost,
    answer: Answer,
    by: &str,
    reason: &str,
) -> Result<Resolution, RequestError> {
    let open = open_run(host)?;
    let stuck = open.as_ref().and_then(|r| match &r.status.stage {
        Stage::Stuck(at) => Some((r, at)),
        _ => None,
    });
    let Some((run, at)) = stuck else {
        return refuse(
            "no run is stuck, so there is nothing to resolve",
            "See `visor status`.",
        );
    };
    if answer == Answer::RollBack && !matches!(*at.stage, Stage::Critical | Stage::Confirming) {
        let (id, stage) = (run.run, at.stage.word());
        return refuse(
            format!("run {id} is {stage}: it cannot be rolled back from there"),
            "Say `not-done` to try the step again, or `done` once you have seen to it yourself.",
        );
    }
    let step = run.plan.step(&at.step);
    if answer == Answer::Done && step.is_some_and(|s| s.kind == StepKind::CarryKeep) {
        return refuse(
            "carrying signer state over cannot be taken as done: visor compares every file itself",
            "Put the missing file into the live data directory and say `not-done`.",
        );
    }
    Ok(Resolution {
        run: run.run,
        seq: run.status.n_records,
        answer,
        by: by.to_owned(),
        reason: reason.to_owned(),
    })
}
