//! Layers in execution order, the bit-widths each may take, what it costs at each pair of them, and
//! which sides take the same bits.
//!
//! Invariant: a `Network` has at least one layer and one resource, no policy's cost overflows 64
//! bits, and every side of every layer belongs to exactly one `Group`.

use crate::bits::{Bits, Candidates, Side};
use crate::cost::{Aggregate, MAX_RESOURCES};
use crate::error::SearchError;
use crate::table::CostTable;

/// One quantized layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    name: String,
    costs: CostTable,
}

impl Layer {
    /// Describe a layer: the candidates of each side in any order, and for each resource a row of
    /// costs per weight candidate with an entry per act candidate, both in the order given.
    ///
    /// # Errors
    /// No candidate, one outside 1 to 32 or one listed twice; another number of costs, or a cost
    /// that 64 bits do not hold.
    pub fn new(
        name: &str,
        weight_candidates: &[i128],
        act_candidates: &[i128],
        columns: &[Vec<Vec<i128>>],
    ) -> Result<Self, SearchError> {
        if !(1..=MAX_RESOURCES).contains(&columns.len()) {
            let (layer, found) = (name.to_owned(), columns.len());
            return Err(SearchError::ResourceCount { layer, found, limit: MAX_RESOURCES });
        }
        let costs = CostTable::new(name, weight_candidates, act_candidates, columns)?;
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

/// Sides of layers that take the same bits: mostly one, several where they are tied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    sides: Vec<(usize, Side)>,
    candidates: Candidates,
}

impl Group {
    /// Return the sides as layer index and side, in execution order.
    #[must_use]
    pub fn sides(&self) -> &[(usize, Side)] {
        &self.sides
    }

    /// Return the bit-widths that the sides may take, all of them the same one.
    #[must_use]
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// Return whether there is anything to choose.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.candidates.as_slice().len() > 1
    }
}

/// The quantized layers of a network, in execution order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    layers: Vec<Layer>,
    aggregates: Vec<Aggregate>,
    groups: Vec<Group>,
    /// Group of the weights and of the activations, by layer.
    group_of: Vec<[usize; 2]>,
}

