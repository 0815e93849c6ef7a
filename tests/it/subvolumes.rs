//! Data that are a btrfs subvolume: upgrades, the way back, and what is refused.

use crate::backups::text;
use crate::disks::{Disk, run, subvolumes};
use crate::env::{Env, Set};
use crate::work::{Work, new_id};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

const POLICY: &str = "[backup.own]\nreserve = \"1MiB\"\n";
const CREATE: [&str; 4] = ["backup", "create", "--policy", "own"];

fn node(disk: &Disk) -> Env {
    let env = Env::on(&disk.dir);
    disk.make_data(&env.data());
    env.write_set(&Set {
        upgrades: vec![],
        more: POLICY.into(),
        ..Set::default()
    });
    env.visor(&["reconcile"]).expect(0);
    env.eventually("blocks", || env.height().is_some_and(|h| h > 20));
    env
}

fn upgrade(env: &Env, name: &'static str, fault: &'static str) {
    env.write_set(&Set {
        upgrades: vec![(name, "{ height = 5 }", fault, "backup = \"own\"".into())],
        more: POLICY.into(),
        ..Set::default()
    });
}

#[test]
fn a_subvolume_is_snapshot_and_put_back() {
    let Some(disk) = subvolumes() else { return };
    let env = node(&disk);
    upgrade(&env, "v2", "");
    let shown = text(&env.visor(&["plan", "diff"]).stdout);
    assert!(
        shown.contains("snapshot: a snapshot of the data's subvolume"),
        "{shown}"
    );
    env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    env.sealed_is_whole();
    upgrade(&env, "v3", "--fault exit");
    env.visor(&["reconcile"]).expect(5);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(
        fs::metadata(env.data()).unwrap().ino(),
        256,
        "a subvolume again"
    );
    let at = env.height().unwrap();
    env.eventually("it goes on", || env.height().is_some_and(|h| h > at));
    let _ = env.stop_and_check();
    // By hand, there and back.
    let made = env.visor(&CREATE).expect(0).stdout;
    let generation = made.lines().next().unwrap();
    env.visor(&["start"]).expect(0);
    env.eventually("it goes on", || env.height().is_some_and(|h| h > at + 20));
    let later = env.stop_and_check();
    env.visor(&["backup", "restore", generation]).expect(0);
    let now = visor::devnode::check_data(&env.data()).unwrap();
    assert!(now.height < later.height && now.mistakes.is_empty());
    assert_eq!(
        now.signer, later.signer,
        "the signer's mark is never lowered"
    );
    // An archive becomes a subvolume too.
    let packed = disk.dir.join("packed.tar.zst");
    env.visor(&CREATE).expect(0);
    env.visor(&["backup", "export", "latest", packed.to_str().unwrap()])
        .expect(0);
    let imported = env
        .visor(&["backup", "import", packed.to_str().unwrap()])
        .expect(0)
        .stdout;
    let imported = imported.lines().next().unwrap();
    env.visor(&["backup", "restore", imported]).expect(0);
    assert_eq!(
        visor::devnode::check_data(&env.data()).unwrap().height,
        now.height
    );
    assert_eq!(
        fs::metadata(env.data()).unwrap().ino(),
        256,
        "a subvolume again"
    );
    env.visor(&["start"]).expect(0);
    env.eventually("it goes on", || {
        env.height().is_some_and(|h| h > now.height)
    });
    let _ = env.stop_and_check();
}

#[test]
fn a_subvolume_without_the_program_blocks_the_upgrade() {
    let Some(disk) = subvolumes() else { return };
    let env = node(&disk);
    upgrade(&env, "v2", "");
    let before = env.nodes();
    let mut command = env.command(&["reconcile"]);
    let out = command.env("PATH", "/nowhere").output().unwrap();
    let said =
        text(&String::from_utf8_lossy(&out.stderr)) + &text(&String::from_utf8_lossy(&out.stdout));
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(
        said.contains("is a btrfs subvolume") && said.contains("btrfs-progs"),
        "{said}"
    );
    assert_eq!((env.nodes(), env.current()), (before, "genesis".to_owned()));
    let _ = env.stop_and_check();
}

#[test]
fn a_subvolume_inside_the_data_is_refused_and_named() {
    let Some(disk) = subvolumes() else { return };
    disk.make_data(&disk.dir.join("data"));
    let work = Work::new(&disk.dir);
    work.write("file", b"x");
    let inside = work.at("inside");
    assert!(run(
        "btrfs",
        &["subvolume", "create", inside.to_str().unwrap()]
    ));
    work.write("inside/file", b"x");
    let why = work.refusal();
    assert!(why.contains("inside is a subvolume of its own"), "{why}");
    // Kept or excluded it is nobody's matter.
    let mut work = work;
    work.data.exclude.push("inside".into());
    let generation = new_id();
    let _ = work.seal(work.begin(generation, None));
    assert!(!work.sealed(generation).join("inside").exists());
}
