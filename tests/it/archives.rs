//! Archives that are encrypted, those that other programs write, and packing that is interrupted.

use crate::backups::{due, id, stopped, text};
use crate::disks::run;
use crate::env::{Env, Running, kill};
use crate::work::{Work, plain_tar};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Duration;

/// A key pair of age in a file, and its public key; none where there is no age.
fn key_pair(env: &Env) -> Option<(String, String)> {
    let file = env.path("key").display().to_string();
    if !run("age-keygen", &["-o", &file]) {
        println!("skipped: there is no age here");
        return None;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines = text.lines();
    let public = lines
        .find_map(|l| l.strip_prefix("# public key: "))
        .unwrap();
    Some((file, public.to_owned()))
}

#[test]
fn an_archive_is_encrypted_and_taken_back_with_the_secret_key_alone() {
    let env = stopped();
    let Some((secret, public)) = key_pair(&env) else {
        return;
    };
    env.visor(&["backup", "create"]).expect(0);
    let before = visor::devnode::check_data(&env.data()).unwrap();
    let file = env.path("copy.tar.zst.age").display().to_string();
    let nobody = env.visor(&["backup", "export", "latest", &file]).expect(64);
    assert!(
        nobody.stderr.contains("nobody is named"),
        "{}",
        nobody.stderr
    );
    let plain = env.path("copy.tar").display().to_string();
    let to = ["--recipient", public.as_str()];
    let args = ["backup", "export", "latest", &plain];
    let out = env.visor(&[&args[..], &to].concat()).expect(64);
    assert!(out.stderr.contains("end with .age"), "{}", out.stderr);
    let args = ["backup", "export", "latest", &file];
    let out = env
        .visor(&[&args[..], &["--recipient", "age1nobodynobody"]].concat())
        .expect(70);
    assert!(
        out.stderr.contains("age1nobodynobody"),
        "age says why: {}",
        out.stderr
    );
    assert!(!env.path("copy.tar.zst.age").exists());
    env.visor(&[&args[..], &to].concat()).expect(0);
    let line = format!("age --decrypt -i {secret} {file} | tar --zstd -tf - | grep -q chain.log");
    assert!(run("sh", &["-c", &line]), "any tar reads what age gives it");
    let out = env.visor(&["backup", "import", &file]).expect(64);
    assert!(out.stderr.contains("--identity"), "{}", out.stderr);
    let wrong = env.path("wrong").display().to_string();
    assert!(run("age-keygen", &["-o", &wrong]));
    let count = || env.count(std::path::Path::new("backups/gen"));
    let had = count();
    let import = |key: &str| env.visor(&["backup", "import", &file, "--identity", key]);
    let out = import(&wrong).expect(70);
    assert!(out.stderr.contains("no identity matched"), "{}", out.stderr);
    assert_eq!(count(), had, "nothing is left");
    let taken = id(&import(&secret).expect(0).stdout);
    let tree = env.root().join("backups/gen").join(taken).join("tree");
    let packed = visor::devnode::check_data(&tree).unwrap();
    assert_eq!((packed.height, packed.mistakes.len()), (before.height, 0));
    // Cut short by so much as its last byte, it is not what was encrypted.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let out = import(&secret).expect(70);
    assert!(out.stderr.contains("`age`"), "{}", out.stderr);
    assert_eq!(count(), had + 1);
}

#[test]
fn archives_of_a_policy_are_encrypted_and_without_age_the_upgrade_is_blocked() {
    let env = Env::new();
    let Some((_, public)) = key_pair(&env) else {
        return;
    };
    let env = due(&format!(
        "archive = {{ recipients = [\"{public}\"] }}\nrate = \"unlimited\""
    ));
    let mut without = env.command(&["plan", "diff"]);
    let out = Env::output(without.env("PATH", "/nowhere")).expect(3);
    let said = text(&out.stdout);
    assert!(said.contains("the program `age` is not there"), "{said}");
    let shown = env.visor(&["plan", "show"]).stdout;
    assert!(shown.contains("tar.zst.age to backups/archive"), "{shown}");
    env.visor(&["reconcile"]).expect(0);
    let dir = env.root().join("backups/archive/demo");
    let made = std::fs::read_dir(dir)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert!(
        made.to_string_lossy().ends_with(".tar.zst.age"),
        "{}",
        made.display()
    );
    assert!(
        std::fs::read(&made)
            .unwrap()
            .starts_with(b"age-encryption.org/v1")
    );
    let _ = env.stop_and_check();
}

/// Whoever packs hears of it in words of the interruption, whatever was made of it on its way through tar, gzip and age.
#[test]
fn packing_that_is_interrupted_says_so_and_leaves_nothing() {
    let env = due("");
    let _ = env.visor(&["backup", "create"]).expect(0);
    let key = key_pair(&env);
    let mut names = vec![("copy.tar.gz", vec![])];
    if let Some((_, public)) = &key {
        names.push(("copy.tar.gz.age", vec!["--recipient", public.as_str()]));
    }
    for (name, more) in names {
        let file = env.path(name).display().to_string();
        let args = ["backup", "export", "latest", &file, "--level", "9"];
        let mut run: Running = env.spawn(&[&args[..], &more].concat(), "export.log");
        let part = env.path(&format!(".{name}.part"));
        env.eventually("it packs", || part.exists());
        std::thread::sleep(Duration::from_millis(100));
        assert!(run.is_alive(), "{name}: it is not done yet");
        kill(run.pid(), "INT");
        let code = run.0.wait().unwrap().code();
        let said = std::fs::read_to_string(env.path("export.log")).unwrap();
        assert_eq!(code, Some(7), "{name}: {said}");
        assert!(!part.exists() && !env.path(name).exists(), "{name} is left");
    }
    let _ = env.stop_and_check();
}

/// Names beyond what a header holds, a link with such a target, a file with holes, in the forms of GNU and of POSIX.
#[test]
fn what_tar_packs_in_each_of_its_forms_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let work = Work::new(dir.path());
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(140));
    work.write(&long, b"far below");
    std::os::unix::fs::symlink(&long, work.at("link")).unwrap();
    let holes = fs::File::create(work.at("holes")).unwrap();
    holes.set_len(64 << 20).unwrap();
    for n in 0..100 {
        holes.write_all_at(b"not nothing", n * 400_000).unwrap();
    }
    // GNU's form knows whole seconds.
    let touch = "find \"$1\" -exec touch -h -d @1700000000 {} +";
    let at = work.data.path.to_str().unwrap();
    assert!(run("sh", &["-c", touch, "sh", at]));
    for form in [
        &["--format=gnu", "--sparse"][..],
        &["--format=gnu"],
        &["--format=pax"],
    ] {
        let file = dir.path().join("copy.tar");
        let args = ["-cf", file.to_str().unwrap(), "-C", at, "."];
        assert!(run("tar", &[form, &args].concat()));
        let taken = work.sealed(work.import(&file).unwrap());
        crate::work::assert_same(&taken, &work.data.path, &form.join(" "));
        let made = fs::metadata(taken.join("holes")).unwrap();
        assert!(
            made.blocks() * 512 < 32 << 20,
            "{form:?}: {}",
            made.blocks()
        );
    }
    let file = dir.path().join("copy.tar");
    let args = [
        "--format=pax",
        "--sparse",
        "-cf",
        file.to_str().unwrap(),
        "-C",
    ];
    assert!(run("tar", &[&args[..], &[at, "."]].concat()));
    let why = work.import(&file).unwrap_err().to_string();
    assert!(why.contains("pack it with --format=gnu"), "{why}");
}

