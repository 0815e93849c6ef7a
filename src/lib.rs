//! visor keeps one long-running node at the release its manifests ask for.
//!
//! The map, in the way of the data (arrows of `use` go one way; `tests/it/layers.rs` holds the table):
//!
//! ```text
//!  manifest ─▶ check ─▶ Desired ─┐
//!     │          └─▶ diag        ├─▶ plan ─▶ engine ─▶ step ─▶ host ─▶ node release backup hook chain store
//!  observe ◀── host ─▶ Observed ─┘             └─▶ journal
//! ```

pub mod model;
pub mod diag;
pub mod manifest;
pub mod check;
pub mod plan;
pub mod journal;
pub mod host;
pub mod step;
pub mod engine;
