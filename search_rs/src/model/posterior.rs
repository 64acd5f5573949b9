//! The Gaussian posterior of the logarithms of increments, improved by damped Newton steps.

use faer::linalg::solvers::{DenseSolveCore, Llt, Solve};
use faer::{Col, Mat, Side};

use super::LARGEST;
use super::hyper::Hyper;
use super::layout::{Layout, Moments};
use crate::convert::count_as_float;

/// Newton steps under one covariance.
const STEPS: u32 = 2;

/// Longest step in a logarithm.
const LONGEST: f64 = 1.5;

/// A step below which a second one is not worth its price.
const SHORT: f64 = 0.1;

#[derive(Debug, Clone)]
pub(super) struct Posterior {
    mean: Vec<f64>,
    covariance: Mat<f64>,
    /// By pair of steps: by how much the expected product of their increments exceeds the product
    /// of the expected ones, `exp(covariance)`.
    excess: Mat<f64>,
    /// Cholesky factor of the inverse covariance.
    factor: Mat<f64>,
    damping: f64,
}

impl Posterior {
    /// Begin with one variance for all steps.
    pub(super) fn new(mean: Vec<f64>, variance: f64) -> Self {
        let count = mean.len();
        let diagonal = |value: f64| {
            Mat::from_fn(count, count, |row, column| if row == column { value } else { 0.0 })
        };
        let (covariance, factor) = (diagonal(variance), diagonal(variance.sqrt().recip()));
        Self { mean, excess: excess(&covariance), covariance, factor, damping: 1e-6 }
    }

    pub(super) fn mean(&self) -> &[f64] {
        &self.mean
    }

    pub(super) fn covariance(&self) -> &Mat<f64> {
        &self.covariance
    }

    /// Return the expected increments, `E exp(h)`.
    pub(super) fn increments(&self) -> Vec<f64> {
        self.increments_at(&self.mean)
    }

    fn increments_at(&self, mean: &[f64]) -> Vec<f64> {
        let at = |(it, mean): (usize, &f64)| {
            (mean + 0.5 * self.covariance[(it, it)].min(LARGEST)).clamp(-60.0, 50.0).exp()
        };
        mean.iter().enumerate().map(at).collect()
    }

    /// Return the covariance of the increments themselves.
    pub(super) fn covariance_of_increments(&self) -> Mat<f64> {
        let w = self.increments();
        symmetric(w.len(), |row, column| {
            w[row] * self.covariance[(row, column)].min(LARGEST).exp_m1() * w[column]
        })
    }

    /// Return logarithms that lie so many standard deviations from the mean.
    pub(super) fn at(&self, normal: &[f64]) -> Vec<f64> {
        let mut shift = Col::from_fn(normal.len(), |it| normal[it]);
        // With L L' the inverse covariance, L'^-1 z has the covariance of the posterior.
        self.factor.transpose().solve_upper_triangular_in_place(shift.as_mut().as_mat_mut());
        self.mean.iter().enumerate().map(|(it, mean)| mean + shift[it]).collect()
    }

    /// Return the expected sum of the squared residuals.
    pub(super) fn residual(&self, moments: &Moments) -> f64 {
        let w = self.increments();
        square(&times_expected(moments, &self.excess, &w), moments, &w)
    }

    /// Return what products of increments are weighed with: `gram` times what is above `w_i w_j`.
    fn expected(&self, moments: &Moments) -> Mat<f64> {
        let count = self.mean.len();
        let mut expected = Mat::<f64>::zeros(count, count);
        for column in 0..count {
            let factors = moments.gram.col_as_slice(column).iter();
            let pairs = factors.zip(self.excess.col_as_slice(column));
            let entries = expected.col_as_slice_mut(column).iter_mut();
            entries.zip(pairs).for_each(|(entry, (gram, excess))| *entry = gram * excess);
        }
        expected
    }

    /// Take up to two Newton steps in the mean under fixed covariances, then set the covariance to
    /// the inverse of the curvature there; return how far the mean moved: the root of the mean
    /// square, in standard deviations.
    pub(super) fn improve(
        &mut self,
        layout: &Layout,
        hyper: &Hyper,
        moments: &Moments,
        precision: &[Mat<f64>],
    ) -> f64 {
        let expected = self.expected(moments);
        let prior = layout.expected(|t| hyper.line(t));
        let before = self.mean.clone();
        for _ in 0..STEPS {
            if self.step(layout, hyper, moments, precision, (&expected, &prior)) < SHORT {
                break;
            }
        }
        let moved = self.mean.iter().zip(&before).enumerate();
        let moved = moved.map(|(it, (to, from))| (to - from).powi(2) / self.covariance[(it, it)]);
        let moved = (moved.sum::<f64>() / count_as_float(before.len().max(1))).sqrt();
        let w = self.increments();
        if let Some(factor) = cholesky(&curvature(layout, hyper, &expected, precision, &w, 0.0)) {
            self.covariance = factor.inverse();
            self.excess = excess(&self.covariance);
            self.factor = factor.L().to_owned();
        }
        moved
    }

