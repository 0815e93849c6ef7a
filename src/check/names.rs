//! Names: one path segment each, each given once, none that would collide where case does not count; and what is named
//! exists.

use super::facts::{Facts, Reference};
use super::table::Table;
use crate::diag::{Code, Finding};
use crate::manifest::{ObjectKind, shown_name};
use crate::model::Name;
use crate::parallel::each;
use foldhash::HashSet;
use std::collections::BTreeMap;

/// The rules about the names themselves.
pub(super) fn names(table: &Table<'_>) -> Vec<Finding> {
    let of = |kind: ObjectKind| {
        let mut findings = Vec::new();
        let mut folded: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, entry) in table.names(kind) {
            let Some(first) = &entry.first else {
                continue;
            };
            let word = kind.word();
            for again in &entry.again {
                let finding = Finding::error(
                    Code::Duplicate,
                    again.clone(),
                    format!("{word} \"{name}\" is defined twice in the set"),
                    "Rename one of them, or take one out.",
                );
                findings.push(finding.with(first.clone(), "first defined here"));
            }
            if let Some(error) = name.parse::<Name>().err() {
                let help = "Use 1 to 128 of the letters A-Z and a-z, digits, `.`, `_`, `+` and `-`, not `.` or `-` first.";
                findings.push(Finding::error(
                    Code::BadName,
                    first.clone(),
                    error.to_string(),
                    help,
                ));
            }
            let lower = name.to_lowercase();
            if lower != name {
                folded.entry(lower).or_default().push(name);
            }
        }
        for (lower, mut alike) in folded {
            let defined = table.entry(kind, &lower);
            if defined.is_some_and(|e| e.first.is_some()) {
                alike.push(&lower);
            }
            // The later one is said.
            alike.sort_by_key(|name| table.entry(kind, name).and_then(|e| e.first.clone()));
            findings.extend(
                alike
                    .windows(2)
                    .filter_map(|pair| same_but_for_case(table, kind, pair)),
            );
        }
        findings
    };
    let found = each(table.files, ObjectKind::ALL, of);
    found.into_iter().flatten().collect()
}

fn same_but_for_case(table: &Table<'_>, kind: ObjectKind, pair: &[&str]) -> Option<Finding> {
    let [other, name] = pair else { return None };
    let place = |name: &str| table.entry(kind, name)?.first.clone();
    let word = kind.word();
    let finding = Finding::error(
        Code::Duplicate,
        place(name)?,
        format!("{word} \"{name}\" and {word} \"{other}\" differ only in case"),
        "Rename one: they become directories, and case does not count everywhere.",
    );
    Some(finding.with(place(other)?, "the other one"))
}

/// A node: its file, and its number in it.
pub(super) type NodeAt = (usize, usize);

/// Follows all references: those to nothing are findings, and what they name is in use. Second, the nodes that need something that is
/// not there.
pub(super) fn follow(facts: &[Facts], table: &Table<'_>) -> (Vec<Finding>, HashSet<NodeAt>) {
    let of = |file: usize| {
        let references = facts[file].references.iter();
        let lost = references.filter_map(|r| Some((dangling(table, r)?, r.node)));
        lost.map(|(finding, node)| (finding, node.map(|n| (file, n))))
            .collect::<Vec<_>>()
    };
    let lost = each(facts.len(), 0..facts.len(), of).into_iter().flatten();
    let (findings, nodes): (Vec<_>, Vec<_>) = lost.unzip();
    (findings, nodes.into_iter().flatten().collect())
}

/// A reference to an object that does not exist.
fn dangling(table: &Table<'_>, reference: &Reference) -> Option<Finding> {
    let Reference {
        kind, name, place, ..
    } = reference;
    // What is stood in for names nothing.
    if place.is_nowhere() {
        return None;
    }
    if let Some(entry) = table.entry(*kind, name) {
        entry.mark_used();
        return None;
    }
    if table.names_unknown.contains(*kind) {
        return None;
    }
    let word = kind.word();
    let help = match table.near(*kind, name) {
        Some(guess) => {
            // What was meant is in use, however it is spelt.
            if let Some(entry) = table.entry(*kind, guess) {
                entry.mark_used();
            }
            format!("Did you mean \"{guess}\"?")
        }
        None if *kind == ObjectKind::Backup && name.eq_ignore_ascii_case("none") => {
            "For no backup write \"none\".".to_owned()
        }
        None if name.is_empty() => format!("Write the name of a {word}."),
        None if name.contains('/') => {
            format!("Define [{word}.NAME] with this address or path, and name it here.")
        }
        None => format!(
            "Define [{word}.{}] in a file of the set, or name one that is there.",
            shown_name(name)
        ),
    };
    let message = format!("there is no {word} \"{name}\" in the set");
    Some(Finding::error(Code::Dangling, place.clone(), message, help))
}
