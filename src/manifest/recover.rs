//! Reading a text that is no TOML: statement by statement, each parsed alone and put into the tree by hand.
//!
//! A statement is a header, or a key and its value, which may go over several lines. One that cannot be read is reported
//! once; its key, where that can be guessed, is *lost*: nothing more is said about it. A header that is not closed still says
//! its name.

use super::advice::{Inside, syntax_error};
use super::behind::two_statements;
use super::characters::{is_invisible, without_comment};
use super::depth::{DEEPEST, is_deep};
use super::guess::{
    begins_key, begins_statement, guessed_key, is_key_of, may_go_on, names_kind, says_a_word,
};
use super::headers::{MeantHeader, adds_to_list, first_path, key_in_brackets, meant_header};
use super::lexer::{Lexer, line_at, trimmed_end, value_part};
use super::load::{Kinds, ObjectKind};
use super::parse::{Parsed, SyntaxError, SyntaxKind, Walk};
use super::spans::{escape, slot};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the parser says of a text that is nested too deep.
const TOO_DEEP: &str = "recursion limit";

/// A file with more mistakes than this is hardly a manifest; the rest of it is not looked at.
const MOST_ERRORS: usize = 100;

/// `whole` is what the parser says of the text, if it was given it: one that is nested too deep it is not.
pub(super) fn recover(text: &str, whole: Option<&toml::de::Error>) -> Parsed {
    let mut parsed = Parsed::new();
    parsed.spans.insert("", 0..0, 0..0);
    let mut reader = Reader {
        text,
        parsed,
        table: Some(String::new()),
        opened: HashMap::new(),
        whole: HashMap::new(),
        again: HashMap::new(),
        blocks: 0,
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
        let span = whole.and_then(|e| e.span()).unwrap_or(0..0);
        let message = whole.map_or(TOO_DEEP, |e| e.message());
        parsed
            .errors
            .push(syntax_error(text, span, message, Inside::Nothing));
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
    /// Tables and lists that are whole in one statement (`{ … }`, `[ … ]`), and tables made by dotted keys, with their keys' places.
    whole: HashMap<String, (Whole, Range<usize>)>,
    /// Objects that were opened twice, and the shadow to which headers below the second belong.
    again: HashMap<String, String>,
    /// Objects that were opened as blocks, `node "a" {`, and not closed yet.
    blocks: usize,
    /// Bytes that may still be looked at ahead, so that no text takes more than linear time.
    budget: usize,
}

/// How a table or a list was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// Between brackets: nothing can be added to it.
    Closed,
    /// By dotted keys: no header can open it.
    Dotted,
}

