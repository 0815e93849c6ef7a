//! Corpora: every set in `manifests/` passes, every file in `tests/invalid/` gives exactly the findings written beside it.
//!
//! `VISOR_UPDATE=1` writes the findings; read them before you commit them.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and touch the machine"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use visor::check::check;
use visor::diag::{SourceText, Style, human, json, mask};
use visor::manifest::{BesideFile, ManifestSet};
use visor::source::read_set;

fn passes(path: &Path) -> datatest_stable::Result<()> {
    let set = read_set(path)?;
    let checked = check(&set);
    let text = human(&checked.findings, &set.files, Style::plain(100));
    if checked.desired.is_none() {
        Err(text.into())
    } else {
        Ok(())
    }
}

fn fails_as_written(path: &Path) -> datatest_stable::Result<()> {
    let text = String::from_utf8(fs::read(path)?)?;
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let beside = [
        ("hooks/good.sh", 0o755),
        ("hooks/plain.txt", 0o644),
        ("hooks/loose.sh", 0o777),
        ("releases/v1", 0o644),
    ];
    let mut set = ManifestSet {
        dir: "/set".into(),
        files: vec![SourceText { path: name, text }],
        unreadable: vec![],
        beside: beside
            .into_iter()
            .map(|(p, mode)| (p.to_owned(), BesideFile { mode }))
            .collect::<BTreeMap<_, _>>(),
    };
    let checked = check(&set);
    mask(&checked.findings, &mut set.files);
    let found = human(&checked.findings, &set.files, Style::plain(100));
    let program = json(&checked.findings, &set.files);
    for (ending, found) in [("txt", &found), ("json", &program)] {
        let beside = path.with_extension(ending);
        if std::env::var_os("VISOR_UPDATE").is_some() {
            fs::write(&beside, found)?;
        }
        let want = fs::read_to_string(&beside).unwrap_or_default();
        if *found != want {
            return Err(format!("findings differ from {}:\n{found}", beside.display()).into());
        }
    }
    if checked.findings.is_empty() {
        return Err("nothing was found".into());
    }
    Ok(())
}

datatest_stable::harness! {
    { test = passes, root = "manifests", pattern = r"\.toml$" },
    { test = fails_as_written, root = "tests/invalid", pattern = r"\.toml$" },
}
