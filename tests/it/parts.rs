//! Hooks, downloads and backups of real upgrades: their contracts, seen from outside.

use crate::env::{Env, Set};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use visor::model::sha256_hex;

#[test]
fn a_hook_gets_both_sets_of_variables_and_nothing_else() {
    let env = Env::due("hooks = { pre-upgrade = [\"show\"] }", "");
    let out = env.path("hook.env");
    let script = env.write_script(
        "hooks/show.sh",
        &format!("#!/bin/sh\nenv > {}\n", out.display()),
    );
    env.write_set(&Set {
        upgrades: vec![(
            "v2",
            "{ height = 5 }",
            "",
            "hooks = { pre-upgrade = [\"show\"] }".into(),
        )],
        more: format!(
            "[hook.show]\nrun = [\"{}\"]\nenv = {{ LEVEL = \"${{upgrade.height}}\" }}\n",
            script.display()
        ),
        ..Set::default()
    });
    let _ = Env::output(env.command(&["reconcile"]).env("SECRET_TOKEN", "hush")).expect(0);
    let text = fs::read_to_string(out).unwrap();
    for want in [
        "VISOR_NODE=demo",
        "VISOR_PHASE=pre-upgrade",
        "VISOR_ATTEMPT=1",
        "VISOR_UPGRADE=v2",
        "VISOR_UPGRADE_HEIGHT=5",
        "DAEMON_NAME=demod",
        "UPGRADE_NAME=v2",
        "UPGRADE_HEIGHT=5",
        "LEVEL=5",
        "UPGRADE_INFO={\"height\":5,\"info\":\"\",\"name\":\"v2\"}",
    ] {
        assert!(
            text.lines().any(|l| l == want),
            "{want} is missing:\n{text}"
        );
    }
    for want in [
        "PATH=",
        "VISOR_EXE=",
        "VISOR_IDEMPOTENCY_KEY=",
        "DAEMON_HOME=",
        "VISOR_DATA=",
    ] {
        assert!(
            text.lines().any(|l| l.starts_with(want)),
            "{want} is missing:\n{text}"
        );
    }
    assert!(!text.contains("SECRET_TOKEN"), "{text}");
}

#[test]
fn a_failing_pre_stop_hook_costs_no_outage() {
    let env = Env::due(
        "hooks = { pre-stop = [\"no\"] }",
        "[hook.no]\nrun = [\"/bin/sh\", \"-c\", \"echo the disk is full; exit 9\"]\nretry = { times = 2, delay = \"10ms\" }\n",
    );
    let pid = env.nodes();
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr.contains("exit status 9 (attempt 3)") && out.stderr.contains("the disk is full"),
        "{}",
        out.stderr
    );
    assert_eq!((env.nodes(), env.current().as_str()), (pid, "genesis"));
    assert_eq!(
        env.count(Path::new("backups/gen")),
        0,
        "the unfinished copy is gone"
    );
}

#[test]
fn a_failing_pre_upgrade_hook_rolls_data_back() {
    let env = Env::due("", "");
    let data = env.data();
    let script = env.write_script(
        "hooks/migrate.sh",
        &format!(
            "#!/bin/sh\necho ruined > {}/schema\nrm {}/head.map\nexit 1\n",
            data.display(),
            data.display()
        ),
    );
    env.write_set(&Set {
        upgrades: vec![(
            "v2",
            "{ height = 5 }",
            "",
            "hooks = { pre-upgrade = [\"migrate\"] }".into(),
        )],
        more: format!("[hook.migrate]\nrun = [\"{}\"]\n", script.display()),
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(5);
    assert_eq!(
        (env.current().as_str(), env.stop_and_check().schema.as_str()),
        ("genesis", "v1")
    );
}

#[test]
fn a_hook_that_hangs_is_killed_with_its_children() {
    let env = Env::due("", "");
    let mark = env.path("child-was-here");
    let script = env.write_script(
        "hooks/hang.sh",
        &format!(
            "#!/bin/sh\n(sleep 2; touch {}) &\nsleep 60\n",
            mark.display()
        ),
    );
    env.write_set(&Set {
        upgrades: vec![(
            "v2",
            "{ height = 5 }",
            "",
            "hooks = { pre-stop = [\"hang\"] }".into(),
        )],
        more: format!(
            "[hook.hang]\nrun = [\"{}\"]\ntimeout = \"300ms\"\n",
            script.display()
        ),
        ..Set::default()
    });
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr
            .contains("ran longer than 300ms and was killed with its process group"),
        "{}",
        out.stderr
    );
    let before = env.height().unwrap();
    env.eventually("two seconds of blocks", || {
        env.height().is_some_and(|h| h > before + 120)
    });
    assert!(!mark.exists(), "the hook's child lived on");
}

#[test]
fn a_crash_inside_a_once_hook_needs_a_person() {
    let env = Env::due("", "");
    let count = env.path("count");
    let script = env.write_script(
        "hooks/once.sh",
        &format!("#!/bin/sh\necho x >> {}\n", count.display()),
    );
    env.write_set(&Set {
        upgrades: vec![(
            "v2",
            "{ height = 5 }",
            "",
            "hooks = { pre-upgrade = [\"once\"] }".into(),
        )],
        more: format!(
            "[hook.once]\nrun = [\"{}\"]\nonce = true\n",
            script.display()
        ),
        ..Set::default()
    });
    let killed = Env::output(
        env.command(&["reconcile"])
            .env("VISOR_KILL_AT", "hook:ended#1"),
    );
    assert_eq!(killed.code, None);
    let out = env.visor(&["reconcile"]).expect(6);
    assert!(
        out.stderr.contains("attempt 1 of hook once was cut off"),
        "{}",
        out.stderr
    );
    assert_eq!(env.nodes(), Vec::<i32>::new());
    let _ = env
        .visor(&["resolve", "done", "--reason", "the file has its line"])
        .expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(fs::read_to_string(count).unwrap(), "x\n", "it ran once");
    assert_eq!(env.stop_and_check().schema, "v2");
}

#[test]
fn output_of_hooks_is_bounded() {
    let env = Env::due(
        "hooks = { pre-stop = [\"loud\"] }",
        "[hook.loud]\nrun = [\"/bin/sh\", \"-c\", \"head -c 3000000 /dev/zero | tr '\\\\0' a; echo; echo the end; exit 1\"]\n",
    );
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr.len() < 60_000 && out.stderr.contains("the end"),
        "{} bytes",
        out.stderr.len()
    );
}

