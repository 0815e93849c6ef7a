//! The wall clock, read in one place.

use crate::model::UnixMs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, by the machine's clock. Used for people's eyes and for head ages; order rests on sequence numbers.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall_clock() -> UnixMs {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
