//! Policies that differ from the largest in one group of sides: what one-at-a-time sensitivities
//! are measured with, and how large the noise of a measurement is beside them.

use crate::archive::Archive;
use crate::budget::Budget;
use crate::model::mean;
use crate::network::{Group, Network};
use crate::policy::Policy;
use crate::strategy::Problem;

/// Groups whose first step and whose lowest candidate are measured to tell the noise.
const PROBED: usize = 4;

/// Share of the typical sensitivity that noise may have and still be small. Without noise the first
/// step down from the largest candidate raises the score by some 2 to 6 % of what the lowest
/// candidate does. Trained supernets scored on 500 to 2,000 images are at 0.11 to 0.2, where the
/// other design was no worse.
const SMALL_NOISE: f64 = 0.1;

/// Return the largest policy and those with one group lowered: the lowest candidates of all groups,
/// then the next, those groups first that save most of the budgets.
pub(super) fn design(problem: &Problem) -> Vec<Policy> {
    let network = &problem.network;
    let largest = Policy::largest(network);
    let groups = by_saving(problem);
    let most = groups.iter().map(|group| num_steps(group)).max().unwrap_or_default();
    let singles = (0..most).flat_map(|place| {
        let having = groups.iter().filter(move |group| place < num_steps(group));
        having.map(|group| lowered(network, group, place)).collect::<Vec<_>>()
    });
    std::iter::once(largest).chain(singles).collect()
}

/// Return the policies that tell how large the noise is: the largest, and by group one with its
/// first step taken and one with its lowest candidate.
pub(super) fn probes(problem: &Problem) -> Vec<Policy> {
    let network = &problem.network;
    let pairs = probed(problem)
        .into_iter()
        .flat_map(|group| [num_steps(group) - 1, 0].map(|place| lowered(network, group, place)));
    std::iter::once(Policy::largest(network)).chain(pairs).collect()
}

/// Return whether noise is small beside what single groups do to the score, as far as the probes
/// tell: from what the first step of a group does, or where scores have parts from the standard
/// error of what its lowest candidate does, whichever is more. A score that falls with fewer bits
/// is noise.
pub(super) fn is_noise_small(problem: &Problem, archive: &Archive) -> bool {
    let network = &problem.network;
    let Some(base) = archive.get(&Policy::largest(network)) else { return false };
    let (mut noise, mut effect) = (Vec::new(), Vec::new());
    for group in probed(problem) {
        let of = |place| archive.get(&lowered(network, group, place)).map(|it| it.above(base));
        let (Some(first), Some(lowest)) = (of(num_steps(group) - 1), of(0)) else { return false };
        if first.0 < 0.0 {
            return false;
        }
        noise.push((0.5 * first.0 * first.0).max(lowest.1.unwrap_or_default().powi(2)));
        effect.push(lowest.0 * lowest.0);
    }
    !effect.is_empty() && mean(&noise) < SMALL_NOISE.powi(2) * mean(&effect)
}

/// Return the probed groups: those of several steps that save most, so that they are measured in
/// vain in no design.
fn probed(problem: &Problem) -> Vec<&Group> {
    let mut groups = by_saving(problem);
    groups.retain(|group| num_steps(group) > 1);
    groups.truncate(PROBED);
    groups
}

/// Return the free groups, those first whose lowest candidate saves most of the budgets.
fn by_saving(problem: &Problem) -> Vec<&Group> {
    let network = &problem.network;
    let costs = problem.costed(Policy::largest(network)).costs;
    let saved = |group: &Group| -> f64 {
        let after = problem.costed(lowered(network, group, 0)).costs;
        let of = |budget: &Budget| budget.load(&costs) - budget.load(&after);
        problem.budgets.iter().map(of).sum()
    };
    let free = network.groups().iter().filter(|group| group.is_free());
    let mut groups: Vec<(f64, &Group)> = free.map(|group| (saved(group), group)).collect();
    // Stable: equal ones stay in execution order.
    groups.sort_by(|a, b| b.0.total_cmp(&a.0));
    groups.into_iter().map(|(_, group)| group).collect()
}

fn num_steps(group: &Group) -> usize {
    group.candidates().as_slice().len() - 1
}

/// Return the largest policy with one group at the candidate of a place, ascending.
fn lowered(network: &Network, group: &Group, place: usize) -> Policy {
    Policy::largest(network).with_group(group, group.candidates().as_slice()[place])
}
