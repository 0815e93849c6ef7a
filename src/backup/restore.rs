//! Putting sealed data back, in single steps that can each be found done or not done. The order is the engine's.

use super::GenPaths;
use super::copy::Copier;
use super::dataset::not_mounted;
use super::dress::{Source, copy_xattrs};
use super::error::BackupError;
use super::kept::find_kept;
use super::mounts::Mount;
use super::roots::{ROOTS, Roots};
use super::scan::{Changed, Listing};
use super::seal::{Remembered, sealed_kept};
use super::tree::{Entry, Ident, Kind};
use super::view::DataView;
use super::whole::{self, Whole};
use crate::durable::{
    AtPath as _, PathError, make_private_dir, parent, read_record, sync_dir, write_atomic,
};
use crate::killpoint;
use crate::model::{DataSpec, GenId, Method};
use crate::store::Layout;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Inodes of the live data directory and of the generation's tree, whichever are there; of subvolumes and datasets, their numbers.
pub fn inodes(paths: &GenPaths, data: &DataSpec) -> (Option<u64>, Option<u64>) {
    let own = |path: &Path| fs::metadata(path).ok().map(|m| m.ino());
    let inode = |path: &Path| whole::number(path).or_else(|| own(path));
    let tree = inode(&paths.done.join("tree")).or_else(|| inode(&paths.aside.join("tree")));
    (inode(&data.path), tree)
}

/// Marks the generation as used up: whatever comes, it is no backup any more. What can be refused by then is refused before.
pub fn consume(paths: &GenPaths, data: &DataSpec) -> Result<(), BackupError> {
    let seal = paths.done.join("SEAL");
    if !paths.done.join("CONSUMED").is_file() {
        Roots::read(&paths.done, paths.generation)?.can_be_put_back(&data.path)?;
        let live = in_place(data)?;
        let mount = |dir: &Path| Mount::of(dir).map(|m| m.id);
        if mount(parent(&live)) != mount(&paths.done) {
            return Err(BackupError::NoExchange(live));
        }
        fs::rename(&seal, paths.done.join("CONSUMED")).at("rename", &seal)?;
        sync_dir(&paths.done)?;
    }
    killpoint::hit("consume:after");
    Ok(())
}

/// Copies what `keep` names from the live data into the generation, and compares. A kept file that the sealed state knew
/// and the live data lack is an error: signer state must not vanish.
/// `known`: what the final pass remembers, of these data.
pub fn carry_keep(
    paths: &GenPaths,
    data: &DataSpec,
    known: Option<&Remembered>,
) -> Result<(), BackupError> {
    let roots = Roots::read(&paths.done, paths.generation)?;
    roots.can_be_put_back(&data.path)?;
    let dir = fs::canonicalize(&data.path).at("resolve", &data.path)?;
    let anew;
    let Remembered { view, listing } = match known.filter(|known| known.view.dir == dir) {
        Some(known) => known,
        None => {
            anew = Remembered {
                view: roots.of_data(DataView::new(data)?),
                listing: Listing::default(),
            };
            &anew
        }
    };
    let sealed = sealed_kept(paths)?;
    let live = find_kept(view, &sealed, listing)?;
    let must = |path: &&PathBuf| view.must_keep.iter().any(|m| path.starts_with(m));
    for path in sealed.iter().filter(must) {
        if !live.contains_key(path) {
            return Err(BackupError::KeepMissing(view.full(path)));
        }
    }
    let tmp = paths.done.join("tmp");
    make_private_dir(&tmp)?;
    let method = match Whole::at(&paths.done.join("tree")) {
        Some(_) => Method::Snapshot,
        None => Method::Copy,
    };
    let mut copier = Copier::new(view, &roots, &paths.done, method, &|_| Ok(()));
    for (path, entry) in &live {
        let full = view.name(path);
        let meta = fs::symlink_metadata(&full).at("look at", &full)?;
        let kind = if meta.is_dir() {
            Kind::Dir
        } else if meta.is_symlink() {
            Kind::Link
        } else if meta.is_file() {
            Kind::File
        } else {
            continue;
        };
        // A directory that the seal did not have is as the live one.
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.retain(|dir| !dir.as_os_str().is_empty() && !copier.tree.full(dir).is_dir());
        for dir in above.into_iter().rev() {
            let from = view.full(dir);
            let meta = fs::symlink_metadata(&from).at("look at", &from)?;
            copier.ready_dir(dir, &Ident::of(&meta))?;
        }
        let found = Changed {
            path: path.clone(),
            old: None,
            new: Entry { kind, ..*entry },
            compare: false,
        };
        copier.copy(&found, false)?;
        if kind == Kind::File && !same_contents(&full, &copier.tree.full(path))? {
            return Err(BackupError::KeepDiffers(full));
        }
    }
    copier.finish()?;
    killpoint::hit("carry-keep:after");
    Ok(())
}

