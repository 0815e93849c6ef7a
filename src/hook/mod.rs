//! Hooks: programs of the operator, with an environment, a time limit, bounded output and records of every attempt.
//!
//! Never runs through a shell. An attempt is recorded before the program exists, by the process that becomes it, under a
//! lock that it inherits; so a visor that comes later can find and end one that outlived its visor.
//!
//! ```text
//!  journal/<run>/hooks/<step>.json        {"version":1,"number":2,"ok":null,"fenced":false}     synced
//!                     <step>.<n>.pid      identity of the attempt, written by itself
//!                     <step>.<n>.lock     held by it and its children
//! ```

mod attempt;
mod exec;

pub use attempt::{HookError, read_attempt, reap, run};
pub use exec::hook_exec_main;
