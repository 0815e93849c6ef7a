//! Reading a text that is no TOML: statement by statement, each parsed alone and put into the tree by hand.
//!
//! A statement is a header, or a key and its value, which may go over several lines. One that cannot be read is reported
//! once; its key, where that can be guessed, is *lost*: nothing more is said about it. A header that is not closed still says
//! its name.

use super::advice::syntax_error;
use super::load::{Kinds, ObjectKind};
use super::mend::shown_name;
use super::parse::{Parsed, SyntaxError, SyntaxKind, Walk};
use super::spans::escape;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file with more mistakes than this is hardly a manifest; the rest of it is not looked at.
const MOST_ERRORS: usize = 100;

pub(super) fn recover(text: &str, whole: &toml::de::Error) -> Parsed {
    let mut parsed = Parsed::new();
    parsed.spans.insert("", 0..0, 0..0);
    let mut reader = Reader {
        text,
        parsed,
        table: Some(String::new()),
        opened: HashMap::new(),
        budget: 64 * text.len() + 4096,
    };
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    while at < text.len() {
        if reader.parsed.errors.len() >= MOST_ERRORS {
            reader.give_up(at);
            break;
        }
        at = reader.statement(at);
    }
    let mut parsed = reader.parsed;
    if parsed.errors.is_empty() {
        // The statements are good by themselves and not together.
        let span = whole.span().unwrap_or(0..0);
        parsed
            .errors
            .push(syntax_error(text, span, whole.message()));
        parsed.names_unknown = Kinds::ALL;
    }
    parsed.errors.sort_by_key(|e| (e.span.start, e.span.end));
    parsed
}

struct Reader<'a> {
    text: &'a str,
    parsed: Parsed,
    /// Pointer of the table that statements go to; `None` below a header that could not be used.
    table: Option<String>,
    /// Tables opened by a header, with its place.
    opened: HashMap<String, Range<usize>>,
    /// Bytes that may still be looked at ahead, so that no text takes more than linear time.
    budget: usize,
}

