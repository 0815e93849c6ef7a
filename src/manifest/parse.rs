//! TOML with places. A file that is no TOML is read again statement by statement (`recover`), so that a mistake hides nothing
//! but its own statement.

use super::depth::is_deep;
use super::load::{Kinds, ObjectKind};
use super::plain::parse_plain;
use super::recover::recover;
use super::spans::{Spans, escape, find, find_mut};
use crate::diag::{fnv1a, fnv1a_on};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a syntax error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxKind {
    /// The text is not TOML.
    NotToml,
    /// A table that was opened before.
    TableTwice,
    /// A key that was given before.
    KeyTwice,
    /// A header that names a kind and no object.
    NoName,
    /// A key that holds a NUL.
    Nul,
}

/// A syntax error with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub kind: SyntaxKind,
    pub span: Range<usize>,
    pub message: String,
    /// What to do.
    pub help: String,
    /// Where the same name was given before.
    pub first: Option<Range<usize>>,
    /// The one edit that is certainly right.
    pub fix: Option<(Range<usize>, String)>,
}

impl SyntaxError {
    /// One without an edit.
    pub(super) fn new(
        kind: SyntaxKind,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            span,
            message: message.into(),
            help: help.into(),
            first: None,
            fix: None,
        }
    }
}

/// A file as far as it could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub value: Value,
    pub spans: Spans,
    pub errors: Vec<SyntaxError>,
    /// Pointers of values that could not be read; nothing may be said about them.
    pub lost: BTreeSet<String>,
    /// Those of them of which not a word is left.
    pub silent: Vec<String>,
    /// Pointers of tables that may have lost keys whose names are unknown.
    pub holes: Vec<String>,
    /// Pointers of objects whose header was guessed: the name may be another.
    pub guessed: Vec<String>,
    /// The texts that were left out: what they name counts as named.
    pub lost_text: Vec<String>,
    /// Kinds of which a header itself was not readable: names may be missing.
    pub names_unknown: Kinds,
}

impl Parsed {
    pub(super) fn new() -> Self {
        Self {
            value: Value::Object(Map::new()),
            spans: Spans::default(),
            errors: vec![],
            lost: BTreeSet::new(),
            holes: vec![],
            silent: vec![],
            guessed: vec![],
            lost_text: vec![],
            names_unknown: Kinds::default(),
        }
    }

    /// The key under which a value is kept: its own, unless that holds a NUL, which no name may have and shadows have. That is a
    /// mistake; of an object all else is looked at.
    pub(super) fn kept_key(
        &mut self,
        above: &str,
        key: &str,
        span: Range<usize>,
    ) -> Option<String> {
        if !key.contains('\0') {
            return Some(key.to_owned());
        }
        self.errors.push(SyntaxError::new(
            SyntaxKind::Nul,
            span,
            "a key holds a NUL character",
            "Take it out: no program and no file system can be given one.",
        ));
        let kind = above.strip_prefix('/').and_then(ObjectKind::of_word);
        if kind.is_none() {
            self.holes.push(above.to_owned());
        }
        let given = key.split('\0').next().unwrap_or_default();
        kind.map(|_| format!("{given}\0n{}", self.errors.len()))
    }

    /// The value at a pointer.
    pub(super) fn find(&self, pointer: &str) -> Option<&Value> {
        find(&self.value, pointer)
    }

    /// The same, to be changed.
    pub(super) fn find_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        find_mut(&mut self.value, pointer)
    }
}

/// Reads a text; never fails.
pub fn parse(text: &str) -> Parsed {
    if is_deep(text) {
        let mut parsed = recover(text, None);
        parsed.spans.settle();
        return parsed;
    }
    let plain = (!can_hold_nul(text)).then(|| parse_plain(text)).flatten();
    let Some((value, spans)) = plain else {
        return parse_any(text);
    };
    let mut parsed = Parsed::new();
    (parsed.value, parsed.spans) = (value, spans);
    parsed.spans.settle();
    debug_assert_eq!(parsed, parse_any(text));
    parsed
}

/// True for a text with an escape that may stand for NUL.
pub(super) fn can_hold_nul(text: &str) -> bool {
    let escapes = ["\\u0000", "\\U00000000", "\\x00"];
    text.contains('\\') && escapes.iter().any(|e| text.contains(e))
}

/// The same for every text.
fn parse_any(text: &str) -> Parsed {
    let mut parsed = match DeTable::parse(text) {
        Ok(table) => {
            let mut parsed = Parsed::new();
            parsed.spans.insert("", 0..0, 0..0);
            let mut walk = Walk::new(&mut parsed, 0, String::new());
            let value = walk.table(table.get_ref());
            parsed.value = Value::Object(value);
            parsed
        }
        Err(error) => recover(text, Some(&error)),
    };
    parsed.spans.settle();
    parsed
}

/// Makes JSON of a parsed table, and writes down where everything stands.
pub(super) struct Walk<'a> {
    pub(super) parsed: &'a mut Parsed,
    /// Where the parsed text begins in the file.
    offset: usize,
    pointer: String,
    /// Of the pointer.
    hash: u64,
}

impl<'a> Walk<'a> {
    /// A walk whose root stands at `pointer` in the file, and its text at `offset`.
    pub(super) fn new(parsed: &'a mut Parsed, offset: usize, pointer: String) -> Self {
        Self {
            parsed,
            offset,
            hash: fnv1a(&pointer),
            pointer,
        }
    }

