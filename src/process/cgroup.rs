//! Control groups (cgroup v2): a group for each process that visor keeps, below the one that visor was given to rule.
//!
//! systemd marks what it delegates with an extended attribute (its `CGROUP_DELEGATION.md`); nothing outside such a group is touched.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A group that visor may make groups in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    dir: PathBuf,
    /// True when visor itself runs in a group below it: one that holds processes cannot hand out its controllers.
    is_free: bool,
    controllers: BTreeSet<String>,
}

/// What systemd marks with; the second one needs no support of the file system for attributes of users.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];

impl Delegated {
    /// The one that this process runs in, or just below. An error says why there is none.
    pub fn find() -> Result<Self, String> {
        let own = own_dir()?;
        let is_marked = |dir: &&Path| MARKS.iter().any(|mark| is_set(dir, mark));
        let above = own.parent().filter(|dir| dir.join("cgroup.procs").exists());
        let dir = [Some(own.as_path()), above].into_iter().flatten();
        let Some(dir) = dir.into_iter().find(is_marked) else {
            return Err(format!(
                "nothing delegates {} to visor; the unit needs `Delegate=yes`",
                own.display()
            ));
        };
        let may_write =
            |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        if !may_write(dir) || !may_write(&dir.join("cgroup.procs")) {
            return Err(format!("visor may not write in {}", dir.display()));
        }
        let controllers = fs::read_to_string(dir.join("cgroup.controllers"))
            .map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(Self {
            is_free: dir != own,
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            dir: dir.to_owned(),
        })
    }

    /// Why a group with these files set cannot be had, when it cannot.
    pub fn refusal<'a>(&self, files: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let wanted: BTreeSet<&str> = files.into_iter().map(controller).collect();
        let missing = wanted.iter().find(|c| !self.controllers.contains(**c));
        if let Some(controller) = missing {
            let all: Vec<&str> = self.controllers.iter().map(String::as_str).collect();
            return Some(format!(
                "the controller {controller} is not delegated to {}, which has {}",
                self.dir.display(),
                if all.is_empty() {
                    "none".to_owned()
                } else {
                    all.join(", ")
                },
            ));
        }
        (!wanted.is_empty() && !self.is_free).then(|| {
            "visor runs in the delegated group itself, which then can limit no groups below it; the unit needs `DelegateSubgroup=visor` (systemd 254)".to_owned()
        })
    }

    /// Makes a group with these files set. One that is there already is taken.
    pub fn make(&self, name: &str, files: &[(&str, String)]) -> io::Result<PathBuf> {
        let at = |path: &Path, e: io::Error| {
            io::Error::new(e.kind(), format!("{}: {e}", path.display()))
        };
        let wanted: BTreeSet<&str> = files.iter().map(|(file, _)| controller(file)).collect();
        if !wanted.is_empty() {
            let path = self.dir.join("cgroup.subtree_control");
            let text: Vec<String> = wanted.iter().map(|c| format!("+{c}")).collect();
            fs::write(&path, text.join(" ")).map_err(|e| at(&path, e))?;
        }
        let dir = self.dir.join(name);
        match fs::create_dir(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(at(&dir, e)),
            _ => {}
        }
        for (file, text) in files {
            let path = dir.join(file);
            fs::write(&path, text).map_err(|e| at(&path, e))?;
        }
        Ok(dir)
    }

    /// Removes the groups below whose names begin so and that hold no process; what fails stays for the next time.
    pub fn remove_empty(&self, prefix: &str) {
        for dir in subgroups(&self.dir) {
            let is_ours = dir.file_name().and_then(|n| n.to_str());
            if is_ours.is_some_and(|n| n.starts_with(prefix)) {
                remove(&dir);
            }
        }
    }
}

/// `memory` of `memory.max`.
fn controller(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

fn is_set(dir: &Path, mark: &str) -> bool {
    let mut value = [0; 8];
    rustix::fs::getxattr(dir, mark, &mut value).is_ok_and(|n| value.get(..n) == Some(b"1"))
}

/// The directory of this process's group.
fn own_dir() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let groups = read("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.ok_or("this machine has no cgroup v2")?;
    let mounts = read("/proc/self/mountinfo")?;
    // id parent device ROOT POINT options … - TYPE source options
    for line in mounts.lines() {
        let Some((front, back)) = line.split_once(" - ") else {
            continue;
        };
        let mut front = front.split(' ').skip(3);
        let (Some(root), Some(point)) = (front.next(), front.next()) else {
            continue;
        };
        if back.split(' ').next() != Some("cgroup2") {
            continue;
        }
        if let Ok(below) = Path::new(own).strip_prefix(root) {
            return Ok(Path::new(point).join(below));
        }
    }
    Err("no cgroup v2 that visor runs in is mounted".into())
}

fn subgroups(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_dir = |e: &fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
    entries.filter(is_dir).map(|e| e.path()).collect()
}

/// A group goes only when it is empty, and after those that its processes made below it.
fn remove(dir: &Path) {
    for below in subgroups(dir) {
        remove(&below);
    }
    let _ = fs::remove_dir(dir);
}

/// Puts this process into a group; its children follow.
pub fn join(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.procs"), "0")
}

/// The processes of a group and of those below it. `None`: the group is not there, or cannot be seen from here.
pub fn members(dir: &Path) -> io::Result<Option<Vec<i32>>> {
    let text = match fs::read_to_string(dir.join("cgroup.procs")) {
        // ENODEV: removed while it was read. EOPNOTSUPP: of threads, whose processes the group above names.
        Err(e)
            if e.kind() == io::ErrorKind::NotFound || matches!(e.raw_os_error(), Some(19 | 95)) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let mut all: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for below in subgroups(dir) {
        all.extend(members(&below)?.unwrap_or_default());
    }
    Ok(Some(all))
}

/// KILL to all processes of a group at once, those that they fork meanwhile included (Linux 5.14).
pub fn kill_all(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.kill"), "1")
}

/// True when the kernel has killed a process of the group because its memory was used up.
pub fn ran_out_of_memory(dir: &Path) -> bool {
    let events = fs::read_to_string(dir.join("memory.events")).unwrap_or_default();
    let kills = events.lines().find_map(|l| l.strip_prefix("oom_kill "));
    kills.is_some_and(|n| n.trim() != "0")
}
