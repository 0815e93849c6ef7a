//! The node that is measured, on data that stay the same from round to round, and the ways to upgrade it.

use crate::figures::median;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use visor::agent::{Wish, start_node, stop_node};
use visor::host::{Ambient, Baton, RealHost};
use visor::journal::{Event, Record};
use visor::model::sha256_hex;
use visor::plan::Plan;
use visor::rehearse::Probe;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Floor,
    Visor,
    Copy,
    TarGz,
    Cosmovisor,
}

pub(crate) struct Bench<'a> {
    dir: &'a Path,
    port: u16,
    fill: u64,
}

/// A release that ends at once, so that it is rolled back.
const BAD: &str = " --fault exit";

impl<'a> Bench<'a> {
    pub(crate) fn new(dir: &'a Path, fill: u64) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let bench = Self { dir, port, fill };
        fs::create_dir_all(dir.join("set")).unwrap();
        fs::create_dir_all(dir.join("home")).unwrap();
        bench.write_set(0, "");
        bench
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("home/data")
    }

    fn args(&self, data: &Path) -> Vec<String> {
        let (port, fill) = (self.port.to_string(), self.fill.to_string());
        let data = data.display().to_string();
        [
            "--data",
            &data,
            "--port",
            &port,
            "--block-ms",
            "20",
            "--start-ms",
            "200",
            "--stop-ms",
            "100",
            "--fill",
            &fill,
        ]
        .map(str::to_owned)
        .into()
    }

    /// A set whose last upgrade is number `n`, due at once.
    fn write_set(&self, n: usize, fault: &str) {
        let home = self.dir.join("home");
        let mut text = format!(
            "visor = 1\n[node.b]\nbinary = \"demod\"\nhome = \"{}\"\nargs = {:?}\n\
             data = {{ path = \"data\", exclude = [\"LOCK\"], keep = [\"signer.json\"], immutable = [\"tables/*\", \"fill/*\", \"many/**\"], append = [\"chain.log\"] }}\n\
             chain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:{}\" }}\ngenesis = \"r0\"\n[backup.one]\nkeep = {{ last = 1 }}\n\
             [backup.plain]\nmethod = \"copy\"\n",
            home.display(),
            self.args(&self.data()),
            self.port
        );
        for i in if n == 0 { vec![0] } else { vec![0, n] } {
            let fault = if i == n { fault } else { "" };
            let script =
                format!("#!/bin/sh\nexec \"$VISOR_EXE\" devnode --release r{i}{fault} \"$@\"\n");
            fs::write(self.dir.join(format!("set/r{i}")), &script).unwrap();
            text.push_str(&format!(
                "[artifact.r{i}]\n[[artifact.r{i}.file]]\nurls = [\"r{i}\"]\nsha256 = \"{}\"\n",
                sha256_hex(script.as_bytes())
            ));
        }
        if n > 0 {
            text.push_str(&format!(
                "[upgrade.r{n}]\ntrigger = {{ height = {n} }}\nartifact = \"r{n}\"\nbackup = \"one\"\nhealth = {{ within = \"20s\", blocks = 3, alive = \"100ms\" }}\n"
            ));
        }
        fs::write(self.dir.join("set/set.toml"), text).unwrap();
    }

    pub(crate) fn visor(&self, args: &[&str]) -> String {
        self.visor_ends(args, 0)
    }

    fn visor_ends(&self, args: &[&str], code: i32) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visor"));
        command
            .args(args)
            .arg("--manifests")
            .arg(self.dir.join("set"));
        let out = command.stdin(Stdio::null()).output().unwrap();
        assert!(
            out.status.code() == Some(code),
            "visor {args:?}: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn host(&self) -> (Wish, RealHost) {
        let wish = Wish::read(&self.dir.join("set"), None).unwrap();
        let env = [
            (
                "VISOR_EXE".to_owned(),
                env!("CARGO_BIN_EXE_visor").to_owned(),
            ),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
        ];
        let ambient = Ambient {
            env: env.into(),
            ..Ambient::default()
        };
        let host = RealHost::new(&wish.node.spec, ambient, Baton::default());
        (wish, host)
    }

