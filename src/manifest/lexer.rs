//! Where strings and brackets are open, from line to line, in a text that need not be TOML.

/// Follows strings and brackets from line to line.
#[derive(Default)]
pub(super) struct Lexer {
    pub(super) depth: usize,
    pub(super) multi_line: Option<&'static str>,
}

impl Lexer {
    pub(super) fn is_open(&self) -> bool {
        self.depth > 0 || self.multi_line.is_some()
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
