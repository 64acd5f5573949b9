//! Random networks, random scores and a way to run a search to its end.

use std::sync::Arc;

use proptest::prelude::*;
use search_rs::archive::Archive;
use search_rs::bits::{Bits, Side};
use search_rs::budget::{Budget, smallest_cost};
use search_rs::cost::{self, Aggregate};
use search_rs::error::SearchError;
use search_rs::network::{Layer, Network};
use search_rs::policy::Policy;
use search_rs::session::Session;
use search_rs::strategy::{Problem, Strategy as Searching};
use search_rs::trace::SearchResult;

/// Cost of each pair of a weight and an act bit, weight candidates, act candidates.
pub(crate) type LayerSpec = (i128, Vec<i128>, Vec<i128>);

/// A subset of 2 to 6 bits, or one bit-width that pins.
fn candidates() -> impl Strategy<Value = Vec<i128>> {
    prop_oneof![
        1 => Just(vec![8]),
        4 => proptest::sample::subsequence(vec![2, 3, 4, 5, 6], 1..=5),
    ]
}

/// Networks of 1 to `max_layers` layers whose cost is that of BitOPs: more bits cost more.
pub(crate) fn strict_networks(max_layers: usize) -> impl Strategy<Value = Arc<Network>> {
    let layer = (1..10_000_i128, candidates(), candidates());
    proptest::collection::vec(layer, 1..=max_layers).prop_map(|specs| Arc::new(build(&specs)))
}

/// Networks of 1 to `max_layers` layers with any costs that do not fall, mostly plateaus.
pub(crate) fn plateau_networks(max_layers: usize) -> impl Strategy<Value = Arc<Network>> {
    // By how much each entry is above the larger of its two neighbours with fewer bits.
    let rises = proptest::collection::vec(prop_oneof![2 => Just(0), 1 => 0..50_i128], 25);
    let layer = (candidates(), candidates(), rises).prop_map(|(weight, act, rises)| {
        let mut costs: Vec<Vec<i128>> = vec![vec![0; act.len()]; weight.len()];
        for row in 0..weight.len() {
            for column in 0..act.len() {
                let fewer_weight = row.checked_sub(1).map_or(0, |fewer| costs[fewer][column]);
                let fewer_act = column.checked_sub(1).map_or(0, |fewer| costs[row][fewer]);
                costs[row][column] = fewer_weight.max(fewer_act) + rises[5 * row + column];
            }
        }
        Layer::new("layer", &weight, &act, &[costs]).unwrap()
    });
    proptest::collection::vec(layer, 1..=max_layers).prop_map(|layers| Arc::new(plain(layers)))
}

/// Networks of 1 to `max_layers` layers, with plateaus or without.
pub(crate) fn networks(max_layers: usize) -> impl Strategy<Value = Arc<Network>> {
    prop_oneof![strict_networks(max_layers), plateau_networks(max_layers)]
}

/// Build a network of layers named by position that cost a factor times both bit-widths.
pub(crate) fn build(specs: &[LayerSpec]) -> Network {
    let layers = specs.iter().enumerate().map(|(index, (factor, weight_bits, act_bits))| {
        let row = |weight: &i128| act_bits.iter().map(|act| factor * weight * act).collect();
        let costs: Vec<Vec<i128>> = weight_bits.iter().map(row).collect();
        Layer::new(&format!("layer{index}"), weight_bits, act_bits, &[costs]).unwrap()
    });
    plain(layers.collect())
}

/// Return a network without ties whose one resource adds up.
pub(crate) fn plain(layers: Vec<Layer>) -> Network {
    Network::new(vec![Aggregate::Sum], layers, &[]).unwrap()
}

/// Return the row of a policy.
pub(crate) fn row(policy: &Policy) -> Vec<u8> {
    let mut row = Vec::new();
    policy.write_row(&mut row);
    row
}

/// Return a number from 0 to 999 that depends on the seed and the policy and on nothing else.
pub(crate) fn random_score(seed: u64, policy: &Policy) -> f64 {
    let hash = row(policy).iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    f64::from(u16::try_from(hash % 1000).unwrap_or(0))
}

/// Return the policies in which every side of every layer takes its nearest candidate not below some
/// bits, else its largest; as the callers of the engine do, each may come more than once.
pub(crate) fn uniform(network: &Network) -> Vec<Policy> {
    let policy = |pair| uniform_policy(network, pair);
    (2..=8).flat_map(|weight| (2..=8).map(move |act| (weight, act))).filter_map(policy).collect()
}

