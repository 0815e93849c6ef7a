//! Nodes with a part of their data on another disk: what a plan shows of it, and cuts of the way back.

use crate::backups::text;
use crate::env::{Env, Set};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A node whose tables lie elsewhere; the text of the link.
fn node_with_tables_elsewhere() -> (Env, PathBuf) {
    let env = Env::new();
    env.write_set(&Set {
        upgrades: vec![],
        ..Set::default()
    });
    env.visor(&["reconcile"]).expect(0);
    env.visor(&["stop"]).expect(0);
    let tables = env.path("elsewhere/tables");
    fs::create_dir(env.path("elsewhere")).unwrap();
    fs::rename(env.data().join("tables"), &tables).unwrap();
    symlink(&tables, env.data().join("tables")).unwrap();
    env.visor(&["start"]).expect(0);
    env.eventually("the height", || env.height().is_some_and(|h| h >= 5));
    (env, tables)
}

/// Each step is found done or not, wherever it was left.
#[test]
fn a_way_back_that_was_cut_between_disks_goes_on() {
    for place in [
        "exchange:links",
        "exchange:root",
        "exchange:after",
        "set-aside:after",
    ] {
        let (env, tables) = node_with_tables_elsewhere();
        env.write_set(&Set {
            upgrades: vec![("v2", "{ height = 5 }", "--fault exit", String::new())],
            ..Set::default()
        });
        let at = format!("{place}#1");
        let killed = Env::output(env.command(&["reconcile"]).env("VISOR_KILL_AT", &at));
        assert_eq!((killed.code, env.nodes().len()), (None, 0), "{at}");
        env.visor(&["reconcile", "--wait=20s"]).expect(5);
        assert_eq!(env.current(), "genesis");
        assert_eq!(fs::read_link(env.data().join("tables")).unwrap(), tables);
        let report = env.stop_and_check();
        assert_eq!((report.schema.as_str(), report.mistakes), ("v1", vec![]));
        let aside = fs::read_dir(env.root().join("failed")).unwrap();
        for failed in aside.map(|e| e.unwrap().path()) {
            let tree = failed.join("tree");
            assert_ne!(fs::read_link(tree.join("tables")).unwrap(), tables);
            let report = visor::devnode::check_data(&tree).unwrap();
            assert_eq!(report.mistakes, Vec::<String>::new());
        }
        env.check_signed();
    }
}

#[test]
fn a_restore_that_was_cut_between_disks_keeps_the_node_down_until_it_goes_on() {
    let (env, _) = node_with_tables_elsewhere();
    let was = env.stop_and_check();
    let made = env.visor(&["backup", "create"]).expect(0).stdout;
    let generation = made.lines().next().unwrap();
    env.visor(&["start"]).expect(0);
    env.eventually("it goes on", || env.height() > Some(was.height + 10));
    let _ = env.stop_and_check();
    let restore = ["backup", "restore", generation];
    let killed = Env::output(
        env.command(&restore)
            .env("VISOR_KILL_AT", "exchange:root#1"),
    );
    assert_eq!(killed.code, None);
    let out = env.visor(&["start"]);
    let said = text(&out.stderr);
    assert!(
        said.contains("the data may be of two moments"),
        "{:?} {said}",
        out.code
    );
    assert_ne!(out.code, Some(0));
    assert_eq!(env.nodes().len(), 0);
    env.visor(&restore).expect(0);
    let now = visor::devnode::check_data(&env.data()).unwrap();
    assert_eq!((now.height, now.mistakes), (was.height, vec![]));
    env.visor(&["start"]).expect(0);
    let _ = env.stop_and_check();
}

#[test]
fn a_plan_shows_second_roots_and_what_is_in_the_way() {
    let (env, tables) = node_with_tables_elsewhere();
    env.write_set(&Set {
        upgrades: vec![("v2", "{ height = 5 }", "", String::new())],
        ..Set::default()
    });
    let shown = text(&env.visor(&["plan", "diff"]).expect(2).stdout);
    let with = format!("with {}, where tables leads: ", tables.display());
    assert!(shown.contains(&with), "{shown}");
    let units = env.path("units");
    fs::create_dir(&units).unwrap();
    env.visor(&["init", "--systemd", units.to_str().unwrap()])
        .expect(0);
    let unit = fs::read_to_string(units.join("visor-demo.service")).unwrap();
    let beside = format!("ReadWritePaths={}\n", tables.parent().unwrap().display());
    assert!(unit.contains(&beside), "{unit}");
    symlink("/etc/hostname", env.data().join("away")).unwrap();
    let out = env.visor(&["plan", "diff"]);
    let shown = text(&out.stdout) + &text(&out.stderr);
    assert!(
        shown.contains("no copy of the data can be made") && shown.contains("no directory"),
        "{shown}"
    );
    fs::remove_file(env.data().join("away")).unwrap();
    env.visor(&["reconcile"]).expect(0);
    let report = env.sealed_is_whole();
    assert!(report.height >= 5);
    let _ = env.stop_and_check();
}
