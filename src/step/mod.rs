//! What each step does, how it is probed and how it is undone, in terms of the host's traits.
//!
//! Owns one step at a time; never the journal, never the order.

mod health;
mod hook;
mod report;
mod run;
mod table;

pub use health::await_health;
pub use hook::run_hook_step;
pub use report::{Notice, Report, Silent};
pub use run::{Cx, StepEnd, StepError, await_clear, run_step};
pub use table::{Class, StepRow, book_table, row};
