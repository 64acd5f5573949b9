//! The Python module `harness._search_rs`: the only one that knows `PyO3`, with its `arrays` and `errors`.
//!
//! Invariant: no rule of the search lives here. Each method reads its arguments, releases the GIL
//! while Rust works, and turns a `SearchError` into one Python exception that carries its numbers.

#![expect(clippy::doc_markdown, reason = "these comments are Python docstrings")]

mod arrays;
mod errors;

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytesMethods;

use self::arrays::{batch_array, policy_array, read_policy, read_rows, read_scores};
use self::errors::{
    BudgetError, NetworkError, OptionError, PolicyError, ScoreError, SearchError, StateError,
};
use crate::cost::{Resource, whole_bytes};
use crate::error::SearchError as CoreError;
use crate::greedy::{GreedySearch, Options};
use crate::moves::Move;
use crate::network::{Bits, Layer, Network};
use crate::policy::{LayerBits, Policy};
use crate::trace::{SearchResult, TraceStep};

/// One quantized layer: name, MACs, weight count, weight candidates, act candidates.
type LayerRow = (String, u64, u64, Vec<i128>, Vec<i128>);

/// One change: layer index, "weight" or "act", bits before, bits after.
type ChangeRow = (usize, &'static str, u8, u8);

/// The quantized layers of a network, in execution order.
///
/// Each layer is (name, MACs for one input, weight parameters, weight candidates, act candidates);
/// candidates are distinct bit-widths from 1 to 32 in any order, and a single one pins the side.
///
/// Raises:
///     NetworkError: no layer, no MACs, bad candidates, or counts too large for 64-bit costs.
#[pyclass(name = "Network", module = "harness._search_rs", frozen)]
struct PyNetwork(Arc<Network>);

#[pymethods]
impl PyNetwork {
    #[new]
    #[pyo3(signature = (layers, /))]
    fn new(layers: Vec<LayerRow>) -> PyResult<Self> {
        let layers = layers.into_iter().map(|(name, macs, weight_count, weights, acts)| {
            Layer::new(&name, macs, weight_count, &weights, &acts)
        });
        let network = Network::new(layers.collect::<Result<_, _>>()?)?;
        Ok(Self(Arc::new(network)))
    }

    /// Number of layers.
    #[getter]
    fn num_layers(&self) -> usize {
        self.0.num_layers()
    }

    /// BitOPs with every layer at its smallest candidates: the least a search can reach.
    #[getter]
    fn smallest_bitops(&self) -> u64 {
        Resource::BitOps.of_policy(&self.0, &Policy::smallest(&self.0))
    }

    /// BitOPs with every layer at its largest candidates.
    #[getter]
    fn largest_bitops(&self) -> u64 {
        Resource::BitOps.of_policy(&self.0, &Policy::largest(&self.0))
    }

    /// Return the BitOPs for one input of each policy.
    ///
    /// `policies` are integers of shape (n, layers, 2), fastest as uint8; any bits from 1 to 32 are
    /// accounted, candidates or not.
    ///
    /// Raises:
    ///     PolicyError: another shape or type, or bits outside 1 to 32.
    #[pyo3(signature = (policies, /))]
    fn bitops(&self, policies: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
        self.account(policies, Resource::BitOps)
    }

    /// Return the bytes that the weights of each policy take, each total rounded up once.
    ///
    /// `policies` and errors are those of `bitops`.
    #[pyo3(signature = (policies, /))]
    fn weight_bytes(&self, policies: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
        let bits = self.account(policies, Resource::WeightBits)?;
        Ok(bits.into_iter().map(whole_bytes).collect())
    }

    /// Return the uniform policy, a uint8 array of shape (layers, 2).
    ///
    /// Each side of each layer takes its nearest candidate not below the bits asked for, else its
    /// largest.
    ///
    /// Raises:
    ///     PolicyError: bits outside 1 to 32.
    #[pyo3(signature = (weight_bits, act_bits))]
    fn uniform<'py>(
        &self,
        py: Python<'py>,
        weight_bits: i128,
        act_bits: i128,
    ) -> PyResult<Bound<'py, PyAny>> {
        let read = |side, bits| {
            let layer = || "uniform".to_owned();
            Bits::new(bits).ok_or_else(|| CoreError::BitsRange { layer: layer(), side, bits })
        };
        let bits = LayerBits { weight: read("weight", weight_bits)?, act: read("act", act_bits)? };
        policy_array(py, &Policy::uniform(&self.0, bits))
    }

    fn __repr__(&self) -> String {
        format!(
            "Network(num_layers={}, smallest_bitops={}, largest_bitops={})",
            self.num_layers(),
            self.smallest_bitops(),
            self.largest_bitops()
        )
    }
}

