//! The house: modules use each other in one direction, no test file is forgotten, generated files are true, no file is long.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn repo() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Each module and what it may use. `host` is its traits and the simulation; `host/real` wires the capabilities.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("killpoint", &[]),
    ("durable", &[]),
    ("diag", &[]),
    ("manifest", &["diag"]),
    ("check", &["manifest", "diag", "model"]),
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
        &["durable", "host", "killpoint", "model", "store"],
    ),
    (
        "hook",
        &["durable", "host", "killpoint", "model", "process"],
    ),
    ("chain", &["model", "plan"]),
    (
        "host/real",
        &[
            "backup", "chain", "hook", "model", "node", "plan", "release", "store",
        ],
    ),
    ("step", &["host", "journal", "model", "plan"]),
    ("engine", &["host", "journal", "model", "plan", "step"]),
    ("source", &["diag", "durable", "manifest"]),
    (
        "observe",
        &[
            "check", "durable", "engine", "host", "journal", "model", "node", "plan", "release",
            "store",
        ],
    ),
    (
        "agent",
        &[
            "check", "diag", "engine", "host", "journal", "manifest", "model", "observe", "plan",
            "source", "step",
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
            "agent", "backup", "check", "devnode", "diag", "durable", "engine", "hook", "host",
            "journal", "manifest", "model", "node", "observe", "plan", "rehearse", "release",
            "source", "step", "store",
        ],
    ),
];

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out.sort();
    out
}

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

#[test]
fn no_test_file_is_forgotten_and_none_is_long() {
    let main = fs::read_to_string(repo().join("tests/it/main.rs")).unwrap();
    for file in rust_files(&repo().join("tests/it")) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "main" || main.contains(&format!("mod {name};")),
            "{name} is not in main.rs"
        );
    }
    for dir in ["src", "tests", "bench"] {
        for file in rust_files(&repo().join(dir)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 600, "{} has {lines} lines", file.display());
        }
    }
}

/// Compares a generated file; `VISOR_UPDATE=1` writes it.
fn golden(path: &str, text: &str) {
    let path = repo().join(path);
    if std::env::var_os("VISOR_UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "{} is not what the code says; VISOR_UPDATE=1 cargo test writes it",
        path.display()
    );
}

#[test]
fn generated_files_are_true() {
    golden("schemas/manifest.v1.json", &visor::manifest::schema_text());
    let steps = format!(
        "# Steps\n\nEverything visor can do in a run, what recovery does with a step that was begun and not ended, and how a step is undone.\n\n{}",
        visor::step::book_table()
    );
    golden("book/src/steps.md", &steps);
    let mut codes = String::from(
        "# Findings\n\nThe codes of `visor plan check`. A code is never given to another rule.\n\n| code | what it is about |\n|---|---|\n",
    );
    for code in visor::diag::Code::ALL {
        codes.push_str(&format!("| {} | {} |\n", code.as_str(), code.title()));
    }
    golden("book/src/findings.md", &codes);
}

#[test]
fn every_property_of_the_schema_is_explained() {
    let schema: serde_json::Value = serde_json::from_str(&visor::manifest::schema_text()).unwrap();
    let mut missing = Vec::new();
    let mut tables = vec![("manifest".to_owned(), &schema)];
    tables.extend(
        schema["definitions"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(n, s)| (n.clone(), s)),
    );
    for (name, table) in tables {
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            if property["description"].as_str().is_none_or(str::is_empty) {
                missing.push(format!("{name}.{key}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_quickstart_and_its_digests_are_whole() {
    let set = visor::source::read_set(&repo().join("manifests/quickstart")).unwrap();
    let checked = visor::check::check(&set);
    assert_eq!(checked.findings, vec![]);
    for node in checked.desired.unwrap().nodes {
        for upgrade in &node.upgrades {
            let file = upgrade.artifact.file("linux/amd64").unwrap();
            let bytes = fs::read(&file.sources[0]).unwrap();
            assert_eq!(
                file.digest.to_string(),
                format!("sha256:{}", visor::model::sha256_hex(&bytes))
            );
        }
    }
}
