//! Findings for programs: JSON, SARIF 2.1.0, and GitHub's workflow commands.

use super::human::summary;
use super::lines::{Lines, Position};
use super::{Code, Finding, Place, Severity, SourceText};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fmt::Write as _;

/// The format of the JSON form. 1: first.
const FINDINGS_VERSION: u32 = 1;

#[derive(Serialize, JsonSchema)]
struct JsonFindings<'a> {
    version: u32,
    findings: Vec<JsonFinding<'a>>,
    summary: JsonSummary,
}

#[derive(Serialize, JsonSchema)]
struct JsonFinding<'a> {
    code: Code,
    severity: &'static str,
    message: &'a str,
    help: &'a str,
    file: &'a str,
    start: JsonPosition,
    end: JsonPosition,
    related: Vec<JsonRelated<'a>>,
    fixes: Vec<JsonFix<'a>>,
}

#[derive(Serialize, JsonSchema)]
struct JsonRelated<'a> {
    message: &'a str,
    file: &'a str,
    start: JsonPosition,
    end: JsonPosition,
}

#[derive(Serialize, JsonSchema)]
struct JsonFix<'a> {
    file: &'a str,
    start: JsonPosition,
    end: JsonPosition,
    text: &'a str,
}

#[derive(Serialize, JsonSchema)]
struct JsonPosition {
    line: usize,
    column: usize,
}

impl From<Position> for JsonPosition {
    fn from(Position { line, column }: Position) -> Self {
        Self { line, column }
    }
}

#[derive(Serialize, JsonSchema)]
struct JsonSummary {
    files: usize,
    errors: usize,
    warnings: usize,
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|f| f.severity == severity).count()
}

