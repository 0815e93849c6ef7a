//! The characters of a line that need not be TOML: those that stand in no text, and those that only look right.

/// Letters that look like Latin ones.
pub(super) const LOOK_ALIKE: &[(char, char)] = &[
    ('а', 'a'),
    ('е', 'e'),
    ('о', 'o'),
    ('р', 'p'),
    ('с', 'c'),
    ('х', 'x'),
    ('у', 'y'),
    ('і', 'i'),
    ('к', 'k'),
    ('м', 'm'),
    ('н', 'h'),
    ('т', 't'),
    ('ο', 'o'),
    ('α', 'a'),
];

/// `1,000,000`; with a point twice at least, or it is a fraction.
pub(super) fn is_in_threes(word: &str, mark: char) -> bool {
    let mut groups = word.split(mark);
    let first = groups.next().unwrap_or_default();
    let is_digits = |g: &str| !g.is_empty() && g.bytes().all(|b| b.is_ascii_digit());
    let begins = is_digits(first) && !first.starts_with('0') && first.len() <= 3;
    let rest: Vec<&str> = groups.collect();
    let least = if mark == '.' { 2 } else { 1 };
    begins && rest.len() >= least && rest.iter().all(|g| g.len() == 3 && is_digits(g))
}

/// Blanks that are none of TOML's, and what takes no room at all.
pub(super) fn is_invisible(c: char) -> bool {
    !c.is_ascii() && c.is_whitespace()
        || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

pub(super) fn is_odd_quote(c: char) -> bool {
    "“”„‟‘’«»".contains(c)
}

/// What makes an escape of the `\\` before it.
pub(super) fn is_escape(c: char) -> bool {
    "btnfre\"\\uUx".contains(c)
}

/// The characters of a line that stand in no text and no comment. A text that is not closed goes to the end.
pub(super) fn outside_quotes(line: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut quote = None;
    let mut escaped = false;
    let mut ended = false;
    line.char_indices().filter(move |(_, c)| {
        if ended {
            return false;
        }
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if *c == '\\' => escaped = true,
            Some(q) if q == *c => quote = None,
            Some(_) => {}
            None if *c == '"' || *c == '\'' => quote = Some(*c),
            None => {
                ended = *c == '#';
                return true;
            }
        }
        false
    })
}

/// A line without the comment at its end.
pub(super) fn without_comment(line: &str) -> &str {
    let comment = outside_quotes(line).find(|(_, c)| *c == '#');
    comment.map_or(line, |(at, _)| &line[..at])
}

/// What other formats call a value that is not there.
pub(super) fn is_nothing(word: &str) -> bool {
    ["null", "nil", "none", "undefined", "~"].contains(&word.to_ascii_lowercase().as_str())
}
