//! The effect of every step kind that is one call or a few. Gates, hooks and health have files of their own.

use super::health::await_health;
use super::hook::run_hook_step;
use super::report::{Notice, Report};
use crate::host::{Host, HostError, NodeState, SealState, StartEvidence};
use crate::journal::Status;
use crate::model::{GenId, RunId, StopPolicy};
use crate::plan::{Plan, Step, StepKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a step may look at.
pub struct Cx<'a, H> {
    pub host: &'a H,
    pub plan: &'a Plan,
    pub run: RunId,
    pub generation: GenId,
    pub status: &'a Status,
    /// True when this visor may have been preceded by another in the same stage: look before doing.
    pub recovering: bool,
}

/// The good end of a step.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StepEnd {
    pub note: Option<String>,
    pub facts: BTreeMap<String, u64>,
}

impl StepEnd {
    pub fn note(text: &str) -> Self {
        Self {
            note: Some(text.to_owned()),
            facts: BTreeMap::new(),
        }
    }

    fn fact(mut self, name: &str, value: u64) -> Self {
        self.facts.insert(name.to_owned(), value);
        self
    }
}

/// The other ends of a step.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It did not work; the run goes back or is given up.
    #[error("{0}")]
    Failed(String),
    /// The machine would not have the node started.
    #[error("{0}")]
    Refused(String),
    /// Whether it happened cannot be proved, or going on would not be safe.
    #[error("{0}")]
    Stuck(String),
    #[error("an operator asked for `--abort`")]
    Aborted,
    /// The node is to be stopped now, and the run goes on later.
    #[error("an operator asked for `visor stop`")]
    Stopped,
    #[error(transparent)]
    Host(HostError),
}

impl From<HostError> for StepError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Failed(text) => Self::Failed(text),
            HostError::Refused(text) => Self::Refused(text),
            other => Self::Host(other),
        }
    }
}

/// How long a held lock without a living record is given to become one or the other.
const CLEAR_WITHIN: Duration = Duration::from_secs(5);

/// The node's state once it is clear; stuck when it stays unclear.
pub fn await_clear<H: Host>(host: &H) -> Result<NodeState, StepError> {
    let began = host.ticks();
    loop {
        match host.node()? {
            NodeState::Unclear { why } => {
                if host.ticks().saturating_sub(began) >= CLEAR_WITHIN.as_millis() as u64 {
                    return Err(StepError::Stuck(why));
                }
                host.pause(Duration::from_millis(20))?;
            }
            clear => return Ok(clear),
        }
    }
}

