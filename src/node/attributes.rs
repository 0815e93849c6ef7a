//! What the node's process is given before it becomes the node: applied by the second stage, to itself.

use crate::durable::read_bounded;
use crate::model::{IoPriority, Limit, LimitKind, ProcessSpec};
use crate::process::set_io_priority;
use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setgroups, setuid};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

/// Larger than any file of variables that a person writes.
const MOST_VARIABLES: u64 = 256 * 1024;

/// Who the node runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    name: Option<String>,
    /// The user's own directory.
    pub(super) home: Option<PathBuf>,
}

/// The identity that is asked for; nothing when it is visor's own.
pub(super) fn identity(spec: &ProcessSpec) -> io::Result<Option<Identity>> {
    let user = match &spec.user {
        None => None,
        Some(text) => Some(user(text)?),
    };
    let group = match &spec.group {
        None => None,
        Some(text) => Some(group(text)?),
    };
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let (name, home) = match &user {
        Some(user) => (Some(user.name.clone()), Some(user.dir.clone())),
        None => (None, None),
    };
    let own = (Uid::effective(), Gid::effective());
    let (uid, own_gid) = user.map_or(own, |u| (u.uid, u.gid));
    let gid = group.unwrap_or(own_gid);
    let is_own = uid == Uid::effective() && gid == Gid::effective();
    Ok((!is_own).then_some(Identity {
        uid,
        gid,
        name,
        home,
    }))
}

fn user(text: &str) -> io::Result<User> {
    let found = match text.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid))?,
        Err(_) => User::from_name(text)?,
    };
    found.ok_or_else(|| failed(format!("this machine has no user \"{text}\"")))
}

fn group(text: &str) -> io::Result<Gid> {
    if let Ok(gid) = text.parse() {
        return Ok(Gid::from_raw(gid));
    }
    let found = Group::from_name(text)?;
    let found = found.ok_or_else(|| failed(format!("this machine has no group \"{text}\"")))?;
    Ok(found.gid)
}

/// Applies everything to this process, the identity last. An error says what could not be done.
pub(super) fn apply(spec: &ProcessSpec) -> io::Result<()> {
    for (kind, limit) in &spec.limits {
        let (resource, name) = resource(*kind);
        let Limit { soft, hard } = *limit;
        let new = Rlimit {
            current: soft,
            maximum: hard,
        };
        rustix::process::setrlimit(resource, new)
            .map_err(|e| failed(format!("`limits.{name}` cannot be set: {e}")))?;
    }
    if let Some(nice) = spec.nice {
        rustix::process::setpriority_process(None, nice)
            .map_err(|e| failed(format!("`nice = {nice}` cannot be set: {e}")))?;
    }
    if let Some(priority) = spec.io {
        ionice(priority)?;
    }
    if let Some(score) = spec.oom_score {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|e| failed(format!("`oom-score = {score}` cannot be set: {e}")))?;
    }
    if !spec.cpus.is_empty() {
        let mut set = CpuSet::new();
        for cpu in &spec.cpus {
            set.set(*cpu as usize);
        }
        rustix::thread::sched_setaffinity(None, &set)
            .map_err(|e| failed(format!("`cpus` cannot be set: {e}")))?;
    }
    if let Some(mask) = spec.umask {
        rustix::process::umask(Mode::from_raw_mode(mask));
    }
    match identity(spec)? {
        Some(identity) => become_other(&identity),
        None => Ok(()),
    }
}

fn become_other(to: &Identity) -> io::Result<()> {
    let who = to.name.clone().unwrap_or_else(|| to.uid.to_string());
    let cannot = |e: nix::errno::Errno| {
        let why = if Uid::effective().is_root() {
            String::new()
        } else {
            "; only root may".to_owned()
        };
        failed(format!("the node cannot run as {who}: {e}{why}"))
    };
    match &to.name {
        Some(name) => {
            let name = CString::new(name.as_str()).map_err(io::Error::other)?;
            initgroups(&name, to.gid).map_err(cannot)?;
        }
        None => setgroups(&[to.gid]).map_err(cannot)?,
    }
    setgid(to.gid).map_err(cannot)?;
    setuid(to.uid).map_err(cannot)
}

