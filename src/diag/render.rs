//! Findings for people (miette) and for machines (JSON). The only file that names miette.

use super::{Finding, Place, Severity, SourceText};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use serde::Serialize;
use std::fmt;

struct Report<'a> {
    finding: &'a Finding,
    message: String,
    source: NamedSource<String>,
    others: Vec<Other>,
    labels: Vec<LabeledSpan>,
}

/// A related place in another file.
struct Other {
    message: String,
    source: NamedSource<String>,
    label: LabeledSpan,
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.finding.fmt(f)
    }
}
impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Report<'_> {}
impl Diagnostic for Report<'_> {
    fn code(&self) -> Option<Box<dyn fmt::Display + '_>> {
        Some(Box::new(self.finding.code.as_str()))
    }
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.finding.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        Some(Box::new(&self.finding.help))
    }
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.others.iter().map(|o| o as &dyn Diagnostic)))
    }
}

impl fmt::Debug for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Other {}
impl Diagnostic for Other {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Advice)
    }
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(self.label.clone())))
    }
}

/// All findings with their snippets, and a last line that counts them.
pub fn human(findings: &[Finding], files: &[SourceText], colour: bool, width: usize) -> String {
    let theme = if colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_links(false)
        .with_context_lines(1);
    let mut out = String::new();
    for finding in findings {
        let report = report(finding, files);
        if handler.render_report(&mut out, &report).is_err() {
            out.push_str(&report.message);
        }
        out.push('\n');
    }
    out.push_str(&summary(findings, files));
    out
}

fn report<'a>(finding: &'a Finding, files: &[SourceText]) -> Report<'a> {
    let source = |place: &Place| {
        let file = &files[place.file];
        NamedSource::new(&file.path, file.text.clone())
    };
    let span = |place: &Place| (place.start, place.end.saturating_sub(place.start));
    let label = |place: &Place, text: &str| {
        let (start, len) = span(place);
        LabeledSpan::new(Some(text.to_owned()), start, len)
    };
    let (start, len) = span(&finding.place);
    let mut labels = vec![LabeledSpan::new_primary_with_span(None, (start, len))];
    let mut others = Vec::new();
    for related in &finding.related {
        if related.place.file == finding.place.file {
            labels.push(label(&related.place, &related.message));
        } else {
            others.push(Other {
                message: related.message.clone(),
                source: source(&related.place),
                label: LabeledSpan::new_primary_with_span(None, span(&related.place)),
            });
        }
    }
    Report {
        finding,
        message: finding.message.clone(),
        source: source(&finding.place),
        others,
        labels,
    }
}

/// `3 errors, 1 warning in 2 files`
fn summary(findings: &[Finding], files: &[SourceText]) -> String {
    let n = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let word = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (errors, warnings) = (n(Severity::Error), n(Severity::Warning));
    let files = word(files.len(), "file");
    if errors + warnings == 0 {
        format!("{files} checked, nothing found\n")
    } else {
        format!(
            "{}, {} in {files}\n",
            word(errors, "error"),
            word(warnings, "warning")
        )
    }
}

#[derive(Serialize)]
struct JsonFindings<'a> {
    version: u32,
    findings: Vec<JsonFinding<'a>>,
    summary: JsonSummary,
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    code: super::Code,
    severity: &'static str,
    message: &'a str,
    help: &'a str,
    #[serde(flatten)]
    place: JsonPlace<'a>,
    related: Vec<JsonRelated<'a>>,
    /// No rule proposes an edit yet.
    fixes: [(); 0],
}

#[derive(Serialize)]
struct JsonRelated<'a> {
    message: &'a str,
    #[serde(flatten)]
    place: JsonPlace<'a>,
}

#[derive(Serialize)]
struct JsonPlace<'a> {
    file: &'a str,
    start: JsonPosition,
    end: JsonPosition,
}

#[derive(Serialize)]
struct JsonPosition {
    line: usize,
    column: usize,
}

#[derive(Serialize)]
struct JsonSummary {
    files: usize,
    errors: usize,
    warnings: usize,
}

/// The findings as JSON, format 1.
pub fn json(findings: &[Finding], files: &[SourceText]) -> String {
    let place = |p: &Place| {
        let file = &files[p.file];
        let at = |byte| {
            let (line, column) = file.position(byte);
            JsonPosition { line, column }
        };
        JsonPlace {
            file: &file.path,
            start: at(p.start),
            end: at(p.end),
        }
    };
    let n = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let all = JsonFindings {
        version: 1,
        findings: findings
            .iter()
            .map(|f| JsonFinding {
                code: f.code,
                severity: match f.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                message: &f.message,
                help: &f.help,
                place: place(&f.place),
                related: f
                    .related
                    .iter()
                    .map(|r| JsonRelated {
                        message: &r.message,
                        place: place(&r.place),
                    })
                    .collect(),
                fixes: [],
            })
            .collect(),
        summary: JsonSummary {
            files: files.len(),
            errors: n(Severity::Error),
            warnings: n(Severity::Warning),
        },
    };
    serde_json::to_string_pretty(&all).expect("plain data") + "\n"
}
