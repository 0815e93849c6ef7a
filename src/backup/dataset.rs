//! Data that are a ZFS dataset. A mount point cannot be exchanged, a link can: the data's path is a link to where the dataset is mounted, the
//! copy is a clone of a snapshot, mounted beside it, and `tree` in the generation is a link to that.
//!
//! ```text
//!  <home>/data            -> /tank/geth             the dataset tank/geth
//!  backups/gen/<id>/tree  -> /tank/geth-visor-<id>  tank/geth-visor-<id>, a clone of tank/geth@visor-<id>
//!  backups/gen/<id>/dataset.json                    {"version":1,"generation":"01J…","data":"<home>/data",
//!                                                   "source":{"name":"tank/geth","guid":7,"top":"/tank/geth"},"clone":{…}}
//!  state/dataset          -> /tank/geth             a node has run on it: see `start_refusal`
//! ```
//!
//! A clone has the inode numbers and the stamps of its source, so it serves as the first round. The pool mounts clones again after a reboot.

use super::baseline::escaped;
use super::error::BackupError;
use super::method::{ZFS, file_system};
use super::mounts::{Mount, mounted_whole};
use crate::durable::{
    AtPath as _, PathError, parent, read_record, remove_all, replace_link, sync_dir, write_atomic,
};
use crate::model::{GenId, Method};
use crate::process::{OutOfFile, has_program, run_quietly};
use crate::store::Layout;
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "zfs";
/// Between the name of a dataset and the generation, in names of snapshots and clones.
const MARK: &str = "visor-";
/// The record of what a tree is a link to.
const RECORD: &str = "dataset.json";
/// Its format. 1: first.
const VERSION: u32 = 1;
const MAX_RECORD: u64 = 64 * 1024;
/// What a list of the program may take.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What a clone gets of its source, if it is set there: the rest it has of the dataset above both, as the source has.
const PROPERTIES: [&str; 28] = [
    "aclinherit",
    "aclmode",
    "acltype",
    "atime",
    "checksum",
    "compression",
    "copies",
    "dedup",
    "devices",
    "direct",
    "dnodesize",
    "exec",
    "logbias",
    "nbmand",
    "overlay",
    "prefetch",
    "primarycache",
    "quota",
    "recordsize",
    "redundant_metadata",
    "refquota",
    "relatime",
    "secondarycache",
    "setuid",
    "special_small_blocks",
    "sync",
    "vscan",
    "xattr",
];

/// A dataset, and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Dataset {
    name: String,
    /// It outlives a new name; 0 as long as it is perhaps not made yet.
    guid: u64,
    #[serde(with = "escaped")]
    top: PathBuf,
}

