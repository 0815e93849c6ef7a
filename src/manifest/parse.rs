//! TOML with places. A file that is no TOML is taken apart at its table headers: each broken block is reported once and
//! left out, and the rest is read as if it were whole.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value stands, and its key if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpanPair {
    pub key: Range<usize>,
    pub value: Range<usize>,
}

/// Places by JSON pointer (`/node/a/binary`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans(BTreeMap<String, SpanPair>);

impl Spans {
    /// Where a value stands; the nearest value above it that is known otherwise.
    pub fn value(&self, pointer: &str) -> Range<usize> {
        self.nearest(pointer).map_or(0..0, |s| s.value.clone())
    }

    /// Where a value's key stands; for a list element the element itself.
    pub fn key(&self, pointer: &str) -> Range<usize> {
        self.nearest(pointer).map_or(0..0, |s| s.key.clone())
    }

    fn nearest(&self, pointer: &str) -> Option<&SpanPair> {
        let mut at = pointer;
        loop {
            if let Some(found) = self.0.get(at) {
                return Some(found);
            }
            at = at.rsplit_once('/')?.0;
        }
    }
}

/// A syntax error with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub span: Range<usize>,
    pub message: String,
    /// Where the same table was opened before: then it is a name that is given twice.
    pub first: Option<Range<usize>>,
}

/// A file as far as it could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub value: Value,
    pub spans: Spans,
    pub errors: Vec<SyntaxError>,
    /// Header paths of blocks that were left out: `["node", "a"]`; nothing may be said about these objects.
    pub left_out: Vec<Vec<String>>,
    /// A header itself was not readable: names may be missing.
    pub names_unknown: bool,
}

/// Reads a text; never fails.
pub fn parse(text: &str) -> Parsed {
    let mut remaining = text.to_owned();
    let mut parsed = Parsed {
        value: Value::Null,
        spans: Spans::default(),
        errors: vec![],
        left_out: vec![],
        names_unknown: false,
    };
    let blocks = blocks(text);
    for _ in 0..=blocks.len() {
        match DeTable::parse(&remaining) {
            Ok(table) => {
                let mut walk = Walk {
                    spans: &mut parsed.spans,
                    errors: &mut parsed.errors,
                };
                parsed.value = walk.table(table.get_ref(), "");
                parsed.spans.0.insert(
                    String::new(),
                    SpanPair {
                        key: 0..0,
                        value: 0..0,
                    },
                );
                parsed.errors.sort_by_key(|e| (e.span.start, e.span.end));
                return parsed;
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let block = blocks
                    .iter()
                    .rfind(|b| b.start <= span.start)
                    .or(blocks.first())
                    .cloned()
                    .unwrap_or(0..0);
                let path = header(&text[block.clone()]);
                let twin = blocks
                    .iter()
                    .take_while(|b| b.start < block.start)
                    .find(|b| path.is_some() && header(&text[(*b).clone()]) == path);
                let first = twin
                    .filter(|_| error.message().contains("duplicate"))
                    .map(|b| {
                        let line = text[b.clone()].lines().next().unwrap_or_default();
                        b.start..b.start + line.len()
                    });
                match path {
                    // The first one stands, and may be spoken of.
                    Some(_) if first.is_some() => {}
                    Some(path) => parsed.left_out.push(path),
                    None => {
                        parsed.names_unknown |=
                            block.start > 0 || text.trim_start().starts_with('[')
                    }
                }
                parsed.errors.push(SyntaxError {
                    span,
                    message: error.message().to_owned(),
                    first,
                });
                blank(&mut remaining, block);
            }
        }
    }
    parsed.value = Value::Object(Map::new());
    parsed
}

