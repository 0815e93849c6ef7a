//! Data that are a ZFS dataset. A mount point cannot be exchanged, a link can: the data's path is a link to where the dataset is mounted, the
//! copy is a clone of a snapshot, mounted beside it, and `tree` in the generation is a link to that.
//!
//! ```text
//!  <home>/data            -> /tank/geth                    the dataset tank/geth
//!  backups/gen/<id>/tree  -> /tank/geth-visor-<id>         tank/geth-visor-<id>, a clone of tank/geth@visor-<id>
//!  backups/gen/<id>/data  -> <home>/data                   so that no data in use are ever removed with a generation
//! ```
//!
//! A clone has the inode numbers and the stamps of its source, so it serves as the first round. The pool mounts clones again after a reboot.

use super::error::BackupError;
use super::method::{ZFS, file_system};
use super::mounts::{Mount, mounted_whole};
use crate::durable::{AtPath as _, PathError, parent, remove_all, sync_dir};
use crate::model::{GenId, Method};
use crate::process::{OutOfFile, has_program, run_quietly};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "zfs";
/// Between the name of a dataset and the generation, in names of snapshots and clones.
const MARK: &str = "visor-";
/// The link in a generation to the link that the data have.
const DATA: &str = "data";
/// What a list of the program may take.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What a clone gets of its source, if it is set there: the rest it has of the dataset above both, as the source has.
const PROPERTIES: [&str; 19] = [
    "aclinherit",
    "aclmode",
    "acltype",
    "atime",
    "checksum",
    "compression",
    "copies",
    "dedup",
    "devices",
    "dnodesize",
    "exec",
    "logbias",
    "primarycache",
    "quota",
    "recordsize",
    "redundant_metadata",
    "refquota",
    "relatime",
    "secondarycache",
];

/// True for a link to the top of a dataset.
pub(super) fn is_dataset(link: &Path) -> bool {
    // A separator at the end would be followed.
    let link: PathBuf = link.components().collect();
    fs::symlink_metadata(&link).is_ok_and(|m| m.is_symlink())
        && file_system(&link).is_ok_and(|kind| kind == ZFS)
        && fs::canonicalize(&link).is_ok_and(|top| is_mount_point(&top))
}

fn is_mount_point(dir: &Path) -> bool {
    Mount::of(dir).map(|m| m.id) != Mount::of(parent(dir)).map(|m| m.id)
}

/// The number of a dataset, which outlives its name; the tops of all of them have the same inode number.
pub(super) fn number(link: &Path) -> Option<u64> {
    let stat = is_dataset(link).then(|| rustix::fs::statvfs(link).ok())?;
    stat.map(|s| s.f_fsid)
}

/// Why no clone of a dataset can take its place, if it cannot.
pub(super) fn refusal(link: &Path) -> Option<String> {
    let own = fs::read_link("/proc/self/ns/mnt");
    let of_all = fs::read_link("/proc/1/ns/mnt");
    if !rustix::process::geteuid().is_root() {
        return Some("only root may mount a clone of their dataset".into());
    } else if !has_program(PROGRAM) {
        return Some("the program `zfs` is not there (zfsutils-linux)".into());
    } else if own.ok() != of_all.ok() {
        return Some(
            "visor has a mount namespace of its own, in which nobody else would see a clone (ProtectSystem=, PrivateTmp= and others of its unit)".into(),
        );
    }
    let source = match Source::of(link) {
        Ok(source) => source,
        Err(why) => return Some(why.to_string()),
    };
    let shows_snapshots = |dir: &Path| {
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        names.map(|e| e.file_name()).any(|name| name == ".zfs")
    };
    if source.beside(GenId(ulid::Ulid::nil())).is_none() {
        Some(format!(
            "{} is the top of its pool, beside which there is no clone",
            source.name
        ))
    } else if shows_snapshots(&source.top) {
        Some(format!(
            "their snapshots can be seen in them (`zfs set snapdir=hidden {}`)",
            source.name
        ))
    } else {
        None
    }
}

/// A dataset that is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    name: String,
    top: PathBuf,
}

impl Source {
    fn of(link: &Path) -> Result<Self, PathError> {
        let top = fs::canonicalize(link).at("resolve", link)?;
        let name = dataset_at(&top)
            .ok_or_else(|| io::Error::other("none is mounted there with all that it holds"));
        Ok(Self {
            name: name.at("find the dataset of", &top)?,
            top,
        })
    }

    /// Its clone of a generation, which may become a source itself. The top of a pool has nothing beside it.
    fn beside(&self, generation: GenId) -> Option<Self> {
        let (above, leaf) = self.name.rsplit_once('/')?;
        let dir = self.top.to_str()?.rsplit('/').next()?;
        let name = |leaf| format!("{}-{MARK}{generation}", plain(leaf));
        Some(Self {
            name: format!("{above}/{}", name(leaf)),
            top: self.top.with_file_name(name(dir)),
        })
    }
}

