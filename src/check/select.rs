//! Which nodes an upgrade is for, and what follows from that: a chain to ask, and heights that do not meet.
//!
//! Upgrades with equal selectors are one group, and nodes in the same groups are one case, so that no rule goes through every pair of
//! an upgrade and a node.

use super::facts::{Facts, NodeFacts, UpgradeFacts};
use super::names::NodeAt;
use super::table::Table;
use crate::diag::{Code, Finding, Place};
use crate::manifest::{NearNames, ObjectKind, Selector};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// So many other places are shown with a finding.
const MOST_RELATED: usize = 4;

/// Upgrades that select alike, and the nodes they select, both in the order of the set.
pub(super) struct Group<'a> {
    pub(super) upgrades: Vec<&'a UpgradeFacts>,
    pub(super) nodes: Vec<usize>,
}

/// Nodes by what upgrades select them by.
struct Index<'a> {
    nodes: &'a [&'a NodeFacts],
    names: HashMap<&'a str, Vec<usize>>,
    labels: HashMap<(&'a str, &'a str), Vec<usize>>,
}

impl<'a> Index<'a> {
    fn new(nodes: &'a [&'a NodeFacts]) -> Self {
        let mut out = Self {
            nodes,
            names: HashMap::with_capacity(nodes.len()),
            labels: HashMap::with_capacity(nodes.len()),
        };
        for (i, node) in nodes.iter().enumerate() {
            out.names.entry(&node.name).or_default().push(i);
            for (key, value) in &node.labels {
                out.labels.entry((key, value)).or_default().push(i);
            }
        }
        out
    }

    /// The nodes that a selector fits.
    fn select(&self, selector: Option<&Selector>) -> Vec<usize> {
        let all = || (0..self.nodes.len()).collect();
        let Some(Selector { names, labels }) = selector else {
            return all();
        };
        // Only those that the narrowest part of the selector names can fit.
        let of_labels = labels.iter().flatten().map(|(key, value)| {
            let found = self.labels.get(&(key.as_str(), value.as_str()));
            found.map_or(&[][..], Vec::as_slice)
        });
        let mut some: Vec<usize> = match (names, of_labels.min_by_key(|n| n.len())) {
            (Some(names), _) => {
                let found = names.iter().filter_map(|n| self.names.get(n.as_str()));
                found.flatten().copied().collect()
            }
            (None, Some(nodes)) => nodes.to_vec(),
            (None, None) => all(),
        };
        some.sort_unstable();
        some.dedup();
        let fits = |i: &usize| {
            let has = |(key, value): (&String, &String)| self.nodes[*i].label(key) == Some(value);
            labels.iter().flatten().all(has)
        };
        some.retain(fits);
        some
    }
}

/// Finds the nodes of every upgrade.
pub(super) fn groups<'a>(facts: &'a [Facts], nodes: &'a [&'a NodeFacts]) -> Vec<Group<'a>> {
    let index = Index::new(nodes);
    let mut places: HashMap<Option<&Selector>, usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for upgrade in facts.iter().flat_map(|f| &f.upgrades) {
        let selector = upgrade.nodes.as_ref();
        let at = *places.entry(selector).or_insert_with(|| {
            groups.push(Group {
                upgrades: vec![],
                nodes: index.select(selector),
            });
            groups.len() - 1
        });
        groups[at].upgrades.push(upgrade);
    }
    groups
}

