//! How long `visor plan check` takes for whole sets, beside a floor that only parses and validates, and beside taplo and tombi where
//! they are on the PATH (or named by `TAPLO` and `TOMBI`). `cargo bench --bench check`; `-- 1000` for another number of files.
//!
//! The programs run in turn, warm; the table shows median and least wall time, and the largest memory. Memory is looked at in a run of
//! its own, for looking takes as long as a check of one file.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures the machine, prints, and fails by panicking"
)]

#[path = "set.rs"]
mod set;

use rayon::prelude::*;
use set::file;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Of a whole set.
const ROUNDS: usize = 7;
/// Of one file, which takes a few milliseconds.
const ROUNDS_OF_ONE: usize = 101;

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

/// Wall time from the start of a program to its end.
fn time_of(command: &mut Command) -> Duration {
    let began = Instant::now();
    command.status().unwrap();
    began.elapsed()
}

/// The largest resident memory of a program, in KiB.
fn memory_of(command: &mut Command) -> u64 {
    let mut child = command.spawn().unwrap();
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
    peak
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
        "{n} files of 1 KB, {ROUNDS} rounds ({ROUNDS_OF_ONE} of one file), {} threads\n",
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
        let rounds = if files == 1 { ROUNDS_OF_ONE } else { ROUNDS };
        let mut times = vec![Vec::new(); programs.len()];
        for (_, command) in &mut programs {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        for _ in 0..rounds {
            for (i, (_, command)) in programs.iter_mut().enumerate() {
                times[i].push(time_of(command));
            }
        }
        for ((name, command), mut times) in programs.iter_mut().zip(times) {
            times.sort();
            let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
            let (median, least) = (ms(times[rounds / 2]), ms(times[0]));
            println!(
                "| {set} | {name} | {median} | {least} | {} MB |",
                memory_of(command) / 1024
            );
        }
    }
}
