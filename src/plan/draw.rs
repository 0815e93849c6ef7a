//! Plans as graphs for other programs: Graphviz and Mermaid.

use super::step::{Phase, Plan, Step};
use std::fmt::Write as _;

/// The steps of a plan in groups: its phases, then the way back.
fn groups(plan: &Plan) -> Vec<(&'static str, Vec<&Step>)> {
    let mut out: Vec<(&str, Vec<&Step>)> = Phase::FORWARD
        .into_iter()
        .map(|p| (p.as_str(), plan.phase(p).collect()))
        .collect();
    out.push((Phase::Undo.as_str(), plan.undo.iter().collect()));
    out.retain(|(_, steps)| !steps.is_empty());
    out
}

/// What may stand in quotes in both languages.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c == '"' || c == '\\' { '\'' } else { c })
        .collect()
}

/// Plans as one Graphviz graph: `dot -Tsvg`.
pub fn plan_dot(plans: &[Plan]) -> String {
    let mut out = String::from("digraph plans {\n  rankdir=LR;\n  node [shape=box];\n");
    for (n, plan) in plans.iter().enumerate() {
        for (group, steps) in groups(plan) {
            let title = plain(&format!("{}: {group}", plan.action.describe()));
            let _ = writeln!(
                out,
                "  subgraph \"cluster_{n}_{group}\" {{\n    label=\"{title}\";"
            );
            for step in steps {
                let _ = writeln!(
                    out,
                    "    \"{}\" [label=\"{}\"];",
                    step.id,
                    plain(&step.name)
                );
            }
            out.push_str("  }\n");
        }
        for step in plan.steps.iter().chain(&plan.undo) {
            for before in &step.after {
                let _ = writeln!(out, "  \"{before}\" -> \"{}\";", step.id);
            }
        }
    }
    out.push_str("}\n");
    out
}

/// Plans as one Mermaid flowchart, as Git hosts draw it.
pub fn plan_mermaid(plans: &[Plan]) -> String {
    let mut out = String::from("flowchart LR\n");
    for (n, plan) in plans.iter().enumerate() {
        for (group, steps) in groups(plan) {
            let title = plain(&format!("{}: {group}", plan.action.describe()));
            let _ = writeln!(out, "  subgraph g{n}_{group}[\"{title}\"]");
            for step in steps {
                let _ = writeln!(out, "    s{}[\"{}\"]", step.id, plain(&step.name));
            }
            out.push_str("  end\n");
        }
        for step in plan.steps.iter().chain(&plan.undo) {
            for before in &step.after {
                let _ = writeln!(out, "  s{before} --> s{}", step.id);
            }
        }
    }
    out
}
