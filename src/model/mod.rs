//! Validated words of the domain: names, digests, identifiers, times. No I/O, no manifest syntax.

mod answer;
mod backup;
mod digest;
mod id;
mod name;
mod process;
mod spec;

pub use answer::Answer;
pub use backup::{
    ArchiveFormat, ArchiveSpec, BackupSpec, CopyFacts, Late, Method, Rate, Rung, SecondRoot,
};
pub use digest::{Digest, DigestError, Hasher, hex, sha256_hex};
pub use id::{GenId, RunId, StartId};
pub use name::{Name, NameError};
pub use process::{CgroupLimits, IoPriority, Limit, LimitKind, ProcessSpec};
pub use spec::{
    ArtifactSpec, ChainSpec, DataSpec, HealthSpec, HookPhase, HookSpec, Launch, LogPolicy,
    NodeSpec, OnFailure, Release, RestartOn, RestartPolicy, StopPolicy, Trigger,
};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = u64;

/// Writes a time as RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at: UnixMs) -> String {
    i64::try_from(at)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{at} ms"), |t| format!("{t:.3}"))
}

/// Writes a length of time the way people say it: `43 ms`, `1.2 s`, `5m 3s`.
pub fn human_ms(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m {}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h {}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}
