//! Hooks: a program of the set or an absolute one, durations, variables.

use super::facts::{Facts, Mode};
use super::local::Local;
use super::releases::inside;
use super::secrets::says_secret;
use super::vars::{NODE_VARS, UPGRADE_VARS, expand};
use crate::diag::{Code, Finding, Place};
use crate::manifest::{Object, escape};
use crate::model::{HookPhase, HookSpec, Name};
use std::collections::BTreeMap;
use std::time::Duration;

/// A hook without its phase.
#[derive(Debug, Clone)]
pub(super) struct HookParts {
    pub(super) name: Name,
    pub(super) run: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) retry_delay: Duration,
    pub(super) once: bool,
    pub(super) rehearse: bool,
}

impl HookParts {
    pub(super) fn spec(&self, phase: HookPhase) -> HookSpec {
        HookSpec {
            name: self.name.clone(),
            phase,
            run: self.run.clone(),
            env: self.env.clone(),
            timeout: self.timeout,
            retries: self.retries,
            retry_delay: self.retry_delay,
            once: self.once,
        }
    }
}

/// Programs whose mode is wrong, each once, however many hooks run it.
pub(super) fn modes(facts: &[Facts]) -> Vec<Finding> {
    let mut first: BTreeMap<&str, (Mode, &Place)> = BTreeMap::new();
    for (path, mode, place) in facts.iter().flat_map(|f| &f.programs) {
        if !place.is_nowhere() {
            first.entry(path).or_insert((*mode, place));
        }
    }
    let of = |(path, (mode, place)): (&str, (Mode, &Place))| {
        let (message, help) = match mode {
            Mode::NotExecutable => (
                format!("the program \"{path}\" is not executable"),
                format!("Run `chmod +x {path}`, and commit the mode."),
            ),
            Mode::WritableByAll => (
                format!("the program \"{path}\" can be changed by everybody"),
                format!("Run `chmod o-w {path}`: visor runs it with its own rights."),
            ),
        };
        Finding::error(Code::BadHook, place.clone(), message, help)
    };
    first.into_iter().map(of).collect()
}