/// The schema of the JSON form.
pub fn findings_schema() -> String {
    let schema = schemars::schema_for!(JsonFindings<'static>);
    serde_json::to_string_pretty(&schema).expect("plain data") + "\n"
}

/// The findings as JSON, format 1.
pub fn json(findings: &[Finding], files: &[SourceText]) -> String {
    let mut lines = Lines::new(files);
    let mut place = |p: &Place| {
        let (start, end) = lines.span(p);
        (files[p.file].path.as_str(), start.into(), end.into())
    };
    let mut out = Vec::with_capacity(findings.len());
    for f in findings {
        let (file, start, end) = place(&f.place);
        let related = f.related.iter().map(|r| {
            let (file, start, end) = place(&r.place);
            let message = r.message.as_str();
            JsonRelated {
                message,
                file,
                start,
                end,
            }
        });
        let related = related.collect();
        let fixes = f.fixes.iter().map(|x| {
            let (file, start, end) = place(&x.place);
            JsonFix {
                file,
                start,
                end,
                text: &x.text,
            }
        });
        let fixes = fixes.collect();
        out.push(JsonFinding {
            code: f.code,
            severity: word(f.severity),
            message: &f.message,
            help: &f.help,
            file,
            start,
            end,
            related,
            fixes,
        });
    }
    let all = JsonFindings {
        version: FINDINGS_VERSION,
        findings: out,
        summary: JsonSummary {
            files: files.len(),
            errors: count(findings, Severity::Error),
            warnings: count(findings, Severity::Warning),
        },
    };
    serde_json::to_string_pretty(&all).expect("plain data") + "\n"
}

/// The findings as SARIF 2.1.0; files' paths are those in the repository, or absolute. Results are told apart by rule, file, message and their number among equals, so that one that
/// only moves to another line stays the same alert.
pub fn sarif(findings: &[Finding], files: &[SourceText]) -> String {
    let mut lines = Lines::new(files);
    let mut used: Vec<Code> = findings.iter().map(|f| f.code).collect();
    used.sort();
    used.dedup();
    let rule = |code: &Code| {
        json!({
            "id": code.as_str(),
            "name": code.name(),
            "shortDescription": { "text": sentence(code.title()) },
            "fullDescription": { "text": code.explanation().what },
            "help": { "text": format!("{} See `visor explain {}`.", code.explanation().why, code.as_str()) },
        })
    };
    let rules: Vec<Value> = used.iter().map(rule).collect();
    let mut seen = std::collections::HashMap::<(Code, usize, &str), usize>::new();
    let mut location = |p: &Place, message: Option<&str>| {
        let (start, end) = lines.span(p);
        let mut out = json!({ "physicalLocation": {
            "artifactLocation": artifact(&files[p.file].path),
            "region": {
                "startLine": start.line, "startColumn": start.column,
                "endLine": end.line, "endColumn": end.column,
            },
        }});
        if let Some(message) = message {
            out["message"] = json!({ "text": message });
        }
        out
    };
    let results = findings.iter().map(|f| {
        let n = seen.entry((f.code, f.place.file, &f.message)).or_default();
        *n += 1;
        let related = f.related.iter();
        let related: Vec<Value> = related
            .map(|r| location(&r.place, Some(&r.message)))
            .collect();
        let mut result = json!({
            "ruleId": f.code.as_str(),
            "ruleIndex": used.binary_search(&f.code).unwrap_or_default(),
            "level": word(f.severity),
            "message": { "text": format!("{}. {}", sentence(&f.message).trim_end_matches('.'), f.help) },
            "locations": [location(&f.place, None)],
            "partialFingerprints": { "visor/v1": format!("{}:{}:{n}", f.code.as_str(), fnv_hex(&format!("{}\0{}", files[f.place.file].path, f.message))) },
        });
        if !related.is_empty() {
            result["relatedLocations"] = related.into();
        }
        result
    });
    let run = SarifRun {
        column_kind: "unicodeCodePoints",
        results: InTurn(RefCell::new(results)),
        tool: json!({ "driver": {
            "name": "visor",
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "version": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        }}),
    };
    let log = SarifLog {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        runs: [run],
        version: "2.1.0",
    };
    serde_json::to_string_pretty(&log).expect("plain data") + "\n"
}

#[derive(Serialize)]
struct SarifLog<R> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    runs: [R; 1],
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifRun<R> {
    column_kind: &'static str,
    results: R,
    tool: Value,
}

/// A list of which one element is made at a time: there may be hundreds of thousands, of kilobytes each. It can be written once.
struct InTurn<I>(RefCell<I>);

impl<I: Iterator<Item: Serialize>> Serialize for InTurn<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&mut *self.0.borrow_mut())
    }
}

/// GitHub's workflow commands, errors first: a step shows ten of each kind. The last line counts all. Files' paths are those in the
/// repository.
pub fn github(findings: &[Finding], files: &[SourceText]) -> String {
    let mut lines = Lines::new(files);
    let mut order: Vec<&Finding> = findings.iter().collect();
    order.sort_by_key(|f| f.severity);
    let mut out = String::new();
    for f in order {
        let (start, end) = lines.span(&f.place);
        let columns = if start.line == end.line {
            format!(",col={},endColumn={}", start.column, end.column)
        } else {
            String::new()
        };
        let _ = writeln!(
            out,
            "::{} file={},line={},endLine={}{columns},title={}::{}",
            word(f.severity),
            property(&files[f.place.file].path),
            start.line,
            end.line,
            f.code.as_str(),
            data(&format!("{}\n{}", f.message, f.help)),
        );
    }
    out.push_str(&summary(findings, files));
    out
}

fn data(text: &str) -> String {
    // A log of a build is read on a terminal too.
    let text = super::visible(text);
    text.replace('%', "%25").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A file of the repository, or an absolute one.
fn artifact(path: &str) -> Value {
    if path.starts_with('/') {
        json!({ "uri": format!("file://{}", uri(path)) })
    } else {
        json!({ "uri": uri(path), "uriBaseId": "%SRCROOT%" })
    }
}

/// A path as a URI.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), chars.as_str())
}

/// A short name for a text, the same in every version.
fn fnv_hex(text: &str) -> String {
    format!("{:016x}", super::fnv1a(text))
}
