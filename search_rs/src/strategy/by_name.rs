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
        let strategy = Box::new(KnapsackSearch::new(limit));
        let part = Part { strategy, budget: None, tier: 0 };
        spending(problem, limit, &FILLERS, vec![part])
    }),
    ("evolution", |problem, _, limit| each_budget(problem, limit, &FILLERS[1..], evolution)),
    ("random", |problem, _, limit| each_budget(problem, limit, &FILLERS[2..], random)),
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
    let part = Part { strategy: Box::new(Guided::new(problem, own)), budget: None, tier: 0 };
    // It draws as far as its model tells policies apart; a small network may have more of them.
    spending(problem, limit, &FILLERS[1..], vec![part])
}

fn greedy(
    problem: &Problem,
    settings: &Settings,
    limit: Option<u64>,
) -> Result<Box<dyn Strategy>, SearchError> {
    each_budget(problem, limit, &FILLERS, |problem, budget| {
        let defaults = GreedySettings::default();
        let own = GreedySettings {
            error_weight: settings.error_weight,
            // Under a limit exchanges may spend what is left.
            exchange_limit: limit.unwrap_or(defaults.exchange_limit),
            ..defaults
        };
        Ok(Box::new(Greedy::new(problem, budget, own)?))
    })
}

/// Sets up a strategy for one of a problem's budgets.
type ForBudget = fn(&Problem, usize) -> Result<Box<dyn Strategy>, SearchError>;

/// What spends evaluations that are left over, tier by tier: each goes on where the one before it finds
/// hardly anything new.
const FILLERS: [ForBudget; 3] = [evolution, random, enumeration];

fn evolution(problem: &Problem, budget: usize) -> Result<Box<dyn Strategy>, SearchError> {
    Ok(Box::new(Evolution::new(problem, budget)))
}

fn random(problem: &Problem, budget: usize) -> Result<Box<dyn Strategy>, SearchError> {
    Ok(Box::new(Random::new(problem, budget)))
}

fn enumeration(problem: &Problem, budget: usize) -> Result<Box<dyn Strategy>, SearchError> {
    Ok(Box::new(Enumeration::new(problem, budget)))
}

/// Return a strategy that serves one budget after the other and spends what is left over.
fn each_budget(
    problem: &Problem,
    limit: Option<u64>,
    fillers: &[ForBudget],
    create: impl Fn(&Problem, usize) -> Result<Box<dyn Strategy>, SearchError>,
) -> Result<Box<dyn Strategy>, SearchError> {
    let budgets = 0..problem.budgets.len();
    let part =
        |budget| Ok(Part { strategy: create(problem, budget)?, budget: Some(budget), tier: 0 });
    spending(problem, limit, fillers, budgets.map(part).collect::<Result<_, _>>()?)
}

/// Return some parts; under a limit the fillers spend what they leave over.
fn spending(
    problem: &Problem,
    limit: Option<u64>,
    fillers: &[ForBudget],
    mut parts: Vec<Part>,
) -> Result<Box<dyn Strategy>, SearchError> {
    for (filler, tier) in fillers.iter().zip(1..).filter(|_| limit.is_some()) {
        for budget in 0..problem.budgets.len() {
            parts.push(Part { strategy: filler(problem, budget)?, budget: Some(budget), tier });
        }
    }
    Ok(Box::new(Parts::new(parts)))
}
