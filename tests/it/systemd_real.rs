//! The unit under a real systemd: on a machine that systemd runs, as root, with `VISOR_IT_SYSTEMD=1`; installs a unit below `/run`.

use crate::env::{Env, Set};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A unit that is gone when the test is over.
struct Unit(String);

impl Unit {
    /// Installs what `visor init --systemd` writes, with this drop-in.
    fn install(env: &Env, drop_in: &str) -> Self {
        let dir = env.path("unit");
        fs::create_dir(&dir).unwrap();
        env.visor(&["init", "--systemd", dir.to_str().unwrap()])
            .expect(0);
        let name = format!("visor-it-{}.service", env.port);
        let at = PathBuf::from("/run/systemd/system");
        fs::copy(dir.join("visor-demo.service"), at.join(&name)).unwrap();
        let more = at.join(format!("{name}.d"));
        fs::create_dir_all(&more).unwrap();
        // The devnode writes down what it signs beside its home.
        let writes = env.path("").display().to_string();
        let text = format!("[Service]\nReadWritePaths={writes}\n{drop_in}");
        fs::write(more.join("test.conf"), text).unwrap();
        systemctl(&["daemon-reload"]);
        Self(name)
    }

    fn show(&self, property: &str) -> String {
        let text = systemctl(&["show", "--value", "-p", property, &self.0]).1;
        text.trim().to_owned()
    }

    fn visor(&self) -> i32 {
        self.show("MainPID").parse().unwrap()
    }

    fn cgroup(&self) -> PathBuf {
        let below = self.show("ControlGroup");
        PathBuf::from("/sys/fs/cgroup").join(below.trim_start_matches('/'))
    }

    /// Sends visor alone a signal and waits for another visor.
    fn replace(&self, env: &Env, signal: &str) {
        let before = self.visor();
        let signal_arg = format!("--signal={signal}");
        let (is_good, says) = systemctl(&["kill", "--kill-whom=main", &signal_arg, &self.0]);
        assert!(is_good, "{says}");
        env.eventually(&format!("another visor is ready after {signal}"), || {
            let now = self.visor();
            now != 0 && now != before && self.show("ActiveState") == "active"
        });
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        systemctl(&["stop", &self.0]);
        let at = PathBuf::from("/run/systemd/system");
        let _ = fs::remove_file(at.join(&self.0));
        let _ = fs::remove_dir_all(at.join(format!("{}.d", self.0)));
        systemctl(&["daemon-reload"]);
        systemctl(&["reset-failed", &self.0]);
    }
}

fn systemctl(args: &[&str]) -> (bool, String) {
    let out = Command::new("systemctl").args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.success(), text(&out.stdout) + &text(&out.stderr))
}

#[expect(clippy::disallowed_methods, reason = "a switch of the tests")]
fn is_here() -> bool {
    let is_wanted = std::env::var_os("VISOR_IT_SYSTEMD").is_some();
    let is_there = PathBuf::from("/run/systemd/system").exists();
    if !is_wanted || !is_there {
        println!(
            "skipped: VISOR_IT_SYSTEMD=1 as root, on a machine that systemd runs, tries the unit for real"
        );
    }
    is_wanted && is_there
}

fn set(extra: &str, height: &'static str) -> Set {
    Set {
        upgrades: vec![("v2", height, "", String::new())],
        node_extra: extra.to_owned(),
        ..Set::default()
    }
}

const FAR: &str = "{ height = 100000000 }";
const LIMITS: &str =
    "process = { cgroup = { memory-max = \"1GiB\", pids-max = 512, cpu-weight = 200 } }\n";

