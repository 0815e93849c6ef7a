//! Copies of a data directory on real file systems: what is odd about files, what a copy may share, and what a writer does meanwhile.

use crate::disks::{disks, run};
use crate::work::{Work, assert_same, map, new_id};
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::{Duration, SystemTime};
use visor::backup::{
    Final, GenRecord, GenState, Precopier, Verdict, Watch, generations, pin, prune, seal,
    seal_holds, survey, verify,
};
use visor::host::Precopy;
use visor::model::{BackupSpec, GenId, Method};

/// Files with all that is odd about files.
pub(crate) fn oddities(work: &Work) {
    work.write("tables/000001.ldb", &vec![7; 100_000]);
    work.write("tables/000002.ldb", &vec![8; 1_000]);
    work.write("wal/000003.log", &vec![9; 200_000]);
    work.write("CURRENT", b"MANIFEST-1\n");
    work.write("keys/nodekey", b"secret");
    work.write("LOCK", b"");
    work.write("empty", b"");
    fs::create_dir_all(work.at("a/deep/and/empty/directory")).unwrap();
    let odd = OsString::from_vec(b"not \xff utf-8\n%".to_vec());
    fs::write(work.data.path.join(odd), "odd").unwrap();
    std::os::unix::fs::symlink("tables/000001.ldb", work.at("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", work.at("dangling")).unwrap();
    fs::hard_link(work.at("CURRENT"), work.at("CURRENT.again")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(work.at("node.sock")).unwrap();
    assert!(run("mkfifo", &[work.at("fifo").to_str().unwrap()]));
    let sparse = fs::File::create(work.at("sparse")).unwrap();
    sparse.set_len(16 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 8 << 20).unwrap();
    fs::set_permissions(work.at("empty"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(work.at("a/deep"), fs::Permissions::from_mode(0o2750)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(work.at("empty"), Some(12), Some(34)).unwrap();
        fs::set_permissions(work.at("empty"), fs::Permissions::from_mode(0o4751)).unwrap();
    }
    for path in ["CURRENT", "a/deep"] {
        let _ = rustix::fs::setxattr(
            work.at(path),
            "user.note",
            b"kept",
            rustix::fs::XattrFlags::empty(),
        );
    }
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 123_456_789);
    for path in ["tables/000001.ldb", "empty", "tables", "a/deep/and"] {
        fs::File::open(work.at(path))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
}

#[test]
fn all_that_is_odd_about_files_is_kept() {
    for disk in disks() {
        for method in [None, Some(Method::Copy)] {
            if method.is_some() && disk.only_snapshots() {
                continue;
            }
            let place = disk.dir.join(format!("{method:?}"));
            disk.make_data(&place.join("data"));
            let work = Work {
                backup: BackupSpec {
                    method,
                    ..Work::new(&place).backup
                },
                ..Work::new(&place)
            };
            oddities(&work);
            let what = format!("{}, {method:?}", disk.name);
            let facts = survey(&work.layout.generations(), &work.data);
            if method.is_none() {
                println!("{}: {}", disk.name, facts.best().as_str());
                let want = match disk.name {
                    "subvolumes" | "datasets" => Some(Method::Snapshot),
                    "xfs" | "btrfs" => Some(Method::Reflink),
                    "ext4" | "tmpfs" => Some(Method::LinkCopy),
                    _ => None,
                };
                assert!(want.is_none_or(|m| m == facts.best()), "{what}: {facts:?}");
            }
            let first = new_id();
            let precopier = work.begin(first, None);
            // Between the rounds and after them.
            work.write("tables/000004.ldb", &vec![4; 5_000]);
            let mut wal = fs::OpenOptions::new()
                .append(true)
                .open(work.at("wal/000003.log"))
                .unwrap();
            wal.write_all(&vec![1; 50_000]).unwrap();
            fs::remove_file(work.at("tables/000002.ldb")).unwrap();
            fs::remove_dir_all(work.at("a/deep/and/empty")).unwrap();
            fs::remove_file(work.at("link")).unwrap();
            fs::create_dir(work.at("link")).unwrap();
            work.write("link/inside", b"a directory in the place of a link");
            let _ = work.seal(precopier);
            let tree = work.sealed(first);
            assert_same(&tree, &work.data.path, &what);
            assert!(
                !tree.join("keys").exists() && !tree.join("LOCK").exists(),
                "{what}"
            );
            assert!(
                seal_holds(&work.paths(first), &work.data).unwrap(),
                "{what}"
            );
            // The next one, from the one before.
            work.write("CURRENT.new", b"MANIFEST-2\n");
            fs::rename(work.at("CURRENT.new"), work.at("CURRENT")).unwrap();
            // So that stamps are old enough to be trusted.
            std::thread::sleep(Duration::from_millis(100));
            let second = new_id();
            let precopier = work.begin(second, Some(first));
            let report = work.seal(precopier);
            // CURRENT and its second name, if they were too young for their stamps to be trusted.
            assert!(report.files <= 2, "{what}: {report:?}");
            assert_same(&work.sealed(second), &work.data.path, &what);
            let inode = |g| {
                let meta = fs::metadata(work.sealed(g).join("tables/000001.ldb")).unwrap();
                (meta.dev(), meta.ino())
            };
            let shares = inode(first) == inode(second);
            assert_eq!(
                shares,
                !facts.best().shares_blocks() || method.is_some(),
                "{what}"
            );
            // What may be written in place is shared with nobody.
            for generation in [first, second] {
                for path in ["wal/000003.log", "empty", "sparse"] {
                    let copy = fs::metadata(work.sealed(generation).join(path)).unwrap();
                    assert_eq!(copy.nlink(), 1, "{what}: {path}");
                    let taken = copy.blocks() * 512;
                    assert!(taken < 1 << 20, "{what}: {path} has no holes");
                }
            }
        }
    }
}

pub(crate) fn verified(work: &Work, generation: GenId) -> Verdict {
    let pace = |_| Ok(());
    let watch = Watch {
        pace: &pace,
        progress: &|_, _| {},
    };
    verify(&work.paths(generation), true, &watch).unwrap()
}

/// Stamps can lie; contents cannot.
#[test]
fn a_copy_that_is_not_its_source_is_found_and_never_good_again() {
    let place = tempfile::tempdir().unwrap();
    let work = Work::new(place.path());
    oddities(&work);
    let first = new_id();
    let _ = work.seal(work.begin(first, None));
    work.write("CURRENT", b"changed by the node that runs again\n");
    let verdict = verified(&work, first);
    assert_eq!(verdict.bad, Vec::<String>::new());
    let files = verdict.files;
    assert!(verdict.proved > 0 && verdict.proved < files, "{verdict:?}");
    // What other tools say of the digests.
    let sums = work.paths(first).done.join("SHA256SUMS");
    let check = || {
        let mut command = Command::new("sha256sum");
        command.args(["-c", "--quiet"]).arg(&sums);
        command
            .current_dir(work.sealed(first))
            .status()
            .unwrap()
            .success()
    };
    assert!(check());
    let state = |g: GenId| {
        let all = generations(&work.layout);
        all.into_iter().find(|found| found.id() == g).unwrap().state
    };
    assert_eq!(state(first), GenState::Verified);
    // A disk that forgets.
    let rotten = work.sealed(first).join("sparse");
    let file = fs::OpenOptions::new().write(true).open(&rotten).unwrap();
    file.write_all_at(b"rot", 8 << 20).unwrap();
    drop(file);
    assert!(!check());
    let verdict = verified(&work, first);
    assert_eq!(verdict.bad.len(), 1, "{verdict:?}");
    assert!(
        verdict.bad[0].starts_with("sparse: its contents have changed"),
        "{verdict:?}"
    );
    assert_eq!(state(first), GenState::Bad);
    // A change that no stamp has shown: the copy is wrong from the first, and its source unchanged.
    let second = new_id();
    let _ = work.seal(work.begin(second, None));
    fs::write(work.sealed(second).join("empty"), "").unwrap();
    let wrong = work.sealed(second).join("wal/000003.log");
    let stamp = fs::metadata(&wrong).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&wrong).unwrap();
    file.write_all_at(b"x", 7).unwrap();
    file.set_modified(stamp).unwrap();
    let verdict = verified(&work, second);
    assert!(
        verdict
            .bad
            .iter()
            .any(|b| b.contains("differs from its source")),
        "{verdict:?}"
    );
    fs::remove_dir_all(work.sealed(second).join("tables")).unwrap();
    let bad = verified(&work, second).bad.join("\n");
    assert!(bad.contains("tables/000001.ldb: No such file"), "{bad}");
}

#[test]
fn what_a_policy_names_stays_and_the_newest_verified_of_each_release() {
    let place = tempfile::tempdir().unwrap();
    let work = Work::new(place.path());
    work.write("file", b"data");
    let make = |release: &str, is_verified: bool, is_pinned: bool| {
        let generation = new_id();
        let record = GenRecord::new("demo", "", Some(release.to_owned()), 0);
        let paths = work.paths(generation);
        let mut precopier =
            Precopier::start(&paths, &record, &work.data, &work.backup, None).unwrap();
        precopier.end(&|| false).unwrap();
        let _ = work.seal_with(generation, precopier.into_ready());
        if is_verified {
            let _ = verified(&work, generation);
        }
        if is_pinned {
            pin(&paths, true).unwrap();
        }
        generation
    };
    let old_verified = make("v1", true, false);
    let newer_verified = make("v1", true, false);
    let only_sealed = make("v1", false, false);
    let pinned = make("v1", false, true);
    let of_v2 = make("v2", true, false);
    let (last, current) = (make("v3", false, false), make("v3", false, false));
    let policy = BackupSpec {
        keep_last: 2,
        ..work.backup.clone()
    };
    let now = current.0.timestamp_ms();
    let young = BackupSpec {
        keep_within: Some(3_600_000),
        ..policy.clone()
    };
    assert_eq!(
        prune(&work.layout, "demo", &young, current, now).unwrap(),
        0
    );
    assert_eq!(
        prune(&work.layout, "demo", &policy, current, now).unwrap(),
        2
    );
    let left: Vec<GenId> = generations(&work.layout).iter().map(|g| g.id()).collect();
    assert_eq!(left, [newer_verified, pinned, of_v2, last, current]);
    assert!(!left.contains(&old_verified) && !left.contains(&only_sealed));
    pin(&work.paths(pinned), false).unwrap();
    assert_eq!(
        prune(&work.layout, "demo", &policy, current, now).unwrap(),
        1
    );
    // One that cannot be removed is not in the way of those behind it.
    let tree = work.sealed(newer_verified);
    fs::remove_dir_all(&tree).unwrap();
    std::os::unix::fs::symlink("/nowhere", &tree).unwrap();
    let newest = make("v1", true, false);
    prune(&work.layout, "demo", &policy, newest, now).unwrap_err();
    let left: Vec<GenId> = generations(&work.layout).iter().map(|g| g.id()).collect();
    assert_eq!(left, [newer_verified, of_v2, current, newest]);
}

/// What was copied while it was written to is what it was at the exit, whoever wrote and however.
#[test]
fn a_writer_that_never_rests_loses_nothing() {
    for disk in disks() {
        disk.make_data(&disk.dir.join("data"));
        let work = Work::new(&disk.dir);
        work.write("mutable", &vec![0; 300_000]);
        work.write("grows.log", b"");
        work.write("mapped", &vec![0; 64 * 1024]);
        fs::hard_link(work.at("mapped"), work.at("mapped.again")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let precopier = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mutable = fs::OpenOptions::new()
                    .write(true)
                    .open(work.at("mutable"))
                    .unwrap();
                let mut grows = fs::OpenOptions::new()
                    .append(true)
                    .open(work.at("grows.log"))
                    .unwrap();
                let mut mapped = map(&work.at("mapped"));
                let mut n = 0_u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    n += 1;
                    mutable
                        .write_all_at(&n.to_le_bytes(), n * 4_099 % 290_000)
                        .unwrap();
                    grows.write_all(&n.to_le_bytes()).unwrap();
                    // The same pages again and again: only the first store of each shows.
                    let page = usize::try_from(n % 16).unwrap() * 4096;
                    mapped[page..page + 8].copy_from_slice(&n.to_le_bytes());
                    if n.is_multiple_of(97) {
                        work.write(&format!("tables/{n:06}.ldb"), &n.to_le_bytes());
                    }
                    if n.is_multiple_of(200) {
                        // Cut, as a freezer is at a rewind, and grown again.
                        grows.set_len(n * 3).unwrap();
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            let precopier = work.begin(new_id(), None);
            // Of a node that runs, a copy is whole too, file by file.
            let of_running = new_id();
            let mut live = work.begin(of_running, None);
            live.end(&|| false).unwrap();
            let look = Final {
                live: true,
                ..Final::default()
            };
            let paths = work.paths(of_running);
            let _ = seal(&paths, &work.data, live.into_ready(), look).unwrap();
            let watch = Watch {
                pace: &|_| Ok(()),
                progress: &|_, _| {},
            };
            let bad = verify(&paths, false, &watch).map(|v| v.bad);
            let rounds = |p: &Precopier| match p.state() {
                Precopy::Ready { rounds, .. } => rounds,
                other => panic!("{other:?}"),
            };
            while rounds(&precopier) < 3 {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            (precopier, bad)
        });
        let (precopier, bad) = precopier;
        assert_eq!(bad.unwrap(), Vec::<String>::new(), "{}", disk.name);
        let generation = precopier.generation;
        let _ = work.seal(precopier);
        assert_same(&work.sealed(generation), &work.data.path, disk.name);
    }
}

/// Directories that exchange names leave the stamps of their files as they are: a name is no proof of what stands there.
#[test]
fn files_of_two_names_in_directories_that_change_places_stay_what_they_are() {
    let place = tempfile::tempdir().unwrap();
    let work = Work::new(place.path());
    for dir in ["a", "b"] {
        work.write(&format!("{dir}/x"), format!("of {dir}").as_bytes());
        fs::hard_link(work.at(&format!("{dir}/x")), work.at(&format!("x.{dir}"))).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let mut rounds = work.begin(new_id(), None);
    rounds.end(&|| false).unwrap();
    let (cwd, exchange) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
    rustix::fs::renameat_with(cwd, work.at("a"), cwd, work.at("b"), exchange).unwrap();
    let generation = rounds.generation;
    let _ = work.seal_with(generation, rounds.into_ready());
    for (dir, holds) in [("a", "of b"), ("b", "of a")] {
        let copy = work.sealed(generation).join(dir).join("x");
        assert_eq!(fs::read_to_string(copy).unwrap(), holds);
    }
    assert_eq!(verified(&work, generation).bad, Vec::<String>::new());
}

/// Small files can take all inodes of a disk that has space enough.
#[test]
fn a_disk_that_has_space_and_too_few_inodes_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (image, dir) = (place.path().join("image"), place.path().join("disk"));
    fs::create_dir(&dir).unwrap();
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let (image, at) = (image.to_str().unwrap(), dir.to_str().unwrap());
    let has = run("mkfs.ext4", &["-q", "-F", "-N", "400", image])
        && run("mount", &["-o", "loop", image, at]);
    if !has {
        println!("skipped: ext4 cannot be had here");
        return;
    }
    let work = Work::new(&dir);
    for n in 0..250 {
        work.write(&format!("many/{n}.dat"), b"x");
    }
    let why = work.refusal();
    assert!(run("umount", &[at]));
    assert!(
        why.contains("not enough inodes") && why.contains("251 needed"),
        "{why}"
    );
}

#[test]
fn what_is_mounted_inside_is_refused_and_named() {
    let place = tempfile::tempdir().unwrap();
    let work = Work::new(place.path());
    let inside = work.at("ancient");
    fs::create_dir(&inside).unwrap();
    let at = inside.to_str().unwrap();
    if !run("mount", &["-t", "tmpfs", "none", at]) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let why = work.refusal();
    assert!(run("umount", &[at]));
    assert!(why.contains("ancient is mounted inside the data"), "{why}");
}
