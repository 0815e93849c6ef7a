//! The compiler in one process, measured by criterion: the check of whole sets, a step graph of 100,000 steps and 300,000 edges beside
//! petgraph's own toposort, and plans for 200 upgrades of one node. `cargo bench --bench compiler`.

#![expect(
    clippy::unwrap_used,
    reason = "a bench measures the machine, and fails by panicking"
)]

#[path = "set.rs"]
mod set;

use criterion::{Criterion, criterion_group, criterion_main};
use petgraph::graph::DiGraph;
use std::collections::BTreeMap;
use std::hint::black_box;
use visor::check::findings;
use visor::diag::SourceText;
use visor::manifest::ManifestSet;
use visor::model::Release;
use visor::plan::{compile_upgrade, order};

fn in_memory(texts: impl Iterator<Item = (String, String)>) -> ManifestSet {
    ManifestSet {
        dir: "/set".into(),
        files: texts
            .map(|(path, text)| SourceText { path, text })
            .collect(),
        unreadable: vec![],
        beside: BTreeMap::new(),
    }
}

fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("check");
    group.sample_size(20);
    for (what, n, bad) in [
        ("one file", 1, false),
        ("1,000 files", 1_000, false),
        ("1,000 files of 7 mistakes", 1_000, true),
    ] {
        let set = in_memory((0..n).map(|i| (format!("{i:05}.toml"), set::file(i, n, bad))));
        assert_eq!(findings(&set).len(), if bad { 7 * n } else { 0 });
        group.bench_function(what, |b| b.iter(|| black_box(findings(&set))));
    }
}

fn graph(c: &mut Criterion) {
    const STEPS: usize = 100_000;
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
    let mut group = c.benchmark_group("graph of 100,000 steps and 300,000 edges");
    group.sample_size(20);
    group.bench_function("visor: build, order, circles", |b| {
        b.iter(|| black_box(order(&names, &edges).unwrap()));
    });
    group.bench_function("petgraph: build, toposort", |b| {
        b.iter(|| {
            let mut graph = DiGraph::<(), ()>::with_capacity(STEPS, edges.len());
            let nodes: Vec<_> = (0..STEPS).map(|_| graph.add_node(())).collect();
            for (from, to) in &edges {
                graph.add_edge(nodes[*from], nodes[*to], ());
            }
            black_box(petgraph::algo::toposort(&graph, None).unwrap())
        });
    });
}

fn plans(c: &mut Criterion) {
    let mut text = format!(
        "visor = 1\n[node.a]\nbinary = \"b\"\nhome = \"/a\"\ndata = {{ path = \"d\" }}\nchain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:1\" }}\n[artifact.v]\n[[artifact.v.file]]\nurls = [\"https://x.example/v\"]\nsha256 = \"{}\"\n",
        set::HEX
    );
    for i in 1..=200 {
        text.push_str(&format!(
            "[upgrade.u{i}]\ntrigger = {{ height = {} }}\nartifact = \"v\"\n",
            i * 1_000
        ));
    }
    let set = in_memory(std::iter::once(("a.toml".to_owned(), text)));
    let node = visor::check::check(&set).desired.unwrap().nodes.remove(0);
    c.bench_function("plans for 200 upgrades of one node", |b| {
        b.iter(|| {
            let mut from = Release::Genesis;
            for upgrade in &node.upgrades {
                let file = upgrade.artifact.file("linux/amd64").unwrap();
                black_box(compile_upgrade(&node, upgrade, file, &from).unwrap());
                from = Release::Upgrade(upgrade.name.clone());
            }
        });
    });
}

criterion_group!(benches, check, graph, plans);
criterion_main!(benches);
