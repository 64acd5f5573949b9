//! The model against scores whose truth is known, and its sums against counting them out.

use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::bits::Bits;
use crate::cost::Aggregate;
use crate::network::{Layer, costs_by, plain_network};

const FREE: [i128; 5] = [2, 3, 4, 5, 6];

fn layers(count: usize) -> Vec<Layer> {
    let costs = costs_by(&FREE, &FREE, |weight, act| weight * act);
    let pinned = Layer::new("stem", &[8], &[8], &[vec![vec![64]]]).unwrap();
    let free = Layer::new("conv", &FREE, &FREE, &[costs]).unwrap();
    std::iter::once(pinned).chain((0..count).map(|_| free.clone())).collect()
}

/// Layers 1 and 3 share activation bits, as do both sides of layer 2.
pub(super) fn tied_network() -> Network {
    let ties = [vec![(1, Side::Act), (3, Side::Act)], vec![(2, Side::Weight), (2, Side::Act)]];
    Network::new(vec![Aggregate::Sum], layers(4), &ties).unwrap()
}

pub(super) fn random_policies(network: &Network, count: usize, seed: u64) -> Vec<Policy> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut draw = || {
        network.groups().iter().fold(Policy::largest(network), |policy, group| {
            let bits = group.candidates().as_slice();
            policy.with_group(group, bits[random.random_range(0..bits.len())])
        })
    };
    (0..count).map(|_| draw()).collect()
}

/// A constant and increments drawn from the model's own prior, by group and steps taken.
struct Truth {
    layout: Layout,
    constant: f64,
    effects: Vec<Vec<f64>>,
}

impl Truth {
    fn draw(network: &Network, random: &mut Pcg64Mcg) -> Self {
        let layout = Layout::new(network);
        let hyper = Hyper { mu: -2.0, ..Hyper::default() };
        let mut increments = vec![0.0; layout.num_steps()];
        for place in 0..layout.num_places() {
            let mut normal = |variance: f64| -> f64 {
                random.sample::<f64, _>(StandardNormal) * variance.sqrt()
            };
            let (level, decay) = (normal(hyper.level), normal(hyper.decay));
            for step in layout.steps(place) {
                let t = layout.t(step);
                let logarithm = hyper.line(t) + level + decay * t + normal(hyper.jitter);
                increments[step] = logarithm.exp();
            }
        }
        let effects = layout.sums(&increments);
        Self { layout, constant: 30.0, effects }
    }

    fn score(&self, network: &Network, policy: &Policy) -> f64 {
        let positions = self.layout.positions(network, policy);
        let each = positions.iter().zip(&self.effects);
        self.constant + each.map(|(&taken, sums)| sums[usize::from(taken)]).sum::<f64>()
    }
}

fn archive(policies: &[Policy], score: impl FnMut(&Policy) -> f64) -> Archive {
    let mut archive = Archive::default();
    let rows: Vec<Vec<f64>> = policies.iter().map(score).map(|score| vec![score]).collect();
    archive.record(policies, &rows).unwrap();
    archive
}

/// Return the root of the mean square.
fn root_mean_square(values: impl Iterator<Item = f64>) -> f64 {
    mean(&values.map(|value| value * value).collect::<Vec<_>>()).sqrt()
}

#[test]
fn fit_needs_a_free_group_and_three_policies() {
    let network = plain_network(layers(3)).unwrap();
    let policies = random_policies(&network, 3, 0);
    assert!(Model::fit(&network, &archive(&policies[..2], |_| 1.0), None).is_none());
    assert!(Model::fit(&network, &archive(&policies, |_| 1.0), None).is_some());
    let pinned = Layer::new("conv", &[4], &[4], &[vec![vec![16]]]).unwrap();
    let pinned = plain_network(vec![pinned]).unwrap();
    let one = [Policy::smallest(&pinned)];
    assert!(Model::fit(&pinned, &archive(&one, |_| 1.0), None).is_none());
}

#[test]
fn exact_additive_scores_are_predicted() {
    for (seed, network) in [(1, plain_network(layers(5)).unwrap()), (2, tied_network())] {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let truth = Truth::draw(&network, &mut random);
        let score = |policy: &Policy| truth.score(&network, policy);
        let known = archive(&random_policies(&network, 300, seed), score);
        let model = Model::fit(&network, &known, None).unwrap();
        let fresh = random_policies(&network, 200, seed + 10);
        let scores: Vec<f64> = fresh.iter().map(score).collect();
        let misses = fresh.iter().zip(&scores);
        let misses = misses.map(|(it, score)| model.predict(&network, it).score - score);
        let error = root_mean_square(misses) / variance(&scores).sqrt();
        println!("error {error}");
        assert!(error < 0.01, "{error} of the spread");
    }
}

