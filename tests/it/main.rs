//! All integration tests, in one binary. `house.rs` makes sure that no file here is forgotten.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, print figures and touch the machine"
)]

mod anvil;
mod archives;
mod attributes;
mod backups;
mod batch;
mod cgroup;
mod check;
mod children;
mod churn;
mod comet;
mod complaints;
mod control;
mod copies;
mod data;
mod disks;
mod env;
mod faults;
mod fixes;
mod geth;
mod house;
mod idle;
mod keeper;
mod kill;
mod layers;
mod loops;
mod machine;
mod parts;
mod plans;
mod plants;
mod random;
mod records;
mod restores;
mod rounds;
mod saved;
mod second_roots;
mod sets;
mod shims;
mod sim;
mod single;
mod snapshots;
mod supervise;
mod systemd;
mod systemd_real;
mod two_disks;
mod upgrade;
mod work;
