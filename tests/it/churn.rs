//! Copies under churn: a node that writes, files that come, change and go, a visor that dies and comes again, nodes that are killed, disks
//! that are full. What is sealed is what was there at the exit: the data prove it by themselves, and a comparison of all files does.
//!
//! With `VISOR_IT_FULL` thousands of runs, without it some dozens. `VISOR_SEED` repeats a run that failed.
//! `VISOR_KILL_WITHIN` says in how many milliseconds a kill comes (120), for slower machines.

use crate::disks::{Disk, disks};
use crate::env::{Env, Running, Set, is_full, kill};
use crate::work::{Random, Work, assert_pictures, assert_same, map, new_id, picture, record};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use visor::backup::{
    GenState, Precopier, Watch, export, generations, remove, restore, seal, verify,
};
use visor::devnode::{CheckReport, check_data};
use visor::model::{ArchiveFormat, ArchiveSpec, DataSpec, GenId, Method, Rate};

/// Generations of one data directory, one after the other.
const A_LIFE: usize = 5;

/// What has been done, for the line that is printed.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    sealed: usize,
    by_a_later_visor: usize,
    visor_died: usize,
    node_killed: usize,
    full_disks: usize,
    archives: usize,
    restores: usize,
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("VISOR_SEED") {
        Ok(one) => vec![one.parse().unwrap()],
        Err(_) => (1..=count).collect(),
    }
}

/// Runs something with each seed on each disk, the disks beside each other.
fn on_all_disks<T: Send>(
    what: &str,
    count: u64,
    run: impl Fn(&Disk, u64) -> T + Sync,
) -> Vec<(&'static str, Vec<T>)> {
    let disks = disks();
    let seeds = seeds(count);
    let run = &run;
    std::thread::scope(|scope| {
        let threads: Vec<_> = disks
            .iter()
            .map(|disk| {
                let seeds = &seeds;
                let all = scope.spawn(move || {
                    let one = |seed: &u64| {
                        let _said = Said(what, disk.name, *seed);
                        let end = run(disk, *seed);
                        if seed.is_multiple_of(10) {
                            println!("{what} on {}: seeds to {seed} are through", disk.name);
                        }
                        end
                    };
                    seeds.iter().map(one).collect()
                });
                (disk.name, all)
            })
            .collect();
        threads
            .into_iter()
            .map(|(name, thread)| (name, thread.join().unwrap()))
            .collect()
    })
}

/// Names the run that failed.
struct Said<'a>(&'a str, &'static str, u64);

impl Drop for Said<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{} failed on {}: VISOR_SEED={}", self.0, self.1, self.2);
        }
    }
}

/// Other numbers on each disk. The first ones of neighbouring seeds would be alike.
fn random(disk: &Disk, seed: u64) -> Random {
    let spread = |n: u64, b| (n ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    let name = disk.name.bytes().fold(seed, spread);
    let mut random = Random(name | 1);
    for _ in 0..16 {
        let _ = random.below(2);
    }
    random
}

fn spec(path: PathBuf) -> DataSpec {
    let globs = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    DataSpec {
        path,
        exclude: globs(&["LOCK"]),
        keep: globs(&["signer.json"]),
        immutable: globs(&["tables/*.tbl", "churn/*.ldb"]),
        append: globs(&["chain.log", "churn/*.log"]),
    }
}

fn devnode(data: &Path, random: &mut Random) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visor"));
    command.args(["devnode", "--start-ms", "0", "--stop-ms", "0", "--block-ms"]);
    command.arg((1 + random.below(4)).to_string());
    command.arg("--data").arg(data);
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let node = Running(command.spawn().unwrap());
    let began = Instant::now();
    while !data.join("chain.log").is_file() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the node has no data"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    node
}

/// What the data say of themselves; where the disk was full, a node may not have come to its data.
fn said(data: &Path) -> Result<CheckReport, std::io::ErrorKind> {
    let mut report = check_data(data).map_err(|e| e.kind())?;
    // It is carried over, not copied.
    report.signer = None;
    Ok(report)
}

