//! One look at everything the planner asks about.

use super::hooks::judge;
use super::runs::{RunError, reached, run_summaries};
use crate::backup::{Mount, Whole, dataset_at, snapshot_refusal};
use crate::check::{DesiredNode, without_secrets};
use crate::durable::{PathError, parent};
use crate::host::{Chains as _, HostError, NodeState, Nodes as _, RealHost, Requests as _};
use crate::journal::{Outcome, Stage};
use crate::model::DataSpec;
use crate::node::launched;
use crate::plan::{
    Action, AppliedUpgrade, ChainFacts, Fact, Liveness, Observed, OpenRun, expand_launch,
};
use crate::process::Holder;
use crate::release::{CurrentError, read_current};
use crate::store::{RecordError, read_deny};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Looks at one node. `desired.spec.root` is the real root.
pub fn observe(desired: &DesiredNode, host: &RealHost) -> Result<Observed, ObserveError> {
    let spec = &desired.spec;
    let node = Liveness::from(host.node()?);
    let current = match read_current(&host.layout) {
        Ok(current) => Fact::Known(current),
        Err(CurrentError::Path(error)) => return Err(error.into()),
        Err(other) => Fact::Unknown(other.to_string()),
    };
    let runs = run_summaries(host)?;
    let open_run = runs.iter().rfind(|r| r.is_open()).map(|r| OpenRun {
        run: r.run,
        what: r.plan.action.describe(),
        upgrade: match &r.plan.action {
            Action::Upgrade { name, .. } => Some(name.clone()),
            Action::Install { .. } => None,
        },
        stage: r.status.stage.word().to_owned(),
        waits: r.waits(),
        stuck: match &r.status.stage {
            Stage::Stuck(at) => Some(at.reason.clone()),
            _ => None,
        },
    });
    let mut applied = Vec::new();
    for run in runs
        .iter()
        .filter(|r| r.outcome().is_some_and(|(o, _)| o == Outcome::Committed))
    {
        if let Action::Upgrade { name, digest, .. } = &run.plan.action {
            applied.push(AppliedUpgrade {
                name: name.clone(),
                digest: digest.clone(),
                at: run.ended_at,
            });
        }
    }
    let programs: BTreeSet<PathBuf> = desired
        .upgrades
        .iter()
        .flat_map(|u| &u.hooks)
        .filter_map(|h| h.spec.run.first().map(PathBuf::from))
        .collect();
    Ok(Observed {
        reached: match &current {
            Fact::Known(Some(release)) => reached(&runs, release),
            _ => None,
        },
        current,
        chain: match &node {
            Liveness::Stopped { .. } => ChainFacts::unknown("the node is not running"),
            _ => host.chain(&spec.chain),
        },
        foreign: match &node {
            Liveness::Running { .. } => None,
            _ => match host.foreign_holder()? {
                // A node of ours may have come meanwhile.
                Some(holder) if matches!(host.node()?, NodeState::Gone { .. }) => {
                    Some(describe_holder(&holder))
                }
                _ => None,
            },
        },
        node,
        data_empty: is_empty(&spec.data.path),
        data_problem: data_problem(&spec.data, &spec.root),
        slow_backup: host.stamps_unreliable(),
        copy: if desired.upgrades.iter().any(|u| u.backup.is_some()) {
            host.copy_facts()
        } else {
            None
        },
        last_release: runs.iter().rev().find_map(super::runs::RunSummary::left),
        applied,
        denied: read_deny(&host.layout)?,
        overrides: host.overrides()?,
        open_run,
        start_problem: host.start_problem(&spec.launch.process),
        launch_differs: launch_differs(desired, host),
        last_abandoned: runs
            .last()
            .and_then(|r| match (r.outcome(), &r.plan.action) {
                (Some((Outcome::Abandoned, detail)), Action::Upgrade { name, .. }) => {
                    Some((name.clone(), r.ended_at, detail.to_owned()))
                }
                _ => None,
            }),
        last_outage: runs.iter().rev().find_map(|r| r.outage.clone()),
        hook_files: programs.iter().map(|p| judge(p)).collect(),
    })
}

/// Who works on the data, in words.
pub fn describe_holder(holder: &Holder) -> String {
    let who = if holder.args.is_empty() {
        "its command line may not be read".to_owned()
    } else {
        format!("`{}`", without_secrets(&holder.args))
    };
    format!("pid {} ({who}) holds {}", holder.pid, holder.file.display())
}

fn launch_differs(desired: &DesiredNode, host: &RealHost) -> bool {
    let Ok(NodeState::Running { start, .. }) = host.node() else {
        return false;
    };
    let Ok(Some(was)) = launched(&host.layout, start) else {
        return false;
    };
    let wanted = expand_launch(&desired.spec);
    let has = |(key, value): (&String, &String)| was.env.get(key) == Some(value);
    was.args != wanted.args || was.process != wanted.process || !wanted.env.iter().all(has)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

/// Why the data directory cannot be exchanged with a generation below the root, if it cannot.
pub fn data_problem(data: &DataSpec, root: &Path) -> Option<String> {
    let dir = fs::canonicalize(&data.path).ok()?;
    let whole = Whole::at(&data.path);
    let mount = |path: &Path| {
        let found = Mount::of(path)?;
        Some((
            found.id,
            (whole != Some(Whole::Subvolume)).then_some(found.dev),
        ))
    };
    let existing_root = root.ancestors().find(|p| p.exists())?;
    if let Some(whole) = whole
        && let Some(why) = snapshot_refusal(&data.path)
    {
        return Some(format!(
            "{} is a {}, which exchanges names with a snapshot only: {why}",
            dir.display(),
            whole.name()
        ));
    }
    let own = match whole {
        // Of a dataset the link is exchanged.
        Some(Whole::Dataset) => mount(parent(&data.path))?,
        _ => mount(&dir)?,
    };
    if whole != Some(Whole::Dataset) && mount(parent(&dir)).is_some_and(|above| above != own) {
        let cure = dataset_at(&dir).map_or_else(
            || "keep the data in a directory in it (or, where a unit mounts it by ReadWritePaths=, name the directory above it there)".to_owned(),
            |name| {
                format!(
                    "with the node stopped, mount the dataset elsewhere and leave a link: `zfs set mountpoint=ELSEWHERE {name}`, `rmdir {0}`, `ln -s ELSEWHERE {0}`",
                    data.path.display()
                )
            },
        );
        return Some(format!(
            "{} is a mount point, and a mount point cannot be exchanged: {cure}",
            dir.display()
        ));
    }
    if mount(existing_root).is_some_and(|there| there != own) {
        return Some(format!(
            "{} and {} are on different file systems or mounts",
            dir.display(),
            root.display()
        ));
    }
    if fs::canonicalize(existing_root).is_ok_and(|r| r.starts_with(&dir)) {
        return Some(format!(
            "the root {} lies inside the data directory {}",
            root.display(),
            dir.display()
        ));
    }
    None
}
