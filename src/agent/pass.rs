//! One pass: finish what is open, then do all that can be done now; wait only when asked to.

use super::act::{start_node, stop_node};
use super::pace::{LOOK_EVERY, Pace};
use super::wish::Wish;
use crate::check::platform;
use crate::engine::{Advance, EngineError, Run, create};
use crate::host::{Clock as _, HostError, NodeState, Nodes as _, RealHost, Requests as _};
use crate::journal::{Outcome, Stage};
use crate::model::{Answer, RunId, Trigger, UnixMs};
use crate::observe::{ObserveError, observe};
use crate::plan::{Diff, Fact, Liveness, Observed, OpenRun, Plan, StepKind, diff};
use crate::step::{Notice, Report};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a pass waits at closed gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    OnePass,
    /// Until everything scheduled is done, or this time has come.
    Until(Option<UnixMs>),
    /// For ever; stuck runs too.
    Forever,
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassEnd {
    /// Nothing is left to do now.
    Done,
    /// Gates are closed.
    Blocked(Vec<String>),
    /// A run was given up before it touched the node.
    Abandoned(String),
    Cancelled(String),
    RolledBack(String),
    GivenUp(String),
    Stuck {
        run: RunId,
        step: String,
        reason: String,
    },
    Interrupted,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Host(#[from] HostError),
}

impl AgentError {
    /// What the machine said; anything else is in the records and stays.
    pub(super) fn of_machine(&self) -> Option<&HostError> {
        match self {
            Self::Host(error)
            | Self::Observe(ObserveError::Host(error))
            | Self::Engine(EngineError::Host(error)) => Some(error),
            Self::Engine(_) | Self::Observe(_) => None,
        }
    }
}

/// Between two looks at the manifests while waiting.
const REFRESH_EVERY_MS: u64 = 2_000;
/// Between two looks at what an operator asks for.
const LISTEN_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at the whole when nothing is asked for and nothing has changed.
const WHOLE_EVERY: Duration = Duration::from_secs(10);

/// Waits, but not once an operator asks for something, the manifests change, or it is over.
pub(super) fn listen(
    host: &RealHost,
    wish: &Wish,
    most: Duration,
    is_over: impl Fn() -> bool,
) -> Result<(), HostError> {
    let asked = host.request_stamp();
    let began = Instant::now();
    let mut looked = began;
    loop {
        let left = most.saturating_sub(began.elapsed());
        host.pause(left.min(LISTEN_EVERY))?;
        if began.elapsed() >= most || is_over() {
            return Ok(());
        }
        if host.request_stamp() != asked || host.reload_waits() {
            return Ok(());
        }
        if looked.elapsed() >= Duration::from_millis(REFRESH_EVERY_MS) {
            looked = Instant::now();
            if wish.has_changed() {
                return Ok(());
            }
        }
    }
}

/// A pass over one node.
pub struct Pass<'a> {
    pub host: &'a RealHost,
    pub wish: &'a mut Wish,
    pub patience: Patience,
    /// A supervisor starts the node, not the pass.
    pub supervised: bool,
    /// True while a run is stuck.
    pub stuck: Arc<AtomicBool>,
    pub report: &'a mut dyn Report,
    /// What was last said about a set that cannot be used.
    pub complaint: String,
    /// A saved plan: only the run of this digest is opened, once; `Some(None)` opens none.
    pub only: Option<Option<String>>,
}

/// How the work on one run ended.
enum Driven {
    Next,
    End(PassEnd),
}

