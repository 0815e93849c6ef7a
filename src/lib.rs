//! visor keeps one long-running node at the release its manifests ask for.
//!
//! The map, in the way of the data (arrows of `use` go one way; `tests/it/layers.rs` holds the table):
//!
//! ```text
//!  manifest ─▶ check ─▶ Desired ─┐
//!     │          └─▶ diag        ├─▶ plan ─▶ engine ─▶ step ─▶ host ─▶ node release backup hook chain store
//!  observe ◀── host ─▶ Observed ─┘             └─▶ journal
//! ```

pub mod agent;
pub mod backup;
pub mod chain;
pub mod check;
pub mod cli;
pub mod control;
pub mod devnode;
pub mod diag;
pub mod durable;
pub mod engine;
pub mod hook;
pub mod host;
pub mod journal;
pub mod killpoint;
pub mod manifest;
pub mod model;
pub mod node;
pub mod observe;
mod parallel;
pub mod plan;
pub mod process;
pub mod rehearse;
pub mod release;
pub mod source;
pub mod step;
pub mod store;
