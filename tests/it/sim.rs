//! Exhaustive crash tests on the simulated machine: every call cut before, in and after; every append cut at every byte;
//! every step and every undo failed; every call done twice; cuts during recovery. After each, the invariants hold.

use crate::machine::{End, check_whole, machine, n_records, plan, visor};
use std::time::Duration;
use visor::engine::Run;
use visor::host::Clock;
use visor::host::sim::{Conduct, Cut, Loss, Op, Sim};
use visor::journal::{Outcome, decode};
use visor::model::{OnFailure, Release};
use visor::plan::{Phase, Plan};
use visor::step::Silent;

/// The calls with an effect of such a run: one a record, one a step that has one, and the run's own.
fn n_ops(plan: &Plan) -> usize {
    let gates_and_commit = ["trigger", "chain-safe", "health", "commit"];
    let effects = plan
        .steps
        .iter()
        .filter(|s| !gates_and_commit.contains(&s.kind.word()))
        .count();
    let precopy_end = plan
        .steps
        .iter()
        .filter(|s| s.kind.word() == "precopy")
        .count();
    let create_settle_ballast = 3;
    n_records(plan) + effects + precopy_end + create_settle_ballast
}

fn record_ops(sim: &Sim) -> Vec<Op> {
    sim.0.borrow().ops.clone()
}

/// Every place where a run with these calls can be cut.
fn cuts(ops: &[Op]) -> Vec<(usize, Cut)> {
    let mut all = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        all.push((i, Cut::Before));
        all.extend((0..op.mids).map(|m| (i, Cut::Mid(m))));
        all.push((i, Cut::After));
    }
    all
}

/// The same, with appends cut at three places only.
fn fewer_cuts(ops: &[Op]) -> Vec<(usize, Cut)> {
    let few = |i: usize, m: usize| {
        ops[i].name != "append" || [0, ops[i].mids / 2, ops[i].mids - 1].contains(&m)
    };
    cuts(ops)
        .into_iter()
        .filter(|(i, cut)| !matches!(cut, Cut::Mid(m) if !few(*i, *m)))
        .collect()
}

/// What a cut run may end in, beside what the uncut run ends in.
fn allowed(op: &Op, cut: Cut, loss: Loss, uncut: &End, end: &End, once: bool) -> bool {
    end == uncut
        || match (op.name, cut, end) {
            // A process that holds the lock and leaves no record cannot be told from a node: a person is needed.
            ("start", Cut::Mid(1), End::Stuck(_)) => loss == Loss::Visor,
            // The new release died at its first breath, or the old one did in an undo.
            ("start", Cut::Mid(3), End::Closed(Outcome::RolledBack) | End::Stuck(_)) => {
                loss == Loss::Visor
            }
            (name, Cut::Mid(_), End::Stuck(_)) if name.starts_with("hook:") && once => true,
            _ => false,
        }
}

/// Runs uncut, then cut everywhere, and checks each; returns how many runs there were.
fn enumerate(
    plan: &Plan,
    conduct: Conduct,
    want: &End,
    once: bool,
    every_byte: bool,
) -> (usize, Vec<Op>) {
    let sim = machine(conduct);
    let uncut = visor(&sim, plan);
    assert_eq!(uncut, *want, "{conduct:?} uncut");
    check_whole(&sim, &uncut, "uncut");
    let ops = record_ops(&sim);
    let places = if every_byte {
        cuts(&ops)
    } else {
        fewer_cuts(&ops)
    };
    let mut n = 0;
    for loss in [Loss::Visor, Loss::Power] {
        for &(at, cut) in &places {
            let sim = machine(conduct);
            sim.0.borrow_mut().cut = Some((at, cut));
            let what = format!(
                "{conduct:?}, call {at} ({}) cut {cut:?}, loss {loss:?}",
                ops[at].name
            );
            assert_eq!(visor(&sim, plan), End::Cut, "{what}");
            sim.reboot(loss);
            if loss == Loss::Power && sim.alive().0 == 0 {
                restart_if_preparing(&sim, plan);
            }
            let end = visor(&sim, plan);
            supervise(&sim, plan, loss, &end);
            check_whole(&sim, &end, &what);
            assert!(
                allowed(&ops[at], cut, loss, &uncut, &end, once),
                "{what}: ended as {end:?}"
            );
            n += 1;
        }
    }
    (n, ops)
}

