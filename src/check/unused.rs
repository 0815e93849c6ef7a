//! What exists is named by something.
//!
//! Where a reference is broken, the object that it was to name seems unused, and saying so would be the same mistake again. So what
//! its text names counts as named, and where no text is left it *excuses* one object, the likeliest.

use super::facts::Facts;
use super::table::{Entry, Table};
use crate::diag::{Code, Finding, Place};
use crate::manifest::{Blind, ObjectKind};
use crate::model::Name;
use foldhash::{HashMap, HashSet};
use std::collections::BTreeSet;

/// Objects that nothing names, once all references are followed.
pub(super) fn unused(facts: &[Facts], table: &Table<'_>) -> Vec<Finding> {
    // Those that name them stand in upgrades and nodes.
    let named_by = [ObjectKind::Upgrade, ObjectKind::Node];
    if named_by.iter().any(|k| table.names_unknown.contains(*k)) {
        return vec![];
    }
    let mentioned: HashSet<&str> = facts.iter().flat_map(words).collect();
    let kinds = [ObjectKind::Artifact, ObjectKind::Hook, ObjectKind::Backup];
    let of = |kind: ObjectKind| {
        let is_idle = |(name, entry): &(&str, &Entry)| {
            // That a name cannot be one is said already.
            !entry.is_used()
                && !entry.is_broken
                && !mentioned.contains(name)
                && name.parse::<Name>().is_ok()
        };
        let idle = table.names(kind).filter(is_idle);
        let idle = idle.filter_map(|(name, entry)| Some((name, entry.first.as_ref()?)));
        let mut idle: HashMap<&str, &Place> = idle.collect();
        if !idle.is_empty() {
            excuse(&mut idle, facts, kind);
        }
        idle.into_iter()
            .map(move |(name, place)| finding(kind, name, place))
    };
    kinds.into_iter().flat_map(of).collect()
}

fn finding(kind: ObjectKind, name: &str, place: &Place) -> Finding {
    let word = kind.word();
    let users = match kind {
        ObjectKind::Artifact => "an upgrade's `artifact` or a node's `genesis`",
        ObjectKind::Hook => "an upgrade's `hooks`",
        _ => "an upgrade's `backup`",
    };
    Finding::warning(
        Code::Unused,
        place.clone(),
        format!("nothing names {word} \"{name}\""),
        format!("Name it in {users}, or take it out."),
    )
}

/// The words of what was left out of a file.
fn words(facts: &Facts) -> impl Iterator<Item = &str> {
    let texts = facts.mentioned.iter();
    let words = texts.flat_map(|text| text.split(|c| !Name::may_hold(c)));
    // At the end of a sentence, too.
    words.flat_map(|word| [word, word.trim_end_matches('.')])
}

/// Takes out one object for each reference of which not a word is left: one with the name of the object that has the reference, or
/// else the nearest in its file, or any.
fn excuse(idle: &mut HashMap<&str, &Place>, facts: &[Facts], kind: ObjectKind) {
    let files = facts.iter().enumerate();
    let all = files.flat_map(|(file, facts)| facts.blind.iter().map(move |b| (file, b)));
    let mut rest: Vec<(usize, &Blind)> = all.filter(|(_, b)| b.kind == kind).collect();
    if rest.is_empty() {
        return;
    }
    rest.retain(|(_, blind)| idle.remove(blind.owner.as_str()).is_none());
    let mut places: BTreeSet<(usize, usize, &str)> = idle
        .iter()
        .map(|(name, p)| (p.file, p.start, *name))
        .collect();
    for (file, blind) in rest {
        let here = (file, blind.at, "");
        let before = places.range((file, 0, "")..here).next_back();
        let behind = places.range(here..(file + 1, 0, "")).next();
        let distance = |place: &&(usize, usize, &str)| place.1.abs_diff(blind.at);
        let nearest = before.into_iter().chain(behind).min_by_key(distance);
        let Some(found) = nearest.or_else(|| places.first()).copied() else {
            return;
        };
        places.remove(&found);
        idle.remove(found.2);
    }
}
