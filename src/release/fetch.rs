//! Bringing an artifact's bytes to the cache: sources in order, retries with back-off, a size limit, a digest.

#![expect(
    clippy::disallowed_methods,
    reason = "this capability asks the network"
)]

use super::stage::is_staged;
use crate::durable::{AtPath as _, PathError, create_private, make_private_dir, sync_dir};
use crate::model::{ArtifactSpec, Digest, Release};
use crate::store::Layout;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("interrupted")]
    Interrupted,
    #[error("artifact {artifact} could not be fetched from any source:\n{}", .tried.join("\n"))]
    AllFailed {
        artifact: String,
        tried: Vec<String>,
    },
}

/// One source that did not work.
#[derive(Debug)]
struct Miss {
    what: String,
    /// Another try of the same source may help.
    again: bool,
}

const TRIES: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// A transfer that brings nothing for this long is given up.
const STALL: Duration = Duration::from_secs(30);

/// The verified file in the cache.
pub(super) fn cached(layout: &Layout, artifact: &ArtifactSpec) -> PathBuf {
    layout.cache().join(artifact.digest.file_name())
}

/// Fetches and verifies; returns the size. Does nothing when the release is staged or the cache has it.
pub fn fetch(
    layout: &Layout,
    artifact: &ArtifactSpec,
    release: &Release,
    binary: &str,
    interrupted: &dyn Fn() -> bool,
) -> Result<u64, FetchError> {
    let done = if is_staged(layout, artifact, release, binary)? {
        Some(super::executable(layout, release, binary))
    } else {
        let cached = cached(layout, artifact);
        (cached.is_file() && digest_of(&cached, &artifact.digest)? == artifact.digest)
            .then_some(cached)
    };
    if let Some(path) = done {
        return Ok(fs::metadata(&path).at("look at", &path)?.len());
    }
    make_private_dir(&layout.cache())?;
    let mut tried = Vec::new();
    for source in &artifact.sources {
        let mut delay = FIRST_DELAY;
        for attempt in 1..=TRIES {
            if interrupted() {
                return Err(FetchError::Interrupted);
            }
            match one(layout, artifact, source, interrupted) {
                Ok(size) => return Ok(size),
                Err(miss) => {
                    let last = !miss.again || attempt == TRIES;
                    if last {
                        tried.push(format!(
                            "  {}: {} (attempt {attempt})",
                            without_secrets(source),
                            miss.what
                        ));
                        break;
                    }
                }
            }
            std::thread::sleep(delay);
            delay *= 2;
        }
    }
    Err(FetchError::AllFailed {
        artifact: artifact.name.to_string(),
        tried,
    })
}

/// One attempt at one source: to a temporary name, verified, synced, renamed.
fn one(
    layout: &Layout,
    artifact: &ArtifactSpec,
    source: &str,
    interrupted: &dyn Fn() -> bool,
) -> Result<u64, Miss> {
    let fatal = |e: PathError| Miss {
        what: chain(&e),
        again: false,
    };
    let part = layout
        .cache()
        .join(format!("{}.part", artifact.digest.file_name()));
    let mut file = create_private(&part).map_err(fatal)?;
    let copied =
        open(source, artifact).and_then(|reader| copy(reader, &mut file, artifact, interrupted));
    let (size, digest) = copied.inspect_err(|_| drop(fs::remove_file(&part)))?;
    if digest != artifact.digest {
        let _ = fs::remove_file(&part);
        // A truncated or wrong file at a source does not get better by asking again at once.
        return Err(Miss {
            what: format!("has digest {digest}, the manifest says {}", artifact.digest),
            again: false,
        });
    }
    file.sync_all().at("sync", &part).map_err(fatal)?;
    fs::rename(&part, cached(layout, artifact))
        .at("rename", &part)
        .map_err(fatal)?;
    sync_dir(&layout.cache()).map_err(fatal)?;
    Ok(size)
}

fn open(source: &str, artifact: &ArtifactSpec) -> Result<Box<dyn Read>, Miss> {
    if source.starts_with('/') {
        let file = File::open(source).map_err(|e| Miss {
            what: e.to_string(),
            again: false,
        })?;
        return Ok(Box::new(file));
    }
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(STALL))
            .timeout_per_read(Some(STALL))
            .http_status_as_error(false)
            .user_agent(concat!("visor/", env!("CARGO_PKG_VERSION")))
            .build(),
    );
    let response = agent.get(source).call().map_err(|e| Miss {
        what: e.to_string(),
        again: true,
    })?;
    let status = response.status();
    if !status.is_success() {
        let again = status.is_server_error() || status.as_u16() == 429 || status.as_u16() == 408;
        return Err(Miss {
            what: format!("answered {status}"),
            again,
        });
    }
    if let Some(len) = response
        .body()
        .content_length()
        .filter(|len| *len > artifact.size_limit)
    {
        return Err(too_large(len, artifact));
    }
    Ok(Box::new(response.into_body().into_reader()))
}

fn copy(
    mut reader: Box<dyn Read>,
    file: &mut File,
    artifact: &ArtifactSpec,
    interrupted: &dyn Fn() -> bool,
) -> Result<(u64, Digest), Miss> {
    let mut hasher = artifact.digest.hasher();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(|e| Miss {
                what: format!("broke off after {size} bytes: {e}"),
                again: true,
            })?,
        };
        if n == 0 {
            return Ok((size, hasher.finish()));
        }
        if interrupted() {
            return Err(Miss {
                what: "interrupted".into(),
                again: true,
            });
        }
        size += n as u64;
        if size > artifact.size_limit {
            return Err(too_large(size, artifact));
        }
        hasher.update(&buffer[..n]);
        file.write_all(&buffer[..n]).map_err(|e| Miss {
            what: format!("could not be written: {e}"),
            again: false,
        })?;
    }
}

fn too_large(size: u64, artifact: &ArtifactSpec) -> Miss {
    let limit = bytesize::ByteSize(artifact.size_limit);
    Miss {
        what: format!("has {size} bytes or more, size-limit is {limit}"),
        again: false,
    }
}

/// The digest of a file, by the algorithm of `like`.
pub(super) fn digest_of(path: &Path, like: &Digest) -> Result<Digest, PathError> {
    let mut file = File::open(path).at("open", path)?;
    let mut hasher = like.hasher();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = file.read(&mut buffer).at("read", path)?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..n]);
    }
}

/// A source as it may be shown: without user, password and query.
fn without_secrets(source: &str) -> String {
    let Some((scheme, rest)) = source.split_once("://") else {
        return source.to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}/{path}")
}

fn chain(error: &dyn std::error::Error) -> String {
    crate::host::HostError::from_error(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_source_are_not_shown() {
        for (source, shown) in [
            ("https://u:p@h.example/a?token=x", "https://h.example/a"),
            ("http://h", "http://h/"),
            ("/srv/a", "/srv/a"),
        ] {
            assert_eq!(without_secrets(source), shown);
        }
    }
}
