//! The rules across objects, and the way from manifests to what is desired.
//!
//! ```text
//!  file ─▶ manifest ─▶ its own rules ─▶ Facts ┐
//!  file ─▶ manifest ─▶ its own rules ─▶ Facts ┼─▶ rules of the whole set ─▶ findings, Desired
//!  file ─▶ manifest ─▶ its own rules ─▶ Facts ┘
//! ```
//!
//! Files are read beside each other, and of each only its facts are kept. A broken object is the subject of no further finding; others
//! still are.

mod backups;
mod batches;
mod desired;
mod facts;
mod hooks;
mod local;
mod names;
mod nodes;
mod process;
mod profile;
mod releases;
mod run;
mod secrets;
mod select;
mod table;
mod units;
mod unused;
mod upgrades;
pub mod vars;

pub use backups::is_recipient;
pub use desired::{
    Artifact, Desired, DesiredBatch, DesiredHook, DesiredNode, DesiredUpgrade, Membership, platform,
};
pub use run::{Checked, check, findings};
pub use secrets::without_secrets;
pub use units::{duration, duration_text};
