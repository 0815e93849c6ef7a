//! The stop sequence: TERM, wait; only when the policy allows: QUIT, wait, KILL. Ends when process and lock are gone.

use super::log::last_lines;
use super::records::{read_exit, read_start, starts};
use super::state::{lock_is_free, node_state};
use crate::durable::PathError;
use crate::host::{NodeState, StopReport, wall_clock};
use crate::killpoint;
use crate::model::{StartId, StopPolicy, UnixMs, human_ms};
use crate::process::{Watch, kill_group};
use crate::store::Layout;
use rustix::io::Errno;
use rustix::process::Signal;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
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
        let (start, pid) = match node_state(layout)? {
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
                let pid = read_start(layout, start)?.map_or(0, |r| r.identity.pid);
                return see_gone(layout, start, pid, (None, false), policy, interrupted);
            }
        };
        let deed = |what| move |source| StopError::Process { what, pid, source };
        let watch = match read_start(layout, start)? {
            Some(record) => Watch::open(&record.identity).map_err(deed("watch"))?,
            None => None,
        };
        let Some(watch) = watch else {
            return see_gone(layout, start, pid, (None, false), policy, interrupted);
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
                watch.signal(Signal::KILL).map_err(deed("signal"))?;
                if !ended(DEATH_WITHIN, &|| false)? {
                    return Ok(None);
                }
            }
        }
        see_gone(layout, start, pid, (term_at, killed), policy, interrupted)
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

/// The process has ended: waits for its lock, which its children and its shim may still hold.
fn see_gone(
    layout: &Layout,
    start: StartId,
    pid: i32,
    (term_at, mut killed): (Option<UnixMs>, bool),
    policy: &StopPolicy,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<StopReport>, StopError> {
    let exit_at = wall_clock();
    killpoint::hit("stop:exited");
    let mut began = Instant::now();
    let mut patience = policy.grace.max(Duration::from_secs(2));
    let mut group_killed = false;
    while !lock_is_free(layout)? {
        if began.elapsed() > patience {
            if !policy.kill || group_killed {
                return Ok(None);
            }
            (killed, group_killed) = (true, true);
            (began, patience) = (Instant::now(), DEATH_WITHIN);
            kill_group(pid);
        }
        if interrupted() {
            return Err(StopError::Interrupted);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let exit = read_exit(layout, start)?.map(|e| e.describe());
    Ok(Some(StopReport {
        term_at,
        exit_at,
        exit,
        killed,
    }))
}
