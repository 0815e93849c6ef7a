//! Lines, and where strings and brackets are open from one to the next, in a text that need not be TOML.

use std::ops::Range;

/// Follows strings and brackets from line to line.
#[derive(Default)]
pub(super) struct Lexer {
    /// The brackets that are open.
    open: Vec<u8>,
    pub(super) multi_line: Option<&'static str>,
}

impl Lexer {
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// True where an element of a list stands next.
    pub(super) fn is_in_list(&self) -> bool {
        self.multi_line.is_none() && self.open.last() == Some(&b'[')
    }

    /// True where a key of an inline table stands next.
    pub(super) fn is_in_table(&self) -> bool {
        self.multi_line.is_none() && self.open.last() == Some(&b'{')
    }

    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty() || self.multi_line.is_some()
    }

    pub(super) fn feed(&mut self, line: &str) {
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
                bracket @ (b'[' | b'{') => self.open.push(bracket),
                b']' | b'}' => drop(self.open.pop()),
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

/// The line that holds a byte, with its end.
pub(super) fn line_at(text: &str, at: usize) -> Range<usize> {
    let end = text[at..].find('\n').map_or(text.len(), |n| at + n + 1);
    at..end
}

pub(super) fn trimmed_end(text: &str, line: &Range<usize>) -> usize {
    line.start + text[line.clone()].trim_end().len()
}

/// What stands behind the `=` of a line.
pub(super) fn value_part(text: &str, line: &Range<usize>) -> Range<usize> {
    let behind = text[line.clone()].find('=').map_or(0, |n| n + 1);
    let value = &text[line.start + behind..line.end];
    line.end - value.trim_start().len()..line.end
}
