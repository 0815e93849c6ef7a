//! How fast a copy may go beside the node, and when it is given up.

use super::error::BackupError;
use crate::durable::AtPath as _;
use crate::model::Rate;
use crate::process::give_way;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// At 200 MB/s a node with 20 ms blocks keeps its p99 block interval (23 ms against 21).
const AUTO_MOST: u64 = 200 * 1024 * 1024;
/// Space is looked at again after so many bytes.
const WATCH_EVERY: u64 = 64 * 1024 * 1024;
/// Shorter rests than this are saved up.
const SHORTEST: Duration = Duration::from_millis(1);
/// One sleep at the most, so that a cancelled copy ends soon.
const LONGEST: Duration = Duration::from_millis(200);

/// What a round may spend.
pub(super) struct Pace<'a> {
    pub(super) rate: Rate,
    /// Kept free beside the copy, so that the node never runs out of disk for visor's sake.
    pub(super) reserve: u64,
    /// On the disks that are written to.
    pub(super) dirs: &'a [PathBuf],
    pub(super) cancel: &'a AtomicBool,
    pub(super) cut: &'a AtomicBool,
    pub(super) total: &'a AtomicU64,
    began: Instant,
    /// When the last rest ended; from then on the disk was visor's.
    rested: Cell<Instant>,
    owed: Cell<Duration>,
    spent: Cell<u64>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(
        rate: Rate,
        reserve: u64,
        dirs: &'a [PathBuf],
        cancel: &'a AtomicBool,
        cut: &'a AtomicBool,
        total: &'a AtomicU64,
    ) -> Self {
        Self {
            rate,
            reserve,
            dirs,
            cancel,
            cut,
            total,
            began: Instant::now(),
            rested: Cell::new(Instant::now()),
            owed: Cell::new(Duration::ZERO),
            spent: Cell::new(0),
        }
    }

    /// Counts bytes that were copied, and rests for them. `Rate::Auto` leaves the disk to the node for as long as it was used:
    /// whatever the disk can do, half of it is the node's.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), BackupError> {
        self.total.fetch_add(bytes, Ordering::Relaxed);
        let before = self.spent.get();
        let spent = before + bytes;
        self.spent.set(spent);
        if spent / WATCH_EVERY != before / WATCH_EVERY {
            for dir in self.dirs {
                enough_space(dir, 0, self.reserve)?;
            }
        }
        let due = |rate: u64| Duration::from_secs_f64(spent as f64 / rate.max(1) as f64);
        let behind = |rate: u64| due(rate).saturating_sub(self.began.elapsed());
        let rest = match self.rate {
            Rate::Unlimited => Duration::ZERO,
            Rate::Fixed(rate) => behind(rate),
            Rate::Auto => {
                let busy = self.rested.get().elapsed();
                behind(AUTO_MOST).max(self.owed.get() + busy)
            }
        };
        if rest < SHORTEST && rest > Duration::ZERO {
            self.owed.set(rest);
            self.rested.set(Instant::now());
            return self.wanted();
        }
        let until = Instant::now() + rest;
        loop {
            self.wanted()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(LONGEST));
        }
        self.owed.set(Duration::ZERO);
        self.rested.set(Instant::now());
        Ok(())
    }

    fn wanted(&self) -> Result<(), BackupError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(BackupError::Interrupted);
        }
        if self.cut.load(Ordering::Relaxed) {
            return Err(BackupError::Cut);
        }
        Ok(())
    }
}

/// An error when so many bytes and the reserve do not fit.
pub(super) fn enough_space(dir: &Path, need: u64, reserve: u64) -> Result<(), BackupError> {
    let stat = rustix::fs::statvfs(dir).at("look at the space of", dir)?;
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    if available < need.saturating_add(reserve) {
        return Err(BackupError::NoSpace {
            dir: dir.to_owned(),
            need,
            reserve,
            available,
        });
    }
    Ok(())
}

/// What the file system of a directory could hold if nothing else were on it, in bytes.
pub(super) fn total_space(dir: &Path) -> Result<u64, BackupError> {
    let stat = rustix::fs::statvfs(dir).at("look at the space of", dir)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// An error when so many files cannot be made. Some file systems make inodes as they are asked for and count none.
pub(super) fn enough_inodes(dir: &Path, need: u64) -> Result<(), BackupError> {
    let stat = rustix::fs::statvfs(dir).at("look at the space of", dir)?;
    if stat.f_files > 0 && stat.f_favail < need {
        return Err(BackupError::NoInodes {
            dir: dir.to_owned(),
            need,
            available: stat.f_favail,
        });
    }
    Ok(())
}

/// What long work apart may call: with the bytes that it has done; and with how far it is, of how much.
pub(super) type Spend<'a> = &'a dyn Fn(u64) -> Result<(), BackupError>;
pub(super) type Progress<'a> = &'a dyn Fn(u64, u64);

const SAY_EVERY: Duration = Duration::from_secs(5);

/// Does long work beside the node in a thread that gives way to it, until it is interrupted; `say` hears how far it is.
pub(super) fn apart<T: Send>(
    rate: Rate,
    dir: &Path,
    interrupted: &dyn Fn() -> bool,
    say: &dyn Fn(&str),
    work: &(dyn Fn(Spend<'_>, Progress<'_>) -> Result<T, BackupError> + Sync),
) -> Result<T, BackupError> {
    let (cancel, cut) = (AtomicBool::new(false), AtomicBool::new(false));
    let (total, done, all) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            if rate != Rate::Unlimited {
                give_way();
            }
            let dirs = [dir.to_owned()];
            let pace = Pace::new(rate, 0, &dirs, &cancel, &cut, &total);
            work(&|n| pace.spend(n), &|n, of| {
                done.store(n, Ordering::Relaxed);
                all.store(of, Ordering::Relaxed);
            })
        });
        let mut said = Instant::now();
        while !work.is_finished() {
            if interrupted() {
                cancel.store(true, Ordering::Relaxed);
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                let bytes = bytesize::ByteSize(total.load(Ordering::Relaxed));
                let of = match all.load(Ordering::Relaxed) {
                    0 => String::new(),
                    all => format!(", {} of {all} entries", done.load(Ordering::Relaxed)),
                };
                say(&format!("{bytes} are read{of}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        work.join()
            .map_err(|_| BackupError::Precopy("the thread that reads the copy panicked".into()))?
    })
}
