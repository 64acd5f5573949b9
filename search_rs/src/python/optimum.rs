//! The exact knapsack by itself.

use std::sync::Arc;

use pyo3::prelude::*;

use super::arrays::policy_array;
use super::network::PyNetwork;
use crate::budget::Budget;
use crate::knapsack::PairValues;
use crate::strategy::Problem;

/// Return for each budget the policy with the lowest sum of values, uint8 (layers, 2).
///
/// `values` has a row per layer with a finite number per pair of its candidates: weight candidates
/// ascending, for each of them the act candidates ascending. Ties hold. `budgets` are those of a
/// `Search`.
///
/// Raises:
///     BudgetError: no policy meets a budget.
///     NetworkError: ties join too many layers.
///     ScoreError: the values are not one for each pair, or one is not finite.
#[pyfunction]
#[pyo3(signature = (network, budgets, values, /))]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 reads sequences into vectors")]
pub(super) fn optimal_policies<'py>(
    py: Python<'py>,
    network: &PyNetwork,
    budgets: Vec<Vec<Option<u64>>>,
    values: Vec<Vec<f64>>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let core = &network.0;
    let budgets = budgets.iter().map(|limits| Budget::new(core, limits));
    let budgets = budgets.collect::<Result<_, _>>()?;
    let values = PairValues::new(core, values)?;
    let policies = py.detach(|| {
        Problem::new(Arc::clone(core), budgets, Vec::new(), 0).map(|problem| {
            let budgets = 0..problem.budgets.len();
            budgets.map(|budget| problem.optimum(&values, budget)).collect::<Vec<_>>()
        })
    })?;
    policies.iter().map(|policy| policy_array(py, policy)).collect()
}
