//! Where a manifest set comes from: a directory, read once.

mod dir;

pub use dir::{SourceError, read_set};
