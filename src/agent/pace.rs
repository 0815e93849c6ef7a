//! How soon the chain is looked at again: often when the height is near, seldom when it is far. Pure.

use std::time::{Duration, Instant};

/// Between two looks when it matters.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two looks when nothing is near.
const LONGEST: Duration = Duration::from_secs(5);
/// The same when so few blocks are missing that a node which catches up could bring them at once.
const LONGEST_NEAR: Duration = Duration::from_secs(1);
const NEAR_BLOCKS: u64 = 2_000;
/// So long the last block is waited for closely.
const LONG_NEAR: Duration = Duration::from_secs(60);
/// So long a chain is looked at closely before it counts as slow.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// What one wait has seen of a chain.
#[derive(Debug, Default)]
pub(super) struct Pace {
    first: Option<(u64, Instant)>,
    last: Option<(u64, Instant)>,
    /// Since when the height is there, or the next block's: what is waited for then is something else.
    near: Option<Instant>,
}

impl Pace {
    /// When to look again: at half of the time that the blocks before the last one will take, as fast as they came so far or since the last
    /// look; a node that catches up is faster than it was.
    pub(super) fn again_in(&mut self, target: u64, head: u64, now: Instant) -> Duration {
        let (began_at, began) = *self.first.get_or_insert((head, now));
        let before_last = target.saturating_sub(head).saturating_sub(1);
        let time = now.duration_since(began);
        let blocks = head.saturating_sub(began_at);
        let last = self.last.replace((head, now)).unwrap_or((head, now));
        let lately = head.saturating_sub(last.0);
        if before_last == 0 {
            let near = *self.near.get_or_insert(now);
            if now.duration_since(near) < LONG_NEAR {
                LOOK_EVERY
            } else {
                Duration::from_millis(500)
            }
        } else if blocks > 0 {
            let mut per_block = time.as_secs_f64() / blocks as f64;
            if lately > 0 {
                let time = now.duration_since(last.1);
                per_block = per_block.min(time.as_secs_f64() / lately as f64);
            }
            let half = per_block * before_last as f64 / 2.0;
            let longest = if per_block < 0.5 && before_last < NEAR_BLOCKS {
                LONGEST_NEAR
            } else {
                LONGEST
            };
            Duration::from_secs_f64(half.min(longest.as_secs_f64())).max(LOOK_EVERY)
        } else if time < FIRST_LOOK {
            LOOK_EVERY
        } else {
            Duration::from_secs(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_looked_at_often() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut pace = Pace::default();
        let ms = |d: Duration| d.as_millis();
        assert_eq!(ms(pace.again_in(1_000, 10, began)), 100);
        assert_eq!(
            ms(pace.again_in(1_000, 10, at(3_500))),
            1_000,
            "a slow chain"
        );
        assert_eq!(
            ms(pace.again_in(1_000, 20, at(10_000))),
            5_000,
            "a block a second"
        );
        assert_eq!(ms(pace.again_in(1_000, 992, at(982_000))), 3_500);
        assert_eq!(ms(pace.again_in(1_000, 998, at(988_000))), 500);
        for head in [999, 1_000, 2_000] {
            assert_eq!(ms(pace.again_in(1_000, head, at(990_000))), 100);
        }
        assert_eq!(
            ms(pace.again_in(1_000, 2_000, at(1_100_000))),
            500,
            "held for long"
        );
    }
}
