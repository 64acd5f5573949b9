//! Moves up: climbs from the anchors before the descent, ascents after it.
//!
//! Invariant: every move stays within the budget and raises bits, so each climb and each ascent
//! ends. Climbs begin at anchors, ascents where the descent ended and else only at policies the
//! search has not been at, so there are finitely many. Moves are taken while any fits, also where
//! the score gets worse: more bits do not make a quantizer coarser, so a worse score is mostly the
//! noise of the images, and the best policy met on the way is not lost.

use super::descent::Descent;
use super::exchange::Exchange;
use super::walk::{Walk, scores};
use super::{Outcome, Stage};
use crate::merit::{self, Outcome as Scored};
use crate::moves::Costed;
use crate::policy::Policy;
use crate::strategy::View;

/// Climbs from the anchors that scored best.
#[derive(Debug, Clone)]
pub(super) struct Climb {
    /// Climbs that may still begin.
    left: u64,
    is_climbing: bool,
}

impl Climb {
    pub(super) fn new(limit: u64) -> Self {
        Self { left: limit, is_climbing: false }
    }

    /// Take one step of a climb, or begin the next at the best anchor that the search has not been
    /// at; without one, or after the last, pass on to the descent.
    pub(super) fn go_on(mut self, anchors: &[Policy], walk: &mut Walk, view: &View<'_>) -> Outcome {
        if self.is_climbing {
            // One evaluation stays back for the policy the descent ends on.
            return match move_up(walk, view, 1) {
                Up::Ask(policies) => Outcome::Ask(policies),
                Up::Moved => Outcome::Moved(Stage::Climb(self)),
                Up::Nothing => {
                    self.is_climbing = false;
                    Outcome::Moved(Stage::Climb(self))
                }
            };
        }
        let new = anchors.iter().filter(|anchor| !walk.has_visited(anchor));
        let scored = new.filter_map(|anchor| {
            let costed = view.problem.costed(anchor.clone());
            let score = view.archive.score(anchor)?;
            walk.admits(view.problem, &costed).then_some((costed, score))
        });
        let (open, open_scores): (Vec<Costed>, Vec<f64>) = scored.unzip();
        match lowest(walk, view, open, &open_scores) {
            Some((anchor, score)) if self.left > 0 => {
                walk.step_to("restart", anchor, Some(score));
                Outcome::Moved(Stage::Climb(Self { left: self.left - 1, is_climbing: true }))
            }
            _ => Outcome::Next(Stage::Descent(Descent::begin(walk, view))),
        }
    }
}

/// Take one step of an ascent; at its end ascend again from a better policy if the search met one,
/// else pass on to the exchanges.
pub(super) fn ascend(exchange: Exchange, walk: &mut Walk, view: &View<'_>) -> Outcome {
    match move_up(walk, view, 0) {
        Up::Ask(policies) => Outcome::Ask(policies),
        Up::Moved => Outcome::Moved(Stage::Ascent(exchange)),
        Up::Nothing if walk.restart_from_best(view) => Outcome::Moved(Stage::Ascent(exchange)),
        Up::Nothing => Outcome::Next(Stage::Exchange(exchange)),
    }
}

enum Up {
    Ask(Vec<Policy>),
    Moved,
    /// No move fits the budget or the limit of evaluations.
    Nothing,
}

/// Take the move up within the budget with the lowest score, or ask for the scores to choose by.
fn move_up(walk: &mut Walk, view: &View<'_>, reserve: u64) -> Up {
    let ups = walk
        .base()
        .neighbours(&view.problem.network)
        .into_iter()
        .filter(|(change, _)| !change.is_down());
    let nexts: Vec<_> =
        ups.map(|(_, next)| next).filter(|next| walk.admits(view.problem, next)).collect();
    let policies: Vec<_> = nexts.iter().map(|next| next.policy.clone()).collect();
    let Some(scores) = scores(view, &policies) else {
        return if view.affords(&policies, reserve) { Up::Ask(policies) } else { Up::Nothing };
    };
    match lowest(walk, view, nexts, &scores) {
        Some((next, score)) => {
            walk.step_to("upward", next, Some(score));
            Up::Moved
        }
        None => Up::Nothing,
    }
}

/// Return the policy with the lowest score; ties go to the lower load, then to the first.
pub(super) fn lowest(
    walk: &Walk,
    view: &View<'_>,
    mut nexts: Vec<Costed>,
    scores: &[f64],
) -> Option<(Costed, f64)> {
    let pairs = nexts.iter().zip(scores);
    let outcomes: Vec<_> =
        pairs.map(|(next, &score)| Scored { score, load: walk.load(view.problem, next) }).collect();
    let best = merit::best_by_score(&outcomes)?;
    Some((nexts.swap_remove(best), scores[best]))
}
