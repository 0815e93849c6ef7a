//! From the schema's flaws to findings, and a value on which the other rules can still be tried.
//!
//! A broken value is replaced by a placeholder and its pointer becomes *poisoned*: no rule may speak of it, all rules may
//! speak of what stands beside it.

use super::load::Kinds;
use super::mend::{given_name, mend, names};
use super::parse::{Parsed, can_hold_nul};
use super::schema::{
    Flaw, FlawKind, example_at, flaws, inner_home, is_free, is_list, json_of, nuls, placeholder,
    properties, schema_at,
};
use super::spans::{Spans, escape, find, find_mut, is_in, unescape};
use super::words::{FLOAT, closest, is_mark, json_type, list, synonym, type_word};
use crate::diag::{Code, Finding, Fix, Place};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml::de::DeTable;

/// What is known of a file after its structure was judged.
pub(super) struct Judged {
    pub(super) findings: Vec<Finding>,
    /// Pointers of which nothing more may be said.
    pub(super) poisoned: BTreeSet<String>,
    /// Those of them of which not a word is left.
    pub(super) silent: Vec<String>,
    /// Texts that stood where nothing is read: what they name counts as named.
    pub(super) mentioned: Vec<String>,
    /// Kinds whose table of objects was no table: names may be missing.
    pub(super) names_unknown: Kinds,
}

/// Judges a file, and repairs its value.
pub(super) fn judge(file: usize, text: &str, parsed: &mut Parsed) -> Judged {
    let is_other_format = |f: &Flaw| {
        f.pointer == "/visor" && matches!(f.kind, FlawKind::Minimum(_) | FlawKind::Maximum(_))
    };
    let mut found = flaws(&parsed.value);
    let mut findings = vec![];
    if !found.is_empty() && !found.iter().any(is_other_format) {
        findings = mend(file, text, parsed, &found);
        if !findings.is_empty() {
            found = flaws(&parsed.value);
        }
    }
    if can_hold_nul(text) {
        found.extend(nuls(&parsed.value));
    }
    let mut judge = Judge {
        file,
        text,
        misplaced_version: None,
        spans: &parsed.spans,
        lost: &parsed.lost,
        out: Judged {
            findings,
            poisoned: parsed.lost.clone(),
            silent: parsed.silent.clone(),
            mentioned: vec![],
            names_unknown: Kinds::default(),
        },
    };
    if found.is_empty() {
        return judge.out;
    }
    if let Some(flaw) = found.iter().find(|f| is_other_format(f)) {
        // What the rest of the file means is not known here.
        let value = parsed.find(&flaw.pointer).unwrap_or(&Value::Null);
        judge.wrong(&flaw.pointer, &flaw.kind, value);
        judge.out.names_unknown = Kinds::ALL;
        parsed.value = Value::Null;
        return judge.out;
    }
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut wrong = Vec::new();
    for Flaw { pointer, kind } in found {
        match kind {
            FlawKind::Missing(key) => missing.entry(pointer).or_default().push(key),
            FlawKind::Unknown(key) => unknown.push((pointer, key)),
            other => wrong.push((pointer, other)),
        }
    }
    for (pointer, kind) in wrong {
        if !judge.is_lost(&pointer) {
            let value = parsed.find(&pointer).unwrap_or(&Value::Null);
            judge.wrong(&pointer, &kind, value);
        }
        let stand_in = schema_at(&pointer).map(placeholder);
        let before = judge.out.mentioned.len();
        mention(parsed.find(&pointer), &mut judge.out.mentioned);
        if judge.out.mentioned.len() == before && !judge.is_lost(&pointer) {
            judge.out.silent.push(pointer.clone());
        }
        replace(&mut parsed.value, &pointer, stand_in);
        // `/node` or `/node/a` cannot be stood in for.
        if pointer.matches('/').count() < 3 && !pointer.is_empty() {
            replace(&mut parsed.value, &pointer, None);
        }
        judge.out.poisoned.insert(pointer);
    }
    let says_version = parsed.value.get("visor").is_some();
    for (pointer, key) in unknown {
        if key == "visor" && !says_version && judge.misplaced_version.is_none() {
            let here = format!("{pointer}/visor");
            judge.misplaced_version =
                Some(judge.spans.key(&here).start..judge.spans.value(&here).end);
            replace(&mut parsed.value, &here, None);
            continue;
        }
        let here = format!("{pointer}/{}", escape(&key));
        let wanted = missing.entry(pointer.clone()).or_default();
        judge.unknown(&parsed.value, &pointer, &here, &key, wanted);
        mention(parsed.find(&here), &mut judge.out.mentioned);
        replace(&mut parsed.value, &here, None);
    }
    for (pointer, keys) in missing {
        let is_whole = !parsed.holes.contains(&pointer) && !judge.is_lost(&pointer);
        for key in keys {
            let here = format!("{pointer}/{key}");
            let known = judge.out.poisoned.contains(&here);
            if is_whole && !known {
                judge.missing(&pointer, &key);
            }
            if !known {
                judge.out.silent.push(here.clone());
            }
            replace(&mut parsed.value, &here, schema_at(&here).map(placeholder));
            judge.out.poisoned.insert(here);
        }
    }
    judge.out
}