impl Reader<'_> {
    /// Reads the statement at a line's start; where the next one begins.
    fn statement(&mut self, at: usize) -> usize {
        let line = line_at(self.text, at);
        let trimmed = self.text[line.clone()].trim_start();
        let start = line.end - trimmed.len();
        if trimmed.trim_end().is_empty() || trimmed.starts_with('#') {
            if trimmed.contains(|c: char| c.is_control() && !"\t\r\n".contains(c)) {
                self.broken(
                    start..trimmed_end(self.text, &line),
                    "a control character stands here",
                    None,
                );
            }
            return line.end;
        }
        if trimmed.starts_with('[') {
            self.header(start, &line);
            return line.end;
        }
        if let Some(kind) = lost_header(trimmed) {
            let name = trimmed[kind.len() + 1..].trim_end();
            let name = name.trim_end_matches([']', ':']).trim();
            let whole = start..trimmed_end(self.text, &line);
            self.parsed.errors.push(SyntaxError {
                kind: SyntaxKind::NotToml,
                span: whole.clone(),
                message: "a header stands between `[` and `]`".into(),
                help: format!("Write [{kind}.{name}]."),
                first: None,
                fix: Some((whole.clone(), format!("[{kind}.{name}]"))),
            });
            let bare = name.trim_matches(['"', '\'']).to_owned();
            let path = [(kind.to_owned(), whole.clone()), (bare, whole.clone())];
            self.table = self.open(&path, false, &whole);
            return line.end;
        }
        let (end, is_closed) = self.extent(start);
        match DeTable::parse(&self.text[start..end]) {
            Ok(table) => {
                self.assign(table.get_ref(), start);
                end
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let first_line = start..trimmed_end(self.text, &line);
                let mut place = start + span.start..start + span.end;
                // A string or list that is never closed: what matters is where it was opened.
                if place.start >= trimmed_end(self.text, &(start..end)) {
                    place = value_part(self.text, &first_line);
                }
                self.broken(place, error.message(), Some(first_line));
                if is_closed {
                    return end;
                }
                // What is left of it are lines that begin no statement.
                let mut next = line.end;
                while next < self.text.len()
                    && !begins_statement(&self.text[line_at(self.text, next)])
                {
                    next = line_at(self.text, next).end;
                }
                next
            }
        }
    }

    fn broken(&mut self, span: Range<usize>, message: &str, statement: Option<Range<usize>>) {
        let error = syntax_error(self.text, span, message);
        self.parsed.errors.push(error);
        let Some(statement) = statement else { return };
        let text = &self.text[statement];
        self.parsed
            .lost_text
            .push(text.chars().take(4096).collect());
        let Some(table) = &self.table else { return };
        match guessed_key(text) {
            Some(path) => {
                let pointer = path
                    .iter()
                    .fold(table.clone(), |p, (key, _)| format!("{p}/{}", escape(key)));
                // The slot is made, and stays empty.
                if slot(&mut self.parsed.value, &pointer).is_some_and(|v| v.is_null()) {
                    self.parsed.lost.push(pointer);
                }
            }
            None => self.parsed.holes.push(table.clone()),
        }
    }

    /// Where the statement that begins here ends: where its brackets and strings are closed, or with its first line. Second, whether
    /// they are.
    fn extent(&mut self, start: usize) -> (usize, bool) {
        let line_end = line_at(self.text, start).end;
        let mut lexer = Lexer::default();
        let mut end = line_end;
        lexer.feed(&self.text[start..line_end]);
        while lexer.is_open() && end < self.text.len() {
            let next = line_at(self.text, end);
            if self.budget < next.len() {
                return (line_end, false);
            }
            self.budget -= next.len();
            lexer.feed(&self.text[next.clone()]);
            end = next.end;
        }
        if lexer.is_open() {
            (line_end, false)
        } else {
            (end, true)
        }
    }

    fn header(&mut self, start: usize, line: &Range<usize>) {
        let whole = start..trimmed_end(self.text, line);
        let text = &self.text[whole.clone()];
        let mut path = header_path(text);
        if let Err(error) = DeTable::parse(text) {
            // One that is not closed still says its name.
            let bare = text.trim_start_matches('[');
            let name = bare.split([']', '#']).next().unwrap_or_default().trim();
            let shift = name.as_ptr() as usize - text.as_ptr() as usize;
            path = header_path(&format!("[{name}]")).map(|mut path| {
                for (_, span) in &mut path {
                    *span = (span.start + shift).saturating_sub(1)
                        ..(span.end + shift).saturating_sub(1);
                }
                path
            });
            let guess = guessed_header(text).filter(|_| path.is_none());
            self.parsed.errors.push(match guess.as_deref() {
                Some([(kind, _), (name, _)]) => {
                    let header = format!("[{kind}.{}]", shown_name(name));
                    SyntaxError {
                        kind: SyntaxKind::NotToml,
                        span: whole.clone(),
                        message: "this header cannot be read".into(),
                        help: format!("Write {header}."),
                        first: None,
                        fix: Some((whole.clone(), header)),
                    }
                }
                _ => {
                    let span = error.span().unwrap_or(0..0);
                    let place = start + span.start..start + span.end;
                    syntax_error(self.text, place, error.message())
                }
            });
            path = path.or(guess);
        }
        let Some(mut path) = path else {
            self.table = None;
            self.parsed.names_unknown = Kinds::ALL;
            return;
        };
        for (_, span) in &mut path {
            *span = span.start + start..span.end + start;
        }
        self.table = self.open(&path, text.starts_with("[["), &whole);
        if let (None, [(kind, _)]) = (&self.table, path.as_slice())
            && let Some(kind) = ObjectKind::of_word(kind)
        {
            self.parsed.names_unknown.insert(kind);
        }
    }

    /// Opens a table, or appends to a list of tables; its pointer.
    fn open(
        &mut self,
        path: &[(String, Range<usize>)],
        is_list: bool,
        place: &Range<usize>,
    ) -> Option<String> {
        let ((last, key), above) = path.split_last()?;
        let mut pointer = String::new();
        for (part, span) in above {
            pointer = format!("{pointer}/{}", escape(part));
            let found = slot(&mut self.parsed.value, &pointer)?;
            if found.is_null() {
                *found = Value::Object(Map::new());
                self.parsed
                    .spans
                    .insert(&pointer, span.clone(), place.clone());
            }
            if let Value::Array(items) = found {
                pointer = format!("{pointer}/{}", items.len().checked_sub(1)?);
            }
        }
        pointer = format!("{pointer}/{}", escape(last));
        let first = self.opened.get(&pointer).cloned();
        let found = slot(&mut self.parsed.value, &pointer)?;
        match (found, is_list) {
            (found @ (Value::Object(_) | Value::Null), true)
                if path.len() == 1 && ObjectKind::of_word(last).is_some() =>
            {
                if found.is_null() {
                    *found = Value::Object(Map::new());
                }
                self.parsed.errors.push(SyntaxError {
                    kind: SyntaxKind::NoName,
                    span: place.clone(),
                    message: format!("`[[{last}]]` gives no name"),
                    help: format!("Write [{last}.NAME], once for each."),
                    first: None,
                    fix: None,
                });
                pointer = format!("{pointer}/\0r{}", self.parsed.errors.len());
                *slot(&mut self.parsed.value, &pointer)? = Value::Object(Map::new());
            }
            (found @ Value::Null, true) => {
                *found = Value::Array(vec![Value::Object(Map::new())]);
                self.parsed
                    .spans
                    .insert(&pointer, key.clone(), place.clone());
                pointer.push_str("/0");
            }
            (Value::Array(items), true) => {
                pointer = format!("{pointer}/{}", items.len());
                items.push(Value::Object(Map::new()));
            }
            (found @ Value::Null, false) => *found = Value::Object(Map::new()),
            (Value::Object(_), false) if first.is_none() => {}
            _ => {
                self.parsed.errors.push(SyntaxError {
                    kind: SyntaxKind::TableTwice,
                    span: place.clone(),
                    message: "this table is opened twice in the file".into(),
                    help: "Rename one of them, or take one out.".into(),
                    first,
                    fix: None,
                });
                let is_object = path.len() == 2 && ObjectKind::of_word(&path[0].0).is_some();
                if !is_object || is_list {
                    // What stands below it is looked at for its syntax only.
                    return None;
                }
                // The other one has the name; this one is looked at all the same. It may be no more than a part.
                pointer = format!("{pointer}\0r{}", self.parsed.errors.len());
                self.parsed.holes.push(pointer.clone());
                *slot(&mut self.parsed.value, &pointer)? = Value::Object(Map::new());
            }
        }
        self.opened.insert(pointer.clone(), place.clone());
        let key = if is_list { place } else { key };
        self.parsed
            .spans
            .insert(&pointer, key.clone(), place.clone());
        Some(pointer)
    }

    fn assign(&mut self, table: &DeTable<'_>, offset: usize) {
        let Some(pointer) = self.table.clone() else {
            return;
        };
        for (key, value) in table.iter() {
            self.put(&pointer, key, value, offset);
        }
    }

    fn put(
        &mut self,
        above: &str,
        key: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        offset: usize,
    ) {
        let pointer = format!("{above}/{}", escape(key.get_ref()));
        let place = key.span().start + offset..key.span().end + offset;
        let Some(found) = slot(&mut self.parsed.value, &pointer) else {
            return;
        };
        // `a.b = 1` and `a.c = 2` are two statements about one table.
        if let (Value::Object(_), DeValue::Table(inner)) = (&*found, value.get_ref()) {
            for (key, value) in inner.iter() {
                self.put(&pointer, key, value, offset);
            }
            return;
        }
        if !found.is_null() {
            let first = Some(self.parsed.spans.key(&pointer));
            self.parsed.errors.push(SyntaxError {
                kind: SyntaxKind::KeyTwice,
                span: place,
                message: format!("`{}` is given twice in one table", key.get_ref()),
                help: "Keep one of them.".into(),
                first,
                fix: None,
            });
            return;
        }
        let span = value.span().start + offset..value.span().end + offset;
        self.parsed.spans.insert(&pointer, place, span);
        let mut walk = Walk::new(&mut self.parsed, offset, pointer.clone());
        let json = walk.value(value);
        if let Some(found) = slot(&mut self.parsed.value, &pointer) {
            *found = json;
        }
    }

    fn give_up(&mut self, at: usize) {
        let message = format!(
            "the file has more than {MOST_ERRORS} such mistakes; from here on it was not looked at"
        );
        self.parsed.errors.push(syntax_error("", at..at, &message));
        self.parsed.names_unknown = Kinds::ALL;
        self.parsed.lost_text.push(self.text[at..].to_owned());
    }
}

