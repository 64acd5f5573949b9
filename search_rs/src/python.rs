//! The Python module `harness._search_rs`: the only one that knows `PyO3`, with its parts.
//!
//! Invariant: no rule of the search lives here. Each method reads its arguments, releases the GIL
//! while Rust works, and turns a `SearchError` into one Python exception that carries its numbers.

#![expect(clippy::doc_markdown, reason = "these comments are Python docstrings")]

mod arrays;
mod errors;
mod fake_quantize;
mod network;
mod optimum;
mod outcome;
mod search;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::strategy;

/// Search engine for mixed-precision policies: exact costs, and searches within budgets.
#[pymodule(name = "_search_rs")]
mod module {
    use super::{Bound, PyModule, PyModuleMethods, PyResult, PyTuple, strategy};

    /// Adds the names of the strategies, the default first, and how much a search evaluates by
    /// default.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("DEFAULT_EVALUATIONS", strategy::DEFAULT_EVALUATIONS)?;
        module.add("STRATEGIES", PyTuple::new(module.py(), strategy::names())?)
    }

    #[pymodule_export]
    use super::errors::{
        BudgetError, NetworkError, OptionError, PolicyError, ScoreError, SearchError, StateError,
    };
    #[pymodule_export]
    use super::fake_quantize::{
        dampening, dampening_backward, fake_quantize, fake_quantize_backward, use_openmp,
    };
    #[pymodule_export]
    use super::network::{PyLayer, PyNetwork};
    #[pymodule_export]
    use super::optimum::optimal_policies;
    #[pymodule_export]
    use super::outcome::{PySearchResult, PySearchStatus, PyTraceStep};
    #[pymodule_export]
    use super::search::PySearch;
}
