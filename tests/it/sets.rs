//! Sets as they lie on a disk: what cannot be read, what never ends, what is too much.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

fn visor(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_visor"))
        .args(args)
        .arg(dir)
        .output()
        .unwrap()
}

fn check(dir: &Path) -> (Option<i32>, String) {
    let out = visor(&["plan", "check"], dir);
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr),
    )
}

#[test]
fn files_that_cannot_be_read_are_findings_and_hide_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(
        at("good.toml"),
        "visor = 1\n[hook.h]\nrn = [\"/bin/true\"]\n",
    )
    .unwrap();
    fs::write(at("latin.toml"), b"visor = 1\n# \xe4\n").unwrap();
    fs::write(at("large.toml"), vec![b'#'; 5 << 20]).unwrap();
    symlink("nowhere", at("dangling.toml")).unwrap();
    symlink("circle.toml", at("circle.toml")).unwrap();
    fs::create_dir(at("directory.toml")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(at("fifo.toml"))
            .status()
            .unwrap()
            .success()
    );
    let odd = OsStr::from_bytes(b"caf\xe9.toml");
    fs::write(dir.path().join(odd), "visor = 1\n").unwrap();
    let (code, text) = check(dir.path());
    assert_eq!(code, Some(1), "{text}");
    for says in [
        "toml cannot be read: its name is not UTF-8",
        "latin.toml cannot be read: byte 13 is not UTF-8",
        "large.toml cannot be read",
        "dangling.toml cannot be read",
        "circle.toml cannot be read",
        "fifo.toml cannot be read: it is not a file",
        "there is no key `rn` here",
        "7 errors, 0 warnings in 7 files",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn no_manifest_is_left_out_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let good = "visor = 1\n";
    fs::write(dir.path().join("good.toml"), good).unwrap();
    fs::write(elsewhere.path().join("a.toml"), good).unwrap();
    fs::create_dir(elsewhere.path().join("empty")).unwrap();
    symlink(elsewhere.path(), dir.path().join("linked")).unwrap();
    symlink(elsewhere.path().join("empty"), dir.path().join("harmless")).unwrap();
    let deep = dir.path().join("d/".repeat(17));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("deep.toml"), good).unwrap();
    let (code, text) = check(dir.path());
    assert_eq!(code, Some(1), "{text}");
    for says in [
        "linked cannot be read: it is a link to a directory",
        "d/d cannot be read: it lies more",
        "2 errors, 0 warnings",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn a_set_of_nothing_is_an_error_and_a_place_that_is_not_there_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = check(dir.path());
    assert_eq!(code, Some(1));
    assert!(
        text.contains("V0004") && text.contains("there is no *.toml file here"),
        "{text}"
    );
    assert_eq!(check(&dir.path().join("gone")).0, Some(64));
}

#[test]
fn many_files_take_no_more_than_their_time() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..5_000 {
        let text = format!(
            "visor = 1\n[hook.h{i}]\nrun = [\"/bin/true\"]\n[upgrade.u{i}]\ntrigger = {{ manual = true }}\nartifact = \"gone-{i}\"\nhooks = {{ prepare = [\"h{}\"] }}\n",
            (i + 1) % 5_000
        );
        fs::write(dir.path().join(format!("{i}.toml")), text).unwrap();
    }
    let (code, text) = check(dir.path());
    assert_eq!(code, Some(1));
    assert!(
        text.contains("4900 more are not shown")
            && text.contains("5000 errors, 0 warnings in 5000 files"),
        "{}",
        &text[text.len() - 200..]
    );
}
