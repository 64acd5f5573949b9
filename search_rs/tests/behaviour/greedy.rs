//! Behaviour of the search under any score: it ends, within the target, and repeats itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common;
use proptest::prelude::*;
use search_rs::budget::Budget;
use search_rs::error::SearchError;
use search_rs::moves::{Costed, Move, single_moves};
use search_rs::network::Network;
use search_rs::policy::Policy;
use search_rs::session::Session;
use search_rs::strategy::Problem;
use search_rs::strategy::greedy::{Greedy, GreedySettings};
use search_rs::trace::TraceStep;

/// Settings of a search, its limit of evaluations, and whether the uniform policies are anchors.
fn settings() -> impl Strategy<Value = (GreedySettings, Option<u64>, bool)> {
    let limit = prop_oneof![3 => Just(None), 2 => (1..300_u64).prop_map(Some)];
    let exchange_limit = prop_oneof![Just(0), 1..200_u64];
    (limit, any::<bool>(), 0.0..4.0, 0..8_u64, exchange_limit).prop_map(
        |(limit, has_anchors, error_weight, climbs, exchange_limit)| {
            let settings = GreedySettings { start: None, error_weight, climbs, exchange_limit };
            (settings, limit, has_anchors)
        },
    )
}

fn problem(network: &Arc<Network>, limit: u64, has_anchors: bool) -> Problem {
    let problem = common::problem(network, &[limit], 0);
    Problem { uniform: if has_anchors { problem.uniform } else { Vec::new() }, ..problem }
}

fn begin(problem: &Problem, settings: GreedySettings, limit: Option<u64>) -> Session {
    let greedy = Greedy::new(problem, 0, settings).unwrap();
    common::session(problem.clone(), greedy, limit)
}

/// Without climbs and exchanges.
fn bare() -> GreedySettings {
    GreedySettings { climbs: 0, exchange_limit: 0, ..GreedySettings::default() }
}

/// Return the policies a search was at, start first.
fn states(session: &Session) -> Vec<Costed> {
    let network = &session.problem().network;
    let mut states = vec![Costed::new(network, Policy::largest(network))];
    for step in session.trace() {
        let mut policy = states[states.len() - 1].policy.clone();
        for change in &step.changes {
            let group = network.group_of(change.layer_index, change.side);
            policy = policy.with_group(&network.groups()[group], change.to);
        }
        let next = Costed::new(network, policy);
        assert_eq!(next.costs, step.costs);
        states.push(next);
    }
    states
}

/// Like `random_score`, with as few different values as `num_values`.
fn tied_score(seed: u64, num_values: u16, policy: &Policy) -> f64 {
    common::random_score(seed, policy) % f64::from(num_values)
}

