//! What scores say of policies that were not evaluated: an additive model of positive increments.
//!
//! From the largest candidates down, every step of a group of sides adds to the score:
//!
//! `y = c + sum over groups u and steps k taken of exp(h_uk) + error`, `h ~ N(mean, S)`
//!
//! so fewer bits never help. Along a group, `h` is a line in the bits with a deviation per step,
//!
//! `h_uk = mu + level_u + (delta + decay_u) t_uk + jitter_uk`, `t = 4 - (bits before + bits after) / 2`
//!
//! (quantization noise falls with a power of two per bit: Widrow and Kollar, "Quantization noise",
//! 2008; sensitivities differ by orders of magnitude, so their logarithms are what is alike). The
//! variance of the error is `noise + misfit x^2` with `x` the modelled effect: what the model
//! cannot say grows with the effect. The posterior of `h` is Gaussian and found by variational
//! inference (Bishop, "Pattern recognition and machine learning", 2006, chapter 10): the expected
//! square of the residuals needs only `E exp(h) = w` and `E exp(h_i + h_j) = w_i w_j exp(S_ij)`.
//! What groups share is re-estimated in the same loop, by expectation and maximisation.
//!
//! Invariant: a fit depends on the policies and scores alone, not on their order beyond rounding,
//! and ends after a fixed number of rounds at most.

pub mod hints;
mod hyper;
mod layout;
mod posterior;
#[cfg(test)]
mod tests;

use rand::Rng;
use rand_distr::StandardNormal;

use crate::archive::Archive;
use crate::bits::Side;
use crate::convert::count_as_float;
use crate::knapsack::PairValues;
use crate::network::Network;
use crate::policy::Policy;
use crate::trace::Prediction;

use self::hints::Hints;
use self::hyper::Hyper;
use self::layout::{Layout, Moments, Positions, weighted_mean};
use self::posterior::Posterior;

/// Rounds of a first fit, and of one that goes on where another stood.
const ROUNDS: [usize; 2] = [30, 15];

/// Rounds after which a fit ends where the last one changed little.
const LEAST_ROUNDS: usize = 8;

/// Standard deviations, root of the mean square, by which a round moves a fit that has converged.
const SMALL_MOVE: f64 = 0.05;

/// Share by which weights of policies may be off.
const NEAR: f64 = 0.05;

/// Covariances of logarithms are cut here: the exponential of a wider posterior says nothing.
const LARGEST: f64 = 2.0;

/// A model fitted to scores.
#[derive(Debug, Clone)]
pub struct Model {
    layout: Layout,
    hyper: Hyper,
    posterior: Posterior,
    forecast: Forecast,
    /// Root of the mean squared error of predictions of scores that were left out.
    error: f64,
}

/// What of a fit predicts scores.
#[derive(Debug, Clone)]
struct Forecast {
    /// Expected score without an increment.
    start: f64,
    /// Variance of the mean score.
    variance: f64,
    /// By group and steps taken: the sum of the expected increments.
    effects: Vec<Vec<f64>>,
    /// Sums of the covariance of the increments over the steps taken of two groups.
    spread: layout::PairSums,
    /// Of the covariance with the mean policy, and of the mean policy itself.
    centre: (Vec<Vec<f64>>, f64),
}

impl Forecast {
    fn effect(&self, positions: &Positions) -> f64 {
        effect(&self.effects, positions)
    }

    fn predict(&self, positions: &Positions) -> Prediction {
        let (along, own) = &self.centre;
        let from_centre = effect(along, positions);
        let variance = self.spread.square(positions) - 2.0 * from_centre + own + self.variance;
        Prediction {
            score: self.start + self.effect(positions),
            deviation: variance.max(0.0).sqrt(),
        }
    }
}

impl Model {
    /// Fit everything in an archive; `from` is an earlier fit to go on from. `None` where there is
    /// nothing to fit: no free group, or fewer than three policies.
    #[must_use]
    pub fn fit(network: &Network, archive: &Archive, from: Option<&Self>) -> Option<Self> {
        Self::fit_hinted(network, None, archive, from)
    }

    /// Fit as `fit` does, with what was known of the network before.
    #[must_use]
    pub fn fit_hinted(
        network: &Network,
        hints: Option<&Hints>,
        archive: &Archive,
        from: Option<&Self>,
    ) -> Option<Self> {
        let layout = Layout::new(network);
        let layout = match hints {
            Some(hints) => layout.with_hints(hints),
            None => layout,
        };
        if layout.num_steps() == 0 || archive.num_policies() < 3 {
            return None;
        }
        let positions: Vec<Positions> =
            archive.iter().map(|(policy, _)| layout.positions(network, policy)).collect();
        let scores: Vec<f64> = archive.iter().map(|(_, it)| it.score()).collect();
        let (hyper, posterior, rounds) = if let Some(model) = from {
            (model.hyper, model.posterior.clone(), ROUNDS[1])
        } else {
            let (hyper, posterior) = start(&layout, &positions, &scores);
            (hyper, posterior, ROUNDS[0])
        };
        let mut fit = Fit { layout, positions, scores, hyper, posterior };
        fit.run(rounds);
        Some(fit.finish())
    }

