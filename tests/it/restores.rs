//! Data put back in single steps: what is carried over, and where it is looked for.

use crate::disks::{disk, run};
use crate::work::{Work, new_id};
use std::fs;
use std::path::Path;
use std::time::Duration;
use visor::backup::{Remembered, carry_keep, exchange, restore, seal_state};
use visor::host::SealState;
use visor::model::GenId;

pub(crate) fn sealed(work: &Work) -> (GenId, Option<Remembered>) {
    // Old enough for the stamps of their directories to be trusted.
    std::thread::sleep(Duration::from_millis(100));
    let mut rounds = work.begin(new_id(), None);
    rounds.end(&|| false).unwrap();
    let generation = rounds.generation;
    let (_, remembered) = work.seal_and_remember(generation, rounds.into_ready());
    (generation, remembered)
}

/// Takes out of a seal what visors of before did not write.
fn as_an_older_visor(seal: &Path) {
    let text = fs::read_to_string(seal).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.pop();
    let mut header: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    header.as_object_mut().unwrap().remove("kept").unwrap();
    lines[0] = header.to_string();
    let body = lines.join("\n") + "\n";
    let crc = crc32fast::hash(body.as_bytes());
    let entries = lines.len() - 1;
    fs::write(
        seal,
        format!("{body}{{\"entries\":{entries},\"crc\":{crc}}}\n"),
    )
    .unwrap();
}

/// Signer state of now goes into the data of before, wherever `keep` finds it, and nothing that it does not name.
#[test]
fn what_is_kept_is_carried_over_as_it_is_now() {
    let exact = ["keys", "state/signer.json", "v/*/duty.json", "geth/nodekey"];
    let anywhere = ["**/keys", "**/signer.json", "**/duty.json", "**/nodekey"];
    for (keep, remembers) in [
        (exact, true),
        (exact, false),
        (anywhere, true),
        (anywhere, false),
    ] {
        let place = tempfile::tempdir().unwrap();
        let mut work = Work::new(place.path());
        work.data.keep = keep.map(str::to_owned).into();
        work.data.exclude = vec!["geth".into(), "v/cache".into()];
        for path in [
            "keys/a",
            "state/signer.json",
            "v/1/duty.json",
            "v/1/blocks",
            "v/cache/duty.json",
            "geth/nodekey",
            "geth/LOCK",
            "chain/1.dat",
        ] {
            work.write(path, b"before");
        }
        let (generation, remembered) = sealed(&work);
        let remembered = remembered.filter(|_| remembers);
        for path in [
            "keys/b",
            "state/signer.json",
            "v/1/duty.json",
            "v/2/duty.json",
            "v/cache/duty.json",
            "v/1/blocks",
            "geth/nodekey",
            "chain/1.dat",
        ] {
            work.write(path, b"now");
        }
        fs::remove_file(work.at("v/1/blocks")).unwrap();
        let paths = work.paths(generation);
        carry_keep(&paths, &work.data, remembered.as_ref()).unwrap();
        exchange(&paths, &work.data).unwrap();
        let holds = |path: &str| fs::read_to_string(work.at(path)).ok();
        for (path, what) in [
            ("keys/a", Some("before")),
            ("keys/b", Some("now")),
            ("state/signer.json", Some("now")),
            ("v/1/duty.json", Some("now")),
            ("v/2/duty.json", Some("now")),
            ("v/cache/duty.json", Some("now")),
            ("v/1/blocks", Some("before")),
            ("geth/nodekey", Some("now")),
            ("geth/LOCK", None),
            ("chain/1.dat", Some("before")),
        ] {
            assert_eq!(
                holds(path).as_deref(),
                what,
                "{path} by {keep:?}, {remembers}"
            );
        }
    }
}

#[test]
fn a_kept_file_that_has_vanished_stops_the_way_back() {
    for older in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let work = Work::new(place.path());
        work.write("keys/signer.json", b"{}");
        // One that comes between the last round and the exit counts too.
        let mut rounds = work.begin(new_id(), None);
        rounds.end(&|| false).unwrap();
        work.write("keys/later.json", b"{}");
        let generation = rounds.generation;
        let (_, remembered) = work.seal_and_remember(generation, rounds.into_ready());
        let paths = work.paths(generation);
        if older {
            as_an_older_visor(&paths.done.join("SEAL"));
        }
        carry_keep(&paths, &work.data, remembered.as_ref()).unwrap();
        for vanishes in ["keys/later.json", "keys/signer.json"] {
            fs::remove_file(work.at(vanishes)).unwrap();
            let why = carry_keep(&paths, &work.data, remembered.as_ref())
                .unwrap_err()
                .to_string();
            assert!(why.contains(&format!("{vanishes} is missing")), "{why}");
            work.write(vanishes, b"{}");
        }
        fs::rename(work.at("keys"), work.at("keys.real")).unwrap();
        // Nothing is taken from where a link leads to.
        std::os::unix::fs::symlink("keys.real", work.at("keys")).unwrap();
        let why = carry_keep(&paths, &work.data, remembered.as_ref())
            .unwrap_err()
            .to_string();
        assert!(why.contains("is missing"), "{why}");
    }
}

/// It would stay with the data that are set aside.
#[test]
fn what_was_mounted_inside_since_stops_the_way_back() {
    let place = tempfile::tempdir().unwrap();
    let mut work = Work::new(place.path());
    work.write("a chain/1.ldb", b"x");
    work.write("cache/deep/file", b"x");
    work.data.exclude.push("cache".into());
    // Below what is excluded it is nobody's matter, there and back.
    let deep = work.at("cache/deep");
    let deep = deep.to_str().unwrap();
    if !run("mount", &["-t", "tmpfs", "none", deep]) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let (generation, remembered) = sealed(&work);
    let inside = work.at("a chain");
    let at = inside.to_str().unwrap();
    let carry = || carry_keep(&work.paths(generation), &work.data, remembered.as_ref());
    let passed = carry();
    assert!(run("mount", &["-t", "tmpfs", "none", at]));
    let refused = carry();
    assert!(run("umount", &[at]) && run("umount", &[deep]));
    passed.unwrap();
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("a chain is mounted inside the data"), "{why}");
}

/// What may be refused is refused while the generation is still a backup.
#[test]
fn data_on_another_mount_refuse_a_restore_before_it_is_used_up() {
    let Some(other) = disk("tmpfs", &std::env::temp_dir(), 64 << 20) else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let mut work = Work::new(place.path());
    work.data.path = other.dir.join("data");
    fs::create_dir(&work.data.path).unwrap();
    work.write("file", b"x");
    let (generation, _) = sealed(&work);
    let paths = work.paths(generation);
    let why = restore(&paths, &work.data).unwrap_err().to_string();
    assert!(why.contains("could not be exchanged"), "{why}");
    assert_eq!(seal_state(&paths), SealState::Sealed);
}
