//! Layers in execution order, the bit-widths each may take and what it costs at each pair of them.
//!
//! Invariant: a `Network` has at least one layer, and no policy's cost overflows 64 bits. What the
//! costs count is the caller's affair: BitOPs, bytes or time.

use crate::bits::{Candidates, Side};
use crate::error::SearchError;
use crate::table::CostTable;

/// One quantized layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    name: String,
    costs: CostTable,
}

impl Layer {
    /// Describe a layer: the candidates of each side in any order, and a row of costs per weight
    /// candidate with an entry per act candidate, both in the order given.
    ///
    /// # Errors
    /// No candidate, one outside 1 to 32 or one listed twice; another number of costs, or a cost
    /// that 64 bits do not hold or that falls with more bits.
    pub fn new(
        name: &str,
        weight_candidates: &[i128],
        act_candidates: &[i128],
        costs: &[Vec<i128>],
    ) -> Result<Self, SearchError> {
        let costs = CostTable::new(name, weight_candidates, act_candidates, costs)?;
        Ok(Self { name: name.to_owned(), costs })
    }

    /// Return the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Return the candidates of one side.
    #[must_use]
    pub fn candidates(&self, side: Side) -> &Candidates {
        self.costs.candidates(side)
    }

    /// Return the costs.
    #[must_use]
    pub fn costs(&self) -> &CostTable {
        &self.costs
    }
}

/// The quantized layers of a network, in execution order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    layers: Vec<Layer>,
}

impl Network {
    /// Take layers in execution order.
    ///
    /// # Errors
    /// No layer, or costs so large that their sum would overflow.
    pub fn new(layers: Vec<Layer>) -> Result<Self, SearchError> {
        if layers.is_empty() {
            return Err(SearchError::NoLayers);
        }
        let total: u128 = layers.iter().map(|layer| u128::from(layer.costs.largest())).sum();
        if total > u128::from(u64::MAX) {
            return Err(SearchError::CostSum { total, limit: u64::MAX });
        }
        Ok(Self { layers })
    }

    /// Return the layers in execution order.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Return the number of layers, at least 1.
    #[must_use]
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }
}

/// Return what a layer costs by a formula, a row per weight candidate: for tests.
#[cfg(test)]
pub(crate) fn costs_by(
    weight_candidates: &[i128],
    act_candidates: &[i128],
    cost: impl Fn(i128, i128) -> i128,
) -> Vec<Vec<i128>> {
    let row = |&weight| act_candidates.iter().map(|&act| cost(weight, act)).collect();
    weight_candidates.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(cost: i128) -> Layer {
        Layer::new("conv1", &[2], &[8], &[vec![cost]]).unwrap()
    }

    #[test]
    fn network_refuses_costs_that_overflow() {
        assert_eq!(Network::new(vec![]), Err(SearchError::NoLayers));
        let largest = i128::from(u64::MAX);
        assert!(Network::new(vec![layer(largest), layer(0)]).is_ok());
        let found = Network::new(vec![layer(largest), layer(1)]).unwrap_err().to_string();
        assert!(found.starts_with("network costs 18446744073709551616 at its largest candidates"));
    }
}