/// The place of a pointer in the tree, made if it is not there; `None` when something other than a table is in the way.
fn slot<'v>(root: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    let mut at = root;
    for part in pointer.split('/').skip(1) {
        at = match at {
            Value::Object(map) => map
                .entry(super::spans::unescape(part))
                .or_insert(Value::Null),
            Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?)?,
            empty @ Value::Null => {
                *empty = Value::Object(Map::new());
                empty
                    .as_object_mut()?
                    .entry(super::spans::unescape(part))
                    .or_insert(Value::Null)
            }
            _ => return None,
        };
    }
    Some(at)
}

/// The line that holds a byte, with its end.
fn line_at(text: &str, at: usize) -> Range<usize> {
    let end = text[at..].find('\n').map_or(text.len(), |n| at + n + 1);
    at..end
}

fn trimmed_end(text: &str, line: &Range<usize>) -> usize {
    line.start + text[line.clone()].trim_end().len()
}

/// What stands behind the `=` of a line.
fn value_part(text: &str, line: &Range<usize>) -> Range<usize> {
    let behind = text[line.clone()].find('=').map_or(0, |n| n + 1);
    let value = &text[line.start + behind..line.end];
    line.end - value.trim_start().len()..line.end
}

/// The path of a header that is TOML by itself, with the places of its parts.
fn header_path(header: &str) -> Option<Vec<(String, Range<usize>)>> {
    let table = DeTable::parse(header).ok()?;
    let mut path = Vec::new();
    let mut at = table.get_ref();
    while let Some((key, value)) = at.iter().next() {
        path.push((key.get_ref().to_string(), key.span()));
        at = match value.get_ref() {
            DeValue::Table(inner) => inner,
            DeValue::Array(items) => match items.iter().next().map(Spanned::get_ref) {
                Some(DeValue::Table(inner)) => inner,
                _ => break,
            },
            _ => break,
        };
    }
    (!path.is_empty() && path.len() < 64).then_some(path)
}

