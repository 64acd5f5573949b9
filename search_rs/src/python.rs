//! The Python module `harness._search_rs`: the only one that knows `PyO3`, with its `arrays` and `errors`.
//!
//! Invariant: no rule of the search lives here. Each method reads its arguments, releases the GIL
//! while Rust works, and turns a `SearchError` into one Python exception that carries its numbers.

#![expect(clippy::doc_markdown, reason = "these comments are Python docstrings")]

mod arrays;
mod errors;

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytesMethods, PyTuple};

use self::arrays::{batch_array, policy_array, read_policies, read_policy, read_rows, read_scores};
use self::errors::{
    BudgetError, NetworkError, OptionError, PolicyError, ScoreError, SearchError, StateError,
};
use crate::bits::Side;
use crate::cost;
use crate::error::SearchError as CoreError;
use crate::moves::Move;
use crate::network::{Layer, Network};
use crate::policy::Policy;
use crate::strategy::{self, Options, Strategy};
use crate::trace::{SearchResult, TraceStep};

/// One change: layer index, "weight" or "act", bits before, bits after.
type ChangeRow = (usize, &'static str, u8, u8);

/// One quantized layer.
///
/// Candidates are distinct bit-widths from 1 to 32 in any order, and a single one pins the side.
/// `costs` has a row per weight candidate with a whole number per act candidate, in the order of
/// the candidates; none falls with more bits. What they count is the caller's affair.
///
/// Raises:
///     NetworkError: bad candidates, or costs that do not fit them.
#[pyclass(name = "Layer", module = "harness._search_rs", frozen)]
struct PyLayer(Layer);

#[pymethods]
impl PyLayer {
    #[new]
    #[pyo3(signature = (name, *, weight_candidates, act_candidates, costs))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 reads sequences into vectors")]
    fn new(
        name: &str,
        weight_candidates: Vec<i128>,
        act_candidates: Vec<i128>,
        costs: Vec<Vec<i128>>,
    ) -> PyResult<Self> {
        Ok(Self(Layer::new(name, &weight_candidates, &act_candidates, &costs)?))
    }

    /// Name of the layer.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    fn __repr__(&self) -> String {
        let [weight, act] = [Side::Weight, Side::Act].map(|side| self.0.candidates(side));
        format!("Layer('{}', weight_candidates={weight}, act_candidates={act})", self.0.name())
    }
}

/// The quantized layers of a network, in execution order.
///
/// Raises:
///     NetworkError: no layer, or costs too large for 64 bits.
#[pyclass(name = "Network", module = "harness._search_rs", frozen)]
struct PyNetwork(Arc<Network>);

#[pymethods]
impl PyNetwork {
    #[new]
    #[pyo3(signature = (layers, /))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 reads sequences into vectors")]
    fn new(layers: Vec<PyRef<'_, PyLayer>>) -> PyResult<Self> {
        let layers = layers.iter().map(|layer| layer.0.clone()).collect();
        Ok(Self(Arc::new(Network::new(layers)?)))
    }

    /// Number of layers.
    #[getter]
    fn num_layers(&self) -> usize {
        self.0.num_layers()
    }

    /// Cost with every layer at its smallest candidates: the least a search can reach.
    #[getter]
    fn smallest_cost(&self) -> u64 {
        cost::of_policy(&self.0, &Policy::smallest(&self.0))
    }

    /// Cost with every layer at its largest candidates.
    #[getter]
    fn largest_cost(&self) -> u64 {
        cost::of_policy(&self.0, &Policy::largest(&self.0))
    }

    /// Return the cost of each policy.
    ///
    /// `policies` are integers of shape (n, layers, 2), fastest as uint8.
    ///
    /// Raises:
    ///     PolicyError: another shape or type, or bits that are not candidates.
    #[pyo3(signature = (policies, /))]
    fn costs(&self, policies: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
        let rows = read_rows(policies, &self.0)?;
        let bytes = rows.as_bytes();
        Ok(policies.py().detach(|| cost::of_rows(&self.0, bytes))?)
    }

    fn __repr__(&self) -> String {
        format!(
            "Network(num_layers={}, smallest_cost={}, largest_cost={})",
            self.num_layers(),
            self.smallest_cost(),
            self.largest_cost()
        )
    }
}

/// One step of a search.
#[pyclass(name = "TraceStep", module = "harness._search_rs", frozen)]
#[derive(Clone)]
struct PyTraceStep(TraceStep);

#[pymethods]
impl PyTraceStep {
    /// Why: a word of the strategy, "descent", "finish", "upward", "restart" or "exchange".
    #[getter]
    fn phase(&self) -> &'static str {
        self.0.phase
    }

    /// Changes as (layer index, "weight" or "act", bits before, bits after).
    #[getter]
    fn changes(&self) -> Vec<ChangeRow> {
        let row = |change: &Move| {
            (change.layer_index, change.side.name(), change.from.get(), change.to.get())
        };
        self.0.changes.iter().map(row).collect()
    }

    /// Score after the step, None in the phase "finish", which evaluates nothing.
    #[getter]
    fn score(&self) -> Option<f64> {
        self.0.score
    }

    /// Cost after the step.
    #[getter]
    fn cost(&self) -> u64 {
        self.0.cost
    }

    fn __repr__(&self) -> String {
        let score = self.0.score.map_or_else(|| "None".to_owned(), |score| format!("{score:?}"));
        let changes = self.changes().into_iter();
        let changes: Vec<_> = changes
            .map(|(layer, side, from, to)| format!("({layer}, '{side}', {from}, {to})"))
            .collect();
        format!(
            "TraceStep(phase='{}', changes=[{}], score={score}, cost={})",
            self.phase(),
            changes.join(", "),
            self.0.cost
        )
    }
}