fn is_down(step: &TraceStep) -> bool {
    step.changes[0].to < step.changes[0].from
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn search_ends_within_the_budget_at_the_lowest_score_it_met(
        network in common::networks(6), (settings, limit, has_anchors) in settings(),
        percent in 0..=110_u64, seed: u64,
    ) {
        let target = common::target(&network, 0, percent);
        let mut session = begin(&problem(&network, target, has_anchors), settings, limit);
        let mut journal = Vec::new();
        let score = |policy: &Policy| common::random_score(seed, policy);
        let result = common::run(&mut session, score, &mut journal).unwrap().swap_remove(0);

        prop_assert!(result.costs.get(0) <= target);
        prop_assert_eq!(result.score.map(f64::to_bits), Some(score(&result.policy).to_bits()));
        prop_assert!(limit.is_none_or(|limit| session.num_evaluations() <= limit));
        let within = |policy: &Policy| common::cost_of(&network, policy) <= target;
        let best = journal.iter().filter(|(policy, _)| within(policy)).map(|(_, score)| *score);
        prop_assert_eq!(best.min_by(f64::total_cmp), result.score);
    }

    #[test]
    fn every_up_move_that_fits_above_the_result_was_tried(
        network in common::networks(5), (settings, _, has_anchors) in settings(),
        percent in 0..=110_u64, seed: u64, num_values in 1..1000_u16,
    ) {
        let target = common::target(&network, 0, percent);
        let mut session = begin(&problem(&network, target, has_anchors), settings, None);
        let mut journal = Vec::new();
        let score = |policy: &Policy| tied_score(seed, num_values, policy);
        let result = common::run(&mut session, score, &mut journal).unwrap().swap_remove(0);

        let tried: BTreeSet<_> = journal.into_iter().map(|(policy, _)| policy).collect();
        // Of equal scores the cheapest is the result; where the search stood is among them.
        let ends: Vec<Policy> = tried
            .iter()
            .filter(|policy| common::cost_of(&network, policy) <= target)
            .filter(|policy| score(policy).to_bits() == result.score.unwrap().to_bits())
            .cloned()
            .collect();
        let is_closed = |end: &Policy| {
            let end = Costed::new(&network, end.clone());
            let ups = single_moves(&network, &end.policy).into_iter().filter(|it| !it.is_down());
            let mut fitting =
                ups.map(|up| end.after(&network, up)).filter(|next| next.costs.get(0) <= target);
            fitting.all(|next| tried.contains(&next.policy))
        };
        prop_assert!(ends.iter().any(is_closed));
    }

    #[test]
    fn descent_stays_below_its_ceiling_and_visits_no_policy_twice(
        network in common::strict_networks(6), percent in 0..=100_u64, seed: u64,
    ) {
        let target = common::target(&network, 0, percent);
        let mut session = begin(&problem(&network, target, true), bare(), None);
        let score = |policy: &Policy| common::random_score(seed, policy);
        common::run(&mut session, score, &mut Vec::new()).unwrap();

        let states = states(&session);
        let mut ceiling = u64::MAX;
        let mut visited = BTreeSet::from([states[0].policy.clone()]);
        for (step, pair) in session.trace().iter().zip(states.windows(2)) {
            if step.phase != "descent" {
                break;
            }
            let (base, next) = (&pair[0], &pair[1]);
            prop_assert!(base.costs.get(0) > target, "went on below the target");
            if is_down(step) {
                prop_assert!(base.costs.get(0) < ceiling);
                ceiling = base.costs.get(0);
            } else {
                prop_assert!(next.costs.get(0) < ceiling);
            }
            if !visited.insert(next.policy.clone()) {
                // The one exception: everything else it could have proposed was visited as well.
                prop_assert!(is_down(step));
                let downs = single_moves(&network, &base.policy).into_iter().filter(Move::is_down);
                for change in downs {
                    prop_assert!(visited.contains(&base.after(&network, change).policy));
                }
            }
        }
    }

    /// A measure that falls with every step holds for all tables what the lines of descent.rs say.
    #[test]
    fn descent_comes_nearer_its_end_with_every_step_also_on_plateaus(
        network in common::networks(6), percent in 0..=100_u64, seed: u64, num_values in 1..1000_u16,
    ) {
        let target = common::target(&network, 0, percent);
        let mut session = begin(&problem(&network, target, true), bare(), None);
        let score = |policy: &Policy| tied_score(seed, num_values, policy);
        common::run(&mut session, score, &mut Vec::new()).unwrap();

        let states = states(&session);
        let bits = |costed: &Costed| -> i64 {
            common::row(&costed.policy).into_iter().map(i64::from).sum()
        };
        // The ceiling, whether the cost is at it, and bits that fall there and rise below it.
        let measure = |ceiling: u64, state: &Costed| {
            let is_at_ceiling = state.costs.get(0) == ceiling;
            (ceiling, is_at_ceiling, if is_at_ceiling { bits(state) } else { -bits(state) })
        };
        let mut ceiling = u64::MAX;
        let mut before = measure(ceiling, &states[0]);
        for (step, pair) in session.trace().iter().zip(states.windows(2)) {
            if step.phase != "descent" {
                break;
            }
            if is_down(step) {
                ceiling = pair[0].costs.get(0);
            }
            let after = measure(ceiling, &pair[1]);
            prop_assert!(after < before, "{after:?} does not come before {before:?}");
            before = after;
        }
    }
}

fn small_network() -> Arc<Network> {
    let free = || vec![2, 3, 4];
    let specs = [(100, vec![8], vec![8]), (300, free(), free()), (200, free(), free())];
    Arc::new(common::build(&specs))
}

fn sum_score(policy: &Policy) -> f64 {
    let side = |bits: u8| 16.0 / f64::from(bits);
    policy.layers().iter().map(|bits| side(bits.weight.get()) + side(bits.act.get())).sum()
}

