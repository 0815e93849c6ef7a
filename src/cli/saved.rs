//! Saved plans on disk: `plan diff --out`, `reconcile --plan`.

use super::context::{Context, named_file};
use super::error::CliError;
use super::out;
use crate::durable::write_atomic;
use crate::plan::{Diff, Moved, Observed, SavedPlan};
use std::fs;
use std::path::Path;

/// Larger than any plan.
const MAX_SAVED: u64 = 16 * 1024 * 1024;

/// Writes the plan, readable by its owner alone: arguments and environment of the node stand in it.
pub(super) fn write(path: &Path, d: &Diff, observed: &Observed) -> Result<(), CliError> {
    // A device, a FIFO or a link would be gone, and a file in its place.
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(CliError::usage(
            format!("{} is there, and is no file", path.display()),
            "Name a file that is to be made or replaced.",
        ));
    }
    write_atomic(path, &SavedPlan::new(d, observed).to_bytes(), true)?;
    out::line(&format!(
        "visor: saved to {}; `visor reconcile --plan {0}` does this and nothing else",
        path.display()
    ));
    Ok(())
}

pub(super) fn read(cx: &Context, path: &Path) -> Result<SavedPlan, CliError> {
    let shown = path.display();
    let bytes = named_file(
        path,
        MAX_SAVED,
        "`visor plan diff --out FILE` saves a plan.",
    )?;
    SavedPlan::read(&bytes, &cx.node().spec.name).map_err(|error| {
        let cause = std::error::Error::source(&error)
            .map(|c| format!(" ({c})"))
            .unwrap_or_default();
        CliError::usage(
            format!("{shown} is refused: {error}{cause}"),
            "Make a new one with `visor plan diff --out FILE`.",
        )
    })
}

/// Which facts moved, with their values then and now.
pub(super) fn tell_stale(moved: &[Moved]) {
    let mut text = String::from("visor: the saved plan is stale; nothing was done\n");
    for m in moved {
        text.push_str(&format!(
            "  {}\n    then  {}\n    now   {}\n",
            m.fact, m.then, m.now
        ));
    }
    text.push_str("  Look at `visor plan diff`, and save a new one.\n");
    out::note(&text);
}