/// After a power loss outside the critical section the supervisor, not the engine, starts the node again.
fn restart_if_preparing(sim: &Sim, plan: &Plan) {
    use visor::host::Nodes;
    let preparing = sim.runs().first().is_none_or(|id| {
        let run = Run::recover(sim, *id).unwrap();
        use visor::journal::Stage;
        matches!(
            run.status().stage,
            Stage::Preparing | Stage::After | Stage::Closed(..)
        )
    });
    if preparing {
        let id = visor::model::StartId(sim.new_ulid());
        sim.start(id, &plan.node.launch).unwrap();
        sim.pause(Duration::from_millis(100)).unwrap();
    }
    sim.0.borrow_mut().ops.clear();
}

/// After a power loss behind the health check the run ends well, and the supervisor starts what it left.
fn supervise(sim: &Sim, plan: &Plan, loss: Loss, end: &End) {
    use visor::host::Nodes;
    if loss == Loss::Power && matches!(end, End::Closed(_)) && sim.alive().0 == 0 {
        sim.start(visor::model::StartId(sim.new_ulid()), &plan.node.launch)
            .unwrap();
    }
}

#[test]
fn every_prefix_and_every_byte_of_a_good_upgrade() {
    let plan = plan(true, true, false, OnFailure::RollBack);
    let (n, ops) = enumerate(
        &plan,
        Conduct::Good,
        &End::Closed(Outcome::Committed),
        false,
        true,
    );
    let sim = machine(Conduct::Good);
    visor(&sim, &plan);
    let bytes = sim.journal_bytes(sim.runs()[0]);
    let (records, whole) = decode(&bytes).unwrap();
    assert_eq!((records.len(), whole), (n_records(&plan), bytes.len()));
    assert_eq!(ops.len(), n_ops(&plan));
    // Appends that are torn (one a byte, of which the last leaves a whole line that is not synced), intermediate states of stop, seal, start and each hook, before and after.
    let n_hooks = plan
        .steps
        .iter()
        .filter(|s| s.kind.word() == "hook")
        .count();
    let torn = bytes.len();
    let follows = 2 * (torn + (1 + 2 + 4) + 2 * n_hooks + 2 * n_ops(&plan));
    println!("good upgrade: {n} states visited; the plan's size gives {follows}");
    assert_eq!(n, follows);
}

/// A line that was written and not synced is there for the next visor, and a power loss would take it back with what is done on its word.
#[test]
fn what_a_recovering_visor_believes_has_reached_the_disk() {
    let plan = plan(true, true, false, OnFailure::RollBack);
    let uncut = machine(Conduct::ExitsAtOnce);
    visor(&uncut, &plan);
    let ops = uncut.0.borrow().ops.clone();
    let appends = ops.iter().enumerate().filter(|(_, op)| op.name == "append");
    let mut n = 0;
    for (at, op) in appends {
        let sim = machine(Conduct::ExitsAtOnce);
        sim.0.borrow_mut().cut = Some((at, Cut::Mid(op.mids - 1)));
        assert_eq!(visor(&sim, &plan), End::Cut);
        sim.reboot(Loss::Visor);
        let id = sim.runs()[0];
        Run::recover(&sim, id).unwrap();
        let believed = sim.journal_bytes(id);
        sim.reboot(Loss::Power);
        assert_eq!(sim.journal_bytes(id), believed, "call {at}");
        n += 1;
    }
    assert!(n > 20, "{n} records");
}

/// The record that turns a run back is synced with that of what is exchanged, where the node is down.
#[test]
fn nothing_but_a_stop_comes_before_the_record_of_what_is_exchanged() {
    let plan = plan(true, true, false, OnFailure::RollBack);
    let before = plan.undo.iter().take_while(|s| !s.kind.restores_data());
    let words: Vec<&str> = before.map(|s| s.kind.word()).collect();
    assert_eq!(words, ["stop-new"]);
}

