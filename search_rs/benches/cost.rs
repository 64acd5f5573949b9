//! What accounting costs: one move updated, 10^6 whole policies, and a search with free evaluation.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use search_rs::cost;
use search_rs::error::SearchError;
use search_rs::greedy::GreedySearch;
use search_rs::moves::{Costed, single_moves};
use search_rs::network::{Layer, Network};
use search_rs::policy::Policy;
use search_rs::strategy::{Options, Strategy};

const NUM_LAYERS: u64 = 53;
const NUM_POLICIES: u64 = 1_000_000;

fn is_pinned(index: u64) -> bool {
    index == 0 || index + 1 == NUM_LAYERS
}

/// A network of 53 layers, the first and the last pinned, with BitOPs of `MobileNetV2`'s size.
fn network() -> Result<Network, SearchError> {
    let layers = (0..NUM_LAYERS).map(|index| {
        let macs = i128::from(1_000_000 + 97_003 * (index * 31 % 53));
        let candidates: &[i128] = if is_pinned(index) { &[8] } else { &[2, 3, 4, 5, 6] };
        let row = |weight: &i128| candidates.iter().map(|act| macs * weight * act).collect();
        let costs: Vec<Vec<i128>> = candidates.iter().map(row).collect();
        Layer::new(&format!("layer{index}"), candidates, candidates, &costs)
    });
    Network::new(layers.collect::<Result<_, _>>()?)
}

/// Rows of bits from 2 to 6, in pinned layers 8, from a fixed linear congruence.
fn random_rows() -> Vec<u8> {
    let mut state = 1_u64;
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        2 + ((state >> 33) % 5).to_le_bytes()[0]
    };
    let sides = (0..NUM_POLICIES).flat_map(|_| (0..2 * NUM_LAYERS).map(|side| side / 2));
    sides.map(|layer| if is_pinned(layer) { 8 } else { draw() }).collect()
}

fn uniform(network: &Network) -> Result<Vec<Policy>, SearchError> {
    let pairs = (2..=6).flat_map(|weight| (2..=6).map(move |act| [weight, act]));
    let row = |pair| (0..NUM_LAYERS).flat_map(move |i| if is_pinned(i) { [8, 8] } else { pair });
    pairs.map(|pair| Policy::from_row(network, &row(pair).collect::<Vec<_>>())).collect()
}

/// An additive score: each side of layer `index` adds `(1 + index % 7) / bits^2`.
fn score(policy: &Policy) -> f64 {
    let side = |bits: u8| 1.0 / f64::from(bits).powi(2);
    let layers = policy.layers().iter().zip((1..8).cycle());
    layers
        .map(|(bits, weight)| f64::from(weight) * (side(bits.weight.get()) + side(bits.act.get())))
        .sum()
}

fn search(network: &Arc<Network>) -> Result<u64, SearchError> {
    let largest = cost::of_policy(network, &Policy::largest(network));
    // As `harness search` does it (harness/search/engine.py).
    let anchors = uniform(network)?;
    let options = Options { anchors, climbs: 5, exchange_limit: 200, ..Options::default() };
    let mut search = GreedySearch::new(Arc::clone(network), largest / 2, options)?;
    while let Some(policies) = search.propose() {
        let scores: Vec<f64> = policies.iter().map(score).collect();
        search.observe(&scores)?;
    }
    Ok(search.result()?.num_evaluations)
}

#[expect(clippy::unwrap_used, reason = "the network above is valid")]
fn benchmarks(criterion: &mut Criterion) {
    let network = Arc::new(network().unwrap());
    let base = Costed::new(&network, Policy::largest(&network));
    let change = single_moves(&network, &base.policy)[52];
    let layer = &network.layers()[change.layer_index];
    let from = base.policy.layers()[change.layer_index];
    let to = from.with(change.side, change.to);
    criterion.bench_function("one move, BitOPs updated", |bencher| {
        bencher.iter(|| cost::after_move(layer, black_box(base.cost), black_box(from), to));
    });
    criterion.bench_function("one move, policy and BitOPs", |bencher| {
        bencher.iter(|| black_box(&base).after(&network, black_box(change)));
    });
    let rows = random_rows();
    let mut group = criterion.benchmark_group("53 layers");
    group.sample_size(10);
    group.bench_function("10^6 whole random policies", |bencher| {
        bencher.iter(|| cost::of_rows(&network, black_box(&rows)));
    });
    let num_evaluations = search(&network).unwrap();
    let name = format!("greedy search to half, {num_evaluations} additive scores");
    group.bench_function(name, |bencher| {
        bencher.iter(|| search(black_box(&network)));
    });
    group.finish();
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
