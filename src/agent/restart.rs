//! Whether a node that has ended by itself is started again, and when. Pure.

use crate::model::{RestartOn, RestartPolicy};
use std::time::Duration;

/// What the policy says of an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    StartAfter(Duration),
    /// Left as it is, until a person starts it: why.
    Leave(String),
}

/// Judges an end. `code` is the exit status, when the node exited and that is known; `ends` counts this end and those before it within
/// `policy.within`.
pub(super) fn judge(policy: &RestartPolicy, code: Option<i32>, ends: u32) -> Verdict {
    let leave = |why: String| Verdict::Leave(why);
    if let Some(code) = code.filter(|c| policy.no_restart_on_exit.contains(c)) {
        return leave(format!(
            "`restart.no-restart-on-exit` names exit status {code}"
        ));
    }
    match (policy.on, code) {
        (RestartOn::Never, _) => return leave("`restart.on` is \"never\"".into()),
        (RestartOn::Failure, Some(0)) => {
            return leave(
                "it ended by itself with exit status 0, and `restart.on` is \"failure\"".into(),
            );
        }
        (RestartOn::Failure | RestartOn::Always, _) => {}
    }
    if ends >= policy.max {
        let within = crate::check::duration_text(policy.within);
        return leave(format!(
            "it ended {ends} times within {within}, and `restart.max` is {}",
            policy.max
        ));
    }
    let doublings = ends.saturating_sub(1).min(31);
    let pause = policy.delay.saturating_mul(1 << doublings);
    Verdict::StartAfter(pause.min(policy.backoff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_cap_and_end() {
        let secs = Duration::from_secs;
        let policy = RestartPolicy {
            backoff: secs(15),
            max: 6,
            ..RestartPolicy::after(secs(5))
        };
        let pauses: Vec<Verdict> = (1..=5).map(|n| judge(&policy, Some(1), n)).collect();
        let want = [5, 10, 15, 15, 15].map(|s| Verdict::StartAfter(secs(s)));
        assert_eq!(pauses, want);
        assert!(
            matches!(judge(&policy, Some(1), 6), Verdict::Leave(why) if why.contains("6 times within 10m"))
        );
        assert!(matches!(
            judge(&policy, Some(1), u32::MAX),
            Verdict::Leave(_)
        ));
    }

    #[test]
    fn ends_that_are_meant_are_left() {
        let policy = |on, not: &[i32]| RestartPolicy {
            on,
            no_restart_on_exit: not.to_vec(),
            ..RestartPolicy::after(Duration::ZERO)
        };
        for (on, not, code, starts) in [
            (RestartOn::Failure, &[][..], Some(0), false),
            (RestartOn::Failure, &[], Some(1), true),
            // Killed, or the status is lost with the shim.
            (RestartOn::Failure, &[], None, true),
            (RestartOn::Always, &[], Some(0), true),
            (RestartOn::Always, &[0, 7], Some(0), false),
            (RestartOn::Always, &[0, 7], Some(7), false),
            (RestartOn::Never, &[], None, false),
        ] {
            let verdict = judge(&policy(on, not), code, 1);
            assert_eq!(
                matches!(verdict, Verdict::StartAfter(_)),
                starts,
                "{on:?} {not:?} {code:?}"
            );
        }
    }
}