impl PyNetwork {
    fn account(&self, policies: &Bound<'_, PyAny>, resource: Resource) -> PyResult<Vec<u64>> {
        let rows = read_rows(policies, &self.0)?;
        let bytes = rows.as_bytes();
        Ok(policies.py().detach(|| resource.of_rows(&self.0, bytes))?)
    }
}

/// One step of a search.
#[pyclass(name = "TraceStep", module = "harness._search_rs", frozen)]
#[derive(Clone)]
struct PyTraceStep(TraceStep);

#[pymethods]
impl PyTraceStep {
    /// Why: "descent", "finish", "upward", "restart" or "exchange".
    #[getter]
    fn phase(&self) -> &'static str {
        self.0.phase.name()
    }

    /// Changes as (layer index, "weight" or "act", bits before, bits after).
    #[getter]
    fn changes(&self) -> Vec<ChangeRow> {
        let row = |change: &Move| {
            (change.layer.0, change.side.name(), change.from.get(), change.to.get())
        };
        self.0.changes.iter().map(row).collect()
    }

    /// Error after the step, None in the phase "finish", which evaluates nothing.
    #[getter]
    fn error(&self) -> Option<f64> {
        self.0.error
    }

    /// BitOPs after the step.
    #[getter]
    fn bitops(&self) -> u64 {
        self.0.bitops
    }

    fn __repr__(&self) -> String {
        let error = self.0.error.map_or_else(|| "None".to_owned(), |error| format!("{error:?}"));
        let changes = self.changes().into_iter();
        let changes: Vec<_> = changes
            .map(|(layer, side, from, to)| format!("({layer}, '{side}', {from}, {to})"))
            .collect();
        format!(
            "TraceStep(phase='{}', changes=[{}], error={error}, bitops={})",
            self.phase(),
            changes.join(", "),
            self.0.bitops
        )
    }
}

/// What a search found.
#[pyclass(name = "SearchResult", module = "harness._search_rs", frozen)]
struct PySearchResult(SearchResult);

#[pymethods]
impl PySearchResult {
    /// Policy with the lowest error within the target, a new uint8 array (layers, 2).
    #[getter]
    fn policy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        policy_array(py, &self.0.policy)
    }

    /// Its error.
    #[getter]
    fn error(&self) -> f64 {
        self.0.error
    }

    /// Its BitOPs, within the target.
    #[getter]
    fn bitops(&self) -> u64 {
        self.0.bitops
    }

    /// Different policies whose error the search needed, restored ones included.
    #[getter]
    fn num_evaluations(&self) -> u64 {
        self.0.num_evaluations
    }

    /// How many of those were restored and not evaluated again.
    #[getter]
    fn num_restored(&self) -> u64 {
        self.0.num_restored
    }

    /// Steps, in order.
    #[getter]
    fn trace(&self) -> Vec<PyTraceStep> {
        self.0.trace.iter().cloned().map(PyTraceStep).collect()
    }

    fn __repr__(&self) -> String {
        format!(
            "SearchResult(error={:?}, bitops={}, num_evaluations={}, num_steps={})",
            self.0.error,
            self.0.bitops,
            self.0.num_evaluations,
            self.0.trace.len()
        )
    }
}

/// Bidirectional greedy search for the policy with the lowest error within a target.
///
/// `start` is a policy, by default the largest candidates. `error_weight` weighs the error against
/// the BitOPs saved (paper: 1.5). `evaluations` bounds the policies whose error may be needed,
/// restored ones included. `anchors` scores the uniform policies within the target first.
/// `climbs` is from how many of the best of those the upward pass starts as well.
/// `exchange_limit` bounds the policies that exchanges of one move up for one down may need on top;
/// 0 turns them off.
///
/// Raises:
///     BudgetError: the target is below the smallest reachable; carries both in BitOPs.
///     PolicyError: `start` is no policy of the network.
///     OptionError: a setting is out of range.
#[pyclass(name = "GreedySearch", module = "harness._search_rs")]
struct PyGreedySearch(GreedySearch);

