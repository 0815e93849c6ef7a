//! Words about values, and the word that was meant.

use serde_json::Value;
use std::collections::HashMap;

/// JSON has no dates: one is a table with this only key, which no text of TOML can spell by accident.
pub(super) const DATE: &str = "\u{0}date";

/// What a value is, in JSON's terms.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(o) if o.contains_key(DATE) => "a date or time without quotes",
        Value::Object(_) => "object",
    }
}

/// A JSON type in the words of those who write manifests.
pub(super) fn type_word(json: &str) -> &str {
    match json {
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

/// The known word nearest to a misspelt one, if it is near enough.
pub(crate) fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    let most = (length / 3).max(1);
    let scored = known
        // The cheap bound first: sets have thousands of names.
        .filter(|k| k.chars().count().abs_diff(length) <= most)
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(d, _)| *d <= most);
    scored.min().map(|(_, k)| k)
}

/// As many names are compared one by one; of more, those that differ by one letter are looked up.
const MOST_COMPARED: usize = 256;

/// The names of a set, to find the one that was meant.
pub(crate) struct NearNames<'a> {
    names: Vec<&'a str>,
    /// Names by their text and by each text with one letter left out, when there are many.
    without_one: HashMap<String, Vec<u32>>,
}

impl<'a> NearNames<'a> {
    pub(crate) fn new(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.collect();
        let mut without_one: HashMap<String, Vec<u32>> = HashMap::new();
        if names.len() > MOST_COMPARED {
            for (name, i) in names.iter().zip(0u32..) {
                for key in with_one_left_out(name) {
                    without_one.entry(key).or_default().push(i);
                }
            }
        }
        Self { names, without_one }
    }

    /// The name nearest to a misspelt one, if it is near enough.
    pub(crate) fn closest(&self, word: &str) -> Option<&'a str> {
        if self.names.len() <= MOST_COMPARED {
            return closest(word, self.names.iter().copied());
        }
        let keys = with_one_left_out(word);
        let found = keys.filter_map(|key| self.without_one.get(&key)).flatten();
        // Names that share a long stem share few letters to leave out; a hundred are enough to choose from.
        closest(word, found.take(100).map(|i| self.names[*i as usize]))
    }
}

/// A text, and the text without each of its letters.
fn with_one_left_out(text: &str) -> impl Iterator<Item = String> + '_ {
    let cuts = text.char_indices().take(64);
    let without = cuts.map(|(i, c)| format!("{}{}", &text[..i], &text[i + c.len_utf8()..]));
    std::iter::once(text.to_owned()).chain(without)
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
