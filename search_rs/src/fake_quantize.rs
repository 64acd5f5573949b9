//! Learned step size quantization of float32 numbers, forward and backward, in one pass over memory.
//!
//! `q = step * round(clip(x / step, low, high))`, halves rounded to even (arXiv 1902.08153,
//! equations 1 to 3). Every operation is rounded as IEEE 754 says, so the result equals, bit for
//! bit, the same operations of torch one after another, whatever the processor.
//!
//! Invariant: sums are taken over stretches of a fixed length and added in their order, so they do
//! not depend on the number of threads.

#![expect(clippy::inline_always, reason = "only what is inlined is compiled for wide registers")]
#![expect(clippy::needless_bitwise_bool, reason = "`&&` would be a jump for every number")]

use pulp::{Arch, NullaryFnOnce};

use crate::threads;

/// Numbers that are summed in float32 before their sum is added in float64.
const STRETCH: usize = 1024;

/// Sums side by side, as many as the widest registers hold.
const LANES: usize = 16;

/// Fewer numbers than this are not worth another thread.
const PER_THREAD: usize = 8 * STRETCH;

/// The grid of one bit-width.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Distance of its points, above zero.
    pub step: f32,
    /// Qn, a whole number.
    pub low: f32,
    /// Qp, a whole number.
    pub high: f32,
}

impl Grid {
    #[inline(always)]
    fn quantized(self, x: f32) -> f32 {
        self.code(x / self.step) * self.step
    }

    /// Return the code of a number divided by the step size.
    #[inline(always)]
    fn code(self, ratio: f32) -> f32 {
        // Not by `clamp`: it checks its ends each time, and a loop with a check takes one number at
        // a time. What is no number stays none.
        let above = if ratio < self.low { self.low } else { ratio };
        let within = if above > self.high { self.high } else { above };
        within.round_ties_even()
    }

    /// Return the gradient of a number and its part of the gradient of the step size.
    ///
    /// The ends of the range are compared as forward makes them: `x / step` may round to the other
    /// side of an end.
    #[inline(always)]
    fn gradients(self, grad: f32, x: f32) -> (f32, f32) {
        let is_inside = (x >= self.low * self.step) & (x <= self.high * self.step);
        let ratio = x / self.step;
        let code = self.code(ratio);
        // d q / d step is round(x / step) - x / step inside the range, and Qn or Qp outside.
        let slope = code - if is_inside { ratio } else { 0.0 };
        (if is_inside { grad } else { 0.0 }, grad * slope)
    }
}

/// Write every number of `x`, rounded to the grid, to `out`.
///
/// Both are of one length; numbers beyond the shorter one are left alone.
pub fn forward(x: &[f32], out: &mut [f32], grid: Grid, threads: usize) {
    let part = part_length(x.len(), threads);
    let parts = x.chunks(part).zip(out.chunks_mut(part)).collect();
    threads::run(parts, threads, |(x, out): (&[f32], &mut [f32])| {
        Arch::new().dispatch(|| {
            for (x, out) in x.iter().zip(out) {
                *out = grid.quantized(*x);
            }
        });
    });
}

/// Write the gradient of every number of `x` to `grad_x`, and return that of the step size.
///
/// `upstream` is the gradient of the rounded numbers. All are of one length; numbers beyond the
/// shortest one are left alone.
#[must_use]
pub fn backward(
    upstream: &[f32],
    x: &[f32],
    grad_x: &mut [f32],
    grid: Grid,
    threads: usize,
) -> f64 {
    let part = part_length(x.len(), threads);
    let mut sums = vec![0.0; x.len().div_ceil(STRETCH)];
    let inputs = upstream.chunks(part).zip(x.chunks(part));
    let outputs = grad_x.chunks_mut(part).zip(sums.chunks_mut(part / STRETCH));
    let parts = inputs.zip(outputs).map(|((upstream, x), (grad_x, sums))| Backward {
        upstream,
        x,
        grad_x,
        sums,
        grid,
    });
    threads::run(parts.collect(), threads, |part: Backward<'_>| Arch::new().dispatch(part));
    sums.iter().sum()
}

/// What one thread does of `backward`. A closure of this size would not be compiled into the code
/// that is made for the processor's widest registers.
struct Backward<'a> {
    upstream: &'a [f32],
    x: &'a [f32],
    grad_x: &'a mut [f32],
    /// One for each stretch.
    sums: &'a mut [f64],
    grid: Grid,
}

impl NullaryFnOnce for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let inputs = self.upstream.chunks(STRETCH).zip(self.x.chunks(STRETCH));
        let outputs = self.grad_x.chunks_mut(STRETCH).zip(self.sums);
        for ((upstream, x), (grad_x, sum)) in inputs.zip(outputs) {
            *sum = backward_stretch(upstream, x, grad_x, self.grid);
        }
    }
}

#[inline(always)]
fn backward_stretch(upstream: &[f32], x: &[f32], grad_x: &mut [f32], grid: Grid) -> f64 {
    let mut parts = [0.0_f32; STRETCH];
    for (((upstream, x), grad_x), part) in upstream.iter().zip(x).zip(grad_x).zip(&mut parts) {
        (*grad_x, *part) = grid.gradients(*upstream, *x);
    }
    sum_of(&parts)
}

/// Two grids of one weight, of which the coarser one says where a weight is dampened.
///
/// A weight is drawn to its own bin, unless the fewest bits round it into the same bin: it would
/// otherwise swing between the two (arXiv 2203.11086, equation 8).
#[derive(Debug, Clone, Copy)]
pub struct Oscillation {
    /// The grid that the weight is on.
    pub own: Grid,
    /// The grid of the fewest bits.
    pub fewest: Grid,
}