struct Judge<'a> {
    file: usize,
    text: &'a str,
    /// Where `visor = …` stands below a header.
    misplaced_version: Option<Range<usize>>,
    spans: &'a Spans,
    lost: &'a BTreeSet<String>,
    out: Judged,
}

impl Judge<'_> {
    fn is_lost(&self, pointer: &str) -> bool {
        is_in(self.lost, pointer)
    }

    fn push(&mut self, code: Code, span: Range<usize>, message: String, help: String) {
        let place = Place::new(self.file, span);
        self.out
            .findings
            .push(Finding::error(code, place, message, help));
    }

    /// The one edit that is certainly right for the last finding.
    fn fix(&mut self, span: Range<usize>, text: String) {
        let fix = Fix::new(Place::new(self.file, span), text);
        if let Some(last) = self.out.findings.last_mut() {
            last.fixes.push(fix);
        }
    }

    fn wrong(&mut self, pointer: &str, kind: &FlawKind, value: &Value) {
        let span = self.spans.value(pointer);
        let name = called(pointer);
        let shown = shown(value);
        match kind {
            FlawKind::Minimum(_) | FlawKind::Maximum(_) if pointer == "/visor" => self.push(
                Code::Version,
                span,
                format!("manifest format {shown} is not known"),
                "This visor reads `visor = 1`; a newer one may read more.".into(),
            ),
            FlawKind::Type(want) => self.wrong_type(pointer, want, value),
            FlawKind::Choice(choices) => {
                let guess = value
                    .as_str()
                    .and_then(|text| closest(text, choices.iter().map(String::as_str)));
                let help = match guess {
                    Some(guess) => {
                        format!("Did you mean \"{guess}\"? It is one of {}.", list(choices))
                    }
                    None => format!("Write one of {}.", list(choices)),
                };
                self.push(
                    Code::BadValue,
                    span.clone(),
                    format!("`{name}` cannot be {shown}"),
                    help,
                );
                // Another letter may make another word of it, as of `tar.xz`.
                let is_slip = |guess: &&str| {
                    let text = value.as_str().unwrap_or_default().trim();
                    text.chars().count() != guess.chars().count() && is_slip(text, guess)
                        || text.eq_ignore_ascii_case(guess)
                };
                if let Some(guess) = guess.filter(is_slip) {
                    self.fix(span, format!("\"{guess}\""));
                }
            }
            FlawKind::Minimum(limit) => self.push(
                Code::BadValue,
                span,
                format!("`{name}` is at least {limit}; this is {shown}"),
                format!("Write {limit} or more."),
            ),
            FlawKind::Maximum(limit) => self.push(
                Code::BadValue,
                span,
                format!("`{name}` is at most {limit}; this is {shown}"),
                format!("Write {limit} or less."),
            ),
            FlawKind::Nul => self.push(
                Code::BadValue,
                span,
                format!("`{name}` holds a NUL character"),
                "Take it out: no program and no file system can be given one.".into(),
            ),
            FlawKind::EmptyList => self.push(
                Code::BadValue,
                span,
                format!("`{name}` is an empty list"),
                "Write at least one element.".into(),
            ),
            FlawKind::Other(_) | FlawKind::Missing(_) | FlawKind::Unknown(_) => self.push(
                Code::BadValue,
                span,
                format!("`{name}` cannot be {shown}"),
                "See `visor schema` for what it can be.".into(),
            ),
        }
    }

    fn wrong_type(&mut self, pointer: &str, want: &str, value: &Value) {
        let span = self.spans.value(pointer);
        let name = called(pointer);
        let (want_word, is) = (type_word(want), type_word(json_type(value)));
        let example = example_at(pointer).filter(|_| want != "boolean");
        let example = example
            .map(|e| format!(", such as `{}`", as_toml(e)))
            .unwrap_or_default();
        let mut help = format!("Write {want_word}{example}.");
        // In a table of the user's own keys.
        let is_free = pointer
            .rsplit_once('/')
            .is_some_and(|(above, _)| is_free(above));
        if pointer.ends_with("/backup") && *value == Value::Bool(false) {
            help = "For no backup write \"none\".".into();
        }
        if is_free && json_type(value) == "object" {
            // In `labels.x = { network = … }` its keys may be meant as those of `labels`.
            let (above, _) = pointer.rsplit_once('/').unwrap_or_default();
            let inner = value.as_object().into_iter().flatten();
            let below = inner.map(|(key, _)| format!("{above}/{}", escape(key)));
            self.out.poisoned.extend(below);
            help = "A key with dots needs quotes, or it is read as several tables.".into();
        }
        let message = format!("`{name}` wants {want_word}; this is {is}");
        self.push(Code::WrongType, span.clone(), message, help);
        let item = schema_at(&format!("{pointer}/0"));
        let item_type = item.and_then(|s| s.get("type")?.as_str());
        let source = self.text.get(span.clone()).unwrap_or_default();
        let right = match (want, value) {
            // Only where any text will do: a duration of no unit would be the next mistake.
            ("string", Value::Number(_) | Value::Bool(_)) if is_free => {
                let written = value.to_string();
                (source == written).then(|| format!("\"{source}\""))
            }
            ("array", Value::String(text)) if item_type == Some("string") => {
                (!text.contains(char::is_whitespace)).then(|| format!("[{source}]"))
            }
            ("integer", Value::Object(float)) => float
                .get(FLOAT)
                .and_then(|f| f.get(0)?.as_str())
                // In `25.000` the point may stand between thousands.
                .filter(|text| !text.contains('.') || text.ends_with(".0"))
                .and_then(|text| text.replace('_', "").parse::<f64>().ok())
                .filter(|f| f.fract() == 0.0 && (0.0..1e15).contains(f))
                .map(|f| format!("{f:.0}")),
            _ => unquoted(want, value),
        };
        if let Some(text) = right {
            self.fix(span, text);
        }
    }

    fn missing(&mut self, pointer: &str, key: &str) {
        if pointer.is_empty() && key == "visor" {
            self.no_version();
            return;
        }
        let path: Vec<Cow<'_, str>> = pointer.split('/').skip(1).map(unescape).collect();
        let path: Vec<&str> = path
            .iter()
            .map(|part| given_name(part))
            .filter(|part| !part.is_empty())
            .collect();
        let example = schema_at(&format!("{pointer}/{key}"))
            .map(|s| format!(", for example `{key} = {}`", as_toml(&placeholder(s))))
            .unwrap_or_default();
        self.push(
            Code::MissingKey,
            self.spans.key(pointer),
            format!("`{}` has no `{key}`, which is required", path.join(".")),
            format!("Add `{key}`{example}."),
        );
    }

    fn no_version(&mut self) {
        // Comments at the top are about the file: a licence, or the schema for editors.
        let is_comment = |line: &&str| line.starts_with('#');
        let mark = if self.text.starts_with('\u{feff}') {
            3
        } else {
            0
        };
        let lines = self.text[mark..].split_inclusive('\n');
        let at = mark + lines.take_while(is_comment).map(str::len).sum::<usize>();
        let end = if self.text.contains("\r\n") {
            "\r\n"
        } else {
            "\n"
        };
        let begins_line = at == mark || self.text[..at].ends_with('\n');
        let text = format!("{}visor = 1{end}", if begins_line { "" } else { end });
        if let Some(span) = self.misplaced_version.clone() {
            self.push(
                Code::Version,
                span.clone(),
                "`visor` stands below a header, so it belongs to that table".into(),
                "Move it to the top of the file, above the first header.".into(),
            );
            let line_end = self.text[span.end..]
                .find('\n')
                .map_or(self.text.len(), |n| span.end + n + 1);
            let is_whole = says_one(&self.text[span.clone()])
                && self.text[..span.start].ends_with('\n')
                && self.text[span.end..line_end].trim().is_empty();
            if is_whole {
                self.fix(at..at, text);
                self.fix(span.start..line_end, String::new());
            }
            return;
        }
        self.push(
            Code::Version,
            0..0,
            "the file does not say which manifest format it has".into(),
            "Write `visor = 1` at the top of the file.".into(),
        );
        self.fix(at..at, text);
    }

    /// An unknown key that is much like a missing one is one mistake, not two.
    fn unknown(
        &mut self,
        value: &Value,
        pointer: &str,
        here: &str,
        key: &str,
        missing: &mut [String],
    ) {
        let place = self.spans.key(here);
        let known: Vec<String> = properties(pointer).map(str::to_owned).collect();
        let present = find(value, pointer).and_then(Value::as_object);
        let is_absent = |k: &&str| present.is_none_or(|p| !p.contains_key(*k));
        let absent = || known.iter().map(String::as_str).filter(is_absent);
        let near =
            closest(key, missing.iter().map(String::as_str)).or_else(|| closest(key, absent()));
        let is_certain = near.is_some_and(|k| missing.iter().any(|m| m == k) || is_slip(key, k));
        let guess = near.or_else(|| synonym(key, absent())).map(str::to_owned);
        let is_digest = known.iter().any(|k| k == "sha256")
            && [
                "md5",
                "sha",
                "sha1",
                "sha2",
                "sha224",
                "sha384",
                "sum",
                "checksum",
                "checksums",
                "digest",
                "hash",
            ]
            .contains(&key.to_lowercase().as_str());
        if pointer.ends_with("/trigger") {
            // That the trigger is empty would be the same mistake again.
            self.out.poisoned.insert(format!("{pointer}/height"));
        }
        let help = match &guess {
            _ if is_digest => {
                // That the file has no digest would be the same mistake again.
                self.out.poisoned.insert(format!("{pointer}/sha256"));
                "A file is verified by `sha256` or `sha512`: write what `sha256sum FILE` prints."
                    .into()
            }
            Some(guess) if is_certain => format!("Did you mean `{guess}`?"),
            Some(guess) => format!(
                "Did you mean `{guess}`? The keys here are {}.",
                list(&known)
            ),
            None => format!("The keys here are {}.", list(&known)),
        };
        // An element of a list is in its table.
        let table = pointer.rsplit_once('/').map_or("", |(above, _)| above);
        let table = if is_list(table) { table } else { pointer };
        let above = table.rsplit_once('/').map_or("", |(above, _)| above);
        let is_of_above = guess.is_none()
            && !is_digest
            && properties(above).any(|k| k == key)
            && find(value, above).is_some_and(|a| a.get(key).is_none());
        let is_unlike_all = guess.is_none() && !is_digest && !is_of_above;
        let inner = is_unlike_all.then(|| inner_home(pointer, key)).flatten();
        let help = match inner {
            _ if is_of_above => {
                // That it is missing there would be the same mistake again.
                self.out.poisoned.insert(format!("{above}/{key}"));
                let name = called(above);
                let kind = above.split('/').nth(1).unwrap_or_default();
                let owner = if name.is_empty() { kind } else { &name };
                format!("It belongs to `{owner}`: write it above this table.")
            }
            Some((home, form)) => {
                // That it is missing would be the same mistake again.
                self.out.poisoned.insert(format!("{pointer}/{home}"));
                format!("It belongs to `{home}`: write {form}.")
            }
            _ => help,
        };
        // What lacks here may stand in it, one level too deep.
        let inner = find(value, here).and_then(Value::as_object);
        for lacking in missing
            .iter()
            .filter(|k| inner.is_some_and(|i| i.contains_key(*k)))
        {
            self.out.poisoned.insert(format!("{pointer}/{lacking}"));
        }
        let guess = guess.filter(|_| !is_digest);
        let mut is_taken = false;
        if let Some(guess) = &guess {
            // What was meant may stand here: nothing is said about it being absent.
            is_taken = !self.out.poisoned.insert(format!("{pointer}/{guess}"));
        }
        // That an object has no name is said already.
        let is_nameless = pointer
            .rsplit_once('/')
            .is_some_and(|(_, n)| given_name(n).is_empty());
        if self.is_lost(here) || is_nameless && key == "name" {
            return;
        }
        self.push(
            Code::UnknownKey,
            place.clone(),
            format!("there is no key `{key}` here"),
            help,
        );
        // One that would be another mistake is not certain.
        let fits = |guess: &String| {
            let wanted = json_of(&format!("{pointer}/{guess}"));
            wanted.is_none_or(|w| find(value, here).is_none_or(|v| json_type(v) == w))
                && !(pointer.is_empty() && find(value, here).is_some_and(Value::is_object))
        };
        let is_first = is_certain && !is_taken && names(self.text, &place, key);
        if let Some(guess) = guess.filter(|g| is_first && fits(g)) {
            self.fix(place, guess);
        }
    }
}

