//! Second roots: directories outside the data that a link in them leads to, as `ancient` on another disk. They are part of the data, and
//! each is copied on its own disk, beside itself.
//!
//! ```text
//!  /mnt/disk/ancient                    the second root
//!  /mnt/disk/.visor-ancient/<id>/       tree/ its copy, tmp/ files under way
//!  backups/gen/<id>/tree/…/ancient      a link to the copy, until the generation is put back
//!  backups/gen/<id>/roots.json          {"version":1,"generation":"01J…","roots":[{"path":"geth/ancient","dir":"/mnt/disk/ancient",
//!                                       "link":"../../ancient","method":"link-copy","inode":9}]}; not there without second roots
//! ```
//!
//! To put a generation back, its links get the text that the data's had, each second root is exchanged with its copy, and the data
//! themselves come last: until then the node is down, and each of these steps can be found done.

use super::baseline::escaped;
use super::dress::{link_time, times};
use super::error::BackupError;
use super::method::{method_of_root, stamps_unreliable};
use super::mounts::Mount;
use super::record::{GenState, Generation};
use super::restore::{exchange_names, put_in_place};
use super::scan::scan;
use super::subvolume::is_subvolume;
use super::tree::{Ident, Kind, Tree};
use super::view::{DataView, Top};
use super::whole;
use crate::durable::{
    AtPath as _, make_private_dir, parent, read_record, remove_all, replace_link, sync_dir,
    write_atomic,
};
use crate::killpoint;
use crate::model::{DataSpec, GenId, Method};
use rustix::fs::{Access, AtFlags, CWD, access, utimensat};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

/// The format of `roots.json`. 1: first.
const VERSION: u32 = 1;
/// The record of a generation's second roots.
pub(super) const ROOTS: &str = "roots.json";
const MAX_BYTES: u64 = 1024 * 1024;
/// More than any node has disks.
const MOST: usize = 64;
/// Nobody keeps a chain there, and nobody wants to find an older state of it there.
const OF_THE_SYSTEM: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys",
    "/usr",
];

/// The second roots of one generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Roots {
    version: u32,
    generation: GenId,
    roots: Vec<Root>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Root {
    /// Of the link, relative to the data.
    #[serde(with = "escaped")]
    pub(super) path: PathBuf,
    /// Where it leads, all links resolved: what is exchanged.
    #[serde(with = "escaped")]
    pub(super) dir: PathBuf,
    /// The text of the link.
    #[serde(with = "escaped")]
    link: PathBuf,
    pub(super) method: Method,
    /// Of the copy, which has it under whatever name; 0 before the copy is begun.
    inode: u64,
}

impl Roots {
    pub(super) fn none(generation: GenId) -> Self {
        Self {
            version: VERSION,
            generation,
            roots: vec![],
        }
    }

    /// Looks for links that lead out of the data, and gives the view the second roots; with them comes what the data hold. `own`: where
    /// generations are. An error for one that could not be put back.
    pub(super) fn find(
        view: &mut DataView,
        data: &DataSpec,
        generation: GenId,
        own: &Path,
        asked: Option<Method>,
    ) -> Result<(Self, Tree), BackupError> {
        let mut found = Self::none(generation);
        // Those of second roots are found when they are a part of the view.
        loop {
            let all = scan(view)?;
            let out = all.sorted().into_iter().filter_map(|(path, entry)| {
                let link = (entry.kind == Kind::Link).then(|| view.name(&path))?;
                Some((path, view.leads_out(&link)?))
            });
            // What another one leads to may lie in a directory.
            let next = out.min_by_key(|(_, to)| (!to.is_dir(), to.components().count()));
            let Some((path, dir)) = next else {
                return Ok((found, all));
            };
            let link = view.name(&path);
            if let Some(why) = refusal(view, &dir, own).or_else(|| {
                (found.roots.len() == MOST).then(|| format!("the data have {MOST} such links"))
            }) {
                return Err(BackupError::LinkOutside { link, to: dir, why });
            }
            let root = Root {
                link: fs::read_link(&link).at("read link", &link)?,
                method: method_of_root(&dir, data, asked),
                path,
                dir,
                inode: 0,
            };
            view.roots.push(root.top(root.dir.clone()));
            found.roots.push(root);
        }
    }

