//! Random networks, random scores and a way to run a search to its end.

use std::sync::Arc;

use proptest::prelude::*;
use search_rs::error::SearchError;
use search_rs::greedy::GreedySearch;
use search_rs::network::{Bits, Layer, Network, Side};
use search_rs::policy::Policy;
use search_rs::trace::SearchResult;

/// MACs, weights, weight candidates, act candidates.
pub(crate) type LayerSpec = (u64, u64, Vec<i128>, Vec<i128>);

/// A subset of 2 to 6 bits, or one bit-width that pins.
fn candidates() -> impl Strategy<Value = Vec<i128>> {
    prop_oneof![
        1 => Just(vec![8]),
        4 => proptest::sample::subsequence(vec![2, 3, 4, 5, 6], 1..=5),
    ]
}

/// Networks of 1 to `max_layers` layers.
pub(crate) fn networks(max_layers: usize) -> impl Strategy<Value = Arc<Network>> {
    let layer = (1..10_000_u64, 0..10_000_u64, candidates(), candidates());
    proptest::collection::vec(layer, 1..=max_layers)
        .prop_filter_map("valid", |specs| build(&specs).ok().map(Arc::new))
}

/// Build a network of layers named by position.
pub(crate) fn build(specs: &[LayerSpec]) -> Result<Network, SearchError> {
    let layers = specs.iter().enumerate().map(|(index, (macs, weights, weight_bits, act_bits))| {
        Layer::new(&format!("layer{index}"), *macs, *weights, weight_bits, act_bits)
    });
    Network::new(layers.collect::<Result<_, _>>()?)
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
    search: &mut GreedySearch,
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