/// Does one step, looking first where an earlier visor may have done it.
pub fn run_step<H: Host>(
    cx: &Cx<'_, H>,
    step: &Step,
    report: &mut dyn Report,
) -> Result<StepEnd, StepError> {
    let (host, binary) = (cx.host, cx.plan.node.launch.binary.as_str());
    match &step.kind {
        StepKind::Fetch { artifact, release } => {
            let bytes = host.fetch(artifact, release, binary)?;
            Ok(StepEnd::note(&bytesize::ByteSize(bytes).to_string()).fact("bytes", bytes))
        }
        StepKind::Stage { artifact, release } => {
            host.stage(artifact, release, binary)?;
            Ok(StepEnd::note(&format!(
                "{}/bin/{binary}",
                release.dir().display()
            )))
        }
        StepKind::Hook(hook) => run_hook_step(cx, step, hook, report),
        StepKind::Stop { policy } => stop(cx, policy),
        StepKind::Seal { backup } => {
            if cx.recovering {
                match host.seal_state(cx.generation)? {
                    SealState::Sealed if touched(cx)? || host.seal_holds(cx.generation)? => {
                        return Ok(StepEnd::note("had been sealed"));
                    }
                    SealState::Sealed => host.unseal(cx.generation)?,
                    SealState::Consumed => {
                        return Err(StepError::Stuck(format!(
                            "generation {} is used up before it was sealed",
                            cx.generation
                        )));
                    }
                    SealState::None => {}
                }
            }
            let r = host.seal(cx.generation, backup)?;
            let note = format!(
                "{} of {} files, {} in the final pass",
                r.files,
                r.total_files,
                bytesize::ByteSize(r.bytes)
            );
            Ok(StepEnd::note(&note)
                .fact("files", r.files)
                .fact("bytes", r.bytes)
                .fact("syncs", r.syncs))
        }
        StepKind::Switch { to, .. } | StepKind::SwitchBack { to } => {
            host.switch(to)?;
            Ok(StepEnd::note(&format!("current → {}", to.dir().display())))
        }
        StepKind::Start | StepKind::StartOld => start(cx, report),
        StepKind::Health { health } => {
            let start = cx
                .status
                .start
                .ok_or_else(|| StepError::Stuck("no start was recorded".into()))?;
            let old_head = cx.status.intent.as_ref().and_then(|i| i.old_head);
            await_health(cx, step, health, start, old_head, report)
        }
        StepKind::HealthOld { health } => {
            let start = cx
                .status
                .start
                .ok_or_else(|| StepError::Stuck("no start was recorded".into()))?;
            await_health(cx, step, health, start, None, report)
        }
        StepKind::Commit => Ok(StepEnd::default()),
        StepKind::Verify { backup } => {
            let found = host.verify(cx.generation, backup)?;
            match found.bad.as_slice() {
                [] => Ok(StepEnd::note(&format!(
                    "{} files, {}, {} of them compared with their sources",
                    found.files,
                    bytesize::ByteSize(found.bytes),
                    found.proved
                ))
                .fact("files", found.files)
                .fact("bytes", found.bytes)),
                bad => Err(StepError::Failed(format!(
                    "generation {} is bad and is never restored: {}",
                    cx.generation,
                    bad.join("; ")
                ))),
            }
        }
        StepKind::Archive { backup } => Ok(match host.archive(cx.generation, backup)? {
            Some((path, bytes)) => {
                let size = bytesize::ByteSize(bytes);
                StepEnd::note(&format!("{}, {size}", path.display())).fact("bytes", bytes)
            }
            None => StepEnd::default(),
        }),
        StepKind::Prune { backup } => {
            let n = host.prune(backup, cx.generation)?;
            Ok(StepEnd::note(&format!("{n} removed")).fact("removed", u64::from(n)))
        }
        StepKind::StopNew { policy } => stop(cx, policy),
        StepKind::Consume => match host.seal_state(cx.generation)? {
            SealState::Consumed => Ok(StepEnd::default()),
            SealState::Sealed => Ok(host.consume(cx.generation).map(|()| StepEnd::default())?),
            SealState::None => Err(StepError::Stuck(format!(
                "generation {} has lost its SEAL",
                cx.generation
            ))),
        },
        StepKind::CarryKeep => {
            node_is_gone(cx)?;
            let (now, _) = host.inodes(cx.generation)?;
            if cx
                .status
                .restore
                .is_some_and(|(_, restored)| now == Some(restored))
            {
                // The live data are the old ones already, with all that was carried over.
                return Ok(StepEnd::note("had been carried over"));
            }
            Ok(host
                .carry_keep(cx.generation)
                .map(|()| StepEnd::default())?)
        }
        StepKind::Exchange => exchange(cx),
        StepKind::SetAside => {
            if !host.is_aside(cx.generation)? {
                host.set_aside(cx.generation)?;
            }
            Ok(StepEnd::note(&format!(
                "failed data kept in failed/{}",
                cx.generation
            )))
        }
        StepKind::Precopy { .. } | StepKind::Trigger { .. } | StepKind::ChainSafe { .. } => {
            unreachable!("the engine evaluates gates and pre-copy itself")
        }
    }
}

