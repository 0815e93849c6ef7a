//! Does a data directory prove itself? Used on live data after a stop, and on what a backup holds.

use super::data::{
    PAGES, TABLE_EVERY, read_log, read_map, read_signer, table, table_exists, table_path,
};
use serde::Serialize;
use std::fs;
use std::io;
use std::path::Path;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub height: u64,
    pub tables: u64,
    /// The signer's watermark; none where `keep` left it out of a copy.
    pub signer: Option<u64>,
    pub schema: String,
    pub mistakes: Vec<String>,
}

/// Checks a directory whose devnode has ended cleanly.
pub fn check_data(dir: &Path) -> io::Result<CheckReport> {
    let mut mistakes = Vec::new();
    let path = dir.join("chain.log");
    let len = fs::metadata(&path)?.len();
    let (blocks, whole) = read_log(&path)?;
    if whole != len {
        mistakes.push(format!(
            "chain.log: byte {whole} of {len} is not part of the chain"
        ));
    }
    for (i, block) in blocks.iter().enumerate() {
        if block.height != i as u64 + 1 {
            mistakes.push(format!(
                "chain.log: line {} has height {}",
                i + 1,
                block.height
            ));
            break;
        }
    }
    let height = blocks.last().map_or(0, |b| b.height);
    let mut tables = 0;
    for n in 1..=height / TABLE_EVERY + 1 {
        let path = table_path(dir, n);
        match (table_exists(n, height), fs::read(&path)) {
            (true, Ok(bytes)) if bytes == table(n) => tables += 1,
            (true, Ok(_)) => mistakes.push(format!("table {n} has other contents")),
            (true, Err(error)) => mistakes.push(format!("table {n} is missing: {error}")),
            (false, Ok(_)) => {
                mistakes.push(format!("table {n} should not be there at height {height}"))
            }
            (false, Err(_)) => {}
        }
    }
    let (last, pages) = read_map(dir)?;
    if last != height {
        mistakes.push(format!("head.map is at height {last}, the log at {height}"));
    }
    for (page, found) in pages.iter().enumerate() {
        let want = (0..PAGES as u64)
            .map(|back| height.saturating_sub(back))
            .find(|h| h % PAGES as u64 == page as u64)
            .unwrap_or(0);
        if height >= PAGES as u64 && *found != want {
            mistakes.push(format!(
                "head.map: page {page} holds {found}, the log says {want}"
            ));
        }
    }
    let signer = if dir.join("signer.json").exists() {
        Some(read_signer(dir)?)
    } else {
        None
    };
    let signed = blocks
        .iter()
        .rev()
        .find(|b| b.signed)
        .map_or(0, |b| b.height);
    if signer.is_some_and(|s| s < signed) {
        mistakes.push(format!(
            "the signer's watermark is {}, block {signed} is signed",
            signer.unwrap_or(0)
        ));
    }
    let schema = fs::read_to_string(dir.join("schema"))?;
    Ok(CheckReport {
        height,
        tables,
        signer,
        schema,
        mistakes,
    })
}