/// Fit noisy scores of the model's own kind; return the share of fresh policies whose true score lies
/// within two deviations, and the typical error of single measurements over what the model says of it.
fn judge(seed: u64, noise: f64) -> (f64, f64) {
    let network = plain_network(layers(6)).unwrap();
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let truth = Truth::draw(&network, &mut random);
    let score = |policy: &Policy| truth.score(&network, policy);
    let mut measured = |policy: &Policy| -> f64 {
        score(policy) + noise * random.sample::<f64, _>(StandardNormal)
    };
    let known = archive(&random_policies(&network, 120, seed), &mut measured);
    let model = Model::fit(&network, &known, None).unwrap();
    let fresh = random_policies(&network, 150, seed + 1000);
    let is_covered = |policy: &&Policy| {
        let found = model.predict(&network, policy);
        (found.score - score(policy)).abs() <= 2.0 * found.deviation
    };
    let num_covered = fresh.iter().filter(is_covered).count();
    let misses = fresh.iter().map(|it| model.predict(&network, it).score - measured(it));
    let error = root_mean_square(misses.collect::<Vec<_>>().into_iter());
    (count_as_float(num_covered) / count_as_float(fresh.len()), model.error() / error)
}

#[test]
fn deviations_cover_the_truth_and_the_error_is_what_fresh_scores_show() {
    let found: Vec<(f64, f64)> = (0..12).map(|seed| judge(seed, 0.5)).collect();
    let covered = mean(&found.iter().map(|it| it.0).collect::<Vec<_>>());
    let ratio = mean(&found.iter().map(|it| it.1).collect::<Vec<_>>());
    println!("covered {covered}, error {ratio}, {found:?}");
    assert!((0.90..=0.99).contains(&covered), "{covered} of the scores within two deviations");
    assert!((0.85..=1.15).contains(&ratio), "{ratio} times the error of fresh scores");
}

#[test]
fn deviation_is_that_of_the_increments_counted_out() {
    let network = tied_network();
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let truth = Truth::draw(&network, &mut random);
    let known = archive(&random_policies(&network, 60, 3), |it| {
        truth.score(&network, it) + random.sample::<f64, _>(StandardNormal)
    });
    let model = Model::fit(&network, &known, None).unwrap();
    let covariance = model.posterior.covariance_of_increments();
    for policy in random_policies(&network, 20, 4) {
        let positions = model.layout.positions(&network, &policy);
        let mut gap: Vec<f64> = model.moments.centre.iter().map(|centre| -centre).collect();
        for (place, &taken) in positions.iter().enumerate() {
            for step in model.layout.steps(place).take(usize::from(taken)) {
                gap[step] += 1.0;
            }
        }
        let along = covariance_with(&covariance, &gap);
        let square: f64 = along.iter().zip(&gap).map(|(a, b)| a * b).sum();
        let expected = (square + model.hyper.noise / model.moments.weight).sqrt();
        let found = model.predict(&network, &policy).deviation;
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} and {expected}");
    }
}

#[test]
fn fit_goes_with_the_scale_of_the_scores() {
    let network = plain_network(layers(4)).unwrap();
    let mut random = Pcg64Mcg::seed_from_u64(5);
    let truth = Truth::draw(&network, &mut random);
    let policies = random_policies(&network, 80, 5);
    let scores: Vec<f64> = policies
        .iter()
        .map(|it| truth.score(&network, it) + 0.3 * random.sample::<f64, _>(StandardNormal))
        .collect();
    let fit = |scale: f64| {
        let mut scores = scores.iter().map(|score| scale * score);
        let known = archive(&policies, |_| scores.next().unwrap());
        Model::fit(&network, &known, None).unwrap()
    };
    let plain = fit(1.0);
    for scale in [1e12, 1e-12] {
        let scaled = fit(scale);
        for policy in random_policies(&network, 20, 6) {
            let expected = plain.predict(&network, &policy);
            let found = scaled.predict(&network, &policy);
            assert!((found.score / scale - expected.score).abs() < 1e-4 * expected.score.abs());
            assert!((found.deviation / scale / expected.deviation - 1.0).abs() < 1e-2);
        }
    }
}