/// Files beside the node's that change in every way a file can, until it is told to stop. Where the disk is full, nothing comes of it.
fn churn(dir: &Path, maps: bool, mut random: Random, stop: &AtomicBool) {
    let _ = fs::create_dir_all(dir);
    let mut mapped = None;
    while !stop.load(Ordering::Relaxed) {
        let n = random.below(12);
        let name = |kind: &str| dir.join(format!("{n}.{kind}"));
        let bytes = vec![
            u8::try_from(random.below(250)).unwrap();
            usize::try_from(random.below(90_000)).unwrap()
        ];
        let write = |path: &Path| fs::OpenOptions::new().write(true).open(path);
        let _ =
            match random.below(16) {
                0 | 1 => fs::write(name("dat"), &bytes),
                2 => fs::remove_file(name("dat")),
                // Immutable ones come under another name and get theirs when they are whole; names come again.
                3 | 4 => fs::write(name("tmp"), &bytes)
                    .and_then(|()| fs::rename(name("tmp"), name("ldb"))),
                5 => fs::remove_file(name("ldb")),
                6 | 7 => fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(name("log"))
                    .and_then(|mut f| f.write_all(&bytes)),
                8 => write(&name("log")).and_then(|f| f.set_len(random.below(50_000))),
                9 => write(&name("dat"))
                    .and_then(|f| f.write_all_at(b"in place", random.below(20_000))),
                10 => fs::create_dir_all(name("dir").join("deep"))
                    .and_then(|()| fs::write(name("dir").join("deep/file"), &bytes)),
                11 => fs::remove_dir_all(name("dir")),
                12 => fs::rename(name("dat"), name("dir"))
                    .or_else(|_| fs::rename(name("dir"), dir.join("moved.dir"))),
                // Two directories exchange names; files in them have a second name.
                13 if n < 4 => {
                    let (a, b) = (dir.join("a"), dir.join("b"));
                    let again = dir.join(format!("x{n}"));
                    fs::create_dir_all(&a)
                        .and_then(|()| fs::create_dir_all(&b))
                        .and_then(|()| fs::write(a.join("x"), &bytes))
                        .and_then(|()| fs::hard_link(a.join("x"), &again))
                        .or_else(|_| fs::remove_file(&again))
                        .and_then(|()| {
                            let flags = rustix::fs::RenameFlags::EXCHANGE;
                            let cwd = rustix::fs::CWD;
                            Ok(rustix::fs::renameat_with(cwd, &a, cwd, &b, flags)?)
                        })
                }
                13 => fs::hard_link(name("dat"), name("again"))
                    .or_else(|_| fs::remove_file(name("again"))),
                14 => {
                    let mode = 0o600 + u32::try_from(random.below(8)).unwrap();
                    fs::set_permissions(name("dat"), fs::Permissions::from_mode(mode))
                }
                _ => std::os::unix::fs::symlink("anywhere", name("link"))
                    .or_else(|_| fs::remove_file(name("link"))),
            };
        // A store into a page whose disk space is not there ends the process that makes it, so it is laid down first.
        if maps && mapped.is_none() && fs::write(dir.join("mapped"), vec![1; 32 * 1024]).is_ok() {
            mapped = Some(map(&dir.join("mapped")));
            let _ = fs::hard_link(dir.join("mapped"), dir.join("mapped.again"));
        }
        if let Some(mapped) = &mut mapped {
            let at = usize::try_from(random.below(32 * 1024)).unwrap();
            mapped[at] = mapped[at].wrapping_add(1);
        }
        std::thread::sleep(Duration::from_micros(random.below(800)));
    }
}

/// Whatever happens, whoever waits for it is told.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file that takes what a disk has left, but for so many bytes.
struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    fn new(disk: &Path, but: u64) -> Self {
        let path = disk.join("ballast");
        let file = fs::File::create(&path).unwrap();
        let stat = rustix::fs::statvfs(disk).unwrap();
        let free = (stat.f_bavail * stat.f_frsize).saturating_sub(but);
        let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free.max(1));
        let bytes = file.metadata().unwrap().len();
        Self { path, bytes }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // A node of another thread that is just about to be executed has all files of this process open for so long.
        let began = Instant::now();
        let is_free = || {
            let stat = rustix::fs::statvfs(self.path.parent().unwrap());
            stat.is_ok_and(|s| s.f_bavail * s.f_frsize >= self.bytes / 2)
        };
        while !is_free() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Life<'a> {
    disk: &'a Disk,
    work: Work,
    random: Random,
    counts: Counts,
    last: Option<GenId>,
    /// The disk was full since this generation was begun: only then may anything fail.
    was_full: bool,
}

