//! What is known of the data of a kind of node.

use crate::manifest::Profile;
use crate::model::DataSpec;

const LOCKS: &[&str] = &["**/LOCK", "**/FLOCK", "**/*.ipc"];
/// Of LevelDB, Pebble and RocksDB: closed tables are only read and removed.
const TABLES: &[&str] = &["**/*.ldb", "**/*.sst"];
/// Write-ahead logs are not among them: Pebble takes an old one, under a new name, and writes it anew from its beginning.
const GROW: &[&str] = &["**/MANIFEST-*"];
/// The freezer's files are cut in place at a rewind, so they are never linked.
const FREEZER: &[&str] = &["**/ancient/**/*.{cdat,rdat,cidx,ridx,meta}"];
const GETH_KEYS: &[&str] = &["**/nodekey", "**/keystore"];
const COMET_KEYS: &[&str] = &[
    "**/priv_validator_state.json",
    "**/priv_validator_key.json",
    "**/node_key.json",
];

/// Adds what a profile knows to what the manifest says.
pub(super) fn add(profile: Profile, data: &mut DataSpec) {
    let (keys, append): (&[&str], &[&[&str]]) = match profile {
        Profile::Generic => return,
        Profile::Geth | Profile::Wbft => (GETH_KEYS, &[GROW, FREEZER]),
        Profile::Cometbft => (COMET_KEYS, &[GROW]),
    };
    add_to(&mut data.exclude, LOCKS);
    add_to(&mut data.keep, keys);
    add_to(&mut data.immutable, TABLES);
    append
        .iter()
        .for_each(|globs| add_to(&mut data.append, globs));
}

fn add_to(said: &mut Vec<String>, known: &[&str]) {
    for glob in known {
        if !said.iter().any(|s| s == glob) {
            said.push((*glob).to_owned());
        }
    }
}
