//! `process` of a node, seen from outside in `/proc`.

use crate::env::{Env, Set};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

fn with(process: &str) -> Env {
    Env::with(&Set {
        upgrades: vec![],
        node_extra: format!("process = {{ {process} }}"),
        ..Set::default()
    })
}

fn proc(pid: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

fn line(text: &str, key: &str) -> String {
    let line = text.lines().find(|l| l.starts_with(key));
    let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    words.join(" ")
}

#[test]
fn limits_priorities_mask_directory_and_cpus() {
    let env = with(
        "umask = \"0027\", nice = 7, io = \"best-effort:6\", oom-score = 321, cpus = \"0\", \
         working-directory = \"/usr\", limits = { nofile = \"777:888\", core = \"0\" }",
    );
    env.visor(&["reconcile"]).expect(0);
    let pid = env.nodes()[0];
    let status = proc(pid, "status");
    assert_eq!(line(&status, "Umask"), "Umask: 0027");
    assert_eq!(line(&status, "Cpus_allowed_list"), "Cpus_allowed_list: 0");
    let limits = proc(pid, "limits");
    assert_eq!(
        line(&limits, "Max open files"),
        "Max open files 777 888 files"
    );
    assert_eq!(
        line(&limits, "Max core file size"),
        "Max core file size 0 0 bytes"
    );
    assert_eq!(proc(pid, "oom_score_adj").trim(), "321");
    let stat = proc(pid, "stat");
    let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16);
    assert_eq!(nice, Some("7"));
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(cwd.to_str(), Some("/usr"));
    let io = std::process::Command::new("ionice")
        .args(["-p", &pid.to_string()])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&io.stdout).trim(),
        "best-effort: prio 6"
    );
    // A change of them is a difference that a restart takes away.
    env.write(
        "visor.toml",
        &fs::read_to_string(env.set().join("visor.toml"))
            .unwrap()
            .replace("nice = 7", "nice = 8"),
    );
    let diff = env.visor(&["plan", "diff"]).stdout;
    assert!(diff.contains("other arguments"), "{diff}");
    env.stop_and_check();
}

#[test]
fn variables_come_from_files_and_are_written_down_nowhere() {
    let env = with("");
    let file = env.path("secret.env");
    fs::write(&file, "# for tests\nAPI_SECRET=\"hunter2 \"\nexport B=1\n").unwrap();
    let set = env.set().join("visor.toml");
    let text = fs::read_to_string(&set).unwrap();
    let files = format!("process = {{ env-files = [\"{}\"] }}", file.display());
    env.write("visor.toml", &text.replace("process = {  }", &files));
    env.visor(&["reconcile"]).expect(0);
    let environ = proc(env.nodes()[0], "environ");
    let has = |variable: &str| environ.split('\0').any(|v| v == variable);
    assert!(has("API_SECRET=hunter2 ") && has("B=1"), "{environ:?}");
    let found = std::process::Command::new("grep")
        .args(["-rl", "hunter2"])
        .arg(env.path("home"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    env.visor(&["stop"]).expect(0);
    for (text, says) in [
        (Some("A=1\nhunter2\n"), "line 2 is not NAME=value"),
        (None, "it is not there"),
    ] {
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let _ = env.visor(&["start"]);
        let status = env.visor(&["status"]).expect(0).stdout;
        let is_said = status.contains(says) && !status.contains("hunter2");
        assert!(is_said, "{status}");
    }
}

#[test]
fn another_user_runs_the_node_and_what_cannot_be_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a node to another user");
        return;
    }
    let env = with("user = \"nobody\", umask = \"0077\"");
    let open = |path: std::path::PathBuf| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap()
    };
    open(env.path(""));
    open(env.path("home"));
    // The node's own records of the test.
    for file in ["signed", "faults"] {
        fs::write(env.path(file), "").unwrap();
        fs::set_permissions(env.path(file), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let exe = fs::canonicalize(env!("CARGO_BIN_EXE_visor")).unwrap();
    let reachable = exe
        .ancestors()
        .skip(1)
        .all(|d| fs::metadata(d).unwrap().mode() & 0o001 != 0);
    if reachable {
        env.visor(&["reconcile"]).expect(0);
        let pid = env.nodes()[0];
        let nobody = line(&proc(pid, "status"), "Uid");
        assert_eq!(nobody, "Uid: 65534 65534 65534 65534");
        assert_eq!(fs::metadata(env.data()).unwrap().uid(), 65534);
        assert_eq!(
            fs::metadata(env.root().join("state")).unwrap().mode() & 0o777,
            0o700
        );
        env.stop_and_check();
    } else {
        println!("skipped in part: {} is not for everybody", exe.display());
    }
    let env = with("user = \"no-such-user\"");
    let out = env.visor(&["reconcile"]);
    assert!(
        out.stderr
            .contains("this machine has no user \"no-such-user\""),
        "{} {}",
        out.stdout,
        out.stderr
    );
}

#[test]
fn what_a_start_lacks_blocks_an_upgrade_before_the_stop() {
    let set = |upgrades, extra: &str| Set {
        upgrades,
        node_extra: extra.to_owned(),
        ..Set::default()
    };
    let env = Env::with(&set(vec![], ""));
    let run = env.spawn(&["run"], "run.log");
    env.eventually("the node answers", || env.height().is_some());
    let before = env.nodes();
    let due = || vec![("v2", "{ height = 5 }", "", String::new())];
    let nowhere = env.path("nowhere");
    let nowhere = nowhere.display();
    for (process, says) in [
        (
            "user = \"nobody-of-this-name\"".to_owned(),
            "no user \"nobody-of-this-name\"".to_owned(),
        ),
        (
            format!("env-files = [\"{nowhere}\"]"),
            format!("{nowhere}: it is not there"),
        ),
        (
            format!("working-directory = \"{nowhere}\""),
            format!("`working-directory` {nowhere}: No such file"),
        ),
    ] {
        env.write_set(&set(due(), &format!("process = {{ {process} }}\n")));
        env.eventually("it is blocked, and why", || {
            let shown = env.visor(&["status"]).stdout;
            let text = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            text.contains("would not have the node started again") && text.contains(&says)
        });
    }
    assert_eq!((env.nodes(), env.current()), (before, "genesis".to_owned()));
    env.write_set(&set(due(), ""));
    env.eventually("it is upgraded", || env.current() == "upgrades/v2");
    assert_eq!(run.term(), Some(0));
    env.check_signed();
}
