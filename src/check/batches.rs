//! Batches: members that exist, each once, in the order of their heights.

use super::desired::DesiredBatch;
use super::run::Rules;
use crate::diag::{Code, Finding, Place};
use crate::manifest::{Object, ObjectKind, Upgrade};
use crate::model::Name;
use std::collections::HashMap;

impl Rules<'_> {
    pub(super) fn batches(&mut self) -> Vec<DesiredBatch> {
        let loaded = self.loaded;
        let by_name: HashMap<&str, &Object<Upgrade>> = loaded
            .upgrades
            .iter()
            .map(|u| (u.name.as_str(), u))
            .collect();
        let mut member_of: HashMap<&str, (&str, Place)> = HashMap::new();
        let mut out = Vec::new();
        for object in &loaded.batches {
            let Ok(name) = object.name.parse::<Name>() else {
                continue;
            };
            let mut last: Option<(u64, &str, Place)> = None;
            for (i, member) in object.value.upgrades.iter().enumerate() {
                let place = loaded.at(object, &format!("/upgrades/{i}"));
                self.dangling(ObjectKind::Upgrade, member, place.clone());
                let first = member_of.get(member.as_str()).cloned();
                // A batch that is defined twice is one mistake, and said already.
                if let Some((other, first)) = first {
                    let message = if other == object.name {
                        format!("upgrade \"{member}\" is named twice in the batch")
                    } else {
                        format!("upgrade \"{member}\" is in batch \"{other}\" already")
                    };
                    let help = "Name each upgrade in one place of one batch.";
                    let finding = Finding::error(Code::BatchTwice, place, message, help);
                    self.push(finding.with(first, "named here"));
                    continue;
                }
                member_of.insert(member, (&object.name, place.clone()));
                let Some(upgrade) = by_name.get(member.as_str()) else {
                    continue;
                };
                let at_height = loaded.at(upgrade, "/trigger/height");
                let height = upgrade.value.trigger.height;
                let Some(height) = height.filter(|_| !at_height.is_nowhere()) else {
                    continue;
                };
                if let Some((before, name, there)) = &last
                    && height <= *before
                {
                    let message = format!(
                        "upgrade \"{member}\" at height {height} stands behind \"{name}\" at height {before}"
                    );
                    let help =
                        "Put the members in the order of their heights, or correct a height.";
                    let finding = Finding::error(Code::BatchOrder, place, message, help);
                    let finding = finding
                        .with(at_height, "its height")
                        .with(there.clone(), "the other height");
                    self.push(finding);
                    continue;
                }
                last = Some((height, member, at_height));
            }
            let members = object.value.upgrades.iter();
            out.push(DesiredBatch {
                name,
                description: object.value.description.clone(),
                upgrades: members.filter_map(|u| u.parse().ok()).collect(),
                place: self.place_text(&loaded.name_of(object)),
            });
        }
        out
    }
}
