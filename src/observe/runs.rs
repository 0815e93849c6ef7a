//! Past and open runs, from their journals.

use crate::engine::{EngineError, status_of, timeline};
use crate::host::{HostError, Journals as _, RealHost};
use crate::journal::{Event, Outcome, Record, Stage, Status, decode};
use crate::model::{Release, RunId, Trigger, UnixMs};
use crate::plan::{Action, MeasuredOutage, Plan};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A run as its journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    pub run: RunId,
    pub plan: Plan,
    pub status: Status,
    pub ended_at: UnixMs,
    /// How long an upgrade took the node down, when its records say all of it.
    pub outage: Option<MeasuredOutage>,
}

impl RunSummary {
    pub fn is_open(&self) -> bool {
        !matches!(self.status.stage, Stage::Closed(..))
    }

    /// Before its critical section, and behind its commit, a run leaves the node to the supervisor.
    pub fn waits(&self) -> bool {
        matches!(self.status.stage, Stage::Preparing | Stage::After)
    }

    pub fn outcome(&self) -> Option<(Outcome, &str)> {
        match &self.status.stage {
            Stage::Closed(outcome, detail) => Some((*outcome, detail)),
            _ => None,
        }
    }

    /// The height of the upgrade whose release a committed run brought; second, none of a manual one and of the genesis.
    fn brought(&self) -> Option<(Release, Option<u64>)> {
        let (release, trigger) = match &self.plan.action {
            Action::Install { release, trigger } => (release, trigger.as_ref()),
            Action::Upgrade { to, trigger, .. } => (to, Some(trigger)),
        };
        let height = trigger.and_then(Trigger::height);
        let is_committed = self.outcome()?.0 == Outcome::Committed;
        is_committed.then(|| (release.clone(), height))
    }

    /// The release that a closed run left in place; `None` when it changed nothing or a person took over.
    pub fn left(&self) -> Option<Release> {
        match (self.outcome()?.0, &self.plan.action) {
            (Outcome::Committed, Action::Install { release, .. }) => Some(release.clone()),
            (Outcome::Committed, Action::Upgrade { to, .. }) => Some(to.clone()),
            (Outcome::RolledBack, Action::Upgrade { from, .. }) => Some(from.clone()),
            _ => None,
        }
    }
}

/// The height up to which upgrades are behind the current release, by the runs alone: that of its own upgrade, or the greatest that
/// was reached before it where it has none. The set may have forgotten them all.
pub(super) fn reached(runs: &[RunSummary], current: &Release) -> Option<u64> {
    if *current == Release::Genesis {
        return None;
    }
    let brought: Vec<_> = runs.iter().filter_map(RunSummary::brought).collect();
    // What came after it, and was taken back by hand, is ahead again.
    let own = brought.iter().rposition(|(release, _)| release == current);
    let until = &brought[..own.map_or(brought.len(), |own| own + 1)];
    let height = own.and_then(|own| brought[own].1);
    height.or_else(|| until.iter().filter_map(|(_, height)| *height).max())
}

/// All runs, oldest first. A closed run of a plan that this visor cannot read is passed over; an open one is an error.
pub fn run_summaries(host: &RealHost) -> Result<Vec<RunSummary>, RunError> {
    let mut out = Vec::new();
    for run in host.runs()? {
        let (plan, journal) = host.read(run)?;
        match status_of(run, &plan, &journal) {
            Ok((plan, status, records, _)) => {
                let ended_at = records.last().map_or(0, |r| r.at);
                out.push(RunSummary {
                    run,
                    outage: measured(&plan, &records, ended_at),
                    plan,
                    status,
                    ended_at,
                });
            }
            Err(error) => {
                let closed = decode(&journal).is_ok_and(|(r, _)| {
                    matches!(r.last().map(|r| &r.event), Some(Event::Closed { .. }))
                });
                if !closed {
                    return Err(error.into());
                }
            }
        }
    }
    Ok(out)
}

fn measured(plan: &Plan, records: &[Record], at: UnixMs) -> Option<MeasuredOutage> {
    let Action::Upgrade { name, .. } = &plan.action else {
        return None;
    };
    let timeline = timeline(plan, records);
    Some(MeasuredOutage {
        upgrade: name.clone(),
        at,
        stop_ms: timeline.stop_ms?,
        between_ms: timeline.between_ms?,
        start_ms: timeline.start_ms?,
    })
}
