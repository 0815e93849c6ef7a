//! `visor plan check` and `visor explain`.

use super::args::{CheckFormat, CheckOptions, Global};
use super::context::set_dir;
use super::error::{CliError, Exit};
use super::out;
use crate::check;
use crate::diag::{
    Code, Finding, Fix, Place, Severity, SourceText, Style, code_page, github, human, json, mask,
    sarif,
};
use crate::durable::{AtPath as _, replace_text};
use crate::manifest::ManifestSet;
use crate::source::read_set;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An edit can bring another mistake to light; more rounds than this would mean that two rules disagree.
const MOST_ROUNDS: usize = 10;

pub(super) fn check(global: &Global, options: &CheckOptions) -> Result<Exit, CliError> {
    let levels = Levels::new(&options.deny, &options.allow)?;
    let paths = if options.paths.is_empty() {
        vec![set_dir(global)]
    } else {
        options.paths.clone()
    };
    let mut done = 0;
    let mut report = Report::read(&paths, &levels)?;
    if options.fix {
        for _ in 0..MOST_ROUNDS {
            let edits = report.apply_fixes()?;
            done += edits;
            if edits == 0 {
                break;
            }
            report = Report::read(&paths, &levels)?;
        }
        out::line(&format!(
            "visor: {done} edit{} made",
            if done == 1 { "" } else { "s" }
        ));
    }
    let Report {
        findings,
        files,
        base,
        ..
    } = &report;
    match options.format {
        CheckFormat::Human => {
            let most = if options.most == 0 {
                usize::MAX
            } else {
                options.most
            };
            out::data(&human(
                findings,
                files,
                Style {
                    most,
                    ..out::style()
                },
            ));
        }
        CheckFormat::Json => out::data(&json(findings, files)),
        CheckFormat::Sarif => out::data(&sarif(findings, files)),
        CheckFormat::Github => out::data(&github(findings, files, base)),
    }
    let errors = findings.iter().any(|f| f.severity == Severity::Error);
    let exit = if errors { Exit::Findings } else { Exit::Done };
    // The process ends; freeing tens of thousands of texts one by one would only take time.
    std::mem::forget(report);
    Ok(exit)
}

/// What the person wants warnings to be.
struct Levels {
    deny_all: bool,
    deny: Vec<Code>,
    allow: Vec<Code>,
}

impl Levels {
    fn new(deny: &[String], allow: &[String]) -> Result<Self, CliError> {
        let code = |text: &String| {
            text.parse::<Code>()
                .map_err(|e| CliError::usage(e.to_string(), "`visor explain` lists all codes."))
        };
        let codes = deny.iter().filter(|t| *t != "warnings");
        Ok(Self {
            deny_all: deny.iter().any(|t| t == "warnings"),
            deny: codes.map(code).collect::<Result<_, _>>()?,
            allow: allow.iter().map(code).collect::<Result<_, _>>()?,
        })
    }

    fn judge(&self, mut finding: Finding) -> Result<Option<Finding>, CliError> {
        if self.allow.contains(&finding.code) {
            if finding.severity == Severity::Error {
                let code = finding.code.as_str();
                return Err(CliError::usage(
                    format!(
                        "{code} is an error, and cannot be allowed: no command would take the set"
                    ),
                    "Only warnings can be allowed.",
                ));
            }
            return Ok(None);
        }
        if self.deny_all || self.deny.contains(&finding.code) {
            finding.severity = Severity::Error;
        }
        Ok(Some(finding))
    }
}

/// The findings of one or more sets, as one.
struct Report {
    findings: Vec<Finding>,
    files: Vec<SourceText>,
    /// The texts of files that hold secrets, as they are on disk.
    unmasked: BTreeMap<usize, String>,
    /// The directory of the only set, as it was named; files of several sets carry theirs.
    base: String,
}