fn ionice(priority: IoPriority) -> io::Result<()> {
    let (class, level) = match priority {
        IoPriority::Realtime(level) => (1, Some(level)),
        IoPriority::BestEffort(level) => (2, Some(level)),
        IoPriority::Idle => (3, None),
    };
    set_io_priority(rustix::process::getpid(), class, level)
        .map_err(|e| failed(format!("`io` cannot be set: {e}")))
}

fn resource(kind: LimitKind) -> (Resource, &'static str) {
    match kind {
        LimitKind::Nofile => (Resource::Nofile, "nofile"),
        LimitKind::Nproc => (Resource::Nproc, "nproc"),
        LimitKind::Core => (Resource::Core, "core"),
        LimitKind::Memlock => (Resource::Memlock, "memlock"),
        LimitKind::AddressSpace => (Resource::As, "address-space"),
        LimitKind::Stack => (Resource::Stack, "stack"),
        LimitKind::FileSize => (Resource::Fsize, "file-size"),
    }
}

/// The variables of all files; the last one wins. An error names the file and the line, and no value.
pub(super) fn variables(spec: &ProcessSpec) -> io::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for path in &spec.env_files {
        let at = |why: String| failed(format!("{}: {why}", path.display()));
        let bytes = read_bounded(path, MOST_VARIABLES).map_err(io::Error::other)?;
        let bytes = bytes.ok_or_else(|| at("it is not there".into()))?;
        let text = String::from_utf8(bytes).map_err(|_| at("it is not UTF-8".into()))?;
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) =
                variable(line).ok_or_else(|| at(format!("line {} is not NAME=value", i + 1)))?;
            all.insert(name, value);
        }
    }
    Ok(all)
}

fn variable(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(good)
    {
        return None;
    }
    let quoted = ['"', '\'']
        .into_iter()
        .find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
    let value = quoted.unwrap_or(value);
    (!value.contains('\0')).then(|| (name.to_owned(), value.to_owned()))
}

/// Says which working directory cannot be had; the system would only say that something is not there.
pub(super) fn reach_directory(spec: &ProcessSpec) -> io::Result<()> {
    let Some(dir) = &spec.working_directory else {
        return Ok(());
    };
    let why = match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "it is no directory".to_owned(),
        Err(e) => e.to_string(),
    };
    Err(failed(format!(
        "`working-directory` {}: {why}",
        dir.display()
    )))
}

/// Lets another user come through to the program: directories of ours below, and with, the root, and nothing else in them.
pub(super) fn open_the_way(root: &Path, program: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let program = std::fs::canonicalize(program)?;
    let root = std::fs::canonicalize(root)?;
    for dir in program.ancestors().skip(1) {
        if !dir.starts_with(&root) {
            break;
        }
        let mode = std::fs::metadata(dir)?.permissions().mode();
        if mode & 0o011 != 0o011 {
            let mode = std::fs::Permissions::from_mode(mode | 0o011);
            std::fs::set_permissions(dir, mode)?;
        }
    }
    Ok(())
}

fn failed(text: String) -> io::Error {
    io::Error::other(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_variables() {
        for (line, want) in [
            ("A=b", Some(("A", "b"))),
            ("export A_1 = \"b c\" ", Some(("A_1", "b c"))),
            ("A='b=c'", Some(("A", "b=c"))),
            ("A=", Some(("A", ""))),
            ("A=\"b", Some(("A", "\"b"))),
            ("A", None),
            ("1A=b", None),
            ("A-B=c", None),
            ("=c", None),
        ] {
            let want = want.map(|(n, v)| (n.to_owned(), v.to_owned()));
            assert_eq!(variable(line), want, "{line}");
        }
    }
}
