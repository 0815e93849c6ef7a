//! What the planner is told about machine, process, chain and the operator's overrides. Data only; `observe/` fills it.

use crate::model::{Answer, CopyFacts, HookSpec, Name, Release, RunId, StartId, UnixMs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Something asked of the outside world. Unknown is never treated as good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fact<T> {
    Known(T),
    /// Why there is no answer to rely on.
    Unknown(String),
}

impl<T> Fact<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Fact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::Unknown(why) => write!(f, "unknown ({why})"),
        }
    }
}

/// One look at the chain through the node's RPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainFacts {
    pub head: Fact<u64>,
    pub syncing: Fact<bool>,
    /// Now minus the head's timestamp.
    pub head_age: Fact<Duration>,
}

impl ChainFacts {
    pub fn unknown(why: &str) -> Self {
        Self {
            head: Fact::Unknown(why.to_owned()),
            syncing: Fact::Unknown(why.to_owned()),
            head_age: Fact::Unknown(why.to_owned()),
        }
    }
}

/// What is known of the node's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Liveness {
    Running {
        pid: i32,
        since: UnixMs,
    },
    Stopped {
        exit: Option<String>,
    },
    /// The node's lock is held, or records contradict each other: neither running nor stopped is proved.
    Unclear {
        why: String,
    },
}

/// An upgrade that a run of visor committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedUpgrade {
    pub name: Name,
    pub digest: String,
    pub at: UnixMs,
}

/// A failed upgrade that is not tried again until it changes or `visor upgrade retry` says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Denied {
    pub upgrade: Name,
    pub digest: String,
    pub reason: String,
    pub at: UnixMs,
    pub run: RunId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    pub reason: String,
    pub by: String,
    pub at: UnixMs,
    pub until: Option<UnixMs>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopOverride {
    pub reason: String,
    pub by: String,
    pub at: UnixMs,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    pub upgrade: Name,
    pub by: String,
    pub at: UnixMs,
}

/// The operator's local exceptions, from `state/overrides.json`; expired ones are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overrides {
    pub stop: Option<StopOverride>,
    pub hold: Option<Hold>,
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// A run whose abort was asked for.
    pub abort: Option<RunId>,
    /// A person's word about a stuck run.
    #[serde(default)]
    pub resolution: Option<Resolution>,
    /// A start that is to be ended and followed by another at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<StartId>,
}

/// What a person says about a stuck run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolution {
    pub run: RunId,
    /// How many records the journal had: a word about one moment is not taken for another.
    pub seq: u64,
    pub answer: Answer,
    pub by: String,
    pub reason: String,
}

/// A run whose journal is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenRun {
    pub run: RunId,
    pub what: String,
    pub upgrade: Option<Name>,
    pub stage: String,
    /// It is before its critical section, or behind its commit: the node is the supervisor's.
    pub waits: bool,
    pub stuck: Option<String>,
}

/// An absolute hook program, as found on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookFile {
    pub path: PathBuf,
    /// Why it may not be run.
    pub problem: Option<String>,
}

/// How long the last upgrade took the node down, by its journal. Milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeasuredOutage {
    pub upgrade: Name,
    pub at: UnixMs,
    /// From TERM to the exit.
    pub stop_ms: u64,
    /// From the exit to the new process.
    pub between_ms: u64,
    /// From the new process to its first answer.
    pub start_ms: u64,
}

/// Everything the planner knows that is not in the manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observed {
    /// The release that `current` names; `Unknown` when the link is there and names none of ours.
    pub current: Fact<Option<Release>>,
    pub node: Liveness,
    pub chain: ChainFacts,
    pub data_empty: bool,
    /// Why data cannot be exchanged with a backup, when they cannot.
    pub data_problem: Option<String>,
    /// Why the final pass of a backup has to read all data, when it has to.
    pub slow_backup: Option<String>,
    /// What a copy of the data would be; none where no upgrade asks for one, or where the data are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyFacts>,
    /// The release that the last committed run left behind.
    pub last_release: Option<Release>,
    pub applied: Vec<AppliedUpgrade>,
    /// Upgrades up to this height are behind the current release, by the runs that were committed, whatever the set says today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<u64>,
    pub denied: Vec<Denied>,
    pub overrides: Overrides,
    pub open_run: Option<OpenRun>,
    /// A process that visor did not start works on the data: who, in words. Known only while no node of visor's lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<String>,
    /// Why this machine would not have the node started as the manifests ask for it, as far as it can be known before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_problem: Option<String>,
    /// The running process has other arguments or environment than the manifest asks for now.
    pub launch_differs: bool,
    /// The last try of an upgrade that was given up before the node was touched.
    pub last_abandoned: Option<(Name, UnixMs, String)>,
    pub hook_files: Vec<HookFile>,
    /// The last upgrade that went through, as a measure for the next.
    pub last_outage: Option<MeasuredOutage>,
}

impl Observed {
    /// Why the program of a hook may not be run; nothing of one that was not looked at.
    pub fn hook_problem(&self, hook: &HookSpec) -> Option<&str> {
        let program = hook.run.first()?;
        let found = self
            .hook_files
            .iter()
            .find(|f| f.path.as_os_str() == program.as_str());
        found?.problem.as_deref()
    }
}
