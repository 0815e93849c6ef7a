//! Headers: where they stand, and those that cannot be read: which they mean, and how they are cured.

use super::advice::Line;
use super::characters::without_comment;
use super::guess::{LONGEST_KEY, plainly};
use super::load::ObjectKind;
use super::mend::{Mend, shown_name};
use super::parse::SyntaxError;
use super::schema::{is_list, properties};
use super::spans::escape;
use crate::model::Name;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The path that a text of TOML opens first, a header's or a key's, with the places of its parts.
pub(super) fn first_path(header: &str) -> Option<Vec<(String, Range<usize>)>> {
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

/// A header that cannot be read, and what it means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MeantHeader {
    /// Kind and name, and a property of the object.
    pub(super) path: Vec<String>,
    /// As it is written.
    pub(super) text: String,
    /// Nothing else can be meant.
    pub(super) is_certain: bool,
}

/// The header that a line means: `[node a]`, `[hook/a]`, `upgrade.v2]`, `(node.a)`, `node "a" {`.
pub(super) fn meant_header(line: &str) -> Option<MeantHeader> {
    let code = without_comment(line).trim();
    let is_bracketed = code.starts_with('[');
    let is_block = code.ends_with('{');
    let inner = code.trim_start_matches(['[', '(', '{', '<', '"', '\'', '.', ' ']);
    let inner = inner.trim_end_matches([']', ')', '}', '>', '"', '\'', '.', ' ', ':', '{']);
    if inner.len() == code.len() || inner.len() > LONGEST_KEY {
        return None;
    }
    let plain = plainly(inner);
    let mut kinds = ObjectKind::ALL.into_iter().map(ObjectKind::word);
    let kind = kinds.find(|k| plain.starts_with(k))?;
    let joints: &[char] = match (is_bracketed, is_block) {
        (true, _) => &['.', '/', ' ', ':', '-'],
        (false, true) => &['.', ' '],
        (false, false) => &['.'],
    };
    let rest = &plain[kind.len()..];
    if !rest.starts_with(joints) || rest.contains(['=', ',', '[', ']', '{', '(']) {
        return None;
    }
    let is_around = |c: char| joints.contains(&c) || "\"'".contains(c);
    let mut name = rest.trim_matches(is_around);
    // The last part may be a table of the object; a name may hold a `-`.
    let last = name.rsplit(['.', '/', ' ', ':']).next().unwrap_or(name);
    let mut of_object = properties(&format!("/{kind}/x"));
    let property = (last != name && of_object.any(|p| p == last)).then_some(last);
    if let Some(property) = property {
        name = name[..name.len() - property.len()].trim_end_matches(is_around);
    }
    // A name that stands in quotes and is followed by more is no name.
    if name.is_empty() || name.contains(['"', '\'', '\\']) || !is_bracketed && name.contains(' ') {
        return None;
    }
    // What can be in no name is no part of what is meant.
    let fitting = |c: char| if Name::may_hold(c) { c } else { '-' };
    let right: String = name.chars().map(fitting).collect();
    let parts = [kind, &right].into_iter().chain(property);
    let path: Vec<String> = parts.map(str::to_owned).collect();
    let object = format!("{kind}.{}", shown_name(&right));
    Some(MeantHeader {
        text: match property {
            Some(property) if adds_to_list(&path) => format!("[[{object}.{property}]]"),
            Some(property) => format!("[{object}.{property}]"),
            None => format!("[{object}]"),
        },
        // Alone in quotes it may be an element of a list that is not closed.
        is_certain: !is_block
            && property.is_none()
            && right == name
            && !code.starts_with(['"', '\'']),
        path,
    })
}

/// True for `[data] = …`: brackets around a key, which make no header of it.
pub(super) fn key_in_brackets(line: &str) -> bool {
    let Some((inner, rest)) = line.trim_start_matches('[').split_once(']') else {
        return false;
    };
    let kind = inner.split_once('.').map_or("", |(kind, _)| kind.trim());
    rest.trim_start().starts_with('=') && ObjectKind::of_word(kind).is_none()
}