fn version() -> u32 {
    let text = systemctl(&["--version"]).1;
    let word = text.split(' ').nth(1).unwrap();
    let digits = word.split(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap().parse().unwrap()
}

#[test]
fn the_unit_keeps_the_node_over_every_death_of_visor_and_ends_it_when_told() {
    if !is_here() {
        return;
    }
    let env = Env::with(&set("", FAR));
    let unit = Unit::install(&env, "WatchdogSec=5\n");
    let (is_good, says) = systemctl(&["start", &unit.0]);
    assert!(is_good, "{says}");
    let status = systemctl(&["status", "--no-pager", &unit.0]).1;
    assert!(env.height().is_some(), "{status}\n{}", env.logs());
    let before = env.nodes();
    assert_eq!(before.len(), 1);
    println!("systemd {}: {}", version(), unit.show("StatusText"));
    for signal in ["KILL", "USR1", "ABRT"] {
        unit.replace(&env, signal);
        assert_eq!(env.nodes(), before, "{signal}");
    }
    // One that stands still is found by the watchdog.
    unit.replace(&env, "STOP");
    assert_eq!(env.nodes(), before, "the watchdog");
    let (is_good, says) = systemctl(&["reload", &unit.0]);
    assert!(is_good, "{says}");
    env.eventually("the set was read", || {
        let out = Command::new("journalctl").args(["-u", &unit.0]).output();
        String::from_utf8_lossy(&out.unwrap().stdout).contains("the manifests were read again")
    });
    // An upgrade, with a visor that dies in it.
    env.write_set(&set("", "{ height = 10 }"));
    env.eventually("it begins", || env.state_of("v2") != "scheduled");
    unit.replace(&env, "KILL");
    env.eventually("it is upgraded", || {
        env.state_of("v2") == "current" && env.nodes().len() == 1
    });
    let (is_good, says) = systemctl(&["restart", &unit.0]);
    assert!(is_good, "{says}");
    assert!(env.height().is_some());
    let cgroup = unit.cgroup();
    let (is_good, says) = systemctl(&["stop", &unit.0]);
    assert!(is_good, "{says}");
    assert_eq!((env.nodes(), cgroup.exists()), (vec![], false));
    assert_eq!(unit.show("Result"), "success");
    env.check_signed();
}

#[test]
fn limits_hold_over_every_death_of_visor_or_are_refused_by_name() {
    if !is_here() {
        return;
    }
    let env = Env::with(&set(LIMITS, FAR));
    let unit = Unit::install(&env, "");
    systemctl(&["start", "--no-block", &unit.0]);
    if version() < 254 {
        env.eventually("it is refused", || {
            let shown = env.visor(&["status"]).stdout;
            shown.contains("start-refused") && shown.contains("DelegateSubgroup=visor")
        });
        env.write_set(&set("", FAR));
    }
    env.eventually("the node answers", || env.height().is_some());
    let before = env.nodes();
    for signal in ["KILL", "USR1"] {
        unit.replace(&env, signal);
        assert_eq!(env.nodes(), before, "{signal}");
    }
    if version() >= 254 {
        let own = fs::read_to_string(format!("/proc/{}/cgroup", before[0])).unwrap();
        let own = own.trim().trim_start_matches("0::/");
        let dir = PathBuf::from("/sys/fs/cgroup").join(own);
        for (file, want) in [
            ("memory.max", "1073741824"),
            ("pids.max", "512"),
            ("cpu.weight", "200"),
        ] {
            let has = fs::read_to_string(dir.join(file)).unwrap();
            assert_eq!(has.trim(), want, "{file}");
        }
    }
    let (is_good, says) = systemctl(&["stop", &unit.0]);
    assert!(is_good, "{says}");
    assert_eq!(
        (env.nodes(), unit.show("Result").as_str()),
        (vec![], "success")
    );
    env.check_signed();
}

#[test]
fn a_node_that_the_set_does_not_know_is_not_tried_for_ever() {
    if !is_here() {
        return;
    }
    let env = Env::with(&set("", FAR));
    let unit = Unit::install(&env, "");
    let text = fs::read_to_string(env.set().join("visor.toml")).unwrap();
    env.write("visor.toml", &text.replace("[node.demo]", "[node.other]"));
    systemctl(&["start", &unit.0]);
    env.eventually("it has failed", || unit.show("ActiveState") == "failed");
    std::thread::sleep(std::time::Duration::from_secs(3));
    let state = [unit.show("ActiveState"), unit.show("NRestarts")];
    assert_eq!(state, ["failed", "0"]);
}
