//! Run directories: made whole by a rename, with space reserved for all records and a ballast for a full disk.

use super::Layout;
use crate::durable::{
    AtPath as _, PathError, create_private, make_private_dir, parent, read_bounded, sync_dir,
};
use crate::killpoint;
use crate::model::RunId;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Space kept for the records of a run and its undo; a run of a dozen hooks writes about 30 KB.
const RESERVED: u64 = 256 * 1024;
/// Freed when an undo begins.
const BALLAST: u64 = 1024 * 1024;
/// More than any run writes; a larger file is not ours.
const MAX_JOURNAL: u64 = 64 * 1024 * 1024;

/// The directory `state/journal/`.
#[derive(Debug)]
pub struct JournalDir {
    dir: PathBuf,
    open: Option<(RunId, File)>,
}

impl JournalDir {
    pub fn new(layout: &Layout) -> Self {
        Self {
            dir: layout.journal(),
            open: None,
        }
    }

    pub fn path(&self, run: RunId) -> PathBuf {
        self.dir.join(run.to_string())
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<RunId>, PathError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            other => other.at("list", &self.dir)?,
        };
        let mut runs: Vec<RunId> = entries
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        runs.sort_unstable();
        Ok(runs)
    }

    pub fn create(&self, run: RunId, plan: &[u8]) -> Result<(), PathError> {
        make_private_dir(&self.dir)?;
        let new = self.dir.join(format!(".{run}.new"));
        make_private_dir(&new.join("hooks"))?;
        let write =
            |name: &str, bytes: &[u8], reserve: Option<(u64, bool)>| -> Result<(), PathError> {
                let path = new.join(name);
                let mut file = create_private(&path)?;
                file.write_all(bytes).at("write", &path)?;
                if let Some((len, keep_size)) = reserve {
                    use rustix::fs::FallocateFlags;
                    let flags = if keep_size {
                        FallocateFlags::KEEP_SIZE
                    } else {
                        FallocateFlags::empty()
                    };
                    match rustix::fs::fallocate(&file, flags, 0, len) {
                        // A file system that cannot reserve: the run goes on without.
                        Err(rustix::io::Errno::OPNOTSUPP) => {}
                        other => other.at("reserve space for", &path)?,
                    }
                }
                file.sync_all().at("sync", &path)
            };
        write("plan.json", plan, None)?;
        write("journal.jsonl", &[], Some((RESERVED, true)))?;
        write("ballast", &[], Some((BALLAST, false)))?;
        sync_dir(&new)?;
        let path = self.path(run);
        fs::rename(&new, &path).at("rename into place", &path)?;
        sync_dir(&self.dir)?;
        sync_dir(parent(&self.dir))
    }

    /// The bytes of the plan and of the journal.
    pub fn read(&self, run: RunId) -> Result<(Vec<u8>, Vec<u8>), PathError> {
        let file = |name: &str| {
            let path = self.path(run).join(name);
            let missing = || io::Error::from(io::ErrorKind::NotFound);
            read_bounded(&path, MAX_JOURNAL)?
                .ok_or_else(missing)
                .at("read", &path)
        };
        Ok((file("plan.json")?, file("journal.jsonl")?))
    }

    pub fn append(&mut self, run: RunId, line: &[u8], sync: bool) -> Result<(), PathError> {
        let path = self.path(run).join("journal.jsonl");
        if self.open.as_ref().is_none_or(|(r, _)| *r != run) {
            self.open = Some((
                run,
                OpenOptions::new()
                    .append(true)
                    .open(&path)
                    .at("open", &path)?,
            ));
        }
        let (_, file) = self.open.as_mut().expect("just opened");
        killpoint::hit("append:before");
        file.write_all(line).at("append to", &path)?;
        killpoint::hit("append:written");
        if sync {
            file.sync_data().at("sync", &path)?;
        }
        killpoint::hit("append:after");
        Ok(())
    }

    pub fn truncate(&mut self, run: RunId, len: u64) -> Result<(), PathError> {
        self.open = None;
        let path = self.path(run).join("journal.jsonl");
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .at("open", &path)?;
        file.set_len(len).at("cut", &path)?;
        file.sync_all().at("sync", &path)
    }

    pub fn drop_ballast(&self, run: RunId) -> Result<(), PathError> {
        let path = self.path(run).join("ballast");
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", &path),
            _ => Ok(()),
        }
    }

    /// The attempt record of a hook.
    pub fn hook_record(&self, run: RunId, step: &str) -> PathBuf {
        self.path(run).join("hooks").join(format!("{step}.json"))
    }

    /// Removes run directories that were never finished.
    pub fn sweep(&self) -> Result<(), PathError> {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name
                .to_str()
                .is_some_and(|n| n.starts_with('.') && n.ends_with(".new"))
            {
                let path: &Path = &entry.path();
                fs::remove_dir_all(path).at("remove", path)?;
            }
        }
        Ok(())
    }
}
