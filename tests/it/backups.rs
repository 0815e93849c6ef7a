//! Backup policies as an operator meets them: what the plan says of a copy, and what happens when it is late.

use crate::env::{Env, Set};
use std::io::Read as _;

/// A node with some megabytes of data and an upgrade that is due, with a policy of its own.
pub(crate) fn due(policy: &str) -> Env {
    due_at("{ height = 5 }", policy)
}

fn due_at(trigger: &'static str, policy: &str) -> Env {
    let set = |upgrades, more: String| Set {
        upgrades,
        args_extra: vec!["--fill".into(), "20000000".into()],
        more,
        ..Set::default()
    };
    let env = Env::with(&set(vec![], String::new()));
    env.visor(&["reconcile"]).expect(0);
    env.eventually("the node answers", || env.height().is_some_and(|h| h >= 5));
    let upgrade = ("v2", trigger, "", "backup = \"own\"".to_owned());
    env.write_set(&set(vec![upgrade], format!("[backup.own]\n{policy}\n")));
    env
}

pub(crate) fn text(out: &str) -> String {
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_copy_that_is_late_is_finished_while_the_node_is_down_if_that_is_wanted() {
    let env = due("rate = \"1MiB\"\nlate = \"stop-anyway\"");
    let shown = text(&env.visor(&["plan", "diff"]).stdout);
    assert!(
        shown.contains("the rest is copied while the node is down")
            && shown.contains("are copied; 1.0 GiB"),
        "{shown}"
    );
    let out = env.visor(&["reconcile"]).expect(0);
    assert!(
        text(&out.stderr).contains("the rest is copied while the node is down"),
        "{}",
        out.stderr
    );
    assert_eq!(env.current(), "upgrades/v2");
    env.sealed_is_whole();
    let _ = env.stop_and_check();
}

#[test]
fn an_upgrade_whose_copy_is_late_is_given_up_if_that_is_wanted() {
    let env = due("rate = \"1MiB\"\nlate = \"skip-upgrade\"");
    let before = env.nodes();
    let out = env.visor(&["reconcile"]).expect(0);
    assert!(
        out.stderr.contains("`late = \"skip-upgrade\"`"),
        "{}",
        out.stderr
    );
    assert_eq!((env.nodes(), env.current()), (before, "genesis".to_owned()));
    let status = text(&env.visor(&["status"]).stdout);
    assert!(
        status.contains("upgrade-failed") && status.contains("skip-upgrade"),
        "{status}"
    );
    let _ = env.stop_and_check();
}

/// While the height is still away: time to raise `rate`, or to make room.
#[test]
fn a_copy_that_will_be_late_is_told_of_before_the_height() {
    let env = due_at(
        "{ height = 400 }",
        "rate = \"1MiB\"\nlate = \"skip-upgrade\"",
    );
    let run = env.spawn(&["run"], "run.log");
    let status = || text(&env.visor(&["status"]).stdout);
    env.eventually("it is told", || {
        status().contains("the copy will be late, and then the upgrade will be given up")
    });
    let said = status();
    assert!(said.contains("the height is due in about"), "{said}");
    assert!(env.height().is_some_and(|h| h < 400), "before the height");
    drop(run);
    let _ = env.stop_and_check();
}

#[test]
fn an_upgrade_waits_for_its_copy_by_default() {
    let env = due("rate = \"15MiB\"");
    let out = env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2", "{}", out.stderr);
    assert!(
        out.stderr.contains("1 rounds") || out.stderr.contains("2 rounds"),
        "{}",
        out.stderr
    );
    env.sealed_is_whole();
    let _ = env.stop_and_check();
}

/// Packed once the node runs again, by a policy; what goes wrong with it rolls nothing back.
#[test]
fn an_archive_is_made_after_the_upgrade_and_its_failure_undoes_nothing() {
    let env = due("archive = { format = \"tar.gz\", level = 1 }\nrate = \"unlimited\"");
    let out = env.visor(&["reconcile"]).expect(0);
    let dir = env.root().join("backups/archive/demo");
    let all: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(all.len(), 1, "{}", out.stderr);
    let name = all[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(
        name.starts_with("pre-upgrade-v2-01") && name.ends_with(".tar.gz"),
        "{name}"
    );
    let sealed = env.sealed_is_whole();
    let _ = env.stop_and_check();
    let imported = env
        .visor(&["backup", "import", all[0].to_str().unwrap()])
        .expect(0);
    let tree = env
        .root()
        .join("backups/gen")
        .join(id(&imported.stdout))
        .join("tree");
    let packed = visor::devnode::check_data(&tree).unwrap();
    assert_eq!((packed.height, packed.mistakes.len()), (sealed.height, 0));
    // To a place that is none.
    let env = due("archive = { format = \"tar.zst\" }\nto = \"/dev/null/archives\"");
    let out = env.visor(&["reconcile"]).expect(0);
    assert!(
        out.stderr.contains("✗ after/archive: failed to"),
        "{}",
        out.stderr
    );
    assert_eq!(env.current(), "upgrades/v2");
    let history = env.visor(&["history", "show", "last"]).expect(0).stdout;
    assert!(
        history.contains("committed") && history.contains("archive"),
        "{history}"
    );
    let _ = env.stop_and_check();
    env.write_set(&Set {
        upgrades: vec![],
        more: "[backup.own]\nto = \"/mnt\"\n[backup.other]\narchive = {}\nto = \"mnt\"\n".into(),
        ..Set::default()
    });
    let out = env.visor(&["plan", "check"]).expect(1);
    let said = text(&(out.stdout + &out.stderr));
    assert!(
        said.contains("there is no `archive`") && said.contains("not an absolute path"),
        "{said}"
    );
}

#[test]
fn a_method_that_cannot_be_had_blocks_the_upgrade() {
    // The file systems that tests run on have no reflinks; where they have, there is nothing to see.
    let env = due("method = \"reflink\"");
    let out = env.visor(&["plan", "diff"]);
    let shown = text(&(out.stdout + &out.stderr));
    if !shown.contains("which cannot be had") {
        println!("skipped: files can be cloned here");
        return;
    }
    assert!(
        shown.contains("its backup asks for reflink") && shown.contains("Say `method = \"auto\"`"),
        "{shown}"
    );
    let before = env.nodes();
    let _ = env.visor(&["reconcile"]).expect(3);
    assert_eq!((env.nodes(), env.current()), (before, "genesis".to_owned()));
    let _ = env.stop_and_check();
}

/// A node that ran, with a file of a user's own, and is stopped.
pub(crate) fn stopped() -> Env {
    let env = Env::with(&Set {
        upgrades: vec![],
        ..Set::default()
    });
    env.visor(&["reconcile"]).expect(0);
    env.eventually("blocks", || env.height().is_some_and(|h| h >= 40));
    let _ = env.stop_and_check();
    env
}

pub(crate) fn id(out: &str) -> String {
    out.lines().next().unwrap().to_owned()
}

#[test]
fn a_copy_is_made_listed_shown_proved_and_put_back() {
    let env = stopped();
    let before = visor::devnode::check_data(&env.data()).unwrap();
    let made = env
        .visor(&["backup", "create", "--label", "before the storm"])
        .expect(0);
    let generation = id(&made.stdout);
    assert!(made.stderr.contains("all of them read"), "{}", made.stderr);
    let list = env.visor(&["backup", "list"]).expect(0).stdout;
    assert!(
        list.contains(&generation)
            && list.contains("verified")
            && list.contains("before the storm"),
        "{list}"
    );
    let shown = env.visor(&["backup", "show", "latest"]).expect(0).stdout;
    assert!(
        shown.contains("release    genesis") && shown.contains(" files, "),
        "{shown}"
    );
    let json = env
        .visor(&["backup", "list", "--format", "json"])
        .expect(0)
        .stdout;
    assert!(json.contains("\"state\": \"verified\""), "{json}");
    let json = env
        .visor(&["backup", "show", "latest", "--format", "json"])
        .expect(0)
        .stdout;
    assert!(json.contains("\"proved\""), "{json}");
    let verified = env
        .visor(&["backup", "verify", &generation])
        .expect(0)
        .stdout;
    assert!(verified.contains(" 0 bad"), "{verified}");
    // The node goes on; a restore is refused while it runs, and takes it back when it is down.
    env.visor(&["start"]).expect(0);
    env.eventually("more blocks", || {
        env.height().is_some_and(|h| h > before.height + 40)
    });
    let refused = env.visor(&["backup", "restore", &generation]).expect(3);
    assert!(
        refused.stderr.contains("the node runs") && refused.stderr.contains("visor stop"),
        "{}",
        refused.stderr
    );
    let later = env.stop_and_check();
    let restored = env.visor(&["backup", "restore", &generation]).expect(0);
    assert!(restored.stdout.contains("failed/"), "{}", restored.stdout);
    let now = visor::devnode::check_data(&env.data()).unwrap();
    assert_eq!(now.height, before.height);
    assert_eq!(
        now.signer, later.signer,
        "the signer's mark is never lowered"
    );
    let aside = env.root().join("failed").join(&generation).join("tree");
    assert_eq!(
        visor::devnode::check_data(&aside).unwrap().height,
        later.height
    );
    let again = env.visor(&["backup", "restore", &generation]).expect(64);
    assert!(
        again.stderr.contains("has been restored already"),
        "{}",
        again.stderr
    );
    env.visor(&["start"]).expect(0);
    env.eventually("it goes on", || {
        env.height().is_some_and(|h| h > before.height)
    });
    let _ = env.stop_and_check();
    let dry = env.visor(&["backup", "prune", "--dry-run"]).expect(0);
    assert!(dry.stderr.contains("0 would be removed"), "{}", dry.stderr);
}

#[test]
fn a_copy_of_a_running_node_says_so_and_is_put_back_only_when_that_is_wanted() {
    let env = stopped();
    env.visor(&["start"]).expect(0);
    env.eventually("it answers", || env.height().is_some());
    let made = env.visor(&["backup", "create"]).expect(0);
    assert!(made.stderr.contains("the node ran"), "{}", made.stderr);
    let list = env.visor(&["backup", "list"]).expect(0).stdout;
    assert!(
        list.contains("of a running node") && list.contains("manual"),
        "{list}"
    );
    let _ = env.stop_and_check();
    let generation = id(&made.stdout);
    let refused = env.visor(&["backup", "restore", &generation]).expect(64);
    assert!(
        refused.stderr.contains("of a running node"),
        "{}",
        refused.stderr
    );
    env.visor(&["backup", "restore", &generation, "--running"])
        .expect(0);
}

#[test]
fn a_bad_copy_is_an_alarm_and_never_put_back() {
    let env = stopped();
    let generation = id(&env.visor(&["backup", "create"]).expect(0).stdout);
    let log = env
        .root()
        .join("backups/gen")
        .join(&generation)
        .join("tree/chain.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let verified = env.visor(&["backup", "verify", "latest"]).expect(70);
    assert!(
        verified
            .stderr
            .contains("chain.log: its contents have changed"),
        "{}",
        verified.stderr
    );
    let status = text(&env.visor(&["status"]).stdout);
    assert!(
        status.contains("backup-bad") && status.contains(&generation),
        "{status}"
    );
    let before = visor::devnode::check_data(&env.data()).unwrap();
    let refused = env.visor(&["backup", "restore", &generation]).expect(64);
    assert!(refused.stderr.contains("is bad"), "{}", refused.stderr);
    assert_eq!(visor::devnode::check_data(&env.data()).unwrap(), before);
    env.visor(&["backup", "pin", &generation]).expect(64);
    env.visor(&["backup", "remove", &generation]).expect(0);
    let status = env.visor(&["status"]).stdout;
    assert!(!status.contains("backup-bad"), "{status}");
}

#[test]
fn an_archive_is_read_by_tar_written_twice_the_same_and_taken_back() {
    let env = stopped();
    let generation = id(&env.visor(&["backup", "create"]).expect(0).stdout);
    let before = visor::devnode::check_data(&env.data()).unwrap();
    for ending in ["tar.zst", "tar.gz", "tar"] {
        let file = |n: u32| env.path(&format!("copy{n}.{ending}"));
        for n in [1, 2] {
            let file = file(n);
            env.visor(&["backup", "export", &generation, file.to_str().unwrap()])
                .expect(0);
        }
        let bytes = std::fs::read(file(1)).unwrap();
        assert!(
            bytes == std::fs::read(file(2)).unwrap(),
            "{ending}: twice the same"
        );
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(file(1)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        let refused = env
            .visor(&["backup", "export", &generation, file(1).to_str().unwrap()])
            .expect(70);
        assert!(refused.stderr.contains("File exists"), "{}", refused.stderr);
        // Any tar reads it.
        let out = env.path(&format!("out.{ending}"));
        std::fs::create_dir(&out).unwrap();
        let mut tar = std::process::Command::new("tar");
        tar.arg("-x").arg("-C").arg(&out);
        match ending {
            "tar.zst" => tar.arg("--zstd"),
            "tar.gz" => tar.arg("-z"),
            _ => &mut tar,
        };
        if tar.arg("-f").arg(file(1)).status().unwrap().success() {
            assert_eq!(
                visor::devnode::check_data(&out).unwrap().mistakes,
                Vec::<String>::new()
            );
        } else {
            println!("skipped: tar here has no {ending}");
        }
        let file = file(1);
        let imported = env
            .visor(&["backup", "import", file.to_str().unwrap()])
            .expect(0);
        let imported = id(&imported.stdout);
        env.visor(&["backup", "restore", &imported]).expect(0);
        let now = visor::devnode::check_data(&env.data()).unwrap();
        assert_eq!(
            (now.height, now.mistakes.len()),
            (before.height, 0),
            "{ending}"
        );
        assert_eq!(now.signer, before.signer);
    }
}

/// wemixvisor's form: the data directory itself, with keys and locks in it.
#[test]
fn an_archive_of_another_tool_is_taken_without_its_keys() {
    let env = stopped();
    let before = visor::devnode::check_data(&env.data()).unwrap();
    let home = env.path("home");
    std::fs::create_dir_all(home.join("backups")).unwrap();
    let theirs = home.join("backups/manual-20260101-000000.tar.gz");
    let mut tar = std::process::Command::new("tar");
    tar.arg("-czf")
        .arg(&theirs)
        .arg("-C")
        .arg(&home)
        .arg("data");
    assert!(tar.status().unwrap().success());
    let list = env.visor(&["backup", "list"]).expect(0).stdout;
    assert!(
        list.contains("of another tool: ") && list.contains("manual-20260101"),
        "{list}"
    );
    std::fs::write(env.data().join("signer.json"), "{\"height\":100000}").unwrap();
    let imported = env
        .visor(&["backup", "import", theirs.to_str().unwrap()])
        .expect(0);
    let imported = id(&imported.stdout);
    let tree = env.root().join("backups/gen").join(&imported).join("tree");
    assert!(!tree.join("signer.json").exists() && !tree.join("LOCK").exists());
    env.visor(&["backup", "restore", &imported]).expect(0);
    let now = visor::devnode::check_data(&env.data()).unwrap();
    assert_eq!((now.height, now.signer), (before.height, Some(100_000)));
    assert!(theirs.is_file(), "what is theirs is left");
}

/// A file that is a hole of an exabyte.
fn sparse(tar: &mut tar::Builder<std::fs::File>, path: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    let exabyte = b"\x80\0\0\0\x10\0\0\0\0\0\0\0";
    gnu.realsize = *exabyte;
    gnu.sparse[0].offset = *exabyte;
    gnu.sparse[0].numbytes = *b"00000000000\0";
    header.set_cksum();
    tar.append(&header, std::io::empty()).unwrap();
}

/// One that says that it is larger than any.
fn extension(tar: &mut tar::Builder<std::fs::File>, mut header: tar::Header) {
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_path("x").unwrap();
    header.set_size(1 << 30);
    header.set_cksum();
    tar.append(&header, std::io::repeat(0).take(1 << 21))
        .unwrap();
}

/// Archives that want out, or that would never end.
#[test]
fn an_archive_that_is_hostile_is_refused_and_leaves_nothing() {
    let env = stopped();
    let evil = |name: &str, build: &dyn Fn(&mut tar::Builder<std::fs::File>)| {
        let path = env.path(name);
        let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
        build(&mut tar);
        tar.finish().unwrap();
        path
    };
    let entry = |tar: &mut tar::Builder<std::fs::File>, path: &str, kind, link: &str| {
        let mut header = tar::Header::new_old();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(if kind == tar::EntryType::Regular {
            1
        } else {
            0
        });
        let bytes = header.as_mut_bytes();
        bytes[..path.len()].copy_from_slice(path.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        let contents: &[u8] = if kind == tar::EntryType::Regular {
            b"x"
        } else {
            b""
        };
        tar.append(&header, contents).unwrap();
    };
    use tar::EntryType::{Link, Regular, Symlink};
    let outside = env.path("outside").display().to_string();
    for (name, why, build) in [
        (
            "up.tar",
            "a path that leads out",
            &(|t: &mut _| entry(t, "../evil", Regular, "")) as &dyn Fn(&mut _),
        ),
        ("root.tar", "a path that leads out", &|t: &mut _| {
            entry(t, "/tmp/evil", Regular, "")
        }),
        ("through.tar", "below what is no directory", &|t: &mut _| {
            entry(t, "a", Symlink, "b");
            entry(t, "a/evil", Regular, "");
        }),
        ("hard.tar", "a path that leads out", &|t: &mut _| {
            entry(t, "a", Link, "/etc/passwd")
        }),
        ("hard2.tar", "no file of the archive", &|t: &mut _| {
            entry(t, "d/x", Regular, "");
            entry(t, "s", Symlink, "d");
            entry(t, "a", Link, "s/x");
        }),
        ("out.tar", "a link that leads out of it", &|t: &mut _| {
            entry(t, "d/s", Symlink, "../../x");
        }),
        ("away.tar", "a link that leads out of it", &|t: &mut _| {
            entry(t, "s", Symlink, &outside);
        }),
        (
            "holes.tar",
            "more than its disk could hold",
            &|t: &mut _| {
                sparse(t, "x");
            },
        ),
        ("top.tar", "in the place of the data", &|t: &mut _| {
            sparse(t, "./");
        }),
        ("old.tar", "an extension of", &|t: &mut _| {
            extension(t, tar::Header::new_old());
        }),
        ("bomb.tar", "an extension of", &|t: &mut _| {
            extension(t, tar::Header::new_ustar());
        }),
        ("twice.tar", "in the archive twice", &|t: &mut _| {
            entry(t, "a", Symlink, "b");
            entry(t, "a", Regular, "");
        }),
        ("empty.tar", "it is empty", &|_: &mut _| {}),
    ] {
        let path = evil(name, build);
        let out = env
            .visor(&["backup", "import", path.to_str().unwrap()])
            .expect(70);
        assert!(out.stderr.contains(why), "{name}: {}", out.stderr);
        assert_eq!(env.count(std::path::Path::new("backups/gen")), 0, "{name}");
        assert!(!env.path("outside").exists(), "{name}");
    }
    let other = env.path("copy.zip");
    std::fs::write(&other, "x").unwrap();
    let out = env
        .visor(&["backup", "import", other.to_str().unwrap()])
        .expect(70);
    assert!(
        out.stderr.contains("its name ends with none of"),
        "{}",
        out.stderr
    );
}
