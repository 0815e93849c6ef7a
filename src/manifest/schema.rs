//! The one schema of manifests, derived from the types; the only source of structural findings. The only file that names
//! jsonschema.

use super::parse::Spans;
use super::{Artifact, Backup, Hook, Node, Upgrade};
use crate::diag::{Code, Finding, Place};
use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A manifest file: any number of named objects. Their directory is the set; how it is cut into files is free.
#[derive(Debug, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    title = "visor manifest",
    rename_all = "kebab-case"
)]
#[expect(
    dead_code,
    reason = "only its schema is used: objects are read one by one"
)]
pub struct File {
    /// The format of manifests; required once a file.
    #[schemars(range(min = 1, max = 1), example = 1)]
    visor: u32,
    /// Nodes by name.
    #[serde(default)]
    node: BTreeMap<String, Node>,
    /// Artifacts by name.
    #[serde(default)]
    artifact: BTreeMap<String, Artifact>,
    /// Upgrades by name.
    #[serde(default)]
    upgrade: BTreeMap<String, Upgrade>,
    /// Hooks by name.
    #[serde(default)]
    hook: BTreeMap<String, Hook>,
    /// Backup policies by name.
    #[serde(default)]
    backup: BTreeMap<String, Backup>,
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    // Draft 7 is what every editor and checker reads; nothing newer is used.
    let settings = SchemaSettings::draft07();
    let schema = settings.into_generator().into_root_schema_for::<File>();
    let mut value = schema.to_value();
    tidy(&mut value);
    value
});

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::validator_for(&SCHEMA).expect("the derived schema is a schema"));

/// The schema, as published in `schemas/`.
pub fn schema_text() -> String {
    serde_json::to_string_pretty(&*SCHEMA).expect("plain data") + "\n"
}

/// TOML has no null, and number formats are unknown to editors.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let is_number = |v: &Value| {
                v.as_str()
                    .is_some_and(|f| f.starts_with("uint") || f.starts_with("int"))
            };
            if object.get("format").is_some_and(is_number) {
                object.remove("format");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|s| s.get("type") != Some(&Value::from("null")));
                if any.len() == 1
                    && let Some(Value::Object(only)) = any.pop()
                {
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// All structural findings of one file's value; and the pointers that they make unusable.
pub(super) fn validate(file: usize, value: &Value, spans: &Spans) -> (Vec<Finding>, Vec<String>) {
    let mut found: Vec<(String, Finding)> = Vec::new();
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut unknown: Vec<(String, String)> = Vec::new();
    for error in VALIDATOR.iter_errors(value) {
        let pointer = error.instance_path().to_string();
        let place = || Place::new(file, spans.value(&pointer));
        let mut push = |code, message: String, help: String| {
            found.push((
                pointer.clone(),
                Finding::error(code, place(), message, help),
            ));
        };
        let name = pointer.rsplit('/').next().unwrap_or_default();
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                missing
                    .entry(pointer.clone())
                    .or_default()
                    .push(property.as_str().unwrap_or_default().to_owned());
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                unknown.extend(unexpected.iter().map(|key| (pointer.clone(), key.clone())));
            }
            ValidationErrorKind::Type { kind } => {
                let want = match kind {
                    TypeKind::Single(t) => type_word(&t.to_string()).to_owned(),
                    TypeKind::Multiple(set) => format!("{set:?}"),
                };
                let is = type_word(json_type(error.instance()));
                push(
                    Code::WrongType,
                    format!("`{name}` wants {want}, this is {is}"),
                    format!("Write {want}{}.", example(value, &pointer)),
                );
            }
            ValidationErrorKind::Enum { options } => {
                push_choice(&mut push, name, error.instance(), &choices(options))
            }
            ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::AnyOf { .. } => {
                let consts = schema_at(&pointer).map(const_choices).unwrap_or_default();
                push_choice(&mut push, name, error.instance(), &consts);
            }
            ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. }
                if pointer == "/visor" =>
            {
                push(
                    Code::Version,
                    format!("manifest format {} is not known", error.instance()),
                    "This visor reads `visor = 1`; a newer one may read more.".into(),
                );
            }
            ValidationErrorKind::Minimum { limit } => {
                push(
                    Code::BadValue,
                    format!("`{name}` is at least {limit}, this is {}", error.instance()),
                    format!("Write {limit} or more."),
                );
            }
            ValidationErrorKind::Maximum { limit } => {
                push(
                    Code::BadValue,
                    format!("`{name}` is at most {limit}, this is {}", error.instance()),
                    format!("Write {limit} or less."),
                );
            }
            ValidationErrorKind::MinItems { .. } => {
                push(
                    Code::BadValue,
                    format!("`{name}` is an empty list"),
                    "Write at least one element.".into(),
                );
            }
            _ => push(
                Code::BadValue,
                format!("`{name}` is not allowed: {error}"),
                "See `visor schema`.".into(),
            ),
        }
    }
    for (pointer, key) in unknown {
        let here = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        found.push((
            here.clone(),
            unknown_key(
                value,
                file,
                spans,
                &pointer,
                &here,
                &key,
                missing.get_mut(&pointer),
            ),
        ));
    }
    for (pointer, keys) in missing {
        for key in keys {
            found.push((pointer.clone(), missing_key(file, spans, &pointer, &key)));
        }
    }
    let broken: Vec<String> = found.iter().map(|(p, _)| p.clone()).collect();
    (found.into_iter().map(|(_, f)| f).collect(), broken)
}

