//! `visor rehearse`: the whole plan of a set, for real, in a temporary root, with stand-ins where the set cannot be run.
//!
//! Real are the plan, the engine, the journal, the processes, the backup and the exchange. Replaced are home and root, the
//! RPC's port, and, unless the node says `rehearse = true`, the program (by devnode), the artifacts and the heights. Hooks run
//! only where they say `rehearse = true`. Everything that was replaced is told.

mod probe;
mod stage;

pub use probe::{Probe, Silence};
pub use stage::{Bad, RehearseError, Staged, stage};
