//! `visor batch import`: a peer's plan file as manifests.

use super::context::named_file;
use super::error::{CliError, Exit};
use super::out;
use crate::model::Name;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// Larger than any plan a person writes.
const MAX_PLAN: u64 = 1024 * 1024;

/// A batch plan of wemixvisor: JSON with `version, name, description, created_at, upgrades[{name,height,info}]`.
#[derive(Debug, Deserialize)]
struct BatchPlan {
    name: String,
    #[serde(default)]
    description: String,
    upgrades: Vec<PlannedUpgrade>,
}

#[derive(Debug, Deserialize)]
struct PlannedUpgrade {
    name: String,
    height: u64,
    /// An object, or a text that holds one.
    #[serde(default)]
    info: Value,
}

/// Writes `<set>/batch-<name>.toml`, which `plan check` then judges; never over a file that is there.
pub(super) fn batch_plan(set: &Path, file: &Path) -> Result<Exit, CliError> {
    let what = |why: String| {
        CliError::usage(
            format!("{} is no batch plan: {why}", file.display()),
            "It is JSON with name and upgrades, each with name and height.",
        )
    };
    let bytes = named_file(file, MAX_PLAN, "Name a batch plan.")?;
    let plan: BatchPlan = serde_json::from_slice(&bytes).map_err(|e| what(e.to_string()))?;
    let name: Name = plan
        .name
        .parse()
        .map_err(|e| what(format!("name \"{}\": {e}", plan.name)))?;
    for upgrade in &plan.upgrades {
        upgrade
            .name
            .parse::<Name>()
            .map_err(|e| what(format!("upgrade \"{}\": {e}", upgrade.name)))?;
        if i64::try_from(upgrade.height).is_err() || upgrade.height == 0 {
            return Err(what(format!(
                "upgrade \"{}\" has height {}",
                upgrade.name, upgrade.height
            )));
        }
    }
    let path = set.join(format!("batch-{name}.toml"));
    let mut out = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(CliError::usage(
                format!("{} is there already", path.display()),
                "Move it away, or edit it; an import replaces nothing.",
            ));
        }
        Err(e) => {
            return Err(CliError::Machine(format!(
                "{} cannot be written: {e}",
                path.display()
            )));
        }
    };
    let (text, unclear) = manifests(&name, &plan);
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all());
    if let Err(e) = written {
        let _ = fs::remove_file(&path);
        return Err(CliError::Machine(format!(
            "{} cannot be written: {e}",
            path.display()
        )));
    }
    out::line(&format!(
        "visor: wrote {} with {} upgrades",
        path.display(),
        plan.upgrades.len()
    ));
    if !unclear.is_empty() {
        out::line(&format!(
            "visor: the plan names no file or no digest for {}; `visor plan check` shows where they belong",
            unclear.join(", ")
        ));
    }
    Ok(Exit::Done)
}

/// The manifests, and the upgrades whose artifact is not whole.
fn manifests(name: &Name, plan: &BatchPlan) -> (String, Vec<String>) {
    let mut out = String::from("visor = 1\n");
    let mut unclear = Vec::new();
    let names: Vec<String> = plan.upgrades.iter().map(|u| quoted(&u.name)).collect();
    let _ = writeln!(out, "\n[batch.{}]", quoted(name.as_str()));
    if !plan.description.is_empty() {
        let _ = writeln!(out, "description = {}", quoted(&plan.description));
    }
    let _ = writeln!(out, "upgrades = [{}]", names.join(", "));
    for upgrade in &plan.upgrades {
        let key = quoted(&upgrade.name);
        let _ = writeln!(
            out,
            "\n[upgrade.{key}]\ntrigger = {{ height = {} }}\nartifact = {key}",
            upgrade.height
        );
        let files = files(&upgrade.info);
        if files.is_empty() {
            let _ = writeln!(
                out,
                "\n# The plan named no file for it.\n[artifact.{key}]\nfile = []"
            );
            unclear.push(upgrade.name.clone());
            continue;
        }
        let _ = writeln!(out, "\n[artifact.{key}]");
        for PlannedFile {
            platform,
            url,
            digest,
        } in files
        {
            let _ = writeln!(out, "[[artifact.{key}.file]]");
            if platform != "any" {
                let _ = writeln!(out, "platform = {}", quoted(&platform));
            }
            let _ = writeln!(out, "urls = [{}]", quoted(&url));
            match digest {
                Some((key, hex)) => {
                    let _ = writeln!(out, "{key} = {}", quoted(&hex));
                }
                None => unclear.push(upgrade.name.clone()),
            }
        }
    }
    unclear.dedup();
    (out, unclear)
}

/// A file that a plan names.
struct PlannedFile {
    platform: String,
    url: String,
    /// The manifest's key, and the hex digits.
    digest: Option<(&'static str, String)>,
}

/// The files that an `info` names: `{"binaries":{"linux/amd64":"url?checksum=sha256:…"},
/// "checksum":"sha256:…"}`, as an object or as a text.
fn files(info: &Value) -> Vec<PlannedFile> {
    let parsed = info
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok());
    let info: &Value = parsed.as_ref().unwrap_or(info);
    let common = info.get("checksum").and_then(Value::as_str);
    let binaries = info.get("binaries").and_then(Value::as_object);
    let file = |(platform, url): (&String, &Value)| {
        let whole = url.as_str()?;
        let (url, own) = without_checksum(whole);
        let own = own.as_deref();
        let digest = own.or(common).and_then(|text| {
            let (key, hex) = text.split_once(':').unwrap_or(("sha256", text));
            let key = match key {
                "sha256" => "sha256",
                "sha512" => "sha512",
                _ => return None,
            };
            Some((key, hex.to_ascii_lowercase()))
        });
        Some(PlannedFile {
            platform: platform.clone(),
            url,
            digest,
        })
    };
    binaries.into_iter().flatten().filter_map(file).collect()
}

/// An address without the parameter `checksum` of its query, and that.
fn without_checksum(whole: &str) -> (String, Option<String>) {
    let Some((address, query)) = whole.split_once('?') else {
        return (whole.to_owned(), None);
    };
    let (checksums, rest): (Vec<&str>, Vec<&str>) = query
        .split('&')
        .partition(|parameter| parameter.starts_with("checksum="));
    let checksum = checksums.first().and_then(|c| c.strip_prefix("checksum="));
    let url = if rest.is_empty() {
        address.to_owned()
    } else {
        format!("{address}?{}", rest.join("&"))
    };
    (url, checksum.map(str::to_owned))
}

/// A basic string of TOML; JSON's escapes are among TOML's, which wants one for DEL too.
fn quoted(text: &str) -> String {
    let json = serde_json::to_string(text).expect("a text");
    json.replace('\u{7f}', "\\u007f")
}
