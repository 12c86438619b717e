use super::*;
use crate::model::request::Refusal;
use proptest::prelude::*;

fn graph(steps: &[(&str, &[&str], When)]) -> Result<Graph, Refusal> {
    let needs: Vec<Vec<String>> = steps
        .iter()
        .map(|(_, needs, _)| needs.iter().map(|need| (*need).to_owned()).collect())
        .collect();
    let rules: Vec<StepRule<'_>> = steps
        .iter()
        .zip(&needs)
        .map(|((key, _, when), needs)| StepRule { key, needs, when: *when })
        .collect();
    Graph::new(&rules)
}

use State::{Active, Blocked, Cancelled, Failed, Skipped, Success};
use When::{AllDone, AllSuccess, AnySuccess};

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    let check = |steps: &[(&str, &[&str], When)], pointer: &str, word: &str| {
        let refusal = graph(steps).unwrap_err();
        assert_eq!(refusal.pointer, pointer, "{refusal:?}");
        assert!(refusal.sentence.contains(word), "{refusal:?}");
    };
    check(&[], "/steps", "at least one");
    check(&[("a b", &[], AllSuccess)], "/steps/0/key", "A-Z");
    check(&[("a", &[], AllSuccess), ("a", &[], AllSuccess)], "/steps/1/key", "already");
    check(&[("a", &["b"], AllSuccess)], "/steps/0/needs/0", "no step has the key \"b\"");
    check(&[("a", &["a"], AllSuccess)], "/steps/0/needs/0", "needs itself");
    check(
        &[("a", &[], AllSuccess), ("b", &["a", "a"], AllSuccess)],
        "/steps/1/needs/1",
        "second time",
    );
    check(
        &[
            ("free", &[], AllSuccess),
            ("after", &["c"], AllSuccess),
            ("a", &["free", "b"], AllSuccess),
            ("b", &["c"], AllSuccess),
            ("c", &["a"], AllSuccess),
        ],
        "/steps/4/needs",
        "c → a → b → c",
    );
    let many: Vec<String> = (0..=MAX_STEPS).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &[&str], When)> = many.iter().map(|key| (key.as_str(), &[][..], AllSuccess)).collect();
    check(&many, "/steps", "at most 1000");
}

/// Steps `a`, `b` and one that needs both.
fn fork(when: When) -> Graph {
    graph(&[("a", &[], AllSuccess), ("b", &[], AllSuccess), ("c", &["a", "b"], when)]).unwrap()
}

#[test]
fn when_decides() {
    for (when, a, b, c) in [
        (AllSuccess, Success, Active, Blocked),
        (AllSuccess, Success, Success, Active),
        (AllSuccess, Failed, Active, Skipped),
        (AllDone, Failed, Active, Blocked),
        (AllDone, Failed, Cancelled, Active),
        (AnySuccess, Success, Active, Active),
        (AnySuccess, Failed, Active, Blocked),
        (AnySuccess, Failed, Success, Active),
        (AnySuccess, Failed, Failed, Skipped),
    ] {
        let mut states = [a, b, Blocked];
        fork(when).advance(&mut states);
        assert_eq!(states[2], c, "{when:?} {a:?} {b:?}");
    }
}

#[test]
fn a_clean_up_hides_no_failure_and_another_way_forgives_one() {
    for (when, states, expected) in [
        (AllSuccess, [Success, Success, Success], WorkflowStatus::Success),
        (AllSuccess, [Success, Active, Blocked], WorkflowStatus::Running),
        (AllSuccess, [Success, Failed, Skipped], WorkflowStatus::Failed),
        (AllSuccess, [Success, Cancelled, Skipped], WorkflowStatus::Cancelled),
        (AllDone, [Success, Failed, Success], WorkflowStatus::Failed),
        (AnySuccess, [Success, Failed, Success], WorkflowStatus::Success),
        (AnySuccess, [Success, Cancelled, Success], WorkflowStatus::Success),
        (AnySuccess, [Success, Failed, Failed], WorkflowStatus::Failed),
        (AnySuccess, [Success, Failed, Active], WorkflowStatus::Running),
    ] {
        assert_eq!(fork(when).status(&states, false), expected, "{when:?} {states:?}");
    }
    assert_eq!(
        fork(AllSuccess).status(&[Success, Failed, Skipped], true),
        WorkflowStatus::Cancelled
    );
    // The way that failed may be longer than one step.
    let ways = graph(&[
        ("fetch", &[], AllSuccess),
        ("parse", &["fetch"], AllSuccess),
        ("spare", &[], AllSuccess),
        ("use", &["parse", "spare"], AnySuccess),
    ]);
    let states = [Failed, Skipped, Success, Success];
    assert_eq!(ways.unwrap().status(&states, false), WorkflowStatus::Success);
}

