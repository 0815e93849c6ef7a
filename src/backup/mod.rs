//! Backup without an outage: copies made while the node runs, sealed after its exit, put back by an exchange of names.
//!
//! Never writes into the live data directory, but for the one exchange of a restore.
//!
//! ```text
//!  backups/gen/<id>.part/   being filled         tree/      the copy
//!             │                                  tmp/       files under way
//!             │ final pass, SEAL, rename         baseline   what the last round saw, synced
//!             ▼
//!  backups/gen/<id>/        sealed               SEAL       what the final pass changed; the generation is good
//!             │ SEAL ▸ CONSUMED, keep carried over, exchange with the live directory
//!             ▼
//!  failed/<id>/             the failed data      tree/
//! ```

mod baseline;
mod copy;
mod error;
mod precopy;
mod restore;
mod retain;
mod scan;
mod seal;

pub use baseline::{Baseline, Sealed, read_seal};
pub use error::BackupError;
pub use precopy::Precopier;
pub use restore::{carry_keep, consume, exchange, inodes, is_aside, set_aside};
pub use retain::{discard, prune, sealed_generations};
pub use scan::{DataView, Entry, Ident, Kind, scan};
pub use seal::{seal, seal_holds, seal_state, unseal};

use crate::model::GenId;
use crate::store::Layout;
use std::path::PathBuf;

/// The paths of one generation.
#[derive(Debug, Clone)]
pub struct GenPaths {
    pub part: PathBuf,
    pub done: PathBuf,
    pub aside: PathBuf,
}

impl GenPaths {
    pub fn new(layout: &Layout, generation: GenId) -> Self {
        Self {
            part: layout.generations().join(format!("{generation}.part")),
            done: layout.generations().join(generation.to_string()),
            aside: layout.failed().join(generation.to_string()),
        }
    }
}