impl Life<'_> {
    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn rest(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_micros(self.random.below(ms * 1000)));
    }

    fn start(&self, generation: GenId) -> Option<Precopier> {
        let before = self.last.map(|g| self.work.paths(g));
        let paths = self.work.paths(generation);
        let started = Precopier::start(
            &paths,
            &record(),
            &self.work.data,
            &self.work.backup,
            before.as_ref(),
        );
        // On a disk that is full, not even the beginning may be there.
        assert!(started.is_ok() || self.was_full, "{:?}", started.err());
        started.ok()
    }

    /// The disk of the tests' own cannot be filled up.
    fn ballast(&mut self, but: u64) -> Option<Ballast> {
        let can = self.disk.name != "own" && self.chance(4);
        self.was_full |= can;
        can.then(|| {
            self.counts.full_disks += 1;
            Ballast::new(&self.disk.dir, but)
        })
    }

    /// One generation, from the first byte to the last proof.
    fn one(&mut self) {
        let generation = new_id();
        self.was_full = false;
        let mut node = devnode(&self.work.data.path, &mut self.random);
        self.work.backup.rate = match self.random.below(3) {
            0 => Rate::Auto,
            1 => Rate::Unlimited,
            _ => Rate::Fixed(1 << (20 + self.random.below(6))),
        };
        let plain = self.chance(3) && !self.disk.only_snapshots();
        self.work.backup.method = plain.then_some(Method::Copy);
        let stop = AtomicBool::new(false);
        let seed = self.random.below(u64::MAX);
        let dir = self.work.at("churn");
        // And where files share their blocks with a copy, each store may want space.
        let shares = matches!(self.disk.name, "xfs" | "btrfs") || self.disk.only_snapshots();
        let maps = !shares;
        let rounds = std::thread::scope(|scope| {
            let _ends = Ends(&stop);
            scope.spawn(|| churn(&dir, maps, Random(seed | 1), &stop));
            let mut rounds = self.start(generation);
            for _ in 0..self.random.below(4) {
                self.rest(20);
                if self.chance(2) {
                    drop(rounds.take());
                    self.counts.visor_died += 1;
                    rounds = self.start(generation);
                }
                let room = self.random.below(3 << 20);
                let _full = self.ballast(room);
                self.rest(20);
            }
            let signal = if self.chance(2) { "KILL" } else { "TERM" };
            self.counts.node_killed += usize::from(signal == "KILL");
            kill(node.pid(), signal);
            let _ = node.0.wait();
            stop.store(true, Ordering::Relaxed);
            rounds
        });
        let what = format!("{} {generation}", self.disk.name);
        self.seal(generation, rounds);
        let (data, sealed) = (&self.work.data.path, self.work.sealed(generation));
        assert_same(&sealed, data, &what);
        assert_eq!(said(&sealed), said(data), "{what}");
        self.counts.sealed += 1;
        let watch = Watch {
            pace: &|_| Ok(()),
            progress: &|_, _| {},
        };
        let is_tmpfs = self.disk.name == "tmpfs";
        let verdict = verify(&self.work.paths(generation), !is_tmpfs, &watch).unwrap();
        assert_eq!(verdict.bad, Vec::<String>::new(), "{what}");
        if self.chance(4) {
            self.archive(generation);
        }
        if let Some(before) = self.last.replace(generation) {
            remove(&self.work.layout, &self.work.paths(before).done).unwrap();
        }
        if self.chance(4) {
            self.restore(generation);
        }
    }

    /// Seals what the rounds have made, by the visor that made them or by one that comes after it.
    fn seal(&mut self, generation: GenId, rounds: Option<Precopier>) {
        let paths = self.work.paths(generation);
        let room = self.random.below(64 << 10);
        let full = self.ballast(room);
        let mut ready = None;
        if let Some(mut rounds) = rounds
            && !self.chance(3)
        {
            let ended = match self.chance(4) {
                true => rounds.cut(),
                false => rounds.end(&|| false),
            };
            match ended {
                Ok(()) => ready = rounds.into_ready(),
                Err(error) => assert!(self.was_full, "{error}"),
            }
        }
        let look = self.work.at_rest();
        if ready.is_some() {
            match seal(&paths, &self.work.data, ready, look) {
                Ok(_) => return,
                Err(error) => assert!(self.was_full, "{error}"),
            }
        }
        let listed = generations(&self.work.layout);
        let states = listed
            .iter()
            .filter(|g| g.id() == generation)
            .map(|g| g.state);
        assert!(
            states.into_iter().all(|s| s == GenState::Part),
            "half of a copy is listed as one"
        );
        drop(full);
        // The next visor goes on with what is written down, or begins anew.
        if paths.part.join("baseline").is_file() {
            seal(&paths, &self.work.data, None, look).unwrap();
            self.counts.by_a_later_visor += 1;
        } else {
            let mut again = self.start(generation).unwrap();
            again.end(&|| false).unwrap();
            seal(&paths, &self.work.data, again.into_ready(), look).unwrap();
        }
    }

    fn archive(&mut self, generation: GenId) {
        self.counts.archives += 1;
        let format = match self.random.below(3) {
            0 => ArchiveFormat::Tar,
            1 => ArchiveFormat::TarGz,
            _ => ArchiveFormat::TarZst,
        };
        let how = ArchiveSpec {
            format,
            level: 1,
            to: None,
            recipients: vec![],
        };
        let file = self
            .work
            .layout
            .root
            .join(format!("copy.{}", format.ending()));
        let paths = self.work.paths(generation);
        let _ = export(&paths, &file, &how, &|_| Ok(())).unwrap();
        let taken = self.work.import(&file).unwrap();
        assert_same(
            &self.work.sealed(taken),
            &self.work.data.path,
            "from the archive",
        );
        remove(&self.work.layout, &self.work.paths(taken).done).unwrap();
        fs::remove_file(file).unwrap();
    }

    /// The node writes on, and what was sealed is put back.
    fn restore(&mut self, generation: GenId) {
        self.counts.restores += 1;
        let paths = self.work.paths(generation);
        let was = picture(&self.work.sealed(generation));
        let mut node = devnode(&self.work.data.path, &mut self.random);
        self.rest(20);
        kill(node.pid(), "TERM");
        let _ = node.0.wait();
        let left = picture(&self.work.data.path);
        restore(&paths, &self.work.data).unwrap();
        assert_pictures(&picture(&self.work.data.path), &was, "restored");
        assert_pictures(&picture(&paths.aside.join("tree")), &left, "set aside");
        remove(&self.work.layout, &paths.aside).unwrap();
        self.last = None;
    }
}

