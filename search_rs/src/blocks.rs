//! Layers that ties join, with every assignment of bits that respects them.
//!
//! Invariant: the blocks part the layers of a network, and a policy respects all ties exactly if it
//! takes one option of each block. Without ties a block is a layer and its options are its pairs.

use crate::bits::Bits;
use crate::cost::{self, Costs};
use crate::error::SearchError;
use crate::network::{Group, Network};
use crate::policy::{LayerBits, Policy};

/// Most options of a block. Three layers with free weights that share activation bits have 625, six
/// have 78,125.
pub const MAX_OPTIONS: usize = 100_000;

/// Layers that take their bits together.
#[derive(Debug, Clone)]
pub struct Block {
    layers: Vec<usize>,
    /// By option: the bits of each layer.
    options: Vec<Vec<LayerBits>>,
    costs: Vec<Costs>,
}

impl Block {
    /// Return the layers' positions in the network.
    #[must_use]
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// Return the options: the bits of each of the block's layers.
    #[must_use]
    pub fn options(&self) -> &[Vec<LayerBits>] {
        &self.options
    }

    /// Return what each option costs, the block's layers together.
    #[must_use]
    pub fn costs(&self) -> &[Costs] {
        &self.costs
    }

    /// Put an option into a policy.
    pub fn write(&self, option: usize, policy: &mut Policy) {
        for (&layer, &bits) in self.layers.iter().zip(&self.options[option]) {
            policy.set_layer(layer, bits);
        }
    }
}

/// Return the blocks of a network, by their first layer.
///
/// # Errors
/// Ties that leave a block more than `MAX_OPTIONS` options.
pub fn of_network(network: &Network) -> Result<Vec<Block>, SearchError> {
    let mut block_of: Vec<usize> = (0..network.num_layers()).collect();
    for group in network.groups() {
        let joined: Vec<usize> = group.sides().iter().map(|&(layer, _)| block_of[layer]).collect();
        let first = joined.iter().copied().min().unwrap_or_default();
        for block in &mut block_of {
            if joined.contains(block) {
                *block = first;
            }
        }
    }
    let firsts = (0..network.num_layers()).filter(|&layer| block_of[layer] == layer);
    firsts
        .map(|first| {
            let layers = (0..network.num_layers()).filter(|&layer| block_of[layer] == first);
            block(network, layers.collect())
        })
        .collect()
}

fn block(network: &Network, layers: Vec<usize>) -> Result<Block, SearchError> {
    let is_inside = |group: &&Group| layers.contains(&group.sides()[0].0);
    let groups: Vec<&Group> = network.groups().iter().filter(is_inside).collect();
    let num_options = groups.iter().fold(1_usize, |product, group| {
        product.saturating_mul(group.candidates().as_slice().len())
    });
    if num_options > MAX_OPTIONS {
        return Err(SearchError::TieTooLarge {
            layer: network.layers()[layers[0]].name().to_owned(),
            count: layers.len(),
            options: num_options,
            limit: MAX_OPTIONS,
        });
    }
    let smallest = Policy::smallest(network);
    let mut assignments = vec![smallest];
    for group in groups {
        let bits = group.candidates().as_slice();
        let extended = assignments
            .iter()
            .flat_map(|policy| bits.iter().map(move |&bits: &Bits| policy.with_group(group, bits)));
        assignments = extended.collect();
    }
    let options: Vec<Vec<LayerBits>> = assignments
        .iter()
        .map(|policy| layers.iter().map(|&layer| policy.layers()[layer]).collect())
        .collect();
    let of_option = |bits: &Vec<LayerBits>| {
        let each = layers.iter().zip(bits);
        cost::total(
            network,
            each.map(|(&layer, &bits)| cost::of_layer(&network.layers()[layer], bits)),
        )
    };
    let costs = options.iter().map(of_option).collect();
    Ok(Block { layers, options, costs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::Side;
    use crate::cost::Aggregate;
    use crate::network::{Layer, costs_by, plain_network};

    fn layers(count: usize) -> Vec<Layer> {
        let free = [2, 3, 4, 5, 6];
        let costs = costs_by(&free, &free, |weight, act| weight * act);
        let layer =
            |index| Layer::new(&format!("conv{index}"), &free, &free, std::slice::from_ref(&costs));
        (0..count).map(|index| layer(index).unwrap()).collect()
    }

    #[test]
    fn layer_without_ties_is_a_block_of_its_pairs() {
        let network = plain_network(layers(2)).unwrap();
        let blocks = of_network(&network).unwrap();
        assert_eq!(blocks.iter().map(Block::layers).collect::<Vec<_>>(), [[0], [1]]);
        assert!(blocks.iter().all(|block| block.options().len() == 25));
        assert_eq!(blocks[0].costs()[0], Costs::new(&[4]));
    }

    #[test]
    fn ties_join_layers_also_through_others() {
        let ties =
            [vec![(0, Side::Act), (2, Side::Act)], vec![(2, Side::Weight), (3, Side::Weight)]];
        let network = Network::new(vec![Aggregate::Sum], layers(5), &ties).unwrap();
        let blocks = of_network(&network).unwrap();
        let found: Vec<_> = blocks.iter().map(Block::layers).collect();
        assert_eq!(found, [&[0, 2, 3][..], &[1], &[4]]);
        // Act of 0 and 2, weight of 0, weight of 2 and 3, act of 3.
        assert_eq!(blocks[0].options().len(), 5_usize.pow(4));
        for (bits, costs) in blocks[0].options().iter().zip(blocks[0].costs()) {
            assert_eq!((bits[0].act, bits[1].weight), (bits[1].act, bits[2].weight));
            let product = |bits: &LayerBits| u64::from(bits.weight.get() * bits.act.get());
            assert_eq!(costs.get(0), bits.iter().map(product).sum::<u64>());
        }
    }

    #[test]
    fn ties_with_too_many_options_are_refused() {
        let tie = (0..9).map(|layer| (layer, Side::Act)).collect();
        let network = Network::new(vec![Aggregate::Sum], layers(9), &[tie]).unwrap();
        let found = of_network(&network).unwrap_err().to_string();
        let expected = "ties join 9 layers, conv0 the first, in 9765625 ways, above 100000; ";
        assert!(found.starts_with(expected), "{found}");
    }
}
