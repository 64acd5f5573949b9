//! Behaviour of the search under any score: it ends, within the target, and repeats itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common;
use proptest::prelude::*;
use search_rs::cost;
use search_rs::error::SearchError;
use search_rs::greedy::{GreedySearch, Phase};
use search_rs::moves::{Costed, Move, single_moves};
use search_rs::network::Network;
use search_rs::policy::Policy;
use search_rs::strategy::{Options, Strategy as Searching};
use search_rs::trace::{SearchResult, TraceStep};

fn smallest_and_largest(network: &Network) -> (u64, u64) {
    let cost = |policy| cost::of_policy(network, &policy);
    (cost(Policy::smallest(network)), cost(Policy::largest(network)))
}

fn target(network: &Network, percent: u64) -> u64 {
    let (smallest, largest) = smallest_and_largest(network);
    smallest + (largest - smallest) * percent / 100
}

/// Settings of a search; the uniform policies are its anchors, or there are none.
fn options(network: &Network) -> impl Strategy<Value = Options> + use<> {
    let uniform = common::uniform(network);
    let limit = prop_oneof![3 => Just(None), 2 => (1..300_u64).prop_map(Some)];
    let exchange_limit = prop_oneof![Just(0), 1..200_u64];
    (limit, any::<bool>(), 0.0..4.0, 0..8_u64, exchange_limit).prop_map(
        move |(evaluations, has_anchors, error_weight, climbs, exchange_limit)| Options {
            start: None,
            error_weight,
            evaluations,
            anchors: if has_anchors { uniform.clone() } else { Vec::new() },
            climbs,
            exchange_limit,
        },
    )
}

/// A network of at most `max_layers` layers with settings of a search over it.
fn cases(max_layers: usize) -> impl Strategy<Value = (Arc<Network>, Options)> {
    common::networks(max_layers).prop_flat_map(|network| {
        let options = options(&network);
        (Just(network), options)
    })
}

fn uniform_anchors(network: &Network) -> Options {
    Options { anchors: common::uniform(network), ..Options::default() }
}

/// Return the policies a search was at, start first.
fn states(network: &Network, result: &SearchResult) -> Vec<Costed> {
    let mut states = vec![Costed::new(network, Policy::largest(network))];
    for step in &result.trace {
        let base = states[states.len() - 1].clone();
        let next = step.changes.iter().fold(base, |base, &change| base.after(network, change));
        assert_eq!(next.cost, step.cost);
        states.push(next);
    }
    states
}

