//! Secrets that are written as values. What they are is never repeated.

use super::local::Local;
use super::releases::user_of;
use crate::diag::{Code, Finding, Place};
use crate::manifest::{Hook, Node, Object};
use std::collections::BTreeMap;

/// Words in a name that say that its value is secret.
const WORDS: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "PRIVATEKEY",
    "PRIVKEY",
    "MNEMONIC",
    "CREDENTIAL",
];
/// Endings that say that the value is where the secret is, or something about it.
const PLACES: &[&str] = &[
    "FILE", "PATH", "DIR", "URL", "ADDRESS", "ID", "NAME", "TTL", "TIMEOUT",
];

/// Where on a line the value of something secret begins.
fn secret_value(line: &str) -> Option<usize> {
    let is_of_name = |c: char| c.is_alphanumeric() || "_-".contains(c);
    let mut marks = line.match_indices(['=', ':']);
    marks.find_map(|(at, _)| {
        let before = line[..at].trim_end_matches(['"', '\'', ' ', '\t']);
        let name = before.rsplit(|c| !is_of_name(c)).next()?;
        says_secret(name).then_some(at + 1)
    })
}

impl Local<'_> {
    pub(super) fn secrets(&mut self, node: &Object<Node>) {
        self.secret_env(node, &node.value.env);
        self.secret_args(node, "args", &node.value.args);
    }

    pub(super) fn hook_secrets(&mut self, hook: &Object<Hook>) {
        self.secret_env(hook, &hook.value.env);
        self.secret_args(hook, "run", &hook.value.run);
    }

    /// Mistakes in the value of something secret, of syntax or of its type: neither the advice nor the line may repeat it.
    pub(super) fn broken_secrets(&mut self) {
        // All of them may stand on one line, and that be as long as the file.
        let mut last = None;
        let mut lines = self.lines.borrow_mut();
        for finding in &mut self.facts.findings {
            if !matches!(finding.code, Code::Syntax | Code::WrongType) {
                continue;
            }
            let (_, range) = lines.line(finding.place.file, finding.place.start);
            let start = range.start;
            let line = &self.set.files[finding.place.file].text[range];
            let value = match last {
                Some((of, value)) if of == start => value,
                _ => secret_value(line),
            };
            last = Some((start, value));
            let Some(value) = value else { continue };
            let behind = &line[value..];
            let begin = start + value + behind.len() - behind.trim_start().len();
            if finding.code == Code::WrongType {
                // Its place is the value, and its words do not hold it; an edit would.
                if finding.place.start >= begin {
                    finding.fixes.clear();
                    finding.secret = Some(finding.place.clone());
                }
                continue;
            }
            finding.place.start = begin;
            finding.place.end = begin + behind.trim().len();
            finding.message =
                "this value cannot be read, and is not shown: it may be secret".into();
            finding.help =
                "Put it into quotes; better, name a file that only the node's user can read."
                    .into();
            finding.fixes.clear();
            finding.secret = Some(finding.place.clone());
        }
    }

    fn secret_env<T>(&mut self, object: &Object<T>, env: &BTreeMap<String, String>) {
        for (key, value) in env {
            if says_secret(key) && is_value(value) || names_password(value) {
                let below = format!("/env/{}", crate::manifest::escape(key));
                let place = self.file.key_of(object, &below);
                let value = self.file.at(object, &below);
                self.secret(place, value, format!("`{key}` holds a secret as a value"));
            }
        }
    }

    fn secret_args<T>(&mut self, object: &Object<T>, list: &str, args: &[String]) {
        for (i, arg) in args.iter().enumerate() {
            let flag = arg.trim_start_matches('-');
            if flag.len() == arg.len() || flag.len() < 2 {
                continue;
            }
            let dashes = &arg[..arg.len() - flag.len()];
            // A value behind a blank was meant to be an argument of its own.
            let (name, value, at) = match flag.split_once(['=', ' ', '\t']) {
                Some((name, value)) => (name, value.trim(), i),
                None => (flag, args.get(i + 1).map_or("", String::as_str), i + 1),
            };
            if says_secret(name) && is_value(value) && !value.starts_with('-') {
                let value = self.file.at(object, &format!("/{list}/{at}"));
                let place = self.file.at(object, &format!("/{list}/{i}"));
                self.secret(
                    place,
                    value,
                    format!("`{dashes}{name}` is given a secret as a value"),
                );
            }
        }
    }

    pub(super) fn secret(&mut self, place: Place, value: Place, message: String) {
        let help = "Manifests are kept in Git, where a secret stays for ever: replace it, and name a file that only the node's user can read.";
        let mut finding = Finding::warning(Code::Secret, place, message, help);
        finding.secret = Some(value);
        self.push(finding);
    }
}

/// A command line as it may be shown: the values of what its flags call secret are left out, and it is cut where it is long.
pub fn without_secrets(args: &[String]) -> String {
    const MOST: usize = 200;
    let mut shown = Vec::new();
    let mut is_secret = false;
    for arg in args {
        let (name, value) = arg.split_once('=').unwrap_or((arg, ""));
        shown.push(match (is_secret, says_secret(name)) {
            (true, _) if !arg.starts_with('-') => "***".to_owned(),
            (_, true) if !value.is_empty() => format!("{name}=***"),
            _ => arg.clone(),
        });
        is_secret = value.is_empty() && arg.starts_with('-') && says_secret(name);
    }
    let text: String = shown
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// True for an address with a password; a user alone may be a key that all may know, as of an `enode://`.
fn names_password(value: &str) -> bool {
    // Of a list of addresses, the first.
    let user = value.split([',', ' ']).next().and_then(user_of);
    user.is_some_and(|user| user.contains(':') && !user.contains("${"))
}

/// True for the name of something that is secret.
pub(super) fn says_secret(name: &str) -> bool {
    let bare: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    WORDS.iter().any(|w| bare.contains(w)) && !PLACES.iter().any(|p| bare.ends_with(p))
}

/// Something that could be the secret itself: no path, no variable, no switch.
fn is_value(value: &str) -> bool {
    let is_switch = ["", "true", "false", "0", "1"].contains(&value);
    !is_switch && !value.starts_with(['/', '.']) && !value.contains("${")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_shown_without_their_secrets() {
        let show = |text: &str| {
            let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
            without_secrets(&args)
        };
        assert_eq!(
            show("geth --api-token abc --password=x --port 1 --secret --http"),
            "geth --api-token *** --password=*** --port 1 --secret --http"
        );
        assert_eq!(show(&"x".repeat(300)).chars().count(), 201);
    }

    #[test]
    fn secrets_are_told_from_where_they_are() {
        for (name, value, is_secret) in [
            ("DB_PASSWORD", "hunter2", true),
            ("api-token", "abc", true),
            ("PRIVATE_KEY", "0xabc", true),
            ("PASSWORD_FILE", "hunter2", false),
            ("jwtsecret", "/etc/jwt", false),
            ("KEY", "x", false),
            ("TOKEN", "${node.home}/t", false),
        ] {
            assert_eq!(says_secret(name) && is_value(value), is_secret, "{name}");
        }
        assert!(names_password("postgres://u:hunter2@db/x"));
        for open in [
            "enode://a1b2c3@10.0.0.1:30303",
            "tcp://10.0.0.1:26656,abc@10.0.0.2:26656",
            "tcp://${env.U}:${env.P}@db",
        ] {
            assert!(!names_password(open), "{open}");
        }
    }
}
