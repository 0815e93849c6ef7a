//! All names of a set: which objects there are, where, and whether something names them.

use crate::diag::Place;
use crate::manifest::{Kinds, Named, NearNames, ObjectKind};
use crate::parallel::each;
use foldhash::{HashMap, HashMapExt};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of one name of a kind.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Where it is defined first, in the order of files.
    pub(super) first: Option<Place>,
    /// Where it is defined once more.
    pub(super) again: Vec<Place>,
    /// Nothing could be read of it but the name, in one of the places at least.
    pub(super) is_broken: bool,
    is_used: AtomicBool,
}

/// The names of one kind.
#[derive(Debug, Default)]
struct Kind<'a> {
    entries: HashMap<&'a str, Entry>,
    near: OnceLock<NearNames<'a>>,
}

/// The names of a set.
pub(super) struct Table<'a> {
    kinds: Vec<Kind<'a>>,
    /// Kinds of which some header could not be read, so that a missing name proves nothing.
    pub(super) names_unknown: Kinds,
    /// How many files they are from.
    pub(super) files: usize,
}

impl<'a> Table<'a> {
    pub(super) fn new(named: &'a [Vec<Named>], names_unknown: Kinds) -> Self {
        let of = |kind: ObjectKind| {
            let mut entries: HashMap<&str, Entry> = HashMap::new();
            for named in named.iter().flatten().filter(|n| n.kind == kind) {
                let entry = entries.entry(&named.name).or_default();
                match (&named.place, &entry.first) {
                    (Some(place), None) => entry.first = Some(place.clone()),
                    (Some(place), Some(_)) => entry.again.push(place.clone()),
                    (None, _) => {}
                }
                entry.is_broken |= named.broken;
            }
            Kind {
                entries,
                near: OnceLock::new(),
            }
        };
        Self {
            kinds: each(named.len(), ObjectKind::ALL, of),
            files: named.len(),
            names_unknown,
        }
    }

    fn kind(&self, kind: ObjectKind) -> &Kind<'a> {
        &self.kinds[kind as usize]
    }

    pub(super) fn entry(&self, kind: ObjectKind, name: &str) -> Option<&Entry> {
        self.kind(kind).entries.get(name)
    }

    /// The names of a kind, in no order.
    pub(super) fn names(&self, kind: ObjectKind) -> impl Iterator<Item = (&'a str, &Entry)> {
        self.kind(kind).entries.iter().map(|(n, e)| (*n, e))
    }

    /// The name nearest to a misspelt one, if it is near enough.
    pub(super) fn near(&self, kind: ObjectKind, name: &str) -> Option<&'a str> {
        let kind = self.kind(kind);
        let near = kind.near.get_or_init(|| {
            let mut names: Vec<&str> = kind.entries.keys().copied().collect();
            names.sort_unstable();
            NearNames::new(names)
        });
        near.closest(name)
    }
}

impl Entry {
    pub(super) fn mark_used(&self) {
        self.is_used.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }
}
