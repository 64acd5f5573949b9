//! Which steps of which group a policy has taken, and sums over policies of what follows from it.
//!
//! A policy takes the first steps of each group, so every sum over pairs of steps is a table of
//! sums over pairs of groups and numbers of steps taken: with 100 groups and 400 steps, a sixteenth
//! of the work.

use std::ops::Range;

use faer::Mat;

use super::hints::Hints;
use super::posterior::symmetric;
use crate::bits::Bits;
use crate::network::{Group, Network};
use crate::policy::Policy;

/// By free group: how many steps a policy has taken from the largest candidate down.
pub(super) type Positions = Vec<u8>;

/// The free groups and their steps, laid out side by side.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// By place: the group's position in the network.
    groups: Vec<usize>,
    /// By group of the network: its place, `None` where it is pinned.
    places: Vec<Option<usize>>,
    /// By place: the candidates, largest first.
    candidates: Vec<Vec<Bits>>,
    /// By place: its steps.
    steps: Vec<Range<usize>>,
    /// By step: 4 less the mean of the bits before and after.
    t: Vec<f64>,
    /// By step: by how much its logarithm should differ from the line that groups have in common.
    hints: Vec<f64>,
}

/// Sums over policies, each with a weight.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Sum over pairs of steps of the products of what policies took, less their means.
    pub(super) gram: Mat<f64>,
    /// The same of steps and scores.
    pub(super) product: Vec<f64>,
    /// The same of scores.
    pub(super) square: f64,
    /// By policy: its weight.
    pub(super) weights: Vec<f64>,
    /// Sum of the weights.
    pub(super) weight: f64,
    /// Mean of what policies took, by step.
    pub(super) centre: Vec<f64>,
    /// Mean score.
    pub(super) score: f64,
    /// Expected effect of the mean policy.
    pub(super) effect: f64,
}

/// For pairs of places and of numbers of steps taken: the sum of a matrix over both sets of steps.
#[derive(Debug, Clone)]
pub(super) struct PairSums {
    sums: Mat<f64>,
    /// By place: its first row; it has a row for each number of steps, 0 included.
    starts: Vec<usize>,
}

impl PairSums {
    pub(super) fn at(&self, place: usize, taken: usize, other: usize, other_taken: usize) -> f64 {
        self.sums[(self.starts[place] + taken, self.starts[other] + other_taken)]
    }

    /// Return the sum over all pairs of steps that a policy has taken.
    pub(super) fn square(&self, positions: &Positions) -> f64 {
        let rows: Vec<usize> = self
            .starts
            .iter()
            .zip(positions)
            .map(|(start, &taken)| start + usize::from(taken))
            .collect();
        // Symmetric: what is below the diagonal counts twice.
        let mut total = 0.0;
        for (place, &column) in rows.iter().enumerate() {
            let column = self.sums.col_as_slice(column);
            let below: f64 = rows[place + 1..].iter().map(|&row| column[row]).sum();
            total += column[rows[place]] + 2.0 * below;
        }
        total
    }
}