#[test]
fn scores_that_say_nothing_are_predicted_as_they_are() {
    let network = plain_network(layers(3)).unwrap();
    for (count, value) in [(3, 0.0), (50, 0.0), (50, 7.5), (50, -1e12), (50, 1e-12)] {
        let known = archive(&random_policies(&network, count, 0), |_| value);
        let model = Model::fit(&network, &known, None).unwrap();
        for policy in random_policies(&network, 20, 1) {
            let found = model.predict(&network, &policy);
            assert!(found.deviation.is_finite() && model.error().is_finite());
            let most = 1e-3 * value.abs().max(1e-3);
            assert!((found.score - value).abs() <= most, "{} and {value}", found.score);
        }
    }
}

#[test]
fn values_are_counted_once_for_tied_sides() {
    let network = tied_network();
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let truth = Truth::draw(&network, &mut random);
    let policies = random_policies(&network, 60, 7);
    let known = archive(&policies, |policy| truth.score(&network, policy));
    let model = Model::fit(&network, &known, None).unwrap();
    let (values, drawn) = (model.values(&network), model.draw(&network, &mut random));
    let largest = Policy::largest(&network);
    assert!(values.of_policy(&network, &largest).abs() < 1e-12);
    assert!(drawn.of_policy(&network, &largest).abs() < 1e-12);
    for policy in &policies {
        let effect = model.effect_of(&network, policy);
        assert!((values.of_policy(&network, policy) - effect).abs() < 1e-9 * effect.max(1.0));
    }
    for (index, group) in network.groups().iter().enumerate() {
        let found = model.sensitivities(index);
        assert_eq!(
            found.len(),
            if group.is_free() { group.candidates().as_slice().len() } else { 0 }
        );
        let base = model.predict(&network, &largest).score;
        for (sensitivity, &bits) in found.iter().zip(group.candidates().as_slice().iter().rev()) {
            let lowered = largest.with_group(group, bits);
            let rise = model.predict(&network, &lowered).score - base;
            assert!((rise - sensitivity.score).abs() < 1e-9 * base.abs());
            assert!((drawn.of_policy(&network, &lowered) > 0.0) == (bits < Bits::new(6).unwrap()));
        }
    }
}

#[test]
fn draws_have_the_mean_and_the_covariance_of_the_posterior() {
    let network = tied_network();
    let mut random = Pcg64Mcg::seed_from_u64(8);
    let truth = Truth::draw(&network, &mut random);
    let known = archive(&random_policies(&network, 80, 8), |it| {
        truth.score(&network, it) + random.sample::<f64, _>(StandardNormal)
    });
    let model = Model::fit(&network, &known, None).unwrap();
    let (posterior, count) = (&model.posterior, model.layout.num_steps());
    // What unit vectors are taken to are the columns of a root of the covariance.
    let mut root = Mat::<f64>::zeros(count, count);
    for column in 0..count {
        let unit: Vec<f64> = (0..count).map(|it| f64::from(u8::from(it == column))).collect();
        for (row, at) in posterior.at(&unit).into_iter().enumerate() {
            root[(row, column)] = at - posterior.mean()[row];
        }
    }
    let found = &root * root.transpose();
    let covariance = posterior.covariance();
    for row in 0..count {
        for column in 0..count {
            let scale = (covariance[(row, row)] * covariance[(column, column)]).sqrt();
            let gap = found[(row, column)] - covariance[(row, column)];
            assert!(gap.abs() < 1e-8 * scale, "{row}, {column}: {gap}");
        }
    }
    assert_eq!(posterior.at(&vec![0.0; count]), posterior.mean());
    // And so the values that are drawn have the expected increments as their mean.
    let smallest = Policy::smallest(&network);
    let draws: Vec<f64> = (0..4000)
        .map(|_| model.draw(&network, &mut random).of_policy(&network, &smallest))
        .collect();
    let error = (variance(&draws) / count_as_float(draws.len())).sqrt();
    let gap = mean(&draws) - model.effect_of(&network, &smallest);
    assert!(gap.abs() < 4.0 * error, "{gap} is beyond {error}");
}

/// What each candidate of a network whose scores are `truth` adds, times a factor.
fn true_values(network: &Network, truth: &Truth, factor: f64) -> Vec<[Vec<f64>; 2]> {
    let mut values: Vec<[Vec<f64>; 2]> = network
        .layers()
        .iter()
        .map(|layer| {
            [Side::Weight, Side::Act].map(|side| vec![0.0; layer.candidates(side).as_slice().len()])
        })
        .collect();
    for (index, group) in network.groups().iter().enumerate().filter(|(_, group)| group.is_free()) {
        let place = truth.layout.place(index).unwrap();
        let (layer, side) = group.sides()[0];
        for (taken, effect) in truth.effects[place].iter().enumerate() {
            values[layer][usize::from(side == Side::Act)][taken] = factor * effect;
        }
    }
    values
}

