//! Whether the copy will be ready when its upgrade is due: said while there is time to do something about it. Pure.

use crate::host::Precopy;
use crate::model::{Late, UnixMs, human_ms};

/// So many blocks, and so long, a chain is watched before it is known how fast it is.
const FEWEST_BLOCKS: u64 = 3;
const SHORTEST_MS: u64 = 2_000;

/// What this visor has seen of a chain while a run waits.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    first: Option<(u64, UnixMs)>,
}

impl Foresight {
    /// Why the upgrade at `height` will not go as it should, if it is to be feared. What comes after `: so far ` changes from look to look.
    pub(super) fn fears(
        &mut self,
        (height, head): (u64, u64),
        copy: &Precopy,
        late: Late,
        now: UnixMs,
    ) -> Option<String> {
        let (from, since) = *self.first.get_or_insert((head, now));
        let (blocks, watched) = (head.saturating_sub(from), now.saturating_sub(since));
        let Precopy::Filling { bytes, of, ms } = *copy else {
            return None;
        };
        let of = of.filter(|of| *of > bytes)?;
        if blocks < FEWEST_BLOCKS || watched < SHORTEST_MS || ms < SHORTEST_MS || bytes == 0 {
            return None;
        }
        let due = share(watched, height.saturating_sub(head), blocks);
        let left = share(ms, of - bytes, bytes);
        if left <= due {
            return None;
        }
        let then = match late {
            Late::Wait => "the upgrade will wait for it",
            Late::StopAnyway => "the rest will be copied while the node is down",
            Late::SkipUpgrade => "the upgrade will be given up",
        };
        let size = bytesize::ByteSize;
        Some(format!(
            "the copy will be late, and then {then} (`late`); a higher `rate` brings it forward: so far {} of {} are copied, which leaves about {}, and the height is due in about {}",
            size(bytes),
            size(of),
            human_ms(left),
            human_ms(due),
        ))
    }
}

/// `ms` · `part` / `whole`.
fn share(ms: u64, part: u64, whole: u64) -> u64 {
    let all = u128::from(ms) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(all).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_slower_than_the_chain_is_told_of() {
        let copied = |bytes, ms| Precopy::Filling {
            bytes,
            of: Some(100 << 20),
            ms,
        };
        let mut foresight = Foresight::default();
        let mut fears =
            |head, copy: &Precopy, now| foresight.fears((1_000, head), copy, Late::StopAnyway, now);
        // A block a second: 990 s are left.
        assert_eq!(fears(0, &copied(0, 0), 0), None, "nothing is known");
        assert_eq!(fears(1, &copied(1 << 10, 1_000), 1_000), None, "too early");
        assert_eq!(fears(10, &copied(2 << 20, 10_000), 10_000), None, "490 s");
        let why = fears(10, &copied(1 << 19, 10_000), 10_000).expect("1,990 s");
        assert!(why.contains("512.0 KiB of 100.0 MiB"), "{why}");
        assert!(why.contains("while the node is down"), "{why}");
        assert!(why.contains("due in about 16m 30s"), "{why}");
        let ready = Precopy::Ready {
            rounds: 1,
            bytes: 1,
        };
        assert_eq!(fears(10, &ready, 10_000), None);
    }
}
