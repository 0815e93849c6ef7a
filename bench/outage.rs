//! The outage of an upgrade, as a client sees it, beside the floor and beside the peers' way, in one run.
//!
//! `cargo bench --bench outage [-- ROUNDS [GB[:FILES] …]]`, default 7 rounds at 0.05 and 0.5 GB; FILES is a number of small tables beside.
//! `VISOR_BENCH_DIR` names a directory on another disk.
//!
//! The same devnode on the same data, in shuffled rounds, the disk drained before each:
//! - floor: the node is stopped and started, nothing else;
//! - visor: `visor reconcile` upgrades it, with pre-copy, seal and health;
//! - copy (a model of cosmovisor's way): the node is stopped, its data are copied recursively, it is started;
//! - tar.gz (a model of wemixvisor's way), in the first round only: the node is stopped, its data are packed with gzip -6, it is started.
//!
//! The figure is the silence of the RPC, asked every 2 ms. Caches are warm. Overhead is visor's outage less the floor of the same round.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use visor::agent::{Wish, start_node, stop_node};
use visor::host::{Ambient, Baton, RealHost};
use visor::model::sha256_hex;
use visor::rehearse::Probe;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Floor,
    Visor,
    Copy,
    TarGz,
}

fn main() -> ExitCode {
    // The shim is started from the program of the process that asks for it: here, this one.
    if std::env::args().nth(1).is_some_and(|a| a == "shim") {
        return visor::cli::main();
    }
    run();
    ExitCode::SUCCESS
}

fn run() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let rounds: usize = args.first().and_then(|a| a.parse().ok()).unwrap_or(7);
    let size = |text: &String| {
        let (gb, files) = text.split_once(':').unwrap_or((text, "0"));
        Some((gb.parse().ok()?, files.parse().ok()?))
    };
    let sizes: Vec<(f64, usize)> = args.iter().skip(1).filter_map(size).collect();
    let sizes = if sizes.is_empty() {
        vec![(0.05, 0), (0.5, 0)]
    } else {
        sizes
    };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "load before the run: {}",
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    );
    println!("{rounds} rounds, shuffled; outage as a client sees it (median / p95), in ms\n");
    println!(
        "| data | files | floor | visor | overhead p50 / p95 | copy after the stop | tar.gz after the stop | final pass: files, bytes, syncs |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (gb, files) in sizes {
        measure(gb, files, rounds);
    }
}

fn measure(gb: f64, files: usize, rounds: usize) {
    let place = std::env::var_os("VISOR_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::Builder::new()
        .prefix("visor-bench-")
        .tempdir_in(place)
        .unwrap();
    let bench = Bench::new(dir.path(), (gb * 1e9) as u64);
    bench.visor(&["reconcile"]);
    make_tables(&dir.path().join("home/data/many"), files);
    let mut figures: [Vec<u64>; 4] = Default::default();
    let mut overheads = Vec::new();
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut n = 0;
    for round in 0..rounds {
        let mut order = vec![Way::Floor, Way::Visor, Way::Copy];
        for i in (1..order.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(i, usize::try_from(seed >> 33).unwrap() % (i + 1));
        }
        if round == 0 {
            order.push(Way::TarGz);
        }
        for way in order {
            n += 1;
            figures[way as usize].push(bench.once(way, n));
        }
        let last = |way: Way| figures[way as usize].last().copied().unwrap_or(0);
        overheads.push(last(Way::Visor).saturating_sub(last(Way::Floor)));
    }
    let files = count(&dir.path().join("home/data"));
    let [floor, visor, copy, tar_gz] = figures.map(|f| (median(&f), p95(&f)));
    let (seal_files, seal_bytes, syncs) = bench.last_seal();
    println!(
        "| {gb} GB | {files} | {} / {} | {} / {} | {} / {} | {} / {} | {} | {seal_files}, {}, {syncs} |",
        floor.0,
        floor.1,
        visor.0,
        visor.1,
        median(&overheads),
        p95(&overheads),
        copy.0,
        copy.1,
        tar_gz.0,
        bytesize::ByteSize(seal_bytes)
    );
    bench.visor(&["stop"]);
    assert_eq!(
        visor::devnode::check_data(&dir.path().join("home/data"))
            .unwrap()
            .mistakes,
        Vec::<String>::new()
    );
}

struct Bench<'a> {
    dir: &'a Path,
    port: u16,
    fill: u64,
}

impl<'a> Bench<'a> {
    fn new(dir: &'a Path, fill: u64) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let bench = Self { dir, port, fill };
        fs::create_dir_all(dir.join("set")).unwrap();
        fs::create_dir_all(dir.join("home")).unwrap();
        bench.write_set(0);
        bench
    }

