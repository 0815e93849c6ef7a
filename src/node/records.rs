//! The records of one start: `launch.json`, `start`, `exit`, and the marks `cancelled` and `refused`.
//!
//! They need no sync: a power loss takes the process too.

use crate::durable::{PathError, read_record};
use crate::model::{Launch, ProcessSpec, StartId, UnixMs};
use crate::process::Identity;
use crate::store::Layout;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The format of the records. 1: first.
pub(super) const RECORD_VERSION: u32 = 1;
/// Starts whose records are kept.
pub const STARTS_KEPT: usize = 20;

/// What the second stage execs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaunchRecord {
    pub(super) version: u32,
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: PathBuf,
    #[serde(default)]
    pub(super) process: ProcessSpec,
    /// The control group that was made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cgroup: Option<PathBuf>,
}

/// Written by the process that becomes the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    pub version: u32,
    pub identity: Identity,
    pub at: UnixMs,
    /// The control group that it has joined, and its children with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
}

/// Written by the shim after the node's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub version: u32,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Why the program could not be executed at all.
    #[serde(default)]
    pub not_executed: Option<String>,
    /// The memory of its control group was used up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    pub at: UnixMs,
}

impl ExitRecord {
    pub fn describe(&self) -> String {
        match (&self.not_executed, self.code, self.signal) {
            (Some(why), ..) => format!("could not be executed: {why}"),
            (_, Some(code), _) => format!("exit status {code}"),
            (_, _, Some(9)) if self.out_of_memory => {
                "killed by the kernel: the memory that `process.cgroup` allows was used up".into()
            }
            (_, _, Some(signal)) => format!("killed by signal {signal}"),
            _ => "ended in an unknown way".into(),
        }
    }
}

/// All starts on record, oldest first.
pub fn starts(layout: &Layout) -> Vec<StartId> {
    let Ok(entries) = std::fs::read_dir(layout.starts()) else {
        return vec![];
    };
    let mut all: Vec<StartId> = entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    all.sort_unstable();
    all
}

pub fn read_start(layout: &Layout, start: StartId) -> Result<Option<StartRecord>, PathError> {
    read(layout, start, "start")
}

pub fn read_exit(layout: &Layout, start: StartId) -> Result<Option<ExitRecord>, PathError> {
    read(layout, start, "exit")
}

/// What a start was to run.
pub fn launched(layout: &Layout, start: StartId) -> Result<Option<Launch>, PathError> {
    let binary = |p: &PathBuf| {
        p.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    Ok(read_launch(layout, start)?.map(|r| Launch {
        binary: binary(&r.program),
        args: r.args,
        env: r.env,
        process: r.process,
    }))
}

pub(super) fn dir(layout: &Layout, start: StartId) -> PathBuf {
    layout.starts().join(start.to_string())
}

/// A record that is not whole is none: it is written by rename.
fn read<T: serde::de::DeserializeOwned>(
    layout: &Layout,
    start: StartId,
    name: &str,
) -> Result<Option<T>, PathError> {
    read_record(&dir(layout, start).join(name), 1024 * 1024, RECORD_VERSION)
}

pub(super) fn read_launch(
    layout: &Layout,
    start: StartId,
) -> Result<Option<LaunchRecord>, PathError> {
    read(layout, start, "launch.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_format_1_are_read_and_unknown_fields_ignored() {
        let start: StartRecord = serde_json::from_str(
            r#"{"version":1,"identity":{"boot":"b","pid":7,"start_time":9},"at":1790000000000,"later":true}"#,
        )
        .expect("read");
        assert_eq!((start.identity.pid, start.at), (7, 1_790_000_000_000));
        let exit: ExitRecord =
            serde_json::from_str(r#"{"version":1,"code":null,"signal":9,"at":1790000000000}"#)
                .expect("read");
        assert_eq!(exit.describe(), "killed by signal 9");
    }
}
