//! Findings for people. The only file that names annotate-snippets.

use super::lines::{Lines, boundary};
use super::visible::without_c1;
use super::{Finding, Place, Severity, SourceText, visible};
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use std::ops::Range;

/// Lines apart from which two places are shown in a snippet each.
const NEAR: usize = 8;
/// Longer lines are shown in part.
const LONG_LINE: usize = 400;
/// As much of a long line is shown on either side of a place.
const AROUND: usize = 60;

/// Columns before the text of a help.
const MARGIN: usize = 14;

/// How findings are shown.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub colour: bool,
    /// Columns of the terminal.
    pub width: usize,
    /// So many are shown, and the rest counted.
    pub most: usize,
}

impl Style {
    /// No colour, this width, all findings.
    pub fn plain(width: usize) -> Self {
        Self {
            colour: false,
            width,
            most: usize::MAX,
        }
    }
}

/// Findings with their snippets, and a last line that counts them.
pub fn human(findings: &[Finding], files: &[SourceText], style: Style) -> String {
    let renderer = if style.colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer
        .term_width(style.width)
        .decor_style(DecorStyle::Ascii);
    let mut snippets = Snippets::new(files);
    let mut out = String::new();
    // Errors first, where not all are shown.
    let mut shown: Vec<&Finding> = findings.iter().collect();
    if shown.len() > style.most {
        shown.sort_by_key(|f| f.severity);
        shown.truncate(style.most);
    }
    for finding in &shown {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        // `warning[V0000]: ` comes before it.
        let message = wrapped(&visible(&finding.message), style.width.saturating_sub(16));
        let title = level.primary_title(message).id(finding.code.as_str());
        let mut group = annotate_snippets::Group::with_title(title);
        for snippet in snippets.of(finding) {
            group = group.element(snippet.build(files));
        }
        let help = wrapped(&visible(&finding.help), style.width.saturating_sub(MARGIN));
        group = group.element(Level::HELP.message(help));
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    if shown.len() < findings.len() {
        let rest = findings.len() - shown.len();
        out.push_str(&format!("{rest} more are not shown; --most 0 shows all\n"));
    }
    out.push_str(&summary(findings, files));
    out
}

/// A text in lines of a width. Words are kept whole: they are copied.
fn wrapped(text: &str, width: usize) -> String {
    let options = textwrap::Options::new(width)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}

/// `3 errors, 1 warning in 2 files`
pub(super) fn summary(findings: &[Finding], files: &[SourceText]) -> String {
    let n = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let word = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (errors, warnings) = (n(Severity::Error), n(Severity::Warning));
    let files = word(files.len(), "file");
    if errors + warnings == 0 {
        format!("{files} checked, nothing found\n")
    } else {
        let (errors, warnings) = (word(errors, "error"), word(warnings, "warning"));
        format!("{errors}, {warnings} in {files}\n")
    }
}

/// Some lines of one file, and what is marked in them.
struct Window {
    file: usize,
    lines: Range<usize>,
    bytes: Range<usize>,
    text: String,
    marks: Vec<(Range<usize>, Option<String>)>,
}

impl Window {
    fn build<'a>(self, files: &'a [SourceText]) -> Snippet<'a, Annotation<'a>> {
        let mut snippet = Snippet::source(without_c1(self.text))
            .path(visible(&files[self.file].path))
            .line_start(self.lines.start + 1);
        for (i, (span, label)) in self.marks.into_iter().enumerate() {
            let kind = if i == 0 && label.is_none() {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            snippet = snippet.annotation(kind.span(span).label(label));
        }
        snippet
    }
}

struct Snippets<'a> {
    files: &'a [SourceText],
    lines: Lines<'a>,
}

impl<'a> Snippets<'a> {
    fn new(files: &'a [SourceText]) -> Self {
        Self {
            files,
            lines: Lines::new(files),
        }
    }

    fn of(&mut self, finding: &Finding) -> Vec<Window> {
        let mut out: Vec<Window> = Vec::new();
        let related = finding
            .related
            .iter()
            .map(|r| (&r.place, Some(visible(&r.message).into_owned())));
        for (place, label) in std::iter::once((&finding.place, None)).chain(related) {
            if self.files.get(place.file).is_none() {
                continue;
            }
            let window = self.window(place, label);
            let near = out.iter_mut().find(|w| {
                w.file == window.file
                    && w.lines.start.abs_diff(window.lines.start) <= NEAR
                    && w.text.len() + window.text.len() < 2 * LONG_LINE
            });
            match near {
                Some(near) => self.join(near, place, window),
                None => out.push(window),
            }
        }
        out
    }

    /// The lines of one place.
    fn window(&mut self, place: &Place, label: Option<String>) -> Window {
        let text = &self.files[place.file].text;
        let start = boundary(text, place.start);
        let (first, line) = self.lines.line(place.file, start);
        // A place of many lines is shown by its first.
        let end = boundary(text, place.end.clamp(start, line.end.max(start)));
        let mut bytes = line.start..line.end.max(start);
        if bytes.len() > LONG_LINE {
            bytes.start = boundary(text, start.saturating_sub(AROUND).max(bytes.start));
            bytes.end = boundary(text, (end.min(start + AROUND) + AROUND).min(bytes.end));
        }
        let end = end.min(bytes.end);
        Window {
            file: place.file,
            lines: first..first + 1,
            text: self.files[place.file].text[bytes.clone()].to_owned(),
            marks: vec![(start - bytes.start..end - bytes.start, label)],
            bytes,
        }
    }

    /// Two windows of one file as one.
    fn join(&mut self, near: &mut Window, place: &Place, mut other: Window) {
        let bytes = near.bytes.start.min(other.bytes.start)..near.bytes.end.max(other.bytes.end);
        for (span, _) in &mut near.marks {
            let shift = near.bytes.start - bytes.start;
            *span = span.start + shift..span.end + shift;
        }
        let shift = other.bytes.start - bytes.start;
        near.marks.extend(
            other
                .marks
                .drain(..)
                .map(|(s, l)| (s.start + shift..s.end + shift, l)),
        );
        near.lines = near.lines.start.min(other.lines.start)..near.lines.end.max(other.lines.end);
        near.text = self.files[place.file].text[bytes.clone()].to_owned();
        near.bytes = bytes;
    }
}
