//! All rules over one set.

use super::desired::{Desired, DesiredBatch, DesiredNode, Membership};
use crate::diag::{Code, Finding, Place, Severity, sort};
use crate::manifest::{Loaded, ManifestSet, NearNames, ObjectId, ObjectKind, load};
use crate::model::Name;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The result of a check.
#[derive(Debug)]
pub struct Checked {
    /// In their one order.
    pub findings: Vec<Finding>,
    /// `None` when there are errors.
    pub desired: Option<Desired>,
    /// When there are errors: nodes in whose own objects nothing is wrong. Their upgrades may be incomplete.
    pub sound_nodes: Vec<DesiredNode>,
}

/// The state of a check: what was read, and the findings so far.
pub(super) struct Rules<'a> {
    pub(super) set: &'a ManifestSet,
    pub(super) loaded: &'a Loaded,
    pub(super) findings: Vec<Finding>,
    /// Names of nodes of which a rule said something.
    pub(super) unsound: BTreeSet<String>,
    /// Objects that something names.
    pub(super) used: HashSet<ObjectId>,
    near: BTreeMap<ObjectKind, NearNames<'a>>,
}

/// Checks a set. Pure.
pub fn check(set: &ManifestSet) -> Checked {
    let loaded = load(set);
    let mut rules = Rules {
        set,
        loaded: &loaded,
        findings: vec![],
        unsound: BTreeSet::new(),
        used: HashSet::new(),
        near: BTreeMap::new(),
    };
    rules.findings.extend(unreadable(set));
    rules.names();
    let artifacts = rules.artifacts();
    let hooks = rules.hooks();
    let backups = rules.backups();
    let nodes = rules.nodes();
    let nodes = rules.upgrades(nodes, &artifacts, &hooks, &backups);
    let mut nodes = nodes;
    let batches = rules.batches();
    join_batches(&mut nodes, &batches);
    rules.unused();
    let (unsound, mut findings) = (rules.unsound, rules.findings);
    let mut loaded = loaded;
    findings.append(&mut loaded.findings);
    // Tens of thousands of objects take their time to go.
    rayon::spawn(move || drop(loaded));
    sort(&mut findings, &set.files);
    let failed = findings.iter().any(|f| f.severity == Severity::Error);
    let (desired, sound_nodes) = if failed {
        let sound = |n: &DesiredNode| !unsound.contains(n.spec.name.as_str());
        (None, nodes.into_iter().filter(sound).collect())
    } else {
        let dir = set.dir.clone();
        (
            Some(Desired {
                dir,
                nodes,
                batches,
            }),
            vec![],
        )
    };
    Checked {
        findings,
        desired,
        sound_nodes,
    }
}

/// Tells each node's upgrades which of its others stand before and after them.
fn join_batches(nodes: &mut [DesiredNode], batches: &[DesiredBatch]) {
    let mut place: HashMap<&Name, (usize, usize)> = HashMap::new();
    for (b, batch) in batches.iter().enumerate() {
        let members = batch.upgrades.iter().enumerate();
        place.extend(members.map(|(i, name)| (name, (b, i))));
    }
    for node in nodes {
        let mut members: BTreeMap<usize, Vec<(usize, Name)>> = BTreeMap::new();
        for upgrade in &node.upgrades {
            if let Some((b, i)) = place.get(&upgrade.name) {
                members
                    .entry(*b)
                    .or_default()
                    .push((*i, upgrade.name.clone()));
            }
        }
        for (b, mut members) in members {
            members.sort();
            let names: Vec<Name> = members.into_iter().map(|(_, n)| n).collect();
            for upgrade in &mut node.upgrades {
                if let Some(at) = names.iter().position(|n| *n == upgrade.name) {
                    upgrade.batch = Some(Membership {
                        batch: batches[b].name.clone(),
                        before: names[..at].to_vec(),
                        after: names[at + 1..].to_vec(),
                    });
                }
            }
        }
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
        let why = why.trim_end_matches('.');
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
    /// Takes a finding, unless it rests on a value that was broken: that was said already.
    pub(super) fn push(&mut self, finding: Finding) {
        if !finding.is_about_nothing() {
            self.findings.push(finding);
        }
    }

    /// True when nothing more may be said of an object.
    pub(super) fn is_broken(&self, kind: ObjectKind, name: &str) -> bool {
        self.loaded.broken.contains(&(kind, name.to_owned()))
    }

    pub(super) fn is_named(&self, kind: ObjectKind, name: &str) -> bool {
        let names = self.loaded.named.get(&kind);
        names.is_some_and(|n| n.contains_key(name))
    }

    /// A reference to an object that does not exist.
    pub(super) fn dangling(&mut self, kind: ObjectKind, name: &str, place: Place) {
        self.used.insert((kind, name.to_owned()));
        if self.is_named(kind, name) || self.loaded.names_unknown || place.is_nowhere() {
            return;
        }
        let loaded = self.loaded;
        let near = self.near.entry(kind).or_insert_with(|| {
            let names = loaded.named.get(&kind).into_iter().flatten();
            NearNames::new(names.map(|(n, _)| n.as_str()))
        });
        let guess = near.closest(name);
        let word = kind.word();
        let help = match guess {
            Some(guess) => {
                // What was meant is in use, however it is spelt.
                self.used.insert((kind, guess.to_owned()));
                format!("Did you mean \"{guess}\"?")
            }
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