impl Pass<'_> {
    pub fn run(&mut self) -> Result<PassEnd, AgentError> {
        let mut started = false;
        loop {
            self.refresh();
            let (observed, d) = self.look()?;
            if let Some(open) = &observed.open_run {
                if !self.supervised && !self.bring_up_for(open, &observed)? {
                    return Ok(PassEnd::Interrupted);
                }
                match self.drive(open.run)? {
                    Driven::Next => continue,
                    Driven::End(end) => return Ok(end),
                }
            }
            self.host.release_node();
            let free = observed.overrides.hold.is_none() && observed.overrides.stop.is_none();
            let ahead = d
                .next
                .as_ref()
                .filter(|_| self.patience != Patience::OnePass && free && !d.wants_start());
            let wanted = d.due().or(ahead).filter(|p| self.allows(p));
            if let Some(plan) = wanted {
                let run = create(self.host, plan)?;
                if let Some(only) = &mut self.only {
                    *only = None;
                }
                match self.drive(run)? {
                    Driven::Next => continue,
                    Driven::End(end) => return Ok(end),
                }
            }
            if d.wants_start() && !self.supervised {
                if started {
                    return Ok(PassEnd::Blocked(vec![
                        "the node ends right after its start; see its log".into(),
                    ]));
                }
                started = true;
                match start_node(&self.wish.node, self.host) {
                    Ok(_) => continue,
                    Err(HostError::Interrupted) => return Ok(PassEnd::Interrupted),
                    Err(other) => return Err(other.into()),
                }
            }
            let mut why: Vec<String> = d
                .blocked
                .iter()
                .map(|b| format!("{}\n    {}", b.what, b.help))
                .collect();
            if observed.overrides.stop.is_some() || observed.overrides.hold.is_some() {
                why.extend(d.overrides.iter().cloned());
            }
            self.honour_stop()?;
            let idle = why.is_empty() && d.scheduled.is_empty();
            match self.patience {
                Patience::OnePass if why.is_empty() => return Ok(PassEnd::Done),
                Patience::OnePass => return Ok(PassEnd::Blocked(why)),
                Patience::Until(_) if idle => return Ok(PassEnd::Done),
                Patience::Until(_) | Patience::Forever => {}
            }
            why.extend(
                d.scheduled
                    .iter()
                    .map(|s| format!("upgrade {} waits for {}", s.upgrade, s.trigger)),
            );
            self.report.notice(Notice::Waiting(&why));
            if self.time_is_over() {
                return Ok(PassEnd::Blocked(why));
            }
            match self.idle(WHOLE_EVERY) {
                Ok(()) => {}
                Err(HostError::Interrupted) => return Ok(PassEnd::Interrupted),
                Err(other) => return Err(other.into()),
            }
        }
    }

    fn idle(&self, most: Duration) -> Result<(), HostError> {
        listen(self.host, self.wish, most, || self.time_is_over())
    }

    fn allows(&self, plan: &Plan) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| only.as_ref() == Some(&plan.digest))
    }

    /// A run that waits at its gates needs a node that answers; true unless interrupted.
    fn bring_up_for(&self, open: &OpenRun, observed: &Observed) -> Result<bool, AgentError> {
        let down = matches!(observed.node, Liveness::Stopped { .. });
        let has_release = matches!(observed.current, Fact::Known(Some(_)));
        let wanted = open.stuck.is_none() && open.waits && observed.overrides.stop.is_none();
        if !(down && has_release && wanted) {
            return Ok(true);
        }
        match start_node(&self.wish.node, self.host) {
            Ok(_) => Ok(true),
            Err(HostError::Interrupted) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// Without a supervisor, an operator's `visor stop` is carried out here.
    fn honour_stop(&self) -> Result<(), AgentError> {
        if self.supervised || self.host.overrides()?.stop.is_none() {
            return Ok(());
        }
        if let NodeState::Running { .. } = self.host.node()? {
            stop_node(&self.wish.node, self.host)?;
        }
        Ok(())
    }

    fn refresh(&mut self) {
        self.report.notice(Notice::Looks);
        let is_asked = self.host.reload_asked();
        let refreshed = if is_asked {
            self.wish.refresh()
        } else {
            self.wish.refresh_if_changed()
        };
        let complaint = match refreshed {
            Ok(()) if is_asked => {
                let notice = Notice::Warn("the manifests were read again".into());
                self.report.notice(notice);
                String::new()
            }
            Ok(()) => String::new(),
            Err(error) => format!(
                "{}; the wishes read before are kept; see `visor plan check`",
                error.describe()
            ),
        };
        let is_news = is_asked || complaint != self.complaint;
        if is_news && !complaint.is_empty() {
            self.report.notice(Notice::Warn(complaint.clone()));
        }
        self.complaint = complaint;
        self.host.adopt(&self.wish.node.spec);
    }

    fn look(&self) -> Result<(Observed, Diff), AgentError> {
        let observed = observe(&self.wish.node, self.host)?;
        let d = diff(&self.wish.node, &observed, &platform());
        Ok((observed, d))
    }

    fn time_is_over(&self) -> bool {
        match self.patience {
            Patience::OnePass => true,
            Patience::Until(until) => until.is_some_and(|until| self.host.now() >= until),
            Patience::Forever => false,
        }
    }

    /// Recovers a run and takes it as far as patience goes.
    fn drive(&mut self, id: RunId) -> Result<Driven, AgentError> {
        let mut run = Run::recover(self.host, id)?;
        self.host.adopt(&run.plan.node);
        let mut looked_at = self.host.now();
        let mut pace = Pace::default();
        loop {
            if self.host.reload_waits() {
                // The run goes on with its plan's node; what was read counts from the next one on.
                self.refresh();
                self.host.adopt(&run.plan.node);
            }
            let end = match run.advance(self.report)? {
                Advance::Waiting(why) => {
                    if self.time_is_over() {
                        return Ok(Driven::End(PassEnd::Blocked(why)));
                    }
                    if self.host.now().saturating_sub(looked_at) >= REFRESH_EVERY_MS {
                        looked_at = self.host.now();
                        if self.superseded(&mut run)? {
                            return Ok(Driven::Next);
                        }
                        self.host.adopt(&run.plan.node);
                    }
                    if run.status().stage == Stage::Preparing {
                        self.honour_stop()?;
                        let height = run.plan.steps.iter().find_map(|s| match &s.kind {
                            StepKind::Trigger {
                                trigger: Trigger::Height(h),
                            } => Some(*h),
                            _ => None,
                        });
                        match height.zip(self.host.last_head()) {
                            Some((height, head)) => pace.again_in(height, head, Instant::now()),
                            None => Duration::from_millis(500),
                        }
                    } else {
                        LOOK_EVERY
                    }
                }
                Advance::Stuck(at) => {
                    // Whatever is said now, nobody else may start the node before it is done.
                    self.host.claim_node();
                    let word = self.host.overrides()?.resolution;
                    if let Some(word) =
                        word.filter(|w| w.run == id && w.seq == run.status().n_records)
                    {
                        run.resolve(word.answer, &word.by, &word.reason, self.report)?;
                        self.host.settle(id, None)?;
                        self.stuck.store(false, Ordering::Release);
                        continue;
                    }
                    let overrides = self.host.overrides()?;
                    if overrides.abort == Some(id) {
                        // Before the critical section the abort itself cancels the run, once it is no longer stuck; from
                        // there it rolls back; on the way back there is nothing more to ask for.
                        let answer = match *at.stage {
                            Stage::Preparing => Some(Answer::NotDone),
                            Stage::Critical | Stage::Confirming => Some(Answer::RollBack),
                            _ => None,
                        };
                        if answer != Some(Answer::NotDone) {
                            self.host.settle(id, None)?;
                        }
                        if let Some(answer) = answer {
                            run.resolve(answer, "an operator", "--abort", self.report)?;
                            self.stuck.store(false, Ordering::Release);
                            continue;
                        }
                    }
                    self.stuck.store(true, Ordering::Release);
                    self.host.release_node();
                    let step = run
                        .plan
                        .step(&at.step)
                        .map_or_else(|| at.step.to_string(), |s| s.name.clone());
                    if self.patience != Patience::Forever {
                        return Ok(Driven::End(PassEnd::Stuck {
                            run: id,
                            step,
                            reason: at.reason,
                        }));
                    }
                    Duration::from_millis(500)
                }
                Advance::Interrupted => return Ok(Driven::End(PassEnd::Interrupted)),
                Advance::Closed(outcome, detail) => {
                    return Ok(match outcome {
                        Outcome::Committed => Driven::Next,
                        Outcome::RolledBack => Driven::End(PassEnd::RolledBack(detail)),
                        Outcome::Abandoned => Driven::End(PassEnd::Abandoned(detail)),
                        Outcome::Cancelled => Driven::End(PassEnd::Cancelled(detail)),
                        Outcome::GivenUp => Driven::End(PassEnd::GivenUp(detail)),
                    });
                }
            };
            match self.idle(end) {
                Ok(()) => {}
                Err(HostError::Interrupted) => return Ok(Driven::End(PassEnd::Interrupted)),
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// While a run waits before its critical section: gives way to a wish that has changed or that comes first.
    fn superseded(&mut self, run: &mut Run<'_, RealHost>) -> Result<bool, AgentError> {
        if run.status().stage != Stage::Preparing {
            return Ok(false);
        }
        self.refresh();
        let mut observed = observe(&self.wish.node, self.host)?;
        observed.open_run = None;
        // What this run waits for is not in its own way.
        observed.overrides.hold = None;
        observed.overrides.stop = None;
        let next = diff(&self.wish.node, &observed, &platform()).next;
        if next.as_ref().is_some_and(|p| p.digest == run.plan.digest) {
            return Ok(false);
        }
        let why = match next {
            Some(plan) => format!("{} comes first or has changed", plan.action.describe()),
            None => "the manifests no longer ask for it".to_owned(),
        };
        self.report.notice(Notice::Warn(format!(
            "{} is given up: {why}",
            run.plan.action.describe()
        )));
        Ok(run.supersede(&why)?)
    }
}
