//! The step graph: order and cycles. The only file that names petgraph.
//!
//! No recursion anywhere: a chain of any length must not overflow the stack.

use petgraph::graph::{DiGraph, NodeIndex};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

/// A circle of steps, named in the order in which each waits for the one before; the first name is repeated at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle(pub Vec<String>);

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" → "))
    }
}

/// Orders `names` so that every edge `(from, to)` goes forward; ties keep the given order.
pub fn order(names: &[&str], edges: &[(usize, usize)]) -> Result<Vec<usize>, Cycle> {
    let mut graph = DiGraph::<usize, ()>::with_capacity(names.len(), edges.len());
    let nodes: Vec<NodeIndex> = (0..names.len()).map(|i| graph.add_node(i)).collect();
    for &(from, to) in edges {
        graph.add_edge(nodes[from], nodes[to], ());
    }
    let mut waiting: Vec<usize> = nodes
        .iter()
        .map(|&n| {
            graph
                .neighbors_directed(n, petgraph::Direction::Incoming)
                .count()
        })
        .collect();
    let mut ready: BinaryHeap<Reverse<usize>> = (0..names.len())
        .filter(|&i| waiting[i] == 0)
        .map(Reverse)
        .collect();
    let mut out = Vec::with_capacity(names.len());
    while let Some(Reverse(i)) = ready.pop() {
        out.push(i);
        for next in graph.neighbors(nodes[i]).map(|n| graph[n]) {
            waiting[next] -= 1;
            if waiting[next] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    if out.len() == names.len() {
        Ok(out)
    } else {
        Err(circle(&graph, &nodes, &waiting, names))
    }
}

/// Follows unmet predecessors from the first step that never became ready until one repeats.
fn circle(
    graph: &DiGraph<usize, ()>,
    nodes: &[NodeIndex],
    waiting: &[usize],
    names: &[&str],
) -> Cycle {
    let mut at = waiting
        .iter()
        .position(|&w| w > 0)
        .expect("a graph without order has a step that waits");
    let mut seen_at = vec![usize::MAX; names.len()];
    let mut path = Vec::new();
    while seen_at[at] == usize::MAX {
        seen_at[at] = path.len();
        path.push(at);
        at = graph
            .neighbors_directed(nodes[at], petgraph::Direction::Incoming)
            .map(|n| graph[n])
            .filter(|&i| waiting[i] > 0)
            .min()
            .expect("a step that waits has a predecessor that waits");
    }
    let mut circle: Vec<usize> = path.split_off(seen_at[at]);
    circle.reverse();
    let least = (0..circle.len()).min_by_key(|&i| circle[i]).unwrap_or(0);
    circle.rotate_left(least);
    circle.push(circle[0]);
    Cycle(circle.into_iter().map(|i| names[i].to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_chain_and_a_long_circle_overflow_no_stack() {
        let n = 100_000;
        let names: Vec<&str> = vec!["s"; n];
        let mut edges: Vec<(usize, usize)> = (1..n).map(|i| (i, i - 1)).collect();
        assert_eq!(
            order(&names, &edges).map(|o| (o[0], o[n - 1])),
            Ok((n - 1, 0))
        );
        edges.push((0, n - 1));
        assert_eq!(order(&names, &edges).map_err(|c| c.0.len()), Err(n + 1));
    }

    #[test]
    fn ties_keep_the_given_order() {
        assert_eq!(order(&["a", "b", "c"], &[(2, 1)]), Ok(vec![0, 2, 1]));
    }

    #[test]
    fn a_step_that_waits_for_itself_is_a_circle() {
        assert_eq!(
            order(&["a"], &[(0, 0)]),
            Err(Cycle(vec!["a".into(), "a".into()]))
        );
    }
}
