//! The traits, and the values that pass through them.

use crate::model::{
    ArtifactSpec, BackupSpec, ChainSpec, GenId, HookSpec, Launch, Release, RunId, StartId,
    StopPolicy, UnixMs,
};
use crate::plan::{ChainFacts, Denied, Liveness, Overrides, StepId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Why a call on the host did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// visor was told to end; what was begun can be resumed.
    #[error("interrupted")]
    Interrupted,
    /// The simulation has cut the power. Nothing may happen after it.
    #[error("the simulated machine has stopped")]
    Cut,
    #[error("{0}")]
    Failed(String),
    /// The machine would not have the node started: no process, no memory, no file. The node had no part in it.
    #[error("{0}")]
    Refused(String),
}

impl HostError {
    /// Flattens a capability's error and all its causes into one message.
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Failed(text)
    }
}

type Result<T> = std::result::Result<T, HostError>;

pub trait Clock {
    /// The wall clock, for records and people.
    fn now(&self) -> UnixMs;
    /// Milliseconds of a clock that nobody sets; for time limits.
    fn ticks(&self) -> u64;
    /// Lets time pass; `Err(Interrupted)` when visor is told to end.
    fn pause(&self, time: Duration) -> Result<()>;
    fn new_ulid(&self) -> ulid::Ulid;
}

/// The run directories below `state/journal/`.
pub trait Journals {
    /// Makes the run's directory with `plan.json`, an empty journal with reserved space, and the ballast; all synced.
    fn create(&self, run: RunId, plan: &[u8]) -> Result<()>;
    /// The bytes of `plan.json` and of the journal.
    fn read(&self, run: RunId) -> Result<(Vec<u8>, Vec<u8>)>;
    /// Cuts a torn last line.
    fn truncate(&self, run: RunId, len: u64) -> Result<()>;
    fn append(&self, run: RunId, line: &[u8], sync: bool) -> Result<()>;
    /// Frees the ballast, so that a full disk cannot block an undo.
    fn drop_ballast(&self, run: RunId) -> Result<()>;
    fn deny(&self, entry: &Denied) -> Result<()>;
    /// Who works here, for the record of a new run: the command, and for whom.
    fn actor(&self) -> String;
}

/// What operators asked for while the run goes on.
pub trait Requests {
    fn overrides(&self) -> Result<Overrides>;
    /// Forgets approvals of this upgrade and the request to abort this run.
    fn settle(&self, run: RunId, upgrade: Option<&str>) -> Result<()>;
    /// Keeps the node from being started until a person starts it.
    fn keep_stopped(&self, reason: &str) -> Result<()>;
}

pub trait Releases {
    /// Brings the artifact to the cache, verified; returns its size. Nothing to do when it is staged or cached.
    fn fetch(&self, artifact: &ArtifactSpec, release: &Release, binary: &str) -> Result<u64>;
    fn stage(&self, artifact: &ArtifactSpec, release: &Release, binary: &str) -> Result<()>;
    fn current(&self) -> Result<Option<Release>>;
    fn switch(&self, to: &Release) -> Result<()>;
}

/// The node's process, as evidence shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// The lock is free and no recorded process lives. `last` is the newest start there was.
    Gone {
        last: Option<StartId>,
        exit: Option<String>,
        /// Its exit status, when it exited by itself and that is on record.
        code: Option<i32>,
    },
    Running {
        start: StartId,
        pid: i32,
        since: UnixMs,
    },
    /// The lock is held, but no recorded process lives: perhaps it is about to.
    Unclear { why: String },
}

impl From<NodeState> for Liveness {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Running { pid, since, .. } => Self::Running { pid, since },
            NodeState::Gone { exit, .. } => Self::Stopped { exit },
            NodeState::Unclear { why } => Self::Unclear { why },
        }
    }
}

/// What is left of one particular start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartEvidence {
    /// No record: it never got so far.
    None,
    Alive,
    Dead {
        exit: Option<String>,
        this_boot: bool,
    },
}

/// A finished stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReport {
    pub term_at: Option<UnixMs>,
    pub exit_at: UnixMs,
    pub exit: Option<String>,
    pub killed: bool,
}

pub trait Nodes {
    /// Takes the node from the supervisor until `release_node`: nobody else starts it meanwhile.
    fn claim_node(&self);
    fn release_node(&self);
    fn node(&self) -> Result<NodeState>;
    fn start_evidence(&self, start: StartId) -> Result<StartEvidence>;
    /// Starts the program of `current`. When it returns, the start record is there and the process was alive.
    fn start(&self, start: StartId, launch: &Launch) -> Result<()>;
    /// Runs the stop sequence and sees the process and its lock gone. `Ok(None)`: it lives although the policy is spent.
    fn stop(&self, policy: &StopPolicy) -> Result<Option<StopReport>>;
}

