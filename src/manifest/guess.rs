//! What a line that is no TOML was meant to be: a key, a part of a list, a statement of its own.

use super::characters::{LOOK_ALIKE, is_invisible, is_nothing, without_comment};
use super::headers::first_path;
use super::load::ObjectKind;
use super::schema::{is_free, properties};
use super::words::closest;

/// A key with more bytes than this is no key of a manifest.
pub(super) const LONGEST_KEY: usize = 256;

/// The key of a statement that cannot be read, in its parts: what stands before `=`, or its first word. Letters that only look Latin
/// are read as those, and what stands around it by mistake (`$chain`, `"chain`, `export chain`) is left out: of what the key may
/// be, one that the table has.
pub(super) fn guessed_key(statement: &str, table: &str) -> Option<Vec<String>> {
    let statement = statement.trim_start().trim_start_matches("- ");
    let (before, is_key) = match statement.split_once('=') {
        Some((before, _)) => (before.trim(), true),
        None => (statement.trim(), false),
    };
    if before.len() > LONGEST_KEY {
        return None;
    }
    let before = plainly(before);
    let bare = before.trim_matches(|c: char| !c.is_alphanumeric());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let words = || bare.split(|c| !is_plain(c)).filter(|w| !w.is_empty());
    let joined = bare.split_whitespace().collect::<Vec<_>>().join("-");
    let parse = |key: &str| -> Option<Vec<String>> {
        let path = first_path(&format!("{key} = 0"))?;
        Some(path.into_iter().map(|(part, _)| part).collect())
    };
    let is_odd = |key: &str| is_key && key.chars().all(|c| is_plain(c) || !c.is_ascii());
    let odd = Some(joined.as_str()).filter(|key| is_odd(key) && !key.is_empty());
    let as_given = [before.as_str(), bare]
        .into_iter()
        .filter(|k| !k.is_empty());
    let mut found: Vec<Vec<String>> = as_given.filter_map(parse).collect();
    let in_parts = odd.map(|key| key.split('.').map(str::to_owned).collect::<Vec<_>>());
    found.extend(in_parts.filter(|parts| parts.iter().all(|p| !p.is_empty())));
    let of_words = [words().next(), words().next_back().filter(|_| is_key)];
    found.extend(of_words.into_iter().flatten().filter_map(parse));
    let is_known = |path: &&Vec<String>| closest(&path[0], properties(table)).is_some();
    // A word in the midst of a line that begins with no key is none.
    let begins = before.starts_with(|c: char| c.is_alphanumeric() || "_\"'".contains(c));
    let known = found.iter().find(is_known);
    known.or(found.first().filter(|_| begins)).cloned()
}

/// A text without the letters that only look Latin, and without what nobody sees.
pub(super) fn plainly(text: &str) -> String {
    let latin = |c: char| {
        let alike = LOOK_ALIKE.iter().find(|(odd, _)| *odd == c);
        alike.map_or(c, |(_, latin)| *latin)
    };
    let seen = text.chars().filter(|c| !is_invisible(*c));
    seen.map(latin).collect()
}

/// True when what stands for the value of a statement may name something.
pub(super) fn says_a_word(statement: &str) -> bool {
    let lines = statement.lines().map(without_comment);
    let text = lines.collect::<Vec<_>>().join(" ");
    let mut parts = text.split('=').skip(1).peekable();
    while let Some(part) = parts.next() {
        // The word before another `=` is a key.
        let value = match parts.peek() {
            Some(_) => part
                .trim_end()
                .trim_end_matches(|c: char| !" ,{".contains(c)),
            None => part,
        };
        if value.contains(char::is_alphabetic) && !is_nothing(value.trim()) {
            return true;
        }
    }
    false
}

/// True when a line can be a part of the list or table that is open behind the line before it: an element stands behind a comma or a
/// bracket; nothing else that begins with a letter is one.
pub(super) fn may_go_on(before: &str, line: &str) -> bool {
    let before = without_comment(before).trim_end();
    before.is_empty()
        || before.ends_with([',', '[', '{'])
        || !line.trim_start().starts_with(char::is_alphabetic)
}

/// A line that is blank, a comment, a header, or begins with a key and `=`.
pub(super) fn begins_statement(line: &str) -> bool {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') || names_kind(line) {
        return true;
    }
    if let Some(inner) = line.strip_prefix('[') {
        let inner = inner.trim_start_matches('[');
        return !inner.contains(',')
            && inner.starts_with(|c: char| c.is_ascii_alphabetic())
            && line.len() <= LONGEST_KEY
            && first_path(line).is_some();
    }
    begins_key(line)
}

/// A header of an object, or the beginning of one that is not closed: nothing in a list or a table begins like this.
pub(super) fn names_kind(line: &str) -> bool {
    let Some(inner) = line.trim_start().strip_prefix('[') else {
        return false;
    };
    let inner = inner.trim_start_matches('[');
    let mut kinds = ObjectKind::ALL.into_iter().map(ObjectKind::word);
    kinds.any(|kind| {
        let rest = inner.strip_prefix(kind);
        rest.is_some_and(|r| r.starts_with(['.', ' ', '/', ']']))
    })
}

/// A line that begins with a key of a table, and not of the table above that.
pub(super) fn is_key_of(table: &str, line: &str) -> bool {
    let Some((key, _)) = line.split_once('=').filter(|_| begins_key(line)) else {
        return false;
    };
    let above = table.rsplit_once('/').map_or("", |(above, _)| above);
    let has = |table: &str| properties(table).any(|k| k == key.trim());
    (is_free(table) || has(table)) && !has(above)
}

/// A line that begins with a key and `=`.
pub(super) fn begins_key(line: &str) -> bool {
    let Some((key, _)) = line.trim_start().split_once('=') else {
        return false;
    };
    key.len() <= LONGEST_KEY && first_path(&format!("{key} = 0")).is_some()
}