impl Report {
    fn read(paths: &[PathBuf], levels: &Levels) -> Result<Self, CliError> {
        let mut sets: Vec<(PathBuf, ManifestSet)> = Vec::new();
        for path in paths {
            let set = read_set(path)?;
            if !sets.iter().any(|(_, s)| s.dir == set.dir) {
                let dir = if path.is_file() {
                    crate::durable::parent(path)
                } else {
                    path
                };
                sets.push((dir.to_owned(), set));
            }
        }
        let several = sets.len() > 1;
        let mut report = Self {
            findings: vec![],
            files: vec![],
            unmasked: BTreeMap::new(),
            base: String::new(),
        };
        for (dir, mut set) in sets {
            let offset = report.files.len();
            if !several {
                report.base = dir.display().to_string();
            }
            if set.files.is_empty() {
                let path = dir.display().to_string();
                report.files.push(SourceText {
                    path,
                    text: String::new(),
                });
                let help = "Write a manifest, or name the directory of one with --manifests.";
                let place = Place::new(offset, 0..0);
                report.findings.push(Finding::error(
                    Code::Empty,
                    place,
                    "there is no *.toml file here",
                    help,
                ));
                continue;
            }
            let findings = check::findings(&set);
            for secret in findings.iter().filter_map(|f| f.secret.as_ref()) {
                let text = || set.files[secret.file].text.clone();
                report
                    .unmasked
                    .entry(offset + secret.file)
                    .or_insert_with(text);
            }
            mask(&findings, &mut set.files);
            for finding in findings {
                report
                    .findings
                    .extend(levels.judge(shifted(finding, offset))?);
            }
            if several {
                for file in &mut set.files {
                    file.path = dir.join(&file.path).display().to_string();
                }
            }
            report.files.append(&mut set.files);
        }
        Ok(report)
    }

    /// Makes the edits that do not touch each other; how many.
    fn apply_fixes(&self) -> Result<usize, CliError> {
        let mut by_file: BTreeMap<usize, Vec<&Fix>> = BTreeMap::new();
        for fix in self.findings.iter().flat_map(|f| &f.fixes) {
            by_file.entry(fix.place.file).or_default().push(fix);
        }
        let mut done = 0;
        for (file, mut fixes) in by_file {
            fixes.sort();
            fixes.dedup();
            let text = self.unmasked.get(&file).unwrap_or(&self.files[file].text);
            let (mut out, mut at) = (String::with_capacity(text.len()), 0);
            for fix in fixes {
                let Some(between) = text.get(at..fix.place.start) else {
                    continue;
                };
                out.push_str(between);
                out.push_str(&fix.text);
                at = fix.place.end;
                done += 1;
            }
            out.push_str(&text[at..]);
            let path = &Path::new(&self.base).join(&self.files[file].path);
            let now = std::fs::read_to_string(path).at("read", path)?;
            if now != *text {
                return Err(CliError::Machine(format!(
                    "{} was changed while it was checked; it is left as it is",
                    path.display()
                )));
            }
            replace_text(path, &out)?;
        }
        Ok(done)
    }
}

/// A finding of a set whose files stand behind those of other sets.
fn shifted(mut finding: Finding, offset: usize) -> Finding {
    let places = std::iter::once(&mut finding.place)
        .chain(finding.related.iter_mut().map(|r| &mut r.place))
        .chain(finding.fixes.iter_mut().map(|f| &mut f.place))
        .chain(finding.secret.as_mut());
    places.for_each(|p| p.file += offset);
    finding
}

pub(super) fn explain(code: Option<&str>) -> Result<Exit, CliError> {
    let Some(text) = code else {
        for code in Code::ALL {
            out::data(&format!("{}  {}\n", code.as_str(), code.title()));
        }
        return Ok(Exit::Done);
    };
    let code = text
        .parse::<Code>()
        .map_err(|e| CliError::usage(e.to_string(), "`visor explain` lists all codes."))?;
    out::data(&code_page(code));
    Ok(Exit::Done)
}
