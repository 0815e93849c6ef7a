//! A manifest set as it was read, once: the manifests' texts, and names and modes of the files beside them.

use crate::diag::SourceText;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is known of a file in the set's directory that is no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BesideFile {
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSet {
    /// The directory, absolute.
    pub dir: PathBuf,
    /// Manifests, sorted by path.
    pub files: Vec<SourceText>,
    /// Files that are there and could not be read as text, with the reason.
    pub unreadable: Vec<(String, String)>,
    /// Other files by path relative to the directory.
    pub beside: BTreeMap<String, BesideFile>,
}