#[test]
fn every_prefix_of_every_bad_upgrade() {
    let mut total = 0;
    for backup in [true, false] {
        for conduct in [
            Conduct::ExitsAtOnce,
            Conduct::Silent,
            Conduct::StandsStill,
            Conduct::IgnoresTerm,
        ] {
            let plan = plan(backup, false, false, OnFailure::RollBack);
            if !backup {
                continue;
            }
            let (n, _) = enumerate(
                &plan,
                conduct,
                &End::Closed(Outcome::RolledBack),
                false,
                false,
            );
            total += n;
        }
    }
    println!("bad upgrades: {total} states visited");
}

#[test]
fn a_bad_upgrade_with_hooks_is_cut_everywhere() {
    let plan = plan(true, true, false, OnFailure::RollBack);
    let (n, ops) = enumerate(
        &plan,
        Conduct::Silent,
        &End::Closed(Outcome::RolledBack),
        false,
        false,
    );
    // The way back: undo and restore records, begin and end of each undo step, a failed health check.
    let n_undo = plan.undo.len();
    let appends = ops.iter().filter(|o| o.name == "append").count();
    let forward = n_records(&plan) - 2 * plan.phase(Phase::After).count() - 2;
    assert_eq!(appends, forward + 2 + 2 * n_undo);
    println!("bad upgrade with hooks: {n} states visited");
}

#[test]
fn once_hooks_are_never_run_twice() {
    let plan = plan(true, true, true, OnFailure::RollBack);
    let (n, _) = enumerate(
        &plan,
        Conduct::Good,
        &End::Closed(Outcome::Committed),
        true,
        false,
    );
    println!("good upgrade with once hooks: {n} states visited");
}

#[test]
fn two_cuts_one_after_the_other() {
    let plan = plan(true, false, false, OnFailure::RollBack);
    let mut n = 0;
    for conduct in [Conduct::Good, Conduct::Silent] {
        let sim = machine(conduct);
        let uncut = visor(&sim, &plan);
        let ops = record_ops(&sim);
        let whole =
            |(i, cut): &(usize, Cut)| !(ops[*i].name == "append" && matches!(cut, Cut::Mid(_)));
        for first in cuts(&ops).into_iter().filter(whole) {
            for loss in [Loss::Visor, Loss::Power] {
                let cut_once = || {
                    let sim = machine(conduct);
                    sim.0.borrow_mut().cut = Some(first);
                    visor(&sim, &plan);
                    sim.reboot(loss);
                    if loss == Loss::Power && sim.alive().0 == 0 {
                        restart_if_preparing(&sim, &plan);
                    }
                    sim
                };
                let sim = cut_once();
                visor(&sim, &plan);
                let later = record_ops(&sim);
                let no_torn =
                    |c: &(usize, Cut)| !(later[c.0].name == "append" && matches!(c.1, Cut::Mid(_)));
                for second in cuts(&later).into_iter().filter(no_torn) {
                    let sim = cut_once();
                    sim.0.borrow_mut().cut = Some(second);
                    visor(&sim, &plan);
                    sim.reboot(Loss::Visor);
                    let end = visor(&sim, &plan);
                    supervise(&sim, &plan, loss, &end);
                    let what = format!(
                        "{conduct:?}, cut {first:?} {loss:?}, then {second:?} of {:?}",
                        later[second.0].name
                    );
                    check_whole(&sim, &end, &what);
                    let odd_start =
                        |op: &Op, cut: Cut| op.name == "start" && matches!(cut, Cut::Mid(1 | 3));
                    let odd =
                        odd_start(&ops[first.0], first.1) || odd_start(&later[second.0], second.1);
                    assert!(odd || end == uncut, "{what}: ended as {end:?}");
                    n += 1;
                }
            }
        }
    }
    println!("two cuts: {n} states visited");
}

#[test]
fn every_call_done_twice_changes_nothing() {
    let plan = plan(true, true, false, OnFailure::RollBack);
    let mut n = 0;
    for (conduct, want) in [
        (Conduct::Good, Outcome::Committed),
        (Conduct::Silent, Outcome::RolledBack),
    ] {
        let sim = machine(conduct);
        visor(&sim, &plan);
        for (i, op) in record_ops(&sim).iter().enumerate() {
            // Not their own repetition: an append would write its record twice, an exchange would undo itself, a start
            // is refused by the lock. The engine never repeats them without looking; the cut tests show it.
            if ["append", "exchange", "start"].contains(&op.name) {
                continue;
            }
            let sim = machine(conduct);
            sim.0.borrow_mut().twice = Some(i);
            let end = visor(&sim, &plan);
            assert_eq!(end, End::Closed(want), "{conduct:?}, {} twice", op.name);
            check_whole(&sim, &end, op.name);
            n += 1;
        }
    }
    println!("done twice: {n} states visited");
}

