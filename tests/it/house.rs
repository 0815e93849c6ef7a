//! The house: no test file is forgotten, no file is long, generated files are true.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn repo() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn rust_files(dir: &Path) -> Vec<PathBuf> {
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
    for of in visor::cli::SchemaOf::ALL {
        golden(&format!("schemas/{}", of.file_name()), &of.text());
    }
    let steps = format!(
        "# Steps\n\nEverything visor can do in a run, what recovery does with a step that has no end record, and how a step is undone.\n\n{}",
        visor::step::book_table()
    );
    golden("book/src/steps.md", &steps);
    golden(
        "book/src/night-shift.md",
        &visor::control::night_shift_page(),
    );
    let mut codes = String::from(
        "# Findings\n\nThe codes of `visor plan check`. A code is never given to another rule. `visor explain CODE` prints its page.\n\n| code | what it is about |\n|---|---|\n",
    );
    for code in visor::diag::Code::ALL {
        let page = format!("findings/{}.md", code.as_str());
        codes.push_str(&format!(
            "| [{}]({page}) | {} |\n",
            code.as_str(),
            code.title()
        ));
        golden(&format!("book/src/{page}"), &visor::diag::code_page(*code));
    }
    golden("book/src/findings.md", &codes);
    let summary = fs::read_to_string(repo().join("book/src/SUMMARY.md")).unwrap();
    let missing = visor::diag::Code::ALL
        .iter()
        .filter(|c| !summary.contains(&format!("findings/{}.md", c.as_str())));
    assert_eq!(missing.count(), 0, "the book's summary lists every finding");
}

#[test]
fn every_property_of_the_schema_is_explained() {
    let schema: serde_json::Value = serde_json::from_str(&visor::manifest::schema_text()).unwrap();
    let mut missing = Vec::new();
    let mut tables = vec![("manifest".to_owned(), &schema)];
    let mut seen = 0;
    while let Some((name, table)) = tables.pop() {
        for below in ["additionalProperties", "items"] {
            if table[below].is_object() {
                tables.push((name.clone(), &table[below]));
            }
        }
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            tables.push((format!("{name}.{key}"), property));
            seen += 1;
            let description = property["description"].as_str().unwrap_or_default();
            let required = table["required"]
                .as_array()
                .is_some_and(|r| r.contains(&key.as_str().into()));
            if description.is_empty() {
                missing.push(format!("{name}.{key}: description"));
            }
            if property["examples"].as_array().is_none_or(Vec::is_empty) {
                missing.push(format!("{name}.{key}: example"));
            }
            if !required && !description.contains("Default") {
                missing.push(format!("{name}.{key}: default"));
            }
            // A text that holds a length of time or a size says so.
            let text = property["examples"][0].as_str().unwrap_or_default();
            let unit = [
                ("A duration", text.parse::<jiff::SignedDuration>().is_ok()),
                ("A size", text.ends_with("iB")),
            ];
            for (words, is_one) in unit {
                if is_one && !description.contains(words) {
                    missing.push(format!("{name}.{key}: {words}"));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(seen > 50, "only {seen} properties were seen");
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
