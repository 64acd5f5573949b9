//! What one layer costs at each pair of bit-widths, in whole units of whatever the caller counts.
//!
//! Invariant: for each resource there is a cost for every pair of candidates. It may fall with more
//! bits: a measured time does where a kernel for fewer bits has to unpack them.

use crate::bits::{Bits, Candidates, Side};
use crate::cost::Costs;
use crate::error::SearchError;

/// The candidates of a layer and the costs of each pair of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostTable {
    weight: Candidates,
    act: Candidates,
    num_resources: usize,
    /// By weight candidate, then by act candidate, both ascending.
    costs: Vec<Costs>,
}

impl CostTable {
    /// Take the candidates of each side in any order, and for each resource a row of costs per
    /// weight candidate with an entry per act candidate, both in the order given.
    ///
    /// # Errors
    /// No candidate, one outside 1 to 32 or one listed twice; another number of costs, or a cost
    /// that 64 bits do not hold; no resource or too many.
    pub fn new(
        layer: &str,
        weight_candidates: &[i128],
        act_candidates: &[i128],
        columns: &[Vec<Vec<i128>>],
    ) -> Result<Self, SearchError> {
        let weight = Candidates::new(layer, Side::Weight, weight_candidates)?;
        let act = Candidates::new(layer, Side::Act, act_candidates)?;
        for rows in columns {
            check_count(layer, Side::Weight, rows.len(), weight_candidates.len())?;
            for row in rows {
                check_count(layer, Side::Act, row.len(), act_candidates.len())?;
            }
        }
        let act_order = ascending_order(act_candidates);
        let mut costs = Vec::with_capacity(weight_candidates.len() * act_candidates.len());
        for row in ascending_order(weight_candidates) {
            for &column in &act_order {
                let pair = (weight_candidates[row], act_candidates[column]);
                let values = columns.iter().map(|rows| as_cost(layer, pair, rows[row][column]));
                costs.push(Costs::new(&values.collect::<Result<Vec<_>, _>>()?));
            }
        }
        Ok(Self { weight, act, num_resources: columns.len(), costs })
    }

    /// Return the candidates of one side.
    #[must_use]
    pub fn candidates(&self, side: Side) -> &Candidates {
        match side {
            Side::Weight => &self.weight,
            Side::Act => &self.act,
        }
    }

    /// Return for how many resources there are costs.
    #[must_use]
    pub fn num_resources(&self) -> usize {
        self.num_resources
    }

    /// Return the costs at a pair of bit-widths, `None` where one of them is no candidate.
    #[must_use]
    pub fn get(&self, weight_bits: u8, act_bits: u8) -> Option<Costs> {
        let row = self.weight.position(weight_bits)? * self.act.as_slice().len();
        self.costs.get(row + self.act.position(act_bits)?).copied()
    }

    /// Return the costs at a pair of candidates.
    ///
    /// # Panics
    /// Of bits that are no candidates.
    #[must_use]
    pub fn at(&self, weight: Bits, act: Bits) -> Costs {
        let costs = self.get(weight.get(), act.get());
        assert!(costs.is_some(), "{weight}/{act} bits are no candidates");
        costs.unwrap_or_default()
    }

    /// Return the smallest cost in one resource.
    #[must_use]
    pub fn smallest(&self, resource: usize) -> u64 {
        self.costs.iter().map(|costs| costs.get(resource)).min().unwrap_or_default()
    }

    /// Return the largest cost in one resource.
    #[must_use]
    pub fn largest(&self, resource: usize) -> u64 {
        self.costs.iter().map(|costs| costs.get(resource)).max().unwrap_or_default()
    }
}

fn as_cost(layer: &str, (weight, act): (i128, i128), cost: i128) -> Result<u64, SearchError> {
    u64::try_from(cost).map_err(|_| SearchError::CostRange {
        layer: layer.to_owned(),
        bits: format!("{weight}/{act}"),
        cost,
    })
}

/// Return the positions of some candidates from the smallest to the largest.
fn ascending_order(candidates: &[i128]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_unstable_by_key(|&index| candidates[index]);
    order
}

fn check_count(layer: &str, side: Side, found: usize, expected: usize) -> Result<(), SearchError> {
    if found == expected {
        return Ok(());
    }
    Err(SearchError::CostCount { layer: layer.to_owned(), side: side.name(), found, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[i128; 2]]) -> Result<CostTable, SearchError> {
        let rows: Vec<_> = rows.iter().map(|row| row.to_vec()).collect();
        CostTable::new("conv1", &[4, 2], &[3, 8], &[rows])
    }

    #[test]
    fn costs_are_those_of_the_candidates_in_the_order_given() {
        let table = table(&[[7, 9], [5, 8]]).unwrap();
        let get = |weight, act| table.get(weight, act).map(|costs| costs.get(0));
        assert_eq!([get(4, 3), get(4, 8)], [Some(7), Some(9)]);
        assert_eq!([get(2, 3), get(2, 8)], [Some(5), Some(8)]);
        assert_eq!([get(3, 8), get(2, 33), get(0, 3)], [None; 3]);
        assert_eq!((table.smallest(0), table.largest(0)), (5, 9));
    }

    #[test]
    fn more_bits_may_cost_less() {
        assert_eq!(table(&[[7, 6], [9, 8]]).unwrap().smallest(0), 6);
    }

    #[test]
    fn table_refuses_what_breaks_its_invariant() {
        let messages = [
            (table(&[[7, 9]]), "layer conv1 has costs for 1 weight candidates, not 2; give"),
            (
                CostTable::new("conv1", &[2], &[2, 3], &[vec![vec![1]]]),
                "layer conv1 has costs for 1 act candidates, not 2; give",
            ),
            (table(&[[7, 9], [5, -1]]), "layer conv1 costs -1 at 2/8 bits, outside 0..18446744"),
            (table(&[[7, 1 << 64], [5, 7]]), "layer conv1 costs 18446744073709551616 at 4/8 bits"),
        ];
        for (result, message) in messages {
            let found = result.unwrap_err().to_string();
            assert!(found.starts_with(message), "{found}");
        }
    }
}
