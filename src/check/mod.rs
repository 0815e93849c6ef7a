//! The rules across objects, and the way from manifests to what is desired.
//!
//! ```text
//!  Loaded ─▶ names ─▶ one rule family a file, each for the objects that are whole ─▶ Desired
//! ```
//!
//! A broken object is the subject of no further finding; others still are.

mod batches;
mod desired;
mod hooks;
mod names;
mod nodes;
mod releases;
mod run;
mod secrets;
mod units;
mod unused;
mod upgrades;
pub mod vars;

pub use desired::{
    Artifact, Desired, DesiredBatch, DesiredHook, DesiredNode, DesiredUpgrade, Membership, platform,
};
pub use run::{Checked, check};
pub use units::{duration, duration_text};