    /// Return what is expected of a policy's score. The deviation is of the score without the noise
    /// of a measurement; what the model cannot say is part of it.
    #[must_use]
    pub fn predict(&self, network: &Network, policy: &Policy) -> Prediction {
        let positions = self.layout.positions(network, policy);
        let found = self.forecast.predict(&positions);
        let misfit = self.hyper.misfit * self.forecast.effect(&positions).powi(2);
        Prediction { deviation: found.deviation.hypot(misfit.sqrt()), ..found }
    }

    /// Return the standard deviation of one measurement of a policy around its expected score:
    /// noise, and what the model cannot say.
    #[must_use]
    pub fn deviation_of_error(&self, network: &Network, policy: &Policy) -> f64 {
        let effect = self.forecast.effect(&self.layout.positions(network, policy));
        (self.hyper.noise + self.hyper.misfit * effect * effect).sqrt()
    }

    /// Return the expected sum of a policy's increments: what orders policies by the model.
    #[must_use]
    pub fn effect_of(&self, network: &Network, policy: &Policy) -> f64 {
        self.forecast.effect(&self.layout.positions(network, policy))
    }

    /// Return what is to be thought of a policy that was measured: between the model's expectation
    /// and the score, nearer the score the more of their difference is what the model cannot say
    /// rather than noise. Without noise it is the score itself.
    #[must_use]
    pub fn estimate(&self, network: &Network, policy: &Policy, score: f64) -> f64 {
        let positions = self.layout.positions(network, policy);
        let expected = self.forecast.predict(&positions).score;
        let misfit = self.hyper.misfit * self.forecast.effect(&positions).powi(2);
        expected + misfit / (misfit + self.hyper.noise) * (score - expected)
    }

    /// Return the typical error where the model predicts a score that it was not shown: leaving
    /// each policy out in turn, to first order.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Return the expected increments as values of pairs, for a knapsack.
    #[must_use]
    pub fn values(&self, network: &Network) -> PairValues {
        self.as_values(network, &self.forecast.effects)
    }

    /// Return increments drawn from the posterior as values of pairs.
    #[must_use]
    pub fn draw(&self, network: &Network, random: &mut impl Rng) -> PairValues {
        let normal = (0..self.layout.num_steps()).map(|_| random.sample(StandardNormal));
        let logarithms = self.posterior.at(&normal.collect::<Vec<f64>>());
        let increments: Vec<f64> =
            logarithms.into_iter().map(|h| h.clamp(-60.0, 50.0).exp()).collect();
        self.as_values(network, &self.layout.sums(&increments))
    }

    /// Return how much one group's bits add to the expected score, by candidate from the largest
    /// down, with the standard deviation of each; nothing for a pinned group.
    #[must_use]
    pub fn sensitivities(&self, group: usize) -> Vec<Prediction> {
        let Some(place) = self.layout.place(group) else { return Vec::new() };
        let effects = self.forecast.effects[place].iter().enumerate();
        effects
            .map(|(taken, &score)| {
                let deviation = self.forecast.spread.at(place, taken, place, taken).max(0.0).sqrt();
                Prediction { score, deviation }
            })
            .collect()
    }

    fn as_values(&self, network: &Network, sums: &[Vec<f64>]) -> PairValues {
        PairValues::by(network, |layer, bits| {
            let side = |side: Side| {
                let group = network.group_of(layer, side);
                let is_first = network.groups()[group].sides()[0] == (layer, side);
                let place = self.layout.place(group).filter(|_| is_first);
                place.map_or(0.0, |place| sums[place][self.layout.taken(place, bits.side(side))])
            };
            side(Side::Weight) + side(Side::Act)
        })
    }
}

/// Return the sum over the groups of what their steps taken add up to.
fn effect(sums: &[Vec<f64>], positions: &Positions) -> f64 {
    positions.iter().zip(sums).map(|(&taken, sums)| sums[usize::from(taken)]).sum()
}

/// Begin with one sensitivity for all groups, by least squares.
fn start(layout: &Layout, positions: &[Positions], scores: &[f64]) -> (Hyper, Posterior) {
    let mut hyper = Hyper::default();
    let profile = layout.sums(&exponentials(&layout.expected(|t| hyper.delta * t)));
    let profile: Vec<f64> = positions.iter().map(|it| effect(&profile, it)).collect();
    let (mean_profile, mean_score) = (mean(&profile), mean(scores));
    let pairs = profile.iter().zip(scores);
    let product: Vec<f64> = pairs.map(|(x, y)| (x - mean_profile) * (y - mean_score)).collect();
    let (spread, deviation) = (variance(&profile), variance(scores).sqrt());
    // Scores that are all alike have no scale of their own.
    let deviation = if deviation > 0.0 { deviation } else { 1e-6 * mean_score.abs().max(1e-6) };
    let spread = if spread > 0.0 { spread } else { 1.0 };
    let slope = (mean(&product) / spread).max(0.05 * deviation / spread.sqrt());
    // The exponential of a spread prior is larger than at its centre.
    hyper.mu = slope.ln() - 0.5 * hyper.level;
    hyper.noise = 0.25 * deviation * deviation;
    let mean = layout.expected(|t| hyper.line(t));
    (hyper, Posterior::new(mean, 0.3))
}

