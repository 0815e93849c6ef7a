//! Backups that a person asks for: made, taken from a file, put back.

use crate::backup::{
    self, BackupError, Final, GenPaths, GenRecord, GenState, Generation, Precopier, Verdict,
};
use crate::check::DesiredNode;
use crate::host::{
    Chains as _, Clock as _, HostError, NodeState, Nodes as _, Precopy, RealHost, Releases as _,
};
use crate::model::{BackupSpec, ChainSpec, GenId, Rate};
use crate::observe::{data_problem, describe_holder, run_summaries};
use crate::step::await_clear;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a backup was not made or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupJobError {
    #[error(transparent)]
    Backup(BackupError),
    #[error(transparent)]
    Host(#[from] HostError),
    /// What was asked for makes no sense. Nothing was touched.
    #[error("{what}")]
    Refused { what: String, help: String },
    /// It can be had at another time. Nothing was touched.
    #[error("{what}")]
    Blocked { what: String, help: String },
}

impl From<BackupError> for BackupJobError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Interrupted => HostError::Interrupted.into(),
            other => Self::Backup(other),
        }
    }
}

fn refused(what: impl Into<String>, help: impl Into<String>) -> BackupJobError {
    BackupJobError::Refused {
        what: what.into(),
        help: help.into(),
    }
}

fn blocked(what: impl Into<String>, help: impl Into<String>) -> BackupJobError {
    BackupJobError::Blocked {
        what: what.into(),
        help: help.into(),
    }
}

