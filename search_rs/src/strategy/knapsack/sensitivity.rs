//! By how much each group of sides raises the score at each of its candidates, measured one at a
//! time.
//!
//! What is not measured follows the law of quantization noise, which falls with a power of two per
//! bit (Widrow and Kollar, "Quantization noise", 2008): `rise(b) ~ 2^(-d b) - 2^(-d b_max)`, `d`
//! from groups with two measurements. A group without any takes the mean of the others at its
//! lowest candidate.
//!
//! Fewer bits do not help, so a score that falls with fewer bits is noise, and tells how large
//! noise is: by that the rises are drawn to the mean of their kind (Efron and Morris, "Stein's
//! estimation rule and its competitors", 1973). Without noise they stay as they were measured.

use std::collections::BTreeMap;

use crate::archive::Archive;
use crate::bits::Side;
use crate::convert::count_as_float;
use crate::knapsack::PairValues;
use crate::model::{mean, variance};
use crate::network::{Group, Network};
use crate::policy::Policy;
use crate::strategy::{Problem, View};

/// The exponent where no group tells of it.
const EXPONENT: f64 = 1.5;

/// Groups that it is worth where some tell of another.
const EXPONENT_COUNT: usize = 8;

/// Exponents that are believed.
const EXPONENTS: (f64, f64) = (0.2, 4.0);

/// Least share of the mean rise of its kind that a rise has where there is noise.
const LEAST: f64 = 0.05;

/// By group and candidate, ascending: by how much it raises the score above the largest candidates.
#[derive(Debug, Clone)]
pub(super) struct Rises {
    values: Vec<Vec<f64>>,
    /// Variance of the difference of two scores, of noise alone.
    noise: f64,
}

impl Rises {
    /// Read what is measured off an archive, and make up what is not.
    pub(super) fn measured(view: &View<'_>) -> Self {
        let network = &view.problem.network;
        let mut known: Vec<Vec<Option<f64>>> = network
            .groups()
            .iter()
            .map(|group| known_rises(network, group, view.archive))
            .collect();
        let noise = shrink(&mut known);
        let groups = || network.groups().iter().zip(&known);
        let measured = groups().filter_map(|(group, known)| exponent(group, known));
        let mut exponents: Vec<f64> = measured.chain([EXPONENT; EXPONENT_COUNT]).collect();
        exponents.sort_by(f64::total_cmp);
        let common = exponents[exponents.len() / 2];
        let is_free = |(group, _): &(&Group, &Vec<Option<f64>>)| group.is_free();
        let lowest: Vec<f64> = groups().filter(is_free).filter_map(|(_, known)| known[0]).collect();
        // Without any measurement, values of any size order policies by their bits.
        let mean = if lowest.is_empty() { 1.0 } else { mean(&lowest) };
        let values = groups().map(|(group, known)| filled(group, known, common, mean)).collect();
        Self { values, noise }
    }

    /// Return the sum over a policy's groups.
    pub(super) fn of_policy(&self, problem: &Problem, policy: &Policy) -> f64 {
        let groups = problem.network.groups().iter().zip(&self.values);
        groups.map(|(group, rises)| rises[place(group, policy)]).sum()
    }

    /// Return the policy with the lowest sum within a budget.
    pub(super) fn optimum(&self, problem: &Problem, budget: usize) -> Policy {
        let network = &problem.network;
        let values = PairValues::by(network, |layer, bits| {
            let sides = [Side::Weight, Side::Act].into_iter();
            let of = |side: Side| {
                let index = network.group_of(layer, side);
                let group = &network.groups()[index];
                // A group counts where its first side is.
                let is_first = group.sides()[0] == (layer, side);
                let place = group.candidates().position(bits.side(side).get());
                place.filter(|_| is_first).map_or(0.0, |place| self.values[index][place])
            };
            sides.map(of).sum()
        });
        problem.optimum(&values, budget)
    }

    /// Make the difference of two measured policies what it is found to be: what was wrong goes to
    /// the groups in which they differ, by their share, and to their candidates further on.
    pub(super) fn correct(&mut self, view: &View<'_>, from: &Policy, to: &Policy) {
        let (Some(before), Some(after)) = (view.archive.score(from), view.archive.score(to)) else {
            return;
        };
        let groups = view.problem.network.groups().iter().enumerate();
        let moved: Vec<(usize, usize, usize)> = groups
            .map(|(index, group)| (index, place(group, from), place(group, to)))
            .filter(|(_, here, there)| here != there)
            .collect();
        let steps: Vec<f64> = moved
            .iter()
            .map(|&(index, here, there)| self.values[index][there] - self.values[index][here])
            .collect();
        let error = after - before - steps.iter().sum::<f64>();
        // As far as it is not noise (James and Stein).
        let error = error * (1.0 - self.noise / (error * error)).max(0.0);
        let total: f64 = steps.iter().map(|step| step.abs()).sum();
        for (&(index, here, there), step) in moved.iter().zip(&steps) {
            let share =
                if total > 0.0 { step.abs() / total } else { 1.0 / count_as_float(moved.len()) };
            let beyond =
                if there < here { 0..=there } else { there..=self.values[index].len() - 1 };
            self.values[index][beyond].iter_mut().for_each(|rise| *rise += share * error);
        }
    }
}

