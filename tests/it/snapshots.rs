//! Data that are snapshot as a whole, a btrfs subvolume or a ZFS dataset: upgrades, the way back, and what is refused.

use crate::backups::text;
use crate::disks::{Disk, datasets, run, subvolumes};
use crate::env::{Env, Set};
use crate::work::{Work, new_id, plain_tar};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use visor::backup::{Whole, export, hold_part, remove, restore, snapshot_refusal};
use visor::durable::replace_link;
use visor::store::Layout;

const POLICY: &str = "[backup.own]\nreserve = \"1MiB\"\n";
const CREATE: [&str; 4] = ["backup", "create", "--policy", "own"];

fn node(disk: &Disk) -> Env {
    let env = Env::on(&disk.dir);
    disk.make_data(&env.data());
    begin(&env);
    env
}

fn begin(env: &Env) {
    env.write_set(&Set {
        upgrades: vec![],
        more: POLICY.into(),
        ..Set::default()
    });
    env.visor(&["reconcile"]).expect(0);
    env.eventually("blocks", || env.height().is_some_and(|h| h > 20));
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
    snapshot_and_put_back(&disk);
}

#[test]
fn a_dataset_is_snapshot_and_put_back() {
    let Some(disk) = datasets() else { return };
    let env = snapshot_and_put_back(&disk);
    // What the data were before is the origin of what they are now: it goes, and they stay.
    let height = visor::devnode::check_data(&env.data()).unwrap().height;
    let layout = Layout::new(&env.root());
    let aside = fs::read_dir(layout.failed()).unwrap();
    let aside: Vec<PathBuf> = aside.map(|e| e.unwrap().path()).collect();
    assert_eq!(aside.len(), 3, "{aside:?}");
    // Somebody has taken what was set aside back into use.
    let was = fs::read_link(env.data()).unwrap();
    let before = fs::read_link(aside[0].join("tree")).unwrap();
    replace_link(&env.data(), &before).unwrap();
    let why = remove(&layout, &aside[0]).unwrap_err().to_string();
    assert!(why.contains("are the data"), "{why}");
    replace_link(&env.data(), &was).unwrap();
    for dir in aside {
        remove(&layout, &dir).unwrap();
    }
    for generation in generations(&env) {
        env.visor(&["backup", "remove", &generation]).expect(0);
    }
    let left = zfs(&[
        "list",
        "-H",
        "-t",
        "all",
        "-o",
        "name",
        "-r",
        &of(&env.data()),
    ]);
    let now = visor::devnode::check_data(&env.data()).unwrap();
    assert_eq!((now.height, now.mistakes.len()), (height, 0));
    assert_eq!(left.trim(), of(&env.data()), "no snapshot is left");
    let all = zfs(&["list", "-H", "-o", "name", "-r", &of(&disk.dir)]);
    assert_eq!(all.lines().count(), 2, "the pool and the data: {all}");
}

/// The dataset that a path is on.
fn of(path: &Path) -> String {
    zfs(&["list", "-H", "-o", "name", path.to_str().unwrap()])
        .trim()
        .to_owned()
}

