//! The hard limit on the cost.
//!
//! Invariant: at least one policy of the network meets a `Budget` that exists.

use crate::cost;
use crate::error::SearchError;
use crate::network::Network;
use crate::policy::Policy;

/// The most a result may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: u64,
}

impl Budget {
    /// Set the limit, in the unit of the network's costs.
    ///
    /// # Errors
    /// Below the smallest reachable; the error carries both.
    pub fn new(network: &Network, limit: u64) -> Result<Self, SearchError> {
        let smallest_cost = cost::of_policy(network, &Policy::smallest(network));
        if limit < smallest_cost {
            return Err(SearchError::BudgetTooSmall { limit, smallest_cost });
        }
        Ok(Self { limit })
    }

    /// Return the limit.
    #[must_use]
    pub fn limit(self) -> u64 {
        self.limit
    }

    /// Return whether a cost is within the limit.
    #[must_use]
    pub fn admits(self, cost: u64) -> bool {
        cost <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Layer;

    #[test]
    fn limit_below_the_smallest_reachable_is_refused_with_both_numbers() {
        let layer = Layer::new("conv1", &[2], &[3, 4], &[vec![60, 80]]).unwrap();
        let network = Network::new(vec![layer]).unwrap();
        assert!(Budget::new(&network, 60).is_ok_and(|budget| budget.admits(60)));
        let error = Budget::new(&network, 59).unwrap_err();
        assert_eq!(error, SearchError::BudgetTooSmall { limit: 59, smallest_cost: 60 });
    }
}