impl Layout {
    pub(super) fn new(network: &Network) -> Self {
        let is_free = |(_, group): &(usize, &Group)| group.is_free();
        let free: Vec<(usize, &Group)> =
            network.groups().iter().enumerate().filter(is_free).collect();
        let mut places = vec![None; network.groups().len()];
        let (mut candidates, mut steps, mut t) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (index, group)) in free.iter().enumerate() {
            places[*index] = Some(place);
            let mut bits = group.candidates().as_slice().to_vec();
            bits.reverse();
            let first = t.len();
            t.extend(
                bits.windows(2)
                    .map(|pair| 4.0 - 0.5 * (f64::from(pair[0].get()) + f64::from(pair[1].get()))),
            );
            steps.push(first..t.len());
            candidates.push(bits);
        }
        let groups = free.into_iter().map(|(index, _)| index).collect();
        let hints = vec![0.0; t.len()];
        Self { groups, places, candidates, steps, t, hints }
    }

    /// Take what was known of the network before.
    pub(super) fn with_hints(mut self, hints: &Hints) -> Self {
        let of_groups = self.groups.iter().flat_map(|&group| hints.of_group(group));
        self.hints = of_groups.copied().collect();
        self
    }

    pub(super) fn num_steps(&self) -> usize {
        self.t.len()
    }

    pub(super) fn num_places(&self) -> usize {
        self.groups.len()
    }

    /// Return the steps of a place.
    pub(super) fn steps(&self, place: usize) -> Range<usize> {
        self.steps[place].clone()
    }

    /// Return where a step lies between the bit-widths.
    pub(super) fn t(&self, step: usize) -> f64 {
        self.t[step]
    }

    /// Return the logarithms that are expected of the steps where groups have a line in common.
    pub(super) fn expected(&self, line: impl Fn(f64) -> f64) -> Vec<f64> {
        self.t.iter().zip(&self.hints).map(|(&t, hint)| line(t) + hint).collect()
    }

    /// Return what is expected of a step beside that line.
    pub(super) fn hint(&self, step: usize) -> f64 {
        self.hints[step]
    }

    /// Return whether the steps of a place lie between the same bits as those of the place before.
    pub(super) fn is_like_before(&self, place: usize) -> bool {
        place > 0 && self.candidates[place] == self.candidates[place - 1]
    }

    /// Return the place of a group of the network, `None` where it is pinned.
    pub(super) fn place(&self, group: usize) -> Option<usize> {
        self.places[group]
    }

    /// Return how many steps lead to some bits.
    pub(super) fn taken(&self, place: usize, bits: Bits) -> usize {
        self.candidates[place].iter().position(|&other| other == bits).unwrap_or_default()
    }

    pub(super) fn positions(&self, network: &Network, policy: &Policy) -> Positions {
        let groups = self.groups.iter().enumerate();
        groups
            .map(|(place, &group)| {
                let bits = policy.group_bits(&network.groups()[group]);
                u8::try_from(self.taken(place, bits)).unwrap_or(u8::MAX)
            })
            .collect()
    }

    /// Return by place and steps taken the sum of a value per step.
    pub(super) fn sums(&self, values: &[f64]) -> Vec<Vec<f64>> {
        let running = |steps: &Range<usize>| {
            let mut sum = 0.0;
            let rest = values[steps.clone()].iter().map(|value| {
                sum += value;
                sum
            });
            std::iter::once(0.0).chain(rest).collect()
        };
        self.steps.iter().map(running).collect()
    }

    /// Return the sums over pairs of places and steps taken of a symmetric matrix over steps.
    pub(super) fn pair_sums(&self, matrix: &Mat<f64>) -> PairSums {
        let num_rows = self.num_steps() + self.num_places();
        let mut sums = Mat::<f64>::zeros(num_rows, num_rows);
        let starts: Vec<usize> =
            self.steps.iter().enumerate().map(|(place, steps)| steps.start + place).collect();
        for (place, steps) in self.steps.iter().enumerate() {
            for (other, others) in self.steps.iter().enumerate() {
                for (column, step) in others.clone().enumerate() {
                    let (mut own, to) = (0.0, starts[other] + column + 1);
                    for (row, inner) in steps.clone().enumerate() {
                        own += matrix[(inner, step)];
                        sums[(starts[place] + row + 1, to)] =
                            own + sums[(starts[place] + row + 1, to - 1)];
                    }
                }
            }
        }
        PairSums { sums, starts }
    }

    /// Return the weighted sums over policies; `effect` is the mean of their expected effects.
    pub(super) fn moments(
        &self,
        positions: &[Positions],
        scores: &[f64],
        weights: Vec<f64>,
        effect: f64,
    ) -> Moments {
        let weight: f64 = weights.iter().sum();
        let score = weighted_mean(scores.iter().copied(), &weights);
        let gram = self.raw_gram(positions, &weights);
        let centre: Vec<f64> = (0..self.num_steps()).map(|it| gram[(it, it)] / weight).collect();
        let mut product = vec![0.0; self.num_steps()];
        for ((positions, value), own) in positions.iter().zip(scores).zip(&weights) {
            for (steps, &taken) in self.steps.iter().zip(positions) {
                for sum in &mut product[steps.start..steps.start + usize::from(taken)] {
                    *sum += own * (value - score);
                }
            }
        }
        let square =
            scores.iter().zip(&weights).map(|(value, own)| own * (value - score).powi(2)).sum();
        let gram = symmetric(gram.nrows(), |row, column| {
            gram[(row, column)] - weight * centre[row] * centre[column]
        });
        Moments { gram, product, square, weights, weight, centre, score, effect }
    }

    /// Return for pairs of steps, the first not before the second, the weight of the policies that
    /// took both.
    fn raw_gram(&self, positions: &[Positions], weights: &[f64]) -> Mat<f64> {
        // First by numbers of steps taken, exactly; then summed from the end.
        let num_rows = self.num_steps() + self.num_places();
        let starts: Vec<usize> =
            self.steps.iter().enumerate().map(|(place, steps)| steps.start + place).collect();
        let mut exact = vec![0.0; num_rows * num_rows];
        let mut rows = vec![0; starts.len()];
        for (positions, weight) in positions.iter().zip(weights) {
            for ((row, start), &taken) in rows.iter_mut().zip(&starts).zip(positions) {
                *row = start + usize::from(taken);
            }
            for (place, &column) in rows.iter().enumerate() {
                let column = &mut exact[column * num_rows..][..num_rows];
                rows[place..].iter().for_each(|&row| column[row] += weight);
            }
        }
        let mut gram = Mat::<f64>::zeros(self.num_steps(), self.num_steps());
        for (other, others) in self.steps.iter().enumerate() {
            for (place, steps) in self.steps.iter().enumerate().skip(other) {
                for (column, step) in others.clone().enumerate().rev() {
                    let (mut own, from) = (0.0, starts[other] + column + 1);
                    for (row, inner) in steps.clone().enumerate().rev() {
                        own += exact[from * num_rows + starts[place] + row + 1];
                        let later =
                            if step + 1 < others.end { gram[(inner, step + 1)] } else { 0.0 };
                        gram[(inner, step)] = own + later;
                    }
                }
            }
        }
        gram
    }
}