#[test]
fn hints_that_are_right_up_to_a_factor_predict_better_from_few_scores() {
    let network = plain_network(layers(12)).unwrap();
    let mut random = Pcg64Mcg::seed_from_u64(11);
    let truth = Truth::draw(&network, &mut random);
    let policies = random_policies(&network, 120, 12);
    let (shown, others) = policies.split_at(20);
    let known = archive(shown, |policy| {
        truth.score(&network, policy) + 0.02 * random.sample::<f64, _>(StandardNormal)
    });
    let error = |model: &Model| -> f64 {
        let square = |policy: &Policy| {
            (model.predict(&network, policy).score - truth.score(&network, policy)).powi(2)
        };
        others.iter().map(square).sum::<f64>().sqrt()
    };
    let without = error(&Model::fit(&network, &known, None).unwrap());
    let hints = Hints::new(&network, &true_values(&network, &truth, 7.0)).unwrap();
    let with = error(&Model::fit_hinted(&network, Some(&hints), &known, None).unwrap());
    assert!(with < 0.5 * without, "{with} with hints, {without} without");
}

#[test]
fn hints_that_are_the_same_for_all_groups_change_nothing() {
    let network = tied_network();
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let truth = Truth::draw(&network, &mut random);
    let policies = random_policies(&network, 60, 4);
    let known = archive(&policies, |policy| truth.score(&network, policy));
    let plain = Model::fit(&network, &known, None).unwrap();
    // Nothing is said where no step raises the score.
    let silent = true_values(&network, &truth, 0.0);
    let hints = Hints::new(&network, &silent).unwrap();
    let hinted = Model::fit_hinted(&network, Some(&hints), &known, None).unwrap();
    for policy in &policies {
        let (one, other) = (plain.predict(&network, policy), hinted.predict(&network, policy));
        assert_eq!((one.score, one.deviation), (other.score, other.deviation));
    }
}

#[test]
fn hints_are_read_for_tied_sides_together_and_negative_ones_count_as_small() {
    let network = tied_network();
    let values: Vec<[Vec<f64>; 2]> = network
        .layers()
        .iter()
        .map(|layer| {
            [Side::Weight, Side::Act].map(|side| {
                let count = layer.candidates(side).as_slice().len();
                (0..count).map(|it| if it == 1 { -1.0 } else { count_as_float(it).exp() }).collect()
            })
        })
        .collect();
    let hints = Hints::new(&network, &values).unwrap();
    for (index, group) in network.groups().iter().enumerate() {
        let of_group = hints.of_group(index);
        assert_eq!(of_group.len(), group.candidates().as_slice().len() - 1);
        assert!(of_group.iter().all(|it| it.is_finite()));
    }
    let one = network.group_of(1, Side::Weight);
    let two = network.group_of(1, Side::Act);
    // Twice the values: a logarithm more for each step that is not at the least.
    let difference = hints.of_group(two)[2] - hints.of_group(one)[2];
    assert!((difference - 2.0_f64.ln()).abs() < 1e-9);
}

#[test]
fn hints_that_do_not_fit_are_refused() {
    let network = tied_network();
    let fitting = || ones(&network);
    assert!(Hints::new(&network, &fitting()).is_ok());
    let mut short = fitting();
    short.pop();
    assert!(Hints::new(&network, &short).is_err());
    let mut narrow = fitting();
    narrow[1][0].pop();
    let refusal = Hints::new(&network, &narrow).unwrap_err().to_string();
    assert_eq!(refusal, "conv has 4 hints, 5 are needed; give one for each candidate");
    let mut endless = fitting();
    endless[1][1][2] = f64::INFINITY;
    let refusal = Hints::new(&network, &endless).unwrap_err().to_string();
    assert_eq!(refusal, "a hint of conv is inf, not a finite number; leave hints out or mend them");
}

fn ones(network: &Network) -> Vec<[Vec<f64>; 2]> {
    let of_layer = |layer: &Layer| {
        [Side::Weight, Side::Act].map(|side| vec![1.0; layer.candidates(side).as_slice().len()])
    };
    network.layers().iter().map(of_layer).collect()
}
