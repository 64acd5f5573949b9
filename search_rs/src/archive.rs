//! The scores of the policies that a search knows.
//!
//! Invariant: scores are finite, a policy has one, and nothing depends on the order in which they
//! came. A score is the sum of its parts, one for each fold of the images, lower is better; a score
//! that came without parts has one.

use std::collections::BTreeMap;

use crate::convert::count_as_float;
use crate::error::SearchError;
use crate::policy::Policy;

/// What evaluation said of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    parts: Vec<f64>,
    score: f64,
}

impl Observation {
    /// Take the parts of a score.
    #[must_use]
    pub fn new(parts: Vec<f64>) -> Self {
        // From 0.0, so that -0 becomes 0: `total_cmp` tells them apart, but they are the same
        // score.
        let score = parts.iter().fold(0.0, |sum, part| sum + part);
        Self { parts, score }
    }

    /// Return the score.
    #[must_use]
    pub fn score(&self) -> f64 {
        self.score
    }

    /// Return the parts.
    #[must_use]
    pub fn parts(&self) -> &[f64] {
        &self.parts
    }

    /// Return how far the score is above another on the same images, with its standard error; the
    /// error is `None` where the scores have fewer than two parts.
    #[must_use]
    pub fn above(&self, other: &Self) -> (f64, Option<f64>) {
        let difference = self.score - other.score;
        if self.parts.len() != other.parts.len() {
            return (difference, None);
        }
        let parts = self.parts.iter().zip(&other.parts).map(|(mine, its)| mine - its);
        (difference, error_of_sum(parts))
    }

    /// Return the standard error of the score as a mean over images drawn anew.
    #[must_use]
    pub fn standard_error(&self) -> Option<f64> {
        error_of_sum(self.parts.iter().copied())
    }
}

/// Return the standard error of a sum of independent parts, from their spread.
fn error_of_sum(parts: impl ExactSizeIterator<Item = f64> + Clone) -> Option<f64> {
    if parts.len() < 2 {
        return None;
    }
    let count = count_as_float(parts.len());
    let mean = parts.clone().sum::<f64>() / count;
    let squares: f64 = parts.map(|part| (part - mean).powi(2)).sum();
    Some((count * squares / (count - 1.0)).sqrt())
}

/// Observations by policy.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    observations: BTreeMap<Policy, Observation>,
}

impl Archive {
    /// Return the observation on record.
    #[must_use]
    pub fn get(&self, policy: &Policy) -> Option<&Observation> {
        self.observations.get(policy)
    }

    /// Return the score on record.
    #[must_use]
    pub fn score(&self, policy: &Policy) -> Option<f64> {
        self.get(policy).map(Observation::score)
    }

    /// Return the policies that have no score on record, each once.
    #[must_use]
    pub fn unknown(&self, policies: &[Policy]) -> Vec<Policy> {
        let mut unknown: Vec<Policy> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for policy in policies {
            if !self.observations.contains_key(policy) && seen.insert(policy) {
                unknown.push(policy.clone());
            }
        }
        unknown
    }

    /// Put down the scores of some policies, all or none: for each a row of parts.
    ///
    /// # Errors
    /// Another number of rows than policies, rows of different lengths, or a score that is not
    /// finite.
    pub fn record(&mut self, policies: &[Policy], rows: &[Vec<f64>]) -> Result<(), SearchError> {
        if rows.len() != policies.len() {
            let (found, expected) = (rows.len(), policies.len());
            return Err(SearchError::ScoreCount { found, expected });
        }
        let expected = rows.first().map_or(0, Vec::len);
        let observations: Vec<Observation> = rows.iter().cloned().map(Observation::new).collect();
        for (index, one) in observations.iter().enumerate() {
            if one.parts.is_empty() || one.parts.len() != expected {
                let found = one.parts.len();
                return Err(SearchError::ScoreParts { index, found, expected: expected.max(1) });
            }
            let parts = one.parts.iter().copied();
            if let Some(value) = parts.chain([one.score]).find(|value| !value.is_finite()) {
                return Err(SearchError::ScoreNotFinite { index, value });
            }
        }
        self.observations.extend(policies.iter().cloned().zip(observations));
        Ok(())
    }

    /// Return how many policies have a score.
    #[must_use]
    pub fn num_policies(&self) -> u64 {
        self.observations.len() as u64
    }

    /// Return every policy with its observation, in the order of the policies.
    pub fn iter(&self) -> impl Iterator<Item = (&Policy, &Observation)> {
        self.observations.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Layer, plain_network};

    fn two() -> [Policy; 2] {
        let layer = Layer::new("conv1", &[2, 4], &[3], &[vec![vec![1], vec![2]]]).unwrap();
        let network = plain_network(vec![layer]).unwrap();
        [Policy::smallest(&network), Policy::largest(&network)]
    }

    #[test]
    fn record_is_all_or_nothing() {
        let mut archive = Archive::default();
        let cases = [
            (vec![vec![1.0], vec![f64::NAN]], "score 1 is NaN, not a finite number"),
            (vec![vec![1.0, f64::INFINITY]; 2], "score 0 is inf, not a finite number"),
            (vec![vec![1.0]], "evaluation gave 1 scores for 2 policies"),
            (vec![vec![1.0], vec![1.0, 2.0]], "score 1 has 2 parts, not 1; "),
            (vec![vec![], vec![]], "score 0 has 0 parts, not 1; "),
        ];
        for (rows, expected) in cases {
            let message = archive.record(&two(), &rows).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        assert_eq!(archive.num_policies(), 0);
    }

    #[test]
    fn what_is_recorded_is_no_longer_unknown() {
        let [low, high] = two();
        let mut archive = Archive::default();
        archive.record(std::slice::from_ref(&low), &[vec![-0.0]]).unwrap();
        assert_eq!(archive.unknown(&[low.clone(), high.clone(), high.clone()]), [high]);
        assert_eq!(archive.num_policies(), 1);
        assert_eq!(archive.score(&low).map(f64::to_bits), Some(0.0_f64.to_bits()));
    }

    #[test]
    fn paired_difference_has_the_error_of_the_parts_differences() {
        let one = Observation::new(vec![1.0, 2.0, 3.0, 4.0]);
        let other = Observation::new(vec![0.5, 1.5, 2.0, 4.0]);
        // Differences 0.5, 0.5, 1, 0: mean 0.5, variance 1/6, of the sum 4/6.
        let (difference, error) = one.above(&other);
        assert!((difference - 2.0).abs() < 1e-12);
        assert!((error.unwrap() - (4.0_f64 / 6.0).sqrt()).abs() < 1e-12);
        assert_eq!(Observation::new(vec![1.0]).above(&Observation::new(vec![3.0])), (-2.0, None));
        assert_eq!(Observation::new(vec![1.0]).standard_error(), None);
    }
}
