//! Artifacts and backup policies.

use super::desired::Artifact;
use super::local::Local;
use super::vars::split_rpc;
use crate::diag::{Code, Finding, Place};
use crate::manifest::{self, ArtifactFile, Object, closest};
use crate::model::{ArtifactSpec, Digest, DigestError, Name};
use std::collections::BTreeMap;

/// Platforms in the words of Go, as in release lists and `upgrade-info.json`.
const SYSTEMS: &[&str] = &["linux", "darwin", "windows", "freebsd", "openbsd", "netbsd"];
const ARCHITECTURES: &[&str] = &[
    "amd64", "arm64", "386", "arm", "riscv64", "ppc64le", "s390x", "loong64", "mips64le",
];

const DEFAULT_SIZE_LIMIT: &str = "1GiB";

impl Local<'_> {
    pub(super) fn artifacts(&mut self) {
        for object in &self.file.artifacts {
            let name = object.name.parse::<Name>().ok().filter(|_| self.keep);
            let mut files = Vec::new();
            let mut platforms: BTreeMap<Option<&str>, usize> = BTreeMap::new();
            for (i, file) in object.value.file.iter().enumerate() {
                let loaded = self.file;
                let at = |below: &str| loaded.at(object, &format!("/file/{i}{below}"));
                if let Some(first) = platforms.insert(file.platform.as_deref(), i) {
                    let of = file
                        .platform
                        .as_deref()
                        .map_or("any platform".to_owned(), |p| format!("platform {p}"));
                    let finding = Finding::error(
                        Code::SamePlatform,
                        at(""),
                        format!("a second file for {of}"),
                        "Give each file a platform of its own.",
                    );
                    self.push(finding.with(
                        loaded.at(object, &format!("/file/{first}")),
                        "the first one",
                    ));
                }
                if let Some(platform) = &file.platform {
                    self.platform(platform, || at("/platform"));
                }
                let sources = self.sources(object, i, file);
                let digest = self.digest(file, &at);
                let size_limit = self.size(
                    "size-limit",
                    file.size_limit.as_deref(),
                    DEFAULT_SIZE_LIMIT,
                    || at("/size-limit"),
                );
                let (Some(name), Some(digest), Some(sources)) = (&name, digest, sources) else {
                    continue;
                };
                let spec = ArtifactSpec {
                    name: name.clone(),
                    version: object.value.version.clone(),
                    sources,
                    digest,
                    size_limit,
                };
                files.push((file.platform.clone(), spec));
            }
            if let Some(name) = name {
                let artifact = Artifact { name, files };
                self.facts.artifacts.push((object.name.clone(), artifact));
            }
        }
    }

    fn platform(&mut self, text: &str, place: impl Fn() -> Place) {
        let known =
            |(os, arch): (&str, &str)| SYSTEMS.contains(&os) && ARCHITECTURES.contains(&arch);
        if text.split_once('/').is_some_and(known) {
            return;
        }
        let lower = text.to_lowercase().replace(['-', '_'], "/");
        let (os, arch) = lower
            .trim()
            .split_once('/')
            .unwrap_or(("linux", lower.trim()));
        // One that is merely like another is another processor: `mips64` is not `mips64le`.
        let name = match arch {
            "x86/64" | "x64" => "amd64",
            "aarch64" | "armv8" => "arm64",
            other => other,
        };
        let is_certain = known((os, name));
        let os = closest(os, SYSTEMS.iter().copied()).unwrap_or(os);
        let arch = match name {
            "x86" => "386",
            other => closest(other, ARCHITECTURES.iter().copied()).unwrap_or(other),
        };
        let finding = Finding::error(
            Code::BadPlatform,
            place(),
            format!("there is no platform \"{text}\""),
            "It is an operating system and an architecture, such as \"linux/amd64\" or \"linux/arm64\".",
        );
        self.push(if known((os, arch)) {
            let mut finding = if is_certain {
                finding.fixed_by(place(), format!("\"{os}/{arch}\""))
            } else {
                finding
            };
            finding.help = format!("Did you mean \"{os}/{arch}\"?").into();
            finding
        } else {
            finding
        });
    }

    fn digest(&mut self, file: &ArtifactFile, at: &dyn Fn(&str) -> Place) -> Option<Digest> {
        let (digest, key) = match (&file.sha256, &file.sha512) {
            (Some(hex), None) => (Digest::sha256(hex), "sha256"),
            (None, Some(hex)) => (Digest::sha512(hex), "sha512"),
            // What stands there instead is said already.
            (None, None) if at("/sha256").is_nowhere() || at("/sha512").is_nowhere() => {
                return None;
            }
            (None, None) => {
                let help = "Add `sha256` with the output of `sha256sum FILE`; what cannot be verified is not run.";
                self.push(Finding::error(
                    Code::NoDigest,
                    at(""),
                    "this file has no digest",
                    help,
                ));
                return None;
            }
            (Some(_), Some(_)) => {
                self.push(Finding::error(
                    Code::NoDigest,
                    at("/sha512"),
                    "this file has two digests",
                    "Keep one of `sha256` and `sha512`.",
                ));
                return None;
            }
        };
        match digest {
            Ok(digest) => Some(digest),
            Err(error) => {
                let hex = file.sha256.as_ref().or(file.sha512.as_ref());
                let hex = hex.map_or("", String::as_str);
                let place = at(&format!("/{key}"));
                let finding = match undressed(hex, key) {
                    Some((bare, what)) => Finding::error(
                        Code::BadDigest,
                        place.clone(),
                        format!("{what} stands beside the hex digits"),
                        "Write the hex digits alone.",
                    )
                    .fixed_by(place, format!("\"{bare}\"")),
                    None => Finding::error(
                        Code::BadDigest,
                        place,
                        error.to_string(),
                        match error {
                            _ if key == "sha256" && hex.to_lowercase().starts_with("sha512") => {
                                "Is it a SHA-512? Then the key is `sha512`."
                            }
                            DigestError::Length { found: 128, .. } if key == "sha256" => {
                                "Is it a SHA-512? Then the key is `sha512`."
                            }
                            DigestError::Length { found: 64, .. } if key == "sha512" => {
                                "Is it a SHA-256? Then the key is `sha256`."
                            }
                            DigestError::Length { found: 32, .. } => {
                                "Is it an MD5? Write what `sha256sum FILE` prints."
                            }
                            _ => "Write the hex digits that `sha256sum` or `sha512sum` prints.",
                        },
                    ),
                };
                self.push(finding);
                None
            }
        }
    }

    /// Addresses and absolute paths, in order; `None` when one cannot be used.
    fn sources(
        &mut self,
        object: &Object<manifest::Artifact>,
        i: usize,
        file: &ArtifactFile,
    ) -> Option<Vec<String>> {
        let mut out = Vec::new();
        let mut good = true;
        for (j, url) in file.urls.iter().enumerate() {
            let place = || self.file.at(object, &format!("/file/{i}/urls/{j}"));
            match source(url) {
                Ok(Source::Web) => out.push(url.clone()),
                Ok(Source::Absolute(path)) => out.push(path),
                Ok(Source::Relative(path)) => {
                    if self.set.beside.contains_key(&path) {
                        out.push(self.set.dir.join(&path).display().to_string());
                    } else {
                        let near = (self.near)(&path);
                        let help = match near {
                            Some(near) => format!("Did you mean \"{near}\"?"),
                            None => "Put the file into the set, or write the whole address with https://.".to_owned(),
                        };
                        let finding = Finding::error(
                            Code::BadSource,
                            place(),
                            format!("there is no file \"{path}\" in the set"),
                            help,
                        );
                        self.push(finding);
                        good = false;
                    }
                }
                Err(why) => {
                    let help = "Write an https://, http:// or file:/// address, or a path relative to the set.";
                    let mut finding =
                        Finding::error(Code::BadSource, place(), format!("`{url}` {why}"), help);
                    if holds_password(url) {
                        finding.help = "Take user and password out. Where the server asks for them, fetch the file by other means, and name its path.".into();
                        finding.message = format!("the address {why}");
                        finding.secret = Some(place());
                    }
                    self.push(finding);
                    good = false;
                }
            }
        }
        good.then_some(out)
    }
}

