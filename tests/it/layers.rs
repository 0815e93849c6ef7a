//! Modules use each other in one direction, and the pure ones touch nothing. The table is the law.

use crate::house::{repo, rust_files};
use std::collections::BTreeSet;
use std::fs;

/// Each module and what it may use. `host` is its traits and the simulation; `host/real` wires the capabilities.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("killpoint", &[]),
    ("parallel", &[]),
    ("durable", &[]),
    ("diag", &[]),
    ("manifest", &["diag", "model"]),
    ("check", &["manifest", "diag", "model", "parallel"]),
    ("plan", &["check", "model"]),
    ("journal", &["plan", "model"]),
    ("host", &["plan", "model"]),
    ("process", &[]),
    ("store", &["durable", "killpoint", "model", "plan"]),
    (
        "node",
        &["durable", "host", "killpoint", "model", "process", "store"],
    ),
    (
        "release",
        &["durable", "host", "killpoint", "model", "store"],
    ),
    (
        "backup",
        &["durable", "host", "killpoint", "model", "process", "store"],
    ),
    (
        "hook",
        &["durable", "host", "killpoint", "model", "process"],
    ),
    ("chain", &["model", "plan"]),
    (
        "host/real",
        &[
            "backup", "chain", "hook", "model", "node", "plan", "process", "release", "store",
        ],
    ),
    ("step", &["host", "journal", "model", "plan"]),
    ("engine", &["host", "journal", "model", "plan", "step"]),
    ("source", &["diag", "durable", "manifest", "parallel"]),
    (
        "observe",
        &[
            "backup", "check", "durable", "engine", "host", "journal", "model", "node", "plan",
            "process", "release", "store",
        ],
    ),
    (
        "agent",
        &[
            "backup", "check", "diag", "engine", "host", "journal", "manifest", "model", "observe",
            "plan", "source", "step",
        ],
    ),
    (
        "control",
        &[
            "agent", "backup", "check", "durable", "host", "journal", "model", "node", "observe",
            "plan", "store",
        ],
    ),
    ("devnode", &["host"]),
    (
        "rehearse",
        &["chain", "check", "devnode", "durable", "host", "model"],
    ),
    (
        "cli",
        &[
            "agent", "backup", "check", "control", "devnode", "diag", "durable", "engine", "hook",
            "host", "journal", "manifest", "model", "node", "observe", "plan", "process",
            "rehearse", "release", "source", "step", "store",
        ],
    ),
];

/// The first words behind `crate::` in a file, its tests included.
fn uses(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    let word = |rest: &str| {
        rest.chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect::<String>()
    };
    code.flat_map(|l| l.split("crate::").skip(1).map(word).collect::<Vec<_>>())
        .filter(|w| !w.is_empty())
        .collect()
}

#[test]
fn modules_use_each_other_in_one_direction() {
    let src = repo().join("src");
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in rust_files(&src) {
        let relative = file.strip_prefix(&src).unwrap().display().to_string();
        let module = match relative.as_str() {
            "lib.rs" | "main.rs" => continue,
            "host/real.rs" => "host/real".to_owned(),
            other => other.split(['/', '.']).next().unwrap().to_owned(),
        };
        let row = LAYERS
            .iter()
            .find(|(m, _)| *m == module)
            .unwrap_or_else(|| panic!("module {module} has no row"));
        for used in uses(&fs::read_to_string(&file).unwrap()) {
            if used != module && !row.1.contains(&used.as_str()) {
                wrong.push(format!("{relative} uses {used}"));
            }
            seen.insert((module.clone(), used));
        }
    }
    assert_eq!(
        wrong,
        Vec::<String>::new(),
        "arrows that the table does not list"
    );
    let unused: Vec<String> = LAYERS
        .iter()
        .flat_map(|(m, uses)| uses.iter().map(move |u| ((*m).to_owned(), (*u).to_owned())))
        .filter(|arrow| !seen.contains(arrow))
        .map(|(m, u)| format!("{m} → {u}"))
        .collect();
    assert_eq!(unused, Vec::<String>::new(), "arrows that nothing uses");
}

#[test]
fn the_pure_modules_touch_nothing() {
    for module in ["model", "diag", "manifest", "check", "plan", "journal"] {
        for file in rust_files(&repo().join("src").join(module)) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for banned in [
                "std::fs",
                "std::net",
                "std::process",
                "std::thread",
                "SystemTime",
                "Instant::now",
                "env::var",
                "rustix::",
                "ureq::",
            ] {
                assert!(!code.contains(banned), "{} names {banned}", file.display());
            }
        }
    }
}
