//! File systems to work on: that of the temporary directory, and images of others where they can be mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system to work on, mounted for the time of a test.
pub(crate) struct Disk {
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    /// Where data have parts that only a link leads to.
    elsewhere: Option<Box<Disk>>,
    mounted: bool,
    _place: tempfile::TempDir,
}

/// A btrfs on which data are subvolumes.
const SUBVOLUMES: &str = "subvolumes";
/// A ZFS on which data are datasets, each with a link to it.
const DATASETS: &str = "datasets";
/// An ext4 with a tmpfs beside it, on which half of the data lie.
const LINKED: &str = "linked";

impl Disk {
    /// Data on it can only be snapshot.
    pub(crate) fn only_snapshots(&self) -> bool {
        [SUBVOLUMES, DATASETS].contains(&self.name)
    }

    /// Copies beside what links of data lead to.
    pub(crate) fn copies_elsewhere(&self) -> Vec<PathBuf> {
        let list = |dir: &Path| {
            let all = fs::read_dir(dir).into_iter().flatten();
            all.map(|e| e.unwrap().path()).collect::<Vec<_>>()
        };
        let there = self.elsewhere.as_ref().map_or(vec![], |d| list(&d.dir));
        let all = there.iter().flat_map(|dir| list(dir));
        all.filter(|p| p.to_string_lossy().contains("/.visor-"))
            .collect()
    }

    /// Makes a data directory.
    pub(crate) fn make_data(&self, dir: &Path) {
        if self.only_snapshots() {
            fs::create_dir_all(dir.parent().unwrap()).unwrap();
        }
        match self.name {
            SUBVOLUMES => {
                let dir = dir.to_str().unwrap();
                assert!(run("btrfs", &["subvolume", "create", dir]), "{dir}");
            }
            DATASETS => {
                let rel = dir.strip_prefix(&self.dir).unwrap().to_string_lossy();
                let leaf = format!("of-{}", rel.replace('/', "-"));
                let name = format!("{}/{leaf}", pool(&self.dir));
                assert!(run("zfs", &["create", &name]), "{name}");
                std::os::unix::fs::symlink(self.dir.join(leaf), dir).unwrap();
            }
            _ => fs::create_dir_all(dir).unwrap(),
        }
        if let Some(elsewhere) = &self.elsewhere {
            let there = tempfile::tempdir_in(&elsewhere.dir).unwrap().keep();
            for part in ["tables", "churn"] {
                fs::create_dir(there.join(part)).unwrap();
                std::os::unix::fs::symlink(there.join(part), dir.join(part)).unwrap();
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.name == DATASETS {
            run("zpool", &["destroy", "-f", &pool(&self.dir)]);
        } else if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        }
    }
}

pub(crate) fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .output()
        .is_ok_and(|o| o.status.success())
}

/// A name for the pool that is mounted there.
fn pool(dir: &Path) -> String {
    let place = dir.parent().unwrap().file_name().unwrap();
    format!("visor-it{}", place.to_string_lossy().replace('.', "-"))
}

/// A disk of its own of that kind below a directory, with so many bytes; `None`, and a word, where it cannot be had.
pub(crate) fn disk(name: &'static str, below: &Path, bytes: u64) -> Option<Disk> {
    let place = tempfile::tempdir_in(below).unwrap();
    let dir = place.path().join("disk");
    fs::create_dir(&dir).unwrap();
    let image = place.path().join("image");
    let (at, image_text) = (dir.to_str().unwrap(), image.to_str().unwrap().to_owned());
    let is_there = match name {
        "own" => true,
        "tmpfs" => {
            let size = format!("size={bytes}");
            run("mount", &["-t", "tmpfs", "-o", &size, "none", at])
        }
        DATASETS => {
            let file = fs::File::create(&image).unwrap();
            // A pool keeps 128 MiB for itself.
            file.set_len(bytes + (128 << 20)).unwrap();
            let is_there = run("zfs", &["version"]) && run("zpool", &["list"]);
            is_there && run("zpool", &["create", "-m", at, &pool(&dir), &image_text])
        }
        _ => {
            let file = fs::File::create(&image).unwrap();
            file.set_len(bytes).unwrap();
            let quiet: &[&str] = match name {
                "ext4" | LINKED => &["-q", "-F"],
                _ => &["-q"],
            };
            let args: Vec<&str> = quiet.iter().copied().chain([image_text.as_str()]).collect();
            let kind = match name {
                SUBVOLUMES => "btrfs",
                LINKED => "ext4",
                name => name,
            };
            let has = name != SUBVOLUMES || run("btrfs", &["--version"]);
            has && run(&format!("mkfs.{kind}"), &args)
                && run("mount", &["-o", "loop", &image_text, at])
        }
    };
    if !is_there {
        println!("skipped: {name} cannot be had here");
        return None;
    }
    let elsewhere = match name {
        LINKED => Some(Box::new(disk("tmpfs", below, bytes)?)),
        _ => None,
    };
    Some(Disk {
        name,
        dir,
        elsewhere,
        mounted: name != "own",
        _place: place,
    })
}

/// The file system of the temporary directory, a tmpfs, and images of others; those that cannot be had here are named.
/// `VISOR_DISKS=xfs,btrfs` takes these only.
pub(crate) fn disks() -> Vec<Disk> {
    let all = [
        "own", "tmpfs", "ext4", "xfs", "btrfs", SUBVOLUMES, DATASETS, LINKED,
    ];
    let asked = std::env::var("VISOR_DISKS");
    let is_asked = |name: &&str| {
        let asked = asked.as_deref();
        asked.map_or(true, |asked| asked.split(',').any(|a| a == *name))
    };
    all.into_iter()
        .filter(is_asked)
        .filter_map(|name| {
            // The fastest of them gets most to hold.
            let bytes = if name == "tmpfs" { 1 << 30 } else { 512 << 20 };
            disk(name, &std::env::temp_dir(), bytes)
        })
        .collect()
}

/// A btrfs on which data are subvolumes.
pub(crate) fn subvolumes() -> Option<Disk> {
    disk(SUBVOLUMES, &std::env::temp_dir(), 512 << 20)
}

/// A ZFS on which data are datasets.
pub(crate) fn datasets() -> Option<Disk> {
    disk(DATASETS, &std::env::temp_dir(), 512 << 20)
}
