//! Every record that visor keeps: an example of each format that was ever written is read, fields that are unknown are passed over,
//! and a newer format is refused. `tests/data` holds the examples; they are never written again.

use crate::house::repo;
use std::fs;
use std::path::{Path, PathBuf};
use visor::backup::{Baseline, Class, GenState, Kind, generations as all_generations, read_seal};
use visor::hook::read_attempt;
use visor::journal::{Event, decode, encode};
use visor::model::StartId;
use visor::node::{launched, read_exit, read_start};
use visor::plan::{SavedError, SavedPlan};
use visor::store::{Layout, read_deny, read_overrides};

fn data(name: &str) -> PathBuf {
    repo().join("tests/data").join(name)
}

/// An example as it is, with a field that no visor knows, and of a format that is newer.
fn forms(name: &str) -> [(&'static str, String); 3] {
    let text = fs::read_to_string(data(name)).unwrap();
    let version = text.find("\"version\"").unwrap();
    let with_more = format!(
        "{}\"colour\":\"red\",{}",
        &text[..version],
        &text[version..]
    );
    let number = version + text[version..].find('1').unwrap();
    let newer = format!("{}2{}", &text[..number], &text[number + 1..]);
    [("kept", text), ("with more", with_more), ("newer", newer)]
}

/// Puts each form into a state directory and reads it: the first two must say the same, the third is an error that names both versions.
fn check<T: PartialEq + std::fmt::Debug, E: std::error::Error>(
    example: &str,
    place: impl Fn(&Layout) -> PathBuf,
    read: impl Fn(&Layout) -> Result<T, E>,
) -> T {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let mut first = None;
    for (what, text) in forms(example) {
        let path = place(&layout);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        let found = read(&layout);
        if what == "newer" {
            let mut error: &dyn std::error::Error = &found.unwrap_err();
            let mut said = error.to_string();
            while let Some(cause) = error.source() {
                said = format!("{said}: {cause}");
                error = cause;
            }
            assert!(
                said.contains("format version 2") && said.contains("reads 1"),
                "{example}: {said}"
            );
            // What was refused is left as it was.
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            continue;
        }
        let found = found.unwrap();
        assert_eq!(
            *first.get_or_insert_with(|| read(&layout).unwrap()),
            found,
            "{example}, {what}"
        );
    }
    first.unwrap()
}

#[test]
fn overrides_and_the_deny_list() {
    let overrides = check(
        "overrides.v1.json",
        |l| l.state().join("overrides.json"),
        |l| read_overrides(l, 0),
    );
    assert_eq!(overrides.stop.unwrap().reason, "example");
    assert_eq!(overrides.hold.unwrap().reason, "an example");
    let denied = check("deny.v1.json", |l| l.state().join("deny.json"), read_deny);
    assert_eq!(denied[0].upgrade.as_str(), "v2");
}

#[test]
fn starts_of_the_node() {
    let start: StartId = "01M87ZCV51MFPH6M293G30HKF1".parse().unwrap();
    let at = |name: &'static str| move |l: &Layout| l.starts().join(start.to_string()).join(name);
    let launch = check("start.v1/launch.json", at("launch.json"), |l| {
        launched(l, start)
    });
    assert_eq!(launch.unwrap().binary, "demod");
    let begun = check("start.v1/start", at("start"), |l| read_start(l, start));
    assert_eq!(begun.unwrap().identity.pid, 16603);
    let exit = check("start.v1/exit", at("exit"), |l| read_exit(l, start));
    assert_eq!(exit.unwrap().describe(), "exit status 0");
}

#[test]
fn attempts_of_hooks() {
    let record = |l: &Layout| l.state().join("attempt.json");
    let attempt = check("attempt.v1.json", record, |l| read_attempt(&record(l)));
    assert_eq!(attempt.map(|a| (a.number, a.ok)), Some((1, Some(true))));
}

/// A checksum guards these: an edited one is refused, with its path and the reason.
#[test]
fn generations() {
    let (baseline, seal) = (data("generation.v1/baseline"), data("generation.v1/SEAL"));
    let read = Baseline::read(&baseline).unwrap().unwrap();
    let table = read.entries.get(Path::new("tables/000001.tbl"));
    assert_eq!(table.unwrap().kind, Kind::File);
    let sealed = read_seal(&seal).unwrap().unwrap();
    assert_eq!(sealed.generation, read.generation);
    assert!(
        sealed
            .changes
            .values()
            .flatten()
            .all(|e| e.kind == Kind::File)
    );
    // Of format 2: classes, times, the height.
    let now = Baseline::read(&data("generation.v2/baseline"))
        .unwrap()
        .unwrap();
    let log = now.entries.get(Path::new("chain.log")).unwrap();
    assert_eq!((log.class, now.looked), (Class::Append, 1_795_641_088_929));
    let seal_now = read_seal(&data("generation.v2/SEAL")).unwrap().unwrap();
    assert_eq!((seal_now.height, sealed.height), (Some(121), None));
    // Before it was written down what `keep` named.
    assert_eq!(seal_now.kept, None);
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let there = layout.generations().join(now.generation.to_string());
    fs::create_dir_all(&there).unwrap();
    for name in ["baseline", "SEAL", "record.json", "VERIFIED"] {
        fs::copy(data("generation.v2").join(name), there.join(name)).unwrap();
    }
    let listed = |layout: &Layout| all_generations(layout).pop().unwrap();
    let known = listed(&layout);
    assert_eq!(
        (known.label(), known.state),
        ("example", GenState::Verified)
    );
    assert_eq!(known.verdict.unwrap().proved, 9);
    // One of a newer visor's is listed; what its records say is not guessed at.
    for name in ["record.json", "VERIFIED"] {
        let text = fs::read_to_string(there.join(name)).unwrap();
        fs::write(there.join(name), text.replacen(":1", ":2", 1)).unwrap();
    }
    let newer = listed(&layout);
    assert_eq!(
        (newer.label(), newer.state, &newer.verdict),
        ("", GenState::Verified, &None)
    );
    let edited = dir.path().join("baseline");
    let text = fs::read_to_string(&baseline).unwrap();
    fs::write(&edited, text.replacen("000001", "000009", 1)).unwrap();
    let error = Baseline::read(&edited).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
    // The same text with another version and a right checksum.
    let (body, _) = text.trim_end().rsplit_once('\n').unwrap();
    let body = body.replacen("\"version\":1", "\"version\":9", 1) + "\n";
    let footer = text.trim_end().rsplit_once('\n').unwrap().1;
    let crc = footer.rsplit(':').next().unwrap().trim_end_matches('}');
    let footer = footer.replace(crc, &crc32fast::hash(body.as_bytes()).to_string());
    fs::write(&edited, body + &footer + "\n").unwrap();
    let error = Baseline::read(&edited).unwrap_err().to_string();
    assert!(error.contains("format version 9"), "{error}");
}

/// A saved plan lives as long as the version that made it: another one refuses it by name, and reads none of it.
#[test]
fn saved_plans() {
    let bytes = fs::read(data("saved-plan.v1.json")).unwrap();
    match SavedPlan::read(&bytes, &"demo".parse().unwrap()) {
        Ok(saved) => assert_eq!(saved.changes, ["upgrade from genesis to v2"]),
        Err(SavedError::Visor { found }) => {
            assert_eq!(found, "0.1.0");
            assert_ne!(env!("CARGO_PKG_VERSION"), "0.1.0");
        }
        Err(other) => panic!("{other}"),
    }
    let other = SavedPlan::read(&bytes, &"another".parse().unwrap()).unwrap_err();
    assert!(matches!(
        other,
        SavedError::Node { .. } | SavedError::Visor { .. }
    ));
}

/// A journal of a newer format, and one with an event that this visor does not know.
#[test]
fn journals() {
    let bytes = fs::read(data("run.v1/journal.jsonl")).unwrap();
    let (mut records, whole) = decode(&bytes).unwrap();
    assert_eq!(whole, bytes.len());
    if let Event::Opened { version, .. } = &mut records[0].event {
        *version = 2;
    }
    let newer: Vec<u8> = records.iter().flat_map(encode).collect();
    let error = decode(&newer).unwrap_err().to_string();
    assert!(error.contains("format version 2"), "{error}");
    let text = String::from_utf8(bytes).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let unknown = format!("{first}\n{}", rest.replacen("\"began\"", "\"danced\"", 1));
    assert!(decode(unknown.as_bytes()).is_err());
}