    fn step(
        &mut self,
        layout: &Layout,
        hyper: &Hyper,
        moments: &Moments,
        precision: &[Mat<f64>],
        (expected, prior): (&Mat<f64>, &[f64]),
    ) -> f64 {
        let gap = |mean: &[f64]| -> Vec<f64> {
            mean.iter().zip(prior).map(|(mean, prior)| mean - prior).collect()
        };
        let objective = |along: &[f64], w: &[f64], gap: &[f64], pull: &[f64]| {
            0.5 * (square(along, moments, w) / hyper.noise + dot(gap, pull))
        };
        let objective_at = |mean: &[f64]| {
            let (w, gap) = (self.increments_at(mean), gap(mean));
            objective(&times(expected, &w), &w, &gap, &by_place(layout, precision, &gap))
        };
        let (w, gap) = (self.increments(), gap(&self.mean));
        let (along, pull) = (times(expected, &w), by_place(layout, precision, &gap));
        let slope = Col::from_fn(w.len(), |it| {
            -(w[it] * (along[it] - moments.product[it]) / hyper.noise + pull[it])
        });
        let now = objective(&along, &w, &gap, &pull);
        let mut damping = self.damping;
        while damping <= 1e3 {
            let curve = curvature(layout, hyper, expected, precision, &w, damping);
            if let Some(factor) = cholesky(&curve) {
                let step = factor.solve(&slope);
                let longest = step.iter().fold(0.0_f64, |most, it| most.max(it.abs()));
                let share = (LONGEST / longest.max(f64::MIN_POSITIVE)).min(1.0);
                let next: Vec<f64> =
                    self.mean.iter().zip(step.iter()).map(|(mean, it)| mean + share * it).collect();
                if objective_at(&next) <= now + 1e-9 * now.abs() {
                    self.mean = next;
                    self.damping = (damping / 10.0).max(1e-9);
                    return share * longest;
                }
            }
            damping *= 10.0;
        }
        self.damping = 1e-3;
        0.0
    }
}

/// Return the expected sum of the squared residuals at some increments; `along` is the product of
/// the expected sums with them.
fn square(along: &[f64], moments: &Moments, w: &[f64]) -> f64 {
    moments.square - 2.0 * dot(w, &moments.product) + dot(w, along)
}

/// Return the product of `gram` times `excess`, entry by entry, with a vector.
fn times_expected(moments: &Moments, excess: &Mat<f64>, vector: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; vector.len()];
    for (column, value) in vector.iter().enumerate() {
        let gram = moments.gram.col_as_slice(column);
        let pairs = gram.iter().zip(excess.col_as_slice(column));
        product.iter_mut().zip(pairs).for_each(|(sum, (gram, excess))| {
            *sum += gram * excess * value;
        });
    }
    product
}

/// Return the exponentials of covariances.
fn excess(covariance: &Mat<f64>) -> Mat<f64> {
    symmetric(covariance.nrows(), |row, column| covariance[(row, column)].min(LARGEST).exp())
}

/// Return the curvature on and below the diagonal, which is all that its factorisation reads.
fn curvature(
    layout: &Layout,
    hyper: &Hyper,
    expected: &Mat<f64>,
    precision: &[Mat<f64>],
    w: &[f64],
    damping: f64,
) -> Mat<f64> {
    let mut curve = Mat::<f64>::zeros(w.len(), w.len());
    for (column, along) in w.iter().enumerate() {
        let pairs = expected.col_as_slice(column).iter().zip(w).skip(column);
        let entries = curve.col_as_slice_mut(column)[column..].iter_mut();
        entries.zip(pairs).for_each(|(entry, (from, w))| *entry = w * from * along / hyper.noise);
    }
    for (place, inverse) in precision.iter().enumerate() {
        let start = layout.steps(place).start;
        for column in 0..inverse.ncols() {
            for row in column..inverse.nrows() {
                curve[(start + row, start + column)] += inverse[(row, column)];
            }
        }
    }
    for it in 0..w.len() {
        curve[(it, it)] *= 1.0 + damping;
    }
    curve
}

/// Return a symmetric matrix by its entries on and below the diagonal: exponentials are what rounds
/// of a fit spend much of their time on.
pub(super) fn symmetric(count: usize, entry: impl Fn(usize, usize) -> f64) -> Mat<f64> {
    let mut matrix = Mat::<f64>::zeros(count, count);
    for column in 0..count {
        for row in column..count {
            let value = entry(row, column);
            matrix[(row, column)] = value;
            matrix[(column, row)] = value;
        }
    }
    matrix
}

fn cholesky(matrix: &Mat<f64>) -> Option<Llt<f64>> {
    Llt::new(matrix.as_ref(), Side::Lower).ok()
}

/// Return the product of a matrix that is given place by place.
fn by_place(layout: &Layout, blocks: &[Mat<f64>], vector: &[f64]) -> Vec<f64> {
    let mut product = Vec::with_capacity(vector.len());
    for (place, block) in blocks.iter().enumerate() {
        product.extend(times(block, &vector[layout.steps(place)]));
    }
    product
}

/// Return the product of a symmetric matrix, column by column.
pub(super) fn times(matrix: &Mat<f64>, vector: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; vector.len()];
    for (column, value) in vector.iter().enumerate() {
        for (sum, entry) in product.iter_mut().zip(matrix.col_as_slice(column)) {
            *sum += entry * value;
        }
    }
    product
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