/// Return whether weights are so near to others that sums over all policies are not worth their
/// price.
fn are_near(weights: &[f64], others: &[f64]) -> bool {
    weights.iter().zip(others).all(|(one, other)| (one - other).abs() <= NEAR * one)
}

fn exponentials(logarithms: &[f64]) -> Vec<f64> {
    logarithms.iter().map(|it| it.exp()).collect()
}

/// A fit under way.
struct Fit {
    layout: Layout,
    positions: Vec<Positions>,
    scores: Vec<f64>,
    hyper: Hyper,
    posterior: Posterior,
}

impl Fit {
    fn run(&mut self, rounds: usize) {
        let deviation = variance(&self.scores).sqrt();
        let smallest =
            (2e-3 * deviation).powi(2).max(1e-24 * mean(&self.scores).powi(2)).max(1e-300);
        let mut moments = self.moments(None);
        for round in 0..rounds {
            if round % 3 == 0 && round > 0 {
                moments = self.moments(Some(moments));
            }
            let precision = self.hyper.precision(&self.layout);
            let moved = self.posterior.improve(&self.layout, &self.hyper, &moments, &precision);
            if round >= 2 {
                let (layout, posterior) = (&self.layout, &self.posterior);
                self.hyper.reestimate(layout, posterior, &moments, &precision, smallest);
                if round % 3 == 2 {
                    self.reestimate_misfit(&moments, smallest);
                }
            }
            if round > LEAST_ROUNDS && moved < SMALL_MOVE {
                break;
            }
        }
    }

    /// Return the sums over the policies that a round needs, each policy weighed by its variance;
    /// those from before where its weights are still nearly right, as they are without misfit.
    fn moments(&self, before: Option<Moments>) -> Moments {
        let sums = self.layout.sums(&self.posterior.increments());
        let effects: Vec<f64> = self.positions.iter().map(|it| effect(&sums, it)).collect();
        let weight =
            |effect: &f64| 1.0 / (1.0 + self.hyper.misfit * effect * effect / self.hyper.noise);
        let weights: Vec<f64> = effects.iter().map(weight).collect();
        if let Some(moments) = before.filter(|it| are_near(&it.weights, &weights)) {
            let effect = weighted_mean(effects.into_iter(), &moments.weights);
            return Moments { effect, ..moments };
        }
        let effect = weighted_mean(effects.into_iter(), &weights);
        self.layout.moments(&self.positions, &self.scores, weights, effect)
    }

    fn reestimate_misfit(&mut self, moments: &Moments, smallest: f64) {
        let forecast = self.forecast(moments);
        let squares: Vec<(f64, f64)> = self
            .positions
            .iter()
            .zip(&self.scores)
            .map(|(positions, score)| {
                let found = forecast.predict(positions);
                let effect = forecast.effect(positions);
                ((score - found.score).powi(2) + found.deviation.powi(2), effect * effect)
            })
            .collect();
        self.hyper.choose_misfit(&squares, smallest);
    }

    fn finish(self) -> Model {
        let mut model = Model {
            forecast: self.forecast(&self.moments(None)),
            layout: self.layout,
            hyper: self.hyper,
            posterior: self.posterior,
            error: 0.0,
        };
        model.error = left_out_error(&model, &self.positions, &self.scores);
        model
    }

    fn forecast(&self, moments: &Moments) -> Forecast {
        let covariance = self.posterior.covariance_of_increments();
        let along = posterior::times(&covariance, &moments.centre);
        let own = along.iter().zip(&moments.centre).map(|(a, b)| a * b).sum();
        Forecast {
            start: moments.score - moments.effect,
            variance: self.hyper.noise / moments.weight,
            effects: self.layout.sums(&self.posterior.increments()),
            spread: self.layout.pair_sums(&covariance),
            centre: (self.layout.sums(&along), own),
        }
    }
}

/// Return the root of the mean squared error of each score predicted without it: its residual over
/// one less its leverage, the leverage from the posterior's share of the variance.
fn left_out_error(model: &Model, positions: &[Positions], scores: &[f64]) -> f64 {
    let squares = positions.iter().zip(scores).map(|(positions, score)| {
        let found = model.forecast.predict(positions);
        let effect = model.forecast.effect(positions);
        let variance = model.hyper.noise + model.hyper.misfit * effect * effect;
        let leverage = (found.deviation.powi(2) / variance).min(0.95);
        ((score - found.score) / (1.0 - leverage)).powi(2)
    });
    mean(&squares.collect::<Vec<_>>()).sqrt()
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count_as_float(values.len())
}

pub(crate) fn variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / count_as_float(values.len())
}