/// The kind of a line that is a header but for its brackets: `upgrade.v2]`, `node.a:`.
fn lost_header(line: &str) -> Option<&'static str> {
    let code = line.split('#').next()?.trim();
    let is_header =
        (code.ends_with(']') || code.ends_with(':')) && !code.contains(['=', '[', ' ', '{']);
    let of = |kind: &&str| {
        let rest = code.strip_prefix(*kind).and_then(|r| r.strip_prefix('.'));
        rest.is_some_and(|r| r.len() > 1)
    };
    let mut kinds = ObjectKind::ALL.into_iter().map(ObjectKind::word);
    kinds.find(of).filter(|_| is_header)
}

/// The object that a header means which cannot be read: `[node a]`, `[hook/a]`, `[upgrade."v2]`.
fn guessed_header(header: &str) -> Option<Vec<(String, Range<usize>)>> {
    let at = header.len() - header.trim_start_matches(['[', ' ']).len();
    let inner = header[at..].split(['#', ']']).next()?.trim_end();
    let mut kinds = ObjectKind::ALL.into_iter().map(ObjectKind::word);
    let kind = kinds.find(|k| inner.starts_with(k))?;
    let rest = &inner[kind.len()..];
    if !rest.starts_with(['.', '/', ' ', ':', '-']) {
        return None;
    }
    let name = rest.trim_matches(['.', '/', ' ', ':', '-', '"', '\'']);
    // A name that stands in quotes and is followed by more is no name.
    if name.contains(['"', '\'']) {
        return None;
    }
    let start = name.as_ptr() as usize - header.as_ptr() as usize;
    (!name.is_empty()).then(|| {
        vec![
            (kind.to_owned(), at..at + kind.len()),
            (name.to_owned(), start..start + name.len()),
        ]
    })
}