/// Return the mean of values by weights.
pub(super) fn weighted_mean(values: impl Iterator<Item = f64>, weights: &[f64]) -> f64 {
    let weight: f64 = weights.iter().sum();
    values.zip(weights).map(|(value, weight)| value * weight).sum::<f64>() / weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{random_policies, tied_network};
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// By policy: 1 for each step that it has taken, in the order of the layout.
    fn taken(layout: &Layout, positions: &[Positions]) -> Vec<Vec<f64>> {
        let row = |positions: &Positions| {
            let place = |(place, &taken): (usize, &u8)| {
                let count = layout.steps(place).len();
                (0..count).map(move |step| f64::from(u8::from(step < usize::from(taken))))
            };
            positions.iter().enumerate().flat_map(place).collect()
        };
        positions.iter().map(row).collect()
    }

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9 * expected.abs().max(1.0)
    }

    #[test]
    fn steps_lie_between_the_bits_from_the_largest_down() {
        let network = tied_network();
        let layout = Layout::new(&network);
        // Of 4 free layers of 2 to 6 bits with two ties, 6 groups of 4 steps are left.
        assert_eq!((layout.num_places(), layout.num_steps()), (6, 24));
        assert_eq!(layout.expected(|t| t)[..4], [-1.5, -0.5, 0.5, 1.5]);
        let positions = |policy: &Policy| layout.positions(&network, policy);
        assert_eq!(positions(&Policy::largest(&network)), [0; 6]);
        assert_eq!(positions(&Policy::smallest(&network)), [4; 6]);
    }

    #[test]
    fn moments_equal_a_naive_recount() {
        let network = tied_network();
        let layout = Layout::new(&network);
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let policies = random_policies(&network, 40, 1);
        let positions: Vec<Positions> =
            policies.iter().map(|policy| layout.positions(&network, policy)).collect();
        let mut draw = || (0..40).map(|_| 0.1 + random.random::<f64>()).collect::<Vec<f64>>();
        let (scores, weights) = (draw(), draw());
        let found = layout.moments(&positions, &scores, weights.clone(), 7.0);
        let rows = taken(&layout, &positions);
        let total: f64 = weights.iter().sum();
        let mean = |value: &dyn Fn(usize) -> f64| -> f64 {
            (0..40).map(|it| weights[it] * value(it)).sum::<f64>() / total
        };
        let score = mean(&|it| scores[it]);
        assert!(close(found.weight, total) && close(found.score, score));
        assert!(close(found.square, total * mean(&|it| (scores[it] - score).powi(2))));
        assert_eq!((&found.weights, found.effect.to_bits()), (&weights, 7.0_f64.to_bits()));
        for step in 0..layout.num_steps() {
            let centre = mean(&|it| rows[it][step]);
            assert!(close(found.centre[step], centre));
            let product = total * mean(&|it| rows[it][step] * (scores[it] - score));
            assert!(close(found.product[step], product));
            for other in 0..layout.num_steps() {
                let both = mean(&|it| (rows[it][step] - centre) * rows[it][other]);
                assert!(close(found.gram[(step, other)], total * both), "{step}, {other}");
            }
        }
    }

    #[test]
    fn pair_sums_equal_a_naive_recount() {
        let network = tied_network();
        let layout = Layout::new(&network);
        let mut random = Pcg64Mcg::seed_from_u64(2);
        let count = layout.num_steps();
        let half = Mat::from_fn(count, count, |_, _| random.random::<f64>() - 0.5);
        let matrix = &half + half.transpose();
        let sums = layout.pair_sums(&matrix);
        let policies = random_policies(&network, 20, 2);
        for positions in policies.iter().map(|policy| layout.positions(&network, policy)) {
            let row = taken(&layout, std::slice::from_ref(&positions)).remove(0);
            let sum = |places: &dyn Fn(usize, usize) -> bool| -> f64 {
                let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
                let inside = pairs.filter(|&(a, b)| places(a, b));
                inside.map(|(a, b)| row[a] * matrix[(a, b)] * row[b]).sum()
            };
            assert!(close(sums.square(&positions), sum(&|_, _| true)));
            for (place, other) in [(0, 0), (0, 3), (5, 2)] {
                let (steps, others) = (layout.steps(place), layout.steps(other));
                let expected = sum(&|a, b| steps.contains(&a) && others.contains(&b));
                let (own, its) = (positions[place].into(), positions[other].into());
                assert!(close(sums.at(place, own, other, its), expected));
            }
        }
    }
}