fn zfs(args: &[&str]) -> String {
    let out = Command::new("zfs").args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn generations(env: &Env) -> Vec<String> {
    let all = fs::read_dir(env.root().join("backups/gen")).unwrap();
    all.map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_node_is_not_started_where_its_dataset_is_not_mounted() {
    let Some(disk) = datasets() else { return };
    let env = node(&disk);
    let _ = env.stop_and_check();
    // What visor mounts the whole system has to see.
    let units = env.path("units");
    fs::create_dir(&units).unwrap();
    env.visor(&["init", "--systemd", units.to_str().unwrap()])
        .expect(0);
    let unit = fs::read_dir(&units).unwrap().next().unwrap().unwrap();
    let unit = fs::read_to_string(unit.path()).unwrap();
    assert!(unit.contains("CAP_SYS_ADMIN") && !unit.contains("\nProtectSystem="));
    let name = of(&env.data());
    zfs(&["unmount", &name]);
    let out = env.visor(&["start"]);
    assert_ne!(out.code, Some(0));
    assert!(out.stderr.contains("`zfs mount -a`"), "{}", out.stderr);
    zfs(&["mount", &name]);
    env.visor(&["start"]).expect(0);
    let _ = env.stop_and_check();
}

fn snapshot_and_put_back(disk: &Disk) -> Env {
    let env = node(disk);
    let whole = Whole::at(&env.data());
    assert!(whole.is_some());
    upgrade(&env, "v2", "");
    let shown = text(&env.visor(&["plan", "diff"]).stdout);
    assert!(
        shown.contains("snapshot: a snapshot of the data"),
        "{shown}"
    );
    env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    env.sealed_is_whole();
    upgrade(&env, "v3", "--fault exit");
    env.visor(&["reconcile"]).expect(5);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(Whole::at(&env.data()), whole);
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
    // What an archive holds is snapshot again too.
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
    assert_eq!(Whole::at(&env.data()), whole);
    env.visor(&["start"]).expect(0);
    env.eventually("it goes on", || {
        env.height().is_some_and(|h| h > now.height)
    });
    let _ = env.stop_and_check();
    env
}

#[test]
fn a_subvolume_without_the_program_blocks_the_upgrade() {
    let Some(disk) = subvolumes() else { return };
    blocked_without_the_program(&disk, &["is a btrfs subvolume", "btrfs-progs"]);
}

#[test]
fn a_dataset_that_cannot_be_cloned_blocks_the_upgrade() {
    let Some(disk) = datasets() else { return };
    blocked_without_the_program(&disk, &["is a ZFS dataset", "zfsutils-linux"]);
    let dir = disk.dir.join("shown");
    disk.make_data(&dir);
    assert_eq!(snapshot_refusal(&dir), None);
    let name = of(&dir);
    zfs(&["set", "snapdir=visible", &name]);
    let why = snapshot_refusal(&dir).unwrap();
    assert!(
        why.contains(&format!("zfs set snapdir=hidden {name}")),
        "{why}"
    );
    zfs(&["set", "snapdir=hidden", &name]);
    for text in [Path::new("of-shown").to_owned(), dir.clone()] {
        let other = disk.dir.join("other");
        replace_link(&other, &text).unwrap();
        let why = snapshot_refusal(&other).unwrap();
        assert!(why.contains("by way of others (`ln -sfn /"), "{why}");
    }
    // The pool's own top has nothing beside it, and a directory is no dataset.
    let top = disk.dir.join("top");
    symlink(&disk.dir, &top).unwrap();
    let why = snapshot_refusal(&top).unwrap();
    assert!(why.contains("is the top of its pool"), "{why}");
    let below = disk.dir.join("below");
    fs::create_dir(&below).unwrap();
    let why = snapshot_refusal(&below).unwrap();
    assert!(why.contains("no link to a ZFS dataset"), "{why}");
}

#[test]
fn a_clone_is_like_the_data() {
    let Some(disk) = datasets() else { return };
    disk.make_data(&disk.dir.join("data"));
    let work = Work::new(&disk.dir);
    let (name, pool) = (of(&work.data.path), of(&disk.dir));
    zfs(&["set", "snapdir=visible", &pool]);
    zfs(&[
        "set",
        "snapdir=hidden",
        "quota=none",
        "refquota=1G",
        "atime=off",
        &name,
    ]);
    work.write("file", b"x");
    std::os::unix::fs::chown(&work.data.path, Some(4321), Some(4321)).unwrap();
    // Two at once do not meet.
    let [first, second] = [new_id(), new_id()];
    let _held = [first, second].map(|id| hold_part(&work.paths(id)).unwrap());
    let (one, two) = (work.begin(first, None), work.begin(second, None));
    let _ = (work.seal(one), work.seal(two));
    let clone = of(&work.sealed(first));
    assert_eq!(clone, format!("{name}-visor-{first}"));
    let set = zfs(&[
        "get",
        "-Hp",
        "-s",
        "local",
        "-o",
        "property,value",
        "all",
        &clone,
    ]);
    for line in ["refquota\t1073741824", "atime\toff", "snapdir\thidden"] {
        assert!(set.lines().any(|l| l == line), "{line}: {set}");
    }
    restore(&work.paths(first), &work.data).unwrap();
    assert_eq!(of(&work.data.path), clone);
    let top = fs::metadata(&work.data.path).unwrap();
    assert_eq!((top.uid(), top.gid()), (4321, 4321));
    // What is not mounted is no copy, and is removed all the same; what has its mount point meanwhile is another's.
    let layout = &work.layout;
    zfs(&["unmount", &format!("{name}-visor-{second}")]);
    let why = restore(&work.paths(second), &work.data)
        .unwrap_err()
        .to_string();
    assert!(why.contains("is its disk mounted"), "{why}");
    let other = format!("{pool}/a-user-s-own");
    let point = format!(
        "mountpoint={}",
        work.sealed(second).read_link().unwrap().display()
    );
    zfs(&["create", "-o", "canmount=noauto", "-o", &point, &other]);
    remove(layout, &work.paths(second).done).unwrap();
    let left = zfs(&["list", "-H", "-o", "name", "-r", &pool]);
    assert_eq!(
        left.lines().collect::<Vec<_>>(),
        [&*pool, &*other, &*name, &*clone]
    );
    // Nothing is promised of one on which nothing lasts.
    zfs(&["set", "sync=disabled", &clone]);
    let why = work.refusal();
    assert!(
        why.contains(&format!("zfs set sync=standard {clone}")),
        "{why}"
    );
}

#[test]
fn an_archive_of_encrypted_data_is_imported_encrypted() {
    let Some(disk) = datasets() else { return };
    let key = disk.dir.join("key");
    fs::write(&key, [7; 32]).unwrap();
    let name = format!("{}/secret", of(&disk.dir));
    let location = format!("keylocation=file://{}", key.display());
    let how = [
        "-o",
        "encryption=on",
        "-o",
        "keyformat=raw",
        "-o",
        &location,
    ];
    zfs(&[&["create"][..], &how, &[&name]].concat());
    symlink(disk.dir.join("secret"), disk.dir.join("data")).unwrap();
    let work = Work::new(&disk.dir);
    work.write("file", b"x");
    let sealed = new_id();
    let _ = work.seal(work.begin(sealed, None));
    let file = disk.dir.join("packed.tar");
    let how = plain_tar();
    export(&work.paths(sealed), &file, &how, &|_| Ok(())).unwrap();
    let imported = work.import(&file).unwrap();
    let clone = of(&work.sealed(imported));
    assert_eq!(
        zfs(&["get", "-H", "-o", "value", "encryption", &clone]).trim(),
        "aes-256-gcm"
    );
    assert_eq!(fs::read(work.sealed(imported).join("file")).unwrap(), b"x");
}

#[test]
fn a_dataset_in_the_place_of_the_data_blocks_with_the_cure() {
    let Some(disk) = datasets() else { return };
    let env = Env::on(&disk.dir);
    fs::create_dir_all(env.data()).unwrap();
    let name = format!("{}/data", of(&disk.dir));
    let point = format!("mountpoint={}", env.data().display());
    zfs(&["create", "-o", &point, &name]);
    let said = refused(&env, &[]);
    let cure = format!("`zfs set mountpoint=ELSEWHERE {name}`");
    assert!(said.contains(&cure), "{said}");
}

/// What an upgrade is blocked with.
fn refused(env: &Env, path: &[(&str, &str)]) -> String {
    begin(env);
    upgrade(env, "v2", "");
    let before = env.nodes();
    let mut command = env.command(&["reconcile"]);
    let out = command.envs(path.iter().copied()).output().unwrap();
    let said =
        text(&String::from_utf8_lossy(&out.stderr)) + &text(&String::from_utf8_lossy(&out.stdout));
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert_eq!((env.nodes(), env.current()), (before, "genesis".to_owned()));
    let _ = env.stop_and_check();
    said
}

fn blocked_without_the_program(disk: &Disk, says: &[&str]) {
    let env = Env::on(&disk.dir);
    disk.make_data(&env.data());
    let said = refused(&env, &[("PATH", "/nowhere")]);
    assert!(says.iter().all(|s| said.contains(s)), "{said}");
}

#[test]
fn no_snapshot_is_made_where_the_reserve_is_not_free() {
    for disk in [subvolumes(), datasets()].into_iter().flatten() {
        disk.make_data(&disk.dir.join("data"));
        let mut work = Work::new(&disk.dir);
        work.write("file", b"x");
        work.backup.reserve = 1 << 40;
        let why = work.refusal();
        assert!(why.contains("kept free"), "{why}");
        for part in fs::read_dir(work.layout.generations()).unwrap() {
            let tree = part.unwrap().path().join("tree");
            assert_eq!(Whole::at(&tree), None, "{}", disk.name);
        }
    }
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