/// The key of a statement that cannot be read: what stands before `=`, or its first word.
fn guessed_key(statement: &str) -> Option<Vec<(String, Range<usize>)>> {
    let before = statement.split('=').next().unwrap_or_default().trim();
    let word = statement
        .split(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)))
        .next()
        .unwrap_or_default();
    [before, word]
        .into_iter()
        .filter(|key| !key.is_empty() && key.len() < 256)
        .find_map(|key| header_path(&format!("{key} = 0")))
}

/// A line that is blank, a comment, a header, or begins with a key and `=`.
pub(super) fn begins_statement(line: &str) -> bool {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return true;
    }
    if let Some(inner) = line.strip_prefix('[') {
        let inner = inner.trim_start_matches('[');
        return !inner.contains(',')
            && inner.starts_with(|c: char| c.is_ascii_alphabetic())
            && header_path(line).is_some();
    }
    let Some((key, _)) = line.split_once('=') else {
        return false;
    };
    key.len() < 256 && header_path(&format!("{key} = 0")).is_some()
}

/// Follows strings and brackets from line to line.
#[derive(Default)]
struct Lexer {
    depth: usize,
    multi_line: Option<&'static str>,
}

impl Lexer {
    fn is_open(&self) -> bool {
        self.depth > 0 || self.multi_line.is_some()
    }

    fn feed(&mut self, line: &str) {
        let mut rest = line;
        while !rest.is_empty() {
            if let Some(mark) = self.multi_line {
                let escaped = mark == "\"\"\"" && rest.starts_with('\\');
                if rest.starts_with(mark) {
                    self.multi_line = None;
                    rest = &rest[3..];
                    // A string may end in quotes of its own.
                    rest = rest.trim_start_matches(&mark[..1]);
                } else {
                    rest = skip(rest, 1 + usize::from(escaped));
                }
                continue;
            }
            match rest.as_bytes()[0] {
                b'#' => return,
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                quote @ (b'"' | b'\'') => {
                    let mark = if quote == b'"' { "\"\"\"" } else { "'''" };
                    if let Some(inside) = rest.strip_prefix(mark) {
                        self.multi_line = Some(mark);
                        rest = inside;
                    } else {
                        rest = behind_string(&rest[1..], quote);
                    }
                    continue;
                }
                _ => {}
            }
            rest = skip(rest, 1);
        }
    }
}

/// What stands behind a string on one line; nothing when it is not closed.
fn behind_string(mut rest: &str, quote: u8) -> &str {
    while let Some(&byte) = rest.as_bytes().first() {
        if byte == quote {
            return &rest[1..];
        }
        let escaped = byte == b'\\' && quote == b'"';
        rest = skip(rest, 1 + usize::from(escaped));
    }
    rest
}

fn skip(text: &str, n: usize) -> &str {
    let mut chars = text.chars();
    chars.by_ref().take(n).for_each(drop);
    chars.as_str()
}