impl Oscillation {
    /// Return how far a weight, clipped, is from its bin; 0 where it is not dampened.
    #[inline(always)]
    fn distance(self, weight: f32) -> f32 {
        let Grid { step, low, high } = self.own;
        let quantized = self.own.quantized(weight);
        let bins_differ = (self.fewest.quantized(weight) - quantized).abs() >= 0.5 * step;
        // Outside the range, the clipped weight is the outermost bin itself.
        let is_inside = (weight >= low * step) & (weight <= high * step);
        // What is no number is neither inside nor in another bin, and stays none.
        if (bins_differ & is_inside) | weight.is_nan() { weight - quantized } else { 0.0 }
    }
}

/// Return the sum of squared distances of weights to their bins.
#[must_use]
pub fn dampening(weights: &[f32], oscillation: Oscillation, threads: usize) -> f64 {
    let part = part_length(weights.len(), threads);
    let mut sums = vec![0.0; weights.len().div_ceil(STRETCH)];
    let parts = weights.chunks(part).zip(sums.chunks_mut(part / STRETCH));
    let parts = parts.map(|(weights, sums)| Dampening { weights, sums, oscillation });
    threads::run(parts.collect(), threads, |part: Dampening<'_>| Arch::new().dispatch(part));
    sums.iter().sum()
}

struct Dampening<'a> {
    weights: &'a [f32],
    /// One for each stretch.
    sums: &'a mut [f64],
    oscillation: Oscillation,
}

impl NullaryFnOnce for Dampening<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut parts = [0.0_f32; STRETCH];
        for (weights, sum) in self.weights.chunks(STRETCH).zip(self.sums) {
            for (weight, part) in weights.iter().zip(&mut parts) {
                let distance = self.oscillation.distance(*weight);
                *part = distance * distance;
            }
            parts[weights.len()..].fill(0.0);
            *sum = sum_of(&parts);
        }
    }
}

/// Write the gradient of `factor` times the sum that `dampening` returns.
///
/// Both are of one length; numbers beyond the shorter one are left alone.
pub fn dampening_backward(
    weights: &[f32],
    grads: &mut [f32],
    oscillation: Oscillation,
    factor: f32,
    threads: usize,
) {
    let part = part_length(weights.len(), threads);
    let parts = weights.chunks(part).zip(grads.chunks_mut(part)).collect();
    threads::run(parts, threads, |(weights, grads): (&[f32], &mut [f32])| {
        Arch::new().dispatch(|| {
            for (weight, grad) in weights.iter().zip(grads) {
                *grad = 2.0 * factor * oscillation.distance(*weight);
            }
        });
    });
}

/// Return the sum of a stretch, in float64 over what lanes of float32 add up.
#[inline(always)]
fn sum_of(parts: &[f32; STRETCH]) -> f64 {
    let mut lanes = [0.0_f32; LANES];
    for parts in parts.as_chunks::<LANES>().0 {
        for (lane, part) in lanes.iter_mut().zip(parts) {
            *lane += part;
        }
    }
    lanes.into_iter().map(f64::from).sum()
}

/// Return how many numbers a thread takes: whole stretches.
fn part_length(len: usize, threads: usize) -> usize {
    let threads = threads.min(len / PER_THREAD).max(1);
    len.div_ceil(threads).next_multiple_of(STRETCH).max(STRETCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { step: 0.1, low: -8.0, high: 7.0 };

    fn numbers(len: usize) -> Vec<f32> {
        let steps = std::iter::successors(Some(0.0_f32), |angle| Some(angle + 0.618));
        steps.take(len).map(|angle| angle.sin() * 1.5).collect()
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let x = numbers(5 * PER_THREAD + 37);
        let grad: Vec<f32> = x.iter().map(|x| x * x - 0.3).collect();
        let run = |threads| {
            let (mut out, mut grad_x) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            forward(&x, &mut out, GRID, threads);
            let sum = backward(&grad, &x, &mut grad_x, GRID, threads);
            let bits =
                |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            (bits(out), bits(grad_x), sum.to_bits())
        };
        let alone = run(1);
        for threads in [2, 3, 4, 64] {
            assert!(alone == run(threads), "{threads} threads");
        }
    }

    #[test]
    fn the_gradient_of_the_step_size_is_that_of_float64() {
        let x = numbers(3 * STRETCH + 5);
        let grad: Vec<f32> = x.iter().map(|x| 1.0 - x.abs()).collect();
        let sum = backward(&grad, &x, &mut vec![0.0; x.len()], GRID, 1);
        let exact: f64 = x
            .iter()
            .zip(&grad)
            .map(|(x, grad)| {
                let ratio = f64::from(*x) / f64::from(GRID.step);
                let code = ratio.clamp(-8.0, 7.0).round_ties_even();
                let is_inside = (-8.0..=7.0).contains(&ratio);
                f64::from(*grad) * if is_inside { code - ratio } else { code }
            })
            .sum();
        assert!((sum - exact).abs() < 1e-3 * exact.abs().max(1.0), "{sum} {exact}");
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let mut out = [0.0; 3];
        forward(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &mut out, GRID, 1);
        assert!(out[0].is_nan());
        assert!((out[1] - 0.7).abs() < 1e-6 && (out[2] + 0.8).abs() < 1e-6);
    }
}
