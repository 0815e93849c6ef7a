//! Words about values, and the word that was meant.

use crate::diag::{fnv1a, fnv1a_on};
use rayon::prelude::*;
use serde_json::Value;

/// JSON has no dates: one is a table with this only key, which no text of TOML can spell by accident, and a list that holds its text: no
/// property is of that form.
pub(super) const DATE: &str = "\u{0}date";

/// JSON does not tell 5.0 from 5, and TOML does: a number with a point or an exponent is the same.
pub(super) const FLOAT: &str = "\u{0}float";

/// True for a date or a fraction, which is no table although it is held in one.
pub(super) fn is_mark(value: &Value) -> bool {
    let object = value.as_object();
    object.is_some_and(|o| o.contains_key(DATE) || o.contains_key(FLOAT))
}

/// What a value is, in JSON's terms.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(o) if o.contains_key(DATE) => "a date or time without quotes",
        Value::Object(o) if o.contains_key(FLOAT) => "a floating-point number",
        Value::Object(_) => "object",
    }
}

/// A JSON type in the words of those who write manifests.
pub(super) fn type_word(json: &str) -> &str {
    match json {
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

/// Longer words are compared with none: that takes the product of both lengths.
const LONGEST: usize = 512;

/// The known word nearest to a misspelt one, if it is near enough.
pub(crate) fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > LONGEST {
        return None;
    }
    let most = (length / 3).max(1);
    let lower = word.to_lowercase();
    let scored = known
        // The cheap bound first: sets have thousands of names.
        .filter(|k| k.chars().count().abs_diff(length) <= most)
        // Another case is no distance.
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(d, _)| *d <= most);
    scored.min().map(|(_, k)| k)
}

/// Keys, and what other tools call them.
#[rustfmt::skip]
const SYNONYMS: &[(&str, &[&str])] = &[
    ("args", &["arguments", "flags", "options", "params"]),
    ("artifact", &["release", "image", "package", "version", "binary", "target", "to", "upgrade"]),
    ("binary", &["program", "bin", "exe", "executable", "exec", "command", "cmd", "daemon", "daemon-name", "name"]),
    ("data", &["datadir", "data-dir", "data-directory", "dir", "directory", "storage"]),
    ("delay", &["interval", "wait", "pause", "sleep"]),
    ("env", &["environment", "vars", "variables"]),
    ("exclude", &["ignore", "skip"]),
    ("file", &["files", "download", "downloads", "source", "sources", "binaries"]),
    ("grace", &["timeout", "wait"]),
    ("height", &["block", "at", "block-height"]),
    ("home", &["homedir", "home-dir", "daemon-home", "base", "base-dir", "root-dir", "path"]),
    ("keep", &["retention", "retain"]),
    ("kind", &["type", "family", "name"]),
    ("labels", &["tags"]),
    ("last", &["count", "number", "max"]),
    ("names", &["nodes", "name"]),
    ("nodes", &["for", "hosts", "targets", "selector"]),
    ("path", &["dir", "directory", "location", "root"]),
    ("platform", &["arch", "os", "target"]),
    ("rpc", &["url", "uri", "endpoint", "address", "addr", "http", "ws", "host", "rpc-url", "rpc-address", "json-rpc"]),
    ("run", &["command", "cmd", "exec", "execstart", "exe", "entrypoint", "shell", "script", "program", "path", "call", "file"]),
    ("times", &["attempts", "retries", "count", "max"]),
    ("trigger", &["when", "schedule", "at", "on", "start", "condition"]),
    ("upgrades", &["members", "plan", "items", "steps", "order", "list", "sequence"]),
    ("urls", &["source", "sources", "src", "link", "links", "href", "location", "path", "from", "mirror", "mirrors", "uri", "download"]),
    ("within", &["timeout", "deadline"]),
];

/// The known key that other tools call so.
pub(super) fn synonym<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('_', "-");
    let means = |key: &&str| {
        let row = SYNONYMS.iter().find(|(of, _)| of == key);
        row.is_some_and(|(_, words)| words.contains(&word.as_str()))
    };
    let mut known = known;
    known.find(means)
}

/// As many names are compared one by one; of more, those that differ by one letter are looked up.
const MOST_COMPARED: usize = 256;

/// The names of a set, to find the one that was meant.
#[derive(Debug)]
pub(crate) struct NearNames<'a> {
    names: Vec<&'a str>,
    /// When there are many: hashes of each name and of each text with one letter of it left out, and which name that is.
    without_one: Vec<(u64, u32)>,
}

impl<'a> NearNames<'a> {
    pub(crate) fn new(names: Vec<&'a str>) -> Self {
        let mut without_one = Vec::new();
        if names.len() > MOST_COMPARED {
            for (name, i) in names.iter().zip(0u32..) {
                without_one.extend(with_one_left_out(name).map(|key| (key, i)));
            }
            without_one.par_sort_unstable();
        }
        Self { names, without_one }
    }

    /// The name nearest to a misspelt one, if it is near enough.
    pub(crate) fn closest(&self, word: &str) -> Option<&'a str> {
        if self.names.len() <= MOST_COMPARED {
            return closest(word, self.names.iter().copied());
        }
        let found = with_one_left_out(word).flat_map(|key| {
            let first = self.without_one.partition_point(|(k, _)| *k < key);
            let alike = self.without_one[first..].iter();
            alike.take_while(move |(k, _)| *k == key)
        });
        // Names that share a long stem share few letters to leave out; a hundred are enough to choose from.
        closest(word, found.take(100).map(|(_, i)| self.names[*i as usize]))
    }
}

/// The hashes of a text, and of the text without each of its letters.
fn with_one_left_out(text: &str) -> impl Iterator<Item = u64> {
    let cuts = text.char_indices().take(64);
    let without = cuts.map(|(i, c)| {
        let (before, behind) = (&text[..i], &text[i + c.len_utf8()..]);
        fnv1a_on(fnv1a(before), behind.as_bytes())
    });
    std::iter::once(fnv1a(text)).chain(without)
}

/// `a`, `b` and `c`
pub(super) fn list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.as_slice() {
        [] => "none".into(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}