/// Answers each request with the next of these: a status and a body.
fn server(answers: Vec<(u16, Vec<u8>)>) -> (String, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut served = 0;
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            let _ = stream.write_all(&body);
            served += 1;
        }
        served
    });
    (address, thread)
}

fn launcher() -> Vec<u8> {
    b"#!/bin/sh\nexec \"$VISOR_EXE\" devnode --release v2 \"$@\"\n".to_vec()
}

fn with_artifact(env: &Env, file: &str) {
    env.write_set(&Set {
        upgrades: vec![],
        ..Set::default()
    });
    env.write(
        "upgrade.toml",
        &format!("visor = 1\n[upgrade.v2]\ntrigger = {{ height = 5 }}\nartifact = \"web\"\n[artifact.web]\n[[artifact.web.file]]\n{file}\n"),
    );
}

#[test]
fn http_artifacts_are_tried_again_and_verified() {
    let good = launcher();
    let (address, thread) = server(vec![
        (503, vec![]),
        (200, good[..10].to_vec()),
        (404, vec![]),
        (200, good.clone()),
    ]);
    let env = Env::due("", "");
    // The first source fails twice over, the second has the file.
    let file = |digest: &str| {
        format!("urls = [\"{address}/one\", \"{address}/two?token=hush\"]\n{digest}")
    };
    let sha256 = sha256_hex(&good);
    with_artifact(&env, &file(&format!("sha256 = \"{}\"", "0".repeat(64))));
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr
            .contains(&format!("has digest sha256:{}", sha256_hex(&good[..10]))),
        "{}",
        out.stderr
    );
    assert!(
        out.stderr.contains("answered 404") && !out.stderr.contains("hush"),
        "{}",
        out.stderr
    );
    with_artifact(&env, &file(&format!("sha256 = \"{sha256}\"")));
    let _ = env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    assert_eq!(thread.join().unwrap(), 4);
}

#[test]
fn sha512_file_urls_and_size_limits() {
    use sha2::Digest as _;
    let env = Env::due("", "");
    let path = env.path("web-v2");
    fs::write(&path, launcher()).unwrap();
    let sha512 = visor::model::hex(&sha2::Sha512::digest(launcher()));
    let file = format!(
        "urls = [\"file://{}\"]\nsha512 = \"{sha512}\"\n",
        path.display()
    );
    with_artifact(&env, &format!("{file}size-limit = \"10B\""));
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(out.stderr.contains("size-limit is 10 B"), "{}", out.stderr);
    // What is no program is refused before anything is stopped.
    let page = env.path("page");
    fs::write(&page, "<html>not found</html>").unwrap();
    with_artifact(
        &env,
        &format!(
            "urls = [\"file://{}\"]\nsha256 = \"{}\"",
            page.display(),
            sha256_hex(b"<html>not found</html>")
        ),
    );
    let pid = env.nodes();
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr.contains("neither an ELF file nor a script"),
        "{}",
        out.stderr
    );
    assert_eq!(env.nodes(), pid);
    with_artifact(&env, &file);
    let _ = env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
}

