//! What a policy costs in each resource, whole or by difference, in integers.
//!
//! What a resource counts is the caller's affair: each is a column of the layers' tables, and its
//! total is the sum over the layers, or the largest of them. Invariant: no sum overflows (`Network`
//! sees to it), and the costs after a move equal a recount.

use std::borrow::Borrow;
use std::fmt;

use crate::bits::{Bits, Side};
use crate::error::SearchError;
use crate::network::{Layer, Network};
use crate::policy::{LayerBits, Policy};

/// Most resources of a network. A fixed number keeps costs out of the heap.
pub const MAX_RESOURCES: usize = 8;

/// How the costs of layers come to the cost of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// The sum over the layers: `BitOPs`, bytes of weights, time.
    Sum,
    /// The largest of the layers: peak memory.
    Max,
}

/// One number for each resource, in the order of the network; unused places are 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Costs([u64; MAX_RESOURCES]);

impl Costs {
    /// Take one number for each resource.
    ///
    /// # Panics
    /// Of more than `MAX_RESOURCES` numbers; `Network` refuses them first.
    #[must_use]
    pub fn new(values: &[u64]) -> Self {
        let mut costs = Self::default();
        costs.0[..values.len()].copy_from_slice(values);
        costs
    }

    /// Return the cost in one resource.
    #[must_use]
    pub fn get(&self, resource: usize) -> u64 {
        self.0[resource]
    }

    /// Return the costs in the first `count` resources.
    #[must_use]
    pub fn first(&self, count: usize) -> &[u64] {
        &self.0[..count]
    }

    /// Take in another layer's costs.
    fn add(&mut self, network: &Network, layer: &Self) {
        for (place, kind) in network.aggregates().iter().enumerate() {
            let (sum, one) = (self.0[place], layer.0[place]);
            self.0[place] = match kind {
                Aggregate::Sum => sum + one,
                Aggregate::Max => sum.max(one),
            };
        }
    }
}

impl fmt::Debug for Costs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Return what one layer costs at bits that are among its candidates.
///
/// # Panics
/// Of bits that are not: they come from a policy of another network.
#[must_use]
pub fn of_layer(layer: &Layer, bits: LayerBits) -> Costs {
    layer.costs().at(bits.weight, bits.act)
}

/// Return what a policy of the network costs.
///
/// # Panics
/// Of a policy of another network.
#[must_use]
pub fn of_policy(network: &Network, policy: &Policy) -> Costs {
    let layers = network.layers().iter().zip(policy.layers());
    total(network, layers.map(|(layer, &bits)| of_layer(layer, bits)))
}

/// Return what layers cost together.
pub(crate) fn total(network: &Network, layers: impl Iterator<Item = Costs>) -> Costs {
    let mut sum = Costs::default();
    layers.for_each(|costs| sum.add(network, &costs));
    sum
}

/// Return the costs after some layers of a policy took other bits, given the costs before.
///
/// # Panics
/// Of bits that are not among the candidates of a layer.
#[must_use]
pub fn after_change(
    network: &Network,
    policy: &Policy,
    before: Costs,
    changed: &[(usize, LayerBits)],
) -> Costs {
    let mut costs = before;
    for &(index, bits) in changed {
        let layer = &network.layers()[index];
        let (from, to) = (of_layer(layer, policy.layers()[index]), of_layer(layer, bits));
        for (place, kind) in network.aggregates().iter().enumerate() {
            if *kind == Aggregate::Sum {
                costs.0[place] = costs.0[place] - from.0[place] + to.0[place];
            }
        }
    }
    for (place, kind) in network.aggregates().iter().enumerate() {
        if *kind == Aggregate::Max {
            costs.0[place] = largest_after(network, policy, before.0[place], changed, place);
        }
    }
    costs
}

