//! One file: parsed, validated, and every good object read into its type.

use super::mend::{given_name, is_shadow};
use super::parse::{SyntaxError, SyntaxKind, parse};
use super::spans::{Spans, escape, is_in, unescape};
use super::structure::judge;
use super::{Artifact, Backup, Batch, Hook, Node, Upgrade};
use crate::diag::{Code, Finding, Place};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
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

    /// The kind of a key of the file.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.word() == word)
    }

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

/// A set of kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    pub const ALL: Self = Self(u8::MAX);

    pub fn insert(&mut self, kind: ObjectKind) {
        self.0 |= 1 << kind as u8;
    }

    pub fn contains(self, kind: ObjectKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
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

/// A reference of which the name could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blind {
    pub kind: ObjectKind,
    /// The object that has it.
    pub owner: String,
    /// Where that begins in the file.
    pub at: usize,
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
    /// Kinds of which a header could not be read, so that a missing name proves nothing.
    pub names_unknown: Kinds,
    /// Texts that were left out, and so may name an object that nothing else names.
    pub mentioned: Vec<String>,
    /// References that name something, nobody knows what.
    pub blind: Vec<Blind>,
    /// Of the file in its set.
    index: usize,
    spans: Spans,
    /// Pointers of values that were broken.
    poisoned: BTreeSet<String>,
}

impl LoadedFile {
    /// A file of which nothing is known.
    pub fn unread(index: usize) -> Self {
        Self {
            names_unknown: Kinds::ALL,
            index,
            ..Self::default()
        }
    }

    fn is_poisoned(&self, pointer: &str) -> bool {
        is_in(&self.poisoned, pointer)
    }

    /// Where a value of an object stands; `below` as in `/trigger/height`. Nowhere when it was broken and stood in for.
    pub fn at<T>(&self, object: &Object<T>, below: &str) -> Place {
        self.place(object, below, Spans::value_below)
    }

    /// Where the key of an object's value stands.
    pub fn key_of<T>(&self, object: &Object<T>, below: &str) -> Place {
        self.place(object, below, Spans::key_below)
    }

    fn place<T>(
        &self,
        object: &Object<T>,
        below: &str,
        of: impl Fn(&Spans, &str, &str) -> Range<usize>,
    ) -> Place {
        let pointer = &object.pointer;
        if !self.poisoned.is_empty() && self.is_poisoned(&format!("{pointer}{below}")) {
            return Place::NOWHERE;
        }
        Place::new(self.index, of(&self.spans, pointer, below))
    }

    /// Where an object's name stands.
    pub fn name_of<T>(&self, object: &Object<T>) -> Place {
        Place::new(self.index, self.spans.key(&object.pointer))
    }

    /// True when some value of the object was broken and is stood in for.
    pub fn is_patched<T>(&self, object: &Object<T>) -> bool {
        let below = format!("{}/", object.pointer);
        let next = self.poisoned.range(below.clone()..).next();
        self.poisoned.contains(&object.pointer) || next.is_some_and(|p| p.starts_with(&below))
    }

    /// The reference that a broken value is.
    fn blind(&self, pointer: &str) -> Option<Blind> {
        let mut parts = pointer.split('/').skip(1);
        let (of, owner, key) = (parts.next()?, parts.next()?, parts.next()?);
        let kind = match (of, key) {
            ("upgrade", "artifact") | ("node", "genesis") => ObjectKind::Artifact,
            ("upgrade", "backup") => ObjectKind::Backup,
            ("upgrade", "hooks") => ObjectKind::Hook,
            _ => return None,
        };
        Some(Blind {
            kind,
            owner: given_name(&unescape(owner)).to_owned(),
            at: self.spans.key(&format!("/{of}/{owner}")).start,
        })
    }

    /// The keys of an object's table whose values were broken and are stood in for.
    pub fn broken_below<T>(&self, object: &Object<T>, table: &str) -> Vec<String> {
        let above = format!("{}{table}/", object.pointer);
        let below = self.poisoned.range(above.clone()..);
        let keys = below.map_while(|p| p.strip_prefix(&above));
        keys.map(|key| unescape(key).into_owned()).collect()
    }

    /// Writes a name down; shadows have none.
    fn name(&mut self, kind: ObjectKind, name: String, place: Option<Place>, broken: bool) {
        if !is_shadow(&name) {
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
    let judged = judge(index, text, &mut parsed);
    let mut out = LoadedFile {
        names_unknown: parsed.names_unknown.union(judged.names_unknown),
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
    for kind in ObjectKind::ALL {
        let objects = parsed.value.get_mut(kind.word()).map(Value::take);
        let Some(Value::Object(objects)) = objects else {
            continue;
        };
        for (name, value) in objects {
            let pointer = format!("/{}/{}", kind.word(), escape(&name));
            let place = Place::new(index, out.spans.key(&pointer));
            let at = (name.as_str(), pointer.as_str());
            let read = match kind {
                _ if out.is_poisoned(&pointer) => None,
                ObjectKind::Node => Some(read(at, value, &mut out.nodes)),
                ObjectKind::Artifact => Some(read(at, value, &mut out.artifacts)),
                ObjectKind::Upgrade => Some(read(at, value, &mut out.upgrades)),
                ObjectKind::Hook => Some(read(at, value, &mut out.hooks)),
                ObjectKind::Backup => Some(read(at, value, &mut out.backups)),
                ObjectKind::Batch => Some(read(at, value, &mut out.batches)),
            };
            if let Some(Err(error)) = &read {
                // The schema took what the type does not: better said than an object that is silently not there.
                let message = format!("visor cannot read this {}: {error}", kind.word());
                let help = "This is a fault of visor's; please report it.";
                let finding = Finding::error(Code::BadValue, place.clone(), message, help);
                out.findings.push(finding);
            }
            let whole = matches!(read, Some(Ok(())));
            let place = Some(place).filter(|_| !parsed.guessed.contains(&pointer));
            out.name(kind, name, place, !whole);
        }
    }
    out.blind = judged.silent.iter().filter_map(|p| out.blind(p)).collect();
    // What stood where `/node/a` was no table is named all the same.
    for pointer in out.poisoned.clone() {
        let mut parts = pointer.split('/').skip(1);
        let kind = parts.next().and_then(ObjectKind::of_word);
        match (kind, parts.next(), parts.next()) {
            (Some(kind), Some(name), None) => {
                out.name(kind, unescape(name).into_owned(), None, true)
            }
            (Some(kind), None, _) => out.names_unknown.insert(kind),
            _ => {}
        }
    }
    out
}

fn syntax(file: usize, error: &SyntaxError) -> Finding {
    let place = Place::new(file, error.span.clone());
    let code = match error.kind {
        SyntaxKind::NotToml => Code::Syntax,
        SyntaxKind::TableTwice | SyntaxKind::KeyTwice => Code::Duplicate,
        SyntaxKind::NoName => Code::NoName,
        SyntaxKind::Nul => Code::BadValue,
    };
    let mut finding = Finding::error(code, place, &error.message, error.help.clone());
    if let Some(first) = &error.first {
        finding = finding.with(Place::new(file, first.clone()), "first given here");
    }
    if let Some((span, text)) = &error.fix {
        finding = finding.fixed_by(Place::new(file, span.clone()), text);
    }
    finding
}

fn read<T: DeserializeOwned>(
    (name, pointer): (&str, &str),
    value: Value,
    into: &mut Vec<Object<T>>,
) -> serde_json::Result<()> {
    into.push(Object {
        name: given_name(name).to_owned(),
        pointer: pointer.to_owned(),
        value: T::deserialize(value)?,
    });
    Ok(())
}
