//! The stop sequence: TERM, wait; only when the policy allows: QUIT, wait, KILL. Ends when process and lock are gone.

use super::read_log::last_lines;
use super::records::{read_exit, read_start, starts};
use super::state::{left, lock_is_free, mark_gone, node_state};
use crate::durable::PathError;
use crate::host::{NodeState, StopReport, wall_clock};
use crate::killpoint;
use crate::model::{StartId, StopPolicy, UnixMs, human_ms};
use crate::process::{Left, Watch, kill_all, kill_group};
use crate::store::Layout;
use rustix::io::Errno;
use rustix::process::Signal;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("interrupted")]
    Interrupted,
    #[error("failed to {what} pid {pid}")]
    Process {
        what: &'static str,
        pid: i32,
        #[source]
        source: Errno,
    },
}

/// Stops nodes; remembers which start it sent a TERM, for each gets at most one from one visor.
#[derive(Debug, Default)]
pub struct Stopper {
    termed: RefCell<BTreeSet<StartId>>,
    /// When what a start left behind was told to end.
    swept: RefCell<BTreeMap<StartId, Instant>>,
}

/// After KILL a process needs this long at the most to be gone (measured: 88 ms a GiB of memory).
const DEATH_WITHIN: Duration = Duration::from_secs(30);

impl Stopper {
    /// `Ok(None)`: it lives on although the policy is spent.
    pub fn stop(
        &self,
        layout: &Layout,
        policy: &StopPolicy,
        interrupted: &dyn Fn() -> bool,
        say: &dyn Fn(&str),
    ) -> Result<Option<StopReport>, StopError> {
        let (start, pid) = match node_state(layout, None)? {
            NodeState::Running { start, pid, .. } => (start, pid),
            NodeState::Gone { .. } => {
                return Ok(Some(StopReport {
                    term_at: None,
                    exit_at: wall_clock(),
                    exit: None,
                    killed: false,
                }));
            }
            // The process has ended and something still holds its lock.
            NodeState::Unclear { .. } => {
                let Some(start) = last_recorded(layout)? else {
                    return Ok(None);
                };
                return see_gone(layout, start, (None, false), policy, interrupted);
            }
        };
        let deed = |what| move |source| StopError::Process { what, pid, source };
        let watch = match read_start(layout, start)? {
            Some(record) => Watch::open(&record.identity).map_err(deed("watch"))?,
            None => None,
        };
        let Some(watch) = watch else {
            return see_gone(layout, start, (None, false), policy, interrupted);
        };
        let ended = |time: Duration, interrupted: &dyn Fn() -> bool| {
            let progress = Progress::new(layout, time, say);
            let interrupted = || {
                progress.tell();
                interrupted()
            };
            watch
                .wait(time, &interrupted)
                .map_err(deed("wait for"))?
                .ok_or(StopError::Interrupted)
        };
        let mut term_at = None;
        if self.termed.borrow_mut().insert(start) {
            killpoint::hit("stop:before");
            term_at = Some(wall_clock());
            watch.signal(Signal::TERM).map_err(deed("signal"))?;
            killpoint::hit("stop:termed");
        }
        let mut killed = false;
        if !ended(policy.grace, interrupted)? {
            if !policy.kill {
                return Ok(None);
            }
            // Go programs write all their stacks on QUIT: evidence before the end.
            watch.signal(Signal::QUIT).map_err(deed("signal"))?;
            if !ended(policy.dump, interrupted)? {
                killed = true;
                // The node leads a session and a group of its own, so its group is its pid.
                kill_group(pid);
                kill_cgroup(layout, start)?;
                watch.signal(Signal::KILL).map_err(deed("signal"))?;
                if !ended(DEATH_WITHIN, &|| false)? {
                    return Ok(None);
                }
            }
        }
        see_gone(layout, start, (term_at, killed), policy, interrupted)
    }
}

impl Stopper {
    /// Tells what a node that crashed left behind to end, and kills it when the grace is over and the policy allows it; it waits for nothing. True
    /// when something was told now. What a node left that ended well is not touched: it has gone into the background, and that may be the
    /// node at its work.
    pub fn sweep(&self, layout: &Layout, policy: &StopPolicy) -> Result<bool, StopError> {
        let Some(start) = last_recorded(layout)? else {
            return Ok(false);
        };
        let exit = read_exit(layout, start)?;
        let leader = read_start(layout, start)?.map(|r| r.identity);
        let (Some(exit), Some(leader)) = (exit, leader) else {
            return Ok(false);
        };
        if exit.code == Some(0) {
            return Ok(false);
        }
        let remains = left(layout, start, &leader, lock_is_free(layout)?)?;
        let mut swept = self.swept.borrow_mut();
        match swept.get(&start) {
            None => {
                swept.insert(start, Instant::now());
                signal_all(&remains, Signal::TERM);
                Ok(!remains.is_empty())
            }
            Some(at) if policy.kill && at.elapsed() >= policy.grace => {
                kill_cgroup(layout, start)?;
                signal_all(&remains, Signal::KILL);
                Ok(false)
            }
            Some(_) => Ok(false),
        }
    }
}

