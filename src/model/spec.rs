//! What a plan says about the world, fully resolved: absolute paths, expanded variables, parsed durations.
//! These values are stored in `plan.json`, so a run that was cut off needs nothing but its own directory.

use super::process::ProcessSpec;
use super::{Digest, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Durations in records: whole milliseconds.
pub(crate) mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}

/// A release directory below the root: `genesis` or `upgrades/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    Genesis,
    Upgrade(Name),
}

impl Release {
    /// The directory, relative to the root: also the text of the `current` link.
    pub fn dir(&self) -> PathBuf {
        match self {
            Self::Genesis => PathBuf::from("genesis"),
            Self::Upgrade(name) => Path::new("upgrades").join(name.as_str()),
        }
    }

    /// The release that a `current` link with this text names, if it is one of ours.
    pub fn from_link(link: &Path, root: &Path) -> Option<Self> {
        let below = link.strip_prefix(root).unwrap_or(link);
        let parts: Vec<_> = below.iter().map(|p| p.to_str()).collect();
        match parts.as_slice() {
            [Some("genesis")] => Some(Self::Genesis),
            [Some("upgrades"), Some(name)] => name.parse().ok().map(Self::Upgrade),
            _ => None,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Genesis => f.write_str("genesis"),
            Self::Upgrade(name) => name.fmt(f),
        }
    }
}

/// One node as a run needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeSpec {
    pub name: Name,
    /// The node's home directory; its working directory too.
    pub home: PathBuf,
    /// Where releases, state, backups and logs live.
    pub root: PathBuf,
    pub data: DataSpec,
    pub launch: Launch,
    pub stop: StopPolicy,
    pub restart: RestartPolicy,
    #[serde(default, skip_serializing_if = "LogPolicy::is_default")]
    pub logs: LogPolicy,
    pub chain: ChainSpec,
}

/// When a piece of the node's log is cut out, and how many are kept. Plans that were made before do without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogPolicy {
    /// So many bytes are cut out at once.
    pub size: u64,
    /// What is older, in milliseconds, is cut out, however small.
    pub age_ms: Option<u64>,
    /// Pieces that are kept.
    pub keep: u32,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self {
            size: 64 * 1024 * 1024,
            age_ms: None,
            keep: Self::DEFAULT_KEEP,
        }
    }
}

impl LogPolicy {
    pub const DEFAULT_KEEP: u32 = 10;

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The node's data directory and what of it is special.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataSpec {
    pub path: PathBuf,
    /// Globs below `path` of what is disposable: not copied, not restored.
    pub exclude: Vec<String>,
    /// Globs below `path` of what is never rolled back: carried over from the live directory.
    pub keep: Vec<String>,
    /// Globs below `path` of files that are written once and then only read and removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub immutable: Vec<String>,
    /// Globs below `path` of files that grow at their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub append: Vec<String>,
}

/// How the node's process is started. The program is `<root>/current/bin/<binary>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Launch {
    pub binary: String,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "ProcessSpec::is_default")]
    pub process: ProcessSpec,
}

/// TERM, wait `grace`; then, only when `kill`, QUIT, wait `dump`, KILL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopPolicy {
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub grace: Duration,
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub dump: Duration,
    pub kill: bool,
}

/// What `visor run` does when the node has ended by itself. Plans that were made before a field came do without it, so the defaults are not
/// written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestartPolicy {
    /// The pause before the first start; each further end doubles it.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub delay: Duration,
    #[serde(default, skip_serializing_if = "RestartOn::is_default")]
    pub on: RestartOn,
    /// The longest pause.
    #[serde(
        with = "millis",
        default = "RestartPolicy::default_backoff",
        skip_serializing_if = "RestartPolicy::is_default_backoff"
    )]
    #[schemars(with = "u64")]
    pub backoff: Duration,
    /// After so many ends within `within` the node is left as it is.
    #[serde(
        default = "RestartPolicy::default_max",
        skip_serializing_if = "RestartPolicy::is_default_max"
    )]
    pub max: u32,
    #[serde(
        with = "millis",
        default = "RestartPolicy::default_within",
        skip_serializing_if = "RestartPolicy::is_default_within"
    )]
    #[schemars(with = "u64")]
    pub within: Duration,
    /// Exit statuses after which it is left at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_restart_on_exit: Vec<i32>,
}