fn live(disk: &Disk, seed: u64) -> Counts {
    let place = tempfile::tempdir_in(&disk.dir).unwrap();
    disk.make_data(&place.path().join("data"));
    let mut work = Work::new(place.path());
    work.data = spec(work.data.path.clone());
    let mut random = random(disk, seed);
    // Given up in time, or at a write that fails.
    work.backup.reserve = if random.below(2) == 0 { 8 << 20 } else { 1 };
    let mut life = Life {
        disk,
        work,
        random,
        counts: Counts::default(),
        last: None,
        was_full: false,
    };
    for _ in 0..A_LIFE {
        life.one();
    }
    if let Some(last) = life.last {
        remove(&life.work.layout, &life.work.paths(last).done).unwrap();
    }
    assert_eq!(disk.copies_elsewhere(), Vec::<PathBuf>::new());
    life.counts
}

#[test]
fn what_is_sealed_is_what_was_there_whatever_happened_meanwhile() {
    let lives = if is_full() { 100 } else { 2 };
    for (disk, counts) in on_all_disks("lives", lives, live) {
        let lives = counts.len();
        let sum = |of: fn(&Counts) -> usize| counts.iter().map(of).sum::<usize>();
        println!(
            "{disk}, {lives} lives (VISOR_IT_FULL=1: 100, seeds 1 to 100): {} copies sealed and proved, {} of them by a later visor; visor died {} times, the node was \
             killed {} times, the disk was full {} times; {} archives and {} restores",
            sum(|c| c.sealed),
            sum(|c| c.by_a_later_visor),
            sum(|c| c.visor_died),
            sum(|c| c.node_killed),
            sum(|c| c.full_disks),
            sum(|c| c.archives),
            sum(|c| c.restores),
        );
    }
}

