//! Where the values of a file stand, by JSON pointer.

use crate::diag::{fnv1a, fnv1a_on};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Where a value stands, and its key if it has one. Manifests are limited to a few MiB, far below four GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Of the pointer. Two that collide would show a wrong place, and nothing else.
    hash: u64,
    key: (u32, u32),
    value: (u32, u32),
}

/// Places by JSON pointer (`/node/a/binary`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans {
    entries: Vec<Entry>,
    /// So many of them are sorted by hash, each hash once; those behind came later, and hold.
    sorted: usize,
    /// Those of values that were moved after that, by hash; they hold before all.
    moved: BTreeMap<u64, Entry>,
}

impl Spans {
    /// Where a value stands; the nearest value above it that is known otherwise.
    pub fn value(&self, pointer: &str) -> Range<usize> {
        self.value_below(pointer, "")
    }

    /// The same for a pointer in two parts.
    pub fn value_below(&self, pointer: &str, below: &str) -> Range<usize> {
        let found = self.nearest(pointer, below);
        found.map_or(0..0, |e| wide(e.value))
    }

    /// Where a value's key stands; for a list element the element itself.
    pub fn key(&self, pointer: &str) -> Range<usize> {
        self.key_below(pointer, "")
    }

    /// The same for a pointer in two parts.
    pub fn key_below(&self, pointer: &str, below: &str) -> Range<usize> {
        let found = self.nearest(pointer, below);
        found.map_or(0..0, |e| wide(e.key))
    }

    /// Where a value that is there, and its key, stand, by the FNV-1a hash of its pointer.
    fn exact(&self, hash: u64) -> Option<&Entry> {
        if let Some(moved) = self.moved.get(&hash) {
            return Some(moved);
        }
        let (sorted, later) = self.entries.split_at(self.sorted);
        later.iter().rfind(|e| e.hash == hash).or_else(|| {
            let i = sorted.binary_search_by_key(&hash, |e| e.hash);
            i.ok().map(|i| &sorted[i])
        })
    }

    pub(super) fn reserve(&mut self, places: usize) {
        self.entries.reserve(places);
    }

    pub(super) fn insert(&mut self, pointer: &str, key: Range<usize>, value: Range<usize>) {
        self.insert_hashed(fnv1a(pointer), key, value);
    }

    /// The same for a pointer whose FNV-1a hash is known.
    pub(super) fn insert_hashed(&mut self, hash: u64, key: Range<usize>, value: Range<usize>) {
        let entry = Entry {
            hash,
            key: narrow(&key),
            value: narrow(&value),
        };
        // The last one holds.
        self.moved.remove(&hash);
        self.entries.push(entry);
    }

    /// Makes lookups fast. The last insertion of a pointer holds.
    pub(super) fn settle(&mut self) {
        self.entries.reverse();
        self.entries.sort_by_key(|e| e.hash);
        self.entries.dedup_by_key(|e| e.hash);
        self.sorted = self.entries.len();
    }

    /// Gives a value, and all that is below it, another pointer as well.
    pub(super) fn rename(&mut self, value: &Value, from: &str, to: &str) {
        let mut below = vec![(value, from.to_owned(), to.to_owned())];
        while let Some((value, from, to)) = below.pop() {
            if let Some(found) = self.exact(fnv1a(&from)).copied() {
                self.moved.insert(fnv1a(&to), found);
            }
            let mut step = |part: &str, value| {
                let part = escape(part);
                below.push((value, format!("{from}/{part}"), format!("{to}/{part}")));
            };
            match value {
                Value::Object(map) => map.iter().for_each(|(k, v)| step(k, v)),
                Value::Array(items) => {
                    let items = items.iter().enumerate();
                    items.for_each(|(i, v)| step(&i.to_string(), v));
                }
                _ => {}
            }
        }
    }

    fn nearest(&self, pointer: &str, below: &str) -> Option<Entry> {
        if let Some(found) = self.exact(fnv1a_on(fnv1a(pointer), below.as_bytes())) {
            return Some(*found);
        }
        let whole = format!("{pointer}{below}");
        let mut at = whole.as_str();
        loop {
            if let Some(found) = self.exact(fnv1a(at)) {
                return Some(*found);
            }
            at = at.rsplit_once('/')?.0;
        }
    }
}

/// A key as one part of a JSON pointer.
pub(crate) fn escape(key: &str) -> Cow<'_, str> {
    if key.bytes().any(|b| matches!(b, b'~' | b'/')) {
        key.replace('~', "~0").replace('/', "~1").into()
    } else {
        key.into()
    }
}

/// One part of a JSON pointer as the key it stands for.
pub(crate) fn unescape(part: &str) -> Cow<'_, str> {
    if part.contains('~') {
        part.replace("~1", "/").replace("~0", "~").into()
    } else {
        part.into()
    }
}

/// True when a pointer, or one above it, is in a set.
pub(super) fn is_in(set: &BTreeSet<String>, pointer: &str) -> bool {
    let ends = pointer.match_indices('/').map(|(at, _)| at);
    let mut above = ends.chain([pointer.len()]).map(|end| &pointer[..end]);
    !set.is_empty() && above.any(|p| set.contains(p))
}

/// The value at a pointer: `Value::pointer`, which allocates for every part.
pub(super) fn find<'v>(root: &'v Value, pointer: &str) -> Option<&'v Value> {
    let mut parts = pointer.split('/').skip(1);
    parts.try_fold(root, |at, part| match at {
        Value::Object(map) => map.get(&*unescape(part)),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The same, to be changed.
pub(super) fn find_mut<'v>(root: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    let mut parts = pointer.split('/').skip(1);
    parts.try_fold(root, |at, part| match at {
        Value::Object(map) => map.get_mut(&*unescape(part)),
        Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The place of a pointer in the tree, made if it is not there; `None` when something other than a table is in the way.
pub(super) fn slot<'v>(root: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    let mut at = root;
    for part in pointer.split('/').skip(1) {
        at = match at {
            Value::Object(map) => map.entry(unescape(part)).or_insert(Value::Null),
            Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?)?,
            empty @ Value::Null => {
                *empty = Value::Object(Map::new());
                empty
                    .as_object_mut()?
                    .entry(unescape(part))
                    .or_insert(Value::Null)
            }
            _ => return None,
        };
    }
    Some(at)
}

fn narrow(range: &Range<usize>) -> (u32, u32) {
    let n = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    (n(range.start), n(range.end))
}

fn wide((start, end): (u32, u32)) -> Range<usize> {
    start as usize..end as usize
}
