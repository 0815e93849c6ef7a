//! How deep a text is nested, found before the parser sees it: that goes down by recursion, and a text of hostile depth would end the
//! process with its stack.

use super::characters::outside_quotes;
use super::lexer::Lexer;

/// Brackets in brackets, or parts of a key. The parser itself takes 80; a stack of 8 MiB holds some thousands.
pub(super) const DEEPEST: usize = 128;

/// True for a text that the parser is not given.
pub(super) fn is_deep(text: &str) -> bool {
    // Nearly all texts are settled by their length, or by that.
    let count = |is_mark: fn(&u8) -> bool| text.as_bytes().iter().filter(|b| is_mark(b)).count();
    let (brackets, dots) = (|b: &u8| matches!(b, b'[' | b'{'), |b: &u8| *b == b'.');
    text.len() > DEEPEST
        && (count(brackets) > DEEPEST && has_deep_brackets(text)
            || count(dots) > DEEPEST && has_long_key(text))
}

fn has_deep_brackets(text: &str) -> bool {
    let mut lexer = Lexer::default();
    text.split_inclusive('\n').any(|line| {
        let opens = line.bytes().filter(|b| b"[{".contains(b)).count();
        lexer.feed(line);
        // On one line they may be closed again.
        lexer.depth() + opens > DEEPEST && (lexer.depth() > DEEPEST || is_deep_line(line))
    })
}

fn is_deep_line(line: &str) -> bool {
    let mut depth = 0usize;
    outside_quotes(line).any(|(_, c)| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEEPEST
    })
}

/// A key with too many parts: dots with nothing between them that ends a key.
fn has_long_key(text: &str) -> bool {
    let is_long = |line: &str| {
        let mut dots = 0;
        outside_quotes(line).any(|(_, c)| {
            dots = match c {
                '.' => dots + 1,
                ' ' | '\t' | '_' | '-' => dots,
                c if c.is_alphanumeric() => dots,
                _ => 0,
            };
            dots > DEEPEST
        })
    };
    text.lines().any(is_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_seen_and_length_is_none() {
        for deep in [
            "retry = { times = 3\n".repeat(200),
            format!("a = {}", "[".repeat(200)),
            format!("[{}a]", "a.".repeat(200)),
            format!("{}a = 1", "\"a\" . ".repeat(200)),
        ] {
            assert!(is_deep(&deep), "{deep}");
        }
        for flat in [
            "[hook.h]\nrun = [\"x\"]\n".repeat(500),
            format!("a = [{}]", "1.5, ".repeat(500)),
            format!("a = \"{}\"", "a.".repeat(500)),
            format!("a = [{}]", "[1], { b = 1 }, ".repeat(500)),
            format!("a = \"{}\" # {}", "[".repeat(500), "{".repeat(500)),
        ] {
            assert!(!is_deep(&flat), "{flat}");
        }
    }
}
