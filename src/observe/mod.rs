//! Read-only probes: what is on this machine and on the chain. Changes nothing, and holds no lock.

mod hooks;
mod look;
mod root;
mod runs;

pub use look::{ObserveError, data_problem, describe_holder, observe};
pub use root::{RootError, find_root};
pub use runs::{RunError, RunSummary, run_summaries};
