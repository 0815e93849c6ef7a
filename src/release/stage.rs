//! Giving a verified file its place as an executable.

use super::fetch::{cached, digest_of};
use crate::durable::{AtPath as _, PathError, make_executable, parent, sync_dir};
use crate::model::{ArtifactSpec, Release};
use crate::store::Layout;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("artifact {0} is not in the cache")]
    NotFetched(String),
    #[error("artifact {artifact} cannot run on this machine: {why}")]
    NotExecutable { artifact: String, why: String },
}

/// Where the executable of a release lives.
pub fn executable(layout: &Layout, release: &Release, binary: &str) -> PathBuf {
    layout.root.join(release.dir()).join("bin").join(binary)
}

/// True when the executable is in place with the artifact's digest.
pub fn is_staged(
    layout: &Layout,
    artifact: &ArtifactSpec,
    release: &Release,
    binary: &str,
) -> Result<bool, PathError> {
    let path = executable(layout, release, binary);
    if !path.is_file() {
        return Ok(false);
    }
    Ok(digest_of(&path, &artifact.digest)? == artifact.digest)
}

/// Moves the cached file into the release, executable and synced.
pub fn stage(
    layout: &Layout,
    artifact: &ArtifactSpec,
    release: &Release,
    binary: &str,
) -> Result<(), StageError> {
    if is_staged(layout, artifact, release, binary)? {
        return Ok(());
    }
    let from = cached(layout, artifact);
    if !from.is_file() {
        return Err(StageError::NotFetched(artifact.name.to_string()));
    }
    can_run(&from).map_err(|why| StageError::NotExecutable {
        artifact: artifact.name.to_string(),
        why,
    })?;
    let to = executable(layout, release, binary);
    // Binaries are no secret, and a node may run as another user.
    for dir in [
        layout.root.join("upgrades"),
        layout.root.join(release.dir()),
        parent(&to).to_owned(),
    ] {
        fs::create_dir_all(&dir).at("make directory", &dir)?;
    }
    let file = File::open(&from).at("open", &from)?;
    make_executable(&file, &from)?;
    file.sync_all().at("sync", &from)?;
    fs::rename(&from, &to).at("rename into place", &to)?;
    for dir in [
        parent(&to),
        &layout.root.join(release.dir()),
        &layout.root.join("upgrades"),
        &layout.root,
    ] {
        sync_dir(dir)?;
    }
    Ok(())
}

/// Finds out before any outage whether the kernel would execute a file: an ELF for this machine, or a script whose
/// interpreter is there.
fn can_run(path: &Path) -> Result<(), String> {
    let mut head = [0; 256];
    let n = File::open(path)
        .and_then(|mut f| f.read(&mut head))
        .map_err(|e| e.to_string())?;
    let head = &head[..n];
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|&b| b == b'\n').next().unwrap_or(line))
            .into_owned();
        let interpreter = line
            .split_ascii_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        return if Path::new(&interpreter).is_file() {
            Ok(())
        } else {
            Err(format!("its interpreter `{interpreter}` is not there"))
        };
    }
    let machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        _ => return Ok(()),
    };
    match head {
        [0x7f, b'E', b'L', b'F', rest @ ..] if rest.len() >= 16 => {
            let found = u16::from_le_bytes([rest[14], rest[15]]);
            if found == machine {
                Ok(())
            } else {
                Err(format!(
                    "it is an ELF file for machine {found}, this one is {machine}"
                ))
            }
        }
        _ => Err("it is neither an ELF file nor a script with `#!`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        let check = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            can_run(&path)
        };
        assert_eq!(check(b"#!/bin/sh\nexit\n"), Ok(()));
        assert!(check(b"#!/no/such\n").is_err_and(|e| e.contains("/no/such")));
        assert!(check(b"<html>").is_err());
        let mut elf = b"\x7fELF".to_vec();
        elf.resize(64, 0);
        elf[18] = 8;
        assert!(check(&elf).is_err_and(|e| e.contains("machine 8")));
    }
}