/// Return the largest cost of a layer after a change, given the largest before.
fn largest_after(
    network: &Network,
    policy: &Policy,
    before: u64,
    changed: &[(usize, LayerBits)],
    place: usize,
) -> u64 {
    let cost = |index: usize, bits| of_layer(&network.layers()[index], bits).0[place];
    let risen = changed.iter().map(|&(index, bits)| cost(index, bits)).max().unwrap_or_default();
    let was_largest = |&(index, _): &(usize, _)| cost(index, policy.layers()[index]) == before;
    if risen >= before || !changed.iter().any(was_largest) {
        return risen.max(before);
    }
    // The layer that was the largest falls: only now do all others matter.
    let others = policy.layers().iter().enumerate();
    let others = others.filter(|(index, _)| changed.iter().all(|(other, _)| other != index));
    others.map(|(index, &bits)| cost(index, bits)).fold(risen, u64::max)
}

/// Return what each of many policies costs, an entry for each resource behind one another; rows
/// hold weight bits and activation bits of each layer in turn. Ties are not checked: a policy that
/// breaks one still costs something.
///
/// # Errors
/// Rows of another length, or bits that are not candidates.
pub fn of_rows(network: &Network, rows: &[u8]) -> Result<Vec<u64>, SearchError> {
    let width = 2 * network.num_layers();
    if !rows.len().is_multiple_of(width) {
        let expected = network.num_layers();
        let shape = format!("({},)", rows.len());
        return Err(SearchError::PolicyShape { shape, expected });
    }
    let layers = network.layers().iter();
    let sides = layers.flat_map(|layer| [Side::Weight, Side::Act].map(|it| layer.candidates(it)));
    let largest = sides.map(|candidates| candidates.largest().get()).max();
    if largest.is_some_and(|bits| bits <= 16) {
        by_column::<{ 16 * 16 }>(network, rows)
    } else {
        by_column::<{ 32 * 32 }>(network, rows)
    }
}

/// Policies that are costed at a time: their rows stay in the fastest cache.
const BLOCK: usize = 256;

/// Layers whose tables are looked up at a time.
const LAYERS: usize = 4;

fn by_column<const SIZE: usize>(network: &Network, rows: &[u8]) -> Result<Vec<u64>, SearchError> {
    let (width, num_resources) = (2 * network.num_layers(), network.num_resources());
    let mut costs = vec![0; rows.len() / width * num_resources];
    let resources = 0..num_resources;
    let columns: Vec<Column<SIZE>> = resources.map(|it| Column::new(network, it)).collect();
    let blocks = rows.chunks(BLOCK * width).zip(costs.chunks_mut(BLOCK * num_resources));
    for (rows, costs) in blocks {
        let is_whole = |(resource, column): (usize, &Column<SIZE>)| {
            column.fill(rows, &mut costs[resource..], num_resources)
        };
        if !columns.iter().enumerate().all(is_whole) {
            // Read as policies, the rows name their first mistake.
            for row in rows.chunks_exact(width) {
                Policy::from_row_untied(network, row)?;
            }
        }
    }
    Ok(costs)
}

/// One resource of a network: by layer, a table that is looked up by the bits themselves.
struct Column<const SIZE: usize> {
    kind: Aggregate,
    tables: Vec<Table<SIZE>>,
}

/// What one layer costs by `place`, and a number that is the cost of no pair, for all other places.
struct Table<const SIZE: usize> {
    costs: [u64; SIZE],
    none: u64,
}

impl<const SIZE: usize> Table<SIZE> {
    /// The table has a row for each number of weight bits, from 1.
    const WIDTH: u8 = 1 << (SIZE.ilog2() / 2);

    fn new(layer: &Layer, resource: usize) -> Self {
        let pairs = || {
            let acts = layer.candidates(Side::Act).as_slice();
            let weights = layer.candidates(Side::Weight).as_slice().iter();
            weights.flat_map(|&weight| acts.iter().map(move |&act| (weight, act)))
        };
        let cost = |(weight, act): (Bits, Bits)| layer.costs().at(weight, act).get(resource);
        let is_free = |&value: &u64| pairs().all(|pair| cost(pair) != value);
        let none = (0..=u64::MAX).find(is_free).unwrap_or_default();
        let mut costs = [none; SIZE];
        for (weight, act) in pairs() {
            costs[Self::place(weight.get(), act.get())] = cost((weight, act));
        }
        Self { costs, none }
    }

