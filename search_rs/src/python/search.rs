//! `Search`.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrays::{batch_array, read_policies, read_score_rows};
use super::network::PyNetwork;
use super::outcome::{PySearchResult, PySearchStatus, PyTraceStep};
use crate::archive::Archive;
use crate::budget::Budget;
use crate::error::SearchError as CoreError;
use crate::knapsack::PairValues;
use crate::session::Session;
use crate::strategy::{self, Problem, Settings};
use crate::trace::{Marginal, Prediction, SearchResult};

/// A single move and what it changes: layer index, "weight" or "act", bits before, bits after,
/// expected rise of the score, its standard deviation.
type MarginalRow = (usize, &'static str, u8, u8, f64, f64);

/// A search for the policies with the lowest scores within budgets.
///
/// `budgets` has a row per budget with a limit per resource, None for no limit; each budget gets a
/// policy, and one set of evaluations serves all. `strategy` is one of `STRATEGIES`. `evaluations`
/// bounds the policies whose score the search may ask for. `uniform` are uniform policies, shape
/// (n, layers, 2): starts and yardsticks. `starts` are policies from outside, of the same shape, as
/// a gradient or another search gives them: "guided", "greedy" and "evolution" score those within
/// some budget first. `hints` are values as `optimal_policies` takes them, what each pair of bits
/// should add to the score up to a common factor: "guided" begins its model with them. `seed`
/// every draw. `error_weight` is of "greedy", the weight of the normalised score against the
/// normalised cost saved (paper: 1.5).
/// `refine_share` and `significance` are of "guided": the share of the evaluations that refinement
/// may spend, and the standard errors by which it must lower the score. `known` are policies and
/// their scores from before: answers that cost no evaluation, and data for a model.
///
/// A search that is made anew and given the same scores asks the same: to resume one, answer from
/// what is known already.
///
/// Raises:
///     BudgetError: no policy meets a budget.
///     NetworkError: ties join too many layers.
///     PolicyError: a uniform policy, a start or a known policy is none of the network.
///     ScoreError: the known scores do not fit the known policies, or hints the pairs of bits.
///     OptionError: a setting is out of range, or there is no such strategy.
#[pyclass(name = "Search", module = "harness._search_rs")]
pub(super) struct PySearch(Session);

#[pymethods]
impl PySearch {
    #[new]
    #[pyo3(signature = (network, budgets, *, strategy=None, evaluations=None, uniform=None,
                        starts=None, hints=None, seed=0, error_weight=1.5, refine_share=None,
                        significance=None, known=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only settings of a Python constructor")]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 reads sequences into vectors")]
    fn new(
        network: &PyNetwork,
        budgets: Vec<Vec<Option<u64>>>,
        strategy: Option<&str>,
        evaluations: Option<u64>,
        uniform: Option<&Bound<'_, PyAny>>,
        starts: Option<&Bound<'_, PyAny>>,
        hints: Option<Vec<Vec<f64>>>,
        seed: u64,
        error_weight: f64,
        refine_share: Option<f64>,
        significance: Option<f64>,
        known: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    ) -> PyResult<Self> {
        let core = &network.0;
        let read = |policies: Option<&Bound<'_, PyAny>>| {
            policies.map(|policies| read_policies(policies, core)).transpose()
        };
        let (uniform, starts) = (read(uniform)?.unwrap_or_default(), read(starts)?);
        let budgets = budgets.iter().map(|limits| Budget::new(core, limits));
        let budgets = budgets.collect::<Result<_, _>>()?;
        let problem = Problem::new(std::sync::Arc::clone(core), budgets, uniform, seed)?
            .with_starts(starts.unwrap_or_default())?;
        let problem = match hints {
            Some(values) => problem.with_hints(&PairValues::new(core, values)?),
            None => problem,
        };
        let mut archive = Archive::default();
        if let Some((policies, scores)) = known {
            let policies = read_policies(&policies, core)?;
            archive.record(&policies, &read_score_rows(&scores, policies.len())?)?;
        }
        let name = strategy.unwrap_or(strategy::DEFAULT);
        let defaults = Settings::default();
        let settings = Settings {
            error_weight,
            refine_share: refine_share.unwrap_or(defaults.refine_share),
            significance: significance.unwrap_or(defaults.significance),
        };
        let strategy = strategy::create(name, &problem, &settings, evaluations)?;
        Ok(Self(Session::new(problem, strategy, archive, evaluations)?))
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
        let num_layers = search.0.problem().network.num_layers();
        proposed.map(|policies| batch_array(py, &policies, num_layers)).transpose()
    }

    /// Take the scores of the policies last proposed, in their order; lower is better.
    ///
    /// One number for each policy, or a row of parts, one for each fold of the images, whose sum is
    /// the score: their spread tells how far scores can be told apart.
    ///
    /// Raises:
    ///     ScoreError: another number of scores, or one not finite; the search is as it was.
    ///     StateError: nothing is proposed, or the search is busy.
    #[pyo3(signature = (scores, /))]
    fn observe(slf: &Bound<'_, Self>, scores: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut search = lock(slf)?;
        let rows = read_score_rows(scores, search.0.num_proposed())?;
        let core = &mut search.0;
        Ok(slf.py().detach(|| core.observe(&rows))?)
    }

    /// Search to the end, calling `evaluate` for the scores of each batch of policies.
    ///
    /// `evaluate` takes a uint8 array of shape (n, layers, 2), its own copy, and returns what
    /// `observe` takes. What it raises passes through, Ctrl-C included, and the search can go on
    /// afterwards where it stood. It may ask for the `status`. Returns a result per budget.
    ///
    /// Raises:
    ///     ScoreError: `evaluate` returned something else.
    ///     StateError: the search is busy.
    #[pyo3(signature = (evaluate, /))]
    fn run(slf: &Bound<'_, Self>, evaluate: &Bound<'_, PyAny>) -> PyResult<Vec<PySearchResult>> {
        while let Some(policies) = Self::propose(slf)? {
            let num_policies = policies.len()?;
            let rows = read_score_rows(&evaluate.call1((policies,))?, num_policies)?;
            let mut search = lock(slf)?;
            let core = &mut search.0;
            slf.py().detach(|| core.observe(&rows))?;
            slf.py().check_signals()?;
        }
        Self::results(slf)
    }

    /// End the search now: a model is fitted to what is known, and nothing more is asked.
    ///
    /// Afterwards `results`, `shortlist` and `predict` answer. It is how further budgets are
    /// answered from scores that are known already.
    ///
    /// Raises:
    ///     StateError: the search is busy.
    fn conclude(slf: &Bound<'_, Self>) -> PyResult<()> {
        let mut search = lock(slf)?;
        let core = &mut search.0;
        slf.py().detach(|| core.conclude());
        Ok(())
    }

    /// Return what came out of the search, a result per budget.
    ///
    /// Raises:
    ///     StateError: the search has not ended, or is busy.
    fn results(slf: &Bound<'_, Self>) -> PyResult<Vec<PySearchResult>> {
        let search = lock(slf)?;
        let results = search.0.results()?;
        Ok(results.into_iter().map(|result| search.with_resources(result)).collect())
    }

    /// Return the policies held to be best within a budget, the best first, at least one.
    ///
    /// Raises:
    ///     BudgetError: the search has no budget at that position.
    ///     StateError: the search has not ended, or is busy.
    #[pyo3(signature = (budget, count, /))]
    fn shortlist(
        slf: &Bound<'_, Self>,
        budget: usize,
        count: usize,
    ) -> PyResult<Vec<PySearchResult>> {
        let search = lock(slf)?;
        let results = search.0.shortlist(budget, count)?;
        Ok(results.into_iter().map(|result| search.with_resources(result)).collect())
    }

    /// Return what the strategy's model expects of policies, as (score, standard deviation).
    ///
    /// None where it has no model.
    ///
    /// Raises:
    ///     PolicyError: another shape or type, or a policy that is none of the network.
    ///     StateError: the search is busy.
    #[pyo3(signature = (policies, /))]
    fn predict(
        slf: &Bound<'_, Self>,
        policies: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Vec<(f64, f64)>>> {
        let search = lock(slf)?;
        let policies = read_policies(policies, &search.0.problem().network)?;
        let predicted = policies.iter().map(|policy| search.0.strategy().predict(policy));
        let pair = |it: Prediction| (it.score, it.deviation);
        Ok(predicted.map(|it| it.map(pair)).collect())
    }

    /// Return what the strategy's model expects each single move of a policy to change.
    ///
    /// By layer, weights first, as (layer index, "weight" or "act", bits before, bits after, rise
    /// of the score, its standard deviation); tied sides move together, and each has the rise of
    /// all. The deviation is of what the scores leave open. None where the strategy has no model.
    ///
    /// Raises:
    ///     PolicyError: another shape or type, or a policy that is none of the network.
    ///     StateError: the search is busy.
    #[pyo3(signature = (policy, /))]
    fn marginals(
        slf: &Bound<'_, Self>,
        policy: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Vec<MarginalRow>>> {
        let search = lock(slf)?;
        let one = PyTuple::new(slf.py(), [policy])?;
        let policies = read_policies(one.as_any(), &search.0.problem().network)?;
        let core = &search.0;
        let found = slf.py().detach(|| core.marginals(&policies[0]))?;
        let row = |it: Marginal| {
            let (change, rise) = (it.change, it.difference);
            let (from, to) = (change.from.get(), change.to.get());
            (change.layer_index, change.side.name(), from, to, rise.score, rise.deviation)
        };
        Ok(found.map(|marginals| marginals.into_iter().map(row).collect()))
    }

    /// Return how far the search is.
    ///
    /// Raises:
    ///     StateError: the search is busy.
    fn status(slf: &Bound<'_, Self>) -> PyResult<PySearchStatus> {
        Ok(PySearchStatus(lock(slf)?.0.status()))
    }

    /// Steps so far, in order.
    #[getter]
    fn trace(slf: &Bound<'_, Self>) -> PyResult<Vec<PyTraceStep>> {
        let search = lock(slf)?;
        let num_resources = search.0.problem().network.num_resources();
        let steps = search.0.trace().iter().cloned();
        Ok(steps.map(|step| PyTraceStep { step, num_resources }).collect())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let search = lock(slf)?;
        let state = if search.0.is_done() { "ended" } else { "running" };
        let count = search.0.num_evaluations();
        Ok(format!("Search(num_evaluations={count}, {state})"))
    }
}

impl PySearch {
    fn with_resources(&self, result: SearchResult) -> PySearchResult {
        let num_resources = self.0.problem().network.num_resources();
        PySearchResult { result, num_resources }
    }
}

fn lock<'py>(search: &Bound<'py, PySearch>) -> PyResult<PyRefMut<'py, PySearch>> {
    search.try_borrow_mut().map_err(|_| CoreError::Busy.into())
}
