//! The scores of the policies that a search has asked for.
//!
//! Invariant: scores are finite, a policy has one, and nothing depends on the order in which they
//! came.

use std::collections::BTreeMap;

use crate::error::SearchError;
use crate::policy::Policy;

/// Scores by policy.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    scores: BTreeMap<Policy, f64>,
}

impl Archive {
    /// Return the score on record.
    #[must_use]
    pub fn score(&self, policy: &Policy) -> Option<f64> {
        self.scores.get(policy).copied()
    }

    /// Return the policies that have no score on record.
    #[must_use]
    pub fn unknown(&self, policies: &[Policy]) -> Vec<Policy> {
        policies.iter().filter(|policy| !self.scores.contains_key(policy)).cloned().collect()
    }

    /// Put down the scores of some policies, all or none.
    ///
    /// # Errors
    /// Another number of scores, or one that is not finite.
    pub fn record(&mut self, policies: &[Policy], scores: &[f64]) -> Result<(), SearchError> {
        if scores.len() != policies.len() {
            let (found, expected) = (scores.len(), policies.len());
            return Err(SearchError::ScoreCount { found, expected });
        }
        if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
            return Err(SearchError::ScoreNotFinite { index, value: scores[index] });
        }
        // -0 becomes 0: `total_cmp` tells them apart, but they are the same score.
        let scores = scores.iter().map(|score| score + 0.0);
        self.scores.extend(policies.iter().cloned().zip(scores));
        Ok(())
    }

    /// Return how many policies have a score.
    #[must_use]
    pub fn num_policies(&self) -> u64 {
        self.scores.len() as u64
    }

    /// Return every policy with its score, in the order of the policies.
    pub fn iter(&self) -> impl Iterator<Item = (&Policy, f64)> {
        self.scores.iter().map(|(policy, &score)| (policy, score))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Layer, Network};

    fn two() -> [Policy; 2] {
        let layer = Layer::new("conv1", &[2, 4], &[3], &[vec![1], vec![2]]).unwrap();
        let network = Network::new(vec![layer]).unwrap();
        [Policy::smallest(&network), Policy::largest(&network)]
    }

    #[test]
    fn record_is_all_or_nothing() {
        let mut archive = Archive::default();
        let message = archive.record(&two(), &[1.0, f64::NAN]).unwrap_err().to_string();
        assert!(message.starts_with("score 1 is NaN, not a finite number"), "{message}");
        let message = archive.record(&two(), &[1.0]).unwrap_err().to_string();
        assert!(message.starts_with("evaluation gave 1 scores for 2 policies"), "{message}");
        assert_eq!(archive.num_policies(), 0);
    }

    #[test]
    fn what_is_recorded_is_no_longer_unknown() {
        let [low, high] = two();
        let mut archive = Archive::default();
        archive.record(std::slice::from_ref(&low), &[-0.0]).unwrap();
        assert_eq!(archive.unknown(&two()), [high]);
        assert_eq!(archive.num_policies(), 1);
        assert_eq!(archive.score(&low).map(f64::to_bits), Some(0.0_f64.to_bits()));
        assert_eq!(archive.iter().collect::<Vec<_>>(), [(&low, 0.0)]);
    }
}