/// What came out of a search.
#[pyclass(name = "SearchResult", module = "harness._search_rs", frozen)]
struct PySearchResult(SearchResult);

#[pymethods]
impl PySearchResult {
    /// Policy with the lowest score within the limit, a new uint8 array (layers, 2).
    #[getter]
    fn policy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        policy_array(py, &self.0.policy)
    }

    /// Its score.
    #[getter]
    fn score(&self) -> f64 {
        self.0.score
    }

    /// Its cost, within the limit.
    #[getter]
    fn cost(&self) -> u64 {
        self.0.cost
    }

    /// Different policies whose score the search asked for.
    #[getter]
    fn num_evaluations(&self) -> u64 {
        self.0.num_evaluations
    }

    /// Steps, in order.
    #[getter]
    fn trace(&self) -> Vec<PyTraceStep> {
        self.0.trace.iter().cloned().map(PyTraceStep).collect()
    }

    fn __repr__(&self) -> String {
        format!(
            "SearchResult(score={:?}, cost={}, num_evaluations={}, num_steps={})",
            self.0.score,
            self.0.cost,
            self.0.num_evaluations,
            self.0.trace.len()
        )
    }
}

/// A search for the policy with the lowest score whose cost is within `limit`.
///
/// `strategy` is one of `STRATEGIES`. The other settings are those of "greedy"; a strategy leaves
/// unread what it does not know. `start` is a policy, by default the largest candidates.
/// `error_weight` weighs the normalised score against the normalised cost saved (paper: 1.5).
/// `evaluations` bounds the policies whose score the search may ask for. `anchors` are policies,
/// shape (n, layers, 2); those within the limit are scored first, together with the start. `climbs`
/// is from how many of the best of them moves up start. `exchange_limit` bounds the policies that
/// exchanges of one move up for one down may ask for on top; 0 turns them off.
///
/// A search that is made anew and given the same scores takes the same steps: to resume one, answer
/// from what is known already.
///
/// Raises:
///     BudgetError: the limit is below the smallest reachable cost; carries both.
///     PolicyError: `start` or an anchor is no policy of the network.
///     OptionError: a setting is out of range, or there is no such strategy.
#[pyclass(name = "Search", module = "harness._search_rs")]
struct PySearch(Box<dyn Strategy>);

#[pymethods]
impl PySearch {
    #[new]
    #[pyo3(signature = (network, limit, *, strategy="greedy", start=None, error_weight=1.5,
                        evaluations=None, anchors=None, climbs=0, exchange_limit=0))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only settings of a Python constructor")]
    fn new(
        network: &PyNetwork,
        limit: u64,
        strategy: &str,
        start: Option<&Bound<'_, PyAny>>,
        error_weight: f64,
        evaluations: Option<u64>,
        anchors: Option<&Bound<'_, PyAny>>,
        climbs: u64,
        exchange_limit: u64,
    ) -> PyResult<Self> {
        let start = start.map(|start| read_policy(start, &network.0)).transpose()?;
        let anchors = anchors.map(|anchors| read_policies(anchors, &network.0)).transpose()?;
        let anchors = anchors.unwrap_or_default();
        let options = Options { start, error_weight, evaluations, anchors, climbs, exchange_limit };
        Ok(Self(strategy::create(strategy, Arc::clone(&network.0), limit, options)?))
    }

    /// Return the policies whose scores are needed, uint8 (n, layers, 2), or None at the end.
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

    /// Take the scores of the policies last proposed, in their order; lower is better.
    ///
    /// Raises:
    ///     ScoreError: another number of scores, or one not finite; the search is as it was.
    ///     StateError: nothing is proposed, or the search is busy.
    #[pyo3(signature = (scores, /))]
    fn observe(slf: &Bound<'_, Self>, scores: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut search = lock(slf)?;
        let scores = read_scores(scores, search.0.num_proposed())?;
        let core = &mut search.0;
        Ok(slf.py().detach(|| core.observe(&scores))?)
    }

    /// Search to the end, calling `evaluate` for the scores of each batch of policies.
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
            let scores = read_scores(&evaluate.call1((policies,))?, num_policies)?;
            let mut search = lock(slf)?;
            let core = &mut search.0;
            slf.py().detach(|| core.observe(&scores))?;
            slf.py().check_signals()?;
        }
        Self::result(slf)
    }

    /// Return what came out of the search.
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
            "Search(limit={}, num_steps={}, {state})",
            search.0.limit(),
            search.0.trace().len()
        ))
    }
}

fn lock<'py>(search: &Bound<'py, PySearch>) -> PyResult<PyRefMut<'py, PySearch>> {
    search.try_borrow_mut().map_err(|_| CoreError::Busy.into())
}

/// Search engine for mixed-precision policies: exact costs, and searches within a limit.
#[pymodule(name = "_search_rs")]
mod module {
    use super::{Bound, PyModule, PyModuleMethods, PyResult, PyTuple, strategy};

    /// Adds the names of the strategies, the default first.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("STRATEGIES", PyTuple::new(module.py(), strategy::names())?)
    }

    #[pymodule_export]
    use super::{
        BudgetError, NetworkError, OptionError, PolicyError, PyLayer, PyNetwork, PySearch,
        PySearchResult, PyTraceStep, ScoreError, SearchError, StateError,
    };
}