    /// One outage, in milliseconds.
    pub(crate) fn once(&self, way: Way, n: usize) -> u64 {
        let (wish, host) = self.host();
        if way == Way::Cosmovisor {
            return self.cosmovisor(&wish, &host, n);
        }
        rustix::fs::sync();
        let probe = Probe::start(&wish.node.spec.chain).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        match way {
            Way::Visor => {
                self.write_set(n, "");
                self.visor(&["reconcile", "--wait"]);
            }
            _ => {
                stop_node(&wish.node, &host).unwrap().unwrap();
                let data = &wish.node.spec.data.path;
                match way {
                    Way::Copy => copy_tree(data, &self.dir.join("copy")),
                    Way::TarGz => pack(data, &self.dir.join("copy.tar.gz")),
                    _ => {}
                }
                start_node(&wish.node, &host).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        let outage = longest(probe);
        let _ = fs::remove_dir_all(self.dir.join("copy"));
        let _ = fs::remove_file(self.dir.join("copy.tar.gz"));
        if way == Way::Visor {
            self.sealed_is_the_exit(n);
        }
        outage
    }

    /// The same node under the peer that `COSMOVISOR_BIN` names, which is asked for an upgrade as a chain asks for it.
    fn cosmovisor(&self, wish: &Wish, host: &RealHost, n: usize) -> u64 {
        stop_node(&wish.node, host).unwrap().unwrap();
        // In a home of its own: visor refuses one that another tool keeps too.
        let home = self.dir.join("peer");
        fs::create_dir_all(&home).unwrap();
        let data = home.join("data");
        fs::rename(self.data(), &data).unwrap();
        for (place, name) in [
            ("genesis", "r0"),
            (&format!("upgrades/p{n}"), &format!("p{n}")),
        ] {
            let bin = home.join("cosmovisor").join(place).join("bin");
            fs::create_dir_all(&bin).unwrap();
            let exe = env!("CARGO_BIN_EXE_visor");
            let script = format!(
                "#!/bin/sh\n[ \"$1\" = pre-upgrade ] && exit 1\nexec {exe} devnode --release {name} \"$@\"\n"
            );
            fs::write(bin.join("demod"), script).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(bin.join("demod"), mode).unwrap();
        }
        let _ = fs::remove_file(home.join("cosmovisor/current"));
        symlink("genesis", home.join("cosmovisor/current")).unwrap();
        let copies = self.dir.join("peer-copies");
        fs::create_dir_all(&copies).unwrap();
        rustix::fs::sync();
        let log = fs::File::create(self.dir.join("peer.log")).unwrap();
        let peer = Command::new(std::env::var_os("COSMOVISOR_BIN").unwrap())
            .arg("run")
            .args(self.args(&data))
            .envs([("DAEMON_NAME", "demod"), ("DAEMON_POLL_INTERVAL", "300ms")])
            .envs([
                ("DAEMON_RESTART_AFTER_UPGRADE", "true"),
                ("DAEMON_SHUTDOWN_GRACE", "20s"),
            ])
            .env("DAEMON_HOME", &home)
            .env("DAEMON_DATA_BACKUP_DIR", &copies)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut peer = Peer(peer);
        let probe = Probe::start(&wish.node.spec.chain).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let info = format!("{{\"name\":\"p{n}\",\"height\":1,\"info\":\"\"}}");
        fs::write(data.join("upgrade-info.json"), info).unwrap();
        let began = Instant::now();
        let last = || blocks(&data).pop().map_or(String::new(), |b| b.release);
        while last() != format!("p{n}") {
            assert!(
                began.elapsed() < Duration::from_secs(600),
                "{}",
                self.dir.join("peer.log").display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        let outage = longest(probe);
        peer.end();
        fs::remove_file(data.join("upgrade-info.json")).unwrap();
        let _ = fs::remove_dir_all(copies);
        fs::rename(data, self.data()).unwrap();
        start_node(&wish.node, host).unwrap();
        outage
    }

    /// What the last upgrade sealed is what the release before left.
    fn sealed_is_the_exit(&self, n: usize) {
        let sealed = self.newest("backups/gen").join("tree");
        let sealed = visor::devnode::check_data(&sealed).unwrap();
        assert_eq!(sealed.mistakes, Vec::<String>::new());
        let of_before = self
            .blocks()
            .into_iter()
            .filter(|b| b.release != format!("r{n}"));
        assert_eq!(Some(sealed.height), of_before.map(|b| b.height).max());
    }

    fn blocks(&self) -> Vec<Block> {
        blocks(&self.data())
    }

    /// Median, p99 and longest time between two blocks while something is done, in milliseconds.
    pub(crate) fn intervals(&self, work: impl FnOnce()) -> (u64, u64, u64) {
        let from = visor::host::wall_clock();
        work();
        let to = visor::host::wall_clock();
        let within = self
            .blocks()
            .into_iter()
            .filter(|b| (from..to).contains(&b.at));
        let at: Vec<u64> = within.map(|b| b.at).collect();
        let mut between: Vec<u64> = at.windows(2).map(|p| p[1] - p[0]).collect();
        between.sort_unstable();
        let p99 = between[(between.len() * 99).div_ceil(100).max(1) - 1];
        (median(&between), p99, *between.last().unwrap())
    }

    /// An upgrade to a release that ends at once: how long the way back took, from the decision to the start of the old release, in
    /// milliseconds.
    pub(crate) fn roll_back(&self, n: usize) -> u64 {
        self.write_set(n, BAD);
        self.visor_ends(&["reconcile", "--wait"], 5);
        let records = self.last_records();
        let plan =
            Plan::read(&fs::read(self.newest("state/journal").join("plan.json")).unwrap()).unwrap();
        let starts_old = |id| plan.step(id).is_some_and(|s| s.kind.word() == "start-old");
        let mut failed = None;
        let mut started = None;
        for record in &records {
            match &record.event {
                Event::Failed { .. } => failed = Some(record.at),
                Event::Ended { step, facts, .. } if starts_old(step) => {
                    started = Some(facts.get("ended").copied().unwrap_or(record.at));
                }
                _ => {}
            }
        }
        let failed: u64 = failed.unwrap();
        started.unwrap().saturating_sub(failed)
    }

    /// What is named by the newest id in a directory of the root.
    fn newest(&self, of: &str) -> PathBuf {
        let all = fs::read_dir(self.dir.join("home/visor").join(of)).unwrap();
        all.map(|e| e.unwrap().path()).max().unwrap()
    }

    fn last_records(&self) -> Vec<Record> {
        let bytes = fs::read(self.newest("state/journal").join("journal.jsonl")).unwrap();
        visor::journal::decode(&bytes).unwrap().0
    }

    /// What the last final pass had to do: files, bytes, syncs.
    pub(crate) fn last_seal(&self) -> (u64, u64, u64) {
        let fact =
            |facts: &BTreeMap<String, u64>, name: &str| facts.get(name).copied().unwrap_or(0);
        let records = self.last_records();
        let mut ends = records.iter().filter_map(|r| match &r.event {
            Event::Ended { facts, .. } if facts.contains_key("syncs") => Some(facts),
            _ => None,
        });
        ends.next().map_or((0, 0, 0), |facts| {
            (
                fact(facts, "files"),
                fact(facts, "bytes"),
                fact(facts, "syncs"),
            )
        })
    }

    /// Bytes a second of packing the newest generation, by visor and by `tar | zstd -T2`, at the same level.
    pub(crate) fn packing(&self, rounds: usize) -> Option<(f64, f64)> {
        let to = self.dir.join("packed.tar.zst");
        let newest = self.newest("backups/gen");
        let bytes = below(&newest.join("tree")).1 as f64;
        let (mut own, mut peer) = (Vec::new(), Vec::new());
        // As many threads as visor takes.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        for round in 0..rounds.min(3) * 2 {
            rustix::fs::sync();
            let began = Instant::now();
            if (round + round / 2) % 2 == 1 {
                self.visor(&[
                    "backup",
                    "export",
                    "latest",
                    to.to_str().unwrap(),
                    "--level",
                    "3",
                ]);
                own.push(began.elapsed().as_millis().try_into().unwrap());
            } else {
                let line =
                    "set -e; tar -C \"$1\" -cf - . | zstd -q -3 -T\"$3\" -o \"$2\"; sync \"$2\"";
                let mut command = Command::new("sh");
                command
                    .args(["-c", line, "sh"])
                    .arg(newest.join("tree"))
                    .arg(&to)
                    .arg(threads.to_string());
                if !command.status().is_ok_and(|s| s.success()) {
                    println!("skipped: `tar | zstd -T2` does not work here");
                    return None;
                }
                peer.push(began.elapsed().as_millis().try_into().unwrap());
            }
            fs::remove_file(&to).unwrap();
        }
        let rate = |ms: &[u64]| bytes / 1e3 / median(ms).max(1) as f64;
        Some((rate(&own), rate(&peer)))
    }
}

fn blocks(data: &Path) -> Vec<Block> {
    let text = fs::read_to_string(data.join("chain.log")).unwrap();
    let block = |line: &str| {
        let mut words = line.split(' ');
        Some(Block {
            height: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
            release: words.next()?.to_owned(),
        })
    };
    text.lines().filter_map(block).collect()
}

/// A peer that is ended with its node, also when something is wrong.
struct Peer(Child);

impl Peer {
    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

struct Block {
    height: u64,
    at: u64,
    release: String,
}

fn longest(probe: Probe) -> u64 {
    let silences = probe.end(Duration::from_millis(50));
    let all = silences.iter().map(|s| s.ms);
    all.max().unwrap_or_else(|| panic!("no silence was seen"))
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

/// Files below a directory, and their bytes.
pub(crate) fn below(dir: &Path) -> (usize, u64) {
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let each = all.map(|e| match e.path().is_dir() {
        true => below(&e.path()),
        false => (1, e.metadata().unwrap().len()),
    });
    each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}
