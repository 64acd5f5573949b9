//! The hard limit on BitOPs.
//!
//! Invariant: at least one policy of the network meets a `Budget` that exists.

use crate::cost::Resource;
use crate::error::SearchError;
use crate::network::Network;
use crate::policy::Policy;

/// The most BitOPs a result may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    target_bitops: u64,
}

impl Budget {
    /// Set the target, in BitOPs for one input.
    ///
    /// # Errors
    /// Below the smallest reachable; the error carries both.
    pub fn new(network: &Network, target_bitops: u64) -> Result<Self, SearchError> {
        let smallest_bitops = Resource::BitOps.of_policy(network, &Policy::smallest(network));
        if target_bitops < smallest_bitops {
            return Err(SearchError::BudgetTooSmall { target_bitops, smallest_bitops });
        }
        Ok(Self { target_bitops })
    }

    /// Return the target, in BitOPs.
    #[must_use]
    pub fn target_bitops(self) -> u64 {
        self.target_bitops
    }

    /// Return whether so many BitOPs are within the target.
    #[must_use]
    pub fn admits(self, bitops: u64) -> bool {
        bitops <= self.target_bitops
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Layer;

    #[test]
    fn target_below_the_smallest_reachable_is_refused_with_both_numbers() {
        let layer = Layer::new("conv1", 10, 1, &[2, 4], &[3, 4]).unwrap();
        let network = Network::new(vec![layer]).unwrap();
        assert!(Budget::new(&network, 60).is_ok_and(|budget| budget.admits(60)));
        let error = Budget::new(&network, 59).unwrap_err();
        assert_eq!(error, SearchError::BudgetTooSmall { target_bitops: 59, smallest_bitops: 60 });
    }
}
