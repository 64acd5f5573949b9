//! The quantizer's kernels on NumPy arrays, which share their memory with torch's tensors.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::fake_quantize::{self as core, Grid, Oscillation, backward, forward};
use crate::threads;

/// A step size with the smallest and largest code, as Python hands them over.
type GridNumbers = (f32, f32, f32);

fn grid((step, low, high): GridNumbers) -> PyResult<Grid> {
    // A step that is no number makes nothing but such: whoever trains is told of it elsewhere.
    if step <= 0.0 || low > high {
        return Err(PyValueError::new_err("a grid needs a step above zero and low <= high"));
    }
    Ok(Grid { step, low, high })
}

fn check_lengths(lengths: &[usize]) -> PyResult<()> {
    if lengths.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(PyValueError::new_err("the arrays are of different lengths"));
    }
    Ok(())
}

/// Round x to a grid, float32 in, float32 out.
///
/// `grid` is (step size, Qn, Qp). `out` is written, of the length of `x`; both lie in memory without
/// gaps. Work is shared among at most `threads` threads, which do not change a bit of it.
///
/// Raises:
///     ValueError: the arrays differ in length, or it is no grid.
///     TypeError: an array has gaps.
#[pyfunction]
#[pyo3(signature = (x, out, grid, threads, /))]
#[expect(clippy::needless_pass_by_value, reason = "borrowed arrays arrive by value")]
pub(super) fn fake_quantize(
    py: Python<'_>,
    x: PyReadonlyArray1<'_, f32>,
    mut out: PyReadwriteArray1<'_, f32>,
    grid: GridNumbers,
    threads: usize,
) -> PyResult<()> {
    let grid = self::grid(grid)?;
    let (x, out) = (x.as_slice()?, out.as_slice_mut()?);
    check_lengths(&[x.len(), out.len()])?;
    py.detach(|| forward(x, out, grid, threads));
    Ok(())
}

/// Return the gradient of the step size, and write that of x.
///
/// `upstream` is that of the rounded numbers. The other arguments are those of `fake_quantize`.
///
/// Raises:
///     ValueError: the arrays differ in length, or it is no grid.
///     TypeError: an array has gaps.
#[pyfunction]
#[pyo3(signature = (upstream, x, grad_x, grid, threads, /))]
#[expect(clippy::needless_pass_by_value, reason = "borrowed arrays arrive by value")]
pub(super) fn fake_quantize_backward(
    py: Python<'_>,
    upstream: PyReadonlyArray1<'_, f32>,
    x: PyReadonlyArray1<'_, f32>,
    mut grad_x: PyReadwriteArray1<'_, f32>,
    grid: GridNumbers,
    threads: usize,
) -> PyResult<f64> {
    let grid = self::grid(grid)?;
    let (upstream, x, grad_x) = (upstream.as_slice()?, x.as_slice()?, grad_x.as_slice_mut()?);
    check_lengths(&[upstream.len(), x.len(), grad_x.len()])?;
    Ok(py.detach(|| backward(upstream, x, grad_x, grid, threads)))
}

/// Return the sum of squared distances of weights to their bins, of those that oscillate.
///
/// `grids` are the one that the weights are on and that of the fewest bits; a weight that both round
/// into one bin counts nothing (arXiv 2203.11086, equation 8).
///
/// Raises:
///     ValueError: it is no grid.
///     TypeError: the array has gaps.
#[pyfunction]
#[pyo3(signature = (weights, grids, threads, /))]
#[expect(clippy::needless_pass_by_value, reason = "borrowed arrays arrive by value")]
pub(super) fn dampening(
    py: Python<'_>,
    weights: PyReadonlyArray1<'_, f32>,
    grids: (GridNumbers, GridNumbers),
    threads: usize,
) -> PyResult<f64> {
    let oscillation = Oscillation { own: grid(grids.0)?, fewest: grid(grids.1)? };
    let weights = weights.as_slice()?;
    Ok(py.detach(|| core::dampening(weights, oscillation, threads)))
}

/// Write the gradient of `factor` times what `dampening` returns.
///
/// Raises:
///     ValueError: the arrays differ in length, or it is no grid.
///     TypeError: an array has gaps.
#[pyfunction]
#[pyo3(signature = (weights, slopes, grids, factor, threads, /))]
#[expect(clippy::needless_pass_by_value, reason = "borrowed arrays arrive by value")]
pub(super) fn dampening_backward(
    py: Python<'_>,
    weights: PyReadonlyArray1<'_, f32>,
    mut slopes: PyReadwriteArray1<'_, f32>,
    grids: (GridNumbers, GridNumbers),
    factor: f32,
    threads: usize,
) -> PyResult<()> {
    let oscillation = Oscillation { own: grid(grids.0)?, fewest: grid(grids.1)? };
    let (weights, slopes) = (weights.as_slice()?, slopes.as_slice_mut()?);
    check_lengths(&[weights.len(), slopes.len()])?;
    py.detach(|| core::dampening_backward(weights, slopes, oscillation, factor, threads));
    Ok(())
}

/// Have the kernels run on the threads of an OpenMP library, best that of torch.
///
/// `address` is that of its `GOMP_parallel`; the library must stay loaded. The first call counts.
/// Before it, and where `threads` is 1, the calling thread does all the work.
#[pyfunction]
#[pyo3(signature = (address, /))]
pub(super) fn use_openmp(address: usize) {
    #[expect(unsafe_code, reason = "only the caller knows what lies there")]
    // SAFETY: said above to whoever calls it.
    unsafe {
        threads::use_openmp(address);
    }
}