#[test]
fn first_batch_holds_the_start_and_the_anchors_within_the_budget() {
    let network = small_network();
    // 6400 for the pinned layer and 500 MACs: 4/3 and 3/4 fit in 12400, 4/4 does not.
    let mut session = begin(&problem(&network, 12_400, true), bare(), None);
    let rows: Vec<_> =
        session.propose().unwrap().iter().map(|p| common::row(p)[2..4].to_vec()).collect();
    assert_eq!(rows, [[4, 4], [4, 3], [3, 4], [3, 3], [4, 2], [2, 4], [3, 2], [2, 3], [2, 2]]);
}

#[test]
fn start_within_the_budget_is_only_improved_upward() {
    let network = small_network();
    let settings = GreedySettings { start: Some(Policy::smallest(&network)), ..bare() };
    let mut session = begin(&problem(&network, 12_400, false), settings, None);
    let result = common::run(&mut session, sum_score, &mut Vec::new()).unwrap().swap_remove(0);
    assert!(session.trace().iter().all(|step| step.phase == "upward"));
    let smallest = common::cost_of(&network, &Policy::smallest(&network));
    assert!(result.costs.get(0) > smallest && result.costs.get(0) <= 12_400);
}

#[test]
fn climbs_start_from_the_best_anchors() {
    let network = small_network();
    let settings = GreedySettings { climbs: 2, ..bare() };
    let mut session = begin(&problem(&network, 12_400, true), settings, None);
    let score = |policy: &Policy| common::random_score(3, policy);
    let mut anchors = session.propose().unwrap().split_off(1);
    anchors.sort_by(|a, b| score(a).total_cmp(&score(b)));
    common::run(&mut session, score, &mut Vec::new()).unwrap();
    let states = states(&session).into_iter().skip(1).zip(session.trace().to_vec());
    let restarts = states.filter(|(_, step)| step.phase == "restart");
    let starts: Vec<_> = restarts.map(|(state, _)| state.policy).take(2).collect();
    assert_eq!(starts, anchors[..2]);
}

#[test]
fn limit_that_no_descent_fits_is_spent_on_climbs() {
    let network = Arc::new(common::build(&vec![(100, vec![2, 3, 4], vec![2, 3, 4]); 10]));
    // A step costs twenty, up or down, after seven anchors.
    let settings = GreedySettings { climbs: 1, ..bare() };
    let mut session = begin(&problem(&network, 9_500, true), settings, Some(35));
    common::run(&mut session, sum_score, &mut Vec::new()).unwrap();
    let has = |phase: &str| session.trace().iter().any(|step| step.phase == phase);
    assert!(has("upward") && has("finish") && !has("descent"));
}

#[test]
fn limit_of_one_still_ends_within_the_budget_with_its_own_score() {
    let network = small_network();
    let mut session = begin(&problem(&network, 9_500, true), bare(), Some(1));
    let result = common::run(&mut session, sum_score, &mut Vec::new()).unwrap().swap_remove(0);
    assert_eq!(session.num_evaluations(), 1);
    let is_blind = |step: &TraceStep| step.phase == "finish" && step.score.is_none();
    assert!(session.trace().iter().all(is_blind));
    assert!(result.costs.get(0) <= 9_500);
}

#[test]
fn equal_scores_spend_the_slack() {
    let network = small_network();
    let target = common::target(&network, 0, 60);
    let mut session = begin(&problem(&network, target, false), bare(), None);
    common::run(&mut session, |_| 7.0, &mut Vec::new()).unwrap();
    let end = states(&session).pop().unwrap();
    let ups = single_moves(&network, &end.policy).into_iter().filter(|change| !change.is_down());
    assert!(ups.into_iter().all(|up| end.after(&network, up).costs.get(0) > target));
}

#[test]
fn settings_out_of_range_are_refused() {
    let network = small_network();
    let (smallest_cost, limit) = (8_400, 8_399);
    assert_eq!(
        Budget::new(&network, &[Some(limit)]),
        Err(SearchError::BudgetTooSmall { resource: 0, limit, smallest_cost })
    );
    let problem = problem(&network, 9_000, false);
    let settings = GreedySettings { error_weight: -1.0, ..bare() };
    let error = Greedy::new(&problem, 0, settings).unwrap_err();
    assert_eq!(error, SearchError::ErrorWeight { value: -1.0 });
    let other = Policy::largest(&common::build(&[(1, vec![2], vec![2])]));
    let settings = GreedySettings { start: Some(other), ..bare() };
    let error = Greedy::new(&problem, 0, settings).unwrap_err();
    assert_eq!(error, SearchError::PolicyLength { found: 1, expected: 3 });
}
