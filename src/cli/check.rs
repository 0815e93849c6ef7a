//! `visor plan check` and `visor explain`.

use super::args::{CheckFormat, CheckOptions, Global};
use super::context::set_dir;
use super::error::{CliError, Exit};
use super::out;
use crate::check;
use crate::control::State;
use crate::diag::{
    Code, Finding, Fix, Place, Severity, SourceText, Style, code_page, github, human, json, mask,
    sarif,
};
use crate::durable::{AtPath as _, replace_text};
use crate::manifest::ManifestSet;
use crate::source::read_set;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    let mut report = Report::read(&paths, &levels, options.format)?;
    if options.fix {
        let mut is_settled = false;
        for _ in 0..MOST_ROUNDS {
            let edits = report.apply_fixes()?;
            done += edits;
            is_settled = edits == 0;
            if is_settled {
                break;
            }
            report = Report::read(&paths, &levels, options.format)?;
        }
        if !is_settled {
            out::line(
                "visor: one edit asks for the next; look at what they did, as with `git diff`",
            );
        }
        out::line(&format!(
            "visor: {done} edit{} made",
            if done == 1 { "" } else { "s" }
        ));
    }
    let Report {
        findings, files, ..
    } = &report;
    match options.format {
        CheckFormat::Human => {
            let most = if options.most == 0 {
                usize::MAX
            } else {
                options.most
            };
            out::raw(&human(
                findings,
                files,
                Style {
                    most,
                    ..out::style(&std::io::stdout())
                },
            ));
        }
        CheckFormat::Json => out::raw(&json(findings, files)),
        CheckFormat::Sarif => out::raw(&sarif(findings, files)),
        CheckFormat::Github => out::raw(&github(findings, files)),
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
        let allow: Vec<Code> = allow.iter().map(code).collect::<Result<_, _>>()?;
        if let Some(error) = allow.iter().find(|c| !c.is_warning()) {
            let code = error.as_str();
            return Err(CliError::usage(
                format!("{code} is an error, and cannot be allowed: no command would take the set"),
                "Only warnings can be allowed.",
            ));
        }
        Ok(Self {
            deny_all: deny.iter().any(|t| t == "warnings"),
            deny: codes.map(code).collect::<Result<_, _>>()?,
            allow,
        })
    }

    fn judge(&self, mut finding: Finding) -> Option<Finding> {
        if self.allow.contains(&finding.code) {
            return None;
        }
        if self.deny_all || self.deny.contains(&finding.code) {
            finding.severity = Severity::Error;
        }
        Some(finding)
    }
}

/// The findings of one or more sets, as one.
struct Report {
    findings: Vec<Finding>,
    /// Their paths are as they are shown.
    files: Vec<SourceText>,
    /// The texts of files that hold secrets, as they are on disk.
    unmasked: BTreeMap<usize, String>,
    /// The directory of each set, what is put before its files' paths, and its first file.
    sets: Vec<(PathBuf, String, usize)>,
}

impl Report {
    fn read(paths: &[PathBuf], levels: &Levels, format: CheckFormat) -> Result<Self, CliError> {
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
        let root = root(format);
        let mut report = Self {
            findings: vec![],
            files: vec![],
            unmasked: BTreeMap::new(),
            sets: vec![],
        };
        for (named, mut set) in sets {
            let offset = report.files.len();
            let shown = match root.as_deref().and_then(|r| set.dir.strip_prefix(r).ok()) {
                Some(below) => below.display().to_string(),
                None if matches!(format, CheckFormat::Human) => named.display().to_string(),
                None => set.dir.display().to_string(),
            };
            // JSON speaks of files as the set does, where there is only one.
            let before = if shown.is_empty() || matches!(format, CheckFormat::Json) && !several {
                String::new()
            } else {
                format!("{}/", shown.trim_end_matches('/'))
            };
            report.sets.push((set.dir.clone(), before.clone(), offset));
            if set.files.is_empty() {
                let path = if shown.is_empty() { ".".into() } else { shown };
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
            // In place: there may be very many.
            let judged = findings.into_iter();
            let judged: Vec<Finding> = judged
                .filter_map(|f| levels.judge(shifted(f, offset)))
                .collect();
            if report.findings.is_empty() {
                report.findings = judged;
            } else {
                report.findings.extend(judged);
            }
            if !before.is_empty() {
                for file in &mut set.files {
                    file.path.insert_str(0, &before);
                }
            }
            report.files.append(&mut set.files);
        }
        Ok(report)
    }

    /// Where a file is.
    fn on_disk(&self, file: usize) -> PathBuf {
        let set = self.sets.partition_point(|(_, _, first)| *first <= file) - 1;
        let (dir, before, _) = &self.sets[set];
        let path = &self.files[file].path;
        dir.join(path.strip_prefix(before.as_str()).unwrap_or(path))
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
            let path = &self.on_disk(file);
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

/// What shown paths are relative to: the working directory; for GitHub the repository, where a workflow says which that is.
#[expect(
    clippy::disallowed_methods,
    reason = "GITHUB_WORKSPACE is how a workflow says where its repository is"
)]
fn root(format: CheckFormat) -> Option<PathBuf> {
    let here = std::fs::canonicalize(".").ok()?;
    if matches!(format, CheckFormat::Github | CheckFormat::Sarif) {
        let workspace = std::env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
        let workspace = workspace.and_then(|w| std::fs::canonicalize(w).ok());
        if let Some(workspace) = workspace.filter(|w| here.starts_with(w)) {
            return Some(workspace);
        }
    }
    Some(here)
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
        for state in State::ALL {
            out::data(&format!("{}  {}\n", state.word(), state.meaning()));
        }
        return Ok(Exit::Done);
    };
    if let Some(state) = State::ALL.iter().find(|s| s.word() == text) {
        let (word, meaning, advice) = (state.word(), state.meaning(), state.advice());
        out::data(&format!("{word}\n\n{meaning}\n\n{advice}\n"));
        return Ok(Exit::Done);
    }
    let code = text.parse::<Code>().map_err(|e| {
        let help = "`visor explain` lists all codes, and all states of `visor status`.";
        CliError::usage(e.to_string(), help)
    })?;
    out::data(&code_page(code));
    Ok(Exit::Done)
}
