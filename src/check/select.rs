//! Which nodes an upgrade is for, and what follows from that: a chain to ask, and heights that do not meet.
//!
//! Upgrades with equal selectors are one group, and nodes in the same groups are one case, so that no rule goes through every pair of
//! an upgrade and a node.

use super::facts::{Facts, NodeFacts, UpgradeFacts};
use super::names::NodeAt;
use super::table::Table;
use crate::diag::{Code, Finding};
use crate::manifest::{ObjectKind, Selector};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

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
            names: HashMap::new(),
            labels: HashMap::new(),
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
            let has =
                |(key, value): (&String, &String)| self.nodes[*i].labels.get(key) == Some(value);
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
    if table.names_unknown
        || nodes.iter().any(|n| !n.labels_are_sound)
        || table.names(ObjectKind::Node).any(|(_, e)| e.is_broken)
    {
        return;
    }
    for group in groups.iter().filter(|g| g.nodes.is_empty()) {
        for upgrade in &group.upgrades {
            let Some(selector) = &upgrade.nodes else {
                continue;
            };
            if selector.names.iter().flatten().any(is_lost) {
                continue;
            }
            let help = "Correct names or labels, or leave `nodes` out for every node of the set.";
            let finding = Finding::error(
                Code::NoMatch,
                upgrade.nodes_at.clone(),
                format!("upgrade \"{}\" selects no node", upgrade.name),
                help,
            );
            findings.extend(Some(finding).filter(|f| !f.is_about_nothing()));
        }
    }
}

/// A height is awaited, and some node has no chain to ask.
pub(super) fn chains(groups: &[Group<'_>], nodes: &[&NodeFacts], findings: &mut Vec<Finding>) {
    for group in groups {
        let mut of_group = group.nodes.iter().map(|i| nodes[*i]);
        let Some(node) = of_group.find(|n| !n.has_chain && n.chain_is_sound) else {
            continue;
        };
        for upgrade in &group.upgrades {
            let Some((_, place)) = &upgrade.height else {
                continue;
            };
            let name = &node.name;
            let finding = Finding::error(
                Code::BadChain,
                place.clone(),
                format!("a height is awaited, and node \"{name}\" has no chain to ask"),
                "Give the node a `chain`, or let the upgrade be `trigger = { manual = true }`.",
            );
            let finding = finding.with(node.place.clone(), "this node");
            findings.extend(Some(finding).filter(|f| !f.is_about_nothing()));
        }
    }
}

/// Two upgrades of one node: not at one height, and not so near that the first cannot be confirmed before the second.
pub(super) fn heights(groups: &[Group<'_>], nodes: &[&NodeFacts], findings: &mut Vec<Finding>) {
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
    for (node, of_node) in cases {
        let upgrades = of_node.iter().flat_map(|g| &groups[*g].upgrades);
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
            let node = &nodes[node].name;
            let finding = if apart == 0 {
                Finding::error(
                    Code::SameHeight,
                    (*place).clone(),
                    format!("two upgrades of node \"{node}\" at height {height}"),
                    "Give one of them another height, or take it out.",
                )
            } else {
                Finding::error(
                    Code::TooClose,
                    (*place).clone(),
                    format!(
                        "height {height} comes {apart} blocks after upgrade \"{first}\" of node \"{node}\", whose health takes {blocks} blocks to show"
                    ),
                    format!(
                        "Leave more than {blocks} blocks between them, or ask for fewer in `health.blocks`."
                    ),
                )
            };
            findings.push(finding.with((*there).clone(), "the other one"));
        }
    }
}

/// Nodes that share a root or a data directory with one before them: findings, and which nodes.
pub(super) fn twins(facts: &[Facts]) -> (Vec<Finding>, HashSet<NodeAt>) {
    let mut findings = Vec::new();
    let mut twins = HashSet::new();
    let mut dirs: HashMap<&Path, &NodeFacts> = HashMap::new();
    let all = facts.iter().enumerate();
    for (at, node) in all.flat_map(|(f, facts)| {
        let nodes = facts.nodes.iter().enumerate();
        nodes.map(move |(n, node)| ((f, n), node))
    }) {
        // A home that is stood in for is nobody's.
        if node.home.is_nowhere() {
            continue;
        }
        let before = node.dirs.iter().map(|dir| dirs.insert(dir, node));
        let before: Vec<&NodeFacts> = before.flatten().collect();
        let Some(twin) = before.into_iter().find(|twin| twin.name != node.name) else {
            continue;
        };
        twins.insert(at);
        let message = format!(
            "nodes \"{}\" and \"{}\" share a root or a data directory",
            twin.name, node.name
        );
        let help = "Give each node a home of its own.";
        let finding = Finding::error(Code::BadPath, node.home.clone(), message, help);
        findings.push(finding.with(twin.home.clone(), "the other one"));
    }
    (findings, twins)
}
