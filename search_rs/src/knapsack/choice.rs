//! What a block may take in one knapsack: its options within the limits that no other beats.

use crate::blocks::Block;
use crate::budget::Budget;
use crate::network::Network;

use super::PairValues;

/// An option of a block that an optimum may need.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// Position among the options of the block.
    pub(super) option: usize,
    /// In each resource that adds up and is limited.
    pub(super) costs: Vec<u64>,
    /// Sum of the layers' values.
    pub(super) value: f64,
}

/// Return the options of a block within the limits on largest costs, without those that another is
/// no worse than in value and in every cost that adds up.
pub(super) fn choices(
    network: &Network,
    block: &Block,
    values: &PairValues,
    budget: &Budget,
    sums: &[(usize, u64)],
) -> Vec<Choice> {
    let mut all: Vec<Choice> = block
        .costs()
        .iter()
        .enumerate()
        .filter(|(_, costs)| budget.admits_part(network, costs))
        .map(|(option, costs)| Choice {
            option,
            costs: sums.iter().map(|&(resource, _)| costs.get(resource)).collect(),
            value: value_of(network, block, values, option),
        })
        .collect();
    all.sort_by(|a, b| a.value.total_cmp(&b.value).then_with(|| a.costs.cmp(&b.costs)));
    let mut kept: Vec<Choice> = Vec::new();
    for choice in all {
        // All that are kept have a lower value or the same.
        let beats =
            |other: &Choice| other.costs.iter().zip(&choice.costs).all(|(mine, its)| mine <= its);
        if !kept.iter().any(beats) {
            kept.push(choice);
        }
    }
    kept
}

fn value_of(network: &Network, block: &Block, values: &PairValues, option: usize) -> f64 {
    let layers = block.layers().iter().zip(&block.options()[option]);
    layers.map(|(&layer, &bits)| values.of_layer(network, layer, bits)).sum()
}
