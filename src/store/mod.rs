//! The state directory of a node: its lock, its journals, the operator's overrides, the deny list.
//!
//! ```text
//! <root>/state/lock              one visor a node (flock, freed by the kernel)
//!             /owner.json        who holds it; for messages only
//!             /overrides.json    stop, hold, approvals, a request to abort (short lock: overrides.lock)
//!             /control.sock      of the visor that keeps the node
//!             /deny.json         failed upgrades that are not tried again
//!             /journal/<run>/    plan.json, journal.jsonl, ballast, hooks/<step>.json
//! ```

mod journals;
mod lock;
mod records;

pub use journals::JournalDir;
pub use lock::{LockError, Owner, StateLock};
pub use records::{
    DenyFile, OverrideChange, OverridesFile, RecordError, edit_deny, edit_overrides,
    overrides_stamp, read_deny, read_overrides,
};

use std::path::{Path, PathBuf};

/// The paths below a root.
#[derive(Debug, Clone)]
pub struct Layout {
    pub root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub fn journal(&self) -> PathBuf {
        self.state().join("journal")
    }

    pub fn starts(&self) -> PathBuf {
        self.state().join("starts")
    }

    /// A link to the top of the ZFS dataset that the node ran on last, if it did.
    pub fn dataset(&self) -> PathBuf {
        self.state().join("dataset")
    }

    pub fn node_lock(&self) -> PathBuf {
        self.state().join("node.lock")
    }

    pub fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    pub fn generations(&self) -> PathBuf {
        self.root.join("backups/gen")
    }

    pub fn failed(&self) -> PathBuf {
        self.root.join("failed")
    }

    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub fn overrides(&self) -> PathBuf {
        self.state().join("overrides.json")
    }

    /// Where a visor that keeps the node listens.
    pub fn control(&self) -> PathBuf {
        self.state().join("control.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("logs/node.log")
    }
}
