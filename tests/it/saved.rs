//! Saved plans: done once, refused when stale, edited, of another version or node. History: from the journals alone.

use crate::env::{Env, Set};
use serde_json::Value;
use std::fs;

fn due() -> Env {
    let env = Env::with(&Set {
        upgrades: vec![("v2", "{ manual = true }", "", String::new())],
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(0);
    let _ = env.visor(&["upgrade", "approve", "v2"]).expect(0);
    env
}

#[test]
fn a_saved_plan_is_done_once() {
    let env = due();
    let file = env.path("saved.json").display().to_string();
    let _ = env.visor(&["plan", "diff", "--out", &file]).expect(2);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let _ = env.visor(&["reconcile", "--plan", &file]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
    let again = env.visor(&["reconcile", "--plan", &file]).expect(4);
    for text in [
        "current release",
        "then  genesis",
        "now   v2",
        "nothing was done",
    ] {
        assert!(again.stderr.contains(text), "{}", again.stderr);
    }
}

#[test]
fn a_saved_plan_does_nothing_else() {
    let env = due();
    let file = env.path("saved.json").display().to_string();
    let _ = env.visor(&["plan", "diff", "--out", &file]).expect(2);
    // Another upgrade becomes due behind it: it is not in the plan.
    env.write_set(&Set {
        upgrades: vec![
            ("v2", "{ manual = true }", "", String::new()),
            ("v3", "{ manual = true }", "", String::new()),
        ],
        ..Set::default()
    });
    let _ = env.visor(&["upgrade", "approve", "v3"]).expect(0);
    let _ = env.visor(&["reconcile", "--plan", &file]).expect(0);
    assert_eq!(env.current(), "upgrades/v2");
}

#[test]
fn a_saved_plan_that_cannot_be_trusted_is_refused() {
    let env = due();
    let file = env.path("saved.json");
    let path = file.display().to_string();
    let _ = env.visor(&["plan", "diff", "--out", &path]).expect(2);
    let good = fs::read_to_string(&file).unwrap();
    let version = format!("\"visor\": \"{}\"", env!("CARGO_PKG_VERSION"));
    for (what, text, says) in [
        (
            "edited",
            good.replace("\"demod\"", "\"evild\""),
            "was changed after it was saved",
        ),
        (
            "longer",
            good.replacen("{\n", "{\n  \"colour\": \"red\",\n", 1),
            "was changed after it was saved",
        ),
        (
            "newer",
            good.replacen("\"version\": 1", "\"version\": 2", 1),
            "format version 2",
        ),
        (
            "other visor",
            good.replacen(&version, "\"visor\": \"9.9.9\"", 1),
            "made by visor 9.9.9",
        ),
        (
            "step",
            good.replace("\"commit\"", "\"celebrate\""),
            "no saved plan",
        ),
        ("cut", good[..good.len() / 2].to_owned(), "no saved plan"),
    ] {
        assert_ne!(text, good, "{what}");
        fs::write(&file, text).unwrap();
        let refused = env.visor(&["reconcile", "--plan", &path]).expect(64);
        assert!(refused.stderr.contains(says), "{what}: {}", refused.stderr);
    }
    assert_eq!(env.current(), "genesis");
    // A hold that came since is a fact that moved.
    fs::write(&file, good).unwrap();
    let _ = env
        .visor(&["hold", "--reason", "the night before"])
        .expect(0);
    let stale = env.visor(&["reconcile", "--plan", &path]).expect(4);
    assert!(
        stale.stderr.contains("now   the night before"),
        "{}",
        stale.stderr
    );
}

#[test]
fn history_tells_what_was_done_and_for_whom() {
    let env = due();
    let _ = env.visor(&["reconcile"]).expect(0);
    let list: Value =
        serde_json::from_str(&env.visor(&["history", "--format", "json"]).expect(0).stdout)
            .unwrap();
    let runs = list["runs"].as_array().unwrap();
    let what: Vec<&str> = runs.iter().map(|r| r["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["install genesis", "upgrade v2"]);
    assert!(
        runs[1]["by"]
            .as_str()
            .unwrap()
            .starts_with("visor reconcile, "),
        "{list}"
    );
    let text = env.visor(&["history"]).expect(0).stdout;
    assert!(
        text.contains("upgrade v2") && text.contains("committed"),
        "{text}"
    );
    let shown = env.visor(&["history", "show", "last"]).expect(0).stdout;
    for text in [
        "upgrade v2 · committed",
        "critical/seal",
        "the node's own stop",
    ] {
        assert!(shown.contains(text), "{shown}");
    }
    let id = runs[0]["run"].as_str().unwrap();
    let one: Value = serde_json::from_str(
        &env.visor(&["history", "show", &id[20..], "--format", "json"])
            .expect(0)
            .stdout,
    )
    .unwrap();
    assert_eq!(
        (&one["run"], &one["outcome"]),
        (&runs[0]["run"], &"committed".into())
    );
    let _ = env.visor(&["history", "show", "zzzz"]).expect(64);
    // A run is listed, whatever has become of its plan.
    let last = runs[1]["run"].as_str().unwrap();
    fs::write(
        env.root()
            .join("state/journal")
            .join(last)
            .join("plan.json"),
        "{",
    )
    .unwrap();
    let text = env.visor(&["history"]).expect(0).stdout;
    assert!(text.contains("a plan that cannot be read"), "{text}");
    let shown = env.visor(&["history", "show", "last"]).expect(70).stderr;
    assert!(shown.contains(last), "{shown}");
}

#[test]
fn a_saved_start_starts_what_it_was_saved_for() {
    let env = Env::with(&Set {
        upgrades: vec![],
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(0);
    crate::env::kill(env.nodes()[0], "KILL");
    env.eventually("the end", || env.nodes().is_empty());
    let file = env.path("saved.json").display().to_string();
    let diff = env.visor(&["plan", "diff", "--out", &file]).expect(2);
    assert!(diff.stdout.contains("start the node"), "{}", diff.stdout);
    env.write_set(&Set {
        upgrades: vec![],
        args_extra: vec!["--block-ms".into(), "777".into()],
        ..Set::default()
    });
    let stale = env.visor(&["reconcile", "--plan", &file]).expect(4);
    assert!(
        stale.stderr.contains("start of the node"),
        "{}",
        stale.stderr
    );
    assert!(env.nodes().is_empty());
}

#[test]
fn what_is_no_file_is_not_replaced_by_a_plan() {
    let env = due();
    let (dir, link, file) = (env.path("dir"), env.path("link"), env.path("saved.json"));
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&dir, &link] {
        let path = path.display().to_string();
        let refused = env.visor(&["plan", "diff", "--out", &path]).expect(64);
        assert!(refused.stderr.contains("is no file"), "{}", refused.stderr);
        let refused = env.visor(&["reconcile", "--plan", &path]).expect(64);
        assert!(
            refused.stderr.contains("saves a plan"),
            "{}",
            refused.stderr
        );
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(!file.exists());
}

#[test]
fn plans_are_drawn() {
    let env = Env::with(&Set::default());
    let dot = env
        .visor(&["plan", "show", "--format", "dot"])
        .expect(0)
        .stdout;
    assert!(
        dot.starts_with("digraph") && dot.contains("critical/stop") && dot.contains(" -> "),
        "{dot}"
    );
    let mermaid = env
        .visor(&["plan", "show", "--format", "mermaid"])
        .expect(0)
        .stdout;
    assert!(
        mermaid.starts_with("flowchart")
            && mermaid.contains("critical/stop")
            && mermaid.contains(" --> "),
        "{mermaid}"
    );
}