/// Like `random_score`, with as few different values as `num_values`.
fn tied_score(seed: u64, num_values: u16, policy: &Policy) -> f64 {
    common::random_score(seed, policy) % f64::from(num_values)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn search_ends_within_the_target_and_the_limits(
        (network, options) in cases(6), percent in 0..=110_u64, seed: u64,
    ) {
        let target = target(&network, percent);
        let limit = options.evaluations;
        let mut search = GreedySearch::new(Arc::clone(&network), target, options).unwrap();
        let mut journal = Vec::new();
        let score = |policy: &Policy| common::random_score(seed, policy);
        let result = common::run(&mut search, score, &mut journal).unwrap();

        prop_assert!(result.cost <= target);
        prop_assert_eq!(result.cost, cost::of_policy(&network, &result.policy));
        prop_assert_eq!(result.score.to_bits(), score(&result.policy).to_bits());
        prop_assert!(limit.is_none_or(|limit| result.num_evaluations <= limit));
        prop_assert_eq!(result.num_evaluations, u64::try_from(journal.len()).unwrap());
        let policies: BTreeSet<_> = journal.iter().map(|(policy, _)| policy).collect();
        prop_assert_eq!(policies.len(), journal.len(), "a policy was evaluated twice");
        let within = |policy: &Policy| cost::of_policy(&network, policy) <= target;
        let best = journal.iter().filter(|(policy, _)| within(policy)).map(|(_, score)| *score);
        prop_assert_eq!(best.min_by(f64::total_cmp), Some(result.score));
    }

    #[test]
    fn every_up_move_that_fits_above_the_result_was_tried(
        (network, options) in cases(5), percent in 0..=110_u64, seed: u64, num_values in 1..1000_u16,
    ) {
        let target = target(&network, percent);
        let options = Options { evaluations: None, ..options };
        let mut search = GreedySearch::new(Arc::clone(&network), target, options).unwrap();
        let mut journal = Vec::new();
        let score = |policy: &Policy| tied_score(seed, num_values, policy);
        let result = common::run(&mut search, score, &mut journal).unwrap();

        let tried: BTreeSet<_> = journal.into_iter().map(|(policy, _)| policy).collect();
        let end = Costed::new(&network, result.policy);
        let ups = single_moves(&network, &end.policy).into_iter().filter(|change| !change.is_down());
        let fitting = ups.map(|up| end.after(&network, up)).filter(|next| next.cost <= target);
        prop_assert!(fitting.into_iter().all(|next| tried.contains(&next.policy)));
    }

    #[test]
    fn descent_stays_below_its_ceiling_and_visits_no_policy_twice(
        network in common::strict_networks(6), percent in 0..=100_u64, seed: u64,
    ) {
        let target = target(&network, percent);
        let mut search =
            GreedySearch::new(Arc::clone(&network), target, uniform_anchors(&network)).unwrap();
        let score = |policy: &Policy| common::random_score(seed, policy);
        let result = common::run(&mut search, score, &mut Vec::new()).unwrap();

        let states = states(&network, &result);
        let mut ceiling = u64::MAX;
        let mut visited = BTreeSet::from([states[0].policy.clone()]);
        for (step, pair) in result.trace.iter().zip(states.windows(2)) {
            if step.phase != Phase::Descent.name() {
                break;
            }
            let (base, next) = (&pair[0], &pair[1]);
            prop_assert!(base.cost > target, "went on below the target");
            if step.changes[0].is_down() {
                prop_assert!(base.cost < ceiling);
                ceiling = base.cost;
            } else {
                prop_assert!(next.cost < ceiling);
            }
            if !visited.insert(next.policy.clone()) {
                // The one exception: everything else it could have proposed was visited as well.
                prop_assert!(step.changes[0].is_down());
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
        let target = target(&network, percent);
        let mut search =
            GreedySearch::new(Arc::clone(&network), target, uniform_anchors(&network)).unwrap();
        let score = |policy: &Policy| tied_score(seed, num_values, policy);
        let result = common::run(&mut search, score, &mut Vec::new()).unwrap();

        let states = states(&network, &result);
        let bits = |costed: &Costed| -> i64 {
            common::row(&costed.policy).into_iter().map(i64::from).sum()
        };
        // The ceiling, whether the cost is at it, and bits that fall there and rise below it.
        let measure = |ceiling: u64, state: &Costed| {
            let is_at_ceiling = state.cost == ceiling;
            (ceiling, is_at_ceiling, if is_at_ceiling { bits(state) } else { -bits(state) })
        };
        let mut ceiling = u64::MAX;
        let mut before = measure(ceiling, &states[0]);
        for (step, pair) in result.trace.iter().zip(states.windows(2)) {
            if step.phase != Phase::Descent.name() {
                break;
            }
            if step.changes[0].is_down() {
                ceiling = pair[0].cost;
            }
            let after = measure(ceiling, &pair[1]);
            prop_assert!(after < before, "{after:?} does not come before {before:?}");
            before = after;
        }
    }

    #[test]
    fn search_begun_anew_asks_the_same_and_takes_the_same_steps(
        (network, options) in cases(5), percent in 0..=100_u64, seed: u64,
    ) {
        let target = target(&network, percent);
        let run = || {
            let mut search =
                GreedySearch::new(Arc::clone(&network), target, options.clone()).unwrap();
            let mut journal = Vec::new();
            let score = |policy: &Policy| common::random_score(seed, policy);
            (common::run(&mut search, score, &mut journal).unwrap(), journal)
        };
        prop_assert_eq!(run(), run());
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
fn propose_repeats_until_the_right_scores_arrive() {
    let mut search = GreedySearch::new(small_network(), 10_000, Options::default()).unwrap();
    let first = search.propose().unwrap();
    assert_eq!(search.propose().as_ref(), Some(&first));
    let few = search.observe(&[1.0]).unwrap_err();
    assert_eq!(few, SearchError::ScoreCount { found: 1, expected: first.len() });
    let infinite = vec![f64::INFINITY; first.len()];
    let infinite = search.observe(&infinite).unwrap_err().to_string();
    assert!(infinite.starts_with("score 0 is inf, not a finite number"), "{infinite}");
    assert_eq!(search.propose().as_ref(), Some(&first));
    search.observe(&vec![0.0; first.len()]).unwrap();
    assert_eq!(search.observe(&[]), Err(SearchError::NothingProposed { found: 0 }));
    assert_eq!(search.result(), Err(SearchError::NotFinished));
}

#[test]
fn first_batch_holds_the_start_and_the_anchors_within_the_target() {
    let network = small_network();
    // 6400 for the pinned layer and 500 MACs: 4/3 and 3/4 fit in 12400, 4/4 does not.
    let options = uniform_anchors(&network);
    let mut search = GreedySearch::new(Arc::clone(&network), 12_400, options).unwrap();
    let rows: Vec<_> =
        search.propose().unwrap().iter().map(|p| common::row(p)[2..4].to_vec()).collect();
    assert_eq!(rows, [[4, 4], [4, 3], [3, 4], [3, 3], [4, 2], [2, 4], [3, 2], [2, 3], [2, 2]]);
    // Without anchors the first batch is the first step of the descent, one move down on four sides.
    let mut search = GreedySearch::new(network, 12_400, Options::default()).unwrap();
    assert_eq!(search.propose().unwrap().len(), 4);
}

#[test]
fn start_within_the_target_is_only_improved_upward() {
    let network = small_network();
    let start = Policy::smallest(&network);
    let options = Options { start: Some(start), ..Options::default() };
    let mut search = GreedySearch::new(Arc::clone(&network), 12_400, options).unwrap();
    let result = common::run(&mut search, sum_score, &mut Vec::new()).unwrap();
    assert!(result.trace.iter().all(|step| step.phase == Phase::Upward.name()));
    assert!(result.cost > target(&network, 0) && result.cost <= 12_400);
}

#[test]
fn climbs_start_from_the_best_anchors() {
    let network = small_network();
    let options = Options { climbs: 2, ..uniform_anchors(&network) };
    let mut search = GreedySearch::new(Arc::clone(&network), 12_400, options).unwrap();
    let score = |policy: &Policy| common::random_score(3, policy);
    let mut anchors = search.propose().unwrap().split_off(1);
    anchors.sort_by(|a, b| score(a).total_cmp(&score(b)));
    let result = common::run(&mut search, score, &mut Vec::new()).unwrap();
    let is_restart = |step: &TraceStep| step.phase == Phase::Restart.name();
    let states = states(&network, &result).into_iter().skip(1).zip(&result.trace);
    let restarts = states.filter(|(_, step)| is_restart(step)).map(|(state, _)| state.policy);
    assert_eq!(restarts.take(2).collect::<Vec<_>>(), anchors[..2]);
}

#[test]
fn limit_that_no_descent_fits_is_spent_on_climbs() {
    let network = Arc::new(common::build(&vec![(100, vec![2, 3, 4], vec![2, 3, 4]); 10]));
    // A step costs twenty, up or down, after seven anchors.
    let options = Options { evaluations: Some(35), climbs: 1, ..uniform_anchors(&network) };
    let mut search = GreedySearch::new(Arc::clone(&network), 9_500, options).unwrap();
    let result = common::run(&mut search, sum_score, &mut Vec::new()).unwrap();
    let has = |phase: Phase| result.trace.iter().any(|step| step.phase == phase.name());
    assert!(has(Phase::Upward) && has(Phase::Finish) && !has(Phase::Descent));
}

#[test]
fn limit_of_one_still_ends_within_the_target_with_its_own_score() {
    let network = small_network();
    let options = Options { evaluations: Some(1), ..uniform_anchors(&network) };
    let mut search = GreedySearch::new(Arc::clone(&network), 9_500, options).unwrap();
    let result = common::run(&mut search, sum_score, &mut Vec::new()).unwrap();
    assert_eq!(result.num_evaluations, 1);
    assert!(
        result.trace.iter().all(|step| step.phase == Phase::Finish.name() && step.score.is_none())
    );
    assert!(result.cost <= 9_500);
}

#[test]
fn equal_scores_spend_the_slack() {
    let network = small_network();
    let target = target(&network, 60);
    let mut search = GreedySearch::new(Arc::clone(&network), target, Options::default()).unwrap();
    let result = common::run(&mut search, |_| 7.0, &mut Vec::new()).unwrap();
    let end = Costed::new(&network, result.policy);
    let ups = single_moves(&network, &end.policy).into_iter().filter(|change| !change.is_down());
    assert!(ups.into_iter().all(|up| end.after(&network, up).cost > target));
}

#[test]
fn settings_out_of_range_are_refused() {
    let network = small_network();
    let new = |target, options| GreedySearch::new(Arc::clone(&network), target, options);
    let (smallest_cost, limit) = (8_400, 8_399);
    assert_eq!(
        new(limit, Options::default()).unwrap_err(),
        SearchError::BudgetTooSmall { limit, smallest_cost }
    );
    let options = Options { error_weight: -1.0, ..Options::default() };
    assert_eq!(new(9_000, options).unwrap_err(), SearchError::ErrorWeight { value: -1.0 });
    let options = Options { evaluations: Some(0), ..Options::default() };
    assert_eq!(new(9_000, options).unwrap_err(), SearchError::NoEvaluations);
    let other = Policy::largest(&common::build(&[(1, vec![2], vec![2])]));
    for options in [
        Options { start: Some(other.clone()), ..Options::default() },
        Options { anchors: vec![other], ..Options::default() },
    ] {
        let error = new(9_000, options).unwrap_err();
        assert_eq!(error, SearchError::PolicyLength { found: 1, expected: 3 });
    }
}