/// True once something may have written to the data after the seal: a recorded `pre-upgrade` attempt, or the new
/// release being current.
pub(super) fn touched<H: Host>(cx: &Cx<'_, H>) -> Result<bool, StepError> {
    for step in cx.plan.phase(crate::plan::Phase::Critical) {
        match &step.kind {
            StepKind::Hook(_) if cx.host.attempt(cx.run, &step.id)?.is_some() => return Ok(true),
            StepKind::Switch { to, .. } if cx.host.current()?.as_ref() == Some(to) => {
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(false)
}

impl<H: Host> Cx<'_, H> {
    pub fn touched(&self) -> Result<bool, StepError> {
        touched(self)
    }
}

fn stop<H: Host>(cx: &Cx<'_, H>, policy: &StopPolicy) -> Result<StepEnd, StepError> {
    match await_clear(cx.host)? {
        NodeState::Gone { exit, .. } => Ok(StepEnd::note(&format!(
            "was down ({})",
            exit.as_deref().unwrap_or("no exit record")
        ))),
        NodeState::Running { pid, .. } => match cx.host.stop(policy)? {
            Some(report) => {
                let exit = report.exit.as_deref().unwrap_or("exit status unknown");
                let how = if report.killed { "killed, " } else { "" };
                let mut end = StepEnd::note(&format!("pid {pid}: {how}{exit}"))
                    .fact("exit-at", report.exit_at);
                if let Some(at) = report.term_at {
                    end = end.fact("term-at", at);
                }
                Ok(end)
            }
            None => Err(StepError::Stuck(format!(
                "pid {pid} still lives {:?} after TERM{}",
                policy.grace,
                if policy.kill {
                    ", QUIT and KILL"
                } else {
                    " and the manifest does not allow kill"
                }
            ))),
        },
        NodeState::Unclear { why } => Err(StepError::Stuck(why)),
    }
}

/// Between the tries of a start that the machine would not have.
const START_AGAIN: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

fn start<H: Host>(cx: &Cx<'_, H>, report: &mut dyn Report) -> Result<StepEnd, StepError> {
    for pause in START_AGAIN {
        match try_start(cx) {
            Err(StepError::Refused(why)) => report.notice(Notice::Refused {
                why: &why,
                again_in: pause,
            }),
            other => return other,
        }
        cx.host.pause(pause)?;
    }
    try_start(cx)
}

fn try_start<H: Host>(cx: &Cx<'_, H>) -> Result<StepEnd, StepError> {
    let start = cx
        .status
        .start
        .ok_or_else(|| StepError::Stuck("no start was recorded".into()))?;
    match await_clear(cx.host)? {
        // A process of this start that has ended already is the health step's matter.
        _ if cx.host.start_evidence(start)? != StartEvidence::None => {
            Ok(StepEnd::note("had been started"))
        }
        NodeState::Running {
            pid, start: other, ..
        } => Err(StepError::Stuck(format!(
            "pid {pid} of another start ({other}) is alive"
        ))),
        _ => {
            cx.host.start(start, &cx.plan.node.launch)?;
            Ok(StepEnd::default())
        }
    }
}

/// Data are moved under nobody.
fn node_is_gone<H: Host>(cx: &Cx<'_, H>) -> Result<(), StepError> {
    match await_clear(cx.host)? {
        NodeState::Gone { .. } => Ok(()),
        other => Err(StepError::Stuck(format!("the node is not gone: {other:?}"))),
    }
}

fn exchange<H: Host>(cx: &Cx<'_, H>) -> Result<StepEnd, StepError> {
    let Some((live, generation)) = cx.status.restore else {
        return Err(StepError::Stuck(
            "the inodes of the exchange were not recorded".into(),
        ));
    };
    node_is_gone(cx)?;
    match cx.host.inodes(cx.generation)? {
        (Some(now), _) if now == generation => Ok(StepEnd::note("had been exchanged")),
        (Some(now), Some(there)) if now == live && there == generation => {
            cx.host.exchange(cx.generation)?;
            Ok(StepEnd::default())
        }
        found => Err(StepError::Stuck(format!(
            "the data directory is neither the failed one (inode {live}) nor the sealed one (inode {generation}): {found:?}"
        ))),
    }
}
