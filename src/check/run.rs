//! All rules over one set.

use super::desired::{Desired, DesiredNode};
use crate::diag::{Code, Finding, Place, Severity, sort};
use crate::manifest::{Loaded, ManifestSet, ObjectId, ObjectKind, load};
use std::collections::BTreeSet;

/// The result of a check.
#[derive(Debug)]
pub struct Checked {
    /// In their one order.
    pub findings: Vec<Finding>,
    /// `None` when there are errors.
    pub desired: Option<Desired>,
    /// Nodes in whose own objects nothing is wrong, whatever is wrong elsewhere. Their upgrades may be incomplete.
    pub sound_nodes: Vec<DesiredNode>,
}

/// The state of a check: what was read, and the findings so far.
pub(super) struct Rules<'a> {
    pub(super) set: &'a ManifestSet,
    pub(super) loaded: &'a Loaded,
    pub(super) findings: Vec<Finding>,
    /// Names of nodes of which a rule said something.
    pub(super) unsound: BTreeSet<String>,
    broken: BTreeSet<&'a ObjectId>,
}

/// Checks a set. Pure.
pub fn check(set: &ManifestSet) -> Checked {
    let loaded = load(set);
    let mut rules = Rules {
        set,
        loaded: &loaded,
        findings: vec![],
        unsound: BTreeSet::new(),
        broken: loaded.broken.iter().collect(),
    };
    rules.findings.extend(unreadable(set));
    rules.names();
    let artifacts = rules.artifacts();
    let hooks = rules.hooks();
    let backups = rules.backups();
    let nodes = rules.nodes();
    let nodes = rules.upgrades(nodes, &artifacts, &hooks, &backups);
    let unsound = rules.unsound;
    let sound = |n: &&DesiredNode| !unsound.contains(n.spec.name.as_str());
    let sound_nodes = nodes.iter().filter(sound).cloned().collect();
    let mut findings = rules.findings;
    findings.extend(loaded.findings);
    sort(&mut findings, &set.files);
    let failed = findings.iter().any(|f| f.severity == Severity::Error);
    let desired = (!failed).then(|| Desired {
        dir: set.dir.clone(),
        nodes,
    });
    Checked {
        findings,
        desired,
        sound_nodes,
    }
}

fn unreadable(set: &ManifestSet) -> Vec<Finding> {
    // Places need a file; unreadable ones are given an empty text by the reader.
    let at = |path: &str| {
        Place::new(
            set.files.iter().position(|f| f.path == path).unwrap_or(0),
            0..0,
        )
    };
    let of = |(path, why): &(String, String)| {
        Finding::error(
            Code::Unreadable,
            at(path),
            format!("{path} cannot be read: {why}"),
            "Make it readable, as UTF-8, or take it out of the set.",
        )
    };
    set.unreadable.iter().map(of).collect()
}

impl Rules<'_> {
    pub(super) fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// True when nothing more may be said of an object.
    pub(super) fn is_broken(&self, kind: ObjectKind, name: &str) -> bool {
        self.broken.contains(&(kind, name.to_owned()))
    }

    pub(super) fn is_named(&self, kind: ObjectKind, name: &str) -> bool {
        self.loaded.named.contains_key(&(kind, name.to_owned()))
    }

    /// A reference to an object that does not exist.
    pub(super) fn dangling(&mut self, kind: ObjectKind, name: &str, place: Place) {
        if self.is_named(kind, name) || self.loaded.names_unknown {
            return;
        }
        let names = self
            .loaded
            .named
            .keys()
            .filter(|(k, _)| *k == kind)
            .map(|(_, n)| n.as_str());
        let word = kind.word();
        let help = match crate::manifest::closest(name, names) {
            Some(guess) => format!("Did you mean \"{guess}\"?"),
            None => format!(
                "Define [{word}.{}] in a file of the set, or name one that is there.",
                quoted(name)
            ),
        };
        self.push(Finding::error(
            Code::Dangling,
            place,
            format!("there is no {word} \"{name}\" in the set"),
            help,
        ));
    }
}

fn quoted(name: &str) -> String {
    let bare = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if bare {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}
