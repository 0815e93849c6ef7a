//! What can go wrong with a backup.

use crate::durable::PathError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("interrupted")]
    Interrupted,
    /// The first round ends where it stands.
    #[error("cut off")]
    Cut,
    #[error("`{glob}` is not a glob")]
    Glob {
        glob: String,
        #[source]
        source: globset::Error,
    },
    #[error(
        "not enough space in {} for a copy of the data: {} needed and {} kept free, {} available",
        .dir.display(), bytesize::ByteSize(*.need), bytesize::ByteSize(*.reserve), bytesize::ByteSize(*.available)
    )]
    NoSpace {
        dir: PathBuf,
        need: u64,
        reserve: u64,
        available: u64,
    },
    #[error(
        "not enough inodes in {} for a copy of the data: {need} needed, {available} free; remove what is not needed there (`visor backup prune`), or make the file system with more",
        .dir.display()
    )]
    NoInodes {
        dir: PathBuf,
        need: u64,
        available: u64,
    },
    #[error("generation {0} is not sealed, or known to be bad, so it is not packed")]
    NotGood(crate::model::GenId),
    #[error("the archive {}: {what}", .path.display())]
    Archive { path: PathBuf, what: String },
    #[error("{} is damaged: {what}", .path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("generation {0} has no finished pre-copy round")]
    NoBaseline(crate::model::GenId),
    #[error("the kept file {} is missing from the live data; without it the old data must not be started", .0.display())]
    KeepMissing(PathBuf),
    #[error("{} was not carried over as it is in the live data", .0.display())]
    KeepDiffers(PathBuf),
    #[error("{} could not be exchanged with its copy; the file system may not support it", .0.display())]
    NoExchange(PathBuf),
    #[error("{} leads out of the data directory, to {}: {why}, so no copy of it could be put back; exclude the link or keep it", .link.display(), .to.display())]
    LinkOutside {
        link: PathBuf,
        to: PathBuf,
        why: String,
    },
    /// The copy was begun without it.
    #[error("{} leads out of the data directory, to {}, and did not when the copy was begun; a copy that is begun now holds what it names", .link.display(), .to.display())]
    NewRoot { link: PathBuf, to: PathBuf },
    #[error("{} does not lead to {} any more, as it did when the copy was begun: have it lead there again, or begin a new copy", .link.display(), .dir.display())]
    OtherRoot { link: PathBuf, dir: PathBuf },
    #[error("{} is missing, where the data or their copy have a part; is its disk mounted?", .0.display())]
    DiskGone(PathBuf),
    #[error("{} are the data that {} leads to, or may be if that has been moved: such data are never removed with a generation; lead the link elsewhere, or destroy their dataset by hand", .dir.display(), .data.display())]
    InUse { dir: PathBuf, data: PathBuf },
    #[error("{} is mounted inside the data: it would stay behind when data and copy exchange names; mount it elsewhere and exclude it, or say `backup = \"none\"`", .0.display())]
    MountInside(PathBuf),
    #[error("method {} cannot be had for {}: {why}", .method.as_str(), .of.display())]
    NoMethod {
        method: crate::model::Method,
        of: PathBuf,
        why: String,
    },
    #[error("the part was begun for {}, and the data are {}", .begun.display(), .now.display())]
    OtherSource { begun: PathBuf, now: PathBuf },
    #[error("the pre-copy failed: {0}")]
    Precopy(String),
}
