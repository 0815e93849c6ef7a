//! The quick way to read a file: from the parser's events straight to its value and its places.
//!
//! It knows only what most manifests are made of. Whatever it does not know (dotted keys, times, fractions, a table opened
//! twice, any mistake) it leaves to `parse`, which builds the tree of the `toml` crate first. Both give the same for what both
//! know; every build with debug assertions compares them.

use super::spans::{Spans, escape};
use crate::diag::{fnv1a, fnv1a_on};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::parser::{EventReceiver, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, ParseError, Raw, Source, Span};

/// As deep as the `toml` crate goes.
const DEPTH: u32 = 80;
/// Parts of a header.
const PARTS: usize = 16;

/// The value of a text and where everything stands in it, if the text has nothing unusual.
pub(super) fn parse_plain(text: &str) -> Option<(Value, Spans)> {
    let source = Source::new(text);
    // About as many tokens as a file of this length has.
    let mut tokens = Vec::with_capacity(text.len() / 4);
    tokens.extend(source.lex());
    let mut builder = Builder::new(source);
    let mut error: Option<ParseError> = None;
    let mut receiver = ValidateWhitespace::new(&mut builder, source);
    let mut receiver = RecursionGuard::new(&mut receiver, DEPTH);
    parse_document(&tokens, &mut receiver, &mut error);
    builder.finish_table();
    let is_whole = error.is_none() && !builder.is_unusual && builder.open.is_empty();
    is_whole.then_some((Value::Object(builder.root), builder.spans))
}

/// What a header made of a place.
#[derive(Clone, Copy, PartialEq)]
enum Made {
    /// A table that only stands above another one.
    Implicit,
    Table,
    /// `[[name]]`.
    List,
}

/// A value that is still open, and the hash of its pointer.
struct Open {
    value: Value,
    hash: u64,
    start: usize,
    /// The last key in it that has no value yet.
    key: Option<(String, Range<usize>)>,
}

struct Builder<'a> {
    source: Source<'a>,
    spans: Spans,
    root: Map<String, Value>,
    /// By the hash of their pointers.
    made: BTreeMap<u64, Made>,
    /// Where the header being read begins.
    header: Option<usize>,
    path: Vec<(String, Range<usize>)>,
    is_list: bool,
    /// The table of the last header, and the values open in it.
    open: Vec<Open>,
    is_unusual: bool,
}

impl<'a> Builder<'a> {
    fn new(source: Source<'a>) -> Self {
        let mut spans = Spans::default();
        // About as many values as a file of this length has.
        spans.reserve(source.input().len() / 16);
        spans.insert("", 0..0, 0..0);
        let mut builder = Self {
            source,
            spans,
            root: Map::new(),
            made: BTreeMap::new(),
            header: None,
            path: vec![],
            is_list: false,
            open: Vec::with_capacity(8),
            is_unusual: false,
        };
        builder.open(Value::Object(Map::new()), fnv1a(""), 0);
        builder
    }

    fn open(&mut self, value: Value, hash: u64, start: usize) {
        self.open.push(Open {
            value,
            hash,
            start,
            key: None,
        });
    }

