//! The hard limits on what a result may cost, in any of the resources.
//!
//! Invariant: each limit of a `Budget` that exists is met by some policy of the network. Whether
//! one policy meets all of them is for the knapsack to say (`knapsack.rs`).

use std::collections::BTreeSet;

use crate::convert::cost_as_float;
use crate::cost::{self, Aggregate, Costs};
use crate::error::SearchError;
use crate::knapsack::{Knapsack, PairValues};
use crate::network::Network;

/// The most a result may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Resource and limit, by resource.
    limits: Vec<(usize, u64)>,
}

impl Budget {
    /// Set limits in the units of the network's costs: one for each resource, `None` for no limit.
    ///
    /// # Errors
    /// Another number of limits than resources, none that limits anything, or one below the
    /// smallest cost that is reachable; that error carries both.
    pub fn new(network: &Network, limits: &[Option<u64>]) -> Result<Self, SearchError> {
        let (found, expected) = (limits.len(), network.num_resources());
        if found != expected {
            return Err(SearchError::LimitCount { found, expected });
        }
        let limits: Vec<_> = limits
            .iter()
            .enumerate()
            .filter_map(|(resource, limit)| limit.map(|limit| (resource, limit)))
            .collect();
        if limits.is_empty() {
            return Err(SearchError::NoLimit);
        }
        for &(resource, limit) in &limits {
            let smallest_cost = smallest_cost(network, resource);
            if limit < smallest_cost {
                return Err(SearchError::BudgetTooSmall { resource, limit, smallest_cost });
            }
        }
        Ok(Self { limits })
    }

    /// Return each limited resource with its limit.
    #[must_use]
    pub fn limits(&self) -> &[(usize, u64)] {
        &self.limits
    }

    /// Return the limited resources that aggregate in one way, with their limits.
    pub fn limits_on(
        &self,
        network: &Network,
        kind: Aggregate,
    ) -> impl Iterator<Item = (usize, u64)> + Clone {
        let kinds = network.aggregates();
        self.limits.iter().copied().filter(move |&(resource, _)| kinds[resource] == kind)
    }

    /// Return whether costs of a part of the layers can stand within the limits on largest costs.
    pub(crate) fn admits_part(&self, network: &Network, costs: &Costs) -> bool {
        self.limits_on(network, Aggregate::Max)
            .all(|(resource, limit)| costs.get(resource) <= limit)
    }

    /// Return whether costs are within every limit.
    #[must_use]
    pub fn admits(&self, costs: &Costs) -> bool {
        self.limits.iter().all(|&(resource, limit)| costs.get(resource) <= limit)
    }

    /// Return the sum over the limits of the cost as a share of the limit: what a search lowers on
    /// its way to the budget. Under one limit it orders policies as their cost does.
    #[must_use]
    pub fn load(&self, costs: &Costs) -> f64 {
        self.limits.iter().map(|&(resource, limit)| share(costs.get(resource), limit)).sum()
    }

    /// Return the load in those limits alone that a base exceeds: what a step from it is to save.
    #[must_use]
    pub fn load_where_exceeded(&self, base: &Costs, costs: &Costs) -> f64 {
        let exceeded = self.limits.iter().filter(|&&(resource, limit)| base.get(resource) > limit);
        exceeded.map(|&(resource, limit)| share(costs.get(resource), limit)).sum()
    }

    /// Return by how much the limits are exceeded, as the sum of shares; 0 within the budget.
    #[must_use]
    pub fn excess(&self, costs: &Costs) -> f64 {
        let over = |&(resource, limit): &(usize, u64)| {
            share(costs.get(resource).saturating_sub(limit), limit)
        };
        self.limits.iter().map(over).sum()
    }
}

/// Return the least that any policy costs in one resource.
#[must_use]
pub fn smallest_cost(network: &Network, resource: usize) -> u64 {
    let each = network.layers().iter().map(|layer| layer.costs().smallest(resource));
    match network.aggregates()[resource] {
        Aggregate::Sum => each.sum(),
        Aggregate::Max => each.max().unwrap_or_default(),
    }
}

