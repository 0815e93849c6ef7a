//! Names with dots and no quotes, which TOML reads as several names.

use super::load::ObjectKind;
use super::mend::{Mend, is_shadow};
use super::schema::properties;
use super::spans::escape;
use super::words::{closest, is_mark};
use crate::diag::Code;
use serde_json::{Map, Value};

impl Mend<'_> {
    /// `[upgrade.v2.0.1]`: a name with dots and no quotes.
    pub(super) fn dotted(&mut self, kind: ObjectKind) {
        let word = kind.word();
        for name in self.keys(&format!("/{word}")) {
            let here = format!("/{word}/{}", escape(&name));
            let holds_tables = |t: &Map<String, Value>| t.values().any(Value::is_object);
            if is_shadow(&name) || !self.table(&here).is_some_and(holds_tables) {
                continue;
            }
            let mut meant = Vec::new();
            self.inner(kind, &here, &name, &mut meant);
            // `v1.0 = "x"` below `[node.a]` is a key of it, and no name.
            let stands_in_one = |p: &str| self.header(&self.parsed.spans.key(p)).is_some();
            if !meant.is_empty() && stands_in_one(&here) {
                meant.retain(|(pointer, _)| stands_in_one(pointer));
            }
            for (pointer, whole) in meant {
                // From behind the kind to the end of the name, in its own header.
                let key = self.parsed.spans.key(&pointer);
                let header = self.header(&key).map(|h| (h.start, &self.text[h]));
                let start = header.and_then(|(at, text)| {
                    let bare = text.trim_start_matches('[');
                    let rest = bare.strip_prefix(word)?.strip_prefix('.')?;
                    Some(at + text.len() - rest.len())
                });
                let is_one = start.is_some_and(|start| start < key.end);
                let span = start.filter(|_| is_one).map_or(key.clone(), |s| s..key.end);
                self.say(
                    Code::UnquotedName,
                    span.clone(),
                    format!(
                        "the name \"{whole}\" has dots and no quotes, so it is read as several names"
                    ),
                    format!("Write [{word}.\"{whole}\"]."),
                );
                let there = self.text.get(span.clone()).unwrap_or_default();
                if is_one && there.replace(['"', '\'', ' '], "") == whole {
                    self.fix(span, format!("\"{whole}\""));
                }
                if let Some(value) = self.take(&pointer) {
                    self.put(value, &pointer, kind, &whole);
                }
            }
        }
    }

    /// Objects of a kind that stand below a name which was cut at its dots.
    fn inner(&self, kind: ObjectKind, at: &str, name: &str, out: &mut Vec<(String, String)>) {
        let known = properties(&format!("/{}/x", kind.word()));
        let is_property = |key: &str| known.clone().any(|k| k == key);
        let Some(table) = self.table(at) else { return };
        if at.matches('/').count() > 16 {
            return;
        }
        for (key, value) in table {
            let Some(below) = value.as_object().filter(|_| !is_mark(value)) else {
                continue;
            };
            let is_digits = key.chars().all(|c| c.is_ascii_digit());
            if is_property(key) || !is_digits && closest(key, known.clone()).is_some() {
                continue;
            }
            let whole = format!("{name}.{key}");
            let pointer = format!("{at}/{}", escape(key));
            let before = out.len();
            self.inner(kind, &pointer, &whole, out);
            let says_something = below.keys().any(|k| is_property(k));
            if says_something || is_digits && out.len() == before {
                out.push((pointer, whole));
            }
        }
    }
}
