//! What a line that is no TOML was meant to be: a header, an object, a key.

use super::load::ObjectKind;
use super::schema::properties;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The path of a header that is TOML by itself, with the places of its parts.
pub(super) fn header_path(header: &str) -> Option<Vec<(String, Range<usize>)>> {
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
pub(super) fn lost_header(line: &str) -> Option<&'static str> {
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
pub(super) fn guessed_header(header: &str) -> Option<Vec<(String, Range<usize>)>> {
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
    if name.contains(['"', '\'', '\\']) || header.starts_with("[[") {
        return None;
    }
    // One of a table in an object is two names.
    let mut of_object = properties(&format!("/{kind}/x"));
    let last = name.rsplit(['.', ' ', '/']).next().unwrap_or(name);
    if last != name && of_object.any(|p| p == last) {
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
pub(super) fn guessed_key(statement: &str) -> Option<Vec<(String, Range<usize>)>> {
    let statement = statement.trim_start().trim_start_matches("- ");
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
        // One that is not closed, too: nothing in a list begins like this.
        let mut kinds = ObjectKind::ALL.into_iter().map(ObjectKind::word);
        let names_kind = |kind: &str| {
            let rest = inner.strip_prefix(kind);
            rest.is_some_and(|r| r.starts_with(['.', ' ', '/']))
        };
        if kinds.any(names_kind) {
            return true;
        }
        return !inner.contains(',')
            && inner.starts_with(|c: char| c.is_ascii_alphabetic())
            && header_path(line).is_some();
    }
    let Some((key, _)) = line.split_once('=') else {
        return false;
    };
    key.len() < 256 && header_path(&format!("{key} = 0")).is_some()
}