/// As it is written for a file of more than 8 GiB: its size is in an extension, and its header says nothing of it.
#[test]
fn a_size_in_an_extension_is_that_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let work = Work::new(dir.path());
    let file = dir.path().join("copy.tar");
    let mut tar = tar::Builder::new(fs::File::create(&file).unwrap());
    let head = |path: &str, size| {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        header
    };
    let big = [7; 5000];
    tar.append_pax_extensions([("size", &b"5000"[..])]).unwrap();
    tar.get_mut().write_all(head("big", 0).as_bytes()).unwrap();
    tar.get_mut().write_all(&big).unwrap();
    tar.get_mut().write_all(&[0; 5120 - 5000]).unwrap();
    tar.append(&head("behind", 1), &b"x"[..]).unwrap();
    tar.finish().unwrap();
    let taken = work.sealed(work.import(&file).unwrap());
    assert_eq!(fs::read(taken.join("big")).unwrap(), big);
    assert_eq!(fs::read(taken.join("behind")).unwrap(), b"x");
}

/// Its records are told apart by their lengths, so that what the node's user writes into an attribute stays one.
#[test]
fn an_attribute_may_hold_what_looks_like_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let work = Work::new(dir.path());
    work.write("file", b"x");
    let value = b"a\n13 path=evil\nb=\0";
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(work.at("file"), "user.odd", value, flags).is_err() {
        println!("skipped: no attributes here");
        return;
    }
    let generation = crate::restores::sealed(&work).0;
    let file = dir.path().join("copy.tar");
    let how = plain_tar();
    visor::backup::export(&work.paths(generation), &file, &how, &|_| Ok(())).unwrap();
    let taken = work.sealed(work.import(&file).unwrap());
    let mut found = [0; 64];
    let n = rustix::fs::getxattr(taken.join("file"), "user.odd", &mut found).unwrap();
    assert_eq!(&found[..n], value);
}