impl Local<'_> {
    pub(super) fn hooks(&mut self) {
        let loaded = self.file;
        for object in &loaded.hooks {
            let hook = &object.value;
            let at = |below: &str| loaded.at(object, below);
            let program = self.program(&hook.run[0], || at("/run/0"));
            let known: &[&[&str]] = &[NODE_VARS, UPGRADE_VARS];
            for (i, text) in hook.run.iter().enumerate() {
                self.variables(text, || at(&format!("/run/{i}")), known);
            }
            for (key, text) in &hook.env {
                self.variables(text, || at(&format!("/env/{}", escape(key))), known);
            }
            self.environment(object, &hook.env);
            self.arguments(object, "run", &hook.run);
            self.hook_secrets(object);
            let timeout =
                self.time_limit("timeout", hook.timeout.as_deref(), "60s", || at("/timeout"));
            let retry_delay = self.duration("delay", hook.retry.delay.as_deref(), "1s", || {
                at("/retry/delay")
            });
            let name = object.name.parse::<Name>().ok().filter(|_| self.keep);
            let Some(name) = name else { continue };
            let mut run = hook.run.clone();
            if let Some(program) = program {
                run[0] = program;
            }
            let parts = HookParts {
                name,
                run,
                env: hook.env.clone(),
                timeout,
                retries: hook.retry.times,
                retry_delay,
                once: hook.once,
                rehearse: hook.rehearse,
            };
            self.facts.hooks.push((object.name.clone(), parts));
        }
    }

    /// The absolute path of a hook's program.
    fn program(&mut self, program: &str, place: impl FnOnce() -> Place) -> Option<String> {
        if program.starts_with('/') {
            // A path may hold a blank; what follows it here is no part of one.
            let mut words = program.split_whitespace();
            let second = words.nth(1);
            if second.is_some_and(|w| w.starts_with(['-', '/']) || !w.contains('/')) {
                self.push(Finding::warning(
                    Code::OneArgument,
                    place(),
                    "the program's name holds a blank: no shell splits it",
                    "Write the program first, then each argument as an element of its own.",
                ));
            }
            return Some(program.to_owned());
        }
        let Some(path) = inside(program) else {
            let help = "Write a file of the set, such as \"hooks/check.sh\", or an absolute path.";
            self.push(Finding::error(
                Code::BadHook,
                place(),
                format!("the program `{program}` leads out of the set"),
                help,
            ));
            return None;
        };
        match self.set.beside.get(&path) {
            None => {
                let near = (self.near)(&path);
                let first = path.split_whitespace().next().unwrap_or_default();
                let help = match near {
                    _ if first != path => {
                        "No shell splits it: write a list, the program first, then each argument by itself.".into()
                    }
                    Some(near) => format!("Did you mean \"{near}\"?"),
                    None => {
                        "Put the program into the set, or write its absolute path; programs are not looked up in PATH.".into()
                    }
                };
                self.push(Finding::error(
                    Code::BadHook,
                    place(),
                    format!("there is no program \"{path}\" in the set"),
                    help,
                ));
                None
            }
            Some(file) if file.mode & 0o111 == 0 || file.mode & 0o002 != 0 => {
                let mode = if file.mode & 0o111 == 0 {
                    Mode::NotExecutable
                } else {
                    Mode::WritableByAll
                };
                self.facts.programs.push((path, mode, place()));
                None
            }
            Some(_) => Some(self.set.dir.join(&path).display().to_string()),
        }
    }

    /// Names of environment variables that no program could read.
    pub(super) fn environment<T>(&mut self, object: &Object<T>, env: &BTreeMap<String, String>) {
        for key in env.keys() {
            let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let starts_well = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if starts_well && key.chars().all(good) {
                continue;
            }
            let place = self.file.key_of(object, &format!("/env/{}", escape(key)));
            let message = format!("\"{key}\" cannot be the name of an environment variable");
            let help = "Use letters, digits and `_`, and no digit first.";
            self.push(Finding::error(Code::BadVariableName, place, message, help));
        }
    }

    /// Arguments that were meant to be split as a shell would.
    pub(super) fn arguments<T>(&mut self, object: &Object<T>, list: &str, args: &[String]) {
        for (i, text) in args.iter().enumerate() {
            let mut words = text.split_whitespace();
            let is_flag = words
                .next()
                .is_some_and(|w| w.starts_with('-') && !w.contains(['=', '"', '\'']));
            let has_more = text.split_whitespace().skip(1).any(|w| w.starts_with("--"));
            let is_pair = is_flag && text.starts_with("--") && text.split_whitespace().count() == 2;
            if !(is_flag && has_more || is_pair) {
                continue;
            }
            let place = self.file.at(object, &format!("/{list}/{i}"));
            let split: Vec<String> = text
                .split_whitespace()
                .map(|w| format!("\"{w}\""))
                .collect();
            self.push(Finding::warning(
                Code::OneArgument,
                place,
                "the program gets this as one argument: no shell splits it",
                if text.split_whitespace().any(says_secret) {
                    "Write each of them as an element of its own.".to_owned()
                } else {
                    format!("Write {}.", split.join(", "))
                },
            ));
        }
    }

    /// Finds every `${…}` that does not exist.
    pub(super) fn variables(
        &mut self,
        text: &str,
        place: impl FnOnce() -> Place,
        known: &[&[&str]],
    ) {
        let all = || known.iter().flat_map(|k| k.iter().copied());
        let Err(all_bad) = expand(text, |name| all().any(|k| k == name).then(String::new)) else {
            return;
        };
        let whole = place();
        if whole.is_nowhere() {
            return;
        }
        // Inside a plain string the place can be exact; escapes shift it, then the whole string is shown.
        let quoted = &self.set.files[whole.file].text[whole.start..whole.end];
        let is_plain = quoted.get(1..quoted.len().saturating_sub(1)) == Some(text);
        for bad in all_bad {
            let mut place = whole.clone();
            if is_plain {
                place.end = whole.start + 1 + bad.end;
                place.start = whole.start + 1 + bad.start;
            }
            let guess = crate::manifest::closest(&bad.name, all());
            let message = if bad.is_closed {
                format!("there is no variable ${{{}}}", bad.name)
            } else {
                format!("the variable ${{{} is not closed", bad.name)
            };
            let help = match guess {
                _ if !bad.is_closed => {
                    let name = guess.unwrap_or(&bad.name);
                    format!("Write ${{{name}}}, or $${{ for a plain ${{.")
                }
                Some(guess) => format!("Did you mean ${{{guess}}}?"),
                None => {
                    let names: Vec<String> = all().map(|n| format!("${{{n}}}")).collect();
                    format!(
                        "The variables here are {}; write $${{ for a plain ${{.",
                        names.join(", ")
                    )
                }
            };
            self.push(Finding::error(Code::UnknownVariable, place, message, help));
        }
    }
}