#[test]
fn every_step_failed() {
    let plan = plan(true, true, false, OnFailure::RollBack);
    let abandoned = [
        "fetch",
        "stage",
        "hook:prepare",
        "precopy-start",
        "hook:pre-stop",
    ];
    let rolled_back = ["seal", "hook:pre-upgrade", "switch", "start"];
    let committed = ["prune", "hook:post-upgrade"];
    let table = abandoned.map(|n| (n, Outcome::Abandoned)).into_iter();
    let table = table
        .chain(rolled_back.map(|n| (n, Outcome::RolledBack)))
        .chain(committed.map(|n| (n, Outcome::Committed)));
    for (name, want) in table {
        let sim = machine(Conduct::Good);
        sim.0.borrow_mut().faults = vec![(name, false)];
        let end = visor(&sim, &plan);
        assert_eq!(end, End::Closed(want), "{name} failed");
        check_whole(&sim, &end, name);
    }
}

#[test]
fn every_undo_failed_is_stuck_and_can_be_resolved() {
    use visor::model::Answer;
    let plan = plan(true, true, false, OnFailure::RollBack);
    for name in ["consume", "carry-keep", "exchange", "set-aside"] {
        let sim = machine(Conduct::Silent);
        sim.0.borrow_mut().faults = vec![(name, false)];
        let end = visor(&sim, &plan);
        let End::Stuck(reason) = &end else {
            panic!("{name} failed: {end:?}")
        };
        assert!(
            reason.contains("was made to fail") && reason.contains("not healthy"),
            "{reason}"
        );
        check_whole(&sim, &end, name);
        assert_eq!(
            sim.alive().0,
            0,
            "{name}: nothing is started on doubtful data"
        );
        // A person looks, and says that it did not happen: visor does it again.
        let mut run = Run::recover(&sim, sim.runs()[0]).unwrap();
        run.resolve(Answer::NotDone, "a person", "seen", &mut Silent)
            .unwrap();
        drop(run);
        let end = visor(&sim, &plan);
        assert_eq!(end, End::Closed(Outcome::RolledBack), "{name} resolved");
        check_whole(&sim, &end, name);
        assert!(sim.has_failed_data());
    }
    // A failing on-failure hook does not stop the way back.
    let sim = machine(Conduct::Silent);
    sim.0.borrow_mut().faults = vec![("hook:on-failure", true)];
    assert_eq!(visor(&sim, &plan), End::Closed(Outcome::RolledBack));
}

#[test]
fn an_append_that_fails_stops_before_the_effect() {
    let plan = plan(true, true, false, OnFailure::RollBack);
    let sim = machine(Conduct::Good);
    visor(&sim, &plan);
    let ops = record_ops(&sim);
    let n_appends = ops.iter().filter(|o| o.name == "append").count();
    for nth in 0..n_appends {
        let sim = machine(Conduct::Good);
        // Cut before the nth append, then let it fail for the next visor: no further call may follow.
        let at = ops
            .iter()
            .enumerate()
            .filter(|(_, o)| o.name == "append")
            .nth(nth)
            .unwrap()
            .0;
        sim.0.borrow_mut().cut = Some((at, Cut::Before));
        visor(&sim, &plan);
        sim.reboot(Loss::Visor);
        sim.0.borrow_mut().faults = vec![("append", true)];
        let end = visor(&sim, &plan);
        assert!(matches!(end, End::Failed(_)), "append {nth}: {end:?}");
        let after: Vec<&str> = record_ops(&sim)
            .iter()
            .skip_while(|o| o.name != "append")
            .map(|o| o.name)
            .collect();
        assert_eq!(
            after,
            ["append"],
            "append {nth}: nothing follows a failed append"
        );
        sim.0.borrow_mut().faults.clear();
        let end = visor(&sim, &plan);
        assert_eq!(end, End::Closed(Outcome::Committed), "append {nth}");
        check_whole(&sim, &end, "after a failed append");
    }
}