impl Network {
    /// Take layers in execution order.
    ///
    /// # Arguments
    /// * `aggregates` - for each resource how the costs of layers come to that of a policy.
    /// * `ties` - sides that take the same bits, as layer index and side.
    ///
    /// # Errors
    /// No layer; a layer with another number of resources; costs so large that their sum would
    /// overflow; a tie of sides that do not exist, that differ in their candidates, or of which one
    /// stands in another tie.
    pub fn new(
        aggregates: Vec<Aggregate>,
        layers: Vec<Layer>,
        ties: &[Vec<(usize, Side)>],
    ) -> Result<Self, SearchError> {
        if layers.is_empty() {
            return Err(SearchError::NoLayers);
        }
        for layer in &layers {
            let (found, expected) = (layer.costs.num_resources(), aggregates.len());
            if found != expected {
                let layer = layer.name.clone();
                return Err(SearchError::LayerResources { layer, found, expected });
            }
        }
        for (resource, _) in
            aggregates.iter().enumerate().filter(|(_, kind)| **kind == Aggregate::Sum)
        {
            let total = layers.iter().map(|layer| u128::from(layer.costs.largest(resource))).sum();
            if total > u128::from(u64::MAX) {
                return Err(SearchError::CostSum { total, limit: u64::MAX });
            }
        }
        let (groups, group_of) = group_sides(&layers, ties)?;
        Ok(Self { layers, aggregates, groups, group_of })
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

    /// Return how each resource adds up.
    #[must_use]
    pub fn aggregates(&self) -> &[Aggregate] {
        &self.aggregates
    }

    /// Return the number of resources, at least 1.
    #[must_use]
    pub fn num_resources(&self) -> usize {
        self.aggregates.len()
    }

    /// Return the groups of sides that take the same bits, by their first side in execution order.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Return the group of one side of a layer.
    #[must_use]
    pub fn group_of(&self, layer_index: usize, side: Side) -> usize {
        self.group_of[layer_index][side.index()]
    }
}

fn group_sides(
    layers: &[Layer],
    ties: &[Vec<(usize, Side)>],
) -> Result<(Vec<Group>, Vec<[usize; 2]>), SearchError> {
    let mut tie_of: Vec<[Option<usize>; 2]> = vec![[None; 2]; layers.len()];
    for (number, tie) in ties.iter().enumerate() {
        for &(index, side) in tie {
            let Some(place) = tie_of.get_mut(index) else {
                return Err(SearchError::TieLayer { index, limit: layers.len() });
            };
            if place[side.index()].replace(number).is_some() {
                let layer = layers[index].name.clone();
                return Err(SearchError::TiedTwice { layer, side: side.name() });
            }
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of = vec![[0; 2]; layers.len()];
    let mut group_of_tie: Vec<Option<usize>> = vec![None; ties.len()];
    for (index, layer) in layers.iter().enumerate() {
        for side in [Side::Weight, Side::Act] {
            let candidates = layer.candidates(side);
            let tie = tie_of[index][side.index()];
            let group = tie.and_then(|tie| group_of_tie[tie]).unwrap_or(groups.len());
            if group == groups.len() {
                groups.push(Group { sides: Vec::new(), candidates: candidates.clone() });
            }
            if let Some(tie) = tie {
                group_of_tie[tie] = Some(group);
            }
            if groups[group].candidates != *candidates {
                return Err(SearchError::TieCandidates {
                    layer: layer.name.clone(),
                    side: side.name(),
                    candidates: candidates.to_string(),
                    other: layers[groups[group].sides[0].0].name.clone(),
                    others: groups[group].candidates.to_string(),
                });
            }
            groups[group].sides.push((index, side));
            group_of[index][side.index()] = group;
        }
    }
    Ok((groups, group_of))
}

/// Return the next candidates below and above some bits of a group.
pub(crate) fn neighbours(group: &Group, bits: Bits) -> impl Iterator<Item = Bits> {
    let candidates = group.candidates();
    [candidates.below(bits), candidates.above(bits)].into_iter().flatten()
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

/// Return a network without ties whose one resource adds up: for tests.
#[cfg(test)]
pub(crate) fn plain_network(layers: Vec<Layer>) -> Result<Network, SearchError> {
    Network::new(vec![Aggregate::Sum], layers, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(cost: i128) -> Layer {
        Layer::new("conv1", &[2], &[8], &[vec![vec![cost]]]).unwrap()
    }

    fn free(name: &str, candidates: &[i128]) -> Layer {
        let costs = costs_by(candidates, candidates, |weight, act| weight * act);
        Layer::new(name, candidates, candidates, &[costs]).unwrap()
    }

    #[test]
    fn network_refuses_costs_that_overflow() {
        assert_eq!(plain_network(vec![]), Err(SearchError::NoLayers));
        let largest = i128::from(u64::MAX);
        assert!(plain_network(vec![layer(largest), layer(0)]).is_ok());
        let found = plain_network(vec![layer(largest), layer(1)]).unwrap_err().to_string();
        assert!(found.starts_with("network costs 18446744073709551616 at its largest candidates"));
        // The largest of the layers cannot overflow.
        assert!(Network::new(vec![Aggregate::Max], vec![layer(largest), layer(1)], &[]).is_ok());
    }

    #[test]
    fn layers_must_have_the_resources_of_the_network() {
        let found = Network::new(vec![Aggregate::Sum; 2], vec![layer(1)], &[]).unwrap_err();
        let expected = "layer conv1 has costs in 1 resources, not 2; give every layer the same";
        assert!(found.to_string().starts_with(expected), "{found}");
        for columns in [vec![], vec![vec![vec![1]]; 9]] {
            let found = Layer::new("conv1", &[2], &[8], &columns).unwrap_err().to_string();
            let expected =
                format!("layer conv1 has {} columns of costs, not 1 to 8", columns.len());
            assert!(found.starts_with(&expected), "{found}");
        }
    }

    #[test]
    fn tied_sides_are_one_group_and_all_others_their_own() {
        let layers = vec![free("a", &[2, 4]), free("b", &[2, 4]), free("c", &[2, 3])];
        let ties = [vec![(0, Side::Act), (1, Side::Act)]];
        let network = Network::new(vec![Aggregate::Sum], layers, &ties).unwrap();
        assert_eq!(network.groups().len(), 5);
        assert_eq!(network.groups()[1].sides(), [(0, Side::Act), (1, Side::Act)]);
        assert_eq!(network.group_of(1, Side::Act), network.group_of(0, Side::Act));
        assert_eq!(network.groups()[network.group_of(2, Side::Act)].sides(), [(2, Side::Act)]);
    }

    #[test]
    fn ties_that_cannot_be_are_refused() {
        let layers = || vec![free("a", &[2, 4]), free("b", &[2, 3])];
        let weight = Side::Weight;
        let cases = [
            (vec![vec![(0, weight), (2, weight)]], "tie names layer 2 of a network of 2 layers; "),
            (
                vec![vec![(0, weight)], vec![(0, weight)]],
                "weight side of layer a stands in two ties; ",
            ),
            (
                vec![vec![(0, weight), (1, weight)]],
                "weight candidates 2/3 of layer b are not those of layer a, 2/4, which it is tied to",
            ),
        ];
        for (ties, message) in cases {
            let found =
                Network::new(vec![Aggregate::Sum], layers(), &ties).unwrap_err().to_string();
            assert!(found.starts_with(message), "{found}");
        }
    }
}
