//! Backup without an outage: copies made while the node runs, sealed after its exit, put back by an exchange of names.
//!
//! Never writes into the live data directory, but for the one exchange of a restore. What links in the data lead to on other disks is copied
//! there (`roots.rs`). Of data that are a ZFS dataset `tree/` is a link (`dataset.rs`).
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

mod ahead;
mod archive;
mod baseline;
mod contents;
mod copy;
mod dataset;
mod dress;
mod error;
mod extract;
mod hot;
mod import;
mod kept;
mod linked;
mod members;
mod method;
mod mounts;
mod pace;
mod pass;
mod precopy;
mod record;
mod restore;
mod retain;
mod roots;
mod scan;
mod seal;
mod sift;
mod subvolume;
mod tree;
mod verify;
mod view;
mod whole;

pub use archive::{archive, export, format_of, is_encrypted};
pub use baseline::{Baseline, Sealed, read_seal};
pub use dataset::{dataset_at, remember_dataset};
pub use error::BackupError;
pub use import::import;
pub use method::{glance, stamps_unreliable, survey};
pub use mounts::Mount;
pub use precopy::{Precopier, Ready};
pub use record::{
    Contents, GenRecord, GenState, Generation, Verdict, contents, generations, hold_part, pin,
    rewrite_record,
};
pub use restore::{
    carry_keep, consume, cut_restore, exchange, inodes, is_aside, restore, set_aside, settle_aside,
    start_refusal,
};
pub use retain::{
    discard, foreign_backups, good_generations, prune, remove, remove_each, sealed_generations,
    superfluous,
};
pub use roots::copies_elsewhere;
pub use scan::scan;
pub use seal::{Final, Remembered, seal, seal_holds, seal_state, unseal};
pub use tree::{Class, Entry, Ident, Kind, Tree};
pub use verify::{Watch, verify, verify_apart};
pub use view::DataView;
pub use whole::{Whole, snapshot_refusal};

use crate::model::GenId;
use crate::store::Layout;
use std::path::PathBuf;

/// The paths of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenPaths {
    pub generation: GenId,
    pub part: PathBuf,
    pub done: PathBuf,
    pub aside: PathBuf,
}

impl GenPaths {
    pub fn new(layout: &Layout, generation: GenId) -> Self {
        Self {
            generation,
            part: layout.generations().join(format!("{generation}.part")),
            done: layout.generations().join(generation.to_string()),
            aside: layout.failed().join(generation.to_string()),
        }
    }
}
