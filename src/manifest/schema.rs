//! The one schema of manifests, derived from the types; `structure` makes its errors into findings.

use super::spans::{escape, find, unescape};
use super::words::is_mark;
use super::{Artifact, Backup, Batch, Hook, Node, Upgrade};
use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The digest of the examples: that of an empty file.
pub(super) const EXAMPLE_SHA256: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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
    /// Nodes by name. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "node-1": { "binary": "gethd", "home": "/var/lib/geth", "data": { "path": "data" } } }))]
    node: BTreeMap<String, Node>,
    /// Artifacts by name. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "gethd-v2": { "file": [{ "urls": ["releases/gethd-v2"], "sha256": EXAMPLE_SHA256 }] } }))]
    artifact: BTreeMap<String, Artifact>,
    /// Upgrades by name. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "v2.0.0": { "trigger": { "height": 1_000_000 }, "artifact": "gethd-v2" } }))]
    upgrade: BTreeMap<String, Upgrade>,
    /// Hooks by name. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "check-disk": { "run": ["hooks/check-disk.sh"] } }))]
    hook: BTreeMap<String, Hook>,
    /// Backup policies by name. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "pre-upgrade": { "keep": { "last": 3 } } }))]
    backup: BTreeMap<String, Backup>,
    /// Batches by name. Default: none.
    #[serde(default)]
    #[schemars(example = json!({ "q4-2026": { "upgrades": ["v2.0.0", "v2.1.0"] } }))]
    batch: BTreeMap<String, Batch>,
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    // Draft 7 is what every editor and checker reads; nothing newer is used. Editors show the text of a referenced type in the place of
    // the property's own, so there are no references.
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<File>();
    let mut value = schema.to_value();
    tidy(&mut value);
    value
});

/// One thing that the schema says against a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Flaw {
    /// JSON pointer of the value, or of the table around a key.
    pub(super) pointer: String,
    pub(super) kind: FlawKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum FlawKind {
    Missing(String),
    Unknown(String),
    /// The JSON type that is wanted.
    Type(String),
    /// The values that are allowed.
    Choice(Vec<String>),
    Minimum(Value),
    Maximum(Value),
    EmptyList,
    /// A text that no program and no file system can be given.
    Nul,
    Other(String),
}

/// Texts that hold a NUL, which TOML can say by an escape.
pub(super) fn nuls(value: &Value) -> Vec<Flaw> {
    let mut out = Vec::new();
    let mut left = vec![(value, String::new())];
    while let Some((value, pointer)) = left.pop() {
        match value {
            Value::String(text) if text.contains('\0') => out.push(Flaw {
                pointer,
                kind: FlawKind::Nul,
            }),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                left.extend(items.map(|(i, v)| (v, format!("{pointer}/{i}"))));
            }
            Value::Object(map) => {
                left.extend(
                    map.iter()
                        .map(|(k, v)| (v, format!("{pointer}/{}", escape(k)))),
                );
            }
            _ => {}
        }
    }
    out
}

/// Everything that the schema says against a value.
pub(super) fn flaws(value: &Value) -> Vec<Flaw> {
    if VALIDATOR.is_valid(value) {
        return vec![];
    }
    let mut out = Vec::new();
    for error in VALIDATOR.iter_errors(value) {
        let pointer = error.instance_path().to_string();
        let kind = match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let flaw = |key: &String| Flaw {
                    pointer: pointer.clone(),
                    kind: FlawKind::Unknown(key.clone()),
                };
                out.extend(unexpected.iter().map(flaw));
                continue;
            }
            ValidationErrorKind::Required { property } => {
                FlawKind::Missing(property.as_str().unwrap_or_default().to_owned())
            }
            ValidationErrorKind::Type { kind } => FlawKind::Type(match kind {
                TypeKind::Single(t) => t.to_string(),
                TypeKind::Multiple(set) => format!("{set:?}"),
            }),
            ValidationErrorKind::Enum { options } => FlawKind::Choice(texts(options)),
            ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::AnyOf { .. } => {
                FlawKind::Choice(schema_at(&pointer).map(const_choices).unwrap_or_default())
            }
            ValidationErrorKind::Minimum { limit } => FlawKind::Minimum(limit.clone()),
            ValidationErrorKind::Maximum { limit } => FlawKind::Maximum(limit.clone()),
            ValidationErrorKind::MinItems { .. } => FlawKind::EmptyList,
            _ => FlawKind::Other(error.to_string()),
        };
        out.push(Flaw { pointer, kind });
    }
    // A date or a fraction is no table: whatever is said about its inside, or of what it lacks, is that.
    let mut marks = BTreeSet::new();
    out.retain_mut(|flaw| {
        let inside = flaw
            .pointer
            .rfind("/\0")
            .map(|at| flaw.pointer[..at].to_owned());
        let at = inside.unwrap_or_else(|| flaw.pointer.clone());
        if !find(value, &at).is_some_and(is_mark)
            || matches!(flaw.kind, FlawKind::Type(_)) && at == flaw.pointer
        {
            return true;
        }
        flaw.kind = FlawKind::Type("object".into());
        flaw.pointer.clone_from(&at);
        marks.insert(at)
    });
    // A value of another type is none of the choices either, which need not be said.
    let types: BTreeSet<String> = out
        .iter()
        .filter(|f| matches!(f.kind, FlawKind::Type(_)))
        .map(|f| f.pointer.clone())
        .collect();
    out.retain(|f| matches!(f.kind, FlawKind::Type(_)) || !types.contains(&f.pointer));
    out
}

