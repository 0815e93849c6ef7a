//! A node of a test's own: a set, a home, a port, and the real program. What it started is ended with it.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use visor::chain::EvmClient;
use visor::cli::SchemaOf;
use visor::model::sha256_hex;

/// All of the cases, not the bounded part that people run often.
pub(crate) fn is_full() -> bool {
    std::env::var_os("VISOR_IT_FULL").is_some()
}

pub(crate) struct Env {
    dir: tempfile::TempDir,
    pub(crate) port: u16,
}

/// What a command printed, and its exit code (none: killed).
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// The text of a devnode set. Fields are replaced by tests where they need something else.
pub(crate) struct Set {
    pub(crate) stop: &'static str,
    pub(crate) health: &'static str,
    pub(crate) node_extra: String,
    pub(crate) args_extra: Vec<String>,
    /// The program of every release; `NODE` is the devnode's command line.
    pub(crate) script: &'static str,
    /// Name, trigger, fault of the release, further keys.
    pub(crate) upgrades: Vec<(&'static str, &'static str, &'static str, String)>,
    pub(crate) more: String,
}

impl Default for Set {
    fn default() -> Self {
        Self {
            stop: "{ grace = \"20s\" }",
            health: "{ within = \"4s\", blocks = 3, alive = \"100ms\" }",
            node_extra: String::new(),
            args_extra: vec![],
            script: "exec NODE",
            upgrades: vec![("v2", "{ height = 20 }", "", String::new())],
            more: String::new(),
        }
    }
}

impl Env {
    pub(crate) fn new() -> Self {
        Self::on(&std::env::temp_dir())
    }

    /// With all its files below a directory.
    pub(crate) fn on(place: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let env = Self {
            dir: tempfile::Builder::new()
                .prefix("visor-it-")
                .tempdir_in(place)
                .unwrap(),
            port,
        };
        fs::create_dir_all(env.set()).unwrap();
        env
    }

    pub(crate) fn with(set: &Set) -> Self {
        let env = Self::new();
        env.write_set(set);
        env
    }