/// A selector that fits no node.
pub(super) fn no_match(
    groups: &[Group<'_>],
    nodes: &[&NodeFacts],
    table: &Table<'_>,
    findings: &mut Vec<Finding>,
) {
    let is_lost = |name: &String| {
        let entry = table.entry(ObjectKind::Node, name);
        entry.is_none_or(|e| e.is_broken)
    };
    if table.names_unknown.contains(ObjectKind::Node)
        || table.names(ObjectKind::Node).any(|(_, e)| e.is_broken)
    {
        return;
    }
    let odd = Odd::new(nodes);
    let mut labels = Labels::new(nodes);
    for group in groups.iter().filter(|g| g.nodes.is_empty()) {
        // One for all of its upgrades.
        let selector = group.upgrades.first().and_then(|u| u.nodes.as_ref());
        let Some(selector) = selector else { continue };
        if selector.names.iter().flatten().any(is_lost) || odd.may_fit(selector) {
            continue;
        }
        let help = labels.odd(selector).unwrap_or_else(|| {
            "Correct names or labels, or leave `nodes` out for every node of the set.".into()
        });
        for upgrade in &group.upgrades {
            let finding = Finding::error(
                Code::NoMatch,
                upgrade.nodes_at.clone(),
                format!("upgrade \"{}\" selects no node", upgrade.name),
                help.clone(),
            );
            findings.extend(Some(finding).filter(|f| !f.is_about_nothing()));
        }
    }
}

/// Of so many nodes with unknown labels one is taken to fit: looking at all of them for each selector would take too long, and their
/// own mistakes are said.
const MOST_ODD: usize = 1_000;

/// Nodes of which some labels are not known: one of them may be what a selector means.
struct Odd<'a> {
    /// Those of which no label is known.
    unknown: HashSet<&'a str>,
    /// By a label that they have, or by one of theirs that may have any value.
    by_label: HashMap<(&'a str, Option<&'a str>), Vec<&'a NodeFacts>>,
}

impl<'a> Odd<'a> {
    fn new(nodes: &[&'a NodeFacts]) -> Self {
        let mut out = Self {
            unknown: HashSet::new(),
            by_label: HashMap::new(),
        };
        for node in nodes {
            if !node.labels_are_sound {
                out.unknown.insert(&node.name);
            } else if !node.odd_labels.is_empty() {
                let known = node.labels.iter();
                let known = known.map(|(key, value)| (key.as_str(), Some(value.as_str())));
                let odd = node.odd_labels.iter().map(|key| (key.as_str(), None));
                for label in known.chain(odd) {
                    out.by_label.entry(label).or_default().push(node);
                }
            }
        }
        out
    }

    fn may_fit(&self, selector: &Selector) -> bool {
        let Some(labels) = &selector.labels else {
            return false;
        };
        let names = selector.names.as_ref();
        let is_unknown = |name: &String| self.unknown.contains(name.as_str());
        let has_unknown = match names {
            Some(names) => names.iter().any(is_unknown),
            None => !self.unknown.is_empty(),
        };
        let lists = labels.iter().map(|(key, value)| {
            let with = |value| self.by_label.get(&(key.as_str(), value));
            [with(None), with(Some(value.as_str()))]
        });
        let fewest = lists.min_by_key(|l| l.iter().flatten().map(|n| n.len()).sum::<usize>());
        let mut some = fewest.into_iter().flatten().flatten().flatten();
        let fits = |node: &&NodeFacts| {
            let has = |(key, value): (&String, &String)| {
                node.odd_labels.contains(key) || node.label(key) == Some(value)
            };
            names.is_none_or(|names| names.contains(&node.name)) && labels.iter().all(has)
        };
        has_unknown || some.by_ref().take(MOST_ODD).any(fits) || some.next().is_some()
    }
}

/// The values of labels, gathered once they are asked for.
struct Labels<'a> {
    nodes: &'a [&'a NodeFacts],
    values: Option<HashMap<&'a str, BTreeSet<&'a str>>>,
    near: HashMap<&'a str, NearNames<'a>>,
}

