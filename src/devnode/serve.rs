//! The life of a devnode: open, start, make blocks, end on TERM.

use super::data::Data;
use super::rpc::{Head, serve};
use crate::host::wall_clock;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A way in which a release can be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Ends right after it has opened the data.
    Exit,
    /// Lives and never answers.
    Silent,
    /// Answers, and makes no blocks.
    Stall,
    /// Never answers and takes no notice of TERM.
    IgnoreTerm,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevnodeConfig {
    pub data: PathBuf,
    /// No RPC without a port.
    pub port: Option<u16>,
    pub release: String,
    pub block: Duration,
    pub start: Duration,
    pub stop: Duration,
    pub fault: Option<Fault>,
    /// Bytes of data laid down at the first start.
    pub fill: u64,
    /// Each signed height is appended here, outside the data: a height that stands twice was signed twice.
    pub signed_log: Option<PathBuf>,
    pub faults: Option<PathBuf>,
    /// Each block is a line of the log, so that a lost one shows.
    pub say_blocks: bool,
}

/// A line of the log. A disk that is full ends no node.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Runs until TERM or INT.
pub fn run_devnode(config: &DevnodeConfig) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let mut data = Data::open(&config.data, &config.release, config.fill)?;
    say(format_args!(
        "devnode {} opens {} at height {}",
        config.release,
        config.data.display(),
        data.height()
    ));
    if config.fault == Some(Fault::Exit) {
        return Err(io::Error::other("this release is bad: it ends at once"));
    }
    std::thread::sleep(config.start);
    let mut signed_log = match &config.signed_log {
        Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
        None => None,
    };
    let head = Arc::new(Head {
        release: config.release.clone(),
        faults: config.faults.clone(),
        block_ms: u64::try_from(config.block.as_millis()).unwrap_or(u64::MAX),
        ..Head::default()
    });
    let tell = |data: &Data| {
        head.at.store(
            data.last.as_ref().map_or_else(wall_clock, |b| b.at),
            Ordering::Release,
        );
        head.height.store(data.height(), Ordering::Release);
    };
    let mute = matches!(config.fault, Some(Fault::Silent | Fault::IgnoreTerm));
    let still = mute || config.fault == Some(Fault::Stall);
    // The first block comes before the first answer: a head that is old would say nothing of this release.
    let mut next = Instant::now();
    let mut serving = mute;
    loop {
        let over = ended.load(Ordering::Relaxed) && config.fault != Some(Fault::IgnoreTerm);
        if over {
            break;
        }
        if Instant::now() >= next {
            next += config.block;
            if !still {
                let signed = data.append(wall_clock(), &config.release)?;
                if config.say_blocks {
                    say(format_args!("block {}", data.height()));
                }
                if let Some(log) = signed_log.as_mut().filter(|_| signed) {
                    log.write_all(format!("{} {}\n", data.height(), config.release).as_bytes())?;
                }
            }
            tell(&data);
            if let (false, Some(port)) = (serving, config.port) {
                serve(
                    SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    Arc::clone(&head),
                )?;
                say(format_args!(
                    "devnode {} answers on port {port} at height {}",
                    config.release,
                    data.height()
                ));
                serving = true;
            }
        }
        std::thread::sleep(
            next.saturating_duration_since(Instant::now())
                .min(Duration::from_millis(5)),
        );
    }
    std::thread::sleep(config.stop);
    say(format_args!(
        "devnode {} ends at height {}",
        config.release,
        data.height()
    ));
    Ok(())
}
