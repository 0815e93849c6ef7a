//! Batches: members one after the other, one that failed holds those behind it, status and import.

use crate::env::{Env, Set};
use serde_json::Value;
use std::fs;

fn status(env: &Env) -> Value {
    serde_json::from_str(
        &env.visor(&["batch", "status", "q4", "--format", "json"])
            .expect(0)
            .stdout,
    )
    .unwrap()
}

fn members(list: &[&str]) -> String {
    format!("[batch.q4]\ndescription = \"the quarter's\"\nupgrades = {list:?}\n")
}

#[test]
fn a_failed_member_holds_those_behind_it() {
    let upgrades = |fault| {
        vec![
            ("v2", "{ height = 10 }", "", String::new()),
            ("v3", "{ height = 20 }", fault, String::new()),
            ("v4", "{ height = 30 }", "", String::new()),
        ]
    };
    let all = ["v2", "v3", "v4"];
    let env = Env::with(&Set {
        upgrades: upgrades("exit"),
        more: members(&all),
        ..Set::default()
    });
    let _ = env.visor(&["batch", "validate"]).expect(0);
    let shown = env.visor(&["batch", "show", "q4", "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown.expect(0).stdout).unwrap();
    assert_eq!(
        (
            &shown["upgrades"][1]["name"],
            &shown["upgrades"][1]["trigger"]
        ),
        (&"v3".into(), &"height 20".into())
    );
    let _ = env.visor(&["reconcile"]).expect(0);
    let begun = status(&env);
    assert_eq!(
        (
            &begun["total_upgrades"],
            &begun["completed"],
            &begun["progress"]
        ),
        (&3.into(), &0.into(), &0.into())
    );
    assert_eq!(
        begun["upgrades"][2]["missing"][0],
        "the release is not fetched yet"
    );

    // v2 is applied, v3 fails and goes back, v4 is held although its height comes.
    let _ = env.visor(&["reconcile", "--wait"]).expect(5);
    assert_eq!(env.current(), "upgrades/v2");
    env.eventually("the head", || env.height() >= Some(31));
    let held = env.visor(&["reconcile"]).expect(3);
    assert!(
        held.stderr
            .contains("v4 is held: v3, before it in batch q4, failed"),
        "{}",
        held.stderr
    );
    assert_eq!(env.current(), "upgrades/v2");
    let now = status(&env);
    let states: Vec<&str> = now["upgrades"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["applied", "failed", "held"]);
    assert_eq!(now["active"], Value::Null);
    let missing = |member: usize| now["upgrades"][member]["missing"].to_string();
    for (member, says) in [
        (1, "is not tried again"),
        (1, "visor upgrade retry v3"),
        (2, "is held: v3, before it in batch q4, failed"),
    ] {
        assert!(missing(member).contains(says), "{}", missing(member));
    }
    let list = env.visor(&["batch", "list"]).expect(0).stdout;
    assert!(list.contains("v3 failed"), "{list}");
    assert_eq!(
        (&now["completed"], &now["failed"], &now["progress"]),
        (&1.into(), &1.into(), &33.into())
    );
    let text = env.visor(&["batch", "status", "q4"]).expect(0).stdout;
    assert!(text.contains("1 of 3 done, 33 %"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");

    // Taken out of the batch, it holds nothing any more: the height that has passed does not block what comes after.
    env.write_set(&Set {
        upgrades: upgrades("exit"),
        more: members(&["v2", "v4"]),
        ..Set::default()
    });
    let _ = env.visor(&["reconcile", "--wait"]).expect(0);
    assert_eq!(env.current(), "upgrades/v4");

    // Put back, it is behind the current release: passed, and the batch is done.
    env.write_set(&Set {
        upgrades: upgrades("exit"),
        more: members(&all),
        ..Set::default()
    });
    let done = status(&env);
    assert_eq!(
        (
            &done["completed"],
            &done["progress"],
            &done["upgrades"][1]["state"]
        ),
        (&3.into(), &100.into(), &"passed".into())
    );
    assert!(done["block_time_ms"].as_u64().is_some(), "{done}");
}

#[test]
fn a_member_that_waits_for_a_person_holds_those_behind_it() {
    let upgrades = vec![
        ("v2", "{ manual = true }", "", String::new()),
        ("v3", "{ height = 5 }", "", String::new()),
    ];
    let env = Env::with(&Set {
        upgrades,
        more: members(&["v2", "v3"]),
        ..Set::default()
    });
    let _ = env.visor(&["reconcile"]).expect(0);
    env.eventually("the head", || env.height() >= Some(6));
    let _ = env.visor(&["reconcile"]).expect(0);
    assert_eq!(env.current(), "genesis");
    let diff = env.visor(&["plan", "diff"]).expect(0).stdout;
    assert!(diff.contains("held: v2 of batch q4 comes first"), "{diff}");
    let plans = env.visor(&["plan", "show"]).expect(0).stdout;
    assert!(plans.contains("upgrade v2 from genesis"), "{plans}");
    assert!(plans.contains("upgrade v3 from v2"), "{plans}");
    let _ = env.visor(&["hold", "--reason", "a night"]).expect(0);
    let held = status(&env);
    assert_eq!(held["upgrades"][1]["state"], "held");
    assert!(held["overrides"].to_string().contains("a night"), "{held}");
    let _ = env.visor(&["release-hold"]).expect(0);
    let _ = env.visor(&["upgrade", "approve", "v2"]).expect(0);
    let _ = env.visor(&["reconcile", "--wait"]).expect(0);
    assert_eq!(env.current(), "upgrades/v3");
}

#[test]
fn a_peers_plan_becomes_manifests() {
    let env = Env::with(&Set {
        upgrades: vec![],
        ..Set::default()
    });
    let file = env.path("plan.json");
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let plan = serde_json::json!({
        "version": "1.0", "name": "q4", "description": "the \"quarter\"\u{7f}", "created_at": "2026-10-01T00:00:00Z",
        "upgrades": [
            { "name": "v2.0", "height": 100, "info": { "binaries": { "linux/amd64": format!("https://x.example/v2?checksum=sha256:{hex}"), "any": "https://x.example/any" }, "checksum": format!("sha256:{hex}") } },
            { "name": "v3.0", "height": 200, "info": format!("{{\"binaries\":{{\"any\":\"https://x.example/v3?archive=zip&checksum=sha256:{hex}\"}}}}") },
        ],
    });
    fs::write(&file, plan.to_string()).unwrap();
    let path = file.display().to_string();
    let _ = env.visor(&["batch", "import", &path]).expect(0);
    let valid = env.visor(&["batch", "validate", "q4"]).expect(0).stdout;
    assert_eq!(valid, "batch q4 is valid: v2.0 → v3.0\n");
    let written = fs::read_to_string(env.set().join("batch-q4.toml")).unwrap();
    assert!(
        written.contains("\"https://x.example/v3?archive=zip\""),
        "{written}"
    );
    // Nothing is replaced, and what is no plan is refused.
    let _ = env.visor(&["batch", "import", &path]).expect(64);
    for bad in [
        "{}",
        "[",
        "{\"name\":\"../x\",\"upgrades\":[]}",
        "{\"name\":\"x\",\"upgrades\":[{\"name\":\"v\",\"height\":-1}]}",
    ] {
        fs::write(&file, bad).unwrap();
        let refused = env.visor(&["batch", "import", &path]).expect(64);
        assert!(
            refused.stderr.contains("no batch plan"),
            "{}",
            refused.stderr
        );
    }
}
