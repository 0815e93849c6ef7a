//! Releases: artifacts fetched, verified, given their place, and switched to.
//!
//! Never lets an unverified byte get a final name.

mod current;
mod fetch;
mod stage;

pub use current::{CurrentError, read_current, switch};
pub use fetch::{FetchError, fetch};
pub use stage::{StageError, executable, is_staged, stage};