/// Kills `visor backup` at a random time, again and again, until it has done its work; how often it was killed.
fn until_done(env: &Env, args: &[&str], random: &mut Random) -> (usize, String) {
    let within = std::env::var("VISOR_KILL_WITHIN").map_or(120, |ms| ms.parse().unwrap());
    for kills in 0.. {
        let mut command = env.command(args);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if kills < 6 {
            let pid = i32::try_from(child.id()).unwrap();
            std::thread::sleep(Duration::from_millis(random.below(within)));
            kill(pid, "KILL");
        }
        let out = child.wait_with_output().unwrap();
        if out.status.code().is_some() {
            let said = String::from_utf8_lossy(&out.stderr);
            // The one before was killed when it had done all.
            let is_done = kills > 0 && said.contains("has been restored already");
            assert!(out.status.success() || is_done, "{said}");
            return (kills, String::from_utf8(out.stdout).unwrap());
        }
    }
    unreachable!("the seventh is not killed")
}

/// One node: copied, further, put back, and killed all the while.
fn killed(disk: &Disk, seed: u64) -> usize {
    let env = Env::on(&disk.dir);
    disk.make_data(&env.data());
    env.write_set(&Set {
        upgrades: vec![],
        args_extra: ["--block-ms", "2", "--fill", "3000000"]
            .map(str::to_owned)
            .into(),
        more: "[backup.own]\nreserve = \"1MiB\"\n".into(),
        ..Set::default()
    });
    let mut random = random(disk, seed);
    let first: &[&str] = match fs::read_dir(env.data()).is_ok_and(|mut d| d.next().is_some()) {
        // Whose data they are is said, not guessed.
        true => &["start", "--release", "genesis"],
        false => &["reconcile"],
    };
    env.visor(first).expect(0);
    env.eventually("blocks", || env.height().is_some_and(|h| h > 20));
    // Of a running node first: whatever is left of it must not be in the way.
    let create = ["backup", "create", "--policy", "own"];
    let (mut kills, _) = until_done(&env, &create, &mut random);
    let _ = env.stop_and_check();
    let was = said(&env.data()).unwrap();
    let (more, made) = until_done(&env, &create, &mut random);
    kills += more;
    let generation = made.lines().next().unwrap().to_owned();
    for found in generations(&visor::store::Layout::new(&env.root())) {
        if matches!(found.state, GenState::Sealed | GenState::Verified)
            && !found.is_of_a_running_node()
        {
            assert_eq!(
                said(&found.paths.done.join("tree")).unwrap(),
                was,
                "what is listed as good is"
            );
        }
    }
    env.visor(&["start"]).expect(0);
    env.eventually("more blocks", || {
        env.height().is_some_and(|h| h > was.height + 10)
    });
    let later = env.stop_and_check();
    let (more, _) = until_done(&env, &["backup", "restore", &generation], &mut random);
    let now = check_data(&env.data()).unwrap();
    assert_eq!(now.height, was.height);
    assert_eq!(
        now.signer, later.signer,
        "the signer's mark is never lowered"
    );
    let aside = env.root().join("failed").join(&generation).join("tree");
    assert_eq!(said(&aside).unwrap().height, later.height);
    env.visor(&["start"]).expect(0);
    env.eventually("it goes on", || {
        env.height().is_some_and(|h| h > was.height)
    });
    let _ = env.stop_and_check();
    kills + more
}

#[test]
fn copies_and_restores_that_are_killed_end_whole() {
    let count = if is_full() { 40 } else { 1 };
    for (disk, kills) in on_all_disks("kills", count, killed) {
        println!(
            "{disk}: {} nodes copied and put back, {} kills (VISOR_IT_FULL=1: 40 nodes)",
            kills.len(),
            kills.iter().sum::<usize>()
        );
    }
}