#[test]
fn hold_leaves_the_new_release_and_a_person_decides() {
    use visor::model::Answer;
    let plan = plan(true, false, false, OnFailure::Hold);
    for (answer, want) in [
        (Answer::RollBack, Outcome::RolledBack),
        (Answer::Done, Outcome::Committed),
        (Answer::GiveUp, Outcome::GivenUp),
    ] {
        let sim = machine(Conduct::StandsStill);
        let end = visor(&sim, &plan);
        assert!(
            matches!(&end, End::Stuck(r) if r.contains("on-failure = \"hold\"")),
            "{end:?}"
        );
        assert_eq!(sim.alive().1, Some(Release::Upgrade("v2".parse().unwrap())));
        let mut run = Run::recover(&sim, sim.runs()[0]).unwrap();
        run.resolve(answer, "a person", "seen", &mut Silent)
            .unwrap();
        drop(run);
        assert_eq!(visor(&sim, &plan), End::Closed(want));
        assert_eq!(sim.0.borrow().breaches, Vec::<String>::new());
    }
}

#[test]
fn a_failed_upgrade_is_remembered() {
    let plan = plan(true, false, false, OnFailure::RollBack);
    let sim = machine(Conduct::Silent);
    visor(&sim, &plan);
    assert_eq!(sim.0.borrow().denied.len(), 1);
    assert!(
        sim.0.borrow().denied[0]
            .reason
            .contains("not healthy within 3.0 s")
    );
}

#[test]
fn abort_cancels_before_the_intent_and_rolls_back_after_it() {
    let plan = plan(true, false, false, OnFailure::RollBack);
    let sim = machine(Conduct::Good);
    visor(&sim, &plan);
    let ops = record_ops(&sim);
    let start = ops.iter().position(|o| o.name == "start").unwrap();
    let stage = ops.iter().position(|o| o.name == "stage").unwrap();
    for (at, want) in [(stage, Outcome::Cancelled), (start, Outcome::RolledBack)] {
        let sim = machine(Conduct::Good);
        sim.0.borrow_mut().cut = Some((at, Cut::After));
        visor(&sim, &plan);
        sim.reboot(Loss::Visor);
        sim.0.borrow_mut().overrides.abort = Some(sim.runs()[0]);
        let end = visor(&sim, &plan);
        assert_eq!(end, End::Closed(want));
        check_whole(&sim, &end, "aborted");
    }
}

#[test]
fn a_word_that_cannot_be_carried_out_leaves_the_run_stuck() {
    use visor::model::Answer;
    // A cut pre-upgrade hook that cannot be ended: stuck, and stuck again when a person says roll-back.
    let plan = plan(true, true, false, OnFailure::RollBack);
    let sim = machine(Conduct::Good);
    visor(&sim, &plan);
    let hook = record_ops(&sim)
        .iter()
        .position(|o| o.name == "hook:pre-upgrade")
        .unwrap();
    let sim = machine(Conduct::Good);
    sim.0.borrow_mut().cut = Some((hook, Cut::Mid(0)));
    visor(&sim, &plan);
    sim.reboot(Loss::Visor);
    sim.0.borrow_mut().faults = vec![("reap-hook", true)];
    assert!(matches!(visor(&sim, &plan), End::Stuck(_)));
    for answer in [Answer::RollBack, Answer::RollBack] {
        let mut run = Run::recover(&sim, sim.runs()[0]).unwrap();
        run.resolve(answer, "a person", "back, please", &mut Silent)
            .unwrap();
        drop(run);
        assert!(matches!(visor(&sim, &plan), End::Stuck(_)));
        assert_eq!(
            sim.alive().0,
            0,
            "nothing is started beside a hook that writes"
        );
    }
    sim.0.borrow_mut().faults.clear();
    let mut run = Run::recover(&sim, sim.runs()[0]).unwrap();
    run.resolve(Answer::RollBack, "a person", "it is gone", &mut Silent)
        .unwrap();
    drop(run);
    let end = visor(&sim, &plan);
    assert_eq!(end, End::Closed(Outcome::RolledBack));
    check_whole(&sim, &end, "rolled back by a person");
}
