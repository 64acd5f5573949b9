//! What is known of a network before any policy was measured: by how much each step of a group should
//! raise the score, up to a common factor and slope. Gradients say it for the price of an evaluation.
//!
//! The model takes the logarithms, less the line in the bits that fits them best: what all groups have
//! in common it learns itself, and how far hints are to be trusted as well.

use crate::bits::Side;
use crate::convert::count_as_float;
use crate::error::SearchError;
use crate::network::{Group, Network};

/// Values of one side's candidates, the largest first.
pub type SideValues = Vec<f64>;

/// A step that raises the score by less than this share of the mean step, or lowers it, counts as one
/// that raises it by so much: a sum of noisy terms has no logarithm where it is negative.
const LEAST_SHARE: f64 = 1e-3;

/// Hints for the groups of one network.
#[derive(Debug, Clone, PartialEq)]
pub struct Hints {
    /// By group: for each step from the largest candidate down, the logarithm less the common line.
    by_group: Vec<Vec<f64>>,
}

impl Hints {
    /// Read what each candidate of each side adds to the score, by layer and side, the largest first.
    ///
    /// # Errors
    /// Another number of layers or values, or a value that is not finite.
    pub fn new(network: &Network, values: &[[SideValues; 2]]) -> Result<Self, SearchError> {
        if values.len() != network.num_layers() {
            let (found, expected) = (values.len(), network.num_layers());
            return Err(SearchError::HintCount { layer: "network".to_owned(), found, expected });
        }
        for (layer, sides) in network.layers().iter().zip(values) {
            for (side, of_side) in [Side::Weight, Side::Act].into_iter().zip(sides) {
                let expected = layer.candidates(side).as_slice().len();
                if of_side.len() != expected {
                    let (layer, found) = (layer.name().to_owned(), of_side.len());
                    return Err(SearchError::HintCount { layer, found, expected });
                }
                if let Some(&value) = of_side.iter().find(|value| !value.is_finite()) {
                    return Err(SearchError::HintNotFinite {
                        layer: layer.name().to_owned(),
                        value,
                    });
                }
            }
        }
        let rises: Vec<Vec<f64>> =
            network.groups().iter().map(|group| rises(network, group, values)).collect();
        Ok(Self { by_group: less_line(network, &rises) })
    }

    /// Return the hints of a group, one for each step.
    #[must_use]
    pub fn of_group(&self, group: usize) -> &[f64] {
        &self.by_group[group]
    }
}

/// Return what each step of a group adds, all of its sides together.
fn rises(network: &Network, group: &Group, values: &[[SideValues; 2]]) -> Vec<f64> {
    let at = |bits| -> f64 {
        let of_side = |&(layer, side): &(usize, Side)| {
            let candidates = network.layers()[layer].candidates(side).as_slice();
            let above = candidates.iter().filter(|&&other| other > bits).count();
            values[layer][usize::from(side == Side::Act)][above]
        };
        group.sides().iter().map(of_side).sum()
    };
    let steps = group.candidates().as_slice().windows(2).rev();
    steps.map(|pair| at(pair[0]) - at(pair[1])).collect()
}

/// Return the logarithms less the straight line in the bits that fits all of them best.
fn less_line(network: &Network, rises: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let all = || rises.iter().flatten().copied();
    let positive: f64 = all().filter(|rise| *rise > 0.0).sum();
    let least = LEAST_SHARE * positive / count_as_float(all().count().max(1));
    if least <= 0.0 {
        return rises.iter().map(|of_group| vec![0.0; of_group.len()]).collect(); // They say nothing.
    }
    let logarithms: Vec<Vec<f64>> =
        rises.iter().map(|group| group.iter().map(|rise| rise.max(least).ln()).collect()).collect();
    let places: Vec<Vec<f64>> = network.groups().iter().map(middles).collect();
    let pairs = || places.iter().flatten().copied().zip(logarithms.iter().flatten().copied());
    let count = count_as_float(pairs().count());
    let (x, y) = (pairs().map(|it| it.0).sum::<f64>(), pairs().map(|it| it.1).sum::<f64>());
    let (x, y) = (x / count, y / count);
    let spread: f64 = pairs().map(|it| (it.0 - x).powi(2)).sum();
    let product: f64 = pairs().map(|it| (it.0 - x) * (it.1 - y)).sum();
    let slope = if spread > 0.0 { product / spread } else { 0.0 };
    let rest = |(places, logarithms): (&Vec<f64>, &Vec<f64>)| {
        let of_step = |(at, value): (&f64, &f64)| value - y - slope * (at - x);
        places.iter().zip(logarithms).map(of_step).collect()
    };
    places.iter().zip(&logarithms).map(rest).collect()
}

/// Return the mean of the bits before and after each step.
fn middles(group: &Group) -> Vec<f64> {
    let steps = group.candidates().as_slice().windows(2).rev();
    steps.map(|pair| 0.5 * (f64::from(pair[0].get()) + f64::from(pair[1].get()))).collect()
}
