//! How long `visor plan check` takes for whole sets, beside a floor that only parses and validates, and beside taplo and tombi where
//! they are on the PATH (or named by `TAPLO` and `TOMBI`). `cargo bench --bench check`; `-- 1000` for another number of files.
//!
//! Each program runs `ROUNDS` times in turn, warm; the table shows median and least wall time, and the largest memory.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures the machine, prints, and fails by panicking"
)]

use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// One file of 1 KB, linked to the next; with seven mistakes, or none.
fn file(i: usize, n: usize, bad: bool) -> String {
    let next = (i + 1) % n;
    let text = format!(
        r#"visor = 1

# Node {i} of the fleet, with its release, its upgrade, its hook and its policy.
[node.node-{i}]
binary = "gethd"
home = "/var/lib/geth-{i}"
args = ["--datadir", "${{node.data}}", "--http", "--http.port", "${{chain.port}}"]
data = {{ path = "data", exclude = ["*.ipc"], keep = ["geth/nodekey"] }}
chain = {{ kind = "evm", rpc = "http://127.0.0.1:8545", max-head-age = "2m" }}
stop = {{ grace = "5m", dump = "5s" }}
labels = {{ network = "net-{i}" }}
genesis = "geth-{next}"

[artifact.geth-{i}]
version = "v1.{i}.0"
[[artifact.geth-{i}.file]]
platform = "linux/amd64"
urls = ["https://releases.example/geth-{i}"]
sha256 = "{HEX}"

[upgrade."v2.{i}"]
trigger = {{ height = {height} }}
artifact = "geth-{next}"
nodes = {{ labels = {{ network = "net-{i}" }} }}
backup = "policy-{next}"
hooks = {{ pre-stop = ["check-{next}"] }}
health = {{ within = "3m", blocks = 5 }}

[hook.check-{i}]
run = ["/usr/local/bin/check-disk", "--min", "10GiB"]
timeout = "60s"
retry = {{ times = 3, delay = "1s" }}

[backup.policy-{i}]
keep = {{ last = 5 }}
"#,
        height = 1_000 + i
    );
    if !bad {
        return text;
    }
    text.replace("binary =", "binry =")
        .replace("\"5m\"", "\"5 parsecs\"")
        .replace("\"evm\"", "\"evmm\"")
        .replace(HEX, &HEX[2..])
        .replace("= \"policy-", "= \"polisy-")
        .replace("times = 3", "times = \"3\"")
        .replace("last = 5", "last = 0")
}

fn lay_down(dir: &Path, n: usize, bad: bool) {
    fs::create_dir_all(dir).unwrap();
    fs::write(
        dir.join("manifest.schema.json"),
        visor::manifest::schema_text(),
    )
    .unwrap();
    for i in 0..n {
        let below = dir.join(format!("{:03}", i / 100));
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join(format!("{i:05}.toml")), file(i, n, bad)).unwrap();
    }
}

/// The floor: every file read and parsed to a tree with places, and its JSON checked against the schema; no rule, no finding.
fn floor(dir: &Path) {
    let mut files = Vec::new();
    for below in fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
    {
        files.extend(fs::read_dir(below).unwrap().map(|e| e.unwrap().path()));
    }
    let schema: serde_json::Value = serde_json::from_str(&visor::manifest::schema_text()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let n_valid = files.par_iter().filter(|path| {
        let text = fs::read_to_string(path).unwrap();
        toml::de::DeTable::parse(&text).unwrap();
        let value: serde_json::Value = toml::from_str(&text).unwrap();
        validator.is_valid(&value)
    });
    std::hint::black_box(n_valid.count());
}

/// Wall time and the largest resident memory in KiB, from the kernel's account of the ended child.
fn run(command: &mut Command) -> (Duration, u64) {
    let began = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        peak = peak.max(
            line.and_then(|l| l.split_whitespace().next()?.parse().ok())
                .unwrap_or(0),
        );
        std::thread::sleep(Duration::from_micros(500));
    }
    (began.elapsed(), peak)
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if args.first().map(String::as_str) == Some("--floor") {
        return floor(Path::new(&args[1]));
    }
    let n: usize = args.first().map_or(10_000, |a| a.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    println!(
        "{n} files of 1 KB, {ROUNDS} rounds, {} threads\n",
        rayon::current_num_threads()
    );
    println!("| set | program | median | least | memory |\n|---|---|---|---|---|");
    for (set, files, bad) in [
        ("all valid", n, false),
        ("7 mistakes each", n, true),
        ("one file", 1, false),
    ] {
        let at = dir.path().join(set);
        lay_down(&at, files, bad);
        let mut programs: Vec<(&str, Command)> = Vec::new();
        let mut visor = Command::new(env!("CARGO_BIN_EXE_visor"));
        visor.args(["plan", "check"]).arg(&at);
        programs.push(("visor plan check", visor));
        let mut floor = Command::new(&own);
        floor.arg("--floor").arg(&at);
        programs.push(("floor: parse and validate", floor));
        let schema = format!("file://{}", at.join("manifest.schema.json").display());
        for (name, variable) in [("taplo", "TAPLO"), ("tombi", "TOMBI")] {
            let program = std::env::var(variable).unwrap_or_else(|_| name.to_owned());
            if Command::new(&program)
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .is_err()
            {
                continue;
            }
            let mut command = Command::new(program);
            command.current_dir(&at);
            if name == "taplo" {
                command.args(["check", "--schema", &schema, "**/*.toml"]);
            } else {
                command.args(["lint", "--offline", "."]);
            }
            programs.push((name, command));
        }
        let mut times = vec![Vec::new(); programs.len()];
        let mut peaks = vec![0; programs.len()];
        for _ in 0..ROUNDS {
            for (i, (_, command)) in programs.iter_mut().enumerate() {
                let (time, peak) = run(command);
                times[i].push(time);
                peaks[i] = peaks[i].max(peak);
            }
        }
        for (i, (name, _)) in programs.iter().enumerate() {
            times[i].sort();
            let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
            let (median, least) = (ms(times[i][ROUNDS / 2]), ms(times[i][0]));
            println!(
                "| {set} | {name} | {median} | {least} | {} MB |",
                peaks[i] / 1024
            );
        }
    }
}
