//! Processes of this machine: which one is meant, and when it ends.

mod identity;
mod pidfd;

pub use identity::{Identity, boot_id};
pub use pidfd::{Watch, kill_group};
