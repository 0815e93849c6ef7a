//! The rules across objects, and the way from manifests to what is desired.
//!
//! ```text
//!  Loaded ─▶ names ─▶ one rule family a file, each for the objects that are whole ─▶ Desired
//! ```
//!
//! A broken object is the subject of no further finding; others still are.

mod desired;
mod hooks;
mod names;
mod nodes;
mod releases;
mod run;
mod units;
mod upgrades;
pub mod vars;

pub use desired::{Artifact, Desired, DesiredHook, DesiredNode, DesiredUpgrade, platform};
pub use run::{Checked, check};
pub use units::{duration, duration_text};
