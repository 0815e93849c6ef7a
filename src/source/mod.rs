//! Where a manifest set comes from: a directory, read once.

mod dir;

pub use dir::{SourceError, look_of, read_set};