impl Reader<'_> {
    /// Reads the statement at a line's start; where the next one begins.
    fn statement(&mut self, at: usize) -> usize {
        let line = line_at(self.text, at);
        let trimmed = self.text[line.clone()].trim_start();
        let start = line.end - trimmed.len();
        // What nobody sees before a statement is no part of it.
        let seen = trimmed.trim_start_matches(is_invisible);
        if seen.len() < trimmed.len() {
            let end = line.end - seen.len();
            let error = syntax_error(self.text, start..end, "", Inside::Nothing);
            self.parsed.errors.push(error);
            return self.statement(end);
        }
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
        if is_deep(trimmed.lines().next().unwrap_or_default()) {
            let first = trimmed.chars().next().map_or(0, char::len_utf8);
            self.broken(start..start + first, TOO_DEEP, None);
            self.table = None;
            self.parsed.names_unknown = Kinds::ALL;
            return line.end;
        }
        if trimmed.starts_with('[') && !key_in_brackets(trimmed) {
            self.header(start, &line);
            return line.end;
        }
        let code = without_comment(trimmed).trim_end();
        if code == "}" && self.blocks > 0 {
            self.blocks -= 1;
            return line.end;
        }
        let (end, is_closed) = self.extent(start);
        let line_text = self.text[start..line.end].trim_end();
        match DeTable::parse(&self.text[start..end]) {
            Ok(table) => {
                self.assign(table.get_ref(), start);
                end
            }
            Err(_) if let Some(meant) = meant_header(trimmed) => {
                self.blocks += usize::from(code.ends_with('{'));
                let whole = start..start + code.len();
                self.meant_header(whole, meant, "a header stands between `[` and `]`");
                line.end
            }
            Err(_) if let Some((first, second)) = two_statements(line_text) => {
                let (first, second) = (start..start + first, start + second..line.end);
                self.parsed.errors.push(SyntaxError::new(
                    SyntaxKind::NotToml,
                    second.start..trimmed_end(self.text, &line),
                    "two statements stand on one line",
                    "Put each on a line of its own.",
                ));
                for statement in [first, second] {
                    if let Ok(table) = DeTable::parse(&self.text[statement.clone()]) {
                        self.assign(table.get_ref(), statement.start);
                    }
                }
                line.end
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let first_line = start..trimmed_end(self.text, &line);
                let mut place = start + span.start..start + span.end;
                // A string or list that is never closed: what matters is where it was opened.
                if place.start >= trimmed_end(self.text, &(start..end)) {
                    place = value_part(self.text, &first_line);
                }
                let has_no_value = self.text[first_line.clone()].ends_with('=');
                let lost = self.broken(place, error.message(), Some(first_line));
                if is_closed {
                    self.silent(lost, start..end);
                    return if has_no_value {
                        self.behind_yaml_list(end)
                    } else {
                        end
                    };
                }
                // What is left of it are lines that begin no statement.
                let is_text = self.inside(start, line.end) == Inside::Text;
                let mut lexer = Lexer::default();
                lexer.feed(&self.text[line.clone()]);
                let inner = lost.as_deref().filter(|_| lexer.is_in_table());
                let mut before = &self.text[line.clone()];
                let mut next = line.end;
                while next < self.text.len() {
                    let line = line_at(self.text, next);
                    let code = &self.text[line.clone()];
                    let is_inner = inner.is_some_and(|table| is_key_of(table, code));
                    if !is_inner && (begins_statement(code) || !is_text && !may_go_on(before, code))
                    {
                        break;
                    }
                    (before, next) = (code, line.end);
                }
                self.silent(lost, start..next);
                // Among them may be keys that lack no more than their `=`.
                if next > line.end {
                    self.parsed.holes.extend(self.table.clone());
                    let lost = self.text[line.end..next].chars().take(4096);
                    self.parsed.lost_text.push(lost.collect());
                }
                next
            }
        }
    }

    /// Lines that begin with `-`, behind a key without value: the same mistake.
    fn behind_yaml_list(&self, mut at: usize) -> usize {
        while at < self.text.len() {
            let line = line_at(self.text, at);
            if !self.text[line.clone()].trim_start().starts_with("- ") {
                break;
            }
            at = line.end;
        }
        at
    }

    /// What of a statement is open still where the line of a place begins.
    fn inside(&self, statement: usize, place: usize) -> Inside {
        let place = place.min(self.text.len());
        let line = self.text[..place].rfind('\n').map_or(0, |n| n + 1);
        let mut lexer = Lexer::default();
        let mut at = statement;
        while at < line {
            let next = line_at(self.text, at);
            lexer.feed(&self.text[next.clone()]);
            at = next.end;
        }
        match (lexer.multi_line, lexer.depth()) {
            (Some(_), _) => Inside::Text,
            (None, 0) => Inside::Nothing,
            (None, _) => Inside::Brackets,
        }
    }

    /// Says a mistake. When a statement could not be read for it: the pointer of the value that is lost by that.
    fn broken(
        &mut self,
        span: Range<usize>,
        message: &str,
        statement: Option<Range<usize>>,
    ) -> Option<String> {
        let inside = self.inside(
            statement.as_ref().map_or(span.start, |s| s.start),
            span.start,
        );
        let error = syntax_error(self.text, span, message, inside);
        self.parsed.errors.push(error);
        let statement = statement?;
        let text = &self.text[statement.clone()];
        self.parsed
            .lost_text
            .push(text.chars().take(4096).collect());
        let table = self.table.as_ref()?;
        let Some(path) = guessed_key(text, table) else {
            self.parsed.holes.push(table.clone());
            return None;
        };
        // The topmost that is made by it is lost, and whatever stands below.
        let mut pointer = table.clone();
        for key in &path {
            pointer = format!("{pointer}/{}", escape(key));
            if self.parsed.find(&pointer).is_none() {
                break;
            }
        }
        // The slot is made, and stays empty.
        if !slot(&mut self.parsed.value, &pointer)?.is_null() {
            return None;
        }
        let spans = &mut self.parsed.spans;
        spans.insert(&pointer, statement.clone(), statement);
        self.parsed.lost.insert(pointer.clone());
        Some(pointer)
    }

    /// Writes down what of a lost value nobody can tell: even its text has no word in it.
    fn silent(&mut self, lost: Option<String>, statement: Range<usize>) {
        if !says_a_word(&self.text[statement]) {
            self.parsed.silent.extend(lost);
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
            let ahead = &self.text[next.clone()];
            let is_other =
                || begins_key(ahead) || meant_header(ahead).is_some_and(|h| h.is_certain);
            let begins_other = names_kind(ahead) || lexer.is_in_list() && is_other();
            let is_text = lexer.multi_line.is_some();
            if self.budget < next.len() || lexer.depth() > DEEPEST || begins_other && !is_text {
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
        let mut path = first_path(text);
        let mut opens_list = text.starts_with("[[");
        if let Err(error) = DeTable::parse(text) {
            // One that is not closed still says its name.
            let bare = text.trim_start_matches('[');
            let name = bare.split([']', '#']).next().unwrap_or_default().trim();
            let shift = name.as_ptr() as usize - text.as_ptr() as usize;
            path = first_path(&format!("[{name}]")).map(|mut path| {
                for (_, span) in &mut path {
                    *span = (span.start + shift).saturating_sub(1)
                        ..(span.end + shift).saturating_sub(1);
                }
                path
            });
            let meant = meant_header(text).filter(|_| path.is_none());
            if let Some(meant) = meant {
                // A comment behind it stays.
                let whole = start..start + without_comment(text).trim_end().len();
                self.meant_header(whole, meant, "this header cannot be read");
                return;
            }
            let span = error.span().unwrap_or(0..0);
            let place = start + span.start..start + span.end;
            let error = syntax_error(self.text, place, error.message(), Inside::Nothing);
            self.parsed.errors.push(error);
            if let Some([_, _, ..]) = path.as_deref() {
                let parts = path.iter().flatten().map(|(part, _)| part.clone());
                opens_list = adds_to_list(&parts.collect::<Vec<_>>());
            }
        }
        let Some(mut path) = path else {
            self.table = None;
            self.parsed.names_unknown = Kinds::ALL;
            return;
        };
        for (_, span) in &mut path {
            *span = span.start + start..span.end + start;
        }
        self.table = self.open(&path, opens_list, &whole);
        if let (None, [(kind, _)]) = (&self.table, path.as_slice())
            && let Some(kind) = ObjectKind::of_word(kind)
        {
            self.parsed.names_unknown.insert(kind);
        }
    }

    /// A header that cannot be read and means another.
    fn meant_header(&mut self, whole: Range<usize>, meant: MeantHeader, message: &str) {
        let is_odd = !self.text[whole.clone()].is_ascii();
        self.parsed.errors.push(if is_odd {
            syntax_error(self.text, whole.clone(), message, Inside::Nothing)
        } else {
            SyntaxError {
                kind: SyntaxKind::NotToml,
                span: whole.clone(),
                message: message.into(),
                help: format!("Write {}.", meant.text),
                first: None,
                fix: meant.is_certain.then(|| (whole.clone(), meant.text)),
            }
        });
        let opens_list = adds_to_list(&meant.path);
        if let ([kind, name], false) = (&meant.path[..], meant.is_certain) {
            let pointer = format!("/{}/{}", escape(kind), escape(name));
            self.parsed.guessed.push(pointer);
        }
        let mut from = whole.start;
        let text = self.text;
        let place = |part: String| {
            let found = text[from..whole.end].find(&part).map(|at| from + at);
            let span = found.map_or(whole.clone(), |at| at..at + part.len());
            from = found.map_or(from, |at| at + part.len());
            (part, span)
        };
        let path: Vec<_> = meant.path.into_iter().map(place).collect();
        self.table = self.open(&path, opens_list, &whole);
    }

    /// Opens a table, or appends to a list of tables; its pointer.
    fn open(
        &mut self,
        path: &[(String, Range<usize>)],
        is_list: bool,
        place: &Range<usize>,
    ) -> Option<String> {
        let mut kept = Vec::with_capacity(path.len());
        let mut above = String::new();
        for (part, span) in path {
            let part = self.parsed.kept_key(&above, part, span.clone())?;
            above = format!("{above}/{}", escape(&part));
            kept.push((part, span.clone()));
        }
        let ((last, key), above) = kept.split_last()?;
        let mut pointer = String::new();
        for (part, span) in above {
            pointer = format!("{pointer}/{}", escape(part));
            if let Some(shadow) = self.again.get(&pointer) {
                pointer.clone_from(shadow);
            }
            let found = slot(&mut self.parsed.value, &pointer)?;
            if found.is_null() {
                *found = Value::Object(Map::new());
                self.parsed
                    .spans
                    .insert(&pointer, span.clone(), place.clone());
            }
            if let Some((Whole::Closed, first)) = self.whole.get(&pointer).cloned() {
                self.closed(part, first, place.clone());
                return None;
            }
            if let Value::Array(items) = found {
                pointer = format!("{pointer}/{}", items.len().checked_sub(1)?);
            }
        }
        pointer = format!("{pointer}/{}", escape(last));
        if let Some((_, first)) = self.whole.get(&pointer).cloned() {
            self.closed(last, first, place.clone());
            return None;
        }
        let first = self.opened.get(&pointer).cloned();
        let found = slot(&mut self.parsed.value, &pointer)?;
        match (found, is_list) {
            (found @ (Value::Object(_) | Value::Null), true)
                if path.len() == 1 && ObjectKind::of_word(last).is_some() =>
            {
                if found.is_null() {
                    *found = Value::Object(Map::new());
                }
                self.parsed.errors.push(SyntaxError::new(
                    SyntaxKind::NoName,
                    place.clone(),
                    format!("`[[{last}]]` gives no name"),
                    format!("Write [{last}.NAME], once for each."),
                ));
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
                    first,
                    ..SyntaxError::new(
                        SyntaxKind::TableTwice,
                        place.clone(),
                        "this table is opened twice in the file",
                        "Rename one of them, or take one out.",
                    )
                });
                // A header that was given twice has nothing below its first.
                if let (Value::Object(table), false) =
                    (&*slot(&mut self.parsed.value, &pointer)?, is_list)
                    && table.is_empty()
                {
                    return Some(pointer);
                }
                let is_object = path.len() == 2 && ObjectKind::of_word(&path[0].0).is_some();
                if !is_object || is_list {
                    // What stands below it is looked at for its syntax only.
                    return None;
                }
                // The other one has the name; this one is looked at all the same. It may be no more than a part.
                let shadow = format!("{pointer}\0r{}", self.parsed.errors.len());
                self.again.insert(pointer, shadow.clone());
                pointer = shadow;
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
        let place = key.span().start + offset..key.span().end + offset;
        let Some(name) = self.parsed.kept_key(above, key.get_ref(), place.clone()) else {
            return;
        };
        let pointer = format!("{above}/{}", escape(&name));
        let Some(found) = slot(&mut self.parsed.value, &pointer) else {
            return;
        };
        let begins = self.text.as_bytes().get(value.span().start + offset);
        let is_closed = matches!(begins, Some(b'{' | b'['));
        // `a.b = 1` and `a.c = 2` are two statements about one table.
        if let (Value::Object(_), DeValue::Table(inner), false) =
            (&*found, value.get_ref(), is_closed)
        {
            if let Some((Whole::Closed, first)) = self.whole.get(&pointer).cloned() {
                self.closed(key.get_ref(), first, place);
                return;
            }
            for (key, value) in inner.iter() {
                self.put(&pointer, key, value, offset);
            }
            return;
        }
        if !found.is_null() {
            let first = Some(self.parsed.spans.key(&pointer));
            self.parsed.errors.push(SyntaxError {
                first,
                ..SyntaxError::new(
                    SyntaxKind::KeyTwice,
                    place,
                    format!("`{}` is given twice in one table", key.get_ref()),
                    "Keep one of them.",
                )
            });
            return;
        }
        let span = value.span().start + offset..value.span().end + offset;
        if matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_)) {
            let how = if is_closed {
                Whole::Closed
            } else {
                Whole::Dotted
            };
            self.whole.insert(pointer.clone(), (how, place.clone()));
        }
        self.parsed.spans.insert(&pointer, place, span);
        let mut walk = Walk::new(&mut self.parsed, offset, pointer.clone());
        let json = walk.value(value);
        if let Some(found) = slot(&mut self.parsed.value, &pointer) {
            *found = json;
        }
    }

    /// A table or list that was given whole before.
    fn closed(&mut self, key: &str, first: Range<usize>, place: Range<usize>) {
        self.parsed.errors.push(SyntaxError {
            first: Some(first),
            ..SyntaxError::new(
                SyntaxKind::KeyTwice,
                place,
                format!("`{key}` is given already, and nothing can be added to it here"),
                "Write all of it in one place.",
            )
        });
    }

    fn give_up(&mut self, at: usize) {
        let message = format!(
            "the file has more than {MOST_ERRORS} such mistakes; from here on it was not looked at"
        );
        self.parsed.errors.push(SyntaxError::new(
            SyntaxKind::NotToml,
            at..at,
            message,
            "Correct those before it, and look again.",
        ));
        self.parsed.names_unknown = Kinds::ALL;
        self.parsed.lost_text.push(self.text[at..].to_owned());
    }
}