/// What could never be put back is not made.
fn can_be_exchanged(node: &DesiredNode) -> Result<(), BackupJobError> {
    match data_problem(&node.spec.data, &node.spec.root) {
        None => Ok(()),
        Some(why) => Err(refused(
            format!("no copy could be put back here: {why}"),
            "Set the node's `root` to a directory on the data's own file system.",
        )),
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Copies the data as they are and seals the copy. Of a node that runs, files are of different moments, and the record says so.
pub fn create(
    node: &DesiredNode,
    host: &RealHost,
    policy: &BackupSpec,
    say: &dyn Fn(&str),
) -> Result<Generation, BackupJobError> {
    can_be_exchanged(node)?;
    let paths = GenPaths::new(&host.layout, GenId(host.new_ulid()));
    let label = policy.label.as_deref().unwrap_or(&policy.name);
    let release = host.current()?.map(|r| r.to_string());
    let at_rest = at_rest(host)?;
    let mut record = GenRecord::new(&node.spec.name.to_string(), label, release, host.now());
    // Until it is known that nobody wrote to the data all the while.
    record.running = true;
    let made = make(node, host, policy, &paths, &record, at_rest.is_none(), say);
    if made.is_err() {
        backup::discard(&host.layout, paths.generation)?;
    }
    made?;
    if at_rest.is_some() && self::at_rest(host)? == at_rest {
        record.running = false;
        backup::rewrite_record(&paths, &record)?;
    }
    find(host, paths.generation)
}

/// The last start of a node that is down, while nobody else works on its data either.
fn at_rest(host: &RealHost) -> Result<Option<String>, HostError> {
    Ok(match host.node()? {
        NodeState::Gone { last, .. } if host.foreign_holder()?.is_none() => {
            Some(last.map_or_else(String::new, |l| l.to_string()))
        }
        _ => None,
    })
}

fn make(
    node: &DesiredNode,
    host: &RealHost,
    policy: &BackupSpec,
    paths: &GenPaths,
    record: &GenRecord,
    live: bool,
    say: &dyn Fn(&str),
) -> Result<(), BackupJobError> {
    let data = &node.spec.data;
    let _own = backup::hold_part(paths)?;
    let mut precopier = Precopier::start(paths, record, data, policy, None)?;
    loop {
        match precopier.state() {
            Precopy::Failed(why) => return Err(HostError::Failed(why).into()),
            Precopy::Ready { .. } => break,
            Precopy::Filling { bytes, .. } => {
                say(&format!("{} copied", bytesize::ByteSize(bytes)));
            }
        }
        host.pause(LOOK_EVERY)?;
    }
    precopier.end(&|| host.interrupted())?;
    let height = match &node.spec.chain {
        ChainSpec::None => None,
        chain => host.chain(chain).head.known().copied(),
    };
    let look = Final {
        compare: host.stamps_unreliable().is_some(),
        live,
        height,
    };
    backup::seal(paths, data, precopier.into_ready(), look)?;
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
    rate: Rate,
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
    // What a node has mapped goes on changing without a sign, so a source proves nothing of a copy that was made meanwhile.
    let live = host.stamps_unreliable().is_none() && !generation.is_of_a_running_node();
    let interrupted = || host.interrupted();
    Ok(backup::verify_apart(
        &generation.paths,
        live,
        rate,
        &interrupted,
        say,
    )?)
}

/// What a restore is allowed to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Take a copy that was made of a running node.
    pub running: bool,
    /// Read it though it is verified.
    pub verify: bool,
}

/// Puts a generation in the place of the data. The node is down and nobody else works on it: the caller holds the state lock. The data as
/// they were stay in `failed/`. A restore that was cut off goes on.
pub fn restore(
    node: &DesiredNode,
    host: &RealHost,
    id: GenId,
    options: RestoreOptions,
    say: &dyn Fn(&str),
) -> Result<PathBuf, BackupJobError> {
    let paths = GenPaths::new(&host.layout, id);
    match await_clear(host).map_err(|e| HostError::Failed(e.to_string()))? {
        NodeState::Gone { .. } => {}
        NodeState::Running { pid, .. } => {
            return Err(blocked(
                format!("the node runs, pid {pid}"),
                "Stop it first: `visor stop`.",
            ));
        }
        NodeState::Unclear { why } => return Err(blocked(why, "`visor explain unclear`.")),
    }
    if let Some(holder) = host.foreign_holder()? {
        return Err(blocked(
            describe_holder(&holder),
            "visor did not start it. Stop it first.",
        ));
    }
    can_be_exchanged(node)?;
    let data = &node.spec.data.path;
    if !data.is_dir() {
        return Err(refused(
            format!("the data directory {} is not there", data.display()),
            "Make it, with the owner and the mode that the node needs, put what `keep` names into it (keys, the signer's state), and ask again.",
        ));
    }
    let cut = cut_restore(host);
    if let Some(cut) = cut.filter(|cut| *cut != id) {
        return Err(refused(
            format!("a restore of generation {cut} was cut off"),
            format!("`visor backup restore {cut}` goes on with it."),
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
        if generation.is_of_a_running_node() && !options.running {
            return Err(refused(
                format!(
                    "generation {id} was made of a running node: its files are of different moments"
                ),
                "Take one that was sealed after an exit, or say --running if nothing else is left.",
            ));
        }
        if options.verify || generation.state != GenState::Verified {
            // Nobody has to be given way to.
            let verdict = verify(host, &generation, Rate::Unlimited, say)?;
            if !verdict.bad.is_empty() {
                return Err(refused(
                    format!("generation {id} is bad: {}", verdict.bad.join("; ")),
                    "Take another one: `visor backup list`.",
                ));
            }
        }
    }
    backup::restore(&paths, &node.spec.data)?;
    Ok(paths.aside)
}

/// The generation of a restore by hand that was cut off.
pub fn cut_restore(host: &RealHost) -> Option<GenId> {
    backup::cut_restore(&host.layout)
}

/// Generations that runs which are open will need.
pub fn needed_by_runs(host: &RealHost) -> Result<Vec<GenId>, HostError> {
    let runs = run_summaries(host).map_err(|e| HostError::from_error(&e))?;
    let open = runs.iter().filter(|r| r.is_open());
    Ok(open.filter_map(|r| r.status.generation).collect())
}

/// Makes a sealed generation of an archive.
pub fn import(
    node: &DesiredNode,
    host: &RealHost,
    archive: &Path,
    identities: &[PathBuf],
    policy: &BackupSpec,
) -> Result<Generation, BackupJobError> {
    can_be_exchanged(node)?;
    let paths = GenPaths::new(&host.layout, GenId(host.new_ulid()));
    let label = policy.label.as_deref().unwrap_or("imported");
    let record = GenRecord::new(&node.spec.name.to_string(), label, None, host.now());
    let _own = backup::hold_part(&paths)?;
    let interrupted = || host.interrupted();
    let made = backup::import(
        &paths,
        archive,
        identities,
        &node.spec.data,
        &record,
        policy,
        &interrupted,
    );
    if made.is_err() {
        backup::discard(&host.layout, paths.generation)?;
    }
    made?;
    find(host, paths.generation)
}