/// The hex digits of a digest that somebody copied with what stood around them, and what that was.
fn undressed<'a>(text: &'a str, key: &str) -> Option<(&'a str, String)> {
    let trimmed = text.trim();
    let length = if key == "sha256" { 64 } else { 128 };
    // Another algorithm's name says that the key is wrong, not the value.
    let before = [":", "-", "=", " "].map(|mark| format!("{key}{mark}"));
    let lower = trimmed.to_lowercase();
    let prefix = before.iter().map(String::as_str).chain(["0x"]);
    let prefix = prefix.into_iter().find(|p| lower.starts_with(p));
    let (bare, what) = match prefix {
        Some(prefix) => (trimmed.get(prefix.len()..)?.trim(), format!("`{prefix}`")),
        None => match trimmed.split_once(char::is_whitespace) {
            // Of several lines, which is meant is not known.
            Some((digits, rest)) if !rest.contains('\n') => (digits, "a file's name".to_owned()),
            Some(_) => return None,
            None if trimmed.len() < text.len() => (trimmed, "a blank".to_owned()),
            None => return None,
        },
    };
    let is_digest = bare.len() == length && bare.chars().all(|c| c.is_ascii_hexdigit());
    is_digest.then_some((bare, what))
}

/// True for an address with a user or a password before its host.
pub(super) fn holds_password(url: &str) -> bool {
    user_of(url).is_some()
}

/// What stands before the `@` of an address.
pub(super) fn user_of(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    authority.split_once('@').map(|(user, _)| user)
}

enum Source {
    Web,
    Absolute(String),
    Relative(String),
}

fn source(url: &str) -> Result<Source, &'static str> {
    match url.split_once("://") {
        _ if url != url.trim() => Err("begins or ends with a blank"),
        Some(("http" | "https", rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if authority.is_empty() {
                Err("has no host")
            } else if holds_password(url) {
                Err("holds a user or password, which do not belong into a manifest")
            } else if split_rpc(url).is_none() {
                Err("has a host or a port that cannot be")
            } else {
                Ok(Source::Web)
            }
        }
        Some(("file", path)) if path.starts_with('/') => Ok(Source::Absolute(path.to_owned())),
        Some(("file", _)) => Err("names a host; a file:// address is file:///absolute/path"),
        Some(_) => Err("has a scheme that visor does not fetch"),
        None if url.is_empty() => Err("is empty"),
        None if url.starts_with('/') => Err("is an absolute path without file://"),
        None if inside(url).is_none() => Err("leads out of the set"),
        None => Ok(Source::Relative(inside(url).unwrap_or_default())),
    }
}

/// A relative path without `.` and empty parts; `None` when it leads out.
pub(super) fn inside(path: &str) -> Option<String> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|p| !p.is_empty() && *p != ".")
        .collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}
