//! `process` of a node: identities, masks, limits, priorities.

use super::local::Local;
use crate::diag::{Code, Finding};
use crate::manifest::{Node, Object};
use crate::model::{CgroupLimits, IoPriority, Limit, LimitKind, ProcessSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// So many a set of CPUs has room for.
const MOST_CPUS: u32 = 1_024;

impl Local<'_> {
    pub(super) fn process(&mut self, object: &Object<Node>) -> ProcessSpec {
        let process = &object.value.process;
        for (key, name) in [
            ("process/user", &process.user),
            ("process/group", &process.group),
            ("control/group", &object.value.control.group),
        ] {
            self.part(object, key, name.as_deref(), identity, "a name or a number");
        }
        let umask = self.part(
            object,
            "process/umask",
            process.umask.as_deref(),
            umask,
            "an octal mask such as \"0027\"",
        );
        let io = self.part(
            object,
            "process/io",
            process.io.as_deref(),
            io_priority,
            "\"idle\", or a class and a level such as \"best-effort:4\"",
        );
        let cpus = self.part(
            object,
            "process/cpus",
            process.cpus.as_deref(),
            cpus,
            "a list of CPUs such as \"0-3,8\"",
        );
        let limits = &process.limits;
        let limits: BTreeMap<LimitKind, Limit> = [
            (LimitKind::Nofile, "nofile", &limits.nofile),
            (LimitKind::Nproc, "nproc", &limits.nproc),
            (LimitKind::Core, "core", &limits.core),
            (LimitKind::Memlock, "memlock", &limits.memlock),
            (
                LimitKind::AddressSpace,
                "address-space",
                &limits.address_space,
            ),
            (LimitKind::Stack, "stack", &limits.stack),
            (LimitKind::FileSize, "file-size", &limits.file_size),
        ]
        .into_iter()
        .filter_map(|(kind, key, text)| {
            let key = format!("process/limits/{key}");
            let wants = "a number, \"infinity\", or two of them such as \"1024:65536\"";
            Some((
                kind,
                self.part(object, &key, text.as_deref(), limit, wants)?,
            ))
        })
        .collect();
        let mut paths = Vec::new();
        for (i, path) in process.env_files.iter().enumerate() {
            let key = format!("env-files/{i}");
            paths.extend(self.absolute(object, &key, path));
        }
        let directory = process.working_directory.as_ref();
        let directory = directory.and_then(|p| self.absolute(object, "working-directory", p));
        ProcessSpec {
            user: process.user.clone(),
            group: process.group.clone(),
            umask,
            limits,
            env_files: paths,
            working_directory: directory,
            nice: process.nice,
            io,
            oom_score: process.oom_score,
            cpus: cpus.unwrap_or_default(),
            cgroup: self.cgroup(object),
        }
    }

    fn cgroup(&mut self, object: &Object<Node>) -> CgroupLimits {
        let cgroup = &object.value.process.cgroup;
        let file = self.file;
        let mut size = |key: &str, text: &Option<String>| {
            let text = text.as_deref()?;
            let place = || file.at(object, &format!("/process/cgroup/{key}"));
            Some(self.size(key, Some(text), text, place))
        };
        let memory_max = size("memory-max", &cgroup.memory_max);
        let memory_high = size("memory-high", &cgroup.memory_high);
        let swap = &cgroup.memory_swap_max;
        // Here nothing at all is something to ask for.
        let is_nothing = |text: &String| text.parse::<bytesize::ByteSize>().is_ok_and(|b| b.0 == 0);
        let memory_swap_max = if swap.as_ref().is_some_and(is_nothing) {
            Some(0)
        } else {
            size("memory-swap-max", swap)
        };
        let cpu_max = self.part(
            object,
            "process/cgroup/cpu-max",
            cgroup.cpu_max.as_deref(),
            percent,
            "percent of one CPU such as \"250%\"",
        );
        CgroupLimits {
            memory_max,
            memory_high,
            memory_swap_max,
            cpu_max,
            cpu_weight: cgroup.cpu_weight,
            io_weight: cgroup.io_weight,
            pids_max: cgroup.pids_max,
        }
    }

    fn part<T>(
        &mut self,
        object: &Object<Node>,
        key: &str,
        text: Option<&str>,
        read: fn(&str) -> Option<T>,
        wants: &str,
    ) -> Option<T> {
        let text = text?;
        let found = read(text);
        if found.is_none() {
            let place = self.file.at(object, &format!("/{key}"));
            let name = key.rsplit('/').next().unwrap_or(key);
            let message = format!("`{name}` wants {wants}; this is \"{text}\"");
            let help = "Correct it, or take the key out for its default.";
            self.push(Finding::error(Code::BadValue, place, message, help));
        }
        found
    }

    fn absolute(&mut self, object: &Object<Node>, key: &str, path: &str) -> Option<PathBuf> {
        let is_good = Path::new(path).is_absolute();
        if !is_good {
            let place = self.file.at(object, &format!("/process/{key}"));
            let message = format!("\"{path}\" is not an absolute path");
            let help = "Write the whole path, beginning with `/`.";
            self.push(Finding::error(Code::BadPath, place, message, help));
        }
        is_good.then(|| PathBuf::from(path))
    }
}

