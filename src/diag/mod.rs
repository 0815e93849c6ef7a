//! Findings about the user's files: what is wrong, where, and what to do. No I/O, and no other module of visor.

mod code;
mod finding;
mod render;

pub use code::Code;
pub use finding::{Finding, Place, Related, Severity, SourceText, sort};
pub use render::{human, json};
