//! Parameters and gradients that every contestant makes for itself, the same everywhere.
//!
//! A value is a hash of its position, so that a contestant in any language makes it with a few
//! vector operations and needs no file. The mixing is the finaliser of MurmurHash3.

use crate::measure::to_f64;

/// Parameters lie in `[−0.05, 0.05)`, as after a usual initialisation.
const PARAMETER_RANGE: f32 = 0.1;
/// So do gradients.
const GRADIENT_RANGE: f32 = 0.1;
/// Elements of each tensor that the fingerprint of a step looks at.
const FINGERPRINT: usize = 65_536;

/// Which of the two tensors of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The parameter before the first step.
    Parameter,
    /// The gradient, the same in every step.
    Gradient,
}

/// Element `index` of tensor `tensor`.
#[must_use]
pub fn value(part: Part, tensor: u32, index: u32) -> f32 {
    let (salt, range) = match part {
        Part::Parameter => (0, PARAMETER_RANGE),
        Part::Gradient => (1, GRADIENT_RANGE),
    };
    let seed = (2 * tensor + salt + 1).wrapping_mul(0x9e37_79b9);
    let mut x = index.wrapping_add(seed);
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^= x >> 16;
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    let unit = (x >> 8) as f32 / 16_777_216.0;
    (unit - 0.5) * range
}

/// All elements of a tensor.
pub fn values(part: Part, tensor: usize, length: usize) -> impl Iterator<Item = f32> {
    let tensor = u32::try_from(tensor).unwrap_or(u32::MAX / 4);
    (0..u32::try_from(length).unwrap_or(u32::MAX)).map(move |index| value(part, tensor, index))
}

/// Mean of `|p − p₀|` over the first elements of each tensor: what a contestant reports of its
/// steps, so that a wrong one is noticed.
#[must_use]
pub fn change<'a>(parameters: impl Iterator<Item = Box<dyn Iterator<Item = f32> + 'a>>) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for (tensor, parameter) in parameters.enumerate() {
        let before = values(Part::Parameter, tensor, FINGERPRINT);
        for (now, before) in parameter.zip(before) {
            sum += (f64::from(now) - f64::from(before)).abs();
            count += 1;
        }
    }
    sum / to_f64(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_that_the_peers_make() {
        // Made with `values` of benches/peers/contestant.py, which mixes with numpy.
        let first: Vec<u32> = values(Part::Parameter, 0, 3).map(|value| value.to_bits()).collect();
        let other: Vec<u32> = values(Part::Gradient, 7, 2).map(|value| value.to_bits()).collect();
        assert_eq!(first, [1_005_617_754, 1_007_735_559, 1_017_592_304]);
        assert_eq!(other, [1_025_368_603, 3_173_285_275]);
    }

    #[test]
    fn values_lie_around_zero() {
        let all: Vec<f32> = values(Part::Gradient, 3, 100_000).collect();
        assert!(all.iter().all(|value| (-0.05..0.05).contains(value)));
        let mean = all.iter().map(|value| f64::from(*value)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 1e-3, "{mean}");
    }

    #[test]
    fn the_change_is_a_mean() {
        let moved = |tensor| -> Box<dyn Iterator<Item = f32>> {
            Box::new(values(Part::Parameter, tensor, 10).map(|value| value + 0.5))
        };
        assert!((change([moved(0), moved(1)].into_iter()) - 0.5).abs() < 1e-6);
    }
}
