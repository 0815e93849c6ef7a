//! Processes of this machine: which one is meant, and when it ends.

mod cgroup;
mod filter;
mod first;
mod holder;
mod identity;
mod left;
mod pidfd;
mod priority;

pub use cgroup::{Delegated, join, kill_all, members, ran_out_of_memory};
pub use filter::{IntoFile, OutOfFile, has_program, run_quietly};
pub use first::{is_first, run_as_first};
pub use holder::{Holder, lock_holder};
pub use identity::{Identity, boot_id};
pub use left::{Left, left_behind};
pub use pidfd::{Watch, kill_group};
pub use priority::{give_way, set_io_priority};