#[pymethods]
impl PyGreedySearch {
    #[new]
    #[pyo3(signature = (network, target_bitops, *, start=None, error_weight=1.5, evaluations=None,
                        anchors=true, climbs=0, exchange_limit=0))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only settings of a Python constructor")]
    fn new(
        network: &PyNetwork,
        target_bitops: u64,
        start: Option<&Bound<'_, PyAny>>,
        error_weight: f64,
        evaluations: Option<u64>,
        anchors: bool,
        climbs: u64,
        exchange_limit: u64,
    ) -> PyResult<Self> {
        let start = start.map(|start| read_policy(start, &network.0)).transpose()?;
        let options = Options { start, error_weight, evaluations, anchors, climbs, exchange_limit };
        Ok(Self(GreedySearch::new(Arc::clone(&network.0), target_bitops, options)?))
    }

    /// Preload known errors: of this search before it stopped, or of another on the same images.
    ///
    /// `policies` are integers of shape (n, layers, 2), `errors` n finite numbers.
    ///
    /// Raises:
    ///     PolicyError: a policy is not one of the network.
    ///     ScoreError: another number of errors, one not finite, or two for one policy.
    ///     StateError: policies were proposed already, or the search is busy.
    #[pyo3(signature = (policies, errors))]
    fn restore(
        slf: &Bound<'_, Self>,
        policies: &Bound<'_, PyAny>,
        errors: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let mut search = lock(slf)?;
        let network = search.0.network();
        let rows = read_rows(policies, network)?;
        let rows = rows.as_bytes().chunks_exact(2 * network.num_layers());
        let policies = rows.map(|row| Policy::from_row(network, row));
        let policies = policies.collect::<Result<Vec<_>, _>>()?;
        let errors = read_scores(errors, policies.len())?;
        let core = &mut search.0;
        Ok(slf.py().detach(|| core.restore(&policies, &errors))?)
    }

    /// Return the policies whose errors are needed, uint8 (n, layers, 2), or None at the end.
    ///
    /// Until `observe` the same policies are returned again.
    ///
    /// Raises:
    ///     StateError: the search is busy.
    fn propose<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let mut search = lock(slf)?;
        let core = &mut search.0;
        let proposed = py.detach(|| core.propose());
        let num_layers = search.0.network().num_layers();
        proposed.map(|policies| batch_array(py, &policies, num_layers)).transpose()
    }

    /// Take the errors of the policies last proposed, in their order; lower is better.
    ///
    /// Raises:
    ///     ScoreError: another number of errors, or one not finite; the search is as it was.
    ///     StateError: nothing is proposed, or the search is busy.
    #[pyo3(signature = (errors, /))]
    fn observe(slf: &Bound<'_, Self>, errors: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut search = lock(slf)?;
        let errors = read_scores(errors, search.0.num_proposed())?;
        let core = &mut search.0;
        Ok(slf.py().detach(|| core.observe(&errors))?)
    }

    /// Search to the end, calling `evaluate` for the errors of each batch of policies.
    ///
    /// `evaluate` takes a uint8 array of shape (n, layers, 2), its own copy, and returns n finite
    /// numbers, lower is better. What it raises passes through, Ctrl-C included, and the search can
    /// go on afterwards where it stood.
    ///
    /// Raises:
    ///     ScoreError: `evaluate` returned something else.
    ///     StateError: the search is busy.
    #[pyo3(signature = (evaluate, /))]
    fn run(slf: &Bound<'_, Self>, evaluate: &Bound<'_, PyAny>) -> PyResult<PySearchResult> {
        while let Some(policies) = Self::propose(slf)? {
            let num_policies = policies.len()?;
            let errors = read_scores(&evaluate.call1((policies,))?, num_policies)?;
            let mut search = lock(slf)?;
            let core = &mut search.0;
            slf.py().detach(|| core.observe(&errors))?;
            slf.py().check_signals()?;
        }
        Self::result(slf)
    }

    /// Return what the search found.
    ///
    /// Raises:
    ///     StateError: the search has not ended, or is busy.
    fn result(slf: &Bound<'_, Self>) -> PyResult<PySearchResult> {
        Ok(PySearchResult(lock(slf)?.0.result()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let search = lock(slf)?;
        let state = if search.0.is_done() { "ended" } else { "running" };
        Ok(format!(
            "GreedySearch(target_bitops={}, num_steps={}, {state})",
            search.0.target_bitops(),
            search.0.trace().len()
        ))
    }
}

fn lock<'py>(search: &Bound<'py, PyGreedySearch>) -> PyResult<PyRefMut<'py, PyGreedySearch>> {
    search.try_borrow_mut().map_err(|_| CoreError::Busy.into())
}

/// Search engine for mixed-precision policies: exact cost and a bidirectional greedy search.
#[pymodule(name = "_search_rs")]
mod module {
    #[pymodule_export]
    use super::{
        BudgetError, NetworkError, OptionError, PolicyError, PyGreedySearch, PyNetwork,
        PySearchResult, PyTraceStep, ScoreError, SearchError, StateError,
    };
}
