//! One file: parsed, validated, and every good object read into its type.

use super::parse::{SyntaxError, SyntaxKind, parse};
use super::spans::{Spans, escape, unescape};
use super::structure::{is_below, judge};
use super::{Artifact, Backup, Batch, Hook, Node, Upgrade};
use crate::diag::{Code, Finding, Place};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Node,
    Artifact,
    Upgrade,
    Hook,
    Backup,
    Batch,
}

impl ObjectKind {
    pub const ALL: [Self; 6] = [
        Self::Node,
        Self::Artifact,
        Self::Upgrade,
        Self::Hook,
        Self::Backup,
        Self::Batch,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Artifact => "artifact",
            Self::Upgrade => "upgrade",
            Self::Hook => "hook",
            Self::Backup => "backup",
            Self::Batch => "batch",
        }
    }
}

/// One object: where it is, and its typed form.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<T> {
    pub name: String,
    /// JSON pointer of the object in its file.
    pub pointer: String,
    pub value: T,
}

/// An object that a file names, be it readable or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub kind: ObjectKind,
    pub name: String,
    /// Of its name, where that stands as it is meant.
    pub place: Option<Place>,
    /// Nothing of it could be read but the name.
    pub broken: bool,
}

/// Everything that could be read of a file.
#[derive(Debug, Default)]
pub struct LoadedFile {
    pub findings: Vec<Finding>,
    pub nodes: Vec<Object<Node>>,
    pub artifacts: Vec<Object<Artifact>>,
    pub upgrades: Vec<Object<Upgrade>>,
    pub hooks: Vec<Object<Hook>>,
    pub backups: Vec<Object<Backup>>,
    pub batches: Vec<Object<Batch>>,
    pub named: Vec<Named>,
    /// Some header could not be read, so that a missing name proves nothing.
    pub names_unknown: bool,
    /// Texts that were left out, and so may name an object that nothing else names.
    pub mentioned: Vec<String>,
    /// Of the file in its set.
    index: usize,
    spans: Spans,
    /// Pointers of values that were broken.
    poisoned: Vec<String>,
}

impl LoadedFile {
    /// A file of which nothing is known.
    pub fn unread(index: usize) -> Self {
        Self {
            names_unknown: true,
            index,
            ..Self::default()
        }
    }

    fn is_poisoned(&self, pointer: &str) -> bool {
        self.poisoned.iter().any(|p| is_below(pointer, p))
    }

    /// Where a value of an object stands; `below` as in `/trigger/height`. Nowhere when it was broken and stood in for.
    pub fn at<T>(&self, object: &Object<T>, below: &str) -> Place {
        self.place(object, below, Spans::value)
    }

    /// Where the key of an object's value stands.
    pub fn key_of<T>(&self, object: &Object<T>, below: &str) -> Place {
        self.place(object, below, Spans::key)
    }

    fn place<T>(
        &self,
        object: &Object<T>,
        below: &str,
        of: impl Fn(&Spans, &str) -> Range<usize>,
    ) -> Place {
        let pointer = format!("{}{below}", object.pointer);
        if self.is_poisoned(&pointer) {
            return Place::NOWHERE;
        }
        Place::new(self.index, of(&self.spans, &pointer))
    }

    /// Where an object's name stands.
    pub fn name_of<T>(&self, object: &Object<T>) -> Place {
        Place::new(self.index, self.spans.key(&object.pointer))
    }

    /// True when some value of the object was broken and is stood in for.
    pub fn is_patched<T>(&self, object: &Object<T>) -> bool {
        self.poisoned.iter().any(|p| is_below(p, &object.pointer))
    }

    fn name(&mut self, kind: &str, name: String, place: Option<Place>, broken: bool) {
        if let Some(kind) = ObjectKind::ALL.into_iter().find(|k| k.word() == kind) {
            self.named.push(Named {
                kind,
                name,
                place,
                broken,
            });
        }
    }
}

/// Reads a file of a set; never fails.
pub fn load_file(index: usize, text: &str) -> LoadedFile {
    let mut parsed = parse(text);
    parsed.spans.settle();
    let judged = judge(index, &mut parsed);
    let mut out = LoadedFile {
        names_unknown: parsed.names_unknown || judged.names_unknown,
        mentioned: parsed.lost_text,
        index,
        spans: parsed.spans,
        poisoned: judged.poisoned,
        ..LoadedFile::default()
    };
    out.findings
        .extend(parsed.errors.iter().map(|e| syntax(index, e)));
    out.findings.extend(judged.findings);
    out.mentioned.extend(judged.mentioned);
    for (kind, name) in judged.meant {
        out.name(&kind, name, None, false);
    }
    for kind in ObjectKind::ALL {
        let objects = parsed.value.get_mut(kind.word()).map(Value::take);
        let Some(Value::Object(objects)) = objects else {
            continue;
        };
        for (name, value) in objects {
            let pointer = format!("/{}/{}", kind.word(), escape(&name));
            let place = Place::new(index, out.spans.key(&pointer));
            let at = (name.as_str(), pointer.as_str());
            let whole = !out.is_poisoned(&pointer)
                && match kind {
                    ObjectKind::Node => read(at, value, &mut out.nodes),
                    ObjectKind::Artifact => read(at, value, &mut out.artifacts),
                    ObjectKind::Upgrade => read(at, value, &mut out.upgrades),
                    ObjectKind::Hook => read(at, value, &mut out.hooks),
                    ObjectKind::Backup => read(at, value, &mut out.backups),
                    ObjectKind::Batch => read(at, value, &mut out.batches),
                };
            out.name(kind.word(), name, Some(place), !whole);
        }
    }
    // What stood where `/node/a` was no table is named all the same.
    for pointer in out.poisoned.clone() {
        let mut parts = pointer.split('/').skip(1);
        if let (Some(kind), Some(name), None) = (parts.next(), parts.next(), parts.next()) {
            out.name(kind, unescape(name), None, true);
        }
    }
    out
}

fn syntax(file: usize, error: &SyntaxError) -> Finding {
    let place = Place::new(file, error.span.clone());
    let message = error.message.clone();
    let (code, help) = match error.kind {
        SyntaxKind::NotToml => (
            Code::Syntax,
            "Correct the TOML here; nothing else is said about this statement.",
        ),
        SyntaxKind::TableTwice => (Code::Duplicate, "Rename one of them, or take one out."),
        SyntaxKind::KeyTwice => (Code::Duplicate, "Keep one of them."),
    };
    let mut finding = Finding::error(code, place, message, help);
    if let Some(first) = &error.first {
        finding = finding.with(Place::new(file, first.clone()), "first given here");
    }
    finding
}

/// False when the object cannot be read, because of something that was said already.
fn read<T: DeserializeOwned>(
    (name, pointer): (&str, &str),
    value: Value,
    into: &mut Vec<Object<T>>,
) -> bool {
    let Ok(value) = T::deserialize(value) else {
        return false;
    };
    into.push(Object {
        name: name.to_owned(),
        pointer: pointer.to_owned(),
        value,
    });
    true
}
