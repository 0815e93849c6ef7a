//! Mistakes of form that would hide what was meant: what stands below them is moved to where it belongs, so that every other rule still
//! looks at it, and the mistake itself is said once.
//!
//! ```text
//!  [upgrade.v2.0.1]     a name with dots          ─▶ upgrade."v2.0.1"
//!  [upgrades.v2]        a kind that is misspelt   ─▶ upgrade.v2
//!  ["upgrade.v2"]       quotes around too much    ─▶ upgrade.v2
//!  [[backup.x]]         a list for a table        ─▶ backup.x
//!  [artifact.x.file]    a table for a list        ─▶ artifact.x.file[0]
//!  [node]               an object without a name  ─▶ a shadow
//!  [data]               a part without an object  ─▶ node.x.data (`astray`)
//! ```
//!
//! A *shadow* is an object that rules look at and nothing can name: its name ends in a NUL and a number.

use super::load::ObjectKind;
use super::parse::Parsed;
use super::schema::{Flaw, FlawKind, properties};
use super::spans::{escape, unescape};
use super::structure::{is_below, is_slip};
use super::words::{closest, is_mark};
use crate::diag::{Code, Finding, Fix, Place};
use serde_json::{Map, Value};
use std::ops::Range;

/// The name that people gave to an object; nothing when they gave none.
pub(super) fn given_name(name: &str) -> &str {
    name.split('\0').next().unwrap_or_default()
}

pub(super) fn is_shadow(name: &str) -> bool {
    name.contains('\0')
}

/// Moves what was misplaced, and says so. `found` is what the schema says against the file as it is.
pub(super) fn mend(file: usize, text: &str, parsed: &mut Parsed, found: &[Flaw]) -> Vec<Finding> {
    // Whatever is misplaced makes a table stand where none is known, or a table and a list be taken for each other.
    let is_misplaced = |flaw: &Flaw| match &flaw.kind {
        FlawKind::Unknown(key) => {
            let table = parsed.find(&flaw.pointer).and_then(Value::as_object);
            let value = table.and_then(|t| t.get(key));
            let is_table = value.is_some_and(|v| (v.is_object() || v.is_array()) && !is_mark(v));
            is_table || is_called_as_a_property(&flaw.pointer)
        }
        FlawKind::Type(want) => want == "object" || want == "array",
        // An object of which only parts are there: `[upgrade.uu.health]`.
        FlawKind::Missing(_) if flaw.pointer.matches('/').count() == 2 => {
            let table = parsed.find(&flaw.pointer).and_then(Value::as_object);
            let is_part = |v: &Value| v.is_object() || v.is_array();
            table.is_some_and(|t| !t.is_empty() && t.values().all(is_part))
        }
        _ => false,
    };
    if !found.iter().any(is_misplaced) {
        return vec![];
    }
    let mut mend = Mend {
        file,
        text,
        parsed,
        findings: vec![],
        shadows: 0,
    };
    mend.root();
    mend.astray();
    for kind in ObjectKind::ALL {
        if mend.parsed.value.get(kind.word()).is_some() {
            mend.unnamed(kind);
            mend.lists(kind);
            mend.dotted(kind);
        }
    }
    mend.file_tables();
    for flaw in found {
        if let FlawKind::Unknown(key) = &flaw.kind {
            mend.slip(&flaw.pointer, key);
        }
    }
    mend.findings
}

pub(super) struct Mend<'a> {
    file: usize,
    pub(super) text: &'a str,
    pub(super) parsed: &'a mut Parsed,
    findings: Vec<Finding>,
    shadows: usize,
}

