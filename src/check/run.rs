//! All rules over one set: those of each file beside each other, then those of the whole.

use super::batches::batches;
use super::desired::{Desired, DesiredBatch, DesiredNode, Membership};
use super::facts::{Facts, NodeFacts};
use super::hooks::modes;
use super::local::local;
use super::names::{NodeAt, follow, names};
use super::select::{Group, chains, groups, heights, no_match, twins};
use super::table::Table;
use super::unused::unused;
use super::upgrades::Definitions;
use crate::diag::{Code, Finding, Place, Severity, sort};
use crate::manifest::{Kinds, ManifestSet, Named, NearNames};
use crate::model::BackupSpec;
use crate::model::Name;
use crate::parallel::{both, each, free};
use foldhash::{HashMap, HashMapExt, HashSet};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

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

/// Checks a set. Pure.
pub fn check(set: &ManifestSet) -> Checked {
    let (findings, (mut nodes, batches, backups)) =
        run(set, true, |facts, groups, nodes, unsound| {
            let mut desired = resolve(facts, groups, nodes, unsound);
            let batches: Vec<DesiredBatch> = facts
                .iter()
                .flat_map(|f| &f.batches)
                .filter_map(|b| b.parts.as_deref().cloned())
                .collect();
            join_batches(&mut desired, &batches);
            let backups: Vec<BackupSpec> = facts
                .iter()
                .flat_map(|f| &f.backups)
                .map(|(_, b)| b.clone())
                .collect();
            (desired, batches, backups)
        });
    let failed = findings.iter().any(|f| f.severity == Severity::Error);
    let dir = set.dir.clone();
    let (desired, sound_nodes) = if failed {
        nodes.retain(|(_, is_sound)| *is_sound);
        (None, nodes.into_iter().map(|(n, _)| n).collect())
    } else {
        let nodes = nodes.into_iter().map(|(n, _)| n).collect();
        (
            Some(Desired {
                dir,
                nodes,
                batches,
                backups,
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

/// The findings of a check alone: for large sets in less time, and in far less memory.
pub fn findings(set: &ManifestSet) -> Vec<Finding> {
    run(set, false, |_, _, _, _| ()).0
}

/// Runs all rules; `then` sees what the files left.
fn run<T>(
    set: &ManifestSet,
    keep: bool,
    then: impl FnOnce(&[Facts], &[Group<'_>], &[&NodeFacts], &HashSet<NodeAt>) -> T,
) -> (Vec<Finding>, T) {
    let unread: HashSet<&str> = set.unreadable.iter().map(|(p, _)| p.as_str()).collect();
    let files = set.files.len();
    // Most sets need none of it.
    let beside = OnceLock::new();
    let near = |path: &str| {
        let names = || NearNames::new(set.beside.keys().map(String::as_str).collect());
        let near = beside.get_or_init(names).closest(path);
        near.map(str::to_owned)
    };
    let of = |index: usize| {
        let is_readable = !unread.contains(set.files[index].path.as_str());
        local(set, &near, index, is_readable, keep)
    };
    let (named, mut facts): (Vec<Vec<Named>>, Vec<Facts>) =
        each(files, 0..files, of).into_iter().unzip();
    let mut findings = unreadable(set);
    findings.reserve_exact(facts.iter().map(|f| f.findings.len()).sum());
    for file in &mut facts {
        findings.append(&mut file.findings);
    }
    findings.extend(modes(&facts));
    let nodes: Vec<&NodeFacts> = facts.iter().flat_map(|f| &f.nodes).collect();
    let unknown = facts.iter().map(|f| f.names_unknown);
    let names_unknown = unknown.fold(Kinds::default(), Kinds::union);
    let ((table, twins), groups) = both(
        files,
        || {
            both(
                files,
                || Table::new(&named, names_unknown),
                || twins(&facts),
            )
        },
        || groups(&facts, &nodes),
    );
    let ((names, lost), more) = both(
        files,
        || (names(&table), follow(&facts, &table)),
        || {
            let mut more = Vec::new();
            no_match(&groups, &nodes, &table, &mut more);
            chains(&groups, &nodes, &mut more);
            let said = heights(&groups, &nodes, &mut more);
            batches(&facts, &said, &mut more);
            more
        },
    );
    for more in [names, lost.0, twins.0, more, unused(&facts, &table)] {
        findings.extend(more);
    }
    sort(&mut findings, &set.files);
    let unsound: HashSet<NodeAt> = &lost.1 | &twins.1;
    let then = then(&facts, &groups, &nodes, &unsound);
    free(files, (named, facts));
    (findings, then)
}

/// Each node with its genesis and its upgrades, and whether it is sound.
fn resolve(
    facts: &[Facts],
    groups: &[Group<'_>],
    nodes: &[&NodeFacts],
    unsound: &HashSet<NodeAt>,
) -> Vec<(DesiredNode, bool)> {
    let by_name = Definitions {
        artifacts: facts
            .iter()
            .flat_map(|f| &f.artifacts)
            .map(|(n, a)| (n.as_str(), a))
            .collect(),
        hooks: facts
            .iter()
            .flat_map(|f| &f.hooks)
            .map(|(n, h)| (n.as_str(), h))
            .collect(),
        backups: facts
            .iter()
            .flat_map(|f| &f.backups)
            .map(|(n, b)| (n.as_str(), b))
            .collect(),
    };
    let mut desired: Vec<Option<DesiredNode>> = nodes
        .iter()
        .map(|node| {
            let mut desired = node.parts.as_deref()?.clone();
            let genesis = node.genesis.as_deref();
            desired.genesis = genesis.and_then(|g| by_name.artifacts.get(g).copied().cloned());
            Some(desired)
        })
        .collect();
    for group in groups {
        for parts in group.upgrades.iter().filter_map(|u| u.parts.as_deref()) {
            for &i in &group.nodes {
                let upgrade = parts.resolve(&by_name, nodes[i].has_chain);
                if let Some((node, upgrade)) = desired[i].as_mut().zip(upgrade) {
                    node.upgrades.push(upgrade);
                }
            }
        }
    }
    let at = |(f, facts): (usize, &Facts)| (0..facts.nodes.len()).map(move |n| (f, n));
    let places = facts.iter().enumerate().flat_map(at);
    let with_places = desired.into_iter().zip(nodes).zip(places);
    with_places
        .filter_map(|((desired, node), at)| {
            let mut desired = desired?;
            desired
                .upgrades
                .sort_by_key(|u| (u.trigger.height().unwrap_or(u64::MAX), u.name.clone()));
            Some((desired, !node.is_unsound && !unsound.contains(&at)))
        })
        .collect()
}

/// Tells each node's upgrades which of its others stand before and after them.
fn join_batches(nodes: &mut [(DesiredNode, bool)], batches: &[DesiredBatch]) {
    let mut place: HashMap<&Name, (usize, usize)> = HashMap::new();
    for (b, batch) in batches.iter().enumerate() {
        let members = batch.upgrades.iter().enumerate();
        place.extend(members.map(|(i, name)| (name, (b, i))));
    }
    for (node, _) in nodes {
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
            let members: Arc<[Name]> = members.into_iter().map(|(_, n)| n).collect();
            let at: HashMap<&Name, usize> =
                members.iter().enumerate().map(|(i, n)| (n, i)).collect();
            for upgrade in &mut node.upgrades {
                if let Some(at) = at.get(&upgrade.name) {
                    upgrade.batch = Some(Membership {
                        batch: batches[b].name.clone(),
                        members: Arc::clone(&members),
                        at: *at,
                    });
                }
            }
        }
    }
}

fn unreadable(set: &ManifestSet) -> Vec<Finding> {
    // Places need a file; unreadable ones are given an empty text by the reader.
    let at = |path: &str| {
        let found = set.files.binary_search_by(|f| f.path.as_str().cmp(path));
        Place::new(found.unwrap_or(0), 0..0)
    };
    let of = |(path, why): &(String, String)| {
        let why = why.trim_end_matches('.');
        let help = if path.ends_with(".toml") {
            "Make it a readable file of UTF-8 and at most 4 MiB, or take it out of the set."
        } else {
            "Put its manifests where they are read, or give it a name that begins with `.`."
        };
        Finding::error(
            Code::Unreadable,
            at(path),
            format!("{path} cannot be read: {why}"),
            help,
        )
    };
    set.unreadable.iter().map(of).collect()
}
