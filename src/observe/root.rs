//! The root of a node whose manifest does not name one.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("{} holds more than one root: {}; say which with `root` in the manifest", .home.display(), .found.join(", "))]
pub struct RootError {
    home: PathBuf,
    found: Vec<String>,
}

/// The one of `visor`, `cosmovisor` and `wemixvisor` below the home that is there; else `visor`.
pub fn find_root(home: &Path) -> Result<PathBuf, RootError> {
    let names = ["visor", "cosmovisor", "wemixvisor"];
    let found: Vec<&str> = names
        .into_iter()
        .filter(|n| home.join(n).is_dir())
        .collect();
    match found.as_slice() {
        [] => Ok(home.join("visor")),
        [one] => Ok(home.join(one)),
        many => Err(RootError {
            home: home.to_owned(),
            found: many.iter().map(|s| (*s).to_owned()).collect(),
        }),
    }
}