impl Mend<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.file, span)
    }

    pub(super) fn say(&mut self, code: Code, span: Range<usize>, message: String, help: String) {
        let place = self.place(span);
        self.findings
            .push(Finding::error(code, place, message, help));
    }

    pub(super) fn fix(&mut self, span: Range<usize>, text: String) {
        let fix = Fix::new(self.place(span), text);
        if let Some(last) = self.findings.last_mut() {
            last.fixes.push(fix);
        }
    }

    /// The edit of a key into another, where the key stands at the span: one that could not be read has no place of its own.
    pub(super) fn fix_key(&mut self, span: Range<usize>, key: &str, meant: &str) {
        if names(self.text, &span, key) {
            self.fix(span, meant.into());
        }
    }

    pub(super) fn table(&self, pointer: &str) -> Option<&Map<String, Value>> {
        let value = self.parsed.find(pointer)?;
        value.as_object().filter(|_| !is_mark(value))
    }

    pub(super) fn keys(&self, pointer: &str) -> Vec<String> {
        let table = self.table(pointer);
        table
            .map(|t| t.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn shadow(&mut self, name: &str) -> String {
        self.shadows += 1;
        format!("{name}\0m{}", self.shadows)
    }

    /// Takes a value out of the tree; tables that are left empty by that go too.
    pub(super) fn take(&mut self, pointer: &str) -> Option<Value> {
        let (above, key) = pointer.rsplit_once('/')?;
        let parent = self.parsed.find_mut(above)?.as_object_mut()?;
        let value = parent.remove(&*unescape(key));
        if parent.is_empty() && above.matches('/').count() > 1 {
            self.take(above);
        }
        value
    }

    /// What was lost below a pointer is lost below another now.
    pub(super) fn move_pointers(&mut self, from: &str, to: &str) {
        let moved = |pointer: &str| format!("{to}{}", &pointer[from.len()..]);
        let parsed = &mut *self.parsed;
        let alike = parsed.lost.range(from.to_owned()..);
        let below = alike.take_while(|p| p.starts_with(from));
        let below: Vec<String> = below.filter(|p| is_below(p, from)).cloned().collect();
        for pointer in below {
            parsed.lost.insert(moved(&pointer));
            parsed.lost.remove(&pointer);
        }
        // Of these there are no more than errors of syntax.
        let others = parsed.holes.iter_mut().chain(&mut parsed.silent);
        for pointer in others.chain(&mut parsed.guessed) {
            if is_below(pointer, from) {
                *pointer = moved(pointer);
            }
        }
    }

    /// Gives a value another place. One of that name which is there already makes it a shadow, or takes it in, when it has none of
    /// its keys: the rest of an object whose other headers are right.
    pub(super) fn put(&mut self, value: Value, from: &str, kind: ObjectKind, name: &str) {
        let kind = kind.word();
        let to = format!("/{kind}/{}", escape(name));
        let is_taken = self.parsed.find(&to).is_some();
        // Two that have a header of their own are two objects.
        let are_two = is_taken && self.has_header(&to) && self.has_header(from);
        if are_two {
            // What the edit makes would be opened twice.
            if let Some(last) = self.findings.last_mut() {
                last.fixes.clear();
            }
        }
        let taken = self.parsed.find(&to).filter(|v| !are_two && !is_mark(v));
        if let (Some(Value::Object(there)), Value::Object(more)) = (taken, &value)
            && !is_mark(&value)
            && !more.keys().any(|k| there.contains_key(k))
        {
            self.parsed.spans.rename(&value, from, &to);
            self.move_pointers(from, &to);
            let there = self.parsed.find_mut(&to).and_then(Value::as_object_mut);
            if let (Some(there), Value::Object(more)) = (there, value) {
                there.extend(more);
            }
            return;
        }
        let name = if is_taken {
            self.shadow(name)
        } else {
            name.to_owned()
        };
        let to = format!("/{kind}/{}", escape(&name));
        self.parsed.spans.rename(&value, from, &to);
        self.move_pointers(from, &to);
        if let Some(root) = self.parsed.value.as_object_mut() {
            let objects = root
                .entry(kind)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Some(objects) = objects.as_object_mut() {
                objects.insert(name, value);
            }
        }
    }

    /// Keys of the file that are nearly a kind, or hold a whole header in quotes.
    fn root(&mut self) {
        for key in self.keys("") {
            let here = format!("/{}", escape(&key));
            let span = self.parsed.spans.key(&here);
            if let Some((kind, name)) = key.split_once('.')
                && let Some(kind) = ObjectKind::of_word(kind)
                && self.table(&here).is_some()
            {
                let header = format!("{}.\"{name}\"", kind.word());
                self.say(
                    Code::UnquotedName,
                    span.clone(),
                    "the quotes stand around the kind and the name, which makes them one key"
                        .into(),
                    format!("Write [{header}]."),
                );
                self.fix_key(span, &key, &header);
                if let Some(value) = self.take(&here) {
                    self.put(value, &here, kind, name);
                }
                continue;
            }
            let is_known = key == "visor" || ObjectKind::of_word(&key).is_some();
            let names = self.keys(&here);
            // `[hook1]`, where `[hook.1]` is meant.
            let own = |kind: &ObjectKind| {
                let name = key
                    .strip_prefix(kind.word())?
                    .trim_start_matches(['-', '_', ' ']);
                let known = properties(&format!("/{}/x", kind.word()));
                let is_own = names.iter().any(|n| known.clone().any(|k| k == n));
                (is_own && !matches!(name, "" | "s")).then(|| (*kind, name.to_owned()))
            };
            if let Some((kind, name)) = ObjectKind::ALL.iter().find_map(own) {
                self.say(
                    Code::NoName,
                    span.clone(),
                    format!("`{key}` is no kind and a name"),
                    format!("Write [{}.{}].", kind.word(), shown_name(&name)),
                );
                if let Some(value) = self.take(&here) {
                    self.put(value, &here, kind, &name);
                }
                continue;
            }
            // `[hooks]` may be what an upgrade has: `astray`.
            let is_part = ObjectKind::ALL.map(ObjectKind::word).iter().any(|kind| {
                let known = properties(&format!("/{kind}/x/{}", escape(&key)));
                !names.is_empty() && names.iter().all(|n| known.clone().any(|k| k == n))
            });
            let holds_objects = names.iter().any(|n| {
                let below = format!("{here}/{}", escape(n));
                self.parsed
                    .find(&below)
                    .is_some_and(|v| v.is_object() || v.is_array())
            });
            let Some(kind) = meant_kind(&key).filter(|_| !is_known && !is_part && holds_objects)
            else {
                continue;
            };
            for name in names {
                let below = format!("{here}/{}", escape(&name));
                // Each object's own header names the kind.
                let start = self.parsed.spans.key(&below).start;
                let named = start.checked_sub(key.len() + 1).filter(|at| {
                    let before = self.text.get(*at..start);
                    before.is_some_and(|t| t == format!("{key}."))
                });
                let span = named.map_or(span.clone(), |at| at..at + key.len());
                self.say(
                    Code::UnknownKey,
                    span.clone(),
                    format!("there is no kind `{key}`"),
                    format!("Did you mean `{}`?", kind.word()),
                );
                self.fix_key(span, &key, kind.word());
                self.kinds_below(&below, &key, kind);
                if let Some(value) = self.take(&below) {
                    self.put(value, &below, kind, &name);
                }
            }
            self.take(&here);
        }
    }

    /// Headers below an object whose kind is misspelt name it once more: `[[artefact.a.file]]`.
    fn kinds_below(&mut self, pointer: &str, key: &str, kind: ObjectKind) {
        for name in self.keys(pointer) {
            let below = format!("{pointer}/{}", escape(&name));
            let span = self.parsed.spans.key(&below);
            let Some(header) = self.header(&span) else {
                continue;
            };
            let at = header.start + self.text[header.clone()].len()
                - self.text[header.clone()].trim_start_matches('[').len();
            if self.text[at..header.end].starts_with(&format!("{key}.")) {
                self.fix(at..at + key.len(), kind.word().into());
            }
        }
    }

    /// `[node]` and `[[node]]`: objects that nobody can name.
    fn unnamed(&mut self, kind: ObjectKind) {
        let word = kind.word();
        let here = format!("/{word}");
        let known = properties(&format!("{here}/x"));
        let span = self.parsed.spans.key(&here);
        match self.parsed.find(&here) {
            Some(Value::Array(items))
                if !items.is_empty() && items.iter().all(Value::is_object) =>
            {
                let items = items.clone();
                self.take(&here);
                for (i, mut item) in items.into_iter().enumerate() {
                    let from = format!("{here}/{i}");
                    let header = self.header(&self.parsed.spans.key(&from));
                    let fields = item.as_object_mut();
                    let name = fields.and_then(|f| f.remove("name"));
                    let name = name.as_ref().and_then(Value::as_str).map(str::to_owned);
                    self.say(
                        Code::NoName,
                        header.unwrap_or_else(|| span.clone()),
                        format!("`[[{word}]]` gives no name"),
                        match &name {
                            Some(name) => {
                                format!("Write [{word}.{}] in place of `name`.", shown_name(name))
                            }
                            None => format!("Write [{word}.NAME], once for each."),
                        },
                    );
                    // `[node.a]` behind `[[node]]` is read as a part of it, and means an object.
                    let fields = item.as_object_mut().into_iter().flatten();
                    let is_object = |(key, value): (&String, &Value)| {
                        value.is_object() && !known.clone().any(|k| k == key)
                    };
                    let named: Vec<String> = fields
                        .filter(|(k, v)| is_object((*k, &**v)))
                        .map(|(k, _)| k.clone())
                        .collect();
                    let given = name;
                    for name in named {
                        let object = item.as_object_mut().and_then(|o| o.remove(&name));
                        if let Some(object) = object {
                            let from = format!("{from}/{}", escape(&name));
                            self.put(object, &from, kind, &name);
                        }
                    }
                    let name = given.unwrap_or_else(|| self.shadow(""));
                    self.put(item, &from, kind, &name);
                }
            }
            Some(value @ Value::Object(table)) if !is_mark(value) => {
                let is_own = |key: &String| known.clone().any(|k| k == key);
                // A table that has the keys of a property, and none of an object, is the property.
                let is_property = |key: &String, value: &Map<String, Value>| {
                    let inner = properties(&format!("{here}/x/{}", escape(key)));
                    let is_known = |k: &String| inner.clone().any(|i| i == k) && !is_own(k);
                    !value.is_empty() && value.keys().all(is_known)
                };
                let says_something = |(key, value): (&String, &Value)| {
                    is_own(key) && value.as_object().is_none_or(|v| is_property(key, v))
                };
                if !table.iter().any(says_something) {
                    return;
                }
                let own = table.iter().filter(|(k, v)| is_own(k) || !v.is_object());
                let own: Vec<String> = own.map(|(k, _)| k.clone()).collect();
                // The table may have been opened by the header of another object.
                let first = own.first().map(|k| format!("{here}/{}", escape(k)));
                let first = first.map(|pointer| self.parsed.spans.key(&pointer).start);
                let header = first.and_then(|at| self.header_above(at));
                self.say(
                    Code::NoName,
                    header.unwrap_or_else(|| span.clone()),
                    format!("this {word} has no name"),
                    format!("Write [{word}.NAME]."),
                );
                let name = self.shadow("");
                let to = format!("{here}/{}", escape(&name));
                let mut object = Map::new();
                for key in own {
                    let (from, to) = (
                        format!("{here}/{}", escape(&key)),
                        format!("{to}/{}", escape(&key)),
                    );
                    if let Some(value) = self.take(&from) {
                        self.parsed.spans.rename(&value, &from, &to);
                        self.move_pointers(&from, &to);
                        object.insert(key, value);
                    }
                }
                self.parsed.spans.insert(&to, span.clone(), span);
                // What could not be read of the table was the object's.
                for hole in self.parsed.holes.iter_mut().filter(|h| **h == here) {
                    hole.clone_from(&to);
                }
                let objects = self.parsed.find_mut(&here);
                if let Some(objects) = objects.and_then(Value::as_object_mut) {
                    objects.insert(name, Value::Object(object));
                }
            }
            _ => {}
        }
    }

    /// `[[backup.x]]`: a list where one table is meant.
    fn lists(&mut self, kind: ObjectKind) {
        let word = kind.word();
        for name in self.keys(&format!("/{word}")) {
            let here = format!("/{word}/{}", escape(&name));
            let Some(Value::Array(items)) = self.parsed.find(&here) else {
                continue;
            };
            if items.is_empty() || !items.iter().all(Value::is_object) {
                continue;
            }
            let items = items.clone();
            let span = self.parsed.spans.key(&here);
            let header = self.header(&span);
            let shown = shown_name(&name);
            self.say(
                Code::WrongType,
                header.clone().unwrap_or(span),
                format!(
                    "`[[{word}.{shown}]]` opens a list, and {} {word} is one table",
                    article(word)
                ),
                format!("Write [{word}.{shown}]."),
            );
            if let Some(header) = header.filter(|_| items.len() == 1) {
                self.fix(header, format!("[{word}.{shown}]"));
            }
            self.take(&here);
            for (i, item) in items.into_iter().enumerate() {
                self.put(item, &format!("{here}/{i}"), kind, &name);
            }
        }
    }

    /// `[upgrade.x.helth]`: tables below a key with a slip.
    fn slip(&mut self, pointer: &str, key: &str) {
        let here = format!("{pointer}/{}", escape(key));
        let Some(value @ (Value::Object(_) | Value::Array(_))) = self.parsed.find(&here) else {
            return;
        };
        let value = value.clone();
        let Some(table) = self.table(pointer) else {
            return;
        };
        let absent = properties(pointer).filter(|k| !table.contains_key(*k));
        let Some(meant) = closest(key, absent).filter(|meant| is_slip(key, meant)) else {
            return;
        };
        let span = self.parsed.spans.key(&here);
        self.say(
            Code::UnknownKey,
            span.clone(),
            format!("there is no key `{key}` here"),
            format!("Did you mean `{meant}`?"),
        );
        self.fix_key(span, key, meant);
        let to = format!("{pointer}/{meant}");
        self.parsed.spans.rename(&value, &here, &to);
        let table = self.parsed.find_mut(pointer);
        if let Some(table) = table.and_then(Value::as_object_mut) {
            table.remove(key);
            table.insert(meant.into(), value);
        }
        self.move_pointers(&here, &to);
    }

    /// `[artifact.x.file]`: one table where a list of them is meant.
    fn file_tables(&mut self) {
        for name in self.keys("/artifact") {
            let here = format!("/artifact/{}/file", escape(&name));
            let Some(value) = self.table(&here).cloned().map(Value::Object) else {
                continue;
            };
            let span = self.parsed.spans.key(&here);
            let header = self.header(&span);
            let shown = shown_name(&name);
            self.say(
                Code::WrongType,
                header.clone().unwrap_or(span.clone()),
                "`file` is a list of tables, one for each platform; this is one table".into(),
                format!("Write [[artifact.{shown}.file]], with two brackets."),
            );
            let is_one = |h: &Range<usize>| {
                let header = &self.text[h.clone()];
                !header.starts_with("[[") && !header.ends_with("]]")
            };
            if let Some(header) = header.filter(is_one) {
                self.fix(header.start..header.start, "[".into());
                self.fix(header.end..header.end, "]".into());
            }
            self.parsed
                .spans
                .rename(&value, &here, &format!("{here}/0"));
            if let Some(slot) = self.parsed.find_mut(&here) {
                *slot = Value::Array(vec![value]);
            }
            self.move_pointers(&here, &format!("{here}/0"));
        }
    }
}

/// True for an object with the name of a property of its kind: it may be that property, of an object without a name.
pub(super) fn is_called_as_a_property(pointer: &str) -> bool {
    let mut parts = pointer.split('/').skip(1);
    let (kind, name) = (parts.next(), parts.next());
    let known = kind.map(|kind| properties(&format!("/{kind}/x")));
    parts.next().is_none() && known.is_some_and(|mut known| known.any(|k| Some(k) == name))
}

/// The kind that a key of the file is nearly: another case, a plural, a typing error.
fn meant_kind(key: &str) -> Option<ObjectKind> {
    let lower = key.to_lowercase();
    let bare = lower.strip_suffix('s').unwrap_or(&lower);
    let words = ObjectKind::ALL.map(ObjectKind::word);
    ObjectKind::of_word(bare).or_else(|| ObjectKind::of_word(closest(&lower, words.into_iter())?))
}

/// True when a key, in quotes or without, is what stands at a span.
pub(super) fn names(text: &str, span: &Range<usize>, key: &str) -> bool {
    let there = text.get(span.clone()).unwrap_or_default();
    there.trim_matches(['"', '\'']) == key
}

/// A name as it stands in a header.
pub(crate) fn shown_name(name: &str) -> String {
    let name = given_name(name);
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if name.chars().all(is_bare) {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'u']) {
        "an"
    } else {
        "a"
    }
}