/// After which ends the node is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartOn {
    /// Any but exit status 0.
    #[default]
    Failure,
    Always,
    Never,
}

impl RestartOn {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl RestartPolicy {
    pub const DEFAULT_MAX: u32 = 5;

    /// The defaults, with this pause.
    pub fn after(delay: Duration) -> Self {
        Self {
            delay,
            on: RestartOn::default(),
            backoff: Self::default_backoff(),
            max: Self::DEFAULT_MAX,
            within: Self::default_within(),
            no_restart_on_exit: vec![],
        }
    }

    fn default_backoff() -> Duration {
        Duration::from_secs(5 * 60)
    }

    fn is_default_backoff(found: &Duration) -> bool {
        *found == Self::default_backoff()
    }

    fn default_max() -> u32 {
        Self::DEFAULT_MAX
    }

    fn is_default_max(found: &u32) -> bool {
        *found == Self::DEFAULT_MAX
    }

    fn default_within() -> Duration {
        Duration::from_secs(10 * 60)
    }

    fn is_default_within(found: &Duration) -> bool {
        *found == Self::default_within()
    }
}

/// Which chain the node follows and how to ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChainSpec {
    None,
    Evm {
        rpc: String,
        #[serde(with = "millis")]
        #[schemars(with = "u64")]
        max_head_age: Duration,
    },
}

/// When an upgrade may begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Opens with the first head at or above this height.
    Height(u64),
    /// Opens with `visor upgrade approve`.
    Manual,
}

impl Trigger {
    /// The height that it waits for, if it waits for one.
    pub fn height(&self) -> Option<u64> {
        match self {
            Self::Height(height) => Some(*height),
            Self::Manual => None,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Height(h) => write!(f, "height {h}"),
            Self::Manual => f.write_str("approval"),
        }
    }
}

/// One file to fetch, for this machine's platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactSpec {
    pub name: Name,
    pub version: Option<String>,
    /// Absolute paths (`/…`) or `http(s)://` addresses, tried in order.
    pub sources: Vec<String>,
    pub digest: Digest,
    /// More bytes than this are refused.
    pub size_limit: u64,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum HookPhase {
    Prepare,
    PreStop,
    PreUpgrade,
    PostUpgrade,
    OnFailure,
}

impl HookPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::PreStop => "pre-stop",
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
            Self::OnFailure => "on-failure",
        }
    }
}

/// A program run at a phase. Exit 0 goes on; anything else is tried again as `retries` says, then fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookSpec {
    pub name: Name,
    pub phase: HookPhase,
    pub run: Vec<String>,
    pub env: BTreeMap<String, String>,
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
    pub retries: u32,
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub retry_delay: Duration,
    /// A crash of visor inside this hook ends *stuck*, for it must not run twice.
    pub once: bool,
}

/// When a new release counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthSpec {
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub within: Duration,
    /// Blocks the head must rise above the first one seen; not used with chain `none`.
    pub blocks: u64,
    /// How long the process must have lived.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub alive: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    RollBack,
    Hold,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_current_link_is_read_in_both_forms() {
        let root = Path::new("/r");
        let v2 = Release::Upgrade("v2".parse().expect("a name"));
        for (link, want) in [
            ("genesis", Some(Release::Genesis)),
            ("upgrades/v2", Some(v2.clone())),
            ("/r/upgrades/v2", Some(v2)),
            ("/elsewhere/upgrades/v2", None),
            ("upgrades/../v2", None),
            ("upgrades", None),
        ] {
            assert_eq!(Release::from_link(Path::new(link), root), want, "{link}");
        }
    }
}