/// True for `visor = 1`.
fn says_one(statement: &str) -> bool {
    let value = statement.split_once('=').map(|(_, value)| value.trim());
    value == Some("1")
}

/// True for a key that is another but for one letter, two that changed places, its case, or `_` for `-`.
pub(super) fn is_slip(key: &str, meant: &str) -> bool {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    strsim::damerau_levenshtein(&plain(key), meant) <= 1
}

/// A number or a truth value that was put into quotes.
fn unquoted(want: &str, value: &Value) -> Option<String> {
    let text = value.as_str()?.trim();
    let fits = match want {
        "integer" => {
            DeTable::parse(&format!("x = {text}")).is_ok()
                && text.replace('_', "").parse::<i64>().is_ok()
        }
        "boolean" => matches!(text, "true" | "false"),
        _ => false,
    };
    fits.then(|| text.to_owned())
}

/// The last part of a pointer, as people call it: `file.0` is an element of `file`.
fn called(pointer: &str) -> String {
    let mut parts = pointer
        .rsplit('/')
        .map(|p| given_name(&unescape(p)).to_owned());
    let last = parts.next().unwrap_or_default();
    match parts.next() {
        Some(above) if last.parse::<usize>().is_ok() => format!("{above}[{last}]"),
        _ => last,
    }
}

