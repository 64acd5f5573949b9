//! The strategies by name, and how each serves several budgets and spends its evaluations.

use crate::error::SearchError;
use crate::strategy::enumeration::Enumeration;
use crate::strategy::evolution::Evolution;
use crate::strategy::greedy::{Greedy, GreedySettings};
use crate::strategy::guided::{Guided, GuidedSettings};
use crate::strategy::knapsack::KnapsackSearch;
use crate::strategy::parts::{Part, Parts};
use crate::strategy::random::Random;
use crate::strategy::uniform::Uniform;
use crate::strategy::{Problem, Strategy};

/// Settings of all strategies; each takes those that it knows and leaves the others unread.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Greedy: weight of the normalised score against the normalised cost saved (paper: 1.5).
    pub error_weight: f64,
    /// Guided: share of the evaluations that refinement may spend.
    pub refine_share: f64,
    /// Guided: standard errors by which a refinement must lower the score.
    pub significance: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { error_weight: 1.5, refine_share: 0.1, significance: 2.0 }
    }
}

/// Evaluations of a search where nobody says how many, and of a guided one without a limit.
pub const DEFAULT_EVALUATIONS: u64 = 300;

type Create = fn(&Problem, &Settings, Option<u64>) -> Result<Box<dyn Strategy>, SearchError>;

/// The strategies by name; the first is the default.
const STRATEGIES: [(&str, Create); 6] = [
    ("guided", guided),
    ("greedy", greedy),
    ("knapsack", |problem, _, limit| {
        Ok(spending(problem, limit, &FILLERS, for_all(KnapsackSearch::new(limit))))
    }),
    ("evolution", |problem, _, limit| {
        Ok(spending(problem, limit, &FILLERS[1..], for_each(problem, evolution)))
    }),
    ("random", |problem, _, limit| {
        Ok(spending(problem, limit, &FILLERS[2..], for_each(problem, random)))
    }),
    ("uniform", |_, _, _| Ok(Box::new(Uniform::default()))),
];

/// Name of the strategy that is taken where none is named.
pub const DEFAULT: &str = STRATEGIES[0].0;

/// Return the names of the strategies, the default first.
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    STRATEGIES.iter().map(|&(name, _)| name)
}

/// Set up a strategy by its name.
///
/// # Errors
/// No strategy of that name, or settings that it cannot use.
pub fn create(
    name: &str,
    problem: &Problem,
    settings: &Settings,
    limit: Option<u64>,
) -> Result<Box<dyn Strategy>, SearchError> {
    let Some((_, create)) = STRATEGIES.iter().find(|(known, _)| *known == name) else {
        let known = names().collect::<Vec<_>>().join(", ");
        return Err(SearchError::UnknownStrategy { name: name.to_owned(), known });
    };
    create(problem, settings, limit)
}

fn guided(
    problem: &Problem,
    settings: &Settings,
    limit: Option<u64>,
) -> Result<Box<dyn Strategy>, SearchError> {
    for (name, value) in
        [("refine_share", settings.refine_share), ("significance", settings.significance)]
    {
        if !value.is_finite() || value < 0.0 || (name == "refine_share" && value > 1.0) {
            return Err(SearchError::GuidedSetting { name, value });
        }
    }
    let own = GuidedSettings {
        evaluations: limit.unwrap_or(DEFAULT_EVALUATIONS),
        refine_share: settings.refine_share,
        significance: settings.significance,
    };
    // It draws as far as its model tells policies apart; a small network may have more of them.
    Ok(spending(problem, limit, &FILLERS[1..], for_all(Guided::new(problem, own))))
}

fn greedy(
    problem: &Problem,
    settings: &Settings,
    limit: Option<u64>,
) -> Result<Box<dyn Strategy>, SearchError> {
    let defaults = GreedySettings::default();
    let own = GreedySettings {
        error_weight: settings.error_weight,
        // Under a limit exchanges may spend what is left.
        exchange_limit: limit.unwrap_or(defaults.exchange_limit),
        ..defaults
    };
    let part = |budget| {
        let strategy = Box::new(Greedy::new(problem, budget, own.clone())?);
        Ok(Part { strategy, budget: Some(budget), tier: 0 })
    };
    let parts = (0..problem.budgets.len()).map(part).collect::<Result<_, SearchError>>()?;
    Ok(spending(problem, limit, &FILLERS, parts))
}

/// Sets up a strategy for one of a problem's budgets.
type ForBudget = fn(&Problem, usize) -> Box<dyn Strategy>;

/// What spends evaluations that are left over, tier by tier: each goes on where the one before it
/// finds hardly anything new.
const FILLERS: [ForBudget; 3] =
    [evolution, random, |problem, budget| Box::new(Enumeration::new(problem, budget))];

fn evolution(problem: &Problem, budget: usize) -> Box<dyn Strategy> {
    Box::new(Evolution::new(problem, budget))
}

fn random(problem: &Problem, budget: usize) -> Box<dyn Strategy> {
    Box::new(Random::new(problem, budget))
}

/// Return one strategy for all budgets as the parts of a search.
fn for_all(strategy: impl Strategy + 'static) -> Vec<Part> {
    vec![Part { strategy: Box::new(strategy), budget: None, tier: 0 }]
}

/// Return a strategy for each budget as the parts of a search.
fn for_each(problem: &Problem, create: ForBudget) -> Vec<Part> {
    let budgets = 0..problem.budgets.len();
    let part = |budget| Part { strategy: create(problem, budget), budget: Some(budget), tier: 0 };
    budgets.map(part).collect()
}

/// Return some parts; under a limit the fillers spend what they leave over.
fn spending(
    problem: &Problem,
    limit: Option<u64>,
    fillers: &[ForBudget],
    mut parts: Vec<Part>,
) -> Box<dyn Strategy> {
    for (filler, tier) in fillers.iter().zip(1..).filter(|_| limit.is_some()) {
        let budgets = 0..problem.budgets.len();
        parts.extend(budgets.map(|budget| {
            let strategy = filler(problem, budget);
            Part { strategy, budget: Some(budget), tier }
        }));
    }
    Box::new(Parts::new(parts))
}
