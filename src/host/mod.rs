//! The machine as the engine sees it: small traits with two implementations.
//!
//! `real.rs` wires the capability modules; `sim.rs` is a deterministic machine, process and chain in memory, which can be
//! cut off before, in and after every call. Each method has one effect, leaves an artefact that can be found again, and
//! may be called twice.

mod ambient;
mod clock;
mod real;
pub mod sim;
mod traits;

pub use ambient::{Ambient, Say, Signs, Wake};
pub use clock::wall_clock;
pub use real::{Baton, RealHost};
pub use traits::{
    Attempt, Backups, Chains, Clock, HookCall, HookEnd, Hooks, Host, HostError, Journals,
    NodeState, Nodes, Precopy, Releases, Requests, SealReport, SealState, StartEvidence,
    StopReport, VerifyReport,
};