#[test]
fn retention_keeps_the_newest_of_each_release_until_a_person_removes_it() {
    let env = Env::with(&Set {
        upgrades: vec![],
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(0);
    let names = ["v2", "v3", "v4"];
    for (i, name) in names.into_iter().enumerate() {
        let upgrades = names[..=i].iter().enumerate();
        let height = |i: usize| ["{ height = 5 }", "{ height = 15 }", "{ height = 25 }"][i];
        env.write_set(&Set {
            upgrades: upgrades
                .map(|(i, n)| (*n, height(i), "", "backup = \"two\"".to_owned()))
                .collect(),
            more: "[backup.two]\nkeep = { last = 1 }\n".into(),
            ..Set::default()
        });
        let _ = env.visor(&["reconcile", "--wait"]).expect(0);
        assert_eq!(env.current(), format!("upgrades/{name}"));
        assert_eq!(env.count(Path::new("backups/gen")), i + 1, "one a release");
    }
    let mut schemas: Vec<String> = fs::read_dir(env.root().join("backups/gen"))
        .unwrap()
        .map(|e| {
            visor::devnode::check_data(&e.unwrap().path().join("tree"))
                .unwrap()
                .schema
        })
        .collect();
    schemas.sort();
    assert_eq!(schemas, ["v1", "v2", "v3"], "each of its own stop");
    let list = env.visor(&["backup", "list"]).expect(0).stdout;
    let oldest = list.lines().nth(1).unwrap().split(' ').next().unwrap();
    env.visor(&["backup", "pin", oldest]).expect(0);
    let refused = env.visor(&["backup", "remove", oldest]).expect(64);
    assert!(refused.stderr.contains("is pinned"), "{}", refused.stderr);
    env.visor(&["backup", "unpin", oldest]).expect(0);
    env.visor(&["backup", "remove", oldest]).expect(0);
    assert_eq!(env.count(Path::new("backups/gen")), 2);
}

#[test]
fn a_backup_of_none_is_said_and_honoured() {
    let env = Env::due("backup = \"none\"", "");
    let check = env.visor(&["plan", "check"]).expect(0);
    assert!(check.stdout.contains("V0301"), "{}", check.stdout);
    let diff = env.visor(&["plan", "diff"]).expect(2);
    let words: Vec<&str> = diff.stdout.split_whitespace().collect();
    let said = words.join(" ");
    assert!(said.contains("there is no backup"), "{}", diff.stdout);
    let _ = env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.count(Path::new("backups/gen")), 0);
}

#[test]
fn a_root_on_another_file_system_is_blocked_before_anything() {
    if fs::metadata("/dev/shm").is_err() {
        panic!("/dev/shm is needed for a second file system");
    }
    let other = tempfile::Builder::new()
        .prefix("visor-it-")
        .tempdir_in("/dev/shm")
        .unwrap();
    let env = Env::with(&Set {
        upgrades: vec![],
        node_extra: format!("root = \"{}\"", other.path().join("r").display()),
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(0);
    env.eventually("the height", || env.height().is_some_and(|h| h >= 5));
    env.write_set(&Set {
        upgrades: vec![("v2", "{ height = 5 }", "", String::new())],
        node_extra: format!("root = \"{}\"", other.path().join("r").display()),
        ..Set::default()
    });
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr.contains("are on different file systems"),
        "{}",
        out.stderr
    );
    assert_eq!(env.nodes().len(), 1);
    let _ = env.visor(&["stop"]).expect(0);
}

#[test]
fn a_loose_absolute_hook_is_blocked() {
    use std::os::unix::fs::PermissionsExt as _;
    let env = Env::due("", "");
    let script = env.path("loose.sh");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o777)).unwrap();
    env.write_set(&Set {
        upgrades: vec![(
            "v2",
            "{ height = 5 }",
            "",
            "hooks = { prepare = [\"loose\"] }".into(),
        )],
        more: format!("[hook.loose]\nrun = [\"{}\"]\n", script.display()),
        ..Set::default()
    });
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr.contains("can be changed by others"),
        "{}",
        out.stderr
    );
}

#[test]
fn files_that_can_hold_secrets_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let env = Env::due("", "");
    let _ = env.visor(&["reconcile"]).expect(0);
    let mut dirs = vec![env.root().join("state"), env.root().join("backups")];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            // Inside a tree the modes are the node's own.
            if path.ends_with("tree") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            assert_eq!(meta.permissions().mode() & 0o077, 0, "{}", path.display());
            seen += 1;
            if meta.is_dir() {
                dirs.push(path);
            }
        }
    }
    assert!(seen > 15, "{seen}");
}
