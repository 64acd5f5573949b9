//! What is known of a network before any policy was measured: by how much each step of a group
//! should raise the score, up to a common factor and slope. Gradients say it for the price of an
//! evaluation.
//!
//! The model takes the logarithms, less the line in the bits that fits them best: what all groups
//! have in common it learns itself, and how far hints are to be trusted as well.

use crate::convert::count_as_float;
use crate::knapsack::PairValues;
use crate::network::{Group, Network};
use crate::policy::Policy;

/// A step that raises the score by less than this share of the mean step, or lowers it, counts as
/// one that raises it by so much: a sum of noisy terms has no logarithm where it is negative.
const LEAST_SHARE: f64 = 1e-3;

/// Hints for the groups of one network.
#[derive(Debug, Clone, PartialEq)]
pub struct Hints {
    /// By group: for each step from the largest candidate down, the logarithm less the common line.
    by_group: Vec<Vec<f64>>,
}

impl Hints {
    /// Read what each pair of each layer adds to the score; what a group adds is taken where all
    /// others have their largest candidates.
    #[must_use]
    pub fn new(network: &Network, values: &PairValues) -> Self {
        let groups = network.groups().iter();
        let rises: Vec<Vec<f64>> = groups.map(|group| rises(network, group, values)).collect();
        Self { by_group: less_line(network, &rises) }
    }

    /// Return the hints of a group, one for each step.
    #[must_use]
    pub fn of_group(&self, group: usize) -> &[f64] {
        &self.by_group[group]
    }
}

/// Return what each step of a group adds, all of its sides together.
fn rises(network: &Network, group: &Group, values: &PairValues) -> Vec<f64> {
    let largest = Policy::largest(network);
    let at = |bits| values.of_policy(network, &largest.with_group(group, bits));
    let steps = group.candidates().as_slice().windows(2).rev();
    steps.map(|pair| at(pair[0]) - at(pair[1])).collect()
}

/// Return the logarithms less the straight line in the bits that fits all of them best.
fn less_line(network: &Network, rises: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let all = || rises.iter().flatten().copied();
    let positive: f64 = all().filter(|rise| *rise > 0.0).sum();
    let least = LEAST_SHARE * positive / count_as_float(all().count().max(1));
    if least <= 0.0 {
        return rises.iter().map(|of_group| vec![0.0; of_group.len()]).collect(); // They say nothing.
    }
    let logarithms: Vec<Vec<f64>> =
        rises.iter().map(|group| group.iter().map(|rise| rise.max(least).ln()).collect()).collect();
    let places: Vec<Vec<f64>> = network.groups().iter().map(middles).collect();
    let pairs = || places.iter().flatten().copied().zip(logarithms.iter().flatten().copied());
    let count = count_as_float(pairs().count());
    let (x, y) = (pairs().map(|it| it.0).sum::<f64>(), pairs().map(|it| it.1).sum::<f64>());
    let (x, y) = (x / count, y / count);
    let spread: f64 = pairs().map(|it| (it.0 - x).powi(2)).sum();
    let product: f64 = pairs().map(|it| (it.0 - x) * (it.1 - y)).sum();
    let slope = if spread > 0.0 { product / spread } else { 0.0 };
    let rest = |(places, logarithms): (&Vec<f64>, &Vec<f64>)| {
        let of_step = |(at, value): (&f64, &f64)| value - y - slope * (at - x);
        places.iter().zip(logarithms).map(of_step).collect()
    };
    places.iter().zip(&logarithms).map(rest).collect()
}

/// Return the mean of the bits before and after each step.
fn middles(group: &Group) -> Vec<f64> {
    let steps = group.candidates().as_slice().windows(2).rev();
    steps.map(|pair| 0.5 * (f64::from(pair[0].get()) + f64::from(pair[1].get()))).collect()
}
