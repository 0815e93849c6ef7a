//! The journal of a run: what was intended and what happened, one record a line.
//!
//! Owns the format and the legal order of records. Never touches a file; `store/` does.
//!
//! ```text
//! {"crc":"e31f0c52","seq":0,"at":1790000000000,"event":{"opened":{"version":1,"plan":"9f…","generation":"01J…"}}}
//! {"crc":"0b7d9a41","seq":1,"at":1790000000004,"event":{"began":{"step":"5c1e…","attempt":1}}}
//! {"crc":"77c0d1ee","seq":2,"at":1790000000950,"event":{"ended":{"step":"5c1e…","began":1790000000004,"facts":{}}}}
//! ```
//!
//! `crc` is the CRC-32 of everything after its comma. A torn last line is cut off; a bad line elsewhere is an error.
//! Readers ignore fields they do not know; a header with a newer `version` is read but never written to.

mod record;
mod status;

pub use record::{
    Event, Intent, JOURNAL_VERSION, JournalError, Outcome, Record, Undo, decode, encode,
};
pub use status::{IllegalEvent, Stage, Status, StuckAt, next_status};