#[test]
fn a_retry_resumes_downstream_only() {
    let chain = graph(&[
        ("load", &[], AllSuccess),
        ("check", &["load"], AllSuccess),
        ("report", &["check"], AllSuccess),
        ("tidy", &["report"], AllDone),
        ("other", &["load"], AllSuccess),
    ])
    .unwrap();
    let mut states = [Success, Failed, Skipped, Success, Failed];
    assert_eq!(chain.retry(1, &mut states), Ok(vec![1, 2]));
    assert_eq!(states, [Success, Blocked, Blocked, Success, Failed]);
    assert_eq!(chain.advance(&mut states), [Change::Run(1)]);
    for (step, why) in [(0, NoRetry::Succeeded), (1, NoRetry::NotEnded), (2, NoRetry::NotEnded)] {
        assert_eq!(chain.retry(step, &mut states), Err(why));
    }
    let mut states = [Success, Failed, Skipped, Success, Success];
    assert_eq!(chain.retry(2, &mut states), Err(NoRetry::Needs(1)));
    // What another failure holds back stays as it is.
    let mut states = [Failed, Failed, Skipped];
    assert_eq!(fork(AllSuccess).retry(0, &mut states), Ok(vec![0]));
    assert_eq!(states, [Blocked, Failed, Skipped]);
}

#[test]
fn continue_runs_what_says_nothing() {
    assert_eq!(OnFailure::CancelDescendants.default_when(), AllSuccess);
    assert_eq!(OnFailure::Continue.default_when(), AllDone);
}

/// A random DAG: each step needs some of those before it, and stands anywhere among them.
fn dag() -> impl Strategy<Value = Graph> {
    let when = prop_oneof![Just(AllSuccess), Just(AllDone), Just(AnySuccess)];
    let steps = prop::collection::vec((prop::collection::vec(any::<bool>(), 12), when), 1..12);
    (steps, any::<prop::sample::Index>()).prop_map(|(steps, turn)| {
        let count = steps.len();
        // Turned round, so that the order of the request is not the order in which they run.
        let place = |step: usize| (step + turn.index(count)) % count;
        let mut needs = vec![Vec::new(); count];
        let mut when = vec![AllSuccess; count];
        for (step, (wanted, its_when)) in steps.iter().enumerate() {
            needs[place(step)] = (0..step).filter(|need| wanted[*need]).map(place).collect();
            when[place(step)] = *its_when;
        }
        Graph::of_checked(needs, when).unwrap()
    })
}

/// Ends the active steps one after the other, in an order and with ends that `random` says; how often each ran.
fn drive(graph: &Graph, states: &mut [State], random: &mut impl FnMut(usize) -> usize) -> Vec<u32> {
    let mut ran = vec![0; states.len()];
    loop {
        for change in graph.advance(states) {
            if let Change::Run(step) = change {
                ran[step] += 1;
                let ended = graph.needs(step).iter().filter(|need| states[**need].is_final()).count();
                let succeeded = graph.needs(step).iter().filter(|need| states[**need] == Success).count();
                let needs = graph.needs(step).len();
                assert!(match graph.when(step) {
                    AllSuccess => succeeded == needs,
                    AllDone => ended == needs,
                    AnySuccess => succeeded > 0 || needs == 0,
                });
            }
        }
        let active: Vec<usize> = (0..states.len()).filter(|step| states[*step] == Active).collect();
        if active.is_empty() {
            return ran;
        }
        states[active[random(active.len())]] = [Success, Success, Failed, Cancelled][random(4)];
    }
}

/// Whether a step could have run, told from the final states of its needs alone.
fn could_run(graph: &Graph, step: usize, states: &[State]) -> bool {
    let mut needs = graph.needs(step).iter().map(|need| states[*need] == Success);
    match graph.when(step) {
        AllSuccess => needs.all(|success| success),
        AllDone => true,
        AnySuccess => graph.needs(step).is_empty() || needs.any(|success| success),
    }
}

proptest! {
    #[test]
    fn every_workflow_comes_to_its_end(graph in dag(), seed in prop::collection::vec(any::<u8>(), 64), chosen in any::<prop::sample::Index>()) {
        let mut draws = seed.into_iter().cycle();
        let mut random = move |bound: usize| usize::from(draws.next().unwrap_or(0)) % bound;
        let count = graph.order().len();
        let mut states = vec![Blocked; count];
        let ran = drive(&graph, &mut states, &mut random);
        prop_assert!(states.iter().all(|state| state.is_final()), "stuck: {states:?}");
        for step in 0..count {
            prop_assert_eq!(ran[step], u32::from(could_run(&graph, step, &states)));
            prop_assert_eq!(states[step] == Skipped, !could_run(&graph, step, &states));
        }
        prop_assert!(graph.status(&states, false) != WorkflowStatus::Running);

        let before = states.clone();
        if let Ok(reset) = graph.retry(chosen.index(count), &mut states) {
            prop_assert!(reset.contains(&chosen.index(count)));
            let again = drive(&graph, &mut states, &mut random);
            prop_assert!(states.iter().all(|state| state.is_final()), "stuck: {states:?}");
            for step in 0..count {
                prop_assert!(again[step] <= u32::from(reset.contains(&step)), "{step} ran again");
                prop_assert!(reset.contains(&step) || states[step] == before[step]);
            }
        }
    }
}
