//! `visor devnode`: a small real node for rehearsals, the quickstart and tests.
//!
//! A process of its own with an EVM RPC over HTTP and a data directory whose contents prove themselves:
//!
//! ```text
//!  LOCK            held (flock) while it lives
//!  chain.log       one line a block, each with a CRC over the line before: appended
//!  tables/N.tbl    written once and never changed, contents follow from N; some old ones are deleted
//!  head.map        written through a shared mapping, without msync
//!  signer.json     the signer's watermark, raised before a block is signed
//!  schema          the release that opened the data last
//! ```
//!
//! `visor devnode check DIR` says whether a directory is what a devnode that ended cleanly leaves behind.

mod check;
mod data;
mod rpc;
mod serve;

pub use check::{CheckReport, check_data};
pub use serve::{DevnodeConfig, Fault, run_devnode};
