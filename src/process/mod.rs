//! Processes of this machine: which one is meant, and when it ends.

mod first;
mod holder;
mod identity;
mod left;
mod pidfd;

pub use first::{is_first, run_as_first};
pub use holder::{Holder, lock_holder};
pub use identity::{Identity, boot_id};
pub use left::{Left, left_behind};
pub use pidfd::{Watch, kill_group};
