//! x
use search_rs::budget::Budget;
use search_rs::cost::Aggregate;
use search_rs::knapsack::{Knapsack, PairValues};
use search_rs::network::{Layer, Network};
use std::time::Instant;
fn main() {
    let num = 53u64;
    let layers = (0..num).map(|index| {
        let is_pinned = index == 0 || index + 1 == num;
        let macs = i128::from(1_000_000 + 97_003 * (index * 31 % 53));
        let weights = i128::from(1_000 + 7_001 * (index * 17 % 53));
        let bits: &[i128] = if is_pinned { &[8] } else { &[2, 3, 4, 5, 6] };
        let bitops = bits.iter().map(|w| bits.iter().map(|a| macs * w * a).collect()).collect();
        let size = bits.iter().map(|w| bits.iter().map(|_| weights * w).collect()).collect();
        Layer::new(&format!("layer{index}"), bits, bits, &[bitops, size]).unwrap()
    });
    let n = Network::new(vec![Aggregate::Sum; 2], layers.collect(), &[]).unwrap();
    let k = Knapsack::new(&n).unwrap();
    let t = |r: usize, p: u64| { let s = search_rs::budget::smallest_cost(&n, r); let l: u64 = n.layers().iter().map(|x| x.costs().largest(r)).sum(); s + (l - s) * p / 100 };
    for lims in [[Some(t(0,12)), None],[Some(t(0,30)), None],[Some(t(0,30)), Some(t(1,20))],[Some(t(0,30)), Some(t(1,60))]] {
        for seed in 0..3u64 {
            let b = Budget::new(&n, &lims).unwrap();
            let v = PairValues::by(&n, |l, bits| {
                let h = |x: u64| { let mut z = (x ^ (seed << 32)).wrapping_add(0x9e3779b97f4a7c15).wrapping_mul(0xbf58476d1ce4e5b9); z ^= z >> 27; z = z.wrapping_mul(0x94d049bb133111eb); (z >> 11) as f64 / (1u64 << 53) as f64 };
                let s = |side: u64, b: u8| (3.0 * h(l as u64 * 2 + side)).exp() * 0.4_f64.powi(b.into()) * (1.0 + 0.1 * h(1000 + l as u64 * 20 + side * 10 + u64::from(b)));
                s(0, bits.weight.get()) + s(1, bits.act.get())
            });
            let start = Instant::now();
            let f = k.solve(&n, &v, &b).unwrap();
            println!("{lims:?} {seed}: {:.3} ms proven {} value {}", start.elapsed().as_secs_f64() * 1e3, f.is_proven, f.value);
        }
    }
}
