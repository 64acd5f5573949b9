//! Random networks, random scores and a way to run a search to its end.

use std::sync::Arc;

use proptest::prelude::*;
use search_rs::bits::{Bits, Side};
use search_rs::error::SearchError;
use search_rs::network::{Layer, Network};
use search_rs::policy::Policy;
use search_rs::strategy::Strategy as Searching;
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
        Layer::new("layer", &weight, &act, &costs).unwrap()
    });
    proptest::collection::vec(layer, 1..=max_layers)
        .prop_map(|layers| Arc::new(Network::new(layers).unwrap()))
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
        Layer::new(&format!("layer{index}"), weight_bits, act_bits, &costs).unwrap()
    });
    Network::new(layers.collect()).unwrap()
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
    let nearest = |index: usize, side, bits: u8| -> u8 {
        let candidates = network.layers()[index].candidates(side);
        let is_candidate = |&bits: &u8| candidates.contains(Bits::new(bits.into()).unwrap());
        (bits..=8).find(is_candidate).unwrap_or_else(|| candidates.largest().get())
    };
    let policy = |(weight, act)| {
        let sides = (0..network.num_layers()).flat_map(|index| {
            [nearest(index, Side::Weight, weight), nearest(index, Side::Act, act)]
        });
        Policy::from_row(network, &sides.collect::<Vec<_>>()).unwrap()
    };
    (2..=8).flat_map(|weight| (2..=8).map(move |act| (weight, act))).map(policy).collect()
}

/// Run a search to its end; the journal takes every policy evaluated with its score.
pub(crate) fn run(
    search: &mut dyn Searching,
    score: impl Fn(&Policy) -> f64,
    journal: &mut Vec<(Policy, f64)>,
) -> Result<SearchResult, SearchError> {
    while let Some(policies) = search.propose() {
        let scores: Vec<f64> = policies.iter().map(&score).collect();
        search.observe(&scores)?;
        journal.extend(policies.into_iter().zip(scores));
    }
    search.result()
}
