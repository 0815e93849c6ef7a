//! The data directory: reading it back at a start, and writing a block.

use memmap2::{MmapMut, MmapOptions};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Blocks a table.
pub(super) const TABLE_EVERY: u64 = 16;
pub(super) const TABLE_BYTES: usize = 64 * 1024;
pub(super) const PAGE: usize = 4096;
pub(super) const PAGES: usize = 16;

/// One line of `chain.log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) height: u64,
    pub(super) at: u64,
    pub(super) release: String,
    /// False: taken over from the chain, for this height had been signed before.
    pub(super) signed: bool,
    pub(super) crc: u32,
}

impl Block {
    pub(super) fn new(previous: u32, height: u64, at: u64, release: &str, signed: bool) -> Self {
        let body = Self::body(height, at, release, signed);
        let crc = crc32fast::hash(format!("{previous:08x} {body}").as_bytes());
        Self {
            height,
            at,
            release: release.to_owned(),
            signed,
            crc,
        }
    }

    fn body(height: u64, at: u64, release: &str, signed: bool) -> String {
        format!(
            "{height} {at} {release} {}",
            if signed { "signed" } else { "synced" }
        )
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{} {:08x}\n",
            Self::body(self.height, self.at, &self.release, self.signed),
            self.crc
        )
    }

    pub(super) fn parse(previous: u32, line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let height = words.next()?.parse().ok()?;
        let at = words.next()?.parse().ok()?;
        let release = words.next()?;
        let signed = match words.next()? {
            "signed" => true,
            "synced" => false,
            _ => return None,
        };
        let block = Self::new(previous, height, at, release, signed);
        (words.next() == Some(&format!("{:08x}", block.crc)) && words.next().is_none())
            .then_some(block)
    }
}

/// All whole lines of a log, and the length of the whole part.
pub(super) fn read_log(path: &Path) -> io::Result<(Vec<Block>, u64)> {
    let text = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => vec![],
        other => other?,
    };
    let mut blocks: Vec<Block> = Vec::new();
    let mut whole = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        let Some(text) = line
            .strip_suffix(b"\n")
            .and_then(|l| std::str::from_utf8(l).ok())
        else {
            break;
        };
        let Some(block) = Block::parse(blocks.last().map_or(0, |b| b.crc), text) else {
            break;
        };
        whole += line.len() as u64;
        blocks.push(block);
    }
    Ok((blocks, whole))
}

/// The contents of table `n`, which follow from its number.
pub(super) fn table(n: u64) -> Vec<u8> {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(TABLE_BYTES);
    while out.len() < TABLE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out
}

/// Which tables exist at a height: every fourth is deleted once it is old.
pub(super) fn table_exists(n: u64, height: u64) -> bool {
    let last = height / TABLE_EVERY;
    n >= 1 && n <= last && !(n.is_multiple_of(4) && n + 8 <= last)
}

pub(super) fn table_path(dir: &Path, n: u64) -> PathBuf {
    dir.join("tables").join(format!("{n:06}.tbl"))
}

pub(super) fn read_signer(dir: &Path) -> io::Result<u64> {
    match fs::read_to_string(dir.join("signer.json")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e),
        Ok(text) => serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|v| v.get("height")?.as_u64())
            .ok_or_else(|| io::Error::other("signer.json is not readable")),
    }
}

/// The open data directory of a living devnode.
pub(super) struct Data {
    dir: PathBuf,
    _lock: File,
    log: File,
    map: MmapMut,
    pub(super) last: Option<Block>,
    pub(super) signer: u64,
}

impl Data {
    /// Opens or makes the directory. A torn last line is cut, as after a crash.
    pub(super) fn open(dir: &Path, release: &str, fill: u64) -> io::Result<Self> {
        fs::create_dir_all(dir.join("tables"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("LOCK"))?;
        lock.try_lock()
            .map_err(|_| io::Error::other("another devnode has the data (LOCK)"))?;
        let path = dir.join("chain.log");
        let (blocks, whole) = read_log(&path)?;
        let log = OpenOptions::new().create(true).append(true).open(&path)?;
        log.set_len(whole)?;
        let signer = read_signer(dir)?;
        let last = blocks.last().cloned();
        // Only blocks of its own signature raise the watermark; it can never be behind them.
        let signed = blocks
            .iter()
            .rev()
            .find(|b| b.signed)
            .map_or(0, |b| b.height);
        if signer < signed {
            return Err(io::Error::other(format!(
                "signer state went back: {signer}, and block {signed} is signed"
            )));
        }
        if !dir.join("fill").exists() {
            fs::create_dir_all(dir.join("fill"))?;
            let chunk = 2 * 1024 * 1024;
            for i in 0..fill.div_ceil(chunk) {
                let bytes: Vec<u8> = (0..32)
                    .flat_map(|k| table(1_000_000 + i * 32 + k))
                    .collect();
                fs::write(dir.join("fill").join(format!("{i:06}.bin")), bytes)?;
            }
        }
        let map_path = dir.join("head.map");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(map_path)?;
        file.set_len((PAGE * PAGES) as u64)?;
        #[expect(
            unsafe_code,
            reason = "a mapped file is what this node is there to have; its lock keeps others away"
        )]
        let map = unsafe { MmapOptions::new().map_mut(&file)? };
        replace(&dir.join("schema"), release.as_bytes())?;
        let mut data = Self {
            dir: dir.to_owned(),
            _lock: lock,
            log,
            map,
            last,
            signer,
        };
        if let Some(last) = data.last.clone() {
            data.catch_up(last.height)?;
        }
        Ok(data)
    }

    pub(super) fn height(&self) -> u64 {
        self.last.as_ref().map_or(0, |b| b.height)
    }

    /// One more block; returns whether it was signed.
    pub(super) fn append(&mut self, at: u64, release: &str) -> io::Result<bool> {
        let height = self.height() + 1;
        let signed = height > self.signer;
        if signed {
            self.signer = height;
            replace(
                &self.dir.join("signer.json"),
                format!("{{\"height\":{height}}}").as_bytes(),
            )?;
        }
        let block = Block::new(
            self.last.as_ref().map_or(0, |b| b.crc),
            height,
            at,
            release,
            signed,
        );
        self.log.write_all(block.line().as_bytes())?;
        self.last = Some(block);
        self.catch_up(height)?;
        Ok(signed)
    }

    /// Brings tables and the mapped file to the log's height.
    fn catch_up(&mut self, height: u64) -> io::Result<()> {
        let last_table = height / TABLE_EVERY;
        for n in last_table.saturating_sub(9).max(1)..=last_table {
            let path = table_path(&self.dir, n);
            match (table_exists(n, height), path.exists()) {
                (true, false) => replace(&path, &table(n))?,
                (false, true) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        let page = usize::try_from(height % PAGES as u64).unwrap_or(0) * PAGE;
        self.map[page..page + 8].copy_from_slice(&height.to_le_bytes());
        self.map[8..16].copy_from_slice(&height.to_le_bytes());
        Ok(())
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// The heights that `head.map` holds: the last one, and by page.
pub(super) fn read_map(dir: &Path) -> io::Result<(u64, Vec<u64>)> {
    let bytes = fs::read(dir.join("head.map"))?;
    let at = |i: usize| {
        bytes
            .get(i..i + 8)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    Ok((at(8), (0..PAGES).map(|p| at(p * PAGE)).collect()))
}