/// What a restore by hand was about to exchange, as its record says.
#[derive(Serialize, Deserialize)]
struct Intent {
    version: u32,
    live: u64,
    tree: u64,
}

/// The format of `restore.json`. 1: first.
const INTENT_VERSION: u32 = 1;

/// Puts a sealed generation in the place of the data, whole, in steps that each can be found done: called again after a cut, it goes on.
pub fn restore(paths: &GenPaths, data: &DataSpec) -> Result<(), BackupError> {
    let path = paths.done.join("restore.json");
    let known: Option<Intent> = if paths.done.join("CONSUMED").is_file() {
        read_record(&path, 4096, INTENT_VERSION)?
    } else {
        None
    };
    let intent = match (known, inodes(paths, data)) {
        (Some(known), _) => known,
        (None, (Some(live), Some(tree))) => {
            let intent = Intent {
                version: INTENT_VERSION,
                live,
                tree,
            };
            let bytes = serde_json::to_vec(&intent).expect("plain data");
            write_atomic(&path, &bytes, true)?;
            intent
        }
        (None, found) => {
            return Err(BackupError::Damaged {
                path: paths.done.clone(),
                what: format!("a directory of the exchange is missing: {found:?}"),
            });
        }
    };
    match inodes(paths, data).0 {
        Some(now) if now == intent.tree => {}
        Some(now) if now == intent.live => {
            // What may be refused comes before it is used up.
            carry_keep(paths, data, None)?;
            consume(paths, data)?;
            exchange(paths, data)?;
        }
        found => {
            return Err(BackupError::Damaged {
                path: data.path.clone(),
                what: format!(
                    "it is neither the old directory (inode {}) nor the restored one (inode {}): {found:?}",
                    intent.live, intent.tree
                ),
            });
        }
    }
    set_aside(paths)?;
    settle_aside(paths)
}

/// A generation whose restore by hand was cut off.
pub fn cut_restore(layout: &Layout) -> Option<GenId> {
    let all = fs::read_dir(layout.generations()).ok()?.flatten();
    let is_cut = |dir: &Path| {
        let names = ["CONSUMED", "restore.json"];
        names.iter().all(|name| dir.join(name).is_file())
    };
    all.filter(|e| is_cut(&e.path()))
        .find_map(|e| e.file_name().to_str()?.parse().ok())
}

/// Why no node is to be started on the data as they are.
pub fn start_refusal(layout: &Layout, data: &DataSpec) -> Option<String> {
    let has_roots = |id: &GenId| GenPaths::new(layout, *id).done.join(ROOTS).is_file();
    if let Some(cut) = cut_restore(layout).filter(has_roots) {
        return Some(format!(
            "a restore of generation {cut} was cut off, and the data may be of two moments: `visor backup restore {cut}` goes on with it"
        ));
    }
    let was = not_mounted(layout, &data.path)?;
    Some(format!(
        "the data were the dataset at {}, and no dataset is mounted where their link leads: `zfs mount -a` brings them back (remove {} if they are no dataset any more)",
        was.display(),
        layout.dataset().display()
    ))
}