    /// Whether bits have a place of their own: all from 1 to the width.
    fn have_places(bits: &[u8]) -> bool {
        bits.iter().fold(0, |all, bits| all | bits.wrapping_sub(1)) < Self::WIDTH
    }

    fn place(weight_bits: u8, act_bits: u8) -> usize {
        let [row, column] = [weight_bits, act_bits].map(|it| usize::from(it.wrapping_sub(1)));
        (row * usize::from(Self::WIDTH) + column) % SIZE
    }
}

impl<const SIZE: usize> Column<SIZE> {
    fn new(network: &Network, resource: usize) -> Self {
        let tables = network.layers().iter().map(|layer| Table::new(layer, resource));
        Self { kind: network.aggregates()[resource], tables: tables.collect() }
    }

    /// Write the costs of at most `BLOCK` policies, `stride` entries apart; return whether all
    /// their bits are candidates.
    fn fill(&self, rows: &[u8], costs: &mut [u64], stride: usize) -> bool {
        if !Table::<SIZE>::have_places(rows) {
            return false;
        }
        let mut sums = [0; BLOCK];
        let is_whole = match self.kind {
            Aggregate::Sum => self.collect(rows, &mut sums, u64::wrapping_add),
            Aggregate::Max => self.collect(rows, &mut sums, u64::max),
        };
        costs.iter_mut().step_by(stride).zip(sums).for_each(|(cost, sum)| *cost = sum);
        is_whole
    }

    /// Sums wrap where bits are refused in the end; those of no policy overflow.
    fn collect(&self, rows: &[u8], sums: &mut [u64], add: impl Fn(u64, u64) -> u64 + Copy) -> bool {
        let width = 2 * self.tables.len();
        let (some, rest) = self.tables.as_chunks::<LAYERS>();
        let mut is_whole = true;
        for (place, tables) in some.iter().enumerate() {
            is_whole &= collect_layers(tables, (rows, width, 2 * LAYERS * place), sums, add);
        }
        for (place, table) in rest.iter().enumerate() {
            let first = 2 * (LAYERS * some.len() + place);
            is_whole &= collect_layers(&[table], (rows, width, first), sums, add);
        }
        is_whole
    }
}