    /// A set whose last upgrade is number `n`, due at once.
    fn write_set(&self, n: usize) {
        let home = self.dir.join("home");
        let mut text = format!(
            "visor = 1\n[node.b]\nbinary = \"demod\"\nhome = \"{}\"\nargs = [\"--data\", \"${{node.data}}\", \"--port\", \"${{chain.port}}\", \
             \"--block-ms\", \"20\", \"--start-ms\", \"200\", \"--stop-ms\", \"100\", \"--fill\", \"{}\"]\n\
             data = {{ path = \"data\", exclude = [\"LOCK\"], keep = [\"signer.json\"], immutable = [\"tables/*\", \"fill/*\"], append = [\"chain.log\"] }}\n\
             chain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:{}\" }}\ngenesis = \"r0\"\n[backup.one]\nkeep = {{ last = 1 }}\n",
            home.display(),
            self.fill,
            self.port
        );
        for i in [0, n] {
            let script = format!("#!/bin/sh\nexec \"$VISOR_EXE\" devnode --release r{i} \"$@\"\n");
            fs::write(self.dir.join(format!("set/r{i}")), &script).unwrap();
            if i == n || i == 0 && n != 0 {
                text.push_str(&format!(
                    "[artifact.r{i}]\n[[artifact.r{i}.file]]\nurls = [\"r{i}\"]\nsha256 = \"{}\"\n",
                    sha256_hex(script.as_bytes())
                ));
            }
            if n == 0 {
                break;
            }
        }
        if n > 0 {
            text.push_str(&format!(
                "[upgrade.r{n}]\ntrigger = {{ height = {n} }}\nartifact = \"r{n}\"\nbackup = \"one\"\nhealth = {{ within = \"20s\", blocks = 3, alive = \"100ms\" }}\n"
            ));
        }
        fs::write(self.dir.join("set/set.toml"), text).unwrap();
    }

    fn visor(&self, args: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visor"));
        command
            .args(args)
            .arg("--manifests")
            .arg(self.dir.join("set"));
        let out = command.stdin(Stdio::null()).output().unwrap();
        assert!(
            out.status.success(),
            "visor {args:?}: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
    }

    /// One outage, in milliseconds.
    fn once(&self, way: Way, n: usize) -> u64 {
        let wish = Wish::read(&self.dir.join("set"), None).unwrap();
        let env = [
            (
                "VISOR_EXE".to_owned(),
                env!("CARGO_BIN_EXE_visor").to_owned(),
            ),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
        ];
        let host = RealHost::new(
            &wish.node.spec,
            Ambient {
                env: env.into(),
                ..Ambient::default()
            },
            Baton::default(),
        );
        rustix::fs::sync();
        let probe = Probe::start(&wish.node.spec.chain).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        match way {
            Way::Visor => {
                self.write_set(n);
                self.visor(&["reconcile", "--wait"]);
            }
            Way::Floor | Way::Copy | Way::TarGz => {
                stop_node(&wish.node, &host).unwrap().unwrap();
                let data = &wish.node.spec.data.path;
                match way {
                    Way::Copy => copy_tree(data, &self.dir.join("copy")),
                    Way::TarGz => pack(data, &self.dir.join("copy.tar.gz")),
                    Way::Floor | Way::Visor => {}
                }
                start_node(&wish.node, &host).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        let silences = probe.end(Duration::from_millis(50));
        let _ = fs::remove_dir_all(self.dir.join("copy"));
        let _ = fs::remove_file(self.dir.join("copy.tar.gz"));
        silences
            .iter()
            .map(|s| s.ms)
            .max()
            .unwrap_or_else(|| panic!("no silence was seen"))
    }

    /// What the last final pass had to do.
    fn last_seal(&self) -> (u64, u64, u64) {
        let journals = self.dir.join("home/visor/state/journal");
        let mut runs: Vec<_> = fs::read_dir(journals)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        runs.sort();
        let (records, _) =
            visor::journal::decode(&fs::read(runs.last().unwrap().join("journal.jsonl")).unwrap())
                .unwrap();
        let fact = |facts: &std::collections::BTreeMap<String, u64>, name: &str| {
            facts.get(name).copied().unwrap_or(0)
        };
        records
            .iter()
            .find_map(|r| match &r.event {
                visor::journal::Event::Ended { facts, .. } if facts.contains_key("syncs") => {
                    Some((
                        fact(facts, "files"),
                        fact(facts, "bytes"),
                        fact(facts, "syncs"),
                    ))
                }
                _ => None,
            })
            .unwrap_or_default()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn pack(from: &Path, to: &Path) {
    let file = fs::File::create(to).unwrap();
    let gzip = flate2::write::GzEncoder::new(file, flate2::Compression::new(6));
    let mut tar = tar::Builder::new(gzip);
    tar.append_dir_all("data", from).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
}

/// Small tables in 200 directories, as of a store that has many.
fn make_tables(dir: &Path, files: usize) {
    for n in 0..files {
        let dir = dir.join(format!("{:03}", n % 200));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{n:06}.ldb")), [b'x'; 1024]).unwrap();
    }
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .map(Result::unwrap)
        .map(|e| {
            if e.path().is_dir() {
                count(&e.path())
            } else {
                1
            }
        })
        .sum()
}

fn median(figures: &[u64]) -> u64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn p95(figures: &[u64]) -> u64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * 95).div_ceil(100).max(1) - 1]
}
