//! Headers of a part that do not say of which object: `[data]` behind `[node.a]`, where `[node.a.data]` is meant.

use super::load::ObjectKind;
use super::mend::{Mend, is_called_as_a_property, is_shadow, shown_name};
use super::schema::{properties, schema_at};
use super::spans::{escape, unescape};
use crate::diag::Code;
use serde_json::Value;

/// The pointers of all objects, by where they begin.
pub(super) type Objects = Vec<(usize, String)>;

impl Mend<'_> {
    /// Looks at every key of the file that is no kind.
    pub(super) fn astray(&mut self) {
        let is_odd = |key: &String| key != "visor" && ObjectKind::of_word(key).is_none();
        let odd: Vec<String> = self.keys("").into_iter().filter(is_odd).collect();
        if odd.is_empty() {
            return;
        }
        let objects = self.objects();
        for key in odd {
            self.is_astray(&key, &objects);
        }
    }

    /// Moves what stands at such a header into the object that was begun last before it, and says so; false when that has no such
    /// part, or has it already.
    fn is_astray(&mut self, key: &str, objects: &Objects) -> bool {
        let here = format!("/{}", escape(key));
        let span = self.parsed.spans.key(&here);
        let Some(header) = self.header(&span) else {
            return false;
        };
        let before = objects.partition_point(|(start, _)| *start < header.start);
        let Some((_, object)) = before.checked_sub(1).map(|i| &objects[i]) else {
            return false;
        };
        let to = format!("{object}/{}", escape(key));
        let Some(value) = self.parsed.find(&here).cloned() else {
            return false;
        };
        let known = properties(&to);
        let is_list = schema_at(&to).is_some_and(|s| s["type"] == "array");
        let is_free = schema_at(&to).is_some_and(|s| s["additionalProperties"].is_object());
        let is_of_it = match &value {
            // In a table of the user's own keys, any will do.
            Value::Object(table) if is_free => table.values().all(Value::is_string),
            // What stands behind it may be the object's again.
            Value::Object(table) => {
                let is_known = |k: &String| known.clone().any(|p| p == k);
                let is_own = |k: &String| properties(object).any(|p| p == k);
                table.keys().any(is_known) && table.keys().all(|k| is_known(k) || is_own(k))
            }
            Value::Array(items) => is_list && items.iter().all(Value::is_object),
            _ => false,
        };
        let there = self.table(object);
        if !properties(object).any(|p| p == key)
            || !is_of_it
            || there.is_none_or(|t| t.contains_key(key))
        {
            return false;
        }
        let mut parts = object.split('/').skip(1);
        let (kind, name) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let whole = format!("{kind}.{}.{key}", shown_name(&unescape(name)));
        let meant = if is_list {
            format!("[[{whole}]]")
        } else {
            format!("[{whole}]")
        };
        let object = object.clone();
        self.say(
            Code::UnknownKey,
            span,
            format!("there is no kind `{key}`; an object of kind {kind} has it"),
            format!("Write {meant}."),
        );
        self.take(&here);
        self.parsed.spans.rename(&value, &here, &to);
        self.move_pointers(&here, &to);
        let object = self.parsed.find_mut(&object);
        if let Some(object) = object.and_then(Value::as_object_mut) {
            object.insert(key.to_owned(), value);
        }
        true
    }

    fn objects(&self) -> Objects {
        let mut all = Objects::new();
        for kind in ObjectKind::ALL.map(ObjectKind::word) {
            for name in self
                .keys(&format!("/{kind}"))
                .iter()
                .filter(|n| !is_shadow(n))
            {
                let pointer = format!("/{kind}/{}", escape(name));
                if is_called_as_a_property(&pointer) {
                    continue;
                }
                all.push((self.parsed.spans.key(&pointer).start, pointer));
            }
        }
        all.sort_unstable();
        all
    }
}
