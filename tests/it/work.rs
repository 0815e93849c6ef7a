//! Data of a test's own on a file system, the place of their copies, and how two trees are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use visor::backup::{Final, GenPaths, GenRecord, Precopier, Remembered, import, seal};
use visor::host::{Precopy, SealReport};
use visor::model::{ArchiveFormat, ArchiveSpec, BackupSpec, DataSpec, GenId};
use visor::store::Layout;

/// Numbers that spread, the same in each run with the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Data, and the place of their generations on the same disk.
pub(crate) struct Work {
    pub(crate) layout: Layout,
    pub(crate) data: DataSpec,
    pub(crate) backup: BackupSpec,
}

impl Work {
    pub(crate) fn new(disk: &Path) -> Self {
        let data = disk.join("data");
        fs::create_dir_all(&data).unwrap();
        let layout = Layout::new(&disk.join("visor"));
        fs::create_dir_all(layout.generations()).unwrap();
        let globs = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        Self {
            layout,
            data: DataSpec {
                path: data,
                exclude: globs(&["**/LOCK"]),
                keep: globs(&["keys"]),
                immutable: globs(&["**/*.ldb"]),
                append: globs(&["**/*.log"]),
            },
            backup: BackupSpec {
                reserve: 1,
                rate: visor::model::Rate::Unlimited,
                ..BackupSpec::named("test")
            },
        }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.data.path.join(path)
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    pub(crate) fn paths(&self, generation: GenId) -> GenPaths {
        GenPaths::new(&self.layout, generation)
    }

    pub(crate) fn begin(&self, generation: GenId, before: Option<GenId>) -> Precopier {
        let before = before.map(|g| self.paths(g));
        let precopier = Precopier::start(
            &self.paths(generation),
            &record(),
            &self.data,
            &self.backup,
            before.as_ref(),
        )
        .unwrap();
        let began = Instant::now();
        while !matches!(precopier.state(), Precopy::Ready { .. }) {
            if let Precopy::Failed(why) = precopier.state() {
                panic!("{why}");
            }
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(2));
        }
        precopier
    }