/// A name without the generation that it has been a clone of.
fn plain(name: &str) -> &str {
    match name.rsplit_once(&format!("-{MARK}")) {
        Some((plain, id)) if id.parse::<GenId>().is_ok() => plain,
        _ => name,
    }
}

/// The generation of a snapshot that visor has made.
fn of_snapshot(snapshot: &str) -> Option<GenId> {
    snapshot.split_once('@')?.1.strip_prefix(MARK)?.parse().ok()
}

/// The dataset that is mounted at a directory.
pub fn dataset_at(dir: &Path) -> Option<String> {
    let found = mounted_whole(dir).ok()??;
    (found.kind == "zfs").then_some(found.source)
}

/// Makes `tree` a link to a new clone of the data's dataset.
pub(super) fn snapshot(data: &Path, tree: &Path, generation: GenId) -> Result<(), BackupError> {
    let source = Source::of(data)?;
    let snapshot = format!("{}@{MARK}{generation}", source.name);
    let clone = lead_to(&source, data, tree, generation)?;
    forget_snapshots(&source.name)?;
    zfs(&["snapshot", &snapshot], &source.top)?;
    make(&source, &clone, &["clone"], Some(&snapshot), tree)
}

/// Makes `tree` a link to a new dataset that is empty.
pub(super) fn create(data: &Path, tree: &Path, generation: GenId) -> Result<(), BackupError> {
    let source = Source::of(data)?;
    let new = lead_to(&source, data, tree, generation)?;
    make(&source, &new, &["create"], None, tree)
}

/// Before a dataset is made, the generation has a link to it: whoever removes the generation finds it.
fn lead_to(
    source: &Source,
    data: &Path,
    tree: &Path,
    generation: GenId,
) -> Result<Source, BackupError> {
    let new = source.beside(generation).ok_or_else(|| {
        let why = format!("{} is the top of its pool", source.name);
        BackupError::NoMethod {
            method: Method::Snapshot,
            of: data.to_owned(),
            why,
        }
    })?;
    let dir = parent(tree);
    remove(tree)?;
    remove_all(tree)?;
    remove_all(&dir.join(DATA))?;
    symlink(data, dir.join(DATA)).at("link", &dir.join(DATA))?;
    symlink(&new.top, tree).at("link", tree)?;
    sync_dir(dir)?;
    // What a cut left that had no mount yet.
    if list(&["list", "-H", "-o", "name", &new.name], tree).is_ok() {
        zfs(&["destroy", &new.name], tree)?;
    }
    Ok(new)
}

fn make(
    source: &Source,
    new: &Source,
    how: &[&str],
    of: Option<&str>,
    tree: &Path,
) -> Result<(), BackupError> {
    let top = new.top.to_str().unwrap_or_default();
    let set = list(
        &[
            "get",
            "-Hp",
            "-s",
            "local,received",
            "-o",
            "property,value",
            "all",
            &source.name,
        ],
        tree,
    )?;
    let mut options = vec![format!("mountpoint={top}"), "canmount=on".to_owned()];
    let of_source = set.lines().filter_map(|line| line.split_once('\t'));
    options.extend(
        of_source
            .filter(|(name, _)| PROPERTIES.contains(name))
            .map(|(name, value)| format!("{name}={value}")),
    );
    let mut args = how.to_vec();
    for option in &options {
        args.extend(["-o", option]);
    }
    args.extend(of);
    args.push(&new.name);
    zfs(&args, tree)?;
    match is_dataset(tree) {
        true => Ok(()),
        false => Err(BackupError::DiskGone(new.top.clone())),
    }
}

/// Snapshots that no clone was made of, or whose clone somebody has destroyed.
fn forget_snapshots(name: &str) -> Result<(), BackupError> {
    let at = Path::new(name);
    for (snapshot, clones) in snapshots(name)? {
        if clones.is_empty() && of_snapshot(&snapshot).is_some() {
            zfs(&["destroy", &snapshot], at)?;
        }
    }
    Ok(())
}

/// The snapshots of a dataset, the older first, and the clones of each.
fn snapshots(name: &str) -> Result<Vec<(String, Vec<String>)>, PathError> {
    let args = ["list", "-Hp", "-t", "snapshot", "-d", "1", "-s", "creation"];
    let all = list(
        &[&args[..], &["-o", "name,clones", name]].concat(),
        Path::new(name),
    )?;
    let lines = all.lines().filter_map(|line| line.split_once('\t'));
    let clones = |text: &str| {
        let names = text.split(',').filter(|c| !c.is_empty() && *c != "-");
        names.map(str::to_owned).collect()
    };
    Ok(lines
        .map(|(name, text)| (name.to_owned(), clones(text)))
        .collect())
}

