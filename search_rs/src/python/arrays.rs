//! NumPy arrays in and out, through NumPy itself: the stable ABI of Python 3.10 has no buffers.
//!
//! Invariant: bytes are copied on the way in and on the way out, so neither side can change what
//! the other holds, and Rust may work on them without the GIL.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyTuple};

use crate::bits::{Bits, Side};
use crate::error::SearchError as CoreError;
use crate::network::Network;
use crate::policy::{Policy, read_bits};

/// Read integers of shape (n, layers, 2) as rows of bytes.
pub(super) fn read_rows<'py>(
    policies: &Bound<'py, PyAny>,
    network: &Network,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = policies.py();
    let array = py.import("numpy")?.call_method1("asarray", (policies,))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let expected = network.num_layers();
    if shape.len() != 3 || shape[1..] != [expected, 2] {
        let shape = array.getattr("shape")?.to_string();
        return Err(CoreError::PolicyShape { shape, expected }.into());
    }
    let dtype = array.getattr("dtype")?.str()?.to_string();
    if dtype == "uint8" {
        return Ok(array.call_method0("tobytes")?.cast_into()?);
    }
    if !array.getattr("dtype")?.getattr("kind")?.eq("i")? && !dtype.starts_with("uint") {
        return Err(CoreError::PolicyType { dtype }.into());
    }
    let whole: Vec<i128> = array.call_method0("ravel")?.call_method0("tolist")?.extract()?;
    let sides = network
        .layers()
        .iter()
        .flat_map(|layer| [Side::Weight, Side::Act].map(|side| (layer, side)));
    let rows: Result<Vec<u8>, _> = whole
        .into_iter()
        .zip(sides.cycle())
        .map(|(bits, (layer, side))| read_bits(layer, side, bits).map(Bits::get))
        .collect();
    Ok(PyBytes::new(py, &rows?))
}

/// Read integers of shape (n, layers, 2) as policies.
pub(super) fn read_policies(
    policies: &Bound<'_, PyAny>,
    network: &Network,
) -> PyResult<Vec<Policy>> {
    let rows = read_rows(policies, network)?;
    let rows = rows.as_bytes().chunks_exact(2 * network.num_layers());
    Ok(rows.map(|row| Policy::from_row(network, row)).collect::<Result<_, _>>()?)
}

/// Read a number, or a row of parts, for each policy.
pub(super) fn read_score_rows(
    scores: &Bound<'_, PyAny>,
    expected: usize,
) -> PyResult<Vec<Vec<f64>>> {
    let row = |score: Bound<'_, PyAny>| -> PyResult<Vec<f64>> {
        match score.extract::<f64>() {
            Ok(number) => Ok(vec![number]),
            // Not a number: a row of them, or nothing that can be read.
            Err(problem) => match score.try_iter() {
                Ok(parts) => parts.map(|part| part?.extract()).collect(),
                Err(_) => Err(problem),
            },
        }
    };
    let read =
        || -> PyResult<Vec<Vec<f64>>> { scores.try_iter()?.map(|score| row(score?)).collect() };
    read().map_err(|error: PyErr| {
        if !error.is_instance_of::<PyTypeError>(scores.py()) {
            return error;
        }
        let found =
            scores.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
        CoreError::ScoreType { found, expected }.into()
    })
}

/// Return a NumPy array that owns a copy of the bytes.
fn array<'py>(py: Python<'py>, bytes: &[u8], shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    let numpy = py.import("numpy")?;
    let flat = numpy.call_method1("frombuffer", (PyByteArray::new(py, bytes), "uint8"))?;
    flat.call_method1("reshape", (PyTuple::new(py, shape)?,))
}

/// Return a policy as a new uint8 array of shape (layers, 2).
pub(super) fn policy_array<'py>(py: Python<'py>, policy: &Policy) -> PyResult<Bound<'py, PyAny>> {
    let mut row = Vec::new();
    policy.write_row(&mut row);
    array(py, &row, &[policy.layers().len(), 2])
}

/// Return policies as a new uint8 array of shape (n, layers, 2).
pub(super) fn batch_array<'py>(
    py: Python<'py>,
    policies: &[Policy],
    num_layers: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let mut rows = Vec::new();
    for policy in policies {
        policy.write_row(&mut rows);
    }
    array(py, &rows, &[policies.len(), num_layers, 2])
}
