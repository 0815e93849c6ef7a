//! Control groups (cgroup v2): a group for each process that visor keeps, below the one that visor was given to rule.
//!
//! systemd marks what it delegates with an extended attribute (its `CGROUP_DELEGATION.md`); nothing outside such a group is touched.

use super::left::Left;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
                "nothing delegates {} to visor; the unit needs `Delegate=yes` (systemd 251)",
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
            set(&path, text).map_err(|e| at(&path, e))?;
        }
        Ok(dir)
    }

    /// Makes such a group and removes it again: what the kernel would not have is said now.
    pub fn try_make(&self, name: &str, files: &[(&str, String)]) -> io::Result<()> {
        let made = self.make(name, files);
        remove(&self.dir.join(name));
        made.map(|_| ())
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

/// Writes into a file of the kernel's, which makes none for us.
fn set(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
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

/// So often a group that holds somebody is looked at until it can be said whom.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_micros(500);

/// The living processes of a group and of those below it; none when the group is not there.
///
/// A list of processes that fork while it is made may name nobody. Whether the group is empty the kernel says for all of it at once: while
/// it is not, somebody is named, be it by the group alone.
pub fn members(dir: &Path) -> io::Result<Vec<Left>> {
    for _ in 0..LOOKS {
        let found = pids(dir)?.into_iter().filter_map(Left::of);
        let found: Vec<Left> = found.collect();
        // A number that was given to another meanwhile is in the group no longer.
        let still = if found.is_empty() { vec![] } else { pids(dir)? };
        let found: Vec<Left> = found
            .into_iter()
            .filter(|left| still.contains(&left.identity.pid))
            .collect();
        if !found.is_empty() || !is_populated(dir)? {
            return Ok(found);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(vec![Left::unseen(format!("somebody in {}", dir.display()))])
}

fn is_populated(dir: &Path) -> io::Result<bool> {
    let events = read_if_there(&dir.join("cgroup.events"))?;
    Ok(events.is_some_and(|text| text.lines().any(|line| line == "populated 1")))
}

fn pids(dir: &Path) -> io::Result<Vec<i32>> {
    let text = read_if_there(&dir.join("cgroup.procs"))?.unwrap_or_default();
    // Processes of another namespace are 0.
    let listed = text.lines().filter_map(|line| line.parse().ok());
    let mut all: Vec<i32> = listed.filter(|pid| *pid > 0).collect();
    for below in subgroups(dir) {
        all.extend(pids(&below)?);
    }
    Ok(all)
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        // ENODEV: removed while it was read. EOPNOTSUPP: of threads, whose processes the group above names.
        Err(e)
            if e.kind() == io::ErrorKind::NotFound || matches!(e.raw_os_error(), Some(19 | 95)) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// KILL to all processes of a group at once, those that they fork meanwhile included (Linux 5.14).
pub fn kill_all(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.kill"), "1")
}

/// True when the kernel has killed a process of the group because of the group's own limit.
pub fn ran_out_of_memory(dir: &Path) -> bool {
    let events = fs::read_to_string(dir.join("memory.events")).unwrap_or_default();
    let has = |event: &str| {
        let count = events.lines().find_map(|l| l.strip_prefix(event));
        count.is_some_and(|n| n.trim() != "0")
    };
    // Kills are counted whoever's limit it was, the limit that was hit in its own group.
    has("oom_kill ") && has("oom ")
}
