//! A finding and the text it is about.

use super::Code;
use rayon::prelude::*;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// A file's text, by its path relative to the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    pub path: String,
    pub text: String,
}

/// Bytes of one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index into the set's files.
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

impl Place {
    /// No place: of a value that was broken and is stood in for. Findings about it are not said.
    pub const NOWHERE: Self = Self {
        file: usize::MAX,
        start: 0,
        end: 0,
    };

    pub fn is_nowhere(&self) -> bool {
        self.file == usize::MAX
    }

    pub fn new(file: usize, span: Range<usize>) -> Self {
        Self {
            file,
            start: span.start,
            end: span.end,
        }
    }
}

/// Another place that explains a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Related {
    pub place: Place,
    pub message: String,
}

/// One edit that is certainly right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fix {
    /// The bytes that are replaced; none of them for an insertion.
    pub place: Place,
    pub text: String,
}

impl Fix {
    pub fn new(place: Place, text: impl Into<String>) -> Self {
        Self {
            place,
            text: text.into(),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub severity: Severity,
    pub place: Place,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do: a sentence.
    pub help: Cow<'static, str>,
    pub related: Vec<Related>,
    /// What `--fix` does; empty where more than one edit could be meant.
    pub fixes: Vec<Fix>,
    /// A secret that stands in the text: no form of the finding may show it.
    pub secret: Option<Place>,
}

impl Finding {
    pub fn error(
        code: Code,
        place: Place,
        message: impl Into<String>,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            severity: Severity::Error,
            place,
            message: message.into(),
            help: help.into(),
            related: vec![],
            fixes: vec![],
            secret: None,
        }
    }

    pub fn warning(
        code: Code,
        place: Place,
        message: impl Into<String>,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, place, message, help)
        }
    }

    #[must_use]
    pub fn fixed_by(mut self, place: Place, text: impl Into<String>) -> Self {
        self.fixes.push(Fix::new(place, text));
        self
    }

    /// True when the finding rests on a value that is stood in for.
    pub fn is_about_nothing(&self) -> bool {
        self.place.is_nowhere() || self.related.iter().any(|r| r.place.is_nowhere())
    }

    #[must_use]
    pub fn with(mut self, place: Place, message: impl Into<String>) -> Self {
        self.related.push(Related {
            place,
            message: message.into(),
        });
        self
    }
}

impl SourceText {
    /// Line and column of a byte, both from 1, the column in characters.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        (line, column)
    }
}

/// The 64-bit hash FNV-1a of a text.
pub(crate) fn fnv1a(text: &str) -> u64 {
    fnv1a_on(0xcbf2_9ce4_8422_2325, text.as_bytes())
}

/// Goes on with a hash: that of a text and then of more bytes is that of both.
pub(crate) fn fnv1a_on(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Makes the secrets that findings know of unreadable, byte for byte, so that places stay true. Before any finding is left out.
pub fn mask(findings: &[Finding], files: &mut [SourceText]) {
    for secret in findings.iter().filter_map(|f| f.secret.as_ref()) {
        let text = files.get_mut(secret.file).map(|f| &mut f.text);
        if let Some(text) = text.filter(|t| t.get(secret.start..secret.end).is_some()) {
            text.replace_range(
                secret.start..secret.end,
                &"*".repeat(secret.end - secret.start),
            );
        }
    }
}

/// Brings findings into their one order: by path, place and code. Equal ones are said once.
pub fn sort(findings: &mut Vec<Finding>, files: &[SourceText]) {
    let path = |f: &Finding| files.get(f.place.file).map(|s| s.path.as_str());
    let rest = |f: &Finding| (f.place.start, f.place.end, f.code);
    findings.par_sort_unstable_by(|a, b| {
        let by_path = || path(a).cmp(&path(b));
        let same_file = a.place.file == b.place.file;
        (if same_file {
            Ordering::Equal
        } else {
            by_path()
        })
        .then_with(|| rest(a).cmp(&rest(b)))
        .then_with(|| (&a.message, &a.related).cmp(&(&b.message, &b.related)))
    });
    findings.dedup();
}
