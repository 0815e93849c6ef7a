//! Rounds of copying that are cut off and gone on with, and what the final pass passes over.

use crate::copies::{oddities, verified};
use crate::work::{Work, assert_same, new_id, record};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use visor::backup::Precopier;
use visor::host::Precopy;

/// A visor that died in the middle of a round: the next one goes on, and cuts off the tail that was being added.
#[test]
fn a_round_that_was_cut_off_leaves_the_state_of_the_round_before() {
    let place = tempfile::tempdir().unwrap();
    let work = Work::new(place.path());
    oddities(&work);
    work.write("mutable", &[6; 5_000]);
    work.write("other", b"a file");
    // Old enough for their stamps to be trusted: only what was cut off is copied again.
    std::thread::sleep(Duration::from_millis(100));
    let generation = new_id();
    drop(work.begin(generation, None));
    let tree = work.paths(generation).part.join("tree");
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(tree.join("wal/000003.log"))
        .unwrap();
    log.write_all(b"half a tail").unwrap();
    fs::write(tree.join("never-recorded"), "").unwrap();
    fs::remove_file(tree.join("CURRENT")).unwrap();
    fs::remove_dir_all(tree.join("a/deep")).unwrap();
    // What a round of a visor that died had replaced, by something shorter or of another kind, and what has gone since.
    fs::write(tree.join("mutable"), "short").unwrap();
    fs::remove_file(tree.join("other")).unwrap();
    fs::create_dir(tree.join("other")).unwrap();
    for gone in ["mutable", "other"] {
        fs::remove_file(work.at(gone)).unwrap();
    }
    // What the final pass of a visor that died had taken out already.
    for dir in [&tree, &work.data.path] {
        fs::remove_file(dir.join("dangling")).unwrap();
    }
    let report = work.seal_with(generation, None);
    assert_eq!(verified(&work, generation).bad, Vec::<String>::new());
    assert_same(&work.sealed(generation), &work.data.path, "");
    assert!(report.files < 8, "only what was missing: {report:?}");
}

/// A first round of hours is not begun anew because visor was replaced or killed in it.
#[test]
fn a_first_round_that_was_cut_off_goes_on_where_it_was() {
    let place = tempfile::tempdir().unwrap();
    let mut work = Work::new(place.path());
    oddities(&work);
    for n in 0..16 {
        work.write(&format!("more/{n:02}.dat"), &vec![n; 1 << 20]);
    }
    work.backup.rate = visor::model::Rate::Fixed(3 << 20);
    let generation = new_id();
    let paths = work.paths(generation);
    let start =
        |work: &Work| Precopier::start(&paths, &record(), &work.data, &work.backup, None).unwrap();
    let inodes = || -> BTreeMap<PathBuf, u64> {
        let more = fs::read_dir(paths.part.join("tree/more"));
        more.into_iter()
            .flatten()
            .map(|e| e.unwrap())
            .map(|e| (e.path(), e.metadata().unwrap().ino()))
            .collect()
    };
    let first = start(&work);
    let began = Instant::now();
    let noted = paths.part.join("baseline");
    while !noted.is_file() || inodes().is_empty() {
        assert!(
            matches!(first.state(), Precopy::Filling { .. }),
            "while it is under way"
        );
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    // As a kill leaves it: what came after the note is not in it.
    let (mut kept, note) = (inodes(), fs::read(&noted).unwrap());
    drop(first);
    fs::write(&noted, note).unwrap();
    let known = visor::backup::Baseline::read(&noted).unwrap().unwrap();
    let tree = paths.part.join("tree");
    kept.retain(|p, _| known.entries.get(p.strip_prefix(&tree).unwrap()).is_some());
    assert!(
        !kept.is_empty() && kept.len() < 16,
        "it was at work: {}",
        kept.len()
    );
    // Then as a stop leaves it.
    let second = start(&work);
    std::thread::sleep(Duration::from_secs(1));
    drop(second);
    let more = inodes();
    assert!(more.len() < 16, "it was still at work: {}", more.len());
    work.backup.rate = visor::model::Rate::Unlimited;
    let _ = work.seal(work.begin(generation, None));
    let end: BTreeMap<PathBuf, u64> = fs::read_dir(work.sealed(generation).join("more"))
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| {
            (
                paths.part.join("tree/more").join(e.file_name()),
                e.metadata().unwrap().ino(),
            )
        })
        .collect();
    let same =
        |of: &BTreeMap<PathBuf, u64>| of.iter().filter(|(p, i)| end.get(*p) == Some(i)).count();
    assert_eq!(
        same(&more),
        more.len(),
        "nothing that a stop left is copied again"
    );
    assert!(
        same(&kept) + 1 >= kept.len(),
        "nothing that was noted is copied again"
    );
    assert_same(&work.sealed(generation), &work.data.path, "");
}