impl<'a> Labels<'a> {
    fn new(nodes: &'a [&'a NodeFacts]) -> Self {
        Self {
            nodes,
            values: None,
            near: HashMap::new(),
        }
    }

    /// The first label of a selector that no node has, and what nodes have in its place.
    fn odd(&mut self, selector: &Selector) -> Option<String> {
        let of_nodes = || {
            let mut values: HashMap<&str, BTreeSet<&str>> = HashMap::new();
            for (key, value) in self.nodes.iter().flat_map(|n| &n.labels) {
                values.entry(key).or_default().insert(value);
            }
            values
        };
        let values = self.values.get_or_insert_with(of_nodes);
        let mut labels = selector.labels.iter().flatten();
        let has = |key: &String, value: &String| {
            let of_key = values.get(key.as_str());
            of_key.is_some_and(|v| v.contains(value.as_str()))
        };
        let (key, value) = labels.find(|(key, value)| !has(key, value))?;
        let Some((key, values)) = values.get_key_value(key.as_str()) else {
            return Some(format!("No node has a label `{key}`."));
        };
        let names = || NearNames::new(values.iter().copied().collect());
        let near = self.near.entry(key).or_insert_with(names);
        if let Some(near) = near.closest(value) {
            return Some(format!("Did you mean {key} = \"{near}\"?"));
        }
        let shown: Vec<String> = values.iter().take(5).map(|v| format!("\"{v}\"")).collect();
        Some(format!(
            "No node has the label {key} = \"{value}\"; there are {}.",
            shown.join(", ")
        ))
    }
}

