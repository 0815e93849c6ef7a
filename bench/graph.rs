//! Ordering a step graph of 100,000 steps and 300,000 edges, beside petgraph's own toposort; and plans for 200 upgrades of one node.
//! `cargo bench --bench graph`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench measures the machine, prints, and fails by panicking"
)]

use petgraph::graph::DiGraph;
use std::time::{Duration, Instant};
use visor::model::Release;
use visor::plan::{compile_upgrade, order};

const ROUNDS: usize = 21;
const STEPS: usize = 100_000;

fn measure(what: &str, mut work: impl FnMut()) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    println!(
        "| {what} | {:.2} ms | {:.2} ms |",
        ms(times[ROUNDS / 2]),
        ms(times[0])
    );
}

fn main() {
    // Each step waits for up to three of the hundred before it.
    let mut seed: u64 = 7;
    let mut roll = |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut edges = Vec::with_capacity(3 * STEPS);
    for to in 1..STEPS {
        for _ in 0..3 {
            edges.push((to - 1 - roll(to.min(100)), to));
        }
    }
    let names = vec!["step"; STEPS];
    println!(
        "{STEPS} steps, {} edges, {ROUNDS} rounds\n\n| what | median | least |\n|---|---|---|",
        edges.len()
    );
    measure("visor: build, order, cycles", || {
        std::hint::black_box(order(&names, &edges).unwrap());
    });
    measure("petgraph: build, toposort", || {
        let mut graph = DiGraph::<(), ()>::with_capacity(STEPS, edges.len());
        let nodes: Vec<_> = (0..STEPS).map(|_| graph.add_node(())).collect();
        for (from, to) in &edges {
            graph.add_edge(nodes[*from], nodes[*to], ());
        }
        std::hint::black_box(petgraph::algo::toposort(&graph, None).unwrap());
    });

    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let mut text = format!(
        "visor = 1\n[node.a]\nbinary = \"b\"\nhome = \"/a\"\ndata = {{ path = \"d\" }}\nchain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:1\" }}\n[artifact.v]\n[[artifact.v.file]]\nurls = [\"https://x.example/v\"]\nsha256 = \"{hex}\"\n"
    );
    for i in 1..=200 {
        text.push_str(&format!(
            "[upgrade.u{i}]\ntrigger = {{ height = {} }}\nartifact = \"v\"\n",
            i * 1_000
        ));
    }
    let set = visor::manifest::ManifestSet {
        dir: "/set".into(),
        files: vec![visor::diag::SourceText {
            path: "a.toml".into(),
            text,
        }],
        unreadable: vec![],
        beside: std::collections::BTreeMap::new(),
    };
    let node = visor::check::check(&set).desired.unwrap().nodes.remove(0);
    measure("visor: plans for 200 upgrades of one node", || {
        let mut from = Release::Genesis;
        for upgrade in &node.upgrades {
            let file = upgrade.artifact.file("linux/amd64").unwrap();
            std::hint::black_box(compile_upgrade(&node, upgrade, file, &from).unwrap());
            from = Release::Upgrade(upgrade.name.clone());
        }
    });
}
