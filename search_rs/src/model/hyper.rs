//! What the groups share: the line that logarithms of increments follow, how far groups and steps
//! deviate from it, noise and misfit; with hyperpriors that are worth a few groups.

use faer::linalg::solvers::{DenseSolveCore, Llt};
use faer::{Mat, Side};

use super::layout::{Layout, Moments};
use super::posterior::Posterior;
use crate::convert::count_as_float;

/// Groups that the centre of a hyperprior is worth.
const PRIOR_COUNT: f64 = 8.0;

/// Standard deviation of the hyperprior of `delta`.
const DELTA_DEVIATION: f64 = 0.4;

/// Misfits tried; 0.1 is an error of a third of the effect.
const MISFITS: [f64; 8] = [0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1];

/// Factors on the noise tried with them.
const NOISES: [f64; 5] = [0.5, 0.7, 1.0, 1.4, 2.0];

#[derive(Debug, Clone, Copy)]
pub(super) struct Hyper {
    /// Logarithm of an increment at 4 bits.
    pub(super) mu: f64,
    /// Rise of that logarithm per bit less. Errors fall as 2^-b to 2^-2b: 0.7 to 1.4.
    pub(super) delta: f64,
    /// Variance of groups around `mu`.
    pub(super) level: f64,
    /// Variance of groups around `delta`.
    pub(super) decay: f64,
    /// Variance of single steps around their group's line.
    pub(super) jitter: f64,
    /// Variance of a score.
    pub(super) noise: f64,
    /// Share of the squared effect that the model cannot say.
    pub(super) misfit: f64,
}

impl Default for Hyper {
    fn default() -> Self {
        Self { mu: 0.0, delta: 1.0, level: 1.0, decay: 0.1, jitter: 0.05, noise: 1.0, misfit: 0.0 }
    }
}

impl Hyper {
    /// Return the logarithm of an increment that groups have in common.
    pub(super) fn line(&self, t: f64) -> f64 {
        self.mu + self.delta * t
    }

    /// Return the inverse prior covariance of each place's steps.
    pub(super) fn precision(&self, layout: &Layout) -> Vec<Mat<f64>> {
        let places = 0..layout.num_places();
        places.map(|place| self.inverse_of_place(layout, place)).collect()
    }

    fn inverse_of_place(&self, layout: &Layout, place: usize) -> Mat<f64> {
        let steps = layout.steps(place);
        let prior = Mat::from_fn(steps.len(), steps.len(), |row, column| {
            let (t, other) = (layout.t(steps.start + row), layout.t(steps.start + column));
            let own = if row == column { self.jitter } else { 0.0 };
            self.level + self.decay * t * other + own
        });
        // A diagonal of `jitter` on top of a covariance: always positive definite.
        Llt::new(prior.as_ref(), Side::Lower)
            .map_or_else(|_| Mat::identity(steps.len(), steps.len()), |factor| factor.inverse())
    }

    /// Update everything but the misfit by one step of expectation and maximisation.
    pub(super) fn reestimate(
        &mut self,
        layout: &Layout,
        posterior: &Posterior,
        moments: &Moments,
        smallest: f64,
    ) {
        let mut squares = [0.0; 3];
        let (mut total, mut pull) = ([[0.0; 2]; 2], [0.0; 2]);
        for place in 0..layout.num_places() {
            let steps = layout.steps(place);
            let inverse = self.inverse_of_place(layout, place);
            let expected = |step| self.line(layout.t(step)) + layout.hint(step);
            let gap: Vec<f64> =
                steps.clone().map(|it| posterior.mean()[it] - expected(it)).collect();
            let second = Mat::from_fn(gap.len(), gap.len(), |row, column| {
                gap[row] * gap[column]
                    + posterior.covariance()[(steps.start + row, steps.start + column)]
            });
            let lines: [Vec<f64>; 2] =
                [vec![1.0; gap.len()], steps.clone().map(|it| layout.t(it)).collect()];
            let along: [Vec<f64>; 2] = [times(&inverse, &lines[0]), times(&inverse, &lines[1])];
            for (index, share) in [self.level, self.decay].into_iter().enumerate() {
                squares[index] += share - share * share * dot(&along[index], &lines[index])
                    + share * share * dot(&along[index], &times(&second, &along[index]));
                pull[index] += dot(&along[index], &gap);
                for (other, line) in lines.iter().enumerate() {
                    total[index][other] += dot(&along[index], line);
                }
            }
            let rest = Mat::from_fn(gap.len(), gap.len(), |row, column| {
                self.jitter * inverse[(row, column)]
            });
            let both = &rest * &second * &rest;
            squares[2] += (0..gap.len())
                .map(|it| self.jitter * (1.0 - rest[(it, it)]) + both[(it, it)])
                .sum::<f64>();
        }
        self.take(layout, &squares, total, pull);
        let rest = posterior.residual(moments);
        self.noise =
            ((rest + 2.0 * smallest) / (count_as_float(moments.count) + 1.0)).max(smallest);
    }

    fn take(
        &mut self,
        layout: &Layout,
        squares: &[f64; 3],
        mut total: [[f64; 2]; 2],
        mut pull: [f64; 2],
    ) {
        let centre = Self::default();
        let num_places = count_as_float(layout.num_places());
        let shrunk = |square: f64, centre: f64, count: f64| {
            (square + PRIOR_COUNT * centre) / (count + PRIOR_COUNT)
        };
        self.level = shrunk(squares[0], centre.level, num_places);
        self.decay = shrunk(squares[1], centre.decay, num_places);
        self.jitter = shrunk(squares[2], centre.jitter, count_as_float(layout.num_steps()));
        let strength = DELTA_DEVIATION.powi(-2);
        total[1][1] += strength;
        pull[1] += (centre.delta - self.delta) * strength;
        let determinant = total[0][0] * total[1][1] - total[0][1] * total[1][0];
        self.mu += (total[1][1] * pull[0] - total[0][1] * pull[1]) / determinant;
        self.delta += (total[0][0] * pull[1] - total[1][0] * pull[0]) / determinant;
    }

    /// Choose noise and misfit by the likelihood of expected squared residuals, each given with the
    /// squared effect of its policy.
    pub(super) fn choose_misfit(&mut self, squares: &[(f64, f64)], smallest: f64) {
        let mut best = (f64::INFINITY, self.noise, self.misfit);
        for noise in NOISES.map(|factor| (factor * self.noise).max(smallest)) {
            for misfit in MISFITS {
                let cost = |&(square, effect): &(f64, f64)| {
                    let variance = noise + misfit * effect;
                    square / variance + variance.ln()
                };
                let total: f64 = squares.iter().map(cost).sum();
                if total < best.0 {
                    best = (total, noise, misfit);
                }
            }
        }
        (self.noise, self.misfit) = (best.1, best.2);
    }
}

fn times(matrix: &Mat<f64>, vector: &[f64]) -> Vec<f64> {
    let rows = 0..matrix.nrows();
    rows.map(|row| vector.iter().enumerate().map(|(it, v)| matrix[(row, it)] * v).sum()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
