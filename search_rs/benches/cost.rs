//! What the engine costs: one proposal accounted in every resource, 10^6 whole policies, a fit of the
//! model with its knapsack, and a search with free evaluation.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use search_rs::archive::Archive;
use search_rs::budget::Budget;
use search_rs::cost::{self, Aggregate, MAX_RESOURCES};
use search_rs::draw;
use search_rs::error::SearchError;
use search_rs::model::Model;
use search_rs::moves::{Costed, single_moves};
use search_rs::network::{Layer, Network};
use search_rs::policy::Policy;
use search_rs::session::Session;
use search_rs::strategy::{self, Problem, Settings};

const NUM_LAYERS: u64 = 53;
const NUM_POLICIES: u64 = 1_000_000;

/// Scores that a fit is given.
const NUM_SCORES: usize = 300;

fn is_pinned(index: u64) -> bool {
    index == 0 || index + 1 == NUM_LAYERS
}

/// A network of 53 layers, the first and the last pinned, with BitOPs of `MobileNetV2`'s size. Of its
/// resources every fourth is the largest of the layers, as peaks of memory are, all others add up.
fn network(num_resources: usize) -> Result<Network, SearchError> {
    let layers = (0..NUM_LAYERS).map(|index| {
        let candidates: &[i128] = if is_pinned(index) { &[8] } else { &[2, 3, 4, 5, 6] };
        let column = |resource: u64| -> Vec<Vec<i128>> {
            let macs = i128::from(1_000_000 + 97_003 * (index * (31 + 2 * resource) % 53));
            let row = |weight: &i128| candidates.iter().map(|act| macs * weight * act).collect();
            candidates.iter().map(row).collect()
        };
        let columns: Vec<_> = (0..num_resources as u64).map(column).collect();
        Layer::new(&format!("layer{index}"), candidates, candidates, &columns)
    });
    let kind = |place| if place % 4 == 3 { Aggregate::Max } else { Aggregate::Sum };
    Network::new((0..num_resources).map(kind).collect(), layers.collect::<Result<_, _>>()?, &[])
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

/// A problem with one budget of some per cent of the largest cost in the first resource.
fn problem(network: &Arc<Network>, percent: u64) -> Result<Problem, SearchError> {
    let largest = cost::of_policy(network, &Policy::largest(network));
    let budget = Budget::new(network, &[Some(largest.get(0) / 100 * percent)])?;
    Problem::new(Arc::clone(network), vec![budget], uniform(network)?, 0)
}

/// An additive score: each side of layer `index` adds `(1 + index % 7) / 2^bits`.
fn score(policy: &Policy) -> f64 {
    let side = |bits: u8| 0.5_f64.powi(bits.into());
    let layers = policy.layers().iter().zip((1..8).cycle());
    layers
        .map(|(bits, weight)| f64::from(weight) * (side(bits.weight.get()) + side(bits.act.get())))
        .sum()
}

/// Additive scores of random policies within the budget, each with noise of its own.
fn scored(problem: &Problem, num_scores: usize) -> Result<Archive, SearchError> {
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let policies: Vec<Policy> =
        (0..num_scores).map(|_| draw::wide(problem, 0, &mut random)).collect();
    let noisy = |(index, policy): (u32, &Policy)| {
        let noise = f64::from(index.wrapping_mul(2_654_435_769) >> 16) / 65_536.0 - 0.5;
        vec![score(policy) + noise]
    };
    let mut archive = Archive::default();
    archive.record(&policies, &(0..).zip(&policies).map(noisy).collect::<Vec<_>>())?;
    Ok(archive)
}

fn search(problem: &Problem, name: &str, limit: Option<u64>) -> Result<u64, SearchError> {
    let strategy = strategy::create(name, problem, &Settings::default(), limit)?;
    let mut session = Session::new(problem.clone(), strategy, Archive::default(), limit)?;
    while let Some(policies) = session.propose() {
        let scores: Vec<Vec<f64>> = policies.iter().map(|policy| vec![score(policy)]).collect();
        session.observe(&scores)?;
    }
    session.results()?;
    Ok(session.num_evaluations())
}

#[expect(clippy::unwrap_used, reason = "the network above is valid")]
fn accounting(criterion: &mut Criterion) {
    for num_resources in [1, MAX_RESOURCES] {
        let network = network(num_resources).unwrap();
        let base = Costed::new(&network, Policy::largest(&network));
        let moves = single_moves(&network, &base.policy);
        let mut place = 0;
        let name = format!("one proposal, costs in {num_resources} resources");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                // Each move in turn: some lower the largest layer, which takes a recount.
                place = (place + 1) % moves.len();
                black_box(&base).costs_after(&network, black_box(moves[place]))
            });
        });
        let name = format!("one proposal, policy and costs in {num_resources} resources");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| black_box(&base).after(&network, black_box(moves[52])));
        });
    }
    let rows = random_rows();
    let mut group = criterion.benchmark_group("53 layers");
    group.sample_size(10);
    for num_resources in [1, MAX_RESOURCES] {
        let network = network(num_resources).unwrap();
        let name = format!("10^6 whole random policies in {num_resources} resources");
        group.bench_function(name, |bencher| {
            bencher.iter(|| cost::of_rows(&network, black_box(&rows)));
        });
    }
    group.finish();
}

#[expect(clippy::unwrap_used, reason = "the network above is valid")]
fn searching(criterion: &mut Criterion) {
    let network = Arc::new(network(1).unwrap());
    let tight = problem(&network, 28).unwrap();
    let archive = scored(&tight, NUM_SCORES).unwrap();
    let fit = || Model::fit(&network, &archive, None).unwrap();
    let model = fit();
    let solve = |model: &Model| {
        tight.knapsack.solve(&network, &model.values(&network), &tight.budgets[0]).unwrap()
    };
    assert!(solve(&model).is_proven);
    let mut group = criterion.benchmark_group("53 layers");
    group.sample_size(10);
    group.bench_function(format!("fit of {NUM_SCORES} scores and knapsack"), |bencher| {
        bencher.iter(|| solve(&fit()));
    });
    group.bench_function(format!("fit of {NUM_SCORES} scores that goes on"), |bencher| {
        bencher.iter(|| Model::fit(&network, &archive, Some(black_box(&model))));
    });
    group.bench_function("knapsack of the model's values", |bencher| {
        bencher.iter(|| solve(black_box(&model)));
    });
    let mut random = Pcg64Mcg::seed_from_u64(2);
    group.bench_function("knapsack of values drawn from the model", |bencher| {
        bencher.iter_batched(
            || model.draw(&network, &mut random),
            |values| tight.knapsack.solve(&network, &values, &tight.budgets[0]),
            BatchSize::SmallInput,
        );
    });
    let half = problem(&network, 50).unwrap();
    for (name, limit) in [("greedy", None), ("guided", Some(300))] {
        let num_evaluations = search(&half, name, limit).unwrap();
        let title = format!("{name} search to half, {num_evaluations} additive scores");
        group.bench_function(title, |bencher| {
            bencher.iter(|| search(black_box(&half), name, limit));
        });
    }
    group.finish();
}

criterion_group!(benches, accounting, searching);
criterion_main!(benches);
