//! `visor run`: one thread reconciles, this one keeps the node alive and listens to the operator.
//!
//! Both act on the node through one baton: while the engine has claimed it, the supervisor keeps its hands off.

use super::live::{Live, NextTry};
use super::pass::{AgentError, Pass, PassEnd, Patience, listen};
use super::restart::{Verdict, judge};
use super::wish::Wish;
use crate::engine::{EngineError, Run};
use crate::host::{
    Ambient, Baton, Chains as _, Clock as _, HostError, NodeState, Nodes as _, RealHost,
    Requests as _, Signs,
};
use crate::model::{ChainSpec, LogPolicy, StartId};
use crate::observe::{describe_holder, run_summaries};
use crate::plan::expand_launch;
use crate::step::{Notice, Report};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// How `visor run` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supervised {
    /// Told to end: node stopped.
    Stopped,
    /// Told to leave: the node is as it was.
    Left,
    /// The node lives although its stop policy is spent.
    NotStopped,
}

/// Between two looks at the manifests.
const READ_EVERY: Duration = Duration::from_secs(2);
/// Between two looks whether the node is ready.
const READY_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at the node's log.
const LOG_EVERY: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(250);
/// Between two looks at a node that runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So long it may be unclear whether the node runs.
const UNCLEAR_WITHIN: Duration = Duration::from_secs(2);
const FIRST_TICK: Duration = Duration::from_millis(20);
/// After a pass that could not do its work, the next one waits this long at first, and at the most.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// A pass that failed at the machine is tried again like a visor that is started anew, at the latest after this.
const LONGEST_FAILED: Duration = Duration::from_secs(30);

/// Supervises until `ambient.interrupt` is set. The caller holds the state lock.
pub fn supervise(
    wish: &Wish,
    ambient: &Ambient,
    new_report: &(dyn Fn() -> Box<dyn Report + Send> + Sync),
    live: &Live,
) -> Result<Supervised, AgentError> {
    let baton = Baton::default();
    let stuck = Arc::new(AtomicBool::new(false));
    let host = host_of(wish, ambient, &baton);
    // Until the engine has looked at what an earlier visor left, nobody touches the node.
    host.claim_node();
    // Only who keeps the node says that visor lives.
    let unsigned = Ambient {
        signs: Signs::default(),
        ..ambient.clone()
    };
    let policy = Mutex::new(wish.node.spec.logs.clone());
    let failed: Option<AgentError> = std::thread::scope(|scope| {
        let engine = scope.spawn(|| {
            let ended = reconcile_until_told(
                wish.clone(),
                &|wish| host_of(wish, &unsigned, &baton),
                &stuck,
                new_report().as_mut(),
            );
            // An engine that could not go on takes the supervisor along.
            ambient.interrupt_all();
            ended
        });
        let mut report = new_report();
        let mut keeper = Keeper {
            wish: wish.clone(),
            host: &host,
            stuck: &stuck,
            live,
            log_policy: &policy,
            tried: None,
            known: None,
            told_of_end: false,
            ends: vec![],
            start_at: None,
            failures: 0,
            looked: None,
            unclear_since: None,
            gone: None,
            stamp: None,
            asked: None,
            is_ready: false,
        };
        scope.spawn(|| {
            let host = host_of(wish, &unsigned, &baton);
            keep_log(&host, &policy, new_report().as_mut());
        });
        let mut read = Instant::now();
        // What runs already is known at once; from then on there is no hurry.
        while host
            .pause(if keeper.known.is_some() {
                TICK
            } else {
                FIRST_TICK
            })
            .is_ok()
        {
            // Not while the engine has the node in its hands: it would be left between two releases.
            if ambient.leave.load(Ordering::Relaxed) {
                baton.unless_claimed(|| ambient.interrupt_all());
            }
            // What is wrong with a set the engine says.
            if read.elapsed() >= READ_EVERY {
                read = Instant::now();
                if keeper.wish.has_changed() {
                    keeper.read_again();
                }
            }
            if let Err(error) = keeper.say_ready(&ambient.signs) {
                report.notice(Notice::Warn(format!("supervision: {error}")));
            }
            if keeper.is_calm() {
                continue;
            }
            if let Some(Err(error)) = baton.unless_claimed(|| keeper.tick(report.as_mut())) {
                report.notice(Notice::Warn(format!("supervision: {error}")));
            }
        }
        (ambient.signs.ending)();
        engine.join().ok().and_then(Result::err)
    });
    if let Some(error) = failed {
        return Err(error);
    }
    if ambient.leave.load(Ordering::Relaxed) && !ambient.stop.load(Ordering::Relaxed) {
        return Ok(Supervised::Left);
    }
    // By what the manifests say now, if they say it well.
    let mut wish = wish.clone();
    let _ = wish.refresh();
    live.said("stopping the node");
    finish(&wish, ambient, new_report().as_mut())
}

