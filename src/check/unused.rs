//! Objects that nothing names.

use super::run::Rules;
use crate::diag::{Code, Finding};
use crate::manifest::ObjectKind;
use std::collections::HashSet;

impl Rules<'_> {
    /// Runs last: what the other rules looked up is in use.
    pub(super) fn unused(&mut self) {
        let loaded = self.loaded;
        if loaded.names_unknown {
            return;
        }
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        let mentioned: HashSet<&str> = loaded
            .mentioned
            .iter()
            .flat_map(|text| text.split(|c| !is_of_name(c)))
            .collect();
        for kind in [ObjectKind::Artifact, ObjectKind::Hook, ObjectKind::Backup] {
            for (name, places) in loaded.named.get(&kind).into_iter().flatten() {
                let is_used = self.used.contains(&(kind, name.clone()))
                    || mentioned.contains(name.as_str())
                    || self.is_broken(kind, name);
                let Some(place) = places.first().filter(|_| !is_used) else {
                    continue;
                };
                let word = kind.word();
                let users = match kind {
                    ObjectKind::Artifact => "an upgrade's `artifact` or a node's `genesis`",
                    ObjectKind::Hook => "an upgrade's `hooks`",
                    _ => "an upgrade's `backup`",
                };
                self.push(Finding::warning(
                    Code::Unused,
                    place.clone(),
                    format!("nothing names {word} \"{name}\""),
                    format!("Name it in {users}, or take it out."),
                ));
            }
        }
    }
}