/// What the tree of a generation is, or was before it was put in the place of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    generation: GenId,
    /// The link that the data have.
    #[serde(with = "escaped")]
    data: PathBuf,
    source: Dataset,
    clone: Dataset,
}

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
    // Whoever may not exchange the link only asks.
    let is_visor = access(parent(link), Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if is_visor && !geteuid().is_root() {
        return Some("only root may mount a clone of their dataset".into());
    } else if !has_program(PROGRAM) {
        return Some("the program `zfs` is not there (zfsutils-linux)".into());
    } else if is_visor && own.ok() != of_all.ok() {
        return Some(
            "visor has a mount namespace of its own, in which nobody else would see a clone (ProtectSystem=, PrivateTmp= and others of its unit)".into(),
        );
    }
    let Ok(source) = Dataset::of(link) else {
        return Some("what is mounted there is a part of a dataset, not the whole of one".into());
    };
    // As the text of the link a dataset is known again.
    if fs::read_link(link).ok().as_ref() != Some(&source.top) {
        return Some(format!(
            "their link leads there by way of others (`ln -sfn {} {}`)",
            source.top.display(),
            link.display()
        ));
    }
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

impl Dataset {
    /// The one that a link leads to the top of.
    fn of(link: &Path) -> Result<Self, PathError> {
        let top = fs::canonicalize(link).at("resolve", link)?;
        let name = dataset_at(&top)
            .ok_or_else(|| io::Error::other("none is mounted there with all that it holds"));
        Ok(Self {
            name: name.at("find the dataset of", &top)?,
            guid: 0,
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
            guid: 0,
            top: self.top.with_file_name(name(dir)),
        })
    }

    fn identify(&mut self) -> Result<(), BackupError> {
        let guid = property("guid", &self.name, &self.top)?;
        self.guid = guid.parse().map_err(|_| BackupError::Damaged {
            path: self.top.clone(),
            what: format!("its dataset has the guid {guid}"),
        })?;
        Ok(())
    }

    /// The name that it has by now; `None` if it is not there any more. An error where its pool is not there: who forgets of a dataset in it
    /// never removes it.
    fn find(&self) -> Result<Option<String>, BackupError> {
        let args = ["list", "-Hp", "-t", "filesystem", "-o", "name,guid"];
        let all = list(&args, &self.top)?;
        let all: Vec<(&str, &str)> = all.lines().filter_map(|l| l.split_once('\t')).collect();
        let is_it = |(name, guid): &(&str, &str)| match self.guid {
            0 => *name == self.name,
            own => guid.parse() == Ok(own),
        };
        let mut found = all.iter().filter(|line| is_it(line));
        if let Some((name, _)) = found.next() {
            return match found.next() {
                None => Ok(Some((*name).to_owned())),
                Some((other, _)) => Err(BackupError::Damaged {
                    path: self.top.clone(),
                    what: format!("{name} and {other} have the same guid"),
                }),
            };
        }
        let pool = self.name.split('/').next();
        match all.iter().any(|(name, _)| Some(*name) == pool) {
            true => Ok(None),
            false => Err(BackupError::DiskGone(self.top.clone())),
        }
    }
}

impl Record {
    /// That of the directory of a generation.
    fn read(dir: &Path) -> Result<Self, BackupError> {
        let path = dir.join(RECORD);
        let found = read_record(&path, MAX_RECORD, VERSION)?;
        found.ok_or_else(|| BackupError::Damaged {
            path,
            what: "it does not say which dataset the tree is a link to".into(),
        })
    }

    fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let bytes = serde_json::to_vec(self).expect("plain data");
        Ok(write_atomic(&dir.join(RECORD), &bytes, true)?)
    }

    /// Which of the two a tree leads to.
    fn of_tree(&self, tree: &Path, top: &Path) -> Result<&Dataset, BackupError> {
        let both = [&self.clone, &self.source];
        let found = both.into_iter().find(|dataset| dataset.top == top);
        found.ok_or_else(|| BackupError::Damaged {
            path: tree.to_owned(),
            what: format!(
                "it leads to {}, which is no dataset of this generation",
                top.display()
            ),
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
    let (_, name) = snapshot.split_once('@')?;
    name.strip_prefix(MARK)?.parse().ok()
}

/// The dataset that is mounted at a directory.
pub fn dataset_at(dir: &Path) -> Option<String> {
    let found = mounted_whole(dir).ok()??;
    (found.kind == "zfs").then_some(found.source)
}

/// Makes `tree` a link to a new clone of the data's dataset.
pub(super) fn snapshot(data: &Path, tree: &Path, generation: GenId) -> Result<(), BackupError> {
    let refused = |why: String| BackupError::NoMethod {
        method: Method::Snapshot,
        of: data.to_owned(),
        why,
    };
    if let Some(why) = refusal(data) {
        return Err(refused(why));
    }
    let mut source = Dataset::of(data)?;
    source.identify()?;
    // What is synced would not last, and the exchange, on another file system, would.
    if property("sync", &source.name, &source.top)? == "disabled" {
        return Err(refused(format!(
            "nothing that is written to {0} is ever synced (`zfs set sync=standard {0}`)",
            source.name
        )));
    }
    let clone = source
        .beside(generation)
        .ok_or_else(|| refused(format!("{} is the top of its pool", source.name)))?;
    let dir = parent(tree);
    remove(tree)?;
    remove_all(tree)?;
    let mut record = Record {
        version: VERSION,
        generation,
        data: data.to_owned(),
        source,
        clone,
    };
    // Before a dataset is made, the generation leads to it: whoever removes the generation finds it.
    record.write(dir)?;
    symlink(&record.clone.top, tree).at("link", tree)?;
    sync_dir(dir)?;
    let snapshot = format!("{}@{MARK}{generation}", record.source.name);
    zfs(&["snapshot", &snapshot], &record.source.top)?;
    make(&record, &snapshot)?;
    if !is_dataset(tree) {
        return Err(BackupError::DiskGone(record.clone.top));
    }
    record.clone.identify()?;
    record.write(dir)
}

/// The same, emptied: what is stored in it is encrypted, and its names are compared, as those of the data are.
pub(super) fn create(data: &Path, tree: &Path, generation: GenId) -> Result<(), BackupError> {
    snapshot(data, tree, generation)?;
    for name in fs::read_dir(tree).at("list", tree)? {
        remove_all(&name.at("list", tree)?.path())?;
    }
    Ok(())
}

fn make(record: &Record, snapshot: &str) -> Result<(), BackupError> {
    let (source, clone) = (&record.source, &record.clone);
    let args = [
        "get",
        "-Hp",
        "-s",
        "local,received",
        "-o",
        "property,value",
        "all",
    ];
    let set = list(&[&args[..], &[&source.name]].concat(), &source.top)?;
    let mut options = vec![
        format!("mountpoint={}", clone.top.display()),
        "canmount=on".to_owned(),
        "snapdir=hidden".to_owned(),
    ];
    let set = set.lines().filter_map(|line| line.split_once('\t'));
    // No quota is not set as it is told.
    let set = set.filter(|(name, value)| PROPERTIES.contains(name) && *value != "0");
    options.extend(set.map(|(name, value)| format!("{name}={value}")));
    let mut args = vec!["clone"];
    for option in &options {
        args.extend(["-o", option]);
    }
    args.extend([snapshot, &clone.name]);
    Ok(zfs(&args, &clone.top)?)
}

/// The snapshots of a dataset, the older first, and the clones of each.
fn snapshots(name: &str) -> Result<Vec<(String, Vec<String>)>, PathError> {
    let args = ["list", "-Hp", "-t", "snapshot", "-d", "1", "-s", "creation"];
    let args = [&args[..], &["-o", "name,clones", name]].concat();
    let all = list(&args, Path::new(name))?;
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
    let record = Record::read(parent(tree))?;
    if let Some(name) = record.of_tree(tree, &top)?.find()? {
        destroy(&name, &top)?;
    }
    // A cut may have come before the clone.
    if let Some(source) = record.source.find()? {
        let own = format!("{source}@{MARK}{}", record.generation);
        let is_left = |(name, clones): &(String, Vec<String>)| *name == own && clones.is_empty();
        if snapshots(&source)?.iter().any(is_left) {
            zfs(&["destroy", &own], &top)?;
        }
    }
    fs::remove_file(tree).at("remove", tree)?;
    Ok(())
}

fn destroy(name: &str, top: &Path) -> Result<(), BackupError> {
    // The data may be a clone of it by now, and so may other generations: all that they need becomes theirs.
    let newest = |all: Vec<(String, Vec<String>)>| {
        let mut clones = all.into_iter().rev().map(|(_, clones)| clones);
        clones.find_map(|clones| clones.into_iter().next())
    };
    while let Some(clone) = newest(snapshots(name)?) {
        zfs(&["promote", &clone], top)?;
    }
    for (snapshot, _) in snapshots(name)? {
        if of_snapshot(&snapshot).is_some() {
            zfs(&["destroy", &snapshot], top)?;
        }
    }
    let origin = property("origin", name, top)?;
    // It goes with the last clone.
    if of_snapshot(&origin).is_some() {
        zfs(&["destroy", "-d", &origin], top)?;
    }
    Ok(zfs(&["destroy", name], top)?)
}

/// An error where the data have come to be what a tree is a link to: somebody has led them back there by hand.
pub(super) fn may_be_removed(tree: &Path) -> Result<(), BackupError> {
    let Ok(top) = fs::read_link(tree) else {
        return Ok(());
    };
    let Record { data, source, .. } = Record::read(parent(tree))?;
    let is_in_use = match fs::read_link(&data) {
        Ok(live) => live == top || fs::canonicalize(&data).is_ok_and(|live| live == top),
        // With a home that was moved nobody knows what its data are by now.
        Err(e) => e.kind() == io::ErrorKind::NotFound && top == source.top,
    };
    match is_in_use {
        true => Err(BackupError::InUse { dir: top, data }),
        false => Ok(()),
    }
}

/// Where a dataset was that a node has run on, if the data's link leads to none now: a node that starts in its place knows nothing of what it
/// has signed.
pub(super) fn not_mounted(layout: &Layout, data: &Path) -> Option<PathBuf> {
    let was = fs::read_link(layout.dataset()).ok()?;
    (fs::read_link(data).is_ok() && !is_dataset(data)).then_some(was)
}

/// Remembers that a node runs on a dataset, if it does.
pub fn remember_dataset(layout: &Layout, data: &Path) -> Result<(), PathError> {
    match fs::read_link(data) {
        Ok(top)
            if is_dataset(data) && fs::read_link(layout.dataset()).ok().as_ref() != Some(&top) =>
        {
            replace_link(&layout.dataset(), &top)
        }
        _ => Ok(()),
    }
}

fn zfs(args: &[&str], of: &Path) -> Result<(), PathError> {
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    run_quietly(PROGRAM, &args).at("change the dataset of", of)
}

fn property(name: &str, dataset: &str, of: &Path) -> Result<String, PathError> {
    let value = list(&["get", "-Hp", "-o", "value", name, dataset], of)?;
    Ok(value.trim().to_owned())
}

fn list(args: &[&str], of: &Path) -> Result<String, PathError> {
    let run = || {
        let program = OutOfFile::start(PROGRAM, args, File::open("/dev/null")?)?;
        let mut text = String::new();
        // What stands behind the limit is not taken for what is not there.
        match program.take(MAX_BYTES).read_to_string(&mut text)? as u64 {
            MAX_BYTES => Err(io::Error::other(format!(
                "`zfs` says more than {MAX_BYTES} bytes"
            ))),
            _ => Ok(text),
        }
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
        let dataset = |name: &str, top: &str| Dataset {
            name: name.into(),
            guid: 0,
            top: top.into(),
        };
        let source = dataset("tank/nodes/geth", "/srv/geth-data");
        let first = source.beside(id(1)).expect("a name");
        assert_eq!(first.name, format!("tank/nodes/geth-visor-{}", id(1)));
        assert_eq!(
            first.top,
            Path::new(&format!("/srv/geth-data-visor-{}", id(1)))
        );
        let second = first.beside(id(2)).expect("a name");
        assert_eq!(second, source.beside(id(2)).expect("a name"));
        let odd = dataset("tank/a-visor-b", "/srv/a-visor-b");
        assert_eq!(
            odd.beside(id(1)).expect("a name").name,
            format!("tank/a-visor-b-visor-{}", id(1))
        );
        let top = dataset("tank", "/tank");
        assert_eq!(top.beside(id(1)), None);
        assert_eq!(
            of_snapshot(&format!("tank/geth@visor-{}", id(3))),
            Some(id(3))
        );
        for other in ["tank/geth@visor-daily", "tank/geth@auto", "-"] {
            assert_eq!(of_snapshot(other), None, "{other}");
        }
    }

    #[test]
    fn the_record_is_read_as_it_was_first_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let example = include_str!("../../tests/data/dataset.v1.json");
        let path = dir.path().join(RECORD);
        fs::write(&path, example).expect("written");
        let found = Record::read(dir.path()).expect("read");
        assert_eq!(
            (found.source.guid, &*found.clone.name),
            (7, "tank/geth-visor-01J00000000000000000000000")
        );
        found.write(dir.path()).expect("written");
        assert_eq!(Record::read(dir.path()).expect("read"), found);
        fs::write(&path, example.replacen('{', "{\"colour\":\"red\",", 1)).expect("written");
        assert_eq!(Record::read(dir.path()).expect("read"), found);
        fs::write(&path, example.replacen("\"version\":1", "\"version\":2", 1)).expect("written");
        assert!(Record::read(dir.path()).is_err());
        fs::write(&path, "{}").expect("written");
        assert!(Record::read(dir.path()).is_err());
    }
}
