//! Making a node of a set fit for a rehearsal.

#![expect(clippy::disallowed_methods, reason = "devnode listens on loopback")]

use crate::check::vars::rpc_address;
use crate::check::{Artifact, DesiredNode};
use crate::devnode::Fault;
use crate::durable::{AtPath as _, PathError};
use crate::model::{ArtifactSpec, ChainSpec, Digest, Name, Trigger, sha256_hex};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the new releases are to be bad.
pub type Bad = Option<Fault>;

/// A node ready to be rehearsed.
#[derive(Debug)]
pub struct Staged {
    pub node: DesiredNode,
    /// What was replaced, in words.
    pub replaced: Vec<String>,
    /// Upgrades that wait for an approval, which a rehearsal gives.
    pub approve: Vec<Name>,
}

#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("no free port on loopback")]
    NoPort(#[source] std::io::Error),
    #[error("node {0} has no `genesis`, so there is nothing to start from; name an artifact")]
    NoGenesis(Name),
}

/// A stand-in's upgrades begin so many blocks apart.
const HEIGHTS_APART: u64 = 25;
/// Nobody waits longer for the health of a stand-in.
const LONGEST_HEALTH: Duration = Duration::from_secs(15);
const LONGEST_GRACE: Duration = Duration::from_secs(10);

/// Moves a node into `dir` and replaces what cannot be real there.
pub fn stage(mut node: DesiredNode, dir: &Path, bad: Bad) -> Result<Staged, RehearseError> {
    let mut replaced = Vec::new();
    let old_home = node.spec.home.clone();
    let home = dir.join("home");
    let below = node
        .spec
        .data
        .path
        .strip_prefix(&old_home)
        .map_or_else(|_| PathBuf::from("data"), Path::to_owned);
    node.spec.data.path = home.join(below);
    node.spec.root = home.join("visor");
    node.spec.home.clone_from(&home);
    fs::create_dir_all(&home).at("make directory", &home)?;
    replaced.push(format!(
        "home {} by a temporary directory",
        old_home.display()
    ));
    let port = free_port().map_err(RehearseError::NoPort)?;
    if let ChainSpec::Evm { rpc, .. } = &mut node.spec.chain {
        replaced.push(format!("RPC {rpc} by port {port}"));
        *rpc = format!("http://127.0.0.1:{port}");
    }
    let standing_in = !node.rehearse;
    let releases = dir.join("releases");
    fs::create_dir_all(&releases).at("make directory", &releases)?;
    if standing_in {
        replaced.push(format!(
            "program {} and its arguments by devnode",
            node.spec.launch.binary
        ));
        node.spec.launch.args = devnode_args(&node);
        node.spec.launch.env.clear();
        node.spec.data.exclude.push("LOCK".into());
        node.spec.data.keep.push("signer.json".into());
        let name = node
            .genesis
            .as_ref()
            .map(|g| g.name.clone())
            .ok_or_else(|| RehearseError::NoGenesis(node.spec.name.clone()))?;
        node.genesis = Some(launcher(&releases, &name, None)?);
    }
    for (i, upgrade) in node.upgrades.iter_mut().enumerate() {
        if standing_in || bad.is_some() {
            upgrade.artifact = launcher(&releases, &upgrade.artifact.name, bad)?;
        }
        if let (Trigger::Height(height), true) = (&mut upgrade.trigger, standing_in) {
            let small = HEIGHTS_APART * (i as u64 + 1);
            replaced.push(format!(
                "height {height} of upgrade {} by {small}",
                upgrade.name
            ));
            *height = small;
        }
        let before = upgrade.hooks.len();
        upgrade.hooks.retain(|h| h.rehearse);
        if upgrade.hooks.len() < before {
            replaced.push(format!(
                "{} hooks of upgrade {} left out: they do not say `rehearse = true`",
                before - upgrade.hooks.len(),
                upgrade.name
            ));
        }
        if upgrade.health.within > LONGEST_HEALTH {
            upgrade.health.within = LONGEST_HEALTH;
            upgrade.health.alive = upgrade.health.alive.min(LONGEST_HEALTH);
            replaced.push(format!(
                "health of upgrade {} awaited for {LONGEST_HEALTH:?} at most",
                upgrade.name
            ));
        }
    }
    if let Some(fault) = bad {
        replaced.push(format!(
            "the upgrades' releases by bad ones ({})",
            word(fault)
        ));
        if fault == Fault::IgnoreTerm {
            node.spec.stop.kill = true;
            node.spec.stop.grace = node.spec.stop.grace.min(LONGEST_GRACE);
            replaced.push("stop by `kill = true`, for nothing else ends this fault".into());
        }
    }
    if standing_in {
        replaced.push("artifacts by stand-ins with digests of their own".into());
    }
    let approve = node
        .upgrades
        .iter()
        .filter(|u| u.trigger == Trigger::Manual)
        .map(|u| u.name.clone())
        .collect();
    Ok(Staged {
        node,
        replaced,
        approve,
    })
}

fn devnode_args(node: &DesiredNode) -> Vec<String> {
    let mut args = vec![
        "--data".to_owned(),
        "${node.data}".to_owned(),
        "--block-ms".to_owned(),
        "100".to_owned(),
    ];
    if rpc_address(&node.spec.chain).is_some() {
        args.extend(["--port".to_owned(), "${chain.port}".to_owned()]);
    }
    args
}

/// A release that runs devnode under its own name.
fn launcher(dir: &Path, name: &Name, bad: Bad) -> Result<Artifact, RehearseError> {
    let fault = bad
        .map(|f| format!(" --fault {}", word(f)))
        .unwrap_or_default();
    let text = format!("#!/bin/sh\nexec \"$VISOR_EXE\" devnode --release {name}{fault} \"$@\"\n");
    let path = dir.join(format!("{name}{}", if bad.is_some() { "-bad" } else { "" }));
    fs::write(&path, &text).at("write", &path)?;
    let spec = ArtifactSpec {
        name: name.clone(),
        version: None,
        sources: vec![path.display().to_string()],
        digest: Digest::sha256(&sha256_hex(text.as_bytes())).expect("hex of a digest is a digest"),
        size_limit: 1024 * 1024,
    };
    Ok(Artifact {
        name: name.clone(),
        files: vec![(None, spec)],
    })
}

/// The fault's word on the command line.
fn word(fault: Fault) -> String {
    use clap::ValueEnum as _;
    fault
        .to_possible_value()
        .map(|v| v.get_name().to_owned())
        .unwrap_or_default()
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