/// Heights are awaited, and some node has no chain to ask: said once a node.
pub(super) fn chains(groups: &[Group<'_>], nodes: &[&NodeFacts], findings: &mut Vec<Finding>) {
    let mut waiting: BTreeMap<usize, Vec<&Place>> = BTreeMap::new();
    for group in groups {
        let mut of_group = group.nodes.iter().copied();
        let Some(node) = of_group.find(|i| !nodes[*i].has_chain && nodes[*i].chain_is_sound) else {
            continue;
        };
        let heights = group.upgrades.iter().filter_map(|u| u.height.as_ref());
        let places = heights.map(|(_, place)| place).filter(|p| !p.is_nowhere());
        waiting.entry(node).or_default().extend(places);
    }
    for (node, mut places) in waiting {
        places.sort_unstable();
        let Some((first, rest)) = places.split_first() else {
            continue;
        };
        let (name, place) = (&nodes[node].name, nodes[node].place.clone());
        let mut finding = Finding::error(
            Code::BadChain,
            (*first).clone(),
            format!("a height is awaited, and node \"{name}\" has no chain to ask"),
            "Give the node a `chain`, or let the upgrade be `trigger = { manual = true }`.",
        );
        finding = finding.with(place, "this node");
        for place in rest.iter().take(MOST_RELATED) {
            finding = finding.with((*place).clone(), "and this one");
        }
        findings.push(finding);
    }
}

/// Two upgrades of one node: not at one height, and not so near that the first cannot be confirmed before the second. The pairs at
/// one height.
pub(super) fn heights<'a>(
    groups: &[Group<'a>],
    nodes: &[&NodeFacts],
    findings: &mut Vec<Finding>,
) -> HashSet<(&'a str, &'a str)> {
    let mut groups_of: Vec<Vec<usize>> = vec![vec![]; nodes.len()];
    for (g, group) in groups.iter().enumerate() {
        group.nodes.iter().for_each(|i| groups_of[*i].push(g));
    }
    // The first node of each case speaks for it.
    let mut cases: BTreeMap<&[usize], usize> = BTreeMap::new();
    for (i, of_node) in groups_of.iter().enumerate() {
        cases.entry(of_node).or_insert(i);
    }
    let mut cases: Vec<(usize, &[usize])> = cases.into_iter().map(|(g, i)| (i, g)).collect();
    cases.sort_unstable();
    let mut said: HashSet<(&str, &str)> = HashSet::new();
    let mut same = HashSet::new();
    for (node, of_node) in cases {
        let upgrades = of_node
            .iter()
            .flat_map(|g| groups[*g].upgrades.iter().copied());
        let mut waiting: Vec<_> = upgrades
            .filter_map(|u| {
                u.height
                    .as_ref()
                    .map(|(h, place)| (*h, &u.name, place, u.blocks))
            })
            .filter(|(_, _, place, _)| !place.is_nowhere())
            .collect();
        waiting.sort_unstable();
        for pair in waiting.windows(2) {
            let [(low, first, there, blocks), (height, second, place, _)] = pair else {
                continue;
            };
            let apart = height - low;
            // An upgrade that is defined twice is one mistake, and said already.
            if apart > *blocks || first == second || !said.insert((first, second)) {
                continue;
            }
            if apart == 0 {
                same.insert((first.as_str(), second.as_str()));
            }
            let node = &nodes[node].name;
            let finding = if apart == 0 {
                Finding::error(
                    Code::SameHeight,
                    (*place).clone(),
                    format!(
                        "upgrades \"{first}\" and \"{second}\" of node \"{node}\" are both at height {height}"
                    ),
                    "Give one of them another height, or take it out.",
                )
            } else {
                Finding::error(
                    Code::TooClose,
                    (*place).clone(),
                    format!(
                        "height {height} comes {apart} block{} after upgrade \"{first}\" of node \"{node}\", whose health takes {blocks} to show",
                        if apart == 1 { "" } else { "s" }
                    ),
                    format!(
                        "Leave more than {blocks} blocks between them, or ask for fewer in `health.blocks`."
                    ),
                )
            };
            findings.push(finding.with((*there).clone(), "the other one"));
        }
    }
    same
}

/// Nodes that share a root or a data directory with one before them, or stand in another's data: findings, and which nodes.
pub(super) fn twins(facts: &[Facts]) -> (Vec<Finding>, HashSet<NodeAt>) {
    let mut findings = Vec::new();
    let mut twins = HashSet::new();
    let mut dirs: HashMap<&Path, &NodeFacts> = HashMap::with_capacity(2 * facts.len());
    let nodes = || {
        let all = facts.iter().enumerate();
        all.flat_map(|(f, facts)| {
            let nodes = facts.nodes.iter().enumerate();
            nodes.map(move |(n, node)| ((f, n), node))
        })
        // A home that is stood in for is nobody's.
        .filter(|(_, node)| !node.home.is_nowhere())
    };
    let mut say = |at: NodeAt, node: &NodeFacts, other: &NodeFacts, message: String| {
        twins.insert(at);
        let help = "Give each node a home of its own.";
        let finding = Finding::error(Code::BadPath, node.home.clone(), message, help);
        findings.push(finding.with(other.home.clone(), "the other one"));
    };
    let mut data: HashMap<&Path, &NodeFacts> = HashMap::with_capacity(facts.len());
    for (at, node) in nodes() {
        let Some([_, data_dir]) = &node.dirs else {
            continue;
        };
        data.entry(data_dir).or_insert(node);
        let before = node.dirs.iter().flatten();
        let before = before.map(|dir| dirs.insert(dir, node));
        let before: Vec<&NodeFacts> = before.flatten().collect();
        let Some(twin) = before.into_iter().find(|twin| twin.name != node.name) else {
            continue;
        };
        let (a, b) = (&twin.name, &node.name);
        let message = format!("nodes \"{a}\" and \"{b}\" share a root or a data directory");
        say(at, node, twin, message);
    }
    for (at, node) in nodes() {
        let own = node.dirs.iter().flatten();
        let above = own.flat_map(|dir| dir.ancestors().skip(1));
        let mut owners = above.filter_map(|dir| Some((dir, *data.get(dir)?)));
        if let Some((dir, owner)) = owners.find(|(_, owner)| owner.name != node.name) {
            let message = format!(
                "node \"{}\" stands inside {}, the data directory of node \"{}\"",
                node.name,
                dir.display(),
                owner.name
            );
            say(at, node, owner, message);
        }
    }
    (findings, twins)
}
