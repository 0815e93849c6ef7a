//! Data and manifests that are not as simple as they could be: kept and excluded paths, links, cut copies, broken sets.

use crate::env::{Env, Set};
use std::fs;
use std::path::Path;

/// Data of a test's own beside those of the node: what is excluded, kept, or leads away.
fn due_with_data(data_keys: &str, prepare: impl Fn(&Path)) -> Env {
    let env = Env::due("", "");
    prepare(&env.data());
    let path = env.set().join("visor.toml");
    let text = fs::read_to_string(&path).unwrap();
    let plain = "exclude = [\"LOCK\"], keep = [\"signer.json\"]";
    assert!(text.contains(plain));
    fs::write(path, text.replace(plain, data_keys)).unwrap();
    env
}

#[test]
fn keep_wins_over_exclude_and_lies_below_it() {
    let keys =
        "exclude = [\"LOCK\", \"geth\", \"**/*.json\"], keep = [\"signer.json\", \"geth/nodekey\"]";
    let env = due_with_data(keys, |data| {
        fs::create_dir_all(data.join("geth/cache")).unwrap();
        fs::write(data.join("geth/nodekey"), "secret").unwrap();
        fs::write(data.join("geth/cache/x"), "disposable").unwrap();
    });
    let script = env.write_script("hooks/fail.sh", "#!/bin/sh\nexit 1\n");
    let path = env.set().join("visor.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace(
        "artifact = \"rel-v2\"",
        "artifact = \"rel-v2\"\nhooks = { pre-upgrade = [\"fail\"] }",
    );
    fs::write(
        &path,
        format!("{text}\n[hook.fail]\nrun = [\"{}\"]\n", script.display()),
    )
    .unwrap();
    let _ = env.visor(&["reconcile"]).expect(5);
    assert_eq!(
        fs::read_to_string(env.data().join("geth/nodekey")).unwrap(),
        "secret"
    );
    assert!(
        !env.data().join("geth/cache").exists(),
        "what is excluded is gone after a restore"
    );
    let _ = env.stop_and_check();
}

#[test]
fn a_link_that_leads_away_is_refused_while_the_node_runs() {
    let env = due_with_data("exclude = [\"LOCK\"], keep = [\"signer.json\"]", |data| {
        std::os::unix::fs::symlink("/usr", data.join("ancient")).unwrap();
    });
    let pid = env.nodes();
    let out = env.visor(&["reconcile"]).expect(3);
    assert!(
        out.stderr
            .contains("leads out of the data directory, to /usr: that is the system's"),
        "{}",
        out.stderr
    );
    assert_eq!(env.nodes(), pid);
}

#[test]
fn a_cut_pre_copy_leaves_nothing_stale_behind() {
    let env = Env::due("", "");
    let journal = env.data().join("hot-journal");
    fs::write(&journal, "replay me").unwrap();
    let killed = Env::output(
        env.command(&["reconcile"])
            .env("VISOR_KILL_AT", "seal:copied#1"),
    );
    assert_eq!(killed.code, None);
    // The copy has it; the data no longer do when another visor goes on.
    fs::remove_file(&journal).unwrap();
    let _ = env.visor(&["reconcile", "--wait=20s"]).expect(0);
    let generation = fs::read_dir(env.root().join("backups/gen"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert!(generation.join("SEAL").is_file());
    assert!(!generation.join("tree/hot-journal").exists());
}

#[test]
fn a_hook_that_outlived_its_visor_is_ended_before_data_are_put_back() {
    let env = Env::due("", "");
    let data = env.data();
    let script = env.write_script(
        "hooks/slow.sh",
        &format!(
            "#!/bin/sh\necho begun > {d}/begun\nsleep 3\necho ruined > {d}/schema\n",
            d = data.display()
        ),
    );
    env.write_set(&Set {
        upgrades: vec![(
            "v2",
            "{ height = 5 }",
            "",
            "hooks = { pre-upgrade = [\"slow\"] }".into(),
        )],
        more: format!("[hook.slow]\nrun = [\"{}\"]\n", script.display()),
        ..Set::default()
    });
    let run = env.spawn(&["reconcile"], "run.log");
    env.eventually("the hook runs", || data.join("begun").exists());
    run.kill();
    let _ = env.visor(&["reconcile", "--abort"]).expect(5);
    let height = env.height();
    env.eventually("three seconds of blocks", || {
        env.height() > height.map(|h| h + 170)
    });
    assert_eq!(
        env.stop_and_check().schema,
        "v1",
        "nobody wrote into the data that were put back"
    );
}

#[test]
fn what_is_wrong_elsewhere_keeps_nobody_from_stopping_a_node() {
    let env = Env::due("", "");
    env.write(
        "other.toml",
        "visor = 1\n[upgrade.v3]\ntrigger = { height = \"soon\" }\n",
    );
    let _ = env.visor(&["reconcile"]).expect(1);
    let status = env.visor(&["status"]).expect(0);
    assert!(
        status.stderr.contains("other.toml:2:10 V0103"),
        "{}",
        status.stderr
    );
    let _ = env.visor(&["stop"]).expect(0);
    assert_eq!(env.nodes(), Vec::<i32>::new());
}

#[test]
fn changed_arguments_are_drift_until_the_next_start() {
    let env = Env::due("", "");
    env.write_set(&Set {
        upgrades: vec![],
        args_extra: vec!["--fill=0".into()],
        ..Set::default()
    });
    let diff = env.visor(&["plan", "diff"]).expect(2);
    assert!(diff.stdout.contains("other arguments"), "{}", diff.stdout);
    let _ = env.visor(&["stop"]).expect(0);
    let _ = env.visor(&["start"]).expect(0);
    let _ = env.visor(&["plan", "diff"]).expect(0);
}
