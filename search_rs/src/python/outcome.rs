//! What comes out of a search, and how far it is.

use pyo3::prelude::*;

use super::arrays::policy_array;
use crate::moves::Change;
use crate::session::{Best, Status};
use crate::trace::{Prediction, SearchResult, TraceStep};

/// One change: layer index, "weight" or "act", bits before, bits after.
pub(super) type ChangeRow = (usize, &'static str, u8, u8);

/// One step of a search.
#[pyclass(name = "TraceStep", module = "harness._search_rs", frozen)]
#[derive(Clone)]
pub(super) struct PyTraceStep {
    pub(super) step: TraceStep,
    pub(super) num_resources: usize,
}

#[pymethods]
impl PyTraceStep {
    /// Position of the budget that it serves.
    #[getter]
    fn budget(&self) -> usize {
        self.step.budget
    }

    /// Why: a word of the strategy.
    #[getter]
    fn phase(&self) -> &'static str {
        self.step.phase
    }

    /// Changes as (layer index, "weight" or "act", bits before, bits after).
    #[getter]
    fn changes(&self) -> Vec<ChangeRow> {
        let row = |change: &Change| {
            (change.layer_index, change.side.name(), change.from.get(), change.to.get())
        };
        self.step.changes.iter().map(row).collect()
    }

    /// Score after the step, None where the strategy did not ask for it.
    #[getter]
    fn score(&self) -> Option<f64> {
        self.step.score
    }

    /// Costs after the step, one per resource.
    #[getter]
    fn costs(&self) -> Vec<u64> {
        self.step.costs.first(self.num_resources).to_vec()
    }

    fn __repr__(&self) -> String {
        let score = self.step.score.map_or_else(|| "None".to_owned(), |score| format!("{score:?}"));
        let changes = self.changes().into_iter();
        let changes: Vec<_> = changes
            .map(|(layer, side, from, to)| format!("({layer}, '{side}', {from}, {to})"))
            .collect();
        format!(
            "TraceStep(budget={}, phase='{}', changes=[{}], score={score}, costs={:?})",
            self.step.budget,
            self.step.phase,
            changes.join(", "),
            self.costs()
        )
    }
}

/// What came out of a search for one budget.
#[pyclass(name = "SearchResult", module = "harness._search_rs", frozen)]
pub(super) struct PySearchResult {
    pub(super) result: SearchResult,
    pub(super) num_resources: usize,
}

#[pymethods]
impl PySearchResult {
    /// Policy that the strategy holds to be the best, a new uint8 array (layers, 2).
    #[getter]
    fn policy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        policy_array(py, &self.result.policy)
    }

    /// Its score, None where it was not evaluated.
    #[getter]
    fn score(&self) -> Option<f64> {
        self.result.score
    }

    /// Its costs, one per resource, within the budget.
    #[getter]
    fn costs(&self) -> Vec<u64> {
        self.result.costs.first(self.num_resources).to_vec()
    }

    /// Score that the strategy's model expects, None where it has no model.
    #[getter]
    fn predicted_score(&self) -> Option<f64> {
        self.result.predicted.map(|predicted| predicted.score)
    }

    /// Standard deviation of that expectation.
    #[getter]
    fn predicted_deviation(&self) -> Option<f64> {
        self.result.predicted.map(|predicted| predicted.deviation)
    }

    fn __repr__(&self) -> String {
        let score =
            self.result.score.map_or_else(|| "None".to_owned(), |score| format!("{score:?}"));
        format!("SearchResult(score={score}, costs={:?})", self.costs())
    }
}

/// How far a search is.
#[pyclass(name = "SearchStatus", module = "harness._search_rs", frozen)]
pub(super) struct PySearchStatus(pub(super) Status);

#[pymethods]
impl PySearchStatus {
    /// What the strategy is doing, in a word.
    #[getter]
    fn phase(&self) -> &'static str {
        self.0.phase
    }

    /// Policies evaluated for this search.
    #[getter]
    fn num_evaluations(&self) -> u64 {
        self.0.num_evaluations
    }

    /// Most policies that may be, None for no limit.
    #[getter]
    fn limit(&self) -> Option<u64> {
        self.0.limit
    }

    /// Lowest score within each budget so far, None where there is none.
    #[getter]
    fn best_scores(&self) -> Vec<Option<f64>> {
        self.0.best.iter().map(|best| best.as_ref().map(|best| best.score)).collect()
    }

    /// The policy of each of them, a new uint8 array (layers, 2).
    #[getter]
    fn best_policies<'py>(&self, py: Python<'py>) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let policy = |best: &Option<Best>| {
            best.as_ref().map(|best| policy_array(py, &best.policy)).transpose()
        };
        self.0.best.iter().map(policy).collect()
    }

    /// Standard error of each of them over other images, None where it came without parts.
    #[getter]
    fn best_errors(&self) -> Vec<Option<f64>> {
        self.0.best.iter().map(|best| best.as_ref()?.standard_error).collect()
    }

    /// What a model expects of each, as (score, standard deviation), None without one.
    #[getter]
    fn best_predictions(&self) -> Vec<Option<(f64, f64)>> {
        let pair = |it: Prediction| (it.score, it.deviation);
        self.0.best.iter().map(|best| best.as_ref()?.predicted.map(pair)).collect()
    }

    /// Typical error of the model's predictions of scores it was not shown, None without one.
    #[getter]
    fn model_error(&self) -> Option<f64> {
        self.0.model_error
    }

    fn __repr__(&self) -> String {
        let (phase, count) = (self.0.phase, self.0.num_evaluations);
        format!("SearchStatus(phase='{phase}', num_evaluations={count})")
    }
}