fn missing_key(file: usize, spans: &Spans, pointer: &str, key: &str) -> Finding {
    let place = Place::new(
        file,
        if pointer.is_empty() {
            0..0
        } else {
            spans.key(pointer)
        },
    );
    if pointer.is_empty() && key == "visor" {
        let help = "Write `visor = 1` at the top of the file.";
        return Finding::error(
            Code::Version,
            place,
            "the file does not say which manifest format it has",
            help,
        );
    }
    let path = pointer.trim_start_matches('/').replace('/', ".");
    let example = schema_at(&format!("{pointer}/{key}"))
        .and_then(|s| s.get("examples")?.get(0))
        .map(|e| format!(", for example `{key} = {e}`"));
    let help = format!("Add `{key}`{}.", example.unwrap_or_default());
    Finding::error(
        Code::MissingKey,
        place,
        format!("`{path}` has no `{key}`, which is required"),
        help,
    )
}

/// The entry of a table that has but one, whose key is digits.
fn only_entry(value: &Value) -> Option<(&String, &Value)> {
    let object = value.as_object()?;
    let mut entries = object
        .iter()
        .filter(|(k, v)| v.is_object() && k.chars().all(|c| c.is_ascii_digit()));
    entries.next()
}

/// An unknown key that is much like a missing one is one mistake, not two.
fn unknown_key(
    value: &Value,
    file: usize,
    spans: &Spans,
    pointer: &str,
    here: &str,
    key: &str,
    missing: Option<&mut Vec<String>>,
) -> Finding {
    let place = Place::new(file, spans.key(here));
    let parent: Vec<&str> = pointer.trim_start_matches('/').split('/').collect();
    if let ["upgrade" | "node" | "artifact" | "hook" | "backup", name] = parent[..]
        && key.chars().all(|c| c.is_ascii_digit())
    {
        let kind = parent[0];
        if let Some(missing) = missing {
            missing.clear();
        }
        let mut whole = format!("{name}.{key}");
        let mut at = value.pointer(here);
        // The rest of a name such as v2.0.1: tables with one key of digits each.
        while let Some((next, below)) = at.and_then(only_entry) {
            whole.push('.');
            whole.push_str(next);
            at = Some(below);
        }
        let message =
            format!("the name \"{whole}\" has dots and no quotes, so it is read as several names");
        let help = format!("Write [{kind}.\"{whole}\"].");
        return Finding::error(Code::UnquotedName, place, message, help);
    }
    let known: Vec<String> = schema_at(pointer)
        .and_then(|s| {
            s.get("properties")?
                .as_object()
                .map(|p| p.keys().cloned().collect())
        })
        .unwrap_or_default();
    let wanted = missing.as_ref().map(|m| m.to_vec()).unwrap_or_default();
    let guess = closest(key, wanted.iter().map(String::as_str))
        .or_else(|| closest(key, known.iter().map(String::as_str)));
    let help = match guess {
        Some(guess) => {
            if let Some(missing) = missing {
                missing.retain(|m| m != guess);
            }
            format!("Did you mean `{guess}`?")
        }
        None => format!("The keys here are {}.", list(&known)),
    };
    Finding::error(
        Code::UnknownKey,
        place,
        format!("there is no key `{key}` here"),
        help,
    )
}

fn push_choice(
    push: &mut impl FnMut(Code, String, String),
    name: &str,
    found: &Value,
    choices: &[String],
) {
    let text = found.as_str().unwrap_or_default();
    let help = match closest(text, choices.iter().map(String::as_str)) {
        Some(guess) => format!("Did you mean \"{guess}\"? It is one of {}.", list(choices)),
        None => format!("Write one of {}.", list(choices)),
    };
    push(Code::BadValue, format!("`{name}` cannot be {found}"), help);
}

fn choices(options: &Value) -> Vec<String> {
    options
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

fn const_choices(schema: &Value) -> Vec<String> {
    let one_of = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    one_of
        .iter()
        .filter_map(|s| s.get("const")?.as_str().map(str::to_owned))
        .collect()
}

/// The schema of the value at a pointer, references followed.
fn schema_at(pointer: &str) -> Option<&'static Value> {
    let mut at: &'static Value = &SCHEMA;
    for part in pointer.split('/').skip(1) {
        at = resolve(at)?;
        at = match at.get("properties").and_then(|p| p.get(part)) {
            Some(found) => found,
            None => at
                .get("additionalProperties")
                .filter(|a| a.is_object())
                .or_else(|| at.get("items"))?,
        };
    }
    resolve(at)
}

fn resolve(schema: &'static Value) -> Option<&'static Value> {
    // Draft 7 allows no neighbours beside a reference, so one with a description is wrapped.
    let reference = schema
        .get("$ref")
        .or_else(|| schema.pointer("/allOf/0/$ref"));
    match reference.and_then(Value::as_str) {
        Some(reference) => SCHEMA.pointer(reference.strip_prefix('#')?),
        None => Some(schema),
    }
}

fn example(_: &Value, pointer: &str) -> String {
    let found = schema_at(pointer).and_then(|s| s.get("examples")?.get(0));
    found.map(|e| format!(", such as {e}")).unwrap_or_default()
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_word(json: &str) -> &str {
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
    let most = (word.chars().count() / 3).max(1);
    let scored = known
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(d, _)| *d <= most);
    scored.min().map(|(_, k)| k)
}

/// `"a", "b" and "c"`
pub(crate) fn list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.as_slice() {
        [] => "none".into(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}

/// True when the pointer is one of these or below one.
pub(super) fn is_below(pointer: &str, roots: &[String]) -> bool {
    roots.iter().any(|r| {
        pointer == r
            || pointer
                .strip_prefix(r.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
    })
}

/// An empty object, for files of which nothing could be read.
pub(super) fn empty() -> Value {
    Value::Object(Map::new())
}