    /// Those of a generation, by the directory that it has by now. An error where its own tree is not there.
    pub(super) fn read(dir: &Path, generation: GenId) -> Result<Self, BackupError> {
        whole::is_there(&dir.join("tree"))?;
        Self::recorded(dir, generation)
    }

    /// The same of one that need not be there.
    pub(super) fn recorded(dir: &Path, generation: GenId) -> Result<Self, BackupError> {
        let path = dir.join(ROOTS);
        match read_record::<Self>(&path, MAX_BYTES, VERSION)? {
            Some(found) if found.generation == generation => Ok(found),
            None if !path.exists() => Ok(Self::none(generation)),
            _ => Err(BackupError::Damaged {
                path,
                what: format!("it does not say the second roots of generation {generation}"),
            }),
        }
    }

    fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let bytes = serde_json::to_vec(self).expect("plain data");
        Ok(write_atomic(&dir.join(ROOTS), &bytes, true)?)
    }

    /// Writes down the second roots of a part, and makes the places of their copies.
    pub(super) fn make(&mut self, part: &Path) -> Result<(), BackupError> {
        if self.roots.is_empty() {
            return Ok(());
        }
        // Before they are made, so that whoever removes the part knows of them.
        self.write(part)?;
        for i in 0..self.roots.len() {
            let place = self.place(&self.roots[i]);
            let above = parent(&place);
            make_private_dir(above)?;
            let meta = fs::symlink_metadata(above).at("look at", above)?;
            if !meta.is_dir() || meta.uid() != geteuid().as_raw() {
                return Err(BackupError::Damaged {
                    path: above.to_owned(),
                    what: "copies lie there, and it is no directory of visor's user".into(),
                });
            }
            for dir in ["tree", "tmp"] {
                make_private_dir(&place.join(dir))?;
            }
            try_exchange(&place.join("tmp"))?;
            let tree = place.join("tree");
            self.roots[i].inode = fs::metadata(&tree).at("look at", &tree)?.ino();
            sync_dir(&place)?;
            sync_dir(parent(&place))?;
            sync_dir(parent(parent(&place)))?;
        }
        self.write(part)
    }

    /// Forgets those that a copy does not name after all.
    pub(super) fn keep_those(
        &mut self,
        part: &Path,
        is_kept: impl Fn(&Root) -> bool,
    ) -> Result<(), BackupError> {
        let (kept, rest): (Vec<Root>, Vec<Root>) = self.roots.drain(..).partition(is_kept);
        self.roots = rest;
        self.remove()?;
        self.roots = kept;
        match self.roots.is_empty() {
            true => self.forget(part),
            false => self.write(part),
        }
    }

    /// Removes the copies of a part, and the word of them.
    pub(super) fn forget(&self, part: &Path) -> Result<(), BackupError> {
        self.remove()?;
        if remove_all(&part.join(ROOTS))? {
            sync_dir(part)?;
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter()
    }

    /// Where a copy lies: on the disk of what it is of.
    pub(super) fn place(&self, root: &Root) -> PathBuf {
        let mut name = OsString::from(".visor-");
        name.push(root.dir.file_name().unwrap_or_default());
        parent(&root.dir)
            .join(name)
            .join(self.generation.to_string())
    }

    /// The same with these second roots.
    pub(super) fn of_data(&self, view: DataView) -> DataView {
        let tops = self.roots.iter().map(|root| root.top(root.dir.clone()));
        view.with(tops.collect())
    }

    /// All of a copy, whose top is this.
    pub(super) fn of_copy(&self, tree: &Path) -> DataView {
        // It may be a link.
        let resolved = fs::canonicalize(tree);
        let tree = resolved.as_deref().unwrap_or(tree);
        let tops = self.roots.iter().map(|r| r.top(self.place(r).join("tree")));
        DataView::all(tree).with(tops.collect())
    }

    /// True if the same links lead to the same directories.
    pub(super) fn are_those_of(&self, other: &Self) -> bool {
        let of = |all: &Self| -> Vec<(PathBuf, PathBuf)> {
            let roots = all.roots.iter();
            roots.map(|r| (r.path.clone(), r.dir.clone())).collect()
        };
        of(self) == of(other)
    }

    /// Removes the copies of second roots. An error where a disk is not there: who forgets of a copy on it never removes it.
    pub(super) fn remove(&self) -> Result<(), BackupError> {
        for root in &self.roots {
            let place = self.place(root);
            if !place.is_dir() && !root.dir.exists() {
                return Err(BackupError::DiskGone(place));
            }
            remove_all(&place)?;
            // Others may be in it.
            let _ = fs::remove_dir(parent(&place));
        }
        Ok(())
    }

    /// An error where one of them could not be put back: what may be refused comes before anything is used up. `data`: their directory, which
    /// has links to what `keep` names.
    pub(super) fn can_be_put_back(&self, data: &Path) -> Result<(), BackupError> {
        let live = self.of_data(DataView::all(data));
        for root in &self.roots {
            let link = live.name(&root.path);
            let copy = self.place(root).join("tree");
            if !root.dir.is_dir() {
                return Err(BackupError::DiskGone(root.dir.clone()));
            }
            if !fs::canonicalize(&link).is_ok_and(|to| to == root.dir) {
                return Err(BackupError::OtherRoot {
                    link,
                    dir: root.dir.clone(),
                });
            }
            if !root.is_put_back() && inode(&copy) != Some(root.inode) {
                return Err(BackupError::DiskGone(copy));
            }
            if Mount::of(&root.dir) != Mount::of(&copy) {
                return Err(BackupError::NoExchange(root.dir.clone()));
            }
        }
        Ok(())
    }

    /// Puts second roots in their places. `tree` is that of the generation, which comes into its own place after them.
    pub(super) fn put_back(&self, tree: &Path) -> Result<(), BackupError> {
        let copy = self.of_copy(tree);
        // Those in a second root come before it is exchanged.
        for root in self.roots.iter().filter(|root| !root.is_put_back()) {
            let link = copy.name(&root.path);
            let to = fs::read_link(&link).at("read link", &link)?;
            if to == copy.full(&root.path) {
                relink(&link, &root.link)?;
            } else if to != root.link {
                return Err(BackupError::Damaged {
                    path: link,
                    what: format!("it leads to {}", to.display()),
                });
            }
        }
        killpoint::hit("exchange:links");
        for root in self.roots.iter().filter(|root| !root.is_put_back()) {
            let copy = self.place(root).join("tree");
            if inode(&copy) != Some(root.inode) {
                return Err(BackupError::DiskGone(copy));
            }
            put_in_place(&root.dir, &copy)?;
            killpoint::hit("exchange:root");
        }
        Ok(())
    }

    /// Lays links to the copies into a tree that came without; they are like those of the data.
    pub(super) fn link_copies(&self, data: &DataView, tree: &Path) -> Result<(), BackupError> {
        let copy = self.of_copy(tree);
        for root in &self.roots {
            let live = data.name(&root.path);
            let like = fs::symlink_metadata(&live).at("look at", &live)?;
            set_link(&copy.name(&root.path), &copy.full(&root.path), &like)?;
        }
        Ok(())
    }

    /// Has the data that were in the place lead to the second roots that they had, which lie where the copies were.
    pub(super) fn follow_aside(&self, tree: &Path) -> Result<(), BackupError> {
        let aside = self.of_copy(tree);
        for root in &self.roots {
            let link = aside.name(&root.path);
            // A relative one leads elsewhere from here.
            let led_there = fs::read_link(&link).is_ok_and(|to| to == root.link);
            if root.is_put_back() && led_there {
                relink(&link, &aside.full(&root.path))?;
            }
        }
        Ok(())
    }
}

