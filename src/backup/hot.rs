//! Stamps so young that they prove nothing yet.

use super::tree::Ident;
use crate::host::wall_clock;
use crate::model::UnixMs;

/// Before 6.13 the kernel stamps files by the tick, 10 ms at the most; with a file system of whole seconds, by the second.
const HOT_FINE_NS: i64 = 50_000_000;
const HOT_COARSE_NS: i64 = 2_000_000_000;

/// True when the stamps are so young that another change might carry the same ones.
pub(super) fn is_hot(ident: &Ident) -> bool {
    is_hot_at(ident, wall_clock())
}

/// The same for a change after that time.
pub(super) fn is_hot_at(ident: &Ident, at: UnixMs) -> bool {
    let now = i64::try_from(at)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    let coarse = ident.mtime % 1_000_000_000 == 0 && ident.ctime % 1_000_000_000 == 0;
    let window = if coarse { HOT_COARSE_NS } else { HOT_FINE_NS };
    now.saturating_sub(ident.mtime.max(ident.ctime)) < window
}
