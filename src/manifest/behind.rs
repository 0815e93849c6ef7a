//! Mistakes behind a value that is whole: another statement, another value, a comma that lacks; and a key that is given twice in one
//! table.

use super::advice::{Line, trim_end};
use super::characters::{outside_quotes, without_comment};
use super::parse::{SyntaxError, SyntaxKind};
use std::collections::HashMap;
use std::ops::Range;
use toml::de::DeTable;

/// So many places are tried for the end of a value.
const MOST_TRIED: usize = 16;

fn is_value(text: &str) -> bool {
    DeTable::parse(&format!("x = {text}")).is_ok()
}

/// Where the first whole value of a text ends that holds more, and the character behind it.
fn end_of_value(text: &str) -> Option<(usize, char)> {
    let may_end = |(at, c): &(usize, char)| {
        *at > 0 && (" \t,;".contains(*c) || text[..*at].ends_with(['"', '\'']))
    };
    let mut ends = outside_quotes(text).filter(may_end).take(MOST_TRIED);
    ends.find(|(at, _)| is_value(&text[..*at]))
}

/// Two statements on one line, blanks or a mark between them: where the first ends, and where the second begins.
pub(super) fn two_statements(line: &str) -> Option<(usize, usize)> {
    let (key, value) = line.split_once('=')?;
    let value = value.trim_start();
    let begin = line.len() - value.len();
    let (end, _) = end_of_value(value)?;
    let second = value[end..].trim_start_matches([' ', '\t', '\r', ',', ';']);
    let is_statement = |text: &str| DeTable::parse(text).is_ok();
    let are_two =
        second.contains('=') && is_statement(second) && is_statement(&format!("{key} = 0"));
    are_two.then_some((begin + end, line.len() - second.len()))
}

impl Line<'_> {
    /// What stands behind the value on its line; `bare` is all of that.
    pub(super) fn behind(&self, key: &str, bare: &str) -> Option<SyntaxError> {
        let (end, joint) = end_of_value(bare)?;
        let rest = bare[end..].trim_start();
        let list = format!("[{bare}]");
        if joint == ',' && is_value(&list) {
            let message = "a list stands between `[` and `]`";
            let help = format!("Write `{key} = {list}`.");
            return Some(self.cured(bare, message.into(), help, &list));
        }
        let is_text = bare.starts_with(['"', '\'']);
        is_text.then(|| {
            let message = "something stands behind the text";
            let help = "Take it out; a text that holds one kind of quotes goes between the other.";
            self.error(rest, message.into(), help.into())
        })
    }

    /// The comma that lacks at the end of the line before.
    pub(super) fn comma_before(&self) -> Option<SyntaxError> {
        let line = self.before.trim_end().lines().last()?;
        let code = trim_end(without_comment(line));
        // A text that was not closed goes to the quote that opens the next.
        if code.matches('"').count() % 2 == 1 && !code.contains(['\'', '\\']) {
            let at = code.as_ptr() as usize - self.before.as_ptr() as usize;
            let begin = at + code.len() - code.trim_start().len();
            let span = begin..at + code.len();
            let (message, help) = ("the text is not closed", "End it with `\"`.");
            return Some(SyntaxError::new(SyntaxKind::NotToml, span, message, help));
        }
        if code.is_empty() || code.ends_with([',', '[', '{']) {
            return None;
        }
        // In `"a,"` the comma and the quote changed places.
        let is_turned = [",\"", ",'"].iter().any(|end| code.ends_with(end));
        let at = code.as_ptr() as usize - self.before.as_ptr() as usize + code.len();
        Some(SyntaxError {
            kind: SyntaxKind::NotToml,
            span: at - code.trim_start().len()..at,
            message: "there is no `,` behind this element".into(),
            help: "Put a `,` between the elements.".into(),
            first: None,
            fix: (!is_turned).then(|| (at..at, ",".into())),
        })
    }

    /// The key that an inline table of this line gives twice.
    pub(super) fn key_twice(&self) -> Option<SyntaxError> {
        let mut tables: Vec<HashMap<&str, Range<usize>>> = vec![];
        let mut begin = 0;
        for (at, c) in outside_quotes(self.line) {
            match c {
                '{' => tables.push(HashMap::new()),
                '}' => drop(tables.pop()),
                '=' if !tables.is_empty() => {
                    let key = self.line[begin..at].trim();
                    let from = self.start + self.offset(key);
                    let span = from..from + key.len();
                    let keys = tables.last_mut()?;
                    if let Some(first) = keys.insert(key, span.clone()) {
                        return Some(SyntaxError {
                            first: Some(first),
                            ..SyntaxError::new(
                                SyntaxKind::KeyTwice,
                                span,
                                format!("`{key}` is given twice in one table"),
                                "Keep one of them.",
                            )
                        });
                    }
                }
                _ => {}
            }
            if "{},".contains(c) {
                begin = at + 1;
            }
        }
        None
    }
}
