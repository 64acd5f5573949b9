//! What the model expects of the single moves of a policy: why each side has the bits it has.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::knapsack::PairValues;
use crate::model::{Model, variance};
use crate::moves::{Change, single_moves};
use crate::policy::Policy;
use crate::strategy::Problem;
use crate::trace::{Marginal, Prediction};

/// Draws from the posterior that deviations are taken over: they are right to about a twentieth.
const DRAWS: usize = 200;

/// Return the expected difference of each side's next candidates below and above, in execution
/// order.
pub(super) fn of(model: &Model, problem: &Problem, policy: &Policy) -> Vec<Marginal> {
    let network = &problem.network;
    let expected = model.values(network);
    // The same draws whenever it is asked: the answer is one of the model's.
    let mut random = Pcg64Mcg::seed_from_u64(problem.seed);
    let draws: Vec<PairValues> = (0..DRAWS).map(|_| model.draw(network, &mut random)).collect();
    let mut found = Vec::new();
    for change in single_moves(network, policy) {
        let sides = network.groups()[change.group].sides();
        // The values of a group stand where its first side is.
        let layer = sides[0].0;
        let before = policy.layers()[layer];
        let after = before.with(sides[0].1, change.to);
        let rise = |values: &PairValues| {
            values.of_layer(network, layer, after) - values.of_layer(network, layer, before)
        };
        let rises: Vec<f64> = draws.iter().map(rise).collect();
        let difference = Prediction { score: rise(&expected), deviation: variance(&rises).sqrt() };
        found.extend(sides.iter().map(|&(layer_index, side)| {
            let change = Change { layer_index, side, from: change.from, to: change.to };
            Marginal { change, difference }
        }));
    }
    found.sort_by_key(|marginal| marginal.change);
    found
}