    /// A node at a height at which an upgrade with these keys is due; hooks in `more`.
    pub(crate) fn due(upgrade: &str, more: &str) -> Self {
        let env = Self::with(&Set {
            upgrades: vec![],
            ..Set::default()
        });
        let _ = env.visor(&["reconcile"]).expect(0);
        env.eventually("the height", || env.height().is_some_and(|h| h >= 5));
        env.write_set(&Set {
            upgrades: vec![("v2", "{ height = 5 }", "", upgrade.to_owned())],
            more: more.to_owned(),
            ..Set::default()
        });
        env
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub(crate) fn set(&self) -> PathBuf {
        self.path("set")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("home/visor")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("home/data")
    }

    pub(crate) fn write(&self, below: &str, text: &str) -> PathBuf {
        let path = self.set().join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn write_script(&self, below: &str, text: &str) -> PathBuf {
        let path = self.write(below, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// An artifact that launches devnode by a script; returns its manifest text.
    fn release(&self, name: &str, fault: &str, script: &str) -> String {
        let fault = if fault.is_empty() {
            String::new()
        } else {
            format!(" --fault {fault}")
        };
        let node = format!("\"$VISOR_EXE\" devnode --release {name}{fault} \"$@\"");
        let text = format!("#!/bin/sh\n{}\n", script.replace("NODE", &node));
        let digest = sha256_hex(text.as_bytes());
        self.write(&format!("releases/{name}"), &text);
        format!(
            "[artifact.\"rel-{name}\"]\n[[artifact.\"rel-{name}\".file]]\nurls = [\"releases/{name}\"]\nsha256 = \"{digest}\"\n"
        )
    }

    pub(crate) fn write_set(&self, set: &Set) {
        let home = self.path("home");
        let mut args = vec![
            "--data",
            "${node.data}",
            "--port",
            "${chain.port}",
            "--start-ms",
            "20",
        ]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
        args.extend([
            "--signed-log".into(),
            self.path("signed").display().to_string(),
        ]);
        args.extend(["--faults".into(), self.path("faults").display().to_string()]);
        for key in ["--block-ms", "--stop-ms"] {
            if !set.args_extra.iter().any(|arg| arg == key) {
                args.extend([key.into(), "20".into()]);
            }
        }
        args.extend(set.args_extra.clone());
        let mut text = format!(
            "visor = 1\n[node.demo]\nbinary = \"demod\"\nhome = \"{}\"\nargs = {args:?}\n\
             data = {{ path = \"data\", exclude = [\"LOCK\"], keep = [\"signer.json\"], immutable = [\"tables/*.tbl\"], append = [\"chain.log\"] }}\n\
             chain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:{}\" }}\nstop = {}\ngenesis = \"rel-v1\"\nrehearse = true\n{}\n",
            home.display(),
            self.port,
            set.stop,
            set.node_extra
        );
        text.push_str(&self.release("v1", "", set.script));
        for (name, trigger, fault, more) in &set.upgrades {
            text.push_str(&self.release(name, fault, set.script));
            text.push_str(&format!(
                "[upgrade.\"{name}\"]\ntrigger = {trigger}\nartifact = \"rel-{name}\"\nhealth = {}\n{more}\n",
                set.health
            ));
        }
        text.push_str(&set.more);
        fs::create_dir_all(&home).unwrap();
        self.write("visor.toml", &text);
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visor"));
        command
            .args(args)
            .env("VISOR_MANIFESTS", self.set())
            .env_remove("VISOR_NODE")
            .stdin(Stdio::null());
        command
    }

    #[must_use]
    /// Runs visor to its end. What it prints as JSON has to be what its schema says.
    pub(crate) fn visor(&self, args: &[&str]) -> Output {
        let out = Self::output(&mut self.command(args));
        if args.ends_with(&["--format", "json"]) && !out.stdout.is_empty() {
            let of = match args {
                ["plan", "check", ..] => SchemaOf::Findings,
                ["plan", "diff", ..] => SchemaOf::Diff,
                ["plan", "show", ..] => SchemaOf::Plans,
                ["status", ..] => SchemaOf::Status,
                ["upgrade", "list", ..] => SchemaOf::Upgrades,
                ["backup", "list", ..] => SchemaOf::Backups,
                ["backup", "show", ..] => SchemaOf::Backup,
                ["batch", "list", ..] => SchemaOf::Batches,
                ["batch", "show", ..] => SchemaOf::Batch,
                ["batch", "status", ..] => SchemaOf::BatchStatus,
                ["history", "show", ..] => SchemaOf::Run,
                ["history", ..] => SchemaOf::History,
                ["rehearse", ..] => SchemaOf::Rehearsal,
                other => panic!("{other:?} has no schema"),
            };
            let schema = serde_json::from_str(&of.text()).unwrap();
            let value = serde_json::from_str(&out.stdout).unwrap();
            if let Err(error) = jsonschema::validate(&schema, &value) {
                panic!("{args:?}: {error} at {}", error.instance_path());
            }
        }
        out
    }

    /// What `upgrade list` says of an upgrade; nothing while it cannot be asked.
    pub(crate) fn state_of(&self, upgrade: &str) -> String {
        let out = self.visor(&["upgrade", "list", "--format", "json"]).stdout;
        let list: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        let rows = list["upgrades"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|r| r["name"] == upgrade);
        row.map_or(String::new(), |r| r["state"].as_str().unwrap().to_owned())
    }

    pub(crate) fn output(command: &mut Command) -> Output {
        let out = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Output {
            code: out.status.code(),
            stdout: text(out.stdout),
            stderr: text(out.stderr),
        }
    }

    /// A command in the background, its output in a file.
    pub(crate) fn spawn(&self, args: &[&str], log: &str) -> Running {
        self.spawn_command(self.command(args), log)
    }

    pub(crate) fn spawn_command(&self, mut command: Command, log: &str) -> Running {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(log))
            .unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Running(command.spawn().unwrap())
    }

    /// Makes the RPC of the running devnode misbehave; an empty word ends it.
    pub(crate) fn fault(&self, word: &str) {
        fs::write(self.path("faults"), word).unwrap();
    }

    pub(crate) fn height(&self) -> Option<u64> {
        EvmClient::default()
            .height(&format!("http://127.0.0.1:{}", self.port))
            .ok()
    }

    /// Which release answers.
    pub(crate) fn current(&self) -> String {
        fs::read_link(self.root().join("current"))
            .unwrap()
            .display()
            .to_string()
    }

    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(
                began.elapsed() < Duration::from_secs(40),
                "{what} did not come about\n{}",
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn logs(&self) -> String {
        let read = |p: PathBuf| {
            fs::read_to_string(&p)
                .map(|t| format!("--- {}\n{t}", p.display()))
                .unwrap_or_default()
        };
        let run = read(self.path("run.log"));
        run + &read(self.root().join("logs/node.log"))
    }

    /// Pids of devnodes on this data directory, found from outside.
    pub(crate) fn nodes(&self) -> Vec<i32> {
        let data = self.data().display().to_string();
        self.processes()
            .into_iter()
            .filter(|(_, line)| line.contains("devnode\0") && line.contains(&data))
            .map(|(p, _)| p)
            .collect()
    }

    /// Pids of shims of this root.
    pub(crate) fn shims(&self) -> Vec<i32> {
        self.processes()
            .into_iter()
            .filter(|(_, l)| l.contains("shim\0") && !l.contains("--second-stage"))
            .map(|(p, _)| p)
            .collect()
    }

    /// Processes whose command line names this test's directory.
    fn processes(&self) -> Vec<(i32, String)> {
        let own = self.dir.path().display().to_string();
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            Some((
                pid,
                String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).ok()?)
                    .into_owned(),
            ))
        })
        .filter(|(_, line)| line.contains(&own))
        .collect()
    }

