//! Text of others on a terminal: what would be obeyed there, or would turn the line around, is shown instead.

use std::borrow::Cow;

/// A text whose characters of control are pictures of themselves; ends of lines and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return text.into();
    }
    text.chars()
        .map(|c| match c {
            '\0'..='\u{1f}' if is_obeyed(c) => {
                char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')
            }
            '\u{7f}' => '\u{2421}',
            c if is_obeyed(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Controls of both sets, and those that change the direction of text.
fn is_obeyed(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What the renderer of excerpts leaves as it is, byte for byte as long, for the places in them are known.
pub(super) fn without_c1(text: String) -> String {
    let is_c1 = |c: char| matches!(c, '\u{80}'..='\u{9f}');
    let is_mark = |c: char| matches!(c, '\u{200e}' | '\u{200f}');
    if text.contains(|c| is_c1(c) || is_mark(c)) {
        text.replace(is_c1, "\u{b7}").replace(is_mark, "\u{fffd}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(
            visible("a\u{1b}[31m\u{7}\n\u{9b}\u{202e}b"),
            "a\u{241b}[31m\u{2407}\n\u{fffd}\u{fffd}b"
        );
        assert_eq!(without_c1("a\u{9b}b".into()), "a\u{b7}b");
        assert!(matches!(visible("plain, naïve\n"), Cow::Borrowed(_)));
    }
}