/// Where a generation has parts beside its own directory.
pub fn copies_elsewhere(generation: &Generation) -> Result<Vec<PathBuf>, BackupError> {
    let paths = &generation.paths;
    let dir = match generation.state {
        GenState::Part => &paths.part,
        _ => &paths.done,
    };
    let roots = Roots::read(dir, paths.generation)?;
    Ok(roots.iter().map(|r| roots.place(r).join("tree")).collect())
}

impl Root {
    fn top(&self, dir: PathBuf) -> Top {
        Top {
            path: self.path.clone(),
            unreliable: stamps_unreliable(&self.dir).is_some(),
            dir,
        }
    }

    fn is_put_back(&self) -> bool {
        inode(&self.dir) == Some(self.inode)
    }
}

/// Gives a link another text; all else stays as it is.
fn relink(link: &Path, to: &Path) -> Result<(), BackupError> {
    let was = fs::symlink_metadata(link).at("look at", link)?;
    set_link(link, to, &was)
}

/// Lays down a link with the owner and the time of another; the directory keeps its time.
fn set_link(link: &Path, to: &Path, like: &Metadata) -> Result<(), BackupError> {
    let above = parent(link);
    let dir = fs::metadata(above).at("look at", above)?;
    replace_link(link, to)?;
    lchown(link, Some(like.uid()), Some(like.gid())).at("set the owner of", link)?;
    link_time(link, Ident::of(like).mtime);
    utimensat(CWD, above, &times(Ident::of(&dir).mtime), AtFlags::empty())
        .at("set the time of", above)?;
    Ok(())
}