    /// Stops the node and asks the data to prove themselves; returns what was found.
    #[track_caller]
    pub(crate) fn stop_and_check(&self) -> visor::devnode::CheckReport {
        self.visor(&["stop"]).expect(0);
        assert_eq!(self.nodes(), Vec::<i32>::new());
        let report = visor::devnode::check_data(&self.data()).unwrap();
        assert_eq!(report.mistakes, Vec::<String>::new());
        self.check_signed();
        report
    }

    /// The only sealed generation is what a node that ended cleanly leaves.
    #[track_caller]
    pub(crate) fn sealed_is_whole(&self) -> visor::devnode::CheckReport {
        let all = fs::read_dir(self.root().join("backups/gen")).unwrap();
        let all: Vec<PathBuf> = all.map(|e| e.unwrap().path()).collect();
        let [only] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert!(only.join("SEAL").is_file(), "{}", only.display());
        let report = visor::devnode::check_data(&only.join("tree")).unwrap();
        assert_eq!(report.mistakes, Vec::<String>::new());
        report
    }

    /// No height is signed twice, whatever happened.
    #[track_caller]
    pub(crate) fn check_signed(&self) {
        let text = fs::read_to_string(self.path("signed")).unwrap_or_default();
        let mut last = 0;
        for line in text.lines() {
            let height: u64 = line.split(' ').next().unwrap().parse().unwrap();
            assert!(
                height > last,
                "height {height} was signed after {last}:\n{text}"
            );
            last = height;
        }
    }

    pub(crate) fn count(&self, below: &Path) -> usize {
        fs::read_dir(self.root().join(below)).map_or(0, |e| {
            e.flatten()
                .filter(|e| !e.file_name().to_string_lossy().starts_with('.'))
                .count()
        })
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            kill(pid, "KILL");
        }
    }
}

/// A process that is killed when the test forgets it.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// TERM, and the exit code.
    pub(crate) fn term(mut self) -> Option<i32> {
        kill(self.pid(), "TERM");
        self.0.wait().unwrap().code()
    }

    pub(crate) fn wait(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process that the test, or what it started, has started.
pub(crate) fn kill(pid: i32, signal: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match signal {
        "TERM" => Signal::TERM,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "USR1" => Signal::USR1,
        "KILL" => Signal::KILL,
        other => panic!("no signal {other}"),
    };
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// A node that is not ours, as `variable` names it or as it is installed below `target/test-nodes`; `how` it gets there.
pub(crate) fn node_of_others(variable: &str, installed: &str, how: &str) -> Option<PathBuf> {
    let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-nodes");
    let named = std::env::var_os(variable).map(PathBuf::from);
    let program = named.unwrap_or_else(|| below.join(installed));
    if program.is_file() {
        return Some(program);
    }
    let name = program.file_name().unwrap().display();
    assert!(
        std::env::var_os("CI").is_none(),
        "{name} is missing, and in CI nothing is skipped: {how}"
    );
    // Past the test harness, which would hide it.
    let text = format!("\nSKIPPED: {name} is missing. To have it:\n  {how}\n\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
    None
}
