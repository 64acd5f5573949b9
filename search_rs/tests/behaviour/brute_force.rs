//! How far the search ends from the optimum, where the optimum can be counted out.
//!
//! A fixed ensemble of tiny networks with additive scores, three targets each. The gap is the score
//! above the optimum as a share of the range of scores (all smallest minus all largest candidates).

use std::sync::Arc;

use crate::common;
use search_rs::network::Network;
use search_rs::policy::Policy;
use search_rs::strategy::greedy::{Greedy, GreedySettings};

const NUM_NETWORKS: u64 = 200;

/// A small generator, the same on every machine (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn share(&mut self) -> f64 {
        f64::from(u32::try_from(self.below(1 << 32)).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
    }
}

/// Scores by layer, side and bits; each falls as the bits rise.
type Table = Vec<[[f64; 8]; 2]>;

fn draw(random: &mut Random) -> (Network, Table) {
    let free = || vec![2, 3, 4, 5];
    let num_layers = 2 + random.below(2);
    let specs: Vec<_> =
        (0..num_layers).map(|_| (i128::from(100 + random.below(10_000)), free(), free())).collect();
    let mut side = || {
        let scale = 0.1 + random.share();
        let mut scores = [0.0; 8];
        for bits in (2..5).rev() {
            let step = scale * random.share() / f64::from(1 << (2 * bits));
            scores[bits] = scores[bits + 1] + step;
        }
        scores
    };
    let table = (0..num_layers).map(|_| [side(), side()]).collect();
    (common::build(&specs), table)
}

fn score(table: &Table, policy: &Policy) -> f64 {
    let layers = table.iter().zip(policy.layers());
    layers
        .map(|([weight, act], bits)| {
            weight[usize::from(bits.weight.get())] + act[usize::from(bits.act.get())]
        })
        .sum()
}

/// Share of searches that end at the optimum, mean gap, worst gap.
fn measure(climbs: u64, exchange_limit: u64) -> (f64, f64, f64) {
    let mut random = Random(1);
    let (mut num_equal, mut sum, mut worst, mut count) = (0_u32, 0.0, 0.0_f64, 0_u32);
    for _ in 0..NUM_NETWORKS {
        let (network, table) = draw(&mut random);
        let everything = common::all(&network);
        let network = Arc::new(network);
        let cost = |policy: &Policy| common::cost_of(&network, policy);
        let range = score(&table, &Policy::smallest(&network));
        for percent in [25, 50, 75] {
            let target = common::target(&network, 0, percent);
            let within = everything.iter().filter(|policy| cost(policy) <= target);
            let scores = within.map(|policy| score(&table, policy));
            let optimum = scores.min_by(f64::total_cmp).unwrap();
            let settings = GreedySettings { climbs, exchange_limit, ..GreedySettings::default() };
            let problem = common::problem(&network, &[target], 0);
            let search = Greedy::new(&problem, 0, settings).unwrap();
            let mut search = common::session(problem, search, None);
            let found = common::run(&mut search, |policy| score(&table, policy), &mut Vec::new());
            let gap = (found.unwrap()[0].score.unwrap() - optimum) / range;
            assert!(gap >= 0.0, "better than the optimum");
            num_equal += u32::from(gap < 1e-12);
            sum += gap;
            worst = worst.max(gap);
            count += 1;
        }
    }
    (f64::from(num_equal) / f64::from(count), sum / f64::from(count), worst)
}

/// Measured, over 600 searches: 76.0 % end at the optimum, mean gap 0.28 %, worst 11.9 %; with as
/// many exchanges as `harness search` allows 86.7 %, 0.12 %, 3.2 %; with its climbs 94.8 %, 0.035 %,
/// 3.2 %; with both 97.0 %, 0.023 %, 3.2 %. The bounds are those figures, rounded to the worse side.
#[test]
fn search_ends_near_the_brute_force_optimum_of_additive_scores() {
    let bounds = [
        (0, 0, 0.75, 0.003, 0.12),
        (0, 200, 0.86, 0.0012, 0.033),
        (5, 0, 0.94, 0.00036, 0.033),
        (5, 200, 0.96, 0.00024, 0.033),
    ];
    for (climbs, exchange_limit, least_equal, most_mean, most_worst) in bounds {
        let (equal, mean, worst) = measure(climbs, exchange_limit);
        println!(
            "climbs {climbs}, exchange_limit {exchange_limit}: equal {equal:.3}, mean {mean:.5}, \
             worst {worst:.4}"
        );
        assert!(equal >= least_equal && mean <= most_mean && worst <= most_worst);
    }
}
