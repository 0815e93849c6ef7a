//! Backup policies.

use super::local::Local;
use crate::diag::{Code, Finding, Place};
use crate::manifest::{self, Object};
use crate::model::{ArchiveFormat, ArchiveSpec, BackupSpec, Late, Method, Rate};
use std::path::PathBuf;

impl Local<'_> {
    pub(super) fn backups(&mut self) {
        for object in &self.file.backups {
            let loaded = self.file;
            let at = |below: &str| loaded.at(object, below);
            let backup: &manifest::Backup = &object.value;
            let within = backup.keep.within.as_deref();
            let keep_within = within.map(|text| {
                let within = self.time_limit("within", Some(text), "7d", || at("/keep/within"));
                u64::try_from(within.as_millis()).unwrap_or(u64::MAX)
            });
            let archive = self.archive(backup, at);
            self.recipients(object);
            let spec = BackupSpec {
                archive,
                keep_last: backup.keep.last.unwrap_or(BackupSpec::DEFAULT_KEEP_LAST),
                keep_within,
                method: match backup.method {
                    manifest::Method::Auto => None,
                    manifest::Method::Snapshot => Some(Method::Snapshot),
                    manifest::Method::Reflink => Some(Method::Reflink),
                    manifest::Method::LinkCopy => Some(Method::LinkCopy),
                    manifest::Method::Copy => Some(Method::Copy),
                },
                rate: self.rate(backup.rate.as_deref(), || at("/rate")),
                late: match backup.late {
                    manifest::Late::Wait => Late::Wait,
                    manifest::Late::StopAnyway => Late::StopAnyway,
                    manifest::Late::SkipUpgrade => Late::SkipUpgrade,
                },
                reserve: self.size("reserve", backup.reserve.as_deref(), "1GiB", || {
                    at("/reserve")
                }),
                ..BackupSpec::named(&object.name)
            };
            if self.keep {
                self.facts.backups.push((object.name.clone(), spec));
            }
        }
    }

    fn archive(
        &mut self,
        backup: &manifest::Backup,
        at: impl Fn(&str) -> Place,
    ) -> Option<ArchiveSpec> {
        let place = || at("/to");
        let to = backup.to.as_deref();
        let Some(archive) = &backup.archive else {
            if to.is_some() {
                let message = "`to` says where archives go, and there is no `archive`";
                let help = "Say `archive = { format = \"tar.zst\" }`, or take `to` out.";
                self.push(Finding::error(Code::BadPath, place(), message, help));
            }
            return None;
        };
        if to.is_some_and(|to| !to.starts_with('/')) {
            let message = "`to` is not an absolute path";
            let help = "Write for example \"/mnt/backups\".";
            self.push(Finding::error(Code::BadPath, place(), message, help));
        }
        let is_gzip = archive.format == manifest::ArchiveFormat::TarGz;
        if let Some(level) = archive.level.filter(|level| is_gzip && *level > 9) {
            let message = format!("`level` of tar.gz is at most 9; this is {level}");
            let help = "Write 9 or less, or take `format = \"tar.zst\"`.";
            self.push(Finding::error(
                Code::BadValue,
                at("/archive/level"),
                message,
                help,
            ));
        }
        Some(ArchiveSpec {
            format: match archive.format {
                manifest::ArchiveFormat::TarZst => ArchiveFormat::TarZst,
                manifest::ArchiveFormat::TarGz => ArchiveFormat::TarGz,
            },
            level: archive.level.unwrap_or(ArchiveFormat::DEFAULT_LEVEL),
            to: to.map(PathBuf::from),
            recipients: archive.recipients.clone(),
        })
    }

    fn recipients(&mut self, object: &Object<manifest::Backup>) {
        let archive = object.value.archive.iter();
        for (i, key) in archive.flat_map(|a| &a.recipients).enumerate() {
            let at = || self.file.at(object, &format!("/archive/recipients/{i}"));
            if is_secret_key(key) {
                let message = "`recipients` holds a secret key";
                let help = "Manifests are kept in Git, where a secret stays for ever: replace it, and write the public key that belongs to it.";
                let mut finding = Finding::error(Code::Secret, at(), message, help);
                finding.secret = Some(at());
                self.push(finding);
            } else if !is_recipient(key) {
                let message = format!("\"{key}\" is no public key of age");
                let help = "Write one as `age-keygen` prints it, \"age1…\", or an SSH key: \"ssh-ed25519 AAAA…\".";
                let finding = Finding::error(Code::BadValue, at(), message, help);
                self.push(finding);
            }
        }
    }

    fn rate(&mut self, text: Option<&str>, place: impl FnOnce() -> Place) -> Rate {
        match text {
            None | Some("auto") => Rate::Auto,
            Some("unlimited") => Rate::Unlimited,
            Some(text) => match text.parse::<bytesize::ByteSize>() {
                Ok(size) if size.0 > 0 => Rate::Fixed(size.0),
                _ => {
                    let message = format!(
                        "`rate` wants \"auto\", \"unlimited\", or bytes a second such as \"100MiB\"; this is \"{text}\""
                    );
                    let help = "Write a number with one of B, KB, MB, GB, KiB, MiB, GiB: so much a second.";
                    self.push(Finding::error(Code::BadSize, place(), message, help));
                    Rate::Auto
                }
            },
        }
    }
}

/// What `age -i` takes: a secret key, or what a plugin knows it by.
fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_uppercase();
    ["AGE-SECRET-KEY", "AGE-PLUGIN-", "PRIVATE KEY"]
        .iter()
        .any(|mark| key.contains(mark))
}

/// What `age -r` takes: its own keys and those of its plugins, in bech32, and SSH's.
pub fn is_recipient(key: &str) -> bool {
    let is_ssh = ["ssh-ed25519 ", "ssh-rsa "]
        .iter()
        .any(|kind| key.starts_with(kind));
    let is_age = key.strip_prefix("age1").is_some_and(|rest| {
        rest.len() >= 8
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    is_age
        || is_ssh
            && key.split(' ').nth(1).is_some_and(|k| k.starts_with("AAAA"))
            && !key.contains('\n')
}
