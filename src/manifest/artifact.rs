//! `[artifact.<name>]`: a file to fetch.

use super::schema::EXAMPLE_SHA256;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// One program in one version, as files for platforms.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Artifact {
    /// The version, for people's eyes. Default: none.
    #[schemars(example = &"v2.0.0")]
    pub version: Option<String>,
    /// The files, at most one a platform.
    #[schemars(length(min = 1), example = json!([{ "urls": ["releases/gethd-v2"], "sha256": EXAMPLE_SHA256 }]))]
    pub file: Vec<ArtifactFile>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArtifactFile {
    /// Operating system and architecture. Default: fits any.
    #[schemars(example = &"linux/amd64")]
    pub platform: Option<String>,
    /// Where the file is: `https://`, `http://`, `file://`, or a path relative to the manifest set; tried in order.
    #[schemars(example = ["https://releases.example/gethd-v2"], length(min = 1))]
    pub urls: Vec<String>,
    /// SHA-256 of the file: 64 hex digits. Exactly one digest is required. Default: none.
    #[schemars(example = &"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    pub sha256: Option<String>,
    /// SHA-512 of the file: 128 hex digits. Default: none.
    #[schemars(example = &"cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e")]
    pub sha512: Option<String>,
    /// A larger file is refused. A size. Default: `"1GiB"`.
    #[schemars(example = &"200MiB")]
    pub size_limit: Option<String>,
}