/// Return a uniform policy; `None` where ties do not let every side take its nearest candidate.
fn uniform_policy(network: &Network, (weight, act): (u8, u8)) -> Option<Policy> {
    let nearest = |index: usize, side, bits: u8| -> u8 {
        let candidates = network.layers()[index].candidates(side);
        let is_candidate = |&bits: &u8| candidates.contains(Bits::new(bits.into()).unwrap());
        (bits..=8).find(is_candidate).unwrap_or_else(|| candidates.largest().get())
    };
    let sides = (0..network.num_layers())
        .flat_map(|index| [nearest(index, Side::Weight, weight), nearest(index, Side::Act, act)]);
    Policy::from_row(network, &sides.collect::<Vec<_>>()).ok()
}

/// Networks with ties, a second resource whose largest layer counts and a third without any order.
pub(crate) fn tied_networks(max_layers: usize) -> impl Strategy<Value = Arc<Network>> {
    let layer = (any::<u64>(), 0..3_usize);
    proptest::collection::vec(layer, 1..=max_layers).prop_map(|specs| {
        let free: [&[i128]; 3] = [&[2, 3, 4], &[2, 4], &[8]];
        let layers = specs.iter().enumerate().map(|(index, &(seed, kind))| {
            let bits = free[kind];
            let column = |salt: u64, rises: bool| -> Vec<Vec<i128>> {
                let cost = |weight: i128, act: i128| {
                    let hash = seed.rotate_left(7).wrapping_mul(31 + salt) >> 40;
                    let factor = i128::from(1 + hash % 50);
                    if rises {
                        factor * weight * act
                    } else {
                        factor * (weight * 5 % 7 + act * 3 % 5)
                    }
                };
                bits.iter().map(|&w| bits.iter().map(|&a| cost(w, a)).collect()).collect()
            };
            let columns = [column(1, true), column(2, true), column(3, false)];
            Layer::new(&format!("layer{index}"), bits, bits, &columns).unwrap()
        });
        let kinds = vec![Aggregate::Sum, Aggregate::Max, Aggregate::Sum];
        let of_kind = |kind| {
            let same = specs.iter().enumerate().filter(move |(_, spec)| spec.1 == kind);
            same.map(|(index, _)| (index, Side::Act)).take(3).collect::<Vec<_>>()
        };
        Arc::new(Network::new(kinds, layers.collect(), &[of_kind(0), of_kind(1)]).unwrap())
    })
}

/// Return a budget for a network of one resource.
pub(crate) fn limit(network: &Network, limit: u64) -> Budget {
    Budget::new(network, &[Some(limit)]).unwrap()
}

/// Return the cost that is some per cent of the way from the smallest to the largest, per resource.
pub(crate) fn target(network: &Network, resource: usize, percent: u64) -> u64 {
    let smallest = smallest_cost(network, resource);
    let each = network.layers().iter().map(|layer| layer.costs().largest(resource));
    let largest = match network.aggregates()[resource] {
        Aggregate::Sum => each.sum::<u64>(),
        Aggregate::Max => each.max().unwrap(),
    };
    smallest + (largest - smallest) * percent / 100
}

/// Return a problem with one limit per budget.
pub(crate) fn problem(network: &Arc<Network>, limits: &[u64], seed: u64) -> Problem {
    let budgets = limits.iter().map(|&it| limit(network, it)).collect();
    Problem::new(Arc::clone(network), budgets, uniform(network), seed).unwrap()
}

/// Return the cost of a policy of a network of one resource.
pub(crate) fn cost_of(network: &Network, policy: &Policy) -> u64 {
    cost::of_policy(network, policy).get(0)
}

/// Return every policy that respects the ties.
pub(crate) fn all(network: &Network) -> Vec<Policy> {
    let mut policies = vec![Policy::smallest(network)];
    for group in network.groups() {
        let bits = group.candidates().as_slice();
        policies = policies
            .iter()
            .flat_map(|policy| bits.iter().map(move |&bits| policy.with_group(group, bits)))
            .collect();
    }
    policies
}

/// Begin a session with nothing known.
pub(crate) fn session(
    problem: Problem,
    strategy: impl Searching + 'static,
    limit: Option<u64>,
) -> Session {
    Session::new(problem, Box::new(strategy), Archive::default(), limit).unwrap()
}

/// Run a search to its end; the journal takes every policy evaluated with its score.
pub(crate) fn run(
    session: &mut Session,
    score: impl Fn(&Policy) -> f64,
    journal: &mut Vec<(Policy, f64)>,
) -> Result<Vec<SearchResult>, SearchError> {
    while let Some(policies) = session.propose() {
        let scores: Vec<f64> = policies.iter().map(&score).collect();
        session.observe(&scores.iter().map(|&score| vec![score]).collect::<Vec<_>>())?;
        journal.extend(policies.into_iter().zip(scores));
    }
    session.results()
}
