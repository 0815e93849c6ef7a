//! The outage of an upgrade, as a client sees it, beside the floor and beside the peers' way, in one run.
//!
//! `cargo bench --bench outage [-- ROUNDS] [GB[:FILES] …] [on=FS …] [busy]`: 7 rounds at 0.05 and 0.5 GB on the disk of the temporary directory, or
//! of `VISOR_BENCH_DIR`. FILES is a number of small tables beside; FS is ext4, xfs or btrfs, on a disk in a file. A machine that is not idle
//! before the run is refused, unless it is said to be busy.
//!
//! The same devnode on the same data, in shuffled rounds, the disk drained before each, caches warm:
//! - floor: the node is stopped and started, nothing else;
//! - visor: `visor reconcile` upgrades it, with pre-copy, seal and health; what was sealed is compared with what the node left;
//! - copy (a model of cosmovisor's way): the node is stopped, its data are copied recursively, it is started;
//! - cosmovisor: itself, if `COSMOVISOR_BIN` names it;
//! - tar.gz (a model of wemixvisor's way), in the first round only: the node is stopped, its data are packed with gzip -6, it is started.
//!
//! The figure is the silence of the RPC, asked every 2 ms. Overhead is visor's outage less the floor of the same round. Then, on the same data: the
//! way back from a bad release; the node's blocks while all of its data are copied at the rate `auto`; packing.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

mod figures;
mod node;

#[path = "../../tests/it/disks.rs"]
#[expect(dead_code, reason = "it is the tests' too")]
mod disks;

use figures::{median, p95, slope};
use node::{Bench, Way, below};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    // The shim is started from the program of the process that asks for it: here, this one.
    if std::env::args().nth(1).is_some_and(|a| a == "shim") {
        return visor::cli::main();
    }
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    println!("load before the run: {}", load.join(" "));
    let is_idle = load
        .first()
        .and_then(|l| l.parse().ok())
        .is_none_or(|l: f64| l <= 1.0);
    if !is_idle && !args.iter().any(|a| a == "busy") {
        println!("This machine is at work: figures would say little. Wait, or say `busy`.");
        return ExitCode::FAILURE;
    }
    run(&args)
}

fn run(args: &[String]) -> ExitCode {
    let rounds: Option<usize> = args.first().and_then(|a| a.parse().ok());
    let args = &args[usize::from(rounds.is_some())..];
    let rounds = rounds.unwrap_or(7);
    let size = |text: &String| -> Option<(f64, usize)> {
        let (gb, files) = text.split_once(':').unwrap_or((text, "0"));
        Some((gb.parse().ok()?, files.parse().ok()?))
    };
    let mut sizes: Vec<(f64, usize)> = args.iter().filter_map(size).collect();
    if sizes.is_empty() {
        sizes = vec![(0.05, 0), (0.5, 0)];
    }
    let known = ["ext4", "xfs", "btrfs"];
    let named = |name: &&'static str| args.iter().any(|a| *a == format!("on={name}"));
    let mut kinds: Vec<&'static str> = known.into_iter().filter(named).collect();
    if kinds.is_empty() {
        kinds.push("own");
    }
    let place: PathBuf =
        std::env::var_os("VISOR_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let is_known = |a: &String| {
        a == "busy" || size(a).is_some() || known.iter().any(|name| *a == format!("on={name}"))
    };
    if let Some(odd) = args.iter().find(|a| !is_known(a)) {
        println!("What is \"{odd}\"? [ROUNDS] [GB[:FILES] …] [on=ext4|xfs|btrfs …] [busy]");
        return ExitCode::FAILURE;
    }
    let has_peer = std::env::var_os("COSMOVISOR_BIN").is_some();
    if !has_peer {
        println!("skipped: cosmovisor itself, for COSMOVISOR_BIN names none");
    }
    println!("{rounds} rounds, shuffled; outages as a client sees them (median / p95), in ms\n");
    println!(
        "| disk | data | files | floor | visor | overhead p50 / p95 | model: copy after the stop | cosmovisor | model: tar.gz | final pass: files, bytes, syncs | \
         way back, to the old one's start | blocks idle: p50, p99, most | while all is copied | packing, MB/s | tar, zstd -T2 |"
    );
    println!("|{}", "---|".repeat(15));
    for kind in kinds {
        let mut points = Vec::new();
        for (gb, files) in &sizes {
            // Beside the data: its copies by the peers' ways, one at a time, and packed.
            let bytes = (gb * 4e9) as u64 + *files as u64 * 16_384 + (2 << 30);
            let Some(disk) = disks::disk(kind, &place, bytes) else {
                continue;
            };
            let overhead = measure(&disk.dir, kind, *gb, *files, rounds, has_peer);
            if *files == 0 {
                points.push((*gb, overhead as f64));
            }
        }
        if points.len() > 1 {
            println!(
                "\nslope of the overhead on {kind}: {:.2} ms/GB\n",
                slope(&points)
            );
        }
    }
    ExitCode::SUCCESS
}