/// The state of the pre-copy of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precopy {
    /// The first, full round is not finished.
    Filling {
        /// Copied since this visor goes on with it.
        bytes: u64,
        /// What it found to copy then, once that is known.
        of: Option<u64>,
        /// How long it has been at it.
        ms: u64,
    },
    /// So many rounds are finished, each with a synced baseline.
    Ready {
        rounds: u32,
        bytes: u64,
    },
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealState {
    None,
    Sealed,
    Consumed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealReport {
    /// Files that the final pass copied, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Files in the whole generation.
    pub total_files: u64,
    pub syncs: u64,
    /// Directories that were not listed, for they were as they had been.
    pub passed_over: u64,
}

/// What a look at all contents of a generation found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub files: u64,
    pub bytes: u64,
    /// Files that were compared with their unchanged sources.
    pub proved: u64,
    /// What is not as it should be.
    pub bad: Vec<String>,
}

/// One generation below `backups/gen/`, and its exchange with the live data.
pub trait Backups {
    /// Begins rounds beside everything else; nothing to do when they run.
    fn precopy_start(&self, generation: GenId, backup: &BackupSpec) -> Result<()>;
    fn precopy(&self, generation: GenId) -> Result<Precopy>;
    /// Ends the rounds after the one that runs.
    fn precopy_end(&self, generation: GenId) -> Result<()>;
    /// Ends the first round where it stands; the final pass copies the rest.
    fn precopy_cut(&self, generation: GenId) -> Result<()>;
    /// Final pass over the stopped node's data, SEAL, rename.
    fn seal(&self, generation: GenId, backup: &BackupSpec) -> Result<SealReport>;
    fn seal_state(&self, generation: GenId) -> Result<SealState>;
    /// True when names and inodes of the live data are still those of the seal.
    fn seal_holds(&self, generation: GenId) -> Result<bool>;
    /// Takes the seal off again, for data have changed since; nothing may have been restored from it.
    fn unseal(&self, generation: GenId) -> Result<()>;
    /// Inodes of the live data directory and of the generation's.
    fn inodes(&self, generation: GenId) -> Result<(Option<u64>, Option<u64>)>;
    fn consume(&self, generation: GenId) -> Result<()>;
    fn carry_keep(&self, generation: GenId) -> Result<()>;
    fn exchange(&self, generation: GenId) -> Result<()>;
    /// Moves the generation to `failed/`. Until `settle_aside` a power loss may take that back.
    fn set_aside(&self, generation: GenId) -> Result<()>;
    /// Has the generation stay in `failed/`; moves it again where that was taken back.
    fn settle_aside(&self, generation: GenId) -> Result<()>;
    /// True when the generation is in `failed/`.
    fn is_aside(&self, generation: GenId) -> Result<bool>;
    /// Reads all of a sealed generation, and compares it with what is unchanged in the data.
    fn verify(&self, generation: GenId, backup: &BackupSpec) -> Result<VerifyReport>;
    /// Packs a sealed generation as its policy says: the file, and its bytes.
    fn archive(&self, generation: GenId, backup: &BackupSpec) -> Result<Option<(PathBuf, u64)>>;
    /// Removes what the policy no longer keeps, and what unfinished runs left; returns how many generations.
    fn prune(&self, backup: &BackupSpec, generation: GenId) -> Result<u32>;
    /// Gives up a generation that was never sealed.
    fn discard(&self, generation: GenId) -> Result<()>;
}

/// What a hook is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    pub run: RunId,
    pub step: StepId,
    pub attempt: u32,
    pub vars: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookEnd {
    Ok,
    /// What happened, and the end of its output.
    Failed {
        what: String,
        output: String,
    },
}

/// The last recorded attempt of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub number: u32,
    /// None: it was begun and its end is not recorded.
    pub ok: Option<bool>,
}

pub trait Hooks {
    /// Records the attempt, synced; runs the program; records the end.
    fn run_hook(&self, hook: &HookSpec, call: &HookCall) -> Result<HookEnd>;
    fn attempt(&self, run: RunId, step: &StepId) -> Result<Option<Attempt>>;
    /// Kills the process group of an attempt that outlived its visor, and sees it gone.
    fn reap_hook(&self, run: RunId, step: &StepId) -> Result<()>;
}

pub trait Chains {
    /// One bounded look; never an error, for what cannot be known is unknown.
    fn chain(&self, chain: &ChainSpec) -> ChainFacts;
}

pub trait Host: Clock + Journals + Requests + Releases + Nodes + Backups + Hooks + Chains {}
impl<T: Clock + Journals + Requests + Releases + Nodes + Backups + Hooks + Chains> Host for T {}
