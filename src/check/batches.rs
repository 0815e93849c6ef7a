//! Batches: members that exist, each once, in the order of their heights.

use super::facts::{Facts, UpgradeFacts};
use crate::diag::{Code, Finding, Place};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

/// `said` are pairs of upgrades whose heights meet, which was said already.
pub(super) fn batches(facts: &[Facts], said: &HashSet<(&str, &str)>, findings: &mut Vec<Finding>) {
    let all = facts.iter().flat_map(|f| &f.upgrades);
    let by_name: HashMap<&str, &UpgradeFacts> = all.map(|u| (u.name.as_str(), u)).collect();
    let mut member_of: HashMap<&str, (&str, &Place)> = HashMap::new();
    let mut push = |finding: Finding| {
        findings.extend(Some(finding).filter(|f| !f.is_about_nothing()));
    };
    let mut seen: HashSet<&str> = HashSet::new();
    for batch in facts.iter().flat_map(|f| &f.batches) {
        if !seen.insert(&batch.name) {
            // A batch that is defined twice is one mistake, and said already.
            continue;
        }
        let mut last: Option<(u64, &str, &Place)> = None;
        for (member, place) in &batch.members {
            if let Some((other, first)) = member_of.get(member.as_str()) {
                let message = if *other == batch.name {
                    format!("upgrade \"{member}\" is named twice in the batch")
                } else {
                    format!("upgrade \"{member}\" is in batch \"{other}\" already")
                };
                let help = "Name each upgrade in one place of one batch.";
                let finding = Finding::error(Code::BatchTwice, place.clone(), message, help);
                push(finding.with((*first).clone(), "named here"));
                continue;
            }
            member_of.insert(member, (&batch.name, place));
            let height = by_name.get(member.as_str()).and_then(|u| u.height.as_ref());
            let Some((height, at_height)) = height.filter(|(_, at)| !at.is_nowhere()) else {
                continue;
            };
            // One that is out of its place is one mistake, however many stand behind it.
            let before = last.replace((*height, member, at_height));
            if let Some((before, name, there)) = before
                && *height <= before
            {
                if said.contains(&(name, member.as_str()))
                    || said.contains(&(member.as_str(), name))
                {
                    continue;
                }
                let message = format!(
                    "upgrade \"{member}\" at height {height} stands behind \"{name}\" at height {before}"
                );
                let help = "Put the members in the order of their heights, or correct a height.";
                let finding = Finding::error(Code::BatchOrder, place.clone(), message, help);
                let finding = finding
                    .with(at_height.clone(), "its height")
                    .with(there.clone(), "the other height");
                push(finding);
            }
        }
    }
}
