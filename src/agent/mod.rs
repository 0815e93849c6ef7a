//! The agent: one pass over a node (`reconcile`), and the endless one that also supervises (`run`).

mod act;
mod backups;
mod live;
mod pace;
mod pass;
mod restart;
mod supervise;
mod wish;

pub use act::{start_node, stop_node};
pub use backups::{
    BackupJobError, RestoreOptions, create as create_backup, cut_restore, find as find_backup,
    import as import_backup, needed_by_runs, restore as restore_backup, verify as verify_backup,
};
pub use live::{Live, NextTry, Now, Since, without_head};
pub use pass::{AgentError, Pass, PassEnd, Patience};
pub use supervise::{Supervised, supervise};
pub use wish::{Wish, WishError};