fn identity(text: &str) -> Option<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_good = !text.is_empty() && !text.starts_with('-') && text.chars().all(good);
    is_good.then_some(())
}

fn umask(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let mask = u32::from_str_radix(text, 8).ok()?;
    (is_octal && mask <= 0o777).then_some(mask)
}

fn io_priority(text: &str) -> Option<IoPriority> {
    if text == "idle" {
        return Some(IoPriority::Idle);
    }
    let (class, level) = text.split_once(':')?;
    let level: u8 = level.parse().ok().filter(|l| *l <= 7)?;
    match class {
        "realtime" => Some(IoPriority::Realtime(level)),
        "best-effort" => Some(IoPriority::BestEffort(level)),
        _ => None,
    }
}

fn limit(text: &str) -> Option<Limit> {
    let one = |text: &str| match text {
        "infinity" => Some(None),
        number => number.parse().ok().map(Some),
    };
    let (soft, hard) = match text.split_once(':') {
        Some((soft, hard)) => (one(soft)?, one(hard)?),
        None => (one(text)?, one(text)?),
    };
    let is_in_order = match (soft, hard) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(soft), Some(hard)) => soft <= hard,
    };
    is_in_order.then_some(Limit { soft, hard })
}

/// The kernel wants a millisecond in its period of 100 ms at the least.
fn percent(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?.trim_end();
    number.parse().ok().filter(|n| (1..=1_000_000).contains(n))
}

fn cpus(text: &str) -> Option<Vec<u32>> {
    let mut all = [false; MOST_CPUS as usize];
    for part in text.split(',') {
        let (first, last) = part
            .trim()
            .split_once('-')
            .unwrap_or((part.trim(), part.trim()));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST_CPUS {
            return None;
        }
        all[first as usize..=last as usize].fill(true);
    }
    let chosen = (0..MOST_CPUS).filter(|cpu| all[*cpu as usize]);
    Some(chosen.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_odd_ones_refused() {
        assert_eq!(umask("0027"), Some(0o027));
        assert_eq!(["27", "0o27", "999", "1777"].map(umask), [None; 4]);
        assert_eq!(io_priority("idle"), Some(IoPriority::Idle));
        assert_eq!(
            io_priority("best-effort:7"),
            Some(IoPriority::BestEffort(7))
        );
        assert_eq!(
            ["idle:1", "best-effort", "realtime:8"].map(io_priority),
            [None; 3]
        );
        let both = |soft, hard| Some(Limit { soft, hard });
        assert_eq!(limit("5"), both(Some(5), Some(5)));
        assert_eq!(limit("5:infinity"), both(Some(5), None));
        assert_eq!(["", "5:4", "infinity:5", "1k", "-1"].map(limit), [None; 5]);
        assert_eq!(percent("250%"), Some(250));
        assert_eq!(["250", "0%", "%", "-1%", "1.5%"].map(percent), [None; 5]);
        assert_eq!(cpus("8, 0-2,1"), Some(vec![0, 1, 2, 8]));
        assert_eq!(["", "3-1", "a", "0-1024"].map(cpus), [const { None }; 4]);
    }
}
