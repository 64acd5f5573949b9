//! Memory of the error of every evaluated policy.
//!
//! Invariant: errors are finite, a policy has one error, and nothing depends on the order in which
//! errors arrived. What a search needed is kept apart from what was restored, so that the steps of a
//! search do not depend on what happened to be known before.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::SearchError;
use crate::policy::Policy;

/// Errors by policy, and which of the policies the search asked for.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    errors: BTreeMap<Policy, f64>,
    needed: BTreeSet<Policy>,
    num_restored: u64,
}

impl Archive {
    /// Return the error on record.
    #[must_use]
    pub fn error(&self, policy: &Policy) -> Option<f64> {
        self.errors.get(policy).copied()
    }

    /// Put down the errors of some policies, all or none.
    ///
    /// # Errors
    /// Another number of errors, one that is not finite, or one that contradicts the record.
    pub fn record(&mut self, policies: &[Policy], errors: &[f64]) -> Result<(), SearchError> {
        if errors.len() != policies.len() {
            let (found, expected) = (errors.len(), policies.len());
            return Err(SearchError::ScoreCount { found, expected });
        }
        let mut fresh = BTreeMap::new();
        for (index, (policy, &value)) in policies.iter().zip(errors).enumerate() {
            if !value.is_finite() {
                return Err(SearchError::ScoreNotFinite { index, value });
            }
            let given = value + 0.0; // -0 becomes 0, they are the same error
            let known = self.error(policy).or_else(|| fresh.get(policy).copied()).unwrap_or(given);
            if known.to_bits() != given.to_bits() {
                return Err(SearchError::ScoreConflict { index, known, given });
            }
            fresh.insert(policy.clone(), given);
        }
        self.errors.append(&mut fresh);
        Ok(())
    }

    /// Return how many of the policies were never needed before.
    #[must_use]
    pub fn count_new(&self, policies: &[Policy]) -> u64 {
        count(policies.iter().filter(|policy| !self.needed.contains(policy)))
    }

    /// Mark policies as needed by the search; return those whose error is not on record.
    pub fn need(&mut self, policies: &[Policy]) -> Vec<Policy> {
        let mut unknown = Vec::new();
        for policy in policies {
            let is_known = self.errors.contains_key(policy);
            if self.needed.insert(policy.clone()) && is_known {
                self.num_restored += 1;
            }
            if !is_known {
                unknown.push(policy.clone());
            }
        }
        unknown
    }

    /// Return how many different policies the search needed, restored ones included.
    #[must_use]
    pub fn num_needed(&self) -> u64 {
        count(self.needed.iter())
    }

    /// Return how many of the needed policies were on record before the search asked.
    #[must_use]
    pub fn num_restored(&self) -> u64 {
        self.num_restored
    }

    /// Return everything on record, in the order of the policies.
    pub fn all(&self) -> impl Iterator<Item = (&Policy, f64)> {
        self.errors.iter().map(|(policy, &error)| (policy, error))
    }

    /// Return what is on record of the policies the search needed, in the order of the policies.
    pub fn needed(&self) -> impl Iterator<Item = (&Policy, f64)> {
        self.needed.iter().filter_map(|policy| Some((policy, self.error(policy)?)))
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    items.fold(0, |sum, _| sum + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Layer, Network};

    fn two() -> [Policy; 2] {
        let layer = Layer::new("conv1", 10, 1, &[2, 4], &[3]).unwrap();
        let network = Network::new(vec![layer]).unwrap();
        [Policy::smallest(&network), Policy::largest(&network)]
    }

    #[test]
    fn record_is_all_or_nothing() {
        let mut archive = Archive::default();
        let found = archive.record(&two(), &[1.0, f64::NAN]).unwrap_err().to_string();
        assert!(found.starts_with("score 1 is NaN, not a finite number"), "{found}");
        let found = archive.record(&two(), &[1.0]).unwrap_err().to_string();
        assert!(found.starts_with("evaluation gave 1 scores for 2 policies"), "{found}");
        assert_eq!(archive.all().count(), 0);
    }

    #[test]
    fn record_refuses_a_second_opinion() {
        let mut archive = Archive::default();
        archive.record(&two(), &[-0.0, 2.0]).unwrap();
        archive.record(&two(), &[0.0, 2.0]).unwrap();
        let found = archive.record(&two(), &[0.0, 3.0]).unwrap_err().to_string();
        assert!(found.starts_with("policy 1 has score 3 but 2 is on record"), "{found}");
    }

    #[test]
    fn need_counts_each_policy_once_and_tells_the_unknown() {
        let [low, high] = two();
        let mut archive = Archive::default();
        archive.record(std::slice::from_ref(&low), &[1.0]).unwrap();
        assert_eq!(archive.count_new(&two()), 2);
        assert_eq!(archive.need(&two()), [high]);
        archive.need(&two());
        assert_eq!((archive.num_needed(), archive.num_restored()), (2, 1));
        assert_eq!(archive.needed().collect::<Vec<_>>(), [(&low, 1.0)]);
    }
}
