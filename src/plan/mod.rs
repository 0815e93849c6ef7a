//! The compiler: what the manifests want and what was observed become a step graph with a digest.
//!
//! Pure: no clock, no environment, no network, no randomness. Same input, same bytes.
//!
//! ```text
//!  Desired ─┐
//!           ├─▶ diff ─▶ Diff (drift, changes, scheduled, blocked, overrides)
//!  Observed ┘     └──▶ compile ─▶ Plan { steps, undo, digest }
//! ```

mod change;
mod compile;
mod diff;
mod draw;
mod gate;
mod graph;
mod observed;
mod render;
mod saved;
mod standing;
mod step;

pub use change::{Change, ChangeKind, Outage, OutagePart, Reason, Risk};
pub use compile::{compile_install, compile_upgrade, expand_launch};
pub use diff::{Diff, Remark, Scheduled, backup_problems, diff, upgrade_problems};
pub use draw::{plan_dot, plan_mermaid};
pub use gate::{Gate, chain_safe, trigger};
pub use graph::{Cycle, order};
pub use observed::{
    AppliedUpgrade, Approval, ChainFacts, Denied, Fact, Hold, HookFile, Liveness, MeasuredOutage,
    Observed, OpenRun, Overrides, Resolution, StopOverride,
};
pub use render::{diff_text, plan_tree, wrapped};
pub use saved::{Moved, SavedError, SavedPlan};
pub use standing::{Standing, Standings};
pub use step::{Action, PLAN_VERSION, Phase, Plan, PlanError, Step, StepId, StepKind};