fn host_of(wish: &Wish, ambient: &Ambient, baton: &Baton) -> RealHost {
    RealHost::new(&wish.node.spec, ambient.clone(), baton.clone())
}

/// Looks after the node's log until visor ends. What goes wrong is said once, until it goes well again.
fn keep_log(host: &RealHost, policy: &Mutex<LogPolicy>, report: &mut dyn Report) {
    let mut said = String::new();
    loop {
        let now = policy.lock().map(|p| p.clone()).unwrap_or_default();
        let complaint = match host.keep_log(&now) {
            Ok(()) => String::new(),
            Err(error) => format!("the node's log is not rotated: {error}"),
        };
        if complaint != said && !complaint.is_empty() {
            report.notice(Notice::Warn(complaint.clone()));
        }
        said = complaint;
        if host.pause(LOG_EVERY).is_err() {
            return;
        }
    }
}

/// Returns when visor is told to end, or when what is wrong lies in the records.
///
/// What the machine would not do is tried again with a new host, as a visor would that is started anew: a run goes on from its
/// journal, and the node stays with whoever has it.
fn reconcile_until_told(
    mut wish: Wish,
    new_host: &dyn Fn(&Wish) -> RealHost,
    stuck: &Arc<AtomicBool>,
    report: &mut dyn Report,
) -> Result<(), AgentError> {
    let mut failures = 0;
    loop {
        let host = new_host(&wish);
        let began = Instant::now();
        let Err(error) = reconcile_forever(&mut wish, &host, stuck, report) else {
            return Ok(());
        };
        match error.of_machine() {
            Some(HostError::Interrupted) => return Ok(()),
            Some(_) => {}
            None => return Err(error),
        }
        if began.elapsed() > LONGEST_REST {
            failures = 0;
        }
        let rest = FIRST_REST
            .saturating_mul(1 << failures.min(16))
            .min(LONGEST_FAILED);
        failures += 1;
        report.notice(Notice::Refused {
            why: &HostError::from_error(&error).to_string(),
            again_in: rest,
        });
        if host.pause(rest).is_err() {
            return Ok(());
        }
    }
}

fn reconcile_forever(
    wish: &mut Wish,
    host: &RealHost,
    stuck: &Arc<AtomicBool>,
    report: &mut dyn Report,
) -> Result<(), AgentError> {
    let mut rest = FIRST_REST;
    let mut complaint = String::new();
    loop {
        let mut pass = Pass {
            only: None,
            host,
            wish,
            patience: Patience::Forever,
            supervised: true,
            stuck: Arc::clone(stuck),
            report: &mut *report,
            complaint: std::mem::take(&mut complaint),
        };
        let began = Instant::now();
        let ended = pass.run()?;
        complaint = pass.complaint;
        let again_in = match ended {
            PassEnd::Interrupted => return Ok(()),
            PassEnd::Abandoned(_) => {
                if began.elapsed() > LONGEST_REST {
                    rest = FIRST_REST;
                }
                let now = rest;
                rest = (rest * 2).min(LONGEST_REST);
                now
            }
            _ => Duration::from_millis(500),
        };
        host.release_node();
        if listen(host, wish, again_in, || false).is_err() {
            return Ok(());
        }
    }
}

/// The part that keeps the node alive.
struct Keeper<'a> {
    wish: Wish,
    host: &'a RealHost,
    stuck: &'a AtomicBool,
    live: &'a Live,
    /// What the one goes by who keeps the log.
    log_policy: &'a Mutex<LogPolicy>,
    /// When this visor last tried to start the node.
    tried: Option<Instant>,
    /// The process that was last told of.
    known: Option<StartId>,
    told_of_end: bool,
    /// Ends that nobody asked for, as far as they count.
    ends: Vec<Instant>,
    /// Not before.
    start_at: Option<Instant>,
    /// When the node was last looked at, and what was asked for then.
    looked: Option<Instant>,
    stamp: Option<(u64, SystemTime)>,
    /// Starts in a row that the machine would not have.
    failures: u32,
    unclear_since: Option<Instant>,
    /// The start of which it is noted that nothing is left.
    gone: Option<StartId>,
    /// When the chain was last asked whether the node is ready.
    asked: Option<Instant>,
    is_ready: bool,
}