/// Exchanges the live data directory with the generation's tree, in one step of the file system; before that each second root with its copy.
pub fn exchange(paths: &GenPaths, data: &DataSpec) -> Result<(), BackupError> {
    let (live, tree) = (in_place(data)?, paths.done.join("tree"));
    Roots::read(&paths.done, paths.generation)?.put_back(&tree)?;
    put_in_place(&live, &tree)?;
    killpoint::hit("exchange:after");
    Ok(())
}

/// What is exchanged: the data's directory, or the link to their dataset.
fn in_place(data: &DataSpec) -> Result<PathBuf, BackupError> {
    match Whole::at(&data.path) {
        Some(Whole::Dataset) => Ok(data.path.clone()),
        _ => Ok(fs::canonicalize(&data.path).at("resolve", &data.path)?),
    }
}

/// Exchanges a directory with a copy of what is in it.
pub(super) fn put_in_place(live: &Path, tree: &Path) -> Result<(), BackupError> {
    // The tree's top has the mode and owner of the live one.
    let meta = fs::metadata(live).at("look at", live)?;
    fs::set_permissions(tree, meta.permissions()).at("set the mode of", tree)?;
    std::os::unix::fs::chown(tree, Some(meta.uid()), Some(meta.gid()))
        .at("set the owner of", tree)?;
    if let (Ok(from), Ok(to)) = (File::open(live), File::open(tree)) {
        let source = Source {
            file: &from,
            path: live,
        };
        copy_xattrs(&source, &to)?;
    }
    // Of a dataset or a subvolume that is synced by nobody else.
    File::open(tree)
        .and_then(|top| top.sync_all())
        .at("sync", tree)?;
    exchange_names(live, tree)?;
    sync_dir(parent(live))?;
    Ok(sync_dir(parent(tree))?)
}

pub(super) fn exchange_names(a: &Path, b: &Path) -> Result<(), BackupError> {
    match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            Err(BackupError::NoExchange(a.to_owned()))
        }
        other => Ok(other.at("exchange", a)?),
    }
}

/// Moves the generation, which now holds the failed data, to `failed/`. No node waits until that lasts: see `settle_aside`.
pub fn set_aside(paths: &GenPaths) -> Result<(), BackupError> {
    Roots::read(&paths.done, paths.generation)?.follow_aside(&paths.done.join("tree"))?;
    make_private_dir(parent(&paths.aside))?;
    fs::rename(&paths.done, &paths.aside).at("rename", &paths.done)?;
    killpoint::hit("set-aside:after");
    Ok(())
}

/// Has the failed data stay in `failed/`. Where a power loss took them back they are moved again: below their old name they would pass for a
/// generation of the data.
pub fn settle_aside(paths: &GenPaths) -> Result<(), BackupError> {
    if !is_aside(paths) && paths.done.is_dir() {
        set_aside(paths)?;
    }
    if is_aside(paths) {
        sync_dir(parent(&paths.aside))?;
        sync_dir(parent(&paths.done))?;
    }
    killpoint::hit("set-aside:settled");
    Ok(())
}

pub fn is_aside(paths: &GenPaths) -> bool {
    paths.aside.is_dir()
}

pub(super) fn same_contents(a: &Path, b: &Path) -> Result<bool, PathError> {
    let (mut fa, mut fb) = match (File::open(a), File::open(b)) {
        (Ok(fa), Ok(fb)) => (fa, fb),
        (Err(e), _) | (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        (Err(e), _) => return Err(e).at("open", a),
        (_, Err(e)) => return Err(e).at("open", b),
    };
    let size = |f: &File, p: &Path| f.metadata().at("look at", p).map(|m| m.len());
    if size(&fa, a)? != size(&fb, b)? {
        return Ok(false);
    }
    let (mut ba, mut bb) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    loop {
        let n = fa.read(&mut ba).at("read", a)?;
        if n == 0 {
            return Ok(true);
        }
        match fb.read_exact(&mut bb[..n]) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other.at("read", b)?,
        }
        if ba[..n] != bb[..n] {
            return Ok(false);
        }
    }
}
