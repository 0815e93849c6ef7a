//! Headers of a part that do not say of which object: `[data]` behind `[node.a]`, where `[node.a.data]` is meant.

use super::load::ObjectKind;
use super::mend::{Mend, is_called_as_a_property, is_shadow, shown_name};
use super::schema::{is_free, is_list, properties, required};
use super::spans::{escape, unescape};
use super::words::closest;
use crate::diag::Code;
use serde_json::Value;

/// The pointers of all objects, by where they begin.
pub(super) type Objects = Vec<(usize, String)>;

/// Each of them is compared with every name.
const MOST_STRANGERS: usize = 32;

impl Mend<'_> {
    /// Looks at every key of the file that is no kind, at parts of no object, and at objects of which there are only parts.
    pub(super) fn astray(&mut self) {
        let is_odd = |key: &String| key != "visor" && ObjectKind::of_word(key).is_none();
        let odd: Vec<String> = self.keys("").into_iter().filter(is_odd).collect();
        let mut nameless = Vec::new();
        for kind in ObjectKind::ALL.map(ObjectKind::word) {
            let keys = self.keys(&format!("/{kind}"));
            let pointers = keys.iter().map(|key| format!("/{kind}/{}", escape(key)));
            let parts = pointers.filter(|p| is_called_as_a_property(p) && self.has_header(p));
            nameless.extend(parts);
        }
        let objects = self.objects();
        for key in odd {
            self.lead_back(&format!("/{}", escape(&key)), &objects);
        }
        for pointer in nameless {
            self.lead_back(&pointer, &objects);
        }
        self.strangers(&objects);
    }

    /// `[upgrade.uu.health]` beside `[upgrade.u]`: headers of a part whose object has no header of its own, and lacks what it needs.
    fn strangers(&mut self, objects: &Objects) {
        let lacks = |pointer: &str| {
            let table = self.table(pointer);
            let mut needed = required(pointer);
            table.is_some_and(|t| needed.any(|key| !t.contains_key(key)))
        };
        let is_strange = |(_, p): &&(usize, String)| !self.has_header(p) && lacks(p);
        let strange: Vec<String> = objects
            .iter()
            .filter(is_strange)
            .take(MOST_STRANGERS)
            .map(|(_, p)| p.clone())
            .collect();
        for pointer in &strange {
            let mut parts = pointer.split('/').skip(1);
            let (kind, name) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            let Some(word) = ObjectKind::of_word(kind) else {
                continue;
            };
            let Some(table) = self.table(pointer).cloned() else {
                continue;
            };
            let key = self.parsed.spans.key(pointer);
            let header = self.header(&key);
            let known = properties(pointer);
            let is_part = |(k, v): (&String, &Value)| {
                (v.is_object() || v.is_array()) && known.clone().any(|p| p == k)
            };
            let own = table.iter().all(is_part);
            let Some(header) = header.filter(|_| own && !table.is_empty()) else {
                continue;
            };
            let whole = |p: &&String| {
                let there = self.table(p);
                p.starts_with(&format!("/{kind}/"))
                    && self.has_header(p)
                    && there.is_some_and(|t| !table.keys().any(|k| t.contains_key(k)))
            };
            let names = objects.iter().map(|(_, p)| p).filter(whole);
            let names: Vec<String> = names
                .filter_map(|p| p.rsplit_once('/').map(|(_, n)| unescape(n).into_owned()))
                .collect();
            let name = unescape(name).into_owned();
            let Some(near) = closest(&name, names.iter().map(String::as_str)) else {
                continue;
            };
            self.say(
                Code::Dangling,
                header,
                format!("there is no {kind} \"{name}\" that this could be a part of"),
                format!("Did you mean {kind} \"{near}\"?"),
            );
            if let Some(value) = self.take(pointer) {
                self.put(value, pointer, word, near);
            }
        }
    }

    /// Moves what stands at such a header, `[data]` or `[node.data]`, into the object that was begun last before it, and says so. Nothing
    /// is done when that has no such part, or has it already.
    fn lead_back(&mut self, here: &str, objects: &Objects) {
        let (above, key) = here.rsplit_once('/').unwrap_or_default();
        let key = unescape(key).into_owned();
        let span = self.parsed.spans.key(here);
        let Some(header) = self.header(&span) else {
            return;
        };
        let before = objects.partition_point(|(start, _)| *start < header.start);
        let Some((_, object)) = before.checked_sub(1).map(|i| &objects[i]) else {
            return;
        };
        let to = format!("{object}/{}", escape(&key));
        let Some(value) = self.parsed.find(here).cloned() else {
            return;
        };
        let known = properties(&to);
        let is_list = is_list(&to);
        let is_of_it = match &value {
            // In a table of the user's own keys, any will do.
            Value::Object(table) if is_free(&to) => table.values().all(Value::is_string),
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
            || there.is_none_or(|t| t.contains_key(&key))
            || !object.starts_with(above)
        {
            return;
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
        if above.is_empty() {
            let message = format!("there is no kind `{key}`; an object of kind {kind} has it");
            self.say(Code::UnknownKey, span, message, format!("Write {meant}."));
        } else {
            let message = format!("this does not say of which {kind} it is the `{key}`");
            self.say(Code::NoName, header, message, format!("Write {meant}."));
        }
        self.take(here);
        self.parsed.spans.rename(&value, here, &to);
        self.move_pointers(here, &to);
        let object = self.parsed.find_mut(&object);
        if let Some(object) = object.and_then(Value::as_object_mut) {
            object.insert(key, value);
        }
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