    /// Why no copy can be made.
    pub(crate) fn refusal(&self) -> String {
        let paths = self.paths(new_id());
        let precopier =
            Precopier::start(&paths, &record(), &self.data, &self.backup, None).unwrap();
        let began = Instant::now();
        loop {
            if let Precopy::Failed(why) = precopier.state() {
                return why;
            }
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn seal(&self, mut precopier: Precopier) -> SealReport {
        let generation = precopier.generation;
        precopier.end(&|| false).unwrap();
        let ready = precopier.into_ready();
        self.seal_with(generation, ready)
    }

    pub(crate) fn seal_with(
        &self,
        generation: GenId,
        ready: Option<visor::backup::Ready>,
    ) -> SealReport {
        self.seal_and_remember(generation, ready).0
    }

    pub(crate) fn seal_and_remember(
        &self,
        generation: GenId,
        ready: Option<visor::backup::Ready>,
    ) -> (SealReport, Option<Remembered>) {
        let paths = self.paths(generation);
        seal(&paths, &self.data, ready, self.at_rest()).unwrap()
    }

    /// How the final pass looks at this file system.
    pub(crate) fn at_rest(&self) -> Final {
        let compare = rustix::fs::statfs(&self.data.path).unwrap().f_type == 0x0102_1994;
        Final {
            compare,
            ..Final::default()
        }
    }

    /// A new generation out of an archive.
    pub(crate) fn import(&self, archive: &Path) -> Result<GenId, visor::backup::BackupError> {
        let taken = new_id();
        let (into, never) = (self.paths(taken), || false);
        import(
            &into,
            archive,
            &[],
            &self.data,
            &record(),
            &self.backup,
            &never,
        )
        .map(|()| taken)
    }

    pub(crate) fn sealed(&self, generation: GenId) -> PathBuf {
        self.paths(generation).done.join("tree")
    }
}

pub(crate) fn record() -> GenRecord {
    GenRecord::new("demo", "a copy", Some("genesis".into()), 0)
}

/// An archive that is neither packed nor encrypted.
pub(crate) fn plain_tar() -> ArchiveSpec {
    ArchiveSpec {
        format: ArchiveFormat::Tar,
        level: 1,
        to: None,
        recipients: vec![],
    }
}

pub(crate) fn new_id() -> GenId {
    GenId(ulid::Ulid::generate())
}

/// All that can be seen of a tree, but for what is not copied; through links that lead out of it, whose text is nobody's matter here.
pub(crate) fn picture(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut names: BTreeMap<(u64, u64), BTreeSet<PathBuf>> = BTreeMap::new();
    // What links inside lead to is inside too.
    let mut tops = vec![fs::canonicalize(dir).unwrap()];
    let mut dirs = vec![PathBuf::new()];
    while let Some(rel) = dirs.pop() {
        for found in fs::read_dir(dir.join(&rel)).unwrap().map(Result::unwrap) {
            let path = rel.join(found.file_name());
            let meta = found.metadata().unwrap();
            let kind = meta.file_type();
            if kind.is_socket()
                || kind.is_fifo()
                || path.ends_with("LOCK")
                || path.starts_with("keys")
                || path.ends_with("signer.json")
            {
                continue;
            }
            let target = fs::canonicalize(found.path()).unwrap_or_default();
            let leads_out = target.is_dir() && !tops.iter().any(|top| target.starts_with(top));
            let what = if kind.is_symlink() && leads_out {
                dirs.push(path.clone());
                tops.push(target);
                "a link to a directory elsewhere".to_owned()
            } else if kind.is_symlink() {
                format!("→ {}", fs::read_link(found.path()).unwrap().display())
            } else if kind.is_dir() {
                dirs.push(path.clone());
                "directory".to_owned()
            } else {
                // Links outside the tree are no matter of its own.
                names
                    .entry((meta.dev(), meta.ino()))
                    .or_default()
                    .insert(path.clone());
                let bytes = fs::read(found.path()).unwrap();
                visor::model::sha256_hex(&bytes)
            };
            let mut value = vec![0; 100];
            let has = rustix::fs::lgetxattr(found.path(), "user.note", &mut value).unwrap_or(0);
            let note = String::from_utf8_lossy(&value[..has]).into_owned();
            let of_all = format!(
                "{what} mode {:o} owner {}:{} at {}.{:09} note {note:?}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
            );
            all.insert(path, of_all);
        }
    }
    for same in names.into_values() {
        for path in &same {
            all.get_mut(path)
                .unwrap()
                .push_str(&format!(" names {same:?}"));
        }
    }
    all
}

pub(crate) fn assert_same(copy: &Path, data: &Path, what: &str) {
    assert_pictures(&picture(copy), &picture(data), what);
}

pub(crate) fn assert_pictures(
    copy: &BTreeMap<PathBuf, String>,
    data: &BTreeMap<PathBuf, String>,
    what: &str,
) {
    let paths: BTreeSet<&PathBuf> = copy.keys().chain(data.keys()).collect();
    let differ = paths.into_iter().filter(|p| copy.get(*p) != data.get(*p));
    let differ: Vec<String> = differ
        .map(|p| {
            format!(
                "{}: copy {:?}\n     data {:?}",
                p.display(),
                copy.get(p),
                data.get(p)
            )
        })
        .collect();
    assert!(differ.is_empty(), "{what}:\n{}", differ.join("\n"));
}

#[expect(
    unsafe_code,
    reason = "a store through a mapping is what is tried; the file is the test's own"
)]
pub(crate) fn map(path: &Path) -> memmap2::MmapMut {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    unsafe { memmap2::MmapMut::map_mut(&file).unwrap() }
}