/// What is said while the node's exit is awaited.
struct Progress<'a> {
    layout: &'a Layout,
    of: Duration,
    say: &'a dyn Fn(&str),
    began: Instant,
    /// Seconds after which it is said again.
    next: Cell<u64>,
}

impl<'a> Progress<'a> {
    fn new(layout: &'a Layout, of: Duration, say: &'a dyn Fn(&str)) -> Self {
        Self {
            layout,
            of,
            say,
            began: Instant::now(),
            next: Cell::new(3),
        }
    }

    fn tell(&self) {
        let seconds = self.began.elapsed().as_secs();
        if seconds < self.next.get() {
            return;
        }
        // 3 s, 10 s, 20 s, …: often at first, then as often as a person looks.
        self.next.set(seconds / 10 * 10 + 10);
        let of = human_ms(u64::try_from(self.of.as_millis()).unwrap_or(u64::MAX));
        let last = last_lines(self.layout, 1).unwrap_or_default();
        let last = last.first().map(|l| format!("; its last line: {l}"));
        let last = last.unwrap_or_default();
        (self.say)(&format!(
            "waiting for the node's exit, {seconds} s of {of}{last}"
        ));
    }
}

/// The newest start that left a record.
fn last_recorded(layout: &Layout) -> Result<Option<StartId>, PathError> {
    for start in starts(layout).into_iter().rev() {
        if read_start(layout, start)?.is_some() {
            return Ok(Some(start));
        }
    }
    Ok(None)
}

/// So long the node's children may take to end with it, before they are told to.
const CHILDREN_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at all processes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The process has ended: waits for its lock, which its children and its shim may still hold, and for all that it left behind.
fn see_gone(
    layout: &Layout,
    start: StartId,
    (term_at, mut killed): (Option<UnixMs>, bool),
    policy: &StopPolicy,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<StopReport>, StopError> {
    let exit_at = wall_clock();
    killpoint::hit("stop:exited");
    let leader = read_start(layout, start)?.map(|r| r.identity);
    let mut began = Instant::now();
    let mut patience = policy.grace.max(Duration::from_secs(2));
    let (mut all_termed, mut all_killed) = (false, false);
    let mut looked: Option<Instant> = None;
    loop {
        let is_free = lock_is_free(layout)?;
        let is_time = |at: Instant| at.elapsed() >= LOOK_EVERY;
        if is_free || looked.is_none_or(is_time) {
            looked = Some(Instant::now());
            let remains = match &leader {
                Some(leader) => left(layout, start, leader, is_free)?,
                None => vec![],
            };
            if is_free && remains.is_empty() {
                break;
            }
            if !all_termed && began.elapsed() > CHILDREN_WITHIN {
                all_termed = true;
                signal_all(&remains, Signal::TERM);
            }
            if began.elapsed() > patience {
                if !policy.kill || all_killed {
                    return Ok(None);
                }
                (killed, all_killed) = (true, true);
                (began, patience) = (Instant::now(), DEATH_WITHIN);
                kill_cgroup(layout, start)?;
                signal_all(&remains, Signal::KILL);
            }
            if is_free {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        if interrupted() {
            return Err(StopError::Interrupted);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    // Nobody has to look through all processes again. Without the mark it is only looked for again.
    let _ = mark_gone(layout, start);
    let exit = read_exit(layout, start)?.map(|e| e.describe());
    Ok(Some(StopReport {
        term_at,
        exit_at,
        exit,
        killed,
    }))
}

/// At once, for those that fork faster than they are found; what it misses is found one by one.
fn kill_cgroup(layout: &Layout, start: StartId) -> Result<(), PathError> {
    let dir = read_start(layout, start)?.filter(|r| r.identity.is_this_boot());
    if let Some(dir) = dir.and_then(|r| r.cgroup) {
        let _ = kill_all(&dir);
    }
    Ok(())
}

/// As far as this user may: who is left after that is named by the next look.
fn signal_all(left: &[Left], signal: Signal) {
    for Left { identity, .. } in left {
        if let Ok(Some(watch)) = Watch::open(identity) {
            let _ = watch.signal(signal);
        }
    }
}
