//! The executor: one loop that owns a run's state and is the only writer of its journal.
//!
//! A new run is the recovery of an empty journal; there is one path.
//!
//! ```text
//!            ┌──────────── Waiting (gates closed) ───────────┐
//!            ▼                                               │
//!  Opened ▸ Preparing ──Intent──▶ Critical ──▶ Confirming ──commit──▶ After ▸ Closed(Committed)
//!            │   │                   │  │         │   │
//!            │   └▸ Closed(Abandoned,│  └──Undo───┘   └▸ Stuck ◀─ Resolved by a person
//!            │      Cancelled)       ▼
//!            │                    Undoing ▸ Closed(RolledBack)   (a failed undo: Stuck)
//! ```

mod critical;
mod late;
mod run;
mod stages;
mod timeline;

pub use run::{Advance, EngineError, Run, create, status_of};
pub use timeline::{Row, Timeline, timeline};