/// True for a list of tables, which headers of two brackets add to.
pub(super) fn adds_to_list(path: &[String]) -> bool {
    let pointer: String = path
        .iter()
        .map(|part| format!("/{}", escape(part)))
        .collect();
    is_list(&pointer)
}

impl Line<'_> {
    /// A line that begins with `[` and is no header yet.
    pub(super) fn header(&self, code: &str) -> Option<SyntaxError> {
        let bare = without_comment(code).trim_end();
        let name = bare.trim_start_matches('[').trim_end_matches(']').trim();
        let opens = bare.len() - bare.trim_start_matches('[').len();
        let closes = bare.len() - bare.trim_end_matches(']').len();
        if let Some((_, rest)) = name.split_once(']') {
            let rest = rest.trim_start();
            let message = "something stands behind the header";
            let help = "Put it on a line of its own.";
            return Some(self.error(rest, message.into(), help.into()));
        }
        if name.is_empty() {
            let message = "this header names nothing";
            let help = "Write [KIND.NAME], such as [node.validator].";
            return Some(self.error(bare, message.into(), help.into()));
        }
        let path = first_path(&format!("[{name}]"));
        // A header in an object is one of a list by the schema, any other by what stands before it.
        let wanted = match path.as_deref() {
            Some([_, _, ..]) => {
                let parts = path.into_iter().flatten().map(|(part, _)| part);
                1 + usize::from(adds_to_list(&parts.collect::<Vec<_>>()))
            }
            _ => opens.min(2),
        };
        if opens == closes {
            return None;
        }
        let closing = &"]]"[..wanted];
        if opens == wanted && closes < wanted {
            let message = "the header is not closed";
            let help = format!("End it with `{closing}`.");
            let end = &bare[bare.len() - closes..];
            let mut error = self.cured(end, message.into(), help, closing);
            error.span.start = self.start + self.offset(bare);
            return Some(error);
        }
        let header = format!("{}{name}{closing}", &"[["[..wanted]);
        let message = "the brackets of the header do not match";
        let help = format!("Write {header}.");
        Some(self.cured(bare, message.into(), help, &header))
    }
}

/// No header of a manifest has more bytes on either side of a part of it.
const LONGEST_HEADER: usize = 1024;

impl Mend<'_> {
    /// The whole header around a span, brackets and all, when it stands alone on its line. Longer lines are none.
    pub(super) fn header(&self, span: &Range<usize>) -> Option<Range<usize>> {
        let text = self.text.as_bytes();
        let before = text.get(..span.start)?;
        let newline = before
            .iter()
            .rev()
            .take(LONGEST_HEADER)
            .position(|b| *b == b'\n');
        let start = match newline {
            Some(back) => span.start - back,
            None if span.start < LONGEST_HEADER => 0,
            None => return None,
        };
        let behind = text[span.start..].iter().take(LONGEST_HEADER);
        let end = behind.clone().position(|b| *b == b'\n');
        let end = match end {
            Some(end) => span.start + end,
            None if behind.len() < LONGEST_HEADER => text.len(),
            None => return None,
        };
        let line = without_comment(&self.text[start..end]).trim_end();
        let bare = line.trim_start();
        let at = start + line.len() - bare.len();
        (bare.starts_with('[') && bare.ends_with(']')).then(|| at..at + bare.len())
    }

    /// The last header before a place, brackets and all.
    pub(super) fn header_above(&self, at: usize) -> Option<Range<usize>> {
        let from = at.saturating_sub(8 * LONGEST_HEADER);
        let before = self.text.as_bytes().get(from..at)?;
        let starts = before.windows(2).rposition(|w| w == b"\n[")?;
        let start = from + starts + 1;
        self.header(&(start..start))
    }

    /// True when an object stands in a header that ends with its name.
    pub(super) fn has_header(&self, pointer: &str) -> bool {
        let key = self.parsed.spans.key(pointer);
        let header = self.header(&key);
        // What cannot be read has its whole line for a key.
        let rest = header.and_then(|h| self.text.get(key.end..h.end));
        rest.is_some_and(|rest| rest.trim_matches(['"', '\'', ' ', ']']).is_empty())
    }
}
