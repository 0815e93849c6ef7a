//! Any text as a manifest set: it is read, checked, mended and shown in every form, without a panic, a hang or a word that contradicts
//! another. Files are cut apart at lines `%% NAME`.
//!
//! `fuzz/run SECONDS` builds this and runs it over the kept corpus and the corpus of mistakes.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use std::collections::BTreeMap;
use visor::check::{check, findings};
use visor::diag::{Finding, Severity, SourceText, Style, github, human, json, mask, sarif};
use visor::manifest::{BesideFile, ManifestSet};

/// More than any manifest of a person, and little enough to be quick.
const LARGEST: usize = 16 * 1024;

fn set(texts: &[(String, String)]) -> ManifestSet {
    let beside = [("hooks/good.sh", 0o755), ("hooks/plain.txt", 0o644), ("releases/v1", 0o644)];
    ManifestSet {
        dir: "/set".into(),
        files: texts
            .iter()
            .map(|(path, text)| SourceText {
                path: path.clone(),
                text: text.clone(),
            })
            .collect(),
        unreadable: vec![],
        beside: beside
            .into_iter()
            .map(|(p, mode)| (p.to_owned(), BesideFile { mode }))
            .collect(),
    }
}

fn cut(text: &str) -> Vec<(String, String)> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut name = "a.toml".to_owned();
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("%% ") {
            Some(next) if files.len() < 4 => name = format!("{}.toml", next.trim_end()),
            _ => files.entry(name.clone()).or_default().push_str(line),
        }
    }
    files.into_iter().collect()
}

/// Makes the edits that findings carry, as `--fix` does.
fn fixed(set: &ManifestSet, findings: &[Finding]) -> Vec<(String, String)> {
    let mut fixes: Vec<_> = findings.iter().flat_map(|f| &f.fixes).collect();
    fixes.sort();
    fixes.dedup();
    let mut out = Vec::new();
    for (i, file) in set.files.iter().enumerate() {
        let (mut text, mut at) = (String::new(), 0);
        for fix in fixes.iter().filter(|f| f.place.file == i) {
            let Some(between) = file.text.get(at..fix.place.start) else {
                continue;
            };
            text.push_str(between);
            text.push_str(&fix.text);
            at = fix.place.end;
        }
        text.push_str(&file.text[at..]);
        out.push((file.path.clone(), text));
    }
    out
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else {
        return Corpus::Reject;
    };
    if text.len() > LARGEST {
        return Corpus::Reject;
    }
    let mut texts = cut(text);
    for round in 0..3 {
        let mut set = set(&texts);
        let checked = check(&set);
        let failed = checked.findings.iter().any(|f| f.severity == Severity::Error);
        assert_eq!(checked.desired.is_none(), failed);
        assert_eq!(findings(&set), checked.findings, "with and without `Desired`");
        for finding in &checked.findings {
            assert!(!finding.help.contains("fault of visor"), "{finding:?}");
            let text = &set.files[finding.place.file].text;
            assert!(text.get(finding.place.start..finding.place.end).is_some(), "{finding:?}");
        }
        if round == 0 {
            let length = set.files.iter().map(|f| f.text.len()).sum::<usize>();
            assert!(checked.findings.len() <= 16 + 4 * length, "a flood");
        }
        texts = fixed(&set, &checked.findings);
        mask(&checked.findings, &mut set.files);
        let forms = human(&checked.findings, &set.files, Style::plain(80)).len()
            + json(&checked.findings, &set.files).len()
            + sarif(&checked.findings, &set.files).len()
            + github(&checked.findings, &set.files).len();
        assert!(forms > 0);
    }
    Corpus::Keep
});
