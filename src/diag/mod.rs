//! Findings about the user's files: what is wrong, where, and what to do. No I/O, and no other module of visor.

mod code;
mod explain;
mod finding;
mod human;
mod lines;
mod machine;
mod visible;

pub use code::Code;
pub use explain::{EXAMPLE_BASE, Explanation, code_page};
pub use finding::{Finding, Fix, Place, Related, Severity, SourceText, mask, sort};
pub(crate) use finding::{fnv1a, fnv1a_on};
pub use human::{Style, human};
pub(crate) use lines::Lines;
pub use machine::{findings_schema, github, json, sarif};
pub use visible::visible;