    fn span(&self, range: Range<usize>) -> Range<usize> {
        range.start + self.offset..range.end + self.offset
    }

    /// Goes on below the current pointer; what to give to `up`.
    fn down(&mut self, part: &str) -> (usize, u64) {
        let above = (self.pointer.len(), self.hash);
        self.pointer.push('/');
        self.pointer.push_str(&escape(part));
        self.hash = fnv1a_on(self.hash, &self.pointer.as_bytes()[above.0..]);
        above
    }

    fn up(&mut self, (length, hash): (usize, u64)) {
        self.pointer.truncate(length);
        self.hash = hash;
    }

    fn note(&mut self, key: Range<usize>, value: Range<usize>) {
        let (key, value) = (self.span(key), self.span(value));
        self.parsed.spans.insert_hashed(self.hash, key, value);
    }

    fn table(&mut self, table: &DeTable<'_>) -> Map<String, Value> {
        let mut out = Map::new();
        for (key, value) in table.iter() {
            let span = self.span(key.span());
            let kept = self.parsed.kept_key(&self.pointer, key.get_ref(), span);
            let Some(name) = kept else {
                let mut aside = Parsed::new();
                let value = Walk::new(&mut aside, 0, String::new()).value(value);
                self.parsed.lost_text.push(value.to_string());
                continue;
            };
            let above = self.down(&name);
            self.note(key.span(), value.span());
            let json = self.value(value);
            self.up(above);
            out.insert(name, json);
        }
        out
    }

    /// A value at the current pointer, whose own place is known already.
    pub(super) fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Datetime(time) => json!({ super::words::DATE: [time.to_string()] }),
            DeValue::Integer(int) => match i64::from_str_radix(int.as_str(), int.radix()) {
                Ok(n) => Value::from(n),
                // The tree's parser leaves integers unchecked.
                Err(_) => {
                    let shown: String = int.as_str().chars().take(40).collect();
                    let (message, help) = if shown.is_empty() {
                        ("this number has no digits".into(), "Write its digits.")
                    } else {
                        let message = format!("`{shown}` is not a whole number of 64 bits");
                        (
                            message,
                            "Write a smaller number, or put a digest into quotes.",
                        )
                    };
                    let error = SyntaxError::new(
                        SyntaxKind::NotToml,
                        self.span(value.span()),
                        message,
                        help,
                    );
                    self.parsed.errors.push(error);
                    self.parsed.lost.insert(self.pointer.clone());
                    Value::Null
                }
            },
            DeValue::Float(float) => json!({ super::words::FLOAT: [float.as_str()] }),
            DeValue::Array(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    let above = self.down(&i.to_string());
                    self.note(item.span(), item.span());
                    out.push(self.value(item));
                    self.up(above);
                }
                Value::Array(out)
            }
            DeValue::Table(table) => Value::Object(self.table(table)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_statement_hides_no_other() {
        let text = "visor = 1\n[node.a]\nbinary = \"x\nhome = 5\n[node.b\nbinary = \"y\"\n[hook.c]\nrun = [\n  [\"a\"],\nonce = true\n";
        let parsed = parse(text);
        assert_eq!(parsed.errors.len(), 3, "{:?}", parsed.errors);
        assert_eq!(parsed.value["node"]["a"]["home"], 5);
        assert_eq!(parsed.value["node"]["b"]["binary"], "y");
        assert_eq!(parsed.value["hook"]["c"]["once"], true);
        let lost = ["/node/a/binary", "/hook/c/run"].map(str::to_owned);
        assert_eq!(parsed.lost, lost.into());
        assert_eq!(&text[parsed.spans.value("/node/b/binary")], "\"y\"");
        assert_eq!(parsed.names_unknown, Kinds::default());
    }

    #[test]
    fn names_given_twice_are_said_with_both_places() {
        let text = "visor = 1\n[node.a]\nhome = \"/a\"\nhome = \"/b\"\n[node.a]\nhome = \"/c\"\n";
        let parsed = parse(text);
        let kinds: Vec<_> = parsed.errors.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [SyntaxKind::KeyTwice, SyntaxKind::TableTwice]);
        let first = |i: usize| parsed.errors[i].first.clone().map(|r| &text[r]);
        assert_eq!((first(0), first(1)), (Some("home"), Some("[node.a]")));
    }

    #[test]
    fn integers_are_checked() {
        let parsed = parse("a = 99999999999999999999\nb = 0x1F\n");
        assert_eq!(
            (parsed.errors.len(), &parsed.value["b"]),
            (1, &Value::from(31))
        );
    }

    #[test]
    fn hostile_texts_end() {
        for text in [
            "x = [\n".repeat(20_000),
            "x = \"\"\"\n".repeat(20_001),
            format!("a = {}", "[".repeat(100_000)),
            "= = =\n".repeat(20_000),
            "[hook.h]\nretry = { times = 3\n".repeat(20_000),
            "a = { b = \"x\"\n".repeat(20_000),
            format!("[{}a]", "a.".repeat(200_000)),
            format!("[[hook.{}a]]", "a.".repeat(200_000)),
            format!("{}a = 1", "a.".repeat(200_000)),
            format!("a = {{ {} 1", "b = {".repeat(100_000)),
            format!("{}[x", "a.".repeat(10_000)),
            "\u{feff}visor = 1\r\n[node.a]\r\nbinary = \"\0\"\r\n".to_owned(),
        ] {
            let parsed = parse(&text);
            assert!(!parsed.errors.is_empty() && parsed.errors.len() <= 101);
        }
    }
}