/// Return for each resource that limits exclude together the least that it reaches while all the
/// other limits are kept; `None` where there is no limit, or where the others cannot be kept
/// together either.
pub(crate) fn least_of_each(
    network: &Network,
    knapsack: &Knapsack,
    budget: &Budget,
) -> Vec<Option<u64>> {
    let resources = 0..network.num_resources();
    resources
        .map(|resource| {
            budget.limits.iter().find(|&&(limited, _)| limited == resource)?;
            let others = budget.limits.iter().filter(|&&(limited, _)| limited != resource);
            let others = Budget { limits: others.copied().collect() };
            match network.aggregates()[resource] {
                Aggregate::Sum => least_sum(network, knapsack, &others, resource),
                Aggregate::Max => least_largest(network, knapsack, &others, resource),
            }
        })
        .collect()
}

/// Return the least that a resource that adds up reaches within a budget.
fn least_sum(
    network: &Network,
    knapsack: &Knapsack,
    budget: &Budget,
    resource: usize,
) -> Option<u64> {
    let costs = PairValues::by(network, |layer, bits| {
        cost_as_float(cost::of_layer(&network.layers()[layer], bits).get(resource))
    });
    let solution = knapsack.solve(network, &costs, budget)?;
    Some(cost::of_policy(network, &solution.policy).get(resource))
}

/// Return the least that a resource whose largest layer counts reaches within a budget: the least
/// limit on it, of the costs that layers have, that can be kept beside the others.
fn least_largest(
    network: &Network,
    knapsack: &Knapsack,
    budget: &Budget,
    resource: usize,
) -> Option<u64> {
    let blocks = knapsack.blocks().iter();
    let costs: BTreeSet<u64> =
        blocks.flat_map(|block| block.costs().iter().map(|costs| costs.get(resource))).collect();
    let costs: Vec<u64> = costs.into_iter().collect();
    let nothing = PairValues::by(network, |_, _| 0.0);
    let is_too_low = |&limit: &u64| {
        let mut limits = budget.limits.clone();
        limits.push((resource, limit));
        knapsack.solve(network, &nothing, &Budget { limits }).is_none()
    };
    costs.get(costs.partition_point(is_too_low)).copied()
}

/// A cost over a limit; a limit of 0 counts as 1, which keeps the order.
fn share(cost: u64, limit: u64) -> f64 {
    cost_as_float(cost) / cost_as_float(limit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Layer;

    fn network() -> Network {
        let columns = [vec![vec![60, 80]], vec![vec![5, 4]]];
        let layer = Layer::new("conv1", &[2], &[3, 4], &columns).unwrap();
        Network::new(vec![Aggregate::Sum, Aggregate::Max], vec![layer], &[]).unwrap()
    }

    #[test]
    fn limit_below_the_smallest_reachable_is_refused_with_both_numbers() {
        let network = network();
        let budget = Budget::new(&network, &[Some(60), None]).unwrap();
        assert!(budget.admits(&Costs::new(&[60, 99])) && !budget.admits(&Costs::new(&[61, 0])));
        let error = Budget::new(&network, &[None, Some(3)]).unwrap_err();
        let expected = SearchError::BudgetTooSmall { resource: 1, limit: 3, smallest_cost: 4 };
        assert_eq!(error, expected);
    }

    #[test]
    fn budget_needs_a_limit_per_resource_and_one_at_least() {
        let network = network();
        let found = Budget::new(&network, &[Some(60)]).unwrap_err().to_string();
        assert!(found.starts_with("budget has 1 limits, the network has 2 resources; "), "{found}");
        let found = Budget::new(&network, &[None, None]).unwrap_err().to_string();
        assert!(found.starts_with("budget limits 0 resources, at least 1 is needed; "), "{found}");
    }

    #[test]
    fn load_and_excess_add_up_over_the_limits() {
        let budget = Budget::new(&network(), &[Some(80), Some(4)]).unwrap();
        let costs = Costs::new(&[60, 5]);
        assert!((budget.load(&costs) - (0.75 + 1.25)).abs() < 1e-12);
        assert!((budget.excess(&costs) - 0.25).abs() < 1e-12);
    }
}