fn inode(dir: &Path) -> Option<u64> {
    fs::metadata(dir).ok().map(|m| m.ino())
}

/// Why a directory that a link leads to cannot be a second root.
fn refusal(view: &DataView, dir: &Path, own: &Path) -> Option<String> {
    let above = parent(dir);
    let own = own.ancestors().find_map(|p| fs::canonicalize(p).ok());
    let owner = |dir: &Path| fs::metadata(dir).ok().map(|m| m.uid());
    let may_write = |dir: &Path| access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    // Whoever may not write to visor's own place only asks.
    let is_visor = own.as_ref().is_some_and(|own| may_write(own));
    if !dir.is_dir() {
        Some("that is no directory".into())
    } else if OF_THE_SYSTEM.iter().any(|top| dir.starts_with(top)) {
        Some("that is the system's".into())
    } else if owner(dir) != owner(&view.dir) {
        Some("that is another user's than the data".into())
    } else if view.tops().any(|(_, top)| top.starts_with(dir)) {
        Some("the data lie in it".into())
    } else if own.as_ref().is_some_and(|own| own.starts_with(dir)) {
        Some("the copies would lie in it".into())
    } else if is_subvolume(dir) {
        Some("that is a btrfs subvolume, which no directory exchanges names with".into())
    } else if Mount::of(dir) != Mount::of(above) {
        Some("that is a mount point, which cannot be exchanged with a copy (link to a directory in it)".into())
    } else if is_visor && !may_write(above) {
        Some(format!(
            "visor may not write to {}, where the copy would lie",
            above.display()
        ))
    } else {
        None
    }
}

/// Finds out early whether a file system can exchange two directories: a restore depends on it.
pub(super) fn try_exchange(tmp: &Path) -> Result<(), BackupError> {
    let (a, b) = (tmp.join("exchange-a"), tmp.join("exchange-b"));
    make_private_dir(&a)?;
    make_private_dir(&b)?;
    exchange_names(&a, &b)?;
    for dir in [a, b] {
        fs::remove_dir(&dir).at("remove", &dir)?;
    }
    Ok(())
}
