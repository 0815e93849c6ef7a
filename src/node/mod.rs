//! The node's process: started through the shim, found again after any death of visor, stopped by policy.
//!
//! Never starts a second process while the first may live.
//!
//! ```text
//!  visor ──spawn──▶ shim ──takes state/node.lock──▶ spawn ──▶ second stage (inherits the lock)
//!                    │                                          │ setsid
//!                    │                                          │ writes starts/<id>/start: own pid, start time, boot id
//!                    │ waits, writes starts/<id>/exit           ▼
//!                    └◀──────────────────────────────────── exec of the node
//! ```
//!
//! The record is written by the process that becomes the node, under the lock, before the node exists: there is no moment
//! at which a node lives without lock or record. A start whose visor died before its shim took the lock is fenced off by
//! the next visor (`fence`): the shim looks for that mark once it has the lock.

mod attributes;
mod log;
mod read_log;
mod records;
mod shim;
mod start;
mod state;
mod stop;

pub use log::{Piece, Rotated, mark, pieces, rotate};
pub use read_log::{Kept, LogQuery, last_lines, read_all, show_log};
pub use records::{ExitRecord, STARTS_KEPT, StartRecord, launched, read_exit, read_start, starts};
pub use shim::{ShimStage, shim_main};
pub use start::{StartError, start, start_problem};
pub use state::{fence, lock_is_free, mark_gone, node_state, start_evidence};
pub use stop::{StopError, Stopper};
