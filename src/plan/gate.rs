//! Gates: conditions that must be *known* to hold. Unknown is closed.

use super::observed::{ChainFacts, Fact, Overrides};
use crate::model::{ChainSpec, Name, Trigger, human_ms};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Open, and what was seen.
    Open(String),
    /// Closed, and why.
    Closed(String),
}

/// The trigger of an upgrade.
pub fn trigger(
    trigger: &Trigger,
    upgrade: &Name,
    chain: &ChainFacts,
    overrides: &Overrides,
) -> Gate {
    match trigger {
        Trigger::Height(want) => match &chain.head {
            Fact::Known(head) if head >= want => Gate::Open(format!("head {head} ≥ {want}")),
            Fact::Known(head) => {
                Gate::Closed(format!("height {want} is not reached: the head is {head}"))
            }
            Fact::Unknown(why) => Gate::Closed(format!(
                "height {want} is awaited and the head is unknown: {why}"
            )),
        },
        Trigger::Manual => match overrides.approvals.iter().find(|a| a.upgrade == *upgrade) {
            Some(approval) => Gate::Open(format!("approved by {}", approval.by)),
            None => Gate::Closed(format!(
                "upgrade {upgrade} waits for `visor upgrade approve {upgrade}`"
            )),
        },
    }
}

/// Whether the chain is in a state in which its node may be stopped.
pub fn chain_safe(spec: &ChainSpec, facts: &ChainFacts) -> Gate {
    let ChainSpec::Evm { max_head_age, .. } = spec else {
        return Gate::Open("no chain to ask".into());
    };
    match (&facts.syncing, &facts.head_age) {
        (Fact::Unknown(why), _) => {
            Gate::Closed(format!("whether the node is in sync is unknown: {why}"))
        }
        (Fact::Known(true), _) => Gate::Closed("the node is syncing".into()),
        (_, Fact::Unknown(why)) => Gate::Closed(format!("the age of the head is unknown: {why}")),
        (Fact::Known(false), Fact::Known(age)) => {
            let ms = |d: &std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
            if age <= max_head_age {
                Gate::Open(format!("in sync, head {} old", human_ms(ms(age))))
            } else {
                let (age, most) = (human_ms(ms(age)), human_ms(ms(max_head_age)));
                Gate::Closed(format!(
                    "the head is {age} old, more than max-head-age = {most}"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn facts(syncing: Fact<bool>, age: Fact<Duration>) -> ChainFacts {
        ChainFacts {
            head: Fact::Known(7),
            syncing,
            head_age: age,
        }
    }

    #[test]
    fn unknown_is_closed() {
        let spec = ChainSpec::Evm {
            rpc: String::new(),
            max_head_age: Duration::from_secs(60),
        };
        let young = || Fact::Known(Duration::from_secs(1));
        let lost = || "no answer".to_owned();
        for (facts, open) in [
            (facts(Fact::Known(false), young()), true),
            (facts(Fact::Known(true), young()), false),
            (facts(Fact::Unknown(lost()), young()), false),
            (facts(Fact::Known(false), Fact::Unknown(lost())), false),
            (
                facts(Fact::Known(false), Fact::Known(Duration::from_secs(61))),
                false,
            ),
        ] {
            assert_eq!(
                matches!(chain_safe(&spec, &facts), Gate::Open(_)),
                open,
                "{facts:?}"
            );
        }
        let name: Name = "v2".parse().expect("a name");
        let blind = ChainFacts::unknown("no answer");
        assert!(matches!(
            trigger(&Trigger::Height(7), &name, &blind, &Overrides::default()),
            Gate::Closed(_)
        ));
    }
}