/// What a visor that came later had met in a round that was cut, and that is gone at the exit, is gone from the copy.
#[test]
fn what_has_gone_since_a_later_visor_met_it_is_no_part_of_the_copy() {
    let place = tempfile::tempdir().unwrap();
    let mut work = Work::new(place.path());
    oddities(&work);
    let generation = new_id();
    drop(work.begin(generation, None));
    work.write("new.dat", &vec![5; 8 << 20]);
    work.backup.rate = visor::model::Rate::Fixed(2 << 20);
    let paths = work.paths(generation);
    let mut later = Precopier::start(&paths, &record(), &work.data, &work.backup, None).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    fs::remove_file(work.at("sparse")).unwrap();
    later.cut().unwrap();
    let ready = later.into_ready();
    assert!(ready.is_some());
    let _ = work.seal_with(generation, ready);
    assert_same(&work.sealed(generation), &work.data.path, "");
}

/// The final pass does not list directories whose stamps are as they were; what changes without a change of a name is met all the same.
#[test]
fn changes_in_directories_that_look_as_they_did_are_met() {
    let place = tempfile::tempdir().unwrap();
    let mut work = Work::new(place.path());
    work.data.exclude.push("cache".into());
    work.data.keep = vec!["cache/deep/keys".into()];
    let old = SystemTime::now() - Duration::from_secs(600);
    for n in 0..50 {
        let path = format!("db/{n}.ldb");
        work.write(&path, b"a table");
        let file = fs::File::open(work.at(&path)).unwrap();
        file.set_modified(old).unwrap();
    }
    work.write("db/000.log", b"a log");
    work.write("db/mutable", b"one");
    work.write("db/deep/mutable", b"one");
    work.write("cache/deep/file", b"of no worth");
    std::thread::sleep(Duration::from_millis(100));
    let mut rounds = work.begin(new_id(), None);
    rounds.end(&|| false).unwrap();
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(work.at("db/000.log"))
        .unwrap();
    log.write_all(b" that grows").unwrap();
    for path in ["db/mutable", "db/deep/mutable"] {
        work.write(path, b"two");
    }
    work.write("cache/deep/keys/new", b"a key");
    let mode = fs::Permissions::from_mode(0o750);
    fs::set_permissions(work.at("db/deep"), mode).unwrap();
    let generation = rounds.generation;
    let report = work.seal_with(generation, rounds.into_ready());
    assert_eq!(report.files, 3, "{report:?}");
    // Where stamps prove nothing, all are listed. The directory whose mode has changed is one, and the one that `keep` brought another.
    let expected = if work.at_rest().compare { 0 } else { 2 };
    assert!(report.passed_over >= expected, "{report:?}");
    assert_eq!(verified(&work, generation).bad, Vec::<String>::new());
    fs::remove_dir_all(work.at("cache")).unwrap();
    assert_same(&work.sealed(generation), &work.data.path, "");
    let why = visor::backup::carry_keep(&work.paths(generation), &work.data, None).unwrap_err();
    assert!(
        why.to_string().contains("cache/deep/keys is missing"),
        "{why}"
    );
}
