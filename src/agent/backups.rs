//! Backups that a person asks for: made, taken from a file, put back.

use crate::backup::{
    self, BackupError, Final, GenPaths, GenRecord, GenState, Generation, Precopier, Verdict,
};
use crate::check::DesiredNode;
use crate::host::{
    Chains as _, Clock as _, HostError, NodeState, Nodes as _, Precopy, RealHost, Releases as _,
};
use crate::model::{BackupSpec, ChainSpec, GenId};
use crate::observe::describe_holder;
use crate::step::await_clear;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a backup was not made or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupJobError {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Host(#[from] HostError),
    /// Nothing was touched.
    #[error("{what}")]
    Refused { what: String, help: String },
}

fn refused(what: impl Into<String>, help: impl Into<String>) -> BackupJobError {
    BackupJobError::Refused {
        what: what.into(),
        help: help.into(),
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(20);

fn last_start(state: &NodeState) -> Option<String> {
    match state {
        NodeState::Gone { last, .. } => Some(last.map_or_else(String::new, |l| l.to_string())),
        NodeState::Running { .. } | NodeState::Unclear { .. } => None,
    }
}

/// Copies the data as they are and seals the copy. Of a node that runs, files are of different moments, and the record says so.
pub fn create(
    node: &DesiredNode,
    host: &RealHost,
    policy: &BackupSpec,
    say: &dyn Fn(&str),
) -> Result<Generation, BackupJobError> {
    let paths = GenPaths::new(&host.layout, GenId(host.new_ulid()));
    let label = policy.label.as_deref().unwrap_or(&policy.name);
    let release = host.current()?.map(|r| r.to_string());
    let before = last_start(&host.node()?);
    let mut record = GenRecord::new(&node.spec.name.to_string(), label, release, host.now());
    record.running = before.is_none();
    let made = make(node, host, policy, &paths, &record, say);
    if made.is_err() {
        backup::discard(&host.layout, paths.generation)?;
    }
    made?;
    // A node that was started meanwhile has written to them.
    if before.is_some() && last_start(&host.node()?) != before {
        record.running = true;
        backup::rewrite_record(&paths, &record)?;
    }
    find(host, paths.generation)
}

fn make(
    node: &DesiredNode,
    host: &RealHost,
    policy: &BackupSpec,
    paths: &GenPaths,
    record: &GenRecord,
    say: &dyn Fn(&str),
) -> Result<(), BackupJobError> {
    let data = &node.spec.data;
    let _own = backup::hold_part(paths)?;
    let mut precopier = Precopier::start(paths, record, data, policy, None)?;
    loop {
        match precopier.state() {
            Precopy::Failed(why) => return Err(HostError::Failed(why).into()),
            Precopy::Ready { .. } => break,
            Precopy::Filling { bytes } => say(&format!("{} copied", bytesize::ByteSize(bytes))),
        }
        host.pause(LOOK_EVERY)?;
    }
    precopier.end(&|| host.interrupted()).map_err(|e| match e {
        BackupError::Interrupted => HostError::Interrupted.into(),
        other => BackupJobError::Backup(other),
    })?;
    let height = match &node.spec.chain {
        ChainSpec::None => None,
        chain => host.chain(chain).head.known().copied(),
    };
    let look = Final {
        compare: host.stamps_unreliable().is_some(),
        live: record.running,
        height,
    };
    backup::seal(paths, data, policy, precopier.into_baseline(), look)?;
    Ok(())
}

/// A generation by its id.
pub fn find(host: &RealHost, id: GenId) -> Result<Generation, BackupJobError> {
    let all = backup::generations(&host.layout);
    all.into_iter().find(|g| g.id() == id).ok_or_else(|| {
        refused(
            format!("there is no generation {id}"),
            "`visor backup list` shows those that are there.",
        )
    })
}

/// Reads all of a generation and says whether it is good.
pub fn verify(
    host: &RealHost,
    generation: &Generation,
    policy: &BackupSpec,
    say: &dyn Fn(&str),
) -> Result<Verdict, BackupJobError> {
    match generation.state {
        GenState::Part => {
            return Err(refused(
                format!("generation {} is half-made", generation.id()),
                "Only what is sealed can be verified.",
            ));
        }
        GenState::Consumed => {
            return Err(refused(
                format!(
                    "generation {} is used up by a restore that was cut off",
                    generation.id()
                ),
                format!(
                    "`visor backup restore {}` goes on with it.",
                    generation.id()
                ),
            ));
        }
        GenState::Sealed | GenState::Verified | GenState::Bad => {}
    }
    let live = host.stamps_unreliable().is_none();
    let interrupted = || host.interrupted();
    backup::verify_apart(&generation.paths, live, policy.rate, &interrupted, say).map_err(|e| {
        match e {
            BackupError::Interrupted => HostError::Interrupted.into(),
            other => other.into(),
        }
    })
}

/// What a restore is allowed to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Take a copy that was made of a running node.
    pub running: bool,
}

/// Puts a generation in the place of the data. The node is down and nobody else works on it: the caller holds the state lock. The data as
/// they were stay in `failed/`. A restore that was cut off goes on.
pub fn restore(
    node: &DesiredNode,
    host: &RealHost,
    id: GenId,
    policy: &BackupSpec,
    options: RestoreOptions,
    say: &dyn Fn(&str),
) -> Result<PathBuf, BackupJobError> {
    let paths = GenPaths::new(&host.layout, id);
    match await_clear(host).map_err(|e| HostError::Failed(e.to_string()))? {
        NodeState::Gone { .. } => {}
        NodeState::Running { pid, .. } => {
            return Err(refused(
                format!("the node runs, pid {pid}"),
                "Stop it first: `visor stop`.",
            ));
        }
        NodeState::Unclear { why } => return Err(refused(why, "`visor explain unclear`.")),
    }
    if let Some(holder) = host.foreign_holder()? {
        return Err(refused(
            describe_holder(&holder),
            "visor did not start it. Stop it first.",
        ));
    }
    if paths.aside.is_dir() {
        return Err(refused(
            format!("generation {id} has been restored already"),
            format!("The data before that are in {}.", paths.aside.display()),
        ));
    }
    let generation = find(host, id)?;
    if generation.state != GenState::Consumed {
        let running = generation.record.as_ref().is_some_and(|r| r.running);
        if running && !options.running {
            return Err(refused(
                format!(
                    "generation {id} was made of a running node: its files are of different moments"
                ),
                "Take one that was sealed after an exit, or say --running if nothing else is left.",
            ));
        }
        let verdict = verify(host, &generation, policy, say)?;
        if !verdict.bad.is_empty() {
            return Err(refused(
                format!("generation {id} is bad: {}", verdict.bad.join("; ")),
                "Take another one: `visor backup list`.",
            ));
        }
    }
    backup::restore(&paths, &node.spec.data)?;
    Ok(paths.aside)
}

/// Makes a sealed generation of an archive.
pub fn import(
    node: &DesiredNode,
    host: &RealHost,
    archive: &Path,
    policy: &BackupSpec,
) -> Result<Generation, BackupJobError> {
    let paths = GenPaths::new(&host.layout, GenId(host.new_ulid()));
    let label = policy.label.as_deref().unwrap_or("imported");
    let record = GenRecord::new(&node.spec.name.to_string(), label, None, host.now());
    let _own = backup::hold_part(&paths)?;
    let interrupted = || host.interrupted();
    let made = backup::import(
        &paths,
        archive,
        &node.spec.data,
        &record,
        policy,
        &interrupted,
    );
    if made.is_err() {
        backup::discard(&host.layout, paths.generation)?;
    }
    made.map_err(|e| match e {
        BackupError::Interrupted => HostError::Interrupted.into(),
        other => BackupJobError::Backup(other),
    })?;
    find(host, paths.generation)
}