/// Draw what is measured to the mean of its kind, by how much of it is noise; return the variance
/// of the noise of a difference of two scores.
fn shrink(known: &mut [Vec<Option<f64>>]) -> f64 {
    // By place and the next that is measured: the group and the rise from there.
    let mut kinds: BTreeMap<(usize, usize), Vec<(usize, f64)>> = BTreeMap::new();
    for (group, known) in known.iter().enumerate() {
        let measured: Vec<(usize, f64)> =
            known.iter().enumerate().filter_map(|(place, rise)| Some((place, (*rise)?))).collect();
        for pair in measured.windows(2) {
            let [(place, rise), (next, next_rise)] = [pair[0], pair[1]];
            kinds.entry((place, next)).or_default().push((group, rise - next_rise));
        }
    }
    let falls: Vec<f64> =
        kinds.values().flatten().map(|(_, rise)| 2.0 * rise.min(0.0).powi(2)).collect();
    let noise = if falls.is_empty() { 0.0 } else { mean(&falls) };
    if noise <= 0.0 {
        return 0.0;
    }
    // From the largest candidates down, so that what a rise adds to is there.
    for (&(place, next), rises) in kinds.iter().rev() {
        let found: Vec<f64> = rises.iter().map(|&(_, rise)| rise).collect();
        let centre = mean(&found);
        let of_groups = (variance(&found) - noise).max(0.0);
        let share = of_groups / (of_groups + noise);
        for &(group, rise) in rises {
            let least = LEAST * centre.max(0.0);
            let drawn = (centre + share * (rise - centre)).max(least);
            known[group][place] = known[group][next].map(|from| from + drawn);
        }
    }
    noise
}

fn place(group: &Group, policy: &Policy) -> usize {
    group.candidates().position(policy.group_bits(group).get()).unwrap_or_default()
}

fn known_rises(network: &Network, group: &Group, archive: &Archive) -> Vec<Option<f64>> {
    let largest = Policy::largest(network);
    let base = archive.score(&largest);
    let candidates = group.candidates().as_slice().iter();
    candidates
        .map(|&bits| {
            if bits == group.candidates().largest() {
                return Some(0.0);
            }
            Some(archive.score(&largest.with_group(group, bits))? - base?)
        })
        .collect()
}

/// Return the exponent of a group whose lowest candidate and another below the largest are
/// measured.
fn exponent(group: &Group, known: &[Option<f64>]) -> Option<f64> {
    let last = known.len().checked_sub(1)?;
    let lowest = (*known.first()?).filter(|rise| *rise > 0.0)?;
    let (place, rise) = (1..last).find_map(|place| Some((place, known[place]?)))?;
    let ratio = rise / lowest;
    let (mut low, mut high) = EXPONENTS;
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        let law = Law::new(group, middle);
        // The share that is left at the second candidate falls with the exponent.
        if law.at(place, 0, last) > ratio { low = middle } else { high = middle }
    }
    Some(0.5 * (low + high))
}

/// The law over the candidates of one group.
struct Law(Vec<f64>);

impl Law {
    fn new(group: &Group, exponent: f64) -> Self {
        let candidates = group.candidates().as_slice().iter();
        Self(candidates.map(|bits| (-exponent * f64::from(bits.get())).exp2()).collect())
    }

    /// Return how much is left at a place, of 1 at `low` and 0 at `high`.
    fn at(&self, place: usize, low: usize, high: usize) -> f64 {
        (self.0[place] - self.0[high]) / (self.0[low] - self.0[high])
    }
}

/// Return the rises of a group: as measured, and between measurements by the law.
fn filled(group: &Group, known: &[Option<f64>], common: f64, mean: f64) -> Vec<f64> {
    let last = known.len() - 1;
    if last == 0 {
        return vec![0.0];
    }
    let law = Law::new(group, exponent(group, known).unwrap_or(common));
    // What lies below the lowest measurement is read off the law through it.
    let first = (0..last).find_map(|place| Some((place, known[place]?)));
    let lowest = first.map_or(mean, |(place, rise)| rise / law.at(place, 0, last));
    let mut rises = vec![lowest];
    let mut low = 0;
    for place in 1..=last {
        let rise = known[place].unwrap_or_else(|| {
            let high = (place..=last).find(|&high| known[high].is_some()).unwrap_or(last);
            let (from, to) = (rises[low], known[high].unwrap_or_default());
            to + (from - to) * law.at(place, low, high)
        });
        if known[place].is_some() {
            low = place;
        }
        rises.push(rise);
    }
    rises
}
