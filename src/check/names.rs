//! Names: one path segment each, each given once, none that would collide where case does not count.

use super::run::Rules;
use crate::diag::{Code, Finding};
use crate::manifest::ObjectKind;
use crate::model::Name;
use std::collections::BTreeMap;

impl Rules<'_> {
    pub(super) fn names(&mut self) {
        let mut folded: BTreeMap<(ObjectKind, String), &str> = BTreeMap::new();
        let all = self.loaded.named.iter();
        for (kind, name, places) in
            all.flat_map(|(k, names)| names.iter().map(move |(n, p)| (k, n, p)))
        {
            let word = kind.word();
            if let [first, rest @ ..] = places.as_slice() {
                for again in rest {
                    let finding = Finding::error(
                        Code::Duplicate,
                        again.clone(),
                        format!("{word} \"{name}\" is defined twice in the set"),
                        "Rename one of them, or take one out.",
                    );
                    self.findings
                        .push(finding.with(first.clone(), "first defined here"));
                }
                if let Err(error) = name.parse::<Name>() {
                    let help = "Use 1 to 128 of the letters A-Z and a-z, digits, `.`, `_`, `+` and `-`, not `.` or `-` first.";
                    self.findings.push(Finding::error(
                        Code::BadName,
                        first.clone(),
                        error.to_string(),
                        help,
                    ));
                }
                if let Some(other) = folded.insert((*kind, name.to_lowercase()), name)
                    && other != name
                {
                    let message =
                        format!("{word} \"{name}\" and {word} \"{other}\" differ only in case");
                    let there = self
                        .loaded
                        .named
                        .get(kind)
                        .and_then(|names| names.get(other)?.first())
                        .cloned();
                    let mut finding = Finding::error(
                        Code::Duplicate,
                        first.clone(),
                        message,
                        "Rename one: they become directories, and case does not count everywhere.",
                    );
                    if let Some(there) = there {
                        finding = finding.with(there, "the other one");
                    }
                    self.findings.push(finding);
                }
            }
        }
    }
}