/// The parts of a file: what stands before the first header, then one part a header.
fn blocks(text: &str) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let mut at = 0;
    let mut multi_line: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        if multi_line.is_none() && at > 0 && line.trim_start().starts_with('[') && is_header(line) {
            starts.push(at);
        }
        for mark in ["\"\"\"", "'''"] {
            let odd = line.matches(mark).count() % 2 == 1;
            match multi_line {
                Some(open) if open == mark && odd => multi_line = None,
                None if odd => multi_line = Some(mark),
                _ => {}
            }
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .copied()
        .zip(ends)
        .map(|(s, e)| s..e)
        .collect()
}

/// A line that opens a table, and not an element of a list that goes over several lines.
fn is_header(line: &str) -> bool {
    let bare = line.split('#').next().unwrap_or(line).trim();
    let inner = bare.trim_start_matches('[').trim_end_matches(']');
    bare.ends_with(']')
        && inner
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric() || "_-\"'".contains(c))
        && !inner.contains(',')
        || !bare.ends_with(']') && !bare.ends_with(',')
}

/// The path of a block's header, when the header by itself is TOML.
fn header(block: &str) -> Option<Vec<String>> {
    let line = block.lines().find(|l| l.trim_start().starts_with('['))?;
    let table = DeTable::parse(line).ok()?;
    let mut path = Vec::new();
    let mut at = table.get_ref();
    while let Some((key, value)) = at.iter().next() {
        path.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => at = inner,
            _ => break,
        }
    }
    Some(path)
}

fn blank(text: &mut String, range: Range<usize>) {
    let blanked: String = text[range.clone()]
        .bytes()
        .map(|b| if b == b'\n' { '\n' } else { ' ' })
        .collect();
    text.replace_range(range, &blanked);
}

struct Walk<'a> {
    spans: &'a mut Spans,
    errors: &'a mut Vec<SyntaxError>,
}

impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>, pointer: &str) -> Value {
        let mut out = Map::new();
        for (key, value) in table.iter() {
            let name = key.get_ref().to_string();
            let below = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
            let pair = SpanPair {
                key: key.span(),
                value: value.span(),
            };
            let json = self.value(value, &below);
            self.spans.0.insert(below, pair);
            out.insert(name, json);
        }
        Value::Object(out)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, pointer: &str) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Integer(int) => {
                // The tree's parser leaves integers unchecked.
                match i64::from_str_radix(int.as_str(), int.radix()) {
                    Ok(n) => Value::from(n),
                    Err(error) => {
                        let message =
                            format!("`{}` is not an integer of 64 bits: {error}", int.as_str());
                        self.errors.push(SyntaxError {
                            span: value.span(),
                            message,
                            first: None,
                        });
                        Value::from(0)
                    }
                }
            }
            DeValue::Float(float) => float
                .as_str()
                .parse::<f64>()
                .map_or(Value::Null, Value::from),
            DeValue::Array(items) => {
                let mut out = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    let below = format!("{pointer}/{i}");
                    let json = self.value(item, &below);
                    self.spans.0.insert(
                        below,
                        SpanPair {
                            key: item.span(),
                            value: item.span(),
                        },
                    );
                    out.push(json);
                }
                Value::Array(out)
            }
            DeValue::Table(table) => self.table(table, pointer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_block_hides_no_other() {
        let text = "visor = 1\n[node.a]\nbinary = \"x\n[node.b]\nbinary = \"y\"\n[hook.c]\nrun = [\n  [\"a\"],\n";
        let mut parsed = parse(text);
        parsed.left_out.sort();
        assert_eq!(parsed.errors.len(), 2, "{:?}", parsed.errors);
        assert_eq!(parsed.value["node"]["b"]["binary"], "y");
        assert_eq!(parsed.left_out, [["hook", "c"], ["node", "a"]]);
        assert_eq!(&text[parsed.spans.value("/node/b/binary")], "\"y\"");
        assert!(!parsed.names_unknown);
    }

    #[test]
    fn integers_are_checked() {
        let parsed = parse("a = 99999999999999999999\nb = 0x1F\n");
        assert_eq!(
            (parsed.errors.len(), &parsed.value["b"]),
            (1, &Value::from(31))
        );
    }
}
