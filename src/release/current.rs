//! The link `current`: which release the node is started from. Replaced in one step, never removed.

use crate::durable::{AtPath as _, PathError, replace_link};
use crate::killpoint;
use crate::model::Release;
use crate::store::Layout;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum CurrentError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{} points to {}, which is neither `genesis` nor `upgrades/<name>` of this root", .link.display(), .target.display())]
    Foreign { link: PathBuf, target: PathBuf },
    #[error("{} is not a symbolic link; move it away and point a link of this name to the release that runs", .0.display())]
    NotALink(PathBuf),
}

/// The release that `current` names; `None` when there is no link.
pub fn read_current(layout: &Layout) -> Result<Option<Release>, CurrentError> {
    let link = layout.current();
    let target = match std::fs::read_link(&link) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            return Err(CurrentError::NotALink(link));
        }
        other => other.at("read link", &link)?,
    };
    match Release::from_link(&target, &layout.root) {
        Some(release) => Ok(Some(release)),
        None => Err(CurrentError::Foreign { link, target }),
    }
}

/// Points `current` at a release.
pub fn switch(layout: &Layout, to: &Release) -> Result<(), PathError> {
    replace_link(&layout.current(), &to.dir())?;
    killpoint::hit("switch:after");
    Ok(())
}