    fn text(&self, span: Span, encoding: Option<Encoding>) -> Option<Raw<'a>> {
        let raw = self.source.get(span)?.as_str();
        Some(Raw::new_unchecked(raw, encoding, span))
    }

    /// The hash of the pointer of the next value.
    fn next_hash(&self) -> Option<u64> {
        let open = self.open.last()?;
        match &open.value {
            Value::Array(items) => Some(element(open.hash, items.len())),
            _ => Some(below(open.hash, &open.key.as_ref()?.0)),
        }
    }

    /// Puts a value where the next one belongs.
    fn put(&mut self, value: Value, span: Range<usize>) -> Option<()> {
        let hash = self.next_hash()?;
        let open = self.open.last_mut()?;
        let key = match &mut open.value {
            Value::Array(items) => {
                items.push(value);
                span.clone()
            }
            Value::Object(map) => {
                let (key, place) = open.key.take()?;
                if map.insert(key, value).is_some() {
                    return None;
                }
                place
            }
            _ => return None,
        };
        self.spans.insert_hashed(hash, key, span);
        Some(())
    }

    fn scalar_value(&self, span: Span, encoding: Option<Encoding>) -> Option<Value> {
        let mut error: Option<ParseError> = None;
        let mut decoded = Cow::Borrowed("");
        let raw = self.text(span, encoding)?;
        let value = match raw.decode_scalar(&mut decoded, &mut error) {
            ScalarKind::String => Value::String(decoded.into_owned()),
            ScalarKind::Boolean(b) => Value::Bool(b),
            ScalarKind::Integer(radix) => {
                Value::from(i64::from_str_radix(&decoded, radix.value()).ok()?)
            }
            ScalarKind::Float | ScalarKind::DateTime => return None,
        };
        error.is_none().then_some(value)
    }

    fn key(&mut self, span: Span, encoding: Option<Encoding>) -> Option<()> {
        let mut error: Option<ParseError> = None;
        let mut decoded = Cow::Borrowed("");
        let raw = self.text(span, encoding)?;
        raw.decode_key(&mut decoded, &mut error);
        let key = (decoded.into_owned(), range(span));
        if self.header.is_some() {
            self.path.push(key);
            (self.path.len() <= PARTS && error.is_none()).then_some(())
        } else {
            let is_dotted = self.open.last_mut()?.key.replace(key).is_some();
            (!is_dotted && error.is_none()).then_some(())
        }
    }

    fn close(&mut self, end: usize) -> Option<()> {
        let done = self.open.pop()?;
        if self.open.is_empty() || done.key.is_some() {
            return None;
        }
        self.put(done.value, done.start..end)
    }

    /// Opens the table that a header names.
    fn start_table(&mut self, end: usize) -> Option<()> {
        let start = self.header.take()?;
        let header = start..end;
        let (last, above) = self.path.split_last()?;
        let mut table = &mut self.root;
        let mut hash = fnv1a("");
        for (part, place) in above {
            hash = below(hash, part);
            if !table.contains_key(part) {
                self.spans.insert_hashed(hash, place.clone(), place.clone());
                self.made.insert(hash, Made::Implicit);
                table.insert(part.clone(), Value::Object(Map::new()));
            }
            let made = *self.made.get(&hash)?;
            table = match table.get_mut(part)? {
                Value::Object(map) => map,
                Value::Array(items) if made == Made::List => {
                    hash = element(hash, items.len().checked_sub(1)?);
                    items.last_mut()?.as_object_mut()?
                }
                _ => return None,
            };
        }
        hash = below(hash, &last.0);
        let was = table.get_mut(&last.0);
        let made = self.made.get(&hash).copied();
        let (value, made) = match (was, made, self.is_list) {
            (None, _, false) => (Value::Object(Map::new()), Made::Table),
            (Some(value @ Value::Object(_)), Some(Made::Implicit), false) => {
                let value = value.take();
                table.remove(&last.0);
                (value, Made::Table)
            }
            (None, _, true) => {
                table.insert(last.0.clone(), Value::Array(vec![]));
                (Value::Object(Map::new()), Made::List)
            }
            (Some(Value::Array(_)), Some(Made::List), true) => {
                (Value::Object(Map::new()), Made::List)
            }
            _ => return None,
        };
        let is_first = self.made.insert(hash, made) != Some(Made::List);
        if is_first {
            self.spans
                .insert_hashed(hash, last.1.clone(), header.clone());
        }
        if self.is_list {
            let items = table.get(&last.0)?.as_array()?;
            hash = element(hash, items.len());
            self.spans
                .insert_hashed(hash, header.clone(), header.clone());
        }
        self.open(value, hash, start);
        Some(())
    }

    /// Puts the table of the last header where it belongs.
    fn finish_table(&mut self) {
        let done = self.open.pop();
        let finished = done.and_then(|done| {
            let Value::Object(map) = done.value else {
                return None;
            };
            if done.key.is_some() || !self.open.is_empty() {
                return None;
            }
            let Some((last, above)) = self.path.split_last() else {
                self.root = map;
                return Some(());
            };
            let mut table = &mut self.root;
            for (part, _) in above {
                table = match table.get_mut(part)? {
                    Value::Array(items) => items.last_mut()?.as_object_mut()?,
                    other => other.as_object_mut()?,
                };
            }
            if self.is_list {
                let items = table.get_mut(&last.0)?.as_array_mut()?;
                items.push(Value::Object(map));
            } else if table.insert(last.0.clone(), Value::Object(map)).is_some() {
                return None;
            }
            Some(())
        });
        self.expect(finished);
    }

    fn start_header(&mut self, span: Span, is_list: bool) {
        self.finish_table();
        self.path.clear();
        self.header = Some(span.start());
        self.is_list = is_list;
    }

    fn expect(&mut self, done: Option<()>) {
        self.is_unusual |= done.is_none();
    }

    fn opened(&mut self, value: Value, span: Span) -> bool {
        let hash = self.next_hash();
        self.expect(hash.map(|_| ()));
        self.open(value, hash.unwrap_or_default(), span.start());
        true
    }
}

impl EventReceiver for Builder<'_> {
    fn std_table_open(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        self.start_header(span, false);
    }

    fn std_table_close(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        let done = self.start_table(span.end());
        self.expect(done);
    }

    fn array_table_open(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        self.start_header(span, true);
    }

    fn array_table_close(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        let done = self.start_table(span.end());
        self.expect(done);
    }

    fn inline_table_open(&mut self, span: Span, _error: &mut dyn ErrorSink) -> bool {
        self.opened(Value::Object(Map::new()), span)
    }

    fn inline_table_close(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        let done = self.close(span.end());
        self.expect(done);
    }

    fn array_open(&mut self, span: Span, _error: &mut dyn ErrorSink) -> bool {
        self.opened(Value::Array(vec![]), span)
    }

    fn array_close(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        let done = self.close(span.end());
        self.expect(done);
    }

    fn simple_key(&mut self, span: Span, kind: Option<Encoding>, _error: &mut dyn ErrorSink) {
        let done = self.key(span, kind);
        self.expect(done);
    }

    fn scalar(&mut self, span: Span, kind: Option<Encoding>, _error: &mut dyn ErrorSink) {
        let value = self.scalar_value(span, kind);
        let done = value.and_then(|value| self.put(value, range(span)));
        self.expect(done);
    }

    fn error(&mut self, _span: Span, _error: &mut dyn ErrorSink) {
        self.is_unusual = true;
    }
}

fn range(span: Span) -> Range<usize> {
    span.start()..span.end()
}

/// The hash of a pointer with one more part.
fn below(hash: u64, part: &str) -> u64 {
    fnv1a_on(fnv1a_on(hash, b"/"), escape(part).as_bytes())
}

/// The same for an element of a list.
fn element(hash: u64, index: usize) -> u64 {
    match u8::try_from(index) {
        Ok(digit @ 0..=9) => fnv1a_on(hash, &[b'/', b'0' + digit]),
        _ => below(hash, &index.to_string()),
    }
}
