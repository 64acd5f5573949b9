//! The model against scores whose truth is known, and its sums against counting them out.

use faer::Mat;
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

/// Fit noisy scores of the model's own kind; return the share of fresh policies whose true score
/// lies within two deviations, and the typical error of single measurements over what the model
/// says of it.
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
    let taken = |policy: &Policy| -> Vec<f64> {
        let mut row = vec![0.0; model.layout.num_steps()];
        for (place, &taken) in model.layout.positions(&network, policy).iter().enumerate() {
            model.layout.steps(place).take(usize::from(taken)).for_each(|step| row[step] = 1.0);
        }
        row
    };
    let (mut centre, mut weight) = (vec![0.0; model.layout.num_steps()], 0.0);
    for (policy, _) in known.iter() {
        let error = model.deviation_of_error(&network, policy);
        let own = model.hyper.noise / (error * error);
        centre.iter_mut().zip(taken(policy)).for_each(|(sum, it)| *sum += own * it);
        weight += own;
    }
    for policy in random_policies(&network, 20, 4) {
        let pairs = taken(&policy).into_iter().zip(&centre);
        let gap: Vec<f64> = pairs.map(|(taken, centre)| taken - centre / weight).collect();
        let along = posterior::times(&covariance, &gap);
        let square: f64 = along.iter().zip(&gap).map(|(a, b)| a * b).sum();
        let expected = (square + model.hyper.noise / weight).sqrt();
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

/// What each pair of a network whose scores are `truth` adds, times a factor.
fn true_values(network: &Network, truth: &Truth, factor: f64) -> PairValues {
    let of_group = |group: usize, bits| -> f64 {
        let place = truth.layout.place(group);
        place.map_or(0.0, |place| truth.effects[place][truth.layout.taken(place, bits)])
    };
    PairValues::by(network, |layer, bits| {
        let of_side = |side| of_group(network.group_of(layer, side), bits.side(side));
        factor * (of_side(Side::Weight) + of_side(Side::Act))
    })
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
    let hints = Hints::new(&network, &true_values(&network, &truth, 7.0));
    let with = error(&Model::fit_hinted(&network, Some(&hints), &known, None).unwrap());
    assert!(with < 0.5 * without, "{with} with hints, {without} without");
}

#[test]
fn hints_that_say_nothing_change_nothing() {
    let network = tied_network();
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let truth = Truth::draw(&network, &mut random);
    let policies = random_policies(&network, 60, 4);
    let known = archive(&policies, |policy| truth.score(&network, policy));
    let plain = Model::fit(&network, &known, None).unwrap();
    let silent = true_values(&network, &truth, 0.0);
    // A line in the bits that all sides have in common is what the model has anyway.
    let untied = plain_network(layers(3)).unwrap();
    let alike = Hints::new(&untied, &alike_values(&untied));
    let groups = 0..untied.groups().len();
    assert!(groups.flat_map(|group| alike.of_group(group)).all(|it| it.abs() < 1e-9));
    let hints = Hints::new(&network, &silent);
    let hinted = Model::fit_hinted(&network, Some(&hints), &known, None).unwrap();
    for policy in &policies {
        let (one, other) = (plain.predict(&network, policy), hinted.predict(&network, policy));
        assert_eq!((one.score, one.deviation), (other.score, other.deviation));
    }
}

/// Every side alike: each step adds a factor of e to the one before.
fn alike_values(network: &Network) -> PairValues {
    PairValues::by(network, |_, bits| {
        (-f64::from(bits.weight.get())).exp() + (-f64::from(bits.act.get())).exp()
    })
}

#[test]
fn tied_sides_are_hinted_together_and_falling_values_count_as_small_ones() {
    let network = tied_network();
    let values = PairValues::by(&network, |_, bits| {
        let of = |bits: Bits| if bits.get() == 5 { -1.0 } else { (-f64::from(bits.get())).exp() };
        of(bits.weight) + of(bits.act)
    });
    let hints = Hints::new(&network, &values);
    for (index, group) in network.groups().iter().enumerate() {
        let of_group = hints.of_group(index);
        assert_eq!(of_group.len(), group.candidates().as_slice().len() - 1);
        assert!(of_group.iter().all(|it| it.is_finite()));
    }
    // Two sides rise by twice as much: a logarithm more where the step is not at the least.
    let (one, two) = (network.group_of(1, Side::Weight), network.group_of(1, Side::Act));
    let difference = hints.of_group(two)[3] - hints.of_group(one)[3];
    assert!((difference - 2.0_f64.ln()).abs() < 1e-9);
}
