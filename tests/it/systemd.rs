//! What systemd is told, on a real notify socket, and the unit that `visor init --systemd` writes.

use crate::env::{Env, Set, kill};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The service manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    /// All that is said until a message holds these words; fails after half a minute.
    #[track_caller]
    fn until(&self, words: &str) -> Vec<String> {
        self.0
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let began = Instant::now();
        let mut heard = Vec::new();
        let mut bytes = [0; 4096];
        while began.elapsed() < Duration::from_secs(30) {
            let Ok(n) = self.0.recv(&mut bytes) else {
                continue;
            };
            let text = String::from_utf8(bytes[..n].to_vec()).unwrap();
            let is_it = text.contains(words);
            heard.push(text);
            if is_it {
                return heard;
            }
        }
        panic!("never heard {words:?}: {heard:#?}");
    }
}

#[test]
fn systemd_hears_of_readiness_status_life_and_the_end() {
    let env = Env::with(&Set {
        upgrades: vec![("v2", "{ height = 150 }", "", String::new())],
        ..Set::default()
    });
    let path = env.path("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let mut command = env.command(&["run"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "900000")
        .stdout(Stdio::null())
        .stderr(fs::File::create(env.path("run.log")).unwrap());
    let mut run = command.spawn().unwrap();
    let pid = i32::try_from(run.id()).unwrap();
    let heard = manager.until("READY=1");
    assert!(env.height().is_some(), "the node answers once it is ready");
    assert!(
        heard.iter().filter(|h| h.contains("READY=1")).count() == 1,
        "{heard:?}"
    );
    manager.until("STATUS=waiting: height 150 is not reached");
    manager.until("STATUS=critical/start is done");
    manager.until("STATUS=the node runs");
    // Three times in what is allowed, also while nothing happens.
    let began = Instant::now();
    (0..10).for_each(|_| drop(manager.until("WATCHDOG=1")));
    let ten = began.elapsed();
    assert!(
        ten > Duration::from_secs(2) && ten < Duration::from_secs(9),
        "{ten:?}"
    );
    // A visor that stands still is not alive, whatever its node does.
    kill(pid, "STOP");
    std::thread::sleep(Duration::from_millis(200));
    manager.0.set_nonblocking(true).unwrap();
    while manager.0.recv(&mut [0; 4096]).is_ok() {}
    std::thread::sleep(Duration::from_secs(1));
    assert!(manager.0.recv(&mut [0; 4096]).is_err());
    manager.0.set_nonblocking(false).unwrap();
    kill(pid, "CONT");
    manager.until("WATCHDOG=1");
    kill(pid, "TERM");
    manager.until("STOPPING=1");
    manager.until("STATUS=stopping the node");
    assert!(run.wait().unwrap().success());
    // The node itself must not speak for visor.
    let env_of_node = env.root().join("state/starts");
    let found = Command::new("grep")
        .args(["-r", "NOTIFY_SOCKET"])
        .arg(env_of_node)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn a_node_that_is_to_stay_down_keeps_nobody_waiting() {
    let env = Env::with(&Set::default());
    env.visor(&["reconcile"]).expect(0);
    env.visor(&["stop"]).expect(0);
    let path = env.path("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let mut run = env.command(&["run"]);
    let mut run = run
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    manager.until("READY=1");
    kill(i32::try_from(run.id()).unwrap(), "TERM");
    assert!(run.wait().unwrap().success());
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let env = Env::with(&Set {
        stop: "{ grace = \"4m\", dump = \"10s\", kill = true }",
        ..Set::default()
    });
    let dir = env.path("units with space");
    fs::create_dir(&dir).unwrap();
    let into = dir.to_str().unwrap();
    let out = env.visor(&["init", "--systemd", into]).expect(0);
    assert!(
        out.stderr
            .contains("systemctl enable --now visor-demo.service"),
        "{}",
        out.stderr
    );
    let path = dir.join("visor-demo.service");
    let text = fs::read_to_string(&path).unwrap();
    for says in [
        "Type=notify\n",
        "KillMode=process\n",
        "TimeoutStopSec=340\n",
        "RestartPreventExitStatus=6 64\n",
        "Delegate=yes\nDelegateSubgroup=visor\n",
        &format!("ReadWritePaths={}\n", env.path("home").display()),
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    env.visor(&["init", "--systemd", into]).expect(64);
    env.visor(&["init"]).expect(64);
    let analyze = |args: &[&str]| {
        let out = Command::new("systemd-analyze")
            .args(args)
            .arg(&path)
            .output();
        out.ok().map(|o| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (o.status.success(), text(&o.stdout) + &text(&o.stderr))
        })
    };
    let Some((is_good, says)) = analyze(&["verify", "--man=no"]) else {
        println!("skipped: systemd-analyze is not there");
        return;
    };
    // systemd before 254 does without.
    let is_known = |l: &&str| l.contains("'DelegateSubgroup'");
    let of_ours = says.lines().filter(|l| l.contains("visor-demo"));
    let of_ours: Vec<&str> = of_ours.filter(|l| !is_known(l)).collect();
    assert!(is_good && of_ours.is_empty(), "{says}");
    // 0 is safe, 10 is not. Without hardening it would be above 9.
    let (is_good, says) =
        analyze(&["security", "--offline=true", "--no-pager", "--threshold=45"]).unwrap();
    let overall = says.lines().find(|l| l.contains("Overall exposure"));
    println!("{}", overall.unwrap_or_default());
    assert!(is_good, "{says}");
}