/// Take in the costs of some layers, whose bits stand from `first` on in rows of some width.
#[inline]
fn collect_layers<const COUNT: usize, const SIZE: usize>(
    tables: &[impl Borrow<Table<SIZE>>; COUNT],
    (rows, width, first): (&[u8], usize, usize),
    sums: &mut [u64],
    add: impl Fn(u64, u64) -> u64,
) -> bool {
    let mut is_whole = true;
    for (row, sum) in rows.chunks_exact(width).zip(sums) {
        let (pairs, _) = row[first..first + 2 * COUNT].as_chunks::<2>();
        for (table, &[weight_bits, act_bits]) in tables.iter().zip(pairs) {
            let table = table.borrow();
            let cost = table.costs[Table::<SIZE>::place(weight_bits, act_bits)];
            is_whole &= cost != table.none;
            *sum = add(*sum, cost);
        }
    }
    is_whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{costs_by, plain_network};

    fn network() -> Network {
        let costs = costs_by(&[2, 3], &[2, 4], |weight, act| 7 * weight * act);
        let peak = costs_by(&[2, 3], &[2, 4], |_, act| act);
        let first = Layer::new("conv1", &[8], &[8], &[vec![vec![6400]], vec![vec![3]]]).unwrap();
        let second = Layer::new("conv2", &[2, 3], &[2, 4], &[costs, peak]).unwrap();
        Network::new(vec![Aggregate::Sum, Aggregate::Max], vec![first, second], &[]).unwrap()
    }

    #[test]
    fn cost_is_the_sum_or_the_largest_over_layers() {
        let network = network();
        let policy = Policy::from_row(&network, &[8, 8, 3, 4]).unwrap();
        let costs = of_policy(&network, &policy);
        assert_eq!(costs.first(2), [6400 + 84, 4]);
        let to = Policy::smallest(&network).layers()[1];
        let after = after_change(&network, &policy, costs, &[(1, to)]);
        assert_eq!(after.first(2), [6400 + 28, 3]);
    }

    #[test]
    fn rows_cost_what_their_policies_do_and_are_refused_like_them() {
        let network = network();
        let found = of_rows(&network, &[8, 8, 3, 4, 8, 8, 2, 2]).unwrap();
        assert_eq!(found, [6484, 4, 6428, 3]);
        let found = of_rows(&network, &[8, 8, 3, 33]).unwrap_err().to_string();
        assert!(found.starts_with("act bits 33 of layer conv2 are outside 1..32"), "{found}");
        let found = of_rows(&network, &[8, 8, 3, 3]).unwrap_err().to_string();
        assert!(found.starts_with("act bits 3 of layer conv2 are not among its candidates 2/4"));
        let found = of_rows(&network, &[8, 8]).unwrap_err().to_string();
        assert!(found.starts_with("policies have shape (2,), not (n, 2, 2)"), "{found}");
    }

    /// Rows of candidates drawn by a fixed linear congruence.
    fn drawn_rows(network: &Network, count: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut draw = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % most
        };
        let mut rows = Vec::new();
        for layer in (0..count).flat_map(|_| network.layers()) {
            for side in [Side::Weight, Side::Act] {
                let candidates = layer.candidates(side).as_slice();
                rows.push(candidates[draw(candidates.len())].get());
            }
        }
        rows
    }

    #[test]
    fn many_rows_cost_what_each_policy_does_whatever_the_bits() {
        // More rows than a block; layers that do not fill groups; 16 bits, which fit the small
        // table, and 17 and 32, which do not; costs from 0 on, so that no number is left out by
        // chance.
        for (most, num_layers) in [(16, 3), (16, 8), (17, 5), (32, 9)] {
            let candidates = [1, 2, most - 1, most];
            let layer = |index: i128| {
                let sum = costs_by(&candidates, &candidates, |w, a| (index + 1) * (w * a - 1));
                let peak = costs_by(&candidates, &candidates, |w, a| (w + index * a) % 7);
                Layer::new("conv", &candidates, &candidates, &[sum, peak]).unwrap()
            };
            let kinds = vec![Aggregate::Sum, Aggregate::Max];
            let network = Network::new(kinds, (0..num_layers).map(layer).collect(), &[]).unwrap();
            let mut rows = drawn_rows(&network, 2 * BLOCK + 3);
            let width = 2 * network.num_layers();
            let expected: Vec<u64> = rows
                .chunks_exact(width)
                .map(|row| of_policy(&network, &Policy::from_row(&network, row).unwrap()))
                .flat_map(|costs| costs.first(2).to_vec())
                .collect();
            assert_eq!(of_rows(&network, &rows).unwrap(), expected);
            // One mistake, anywhere: no other row hides it, no pair of bits passes for another.
            for bits in [0, 3, 18, 33, 34, 48, 255] {
                if candidates.contains(&bits.into()) {
                    continue;
                }
                for place in [0, width - 1, BLOCK * width + 5, rows.len() - 1] {
                    let right = std::mem::replace(&mut rows[place], bits);
                    let found = of_rows(&network, &rows).unwrap_err().to_string();
                    let side = ["weight", "act"][place % 2];
                    assert!(found.starts_with(&format!("{side} bits {bits} of layer")), "{found}");
                    rows[place] = right;
                }
            }
        }
    }

    #[test]
    fn largest_costs_do_not_overflow() {
        let layer = |cost: u64| Layer::new("conv", &[2], &[2], &[vec![vec![cost.into()]]]).unwrap();
        let network = plain_network(vec![layer(u64::MAX - 3), layer(3)]).unwrap();
        assert_eq!(of_policy(&network, &Policy::largest(&network)).get(0), u64::MAX);
        assert_eq!(of_rows(&network, &[2, 2, 2, 2]), Ok(vec![u64::MAX]));
    }
}
