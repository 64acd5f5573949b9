//! The Python exceptions and the one map to them.
//!
//! Invariant: every `SearchError` has exactly one exception, whose attributes are its numbers.

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::{Number, SearchError as CoreError};

create_exception!(
    harness._search_rs,
    SearchError,
    PyValueError,
    "The engine refuses something.\n\n\
    The children carry the numbers of their message as attributes; one that a message does not name\n\
    is not set."
);
create_exception!(harness._search_rs, NetworkError, SearchError, "A network is not valid.");
create_exception!(
    harness._search_rs,
    PolicyError,
    SearchError,
    "A policy is not one of the network."
);
create_exception!(
    harness._search_rs,
    BudgetError,
    SearchError,
    "A budget is not valid, or no policy meets it."
);
create_exception!(harness._search_rs, ScoreError, SearchError, "Scores cannot be used.");
create_exception!(harness._search_rs, OptionError, SearchError, "A setting is out of range.");
create_exception!(harness._search_rs, StateError, SearchError, "A call comes at the wrong time.");

impl From<CoreError> for PyErr {
    fn from(error: CoreError) -> Self {
        Python::attach(|py| raised(py, &error).unwrap_or_else(|failure| failure))
    }
}

/// Return the Python exception of an error: the one map.
fn raised(py: Python<'_>, error: &CoreError) -> PyResult<PyErr> {
    use CoreError as E;
    let text = error.to_string();
    let exception = match error {
        E::NoLayers
        | E::NoCandidates { .. }
        | E::CandidateRange { .. }
        | E::CandidateTwice { .. }
        | E::CostCount { .. }
        | E::CostRange { .. }
        | E::ResourceCount { .. }
        | E::LayerResources { .. }
        | E::TieLayer { .. }
        | E::TiedTwice { .. }
        | E::TieCandidates { .. }
        | E::TieTooLarge { .. }
        | E::UnknownWord { .. }
        | E::CostSum { .. } => NetworkError::new_err(text),
        E::PolicyLength { .. }
        | E::PolicyShape { .. }
        | E::PolicyType { .. }
        | E::BitsRange { .. }
        | E::NotCandidate { .. }
        | E::BrokenTie { .. } => PolicyError::new_err(text),
        E::BudgetTooSmall { .. }
        | E::BudgetUnreachable { .. }
        | E::LimitCount { .. }
        | E::NoLimit
        | E::NoBudget
        | E::UnknownBudget { .. } => BudgetError::new_err(text),
        E::ScoreCount { .. }
        | E::ScoreParts { .. }
        | E::ScoreNotFinite { .. }
        | E::ScoreType { .. }
        | E::ValueCount { .. }
        | E::ValueNotFinite { .. } => ScoreError::new_err(text),
        E::UnknownStrategy { .. }
        | E::ErrorWeight { .. }
        | E::GuidedSetting { .. }
        | E::NoEvaluations => OptionError::new_err(text),
        E::NothingProposed { .. } | E::NotFinished | E::Busy => StateError::new_err(text),
    };
    set_numbers(exception.value(py).as_any(), error)?;
    Ok(exception)
}

/// Set what an error carries as attributes of its exception.
fn set_numbers(exception: &Bound<'_, PyAny>, error: &CoreError) -> PyResult<()> {
    if let CoreError::BudgetUnreachable { least, .. } = error {
        exception.setattr("least", least.clone())?;
    }
    for (name, number) in error.numbers() {
        match number {
            Number::Whole(whole) => exception.setattr(name, whole)?,
            Number::Real(real) => exception.setattr(name, real)?,
        }
    }
    Ok(())
}