/// A value in a message; long ones are cut.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(o) if o.contains_key(FLOAT) => {
            o[FLOAT][0].as_str().unwrap_or_default().into()
        }
        other => {
            if other.is_object() {
                return "a table".into();
            }
            let text = other.to_string();
            if text.chars().count() > 60 {
                text.chars().take(57).collect::<String>() + "…"
            } else {
                text
            }
        }
    }
}

/// A value of the schema as it is written in a manifest.
pub(super) fn as_toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(as_toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k} = {}", as_toml(v)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// Puts a value into the place of another, or takes it out.
fn replace(root: &mut Value, pointer: &str, with: Option<Value>) {
    let Some((above, key)) = pointer.rsplit_once('/') else {
        return;
    };
    let key = unescape(key);
    match find_mut(root, above) {
        Some(Value::Object(map)) => {
            match with {
                Some(value) => map.insert(key.into_owned(), value),
                None => map.remove(&*key),
            };
        }
        Some(Value::Array(items)) => {
            if let (Some(slot), Some(value)) = (
                key.parse::<usize>().ok().and_then(|i| items.get_mut(i)),
                with,
            ) {
                *slot = value;
            }
        }
        _ => {}
    }
}

/// Keeps the texts of a value.
fn mention(value: Option<&Value>, into: &mut Vec<String>) {
    match value.filter(|v| !is_mark(v)) {
        Some(Value::String(text)) => into.push(text.clone()),
        Some(Value::Array(items)) => items.iter().for_each(|v| mention(Some(v), into)),
        Some(Value::Object(map)) => map.values().for_each(|v| mention(Some(v), into)),
        _ => {}
    }
}

/// True when a pointer is another one, or below it.
pub(super) fn is_below(pointer: &str, root: &str) -> bool {
    let rest = pointer.strip_prefix(root);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
