//! The numbers that errors carry, by name: what callers read without parsing a message.

use super::SearchError;

/// A number that an error carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A count, a limit or a bit-width.
    Whole(i128),
    /// A score or a weight.
    Real(f64),
}

impl SearchError {
    /// Return the numbers of the message, by name.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a line or two for each error")]
    pub fn numbers(&self) -> Vec<(&'static str, Number)> {
        use Number::{Real, Whole};
        match *self {
            Self::CandidateRange { bits, .. }
            | Self::CandidateTwice { bits, .. }
            | Self::BitsRange { bits, .. } => vec![("bits", Whole(bits))],
            Self::NotCandidate { bits, .. } => vec![("bits", Whole(bits.into()))],
            Self::CostRange { cost, .. } => vec![("cost", Whole(cost))],
            Self::ResourceCount { found, limit, .. } => {
                vec![("found", count(found)), ("limit", count(limit))]
            }
            Self::TieLayer { index, limit } => {
                vec![("index", count(index)), ("limit", count(limit))]
            }
            Self::TieTooLarge { options, limit, .. } => {
                vec![("options", count(options)), ("limit", count(limit))]
            }
            Self::BrokenTie { bits, other_bits, .. } => {
                vec![("bits", Whole(bits.into())), ("other_bits", Whole(other_bits.into()))]
            }
            Self::UnknownBudget { budget, limit } => {
                vec![("budget", count(budget)), ("limit", count(limit))]
            }
            Self::BudgetUnreachable { budget } => vec![("budget", count(budget))],
            Self::ScoreParts { index, found, expected } => vec![
                ("index", count(index)),
                ("found", count(found)),
                ("expected", count(expected)),
            ],
            Self::CostSum { total, limit } => {
                let total = i128::try_from(total).unwrap_or(i128::MAX);
                vec![("total", Whole(total)), ("limit", Whole(limit.into()))]
            }
            Self::PolicyShape { expected, .. } | Self::ScoreType { expected, .. } => {
                vec![("expected", count(expected))]
            }
            Self::CostCount { found, expected, .. }
            | Self::LayerResources { found, expected, .. }
            | Self::HintCount { found, expected, .. }
            | Self::LimitCount { found, expected }
            | Self::PolicyLength { found, expected }
            | Self::ScoreCount { found, expected } => {
                vec![("found", count(found)), ("expected", count(expected))]
            }
            Self::BudgetTooSmall { resource, limit, smallest_cost } => vec![
                ("resource", count(resource)),
                ("limit", Whole(limit.into())),
                ("smallest_cost", Whole(smallest_cost.into())),
            ],
            Self::ScoreNotFinite { index, value } => {
                vec![("index", count(index)), ("value", Real(value))]
            }
            Self::ErrorWeight { value }
            | Self::GuidedSetting { value, .. }
            | Self::HintNotFinite { value, .. } => vec![("value", Real(value))],
            Self::NothingProposed { found } => vec![("found", count(found))],
            Self::NoLayers
            | Self::NoCandidates { .. }
            | Self::TiedTwice { .. }
            | Self::UnknownWord { .. }
            | Self::TieCandidates { .. }
            | Self::NoLimit
            | Self::NoBudget
            | Self::PolicyType { .. }
            | Self::UnknownStrategy { .. }
            | Self::NoEvaluations
            | Self::NotFinished
            | Self::Busy => vec![],
        }
    }
}

fn count(number: usize) -> Number {
    Number::Whole(i128::try_from(number).unwrap_or(i128::MAX))
}