/// A row of the table; the median overhead.
fn measure(dir: &Path, kind: &str, gb: f64, files: usize, rounds: usize, has_peer: bool) -> u64 {
    let bench = Bench::new(dir, (gb * 1e9) as u64);
    bench.visor(&["reconcile"]);
    make_tables(&bench.data().join("many"), files);
    let mut figures: [Vec<u64>; 5] = Default::default();
    let mut overheads = Vec::new();
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut n = 0;
    for round in 0..rounds {
        let mut order = vec![Way::Floor, Way::Visor, Way::Copy];
        if has_peer {
            order.push(Way::Cosmovisor);
        }
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
    let (seal_files, seal_bytes, syncs) = bench.last_seal();
    let back = bench.roll_back(n + 1);
    let idle = bench.intervals(|| std::thread::sleep(Duration::from_secs(10)));
    let busy = bench.intervals(|| {
        bench.visor(&["backup", "create", "--policy", "plain"]);
    });
    let packing = bench
        .packing(rounds)
        .map(|(own, peer)| (own.round(), peer.round()));
    let cell = |of: &[u64]| match of {
        [] => "–".to_owned(),
        [one] => one.to_string(),
        all => format!("{} / {}", median(all), p95(all)),
    };
    let of = |way: Way| cell(&figures[way as usize]);
    let blocks = |(p50, p99, most): (u64, u64, u64)| format!("{p50}, {p99}, {most}");
    println!(
        "| {kind} | {gb} GB | {} | {} | {} | {} / {} | {} | {} | {} | {seal_files}, {}, {syncs} | {back} | {} | {} | {} | {} |",
        below(&bench.data()).0,
        of(Way::Floor),
        of(Way::Visor),
        median(&overheads),
        p95(&overheads),
        of(Way::Copy),
        of(Way::Cosmovisor),
        of(Way::TarGz),
        bytesize::ByteSize(seal_bytes),
        blocks(idle),
        blocks(busy),
        packing.map_or("–".into(), |p| p.0.to_string()),
        packing.map_or("–".into(), |p| p.1.to_string()),
    );
    bench.visor(&["stop"]);
    let found = visor::devnode::check_data(&bench.data()).unwrap();
    assert_eq!(found.mistakes, Vec::<String>::new());
    median(&overheads)
}

/// Small tables in 200 directories, as of a store that has had them for long: what is younger than a minute counts as what has changed.
fn make_tables(dir: &Path, files: usize) {
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    for n in 0..files {
        let dir = dir.join(format!("{:03}", n % 200));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("{n:06}.ldb"));
        fs::write(&path, [b'x'; 1024]).unwrap();
        let file = fs::File::open(&path).unwrap();
        file.set_modified(old).unwrap();
    }
}