impl Keeper<'_> {
    /// Reads the manifests again; false when they are wrong.
    fn read_again(&mut self) -> bool {
        if let Err(error) = self.wish.refresh() {
            self.live.set_problem(&error.describe());
            return false;
        }
        self.live.set_problem("");
        if let Ok(mut policy) = self.log_policy.lock() {
            *policy = self.wish.node.spec.logs.clone();
        }
        true
    }

    /// True when the node ran at the last look, that was just now, and nobody asked for anything since.
    fn is_calm(&mut self) -> bool {
        let stamp = self.host.request_stamp();
        let lately = self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY);
        if lately && self.known.is_some() && !self.told_of_end && self.stamp == stamp {
            return true;
        }
        (self.looked, self.stamp) = (Some(Instant::now()), stamp);
        false
    }

    fn tick(&mut self, report: &mut dyn Report) -> Result<(), HostError> {
        let overrides = self.host.overrides()?;
        let stop_wanted = overrides.stop.is_some();
        let node = self.host.node()?;
        if !matches!(node, NodeState::Unclear { .. }) {
            self.unclear_since = None;
        }
        if let NodeState::Gone {
            last: Some(last), ..
        } = &node
            && self.gone != Some(*last)
        {
            self.host.mark_gone(*last)?;
            self.gone = Some(*last);
        }
        match node {
            NodeState::Running { pid, start, .. }
                if !stop_wanted && overrides.restart == Some(start) =>
            {
                report.notice(Notice::Warn(format!(
                    "stopping pid {pid}: an operator asked for a restart"
                )));
                if self.host.stop(&self.wish.node.spec.stop)?.is_none() {
                    report.notice(Notice::Warn(format!(
                        "pid {pid} does not end within its grace"
                    )));
                    return Ok(());
                }
                // Nothing that was before counts, and nothing is waited for.
                self.forget();
            }
            NodeState::Running { pid, .. } if stop_wanted => {
                report.notice(Notice::Warn(format!(
                    "stopping pid {pid}: an operator asked for it"
                )));
                self.forget();
                if self.host.stop(&self.wish.node.spec.stop)?.is_none() {
                    report.notice(Notice::Warn(format!(
                        "pid {pid} does not end within its grace"
                    )));
                }
            }
            NodeState::Running { pid, start, .. } if self.known != Some(start) => {
                self.known = Some(start);
                self.told_of_end = false;
                self.live.next_start(None, self.ends.len());
                report.notice(Notice::Warn(format!("the node runs, pid {pid}")));
            }
            NodeState::Unclear { .. } if self.is_unclear_for_long() => {
                let policy = &self.wish.node.spec.stop;
                // A run that is stuck on it waits for a person.
                if stop_wanted {
                    self.host.stop(policy)?;
                } else if !self.stuck.load(Ordering::Acquire) && self.host.sweep(policy)? {
                    let text = "what the node left behind is told to end";
                    report.notice(Notice::Warn(text.into()));
                }
            }
            // The next start is the operator's: it waits for nothing, and what was before does not count.
            NodeState::Gone { .. } if stop_wanted => self.forget(),
            NodeState::Gone { exit, code, .. } if !self.stuck.load(Ordering::Acquire) => {
                if crate::host::Releases::current(self.host)?.is_none() {
                    return Ok(());
                }
                let has_run = self.known.is_some() || self.tried.is_some();
                if has_run && !self.told_of_end {
                    self.told_of_end = true;
                    let exit = exit.as_deref().unwrap_or("exit status unknown");
                    self.ended(exit, code, report)?;
                    return Ok(());
                }
                // A node that never ran in this visor's time is not a crashed one; one that ends at once is.
                if self.start_at.is_none_or(|at| Instant::now() >= at) {
                    self.tried = Some(Instant::now());
                    self.told_of_end = false;
                    if self.read_again() {
                        self.host.adopt(&self.wish.node.spec);
                    }
                    if let Some(holder) = self.host.foreign_holder()? {
                        self.not_started(
                            &format!(
                                "the node is not started: {}, and visor did not start it",
                                describe_holder(&holder)
                            ),
                            report,
                        );
                        return Ok(());
                    }
                    let launch = expand_launch(&self.wish.node.spec);
                    let start = StartId(self.host.new_ulid());
                    match self.host.start(start, &launch) {
                        Ok(()) => self.failures = 0,
                        Err(error) => self.not_started(&error.to_string(), report),
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Says once that the node is as it should be: it runs and its chain answers, or an operator wants it down.
    fn say_ready(&mut self, signs: &Signs) -> Result<(), HostError> {
        let lately = |at: Instant| at.elapsed() < READY_EVERY;
        if self.is_ready || self.asked.is_some_and(lately) {
            return Ok(());
        }
        self.asked = Some(Instant::now());
        let chain = &self.wish.node.spec.chain;
        self.is_ready = match self.host.node()? {
            NodeState::Running { .. } => {
                *chain == ChainSpec::None || self.host.chain(chain).head.known().is_some()
            }
            _ => self.host.overrides()?.stop.is_some(),
        };
        if self.is_ready {
            (signs.ready)();
        }
        Ok(())
    }

    /// The machine would not have the node started; it may later. No end of the node's, so nothing is given up.
    fn not_started(&mut self, why: &str, report: &mut dyn Report) {
        let policy = &self.wish.node.spec.restart;
        let pause = policy
            .delay
            .max(FIRST_REST)
            .saturating_mul(1 << self.failures.min(16));
        let pause = pause.min(policy.backoff.max(FIRST_REST));
        self.failures += 1;
        // It never ran, so its end need not be told.
        (self.tried, self.known) = (None, None);
        self.start_at = Some(Instant::now() + pause);
        self.wait_for_start(pause, why, true);
        let text = format!("{why}; it is tried again in {pause:?}");
        report.notice(Notice::Warn(text));
    }

    /// For an instant it is so at every end and every start.
    fn is_unclear_for_long(&mut self) -> bool {
        let since = *self.unclear_since.get_or_insert_with(Instant::now);
        since.elapsed() >= UNCLEAR_WITHIN
    }

    fn forget(&mut self) {
        (self.tried, self.known, self.start_at) = (None, None, None);
        self.told_of_end = false;
        self.ends.clear();
        self.live.next_start(None, 0);
    }

    fn wait_for_start(&self, pause: Duration, why: &str, refused: bool) {
        let next = NextTry::after(pause, why, refused);
        self.live.next_start(Some(next), self.ends.len());
    }

    /// The node has ended, and nobody asked for it.
    fn ended(
        &mut self,
        exit: &str,
        code: Option<i32>,
        report: &mut dyn Report,
    ) -> Result<(), HostError> {
        let policy = &self.wish.node.spec.restart;
        let now = Instant::now();
        self.ends
            .retain(|at| now.duration_since(*at) < policy.within);
        self.ends.push(now);
        let ends = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        match judge(policy, code, ends) {
            Verdict::StartAfter(pause) => {
                self.start_at = Some(now + pause);
                self.wait_for_start(pause, &format!("the node has ended ({exit})"), false);
                report.notice(Notice::Warn(format!(
                    "the node has ended ({exit}); it is started again in {pause:?}"
                )));
            }
            Verdict::Leave(why) => {
                self.live.next_start(None, self.ends.len());
                self.host.keep_stopped(&format!(
                    "the node ended ({exit}) and is not started again: {why}"
                ))?;
                report.notice(Notice::Warn(format!(
                    "the node has ended ({exit}) and is not started again: {why}; `visor start` starts it"
                )));
            }
        }
        Ok(())
    }
}

/// The end of `visor run`: an open run is told that the node's death is ours, then the node is stopped.
fn finish(
    wish: &Wish,
    ambient: &Ambient,
    report: &mut dyn Report,
) -> Result<Supervised, AgentError> {
    // What ends visor does not end the wait for the node: a second TERM changes nothing.
    let calm = Ambient {
        env: ambient.env.clone(),
        say: ambient.say.clone(),
        signs: ambient.signs.clone(),
        ..Ambient::default()
    };
    let host = RealHost::new(&wish.node.spec, calm, Baton::default());
    let open = run_summaries(&host)
        .map_err(crate::observe::ObserveError::from)?
        .into_iter()
        .rfind(|r| r.is_open());
    if let Some(open) = open {
        let paused = Run::recover(&host, open.run)
            .and_then(|mut run| run.paused("visor run was told to end"));
        match paused {
            Ok(()) => {}
            Err(EngineError::Host(error)) => return Err(error.into()),
            Err(other) => return Err(other.into()),
        }
    }
    report.notice(Notice::Warn("stopping the node".into()));
    match super::act::stop_node(&wish.node, &host)? {
        Some(_) => Ok(Supervised::Stopped),
        None => Ok(Supervised::NotStopped),
    }
}