/// The keys that a table may have.
pub(super) fn properties(pointer: &str) -> impl Iterator<Item = &'static str> + Clone + use<> {
    let found = schema_at(pointer).and_then(|s| s.get("properties")?.as_object());
    found.into_iter().flatten().map(|(key, _)| key.as_str())
}

/// The keys that a table at a pointer must have.
pub(super) fn required(pointer: &str) -> impl Iterator<Item = &'static str> {
    let found = schema_at(pointer).and_then(|s| s.get("required")?.as_array());
    found.into_iter().flatten().filter_map(Value::as_str)
}

/// What the properties of a name want, wherever they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Text,
    /// A number, a truth value, a table or a list.
    Other,
}

/// What a key of this name wants; nothing when the schema has none of it, or has it want both.
pub(super) fn wanted(key: &str) -> Option<Wanted> {
    let mut of_name = named(key).map(|schema| match schema.get("type") {
        Some(t) if t == "string" => Wanted::Text,
        _ => Wanted::Other,
    });
    let first = of_name.next()?;
    of_name.all(|w| w == first).then_some(first)
}

/// An example of a key of this name, as TOML.
pub(super) fn example_of(key: &str) -> Option<String> {
    let mut examples = named(key).filter_map(|s| s.get("examples")?.get(0));
    examples.next().map(super::structure::as_toml)
}

fn named(key: &str) -> impl Iterator<Item = &'static Value> {
    let mut found = Vec::new();
    let mut left: Vec<&'static Value> = vec![&SCHEMA];
    while let Some(schema) = left.pop() {
        let properties = schema.get("properties").and_then(Value::as_object);
        found.extend(properties.and_then(|p| p.get(key)));
        left.extend(properties.into_iter().flat_map(|p| p.values()));
        left.extend(
            ["additionalProperties", "items"]
                .iter()
                .filter_map(|k| schema.get(k)),
        );
        left.extend(
            ["anyOf", "oneOf"]
                .iter()
                .filter_map(|k| schema.get(k)?.as_array())
                .flatten(),
        );
    }
    found.into_iter()
}

/// The first example of a value.
pub(super) fn example_at(pointer: &str) -> Option<&'static Value> {
    schema_at(pointer)?.get("examples")?.get(0)
}

/// A value that the schema allows: the example, or the least one of its type. It stands in for a value that is broken.
pub(super) fn placeholder(schema: &Value) -> Value {
    if let Some(example) = schema.get("examples").and_then(|e| e.get(0)) {
        return example.clone();
    }
    if let Some(first) = texts(schema.get("enum").unwrap_or(&Value::Null)).first() {
        return first.as_str().into();
    }
    if let Some(first) = const_choices(schema).first() {
        return first.as_str().into();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {
            let required = texts(schema.get("required").unwrap_or(&Value::Null));
            let of = |key: &String| {
                let schema = schema.get("properties").and_then(|p| p.get(key));
                (key.clone(), schema.map_or(Value::Null, placeholder))
            };
            Value::Object(required.iter().map(of).collect())
        }
        Some("array") => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            let item = schema.get("items").map_or(Value::Null, placeholder);
            Value::Array((0..least).map(|_| item.clone()).collect())
        }
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(1.into()),
        Some("boolean") => false.into(),
        _ => "x".into(),
    }
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

fn const_choices(schema: &Value) -> Vec<String> {
    let one_of = schema.get("oneOf").and_then(Value::as_array);
    let of = |s: &Value| s.get("const")?.as_str().map(str::to_owned);
    one_of.into_iter().flatten().filter_map(of).collect()
}

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
                let is_32 = object.get("format") == Some(&"uint32".into());
                if is_32 && !object.contains_key("maximum") {
                    object.insert("maximum".into(), u32::MAX.into());
                }
                object.remove("format");
            }
            // Editors take what has no type for a table.
            if object.contains_key("oneOf") && !object.contains_key("type") {
                object.insert("type".into(), "string".into());
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

/// The schema of the value at a pointer.
pub(super) fn schema_at(pointer: &str) -> Option<&'static Value> {
    let mut at: &'static Value = &SCHEMA;
    for part in pointer.split('/').skip(1) {
        at = match at.get("properties").and_then(|p| p.get(part)) {
            Some(found) => found,
            None => at
                .get("additionalProperties")
                .filter(|a| a.is_object())
                .or_else(|| at.get("items"))?,
        };
    }
    Some(at)
}

/// The one property of a table that has a key of this name in it, and how that is written.
pub(super) fn inner_home(pointer: &str, key: &str) -> Option<(&'static str, String)> {
    let holds = |pointer: String| properties(&pointer).any(|k| k == key);
    let mut homes = properties(pointer).filter_map(|home| {
        let path = format!("{pointer}/{home}");
        if holds(format!("{path}/0")) && json_of(&path) == Some("array") {
            let above: Vec<Cow<'_, str>> = pointer.split('/').skip(1).map(unescape).collect();
            return Some((home, format!("it below [[{}.{home}]]", above.join("."))));
        }
        let is_table = json_of(&path) == Some("object");
        (is_table && holds(path)).then(|| (home, format!("`{home} = {{ {key} = … }}`")))
    });
    let home = homes.next()?;
    homes.next().is_none().then_some(home)
}

/// The JSON type that the schema wants at a pointer.
pub(super) fn json_of(pointer: &str) -> Option<&'static str> {
    schema_at(pointer)?.get("type")?.as_str()
}

/// True for a table of the user's own keys.
pub(super) fn is_free(pointer: &str) -> bool {
    schema_at(pointer).is_some_and(|s| s["additionalProperties"].is_object())
}

/// True for a list.
pub(super) fn is_list(pointer: &str) -> bool {
    json_of(pointer) == Some("array")
}