/// Removes a tree that is a link to a dataset, with that dataset. What is cloned of it stays whole. Does nothing for a tree that is a directory.
pub(super) fn remove(tree: &Path) -> Result<(), BackupError> {
    let Ok(top) = fs::read_link(tree) else {
        return Ok(());
    };
    may_be_removed(tree)?;
    if let Some(name) = named(&top)? {
        // The data may be a clone of it by now, and so may other generations: all that they need becomes theirs.
        while let Some(clone) = snapshots(&name)?
            .into_iter()
            .rev()
            .find_map(|(_, c)| c.into_iter().next())
        {
            zfs(&["promote", &clone], &top)?;
        }
        for (snapshot, _) in snapshots(&name)? {
            if of_snapshot(&snapshot).is_some() {
                zfs(&["destroy", &snapshot], &top)?;
            }
        }
        let origin = list(&["get", "-Hp", "-o", "value", "origin", &name], &top)?;
        let origin = origin.trim();
        // It goes with the last clone.
        if of_snapshot(origin).is_some() {
            zfs(&["destroy", "-d", origin], &top)?;
        }
        zfs(&["destroy", &name], &top)?;
    }
    fs::remove_file(tree).at("remove", tree)?;
    Ok(())
}

/// An error where the data have come to be what a tree is a link to: somebody has led them back there by hand.
pub(super) fn may_be_removed(tree: &Path) -> Result<(), BackupError> {
    let data = parent(tree).join(DATA);
    match (fs::canonicalize(&data), fs::canonicalize(tree)) {
        (Ok(live), Ok(dir)) if live == dir => Err(BackupError::InUse {
            dir,
            data: fs::read_link(&data).unwrap_or(data),
        }),
        _ => Ok(()),
    }
}

/// The dataset that belongs where the data's link leads, if nothing is there: a node that starts in its place knows nothing of what it has signed.
pub(super) fn not_mounted(data: &Path) -> Option<String> {
    let top = fs::read_link(data)
        .and_then(|_| fs::canonicalize(data))
        .ok()?;
    let is_empty = fs::read_dir(&top).is_ok_and(|mut names| names.next().is_none());
    if !is_empty || is_mount_point(&top) || !has_program(PROGRAM) {
        return None;
    }
    named(&top).ok()?
}

/// The dataset that is mounted there, or would be.
fn named(top: &Path) -> Result<Option<String>, PathError> {
    if let Some(name) = dataset_at(top) {
        return Ok(Some(name));
    }
    let all = list(
        &["list", "-Hp", "-t", "filesystem", "-o", "name,mountpoint"],
        top,
    )?;
    let mut lines = all.lines().filter_map(|line| line.split_once('\t'));
    Ok(lines
        .find(|(_, point)| Path::new(point) == top)
        .map(|(name, _)| name.to_owned()))
}

fn zfs(args: &[&str], of: &Path) -> Result<(), PathError> {
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    run_quietly(PROGRAM, &args).at("change the dataset of", of)
}

fn list(args: &[&str], of: &Path) -> Result<String, PathError> {
    let run = || {
        let program = OutOfFile::start(PROGRAM, args, File::open("/dev/null")?)?;
        let mut text = String::new();
        program.take(MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    };
    let ran: io::Result<String> = run();
    ran.at("look at the dataset of", of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_of_a_clone_has_the_name_of_the_first_source() {
        let id = |n: u128| GenId(ulid::Ulid(n));
        let source = Source {
            name: "tank/nodes/geth".into(),
            top: "/srv/geth-data".into(),
        };
        let first = source.beside(id(1)).expect("a name");
        assert_eq!(first.name, format!("tank/nodes/geth-visor-{}", id(1)));
        assert_eq!(
            first.top,
            Path::new(&format!("/srv/geth-data-visor-{}", id(1)))
        );
        let second = first.beside(id(2)).expect("a name");
        assert_eq!(second, source.beside(id(2)).expect("a name"));
        let odd = Source {
            name: "tank/a-visor-b".into(),
            top: "/srv/a-visor-b".into(),
        };
        assert_eq!(
            odd.beside(id(1)).expect("a name").name,
            format!("tank/a-visor-b-visor-{}", id(1))
        );
        let top = Source {
            name: "tank".into(),
            top: "/tank".into(),
        };
        assert_eq!(top.beside(id(1)), None);
        assert_eq!(
            of_snapshot(&format!("tank/geth@visor-{}", id(3))),
            Some(id(3))
        );
        for other in ["tank/geth@visor-daily", "tank/geth@auto", "-"] {
            assert_eq!(of_snapshot(other), None, "{other}");
        }
    }
}
