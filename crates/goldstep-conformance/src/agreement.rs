//! What agreement means: one function says how far each quantity may be off, and why.

use goldstep_core::DType;

/// What is compared, in causal order: an earlier one that is wrong spoils the later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Quantity {
    /// Whether, where and with which type a run is refused.
    Refusal,
    /// Steps done.
    Iterations,
    /// The learning rate of the step, uncapped.
    LearningRate,
    /// The gradient after clipping.
    ClippedGradient,
    /// The row factor.
    R,
    /// The column factor.
    C,
    /// The full second moment.
    V,
    /// `rms(x)` after weight decay.
    ParameterRms,
    /// The step size α.
    Alpha,
    /// `u`, before it is clipped.
    Update,
    /// `rms(u)`.
    UpdateRms,
    /// The variable.
    Variable,
    /// The average of the variable.
    Ema,
    /// The variable after `finalize_variable_values`.
    Finalized,
}

impl Quantity {
    /// All of them, in causal order.
    pub const ALL: [Self; 14] = [
        Self::Refusal,
        Self::Iterations,
        Self::LearningRate,
        Self::ClippedGradient,
        Self::R,
        Self::C,
        Self::V,
        Self::ParameterRms,
        Self::Alpha,
        Self::Update,
        Self::UpdateRms,
        Self::Variable,
        Self::Ema,
        Self::Finalized,
    ];

    /// The name in reports and in lists of known differences.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refusal => "refusal",
            Self::Iterations => "iterations",
            Self::LearningRate => "lr",
            Self::ClippedGradient => "clipped gradient",
            Self::R => "r",
            Self::C => "c",
            Self::V => "v",
            Self::ParameterRms => "parameter rms",
            Self::Alpha => "alpha",
            Self::Update => "u",
            Self::UpdateRms => "update rms",
            Self::Variable => "var",
            Self::Ema => "ema",
            Self::Finalized => "finalized",
        }
    }
}

/// How a step starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// From the golden state of the step before: tight, and it names the step that is wrong.
    Forced,
    /// From the implementation's own state: catches counters, plumbing of state, drift.
    Free,
}

impl Mode {
    /// Both, in the order in which they are judged.
    pub const ALL: [Self; 2] = [Self::Forced, Self::Free];

    /// `forced` or `free`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Free => "free",
        }
    }
}

/// Who is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The oracle, which does Keras's operations one by one and may be off by less.
    Reference,
    /// Everybody else, who may reorder.
    Other,
}

/// How far a value may be from the expected one, and in which unit that is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowance {
    /// Not at all; −0 equals 0.
    Exact,
    /// So many ulp of the largest anchor: the golden values before and after the step, for an
    /// average those of its variable too, for a variable that its average has overwritten those of
    /// the average too. The smallest normal number is the floor of an anchor.
    Anchored(f64),
    /// So many eps of the expected magnitude, plus the smallest normal number.
    Relative(f64),
    /// So many eps of the largest magnitude that the variable and its average have had.
    Scaled(f64),
    /// So many eps of float32 of the expected magnitude, whatever the element type.
    RelativeFloat32(f64),
}

impl Allowance {
    /// The figure.
    #[must_use]
    pub const fn figure(self) -> f64 {
        match self {
            Self::Exact => 0.0,
            Self::Anchored(figure)
            | Self::Relative(figure)
            | Self::Scaled(figure)
            | Self::RelativeFloat32(figure) => figure,
        }
    }

    /// The unit of the figure.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::Anchored(_) => "anchored ULP",
            Self::Relative(_) | Self::RelativeFloat32(_) => "eps",
            Self::Scaled(_) => "eps of the largest magnitude",
        }
    }
}

/// Where a number comes from that [`allowance`] needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// How the step started.
    pub mode: Mode,
    /// Who is judged.
    pub role: Role,
    /// The 1-based step.
    pub step: u64,
    /// Whether the rate of the step comes from a schedule.
    pub schedule: bool,
}

/// How far `quantity` may be from what tf.keras computed. **Every tolerance stands here.**
///
/// NaN has to be in the same places and infinities of the same sign, whatever the allowance.
#[must_use]
pub fn allowance(quantity: Quantity, circumstances: Circumstances) -> Allowance {
    let Circumstances { mode, role, step, schedule } = circumstances;
    #[expect(clippy::cast_precision_loss, reason = "a step number is far below 2^53")]
    let t = step as f64;
    match quantity {
        // Counted and decided, not computed.
        Quantity::Refusal | Quantity::Iterations => Allowance::Exact,

        // A number is rounded to float32 once. A schedule is a chain of float32 operations whose
        // powf and cos differ between libraries: 3.4 eps were seen between eager and tf.function
        // of the same TensorFlow, 8 leave a margin of two.
        Quantity::LearningRate if schedule => Allowance::RelativeFloat32(8.0),
        Quantity::LearningRate => Allowance::Exact,

        // Plain ULP mislead near zero, where a variable is a difference of larger numbers, so the
        // error is anchored to what was subtracted. Measured over 16,384 combinations of a
        // correct scalar float32 implementation: 10.9 for variables, 4.8 for averages (their
        // anchor includes the variable, which is what is averaged). 16 leave a margin of a half
        // for the reference; 24 let others reorder sums and fold factors.
        Quantity::Variable | Quantity::Ema | Quantity::Finalized if mode == Mode::Forced => {
            Allowance::Anchored(if role == Role::Reference { 16.0 } else { 24.0 })
        }

        // Errors of the steps add up like a random walk with a bias. Measured from the start over
        // 50 steps: 1.8 eps of the largest magnitude at t = 1, 2.2 to t = 5, 3.2 to 15, 4.5 at 50
        // (tf.function and XLA against eager included); 4 + t/4 is at least twice that. The
        // *running* largest magnitude, since strong decay shrinks a variable and not its error; where
        // decay multiplies by more than 1, weight_decay · learning_rate > 2, it grows likewise: at
        // 100 · 0.03 the errors double in each step, and a correct rewrite is off by 7 eps, not 4.5.
        Quantity::Variable | Quantity::Ema | Quantity::Finalized => {
            Allowance::Scaled(4.0 + t / 4.0)
        }

        // Sums and products of positive numbers: no cancellation, so the error is relative.
        // Forced, one step: measured 3 for r and c, 4 for v. 8 for the reference, 16 for others,
        // whose v is rebuilt with another order of division.
        Quantity::R | Quantity::C | Quantity::V if mode == Mode::Forced => {
            Allowance::Relative(if role == Role::Reference { 8.0 } else { 16.0 })
        }

        // Free: measured 4 at t = 1, 6 at 5, 9 at 50; 10 for a native NumPy implementation.
        Quantity::R | Quantity::C | Quantity::V => Allowance::Relative(24.0),

        // Never a verdict: beyond this an intermediate is named as the first that is wrong.
        Quantity::ClippedGradient
        | Quantity::ParameterRms
        | Quantity::Alpha
        | Quantity::Update
        | Quantity::UpdateRms => Allowance::Relative(16.0),
    }
}

/// What the worst forced errors of a correct scalar float32 implementation were when the tolerances
/// were set, over 16,384 combinations of arguments: in the units of [`allowance`].
///
/// `cargo xtask verify` prints the reference's beside them. Over the grid `grid-f32`, which is like
/// what was measured then, the reference stays below all of them: r 2.4, c 2.6, v 2.9, variables 8,
/// averages 4. Over all goldens it is above three: r 3.4 (float64), c 3.3 and v 4.6, all in the
/// family `shapes`, in cases whose axes have 9, 129 and 31 elements. There a mean is over as many
/// squares, in the grid over 3 at most: tf.keras adds them up in the element type, in an order of
/// its own, the reference exactly; and v has the errors of three means.
pub const FIRST_MEASURED: [(Quantity, f64); 5] = [
    (Quantity::R, 3.0),
    (Quantity::C, 3.0),
    (Quantity::V, 4.0),
    (Quantity::Variable, 10.9),
    (Quantity::Ema, 4.8),
];

/// The tensors of one comparison.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// What tf.keras has.
    pub expected: &'a [f64],
    /// What the implementation has; of the same length.
    pub actual: &'a [f64],
    /// Golden tensors of the same length whose magnitudes anchor the error, `expected` aside.
    pub anchors: [Option<&'a [f64]>; 3],
    /// The largest magnitude so far, for [`Allowance::Scaled`].
    pub scale: f64,
}

/// The element that is furthest off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Error {
    /// Its position.
    pub element: usize,
    /// How far it is off, in the allowance's unit; infinite where NaN or infinities differ.
    pub error: f64,
}

impl Error {
    /// No error at all.
    pub const NONE: Self = Self { element: 0, error: 0.0 };
}

/// The largest error of a tensor, in the unit of `allowance`.
#[must_use]
pub fn largest_error(allowance: Allowance, dtype: DType, compared: &Compared<'_>) -> Error {
    let mut pairs = compared.expected.iter().zip(compared.actual);
    if pairs.all(|(expected, actual)| expected.to_bits() == actual.to_bits()) {
        return Error::NONE;
    }
    let mut largest = Error::NONE;
    for (element, error) in errors(allowance, dtype, compared).enumerate() {
        if error > largest.error {
            largest = Error { element, error };
        }
    }
    largest
}

/// The error of every element, in the unit of `allowance`.
pub(crate) fn errors(
    allowance: Allowance,
    dtype: DType,
    compared: &Compared<'_>,
) -> impl Iterator<Item = f64> {
    let pairs = compared.expected.iter().zip(compared.actual).enumerate();
    pairs.map(move |(element, (&expected, &actual))| {
        let unit = |error: f64| match allowance {
            Allowance::Exact => f64::INFINITY,
            Allowance::Anchored(_) => {
                let anchors = compared.anchors.iter().flatten().map(|anchor| anchor[element].abs());
                let finite = anchors.filter(|anchor| anchor.is_finite());
                let anchor = finite.fold(expected.abs(), f64::max);
                error / ulp(dtype, anchor)
            }
            Allowance::Relative(_) => {
                let beyond_smallest = (error - dtype.min_positive()).max(0.0);
                ratio(beyond_smallest, dtype.epsilon() * expected.abs())
            }
            Allowance::RelativeFloat32(_) => {
                ratio(error, DType::Float32.epsilon() * expected.abs())
            }
            Allowance::Scaled(_) => ratio(error, dtype.epsilon() * compared.scale),
        };
        match difference(expected, actual) {
            Difference::None => 0.0,
            Difference::Infinite => f64::INFINITY,
            Difference::Finite(error) => unit(error),
        }
    })
}

/// Whether two numbers are the same: NaN is NaN, −0 is 0.
#[must_use]
pub fn same(expected: f64, actual: f64) -> bool {
    matches!(difference(expected, actual), Difference::None)
}

enum Difference {
    None,
    Finite(f64),
    /// NaN or an infinity where the other side has something else.
    Infinite,
}

fn difference(expected: f64, actual: f64) -> Difference {
    if expected.is_finite() && actual.is_finite() {
        let error = (expected - actual).abs();
        return if error > 0.0 { Difference::Finite(error) } else { Difference::None };
    }
    let same_infinity = expected.to_bits() == actual.to_bits();
    if (expected.is_nan() && actual.is_nan()) || same_infinity {
        Difference::None
    } else {
        Difference::Infinite
    }
}

/// Infinite for an error where nothing was to be.
fn ratio(error: f64, unit: f64) -> f64 {
    if error > 0.0 { error / unit } else { 0.0 }
}

/// The distance between neighbours at the magnitude of `value`, in `dtype`.
#[must_use]
pub fn ulp(dtype: DType, value: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    let normal = value.abs().max(dtype.min_positive());
    f64::from_bits(normal.to_bits() & EXPONENT) * dtype.epsilon()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(allowance: Allowance, expected: f64, actual: f64, before: f64, scale: f64) -> f64 {
        let compared = Compared {
            expected: &[expected],
            actual: &[actual],
            anchors: [Some(&[before]), None, None],
            scale,
        };
        largest_error(allowance, DType::Float32, &compared).error
    }

    #[test]
    fn units_are_named() {
        let units = [Allowance::Exact, Allowance::Anchored(1.0), Allowance::Scaled(1.0)];
        assert_eq!(
            units.map(Allowance::unit),
            ["", "anchored ULP", "eps of the largest magnitude"]
        );
        let relative = [Allowance::Relative(1.0), Allowance::RelativeFloat32(1.0)];
        assert_eq!(relative.map(Allowance::unit), ["eps", "eps"]);
        assert_eq!(Allowance::Exact.figure().to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn of_equal_errors_the_first_is_named() {
        let (expected, actual) = ([1.0, 2.0, 1.0, 2.0], [1.0, 2.5, 1.25, 2.5]);
        let compared =
            Compared { expected: &expected, actual: &actual, anchors: [None; 3], scale: 1.0 };
        let largest = largest_error(Allowance::Relative(8.0), DType::Float32, &compared);
        assert_eq!(largest.element, 1);
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    const EPS: f64 = 1.0 / 8_388_608.0;

    #[test]
    fn the_table_of_tolerances() {
        let of = |quantity, mode, role, step| {
            let circumstances = Circumstances { mode, role, step, schedule: false };
            allowance(quantity, circumstances)
        };
        use Allowance::{Anchored, Relative, Scaled};
        for (quantity, forced_reference, forced_other, free_at_8) in [
            (Quantity::Variable, Anchored(16.0), Anchored(24.0), Scaled(6.0)),
            (Quantity::Ema, Anchored(16.0), Anchored(24.0), Scaled(6.0)),
            (Quantity::Finalized, Anchored(16.0), Anchored(24.0), Scaled(6.0)),
            (Quantity::R, Relative(8.0), Relative(16.0), Relative(24.0)),
            (Quantity::C, Relative(8.0), Relative(16.0), Relative(24.0)),
            (Quantity::V, Relative(8.0), Relative(16.0), Relative(24.0)),
            (Quantity::Iterations, Allowance::Exact, Allowance::Exact, Allowance::Exact),
            (Quantity::LearningRate, Allowance::Exact, Allowance::Exact, Allowance::Exact),
        ] {
            assert_eq!(of(quantity, Mode::Forced, Role::Reference, 8), forced_reference);
            assert_eq!(of(quantity, Mode::Forced, Role::Other, 8), forced_other);
            assert_eq!(of(quantity, Mode::Free, Role::Reference, 8), free_at_8);
            assert_eq!(of(quantity, Mode::Free, Role::Other, 8), free_at_8);
        }
        let schedule =
            Circumstances { mode: Mode::Free, role: Role::Other, step: 1, schedule: true };
        assert_eq!(allowance(Quantity::LearningRate, schedule), Allowance::RelativeFloat32(8.0));
        assert_eq!(allowance(Quantity::Alpha, schedule), Allowance::Relative(16.0));
    }

    #[test]
    fn names_tell_quantities_apart() {
        let names: std::collections::BTreeSet<&str> =
            Quantity::ALL.iter().map(|quantity| quantity.name()).collect();
        assert_eq!(names.len(), Quantity::ALL.len());
        assert!(names.contains("update rms") && !names.contains(""));
        assert_eq!(Mode::ALL.map(Mode::name), ["forced", "free"]);
    }

    #[test]
    fn anchored_errors_count_in_ulp_of_the_larger_side() {
        let anchored = Allowance::Anchored(16.0);
        assert!(near(error(anchored, 0.25, 0.25 + EPS, 1.5, 0.0), 1.0));
        assert!(near(error(anchored, 0.25, 0.25 + EPS, -1.5, 0.0), 1.0));
        assert!(near(error(anchored, 0.25, 0.25 + EPS, 0.0, 0.0), 4.0));
        let tiny = f64::from(f32::MIN_POSITIVE);
        assert!(near(error(anchored, 0.0, 3.0 * tiny * EPS, 0.0, 0.0), 3.0));
    }

    #[test]
    fn relative_errors_forgive_the_smallest_normal_number() {
        let relative = Allowance::Relative(8.0);
        assert!(near(error(relative, 1.0, 1.0 - 2.0 * EPS, 0.0, 0.0), 2.0));
        let tiny = f64::from(f32::MIN_POSITIVE);
        assert!(near(error(relative, 0.0, tiny, 0.0, 0.0), 0.0));
        assert!(error(relative, 0.0, 2.0 * tiny, 0.0, 0.0).is_infinite());
    }

    #[test]
    fn scaled_errors_count_in_eps_of_the_scale() {
        assert!(near(error(Allowance::Scaled(4.0), 0.0, 6.0 * EPS, 0.0, 2.0), 3.0));
    }

    #[test]
    fn rates_of_schedules_count_in_float32_for_every_type() {
        let compared =
            Compared { expected: &[0.5], actual: &[0.5 + EPS], anchors: [None; 3], scale: 0.0 };
        let allowance = Allowance::RelativeFloat32(8.0);
        assert!(near(largest_error(allowance, DType::Float64, &compared).error, 2.0));
    }

    #[test]
    fn what_is_not_finite_has_to_be_the_same() {
        let allowances = [Allowance::Exact, Allowance::Anchored(16.0), Allowance::Scaled(1e300)];
        for allowance in allowances {
            for (expected, actual, agrees) in [
                (f64::NAN, f64::NAN, true),
                (f64::NAN, -f64::NAN, true),
                (f64::INFINITY, f64::INFINITY, true),
                (f64::INFINITY, f64::NEG_INFINITY, false),
                (f64::INFINITY, 1.0, false),
                (1.0, f64::NAN, false),
                (f64::NAN, 1.0, false),
                (0.0, -0.0, true),
            ] {
                let error = error(allowance, expected, actual, 1.0, 1.0);
                assert_eq!(error <= 0.0, agrees, "{expected} {actual} {error}");
                assert!(agrees || error.is_infinite());
            }
        }
    }

    #[test]
    fn the_worst_element_is_found() {
        let compared = Compared {
            expected: &[1.0, 1.0, 1.0],
            actual: &[1.0, 1.0 + 3.0 * EPS, 1.0 + EPS],
            anchors: [None; 3],
            scale: 1.0,
        };
        let worst = largest_error(Allowance::Scaled(4.0), DType::Float32, &compared);
        assert_eq!(worst.element, 1);
        assert!(near(worst.error, 3.0));
    }

    #[test]
    fn ulps_follow_the_type() {
        assert!(near(ulp(DType::Float16, 1.5) * 1024.0, 1.0));
        assert!(near(ulp(DType::Bfloat16, 5.0) * 128.0, 4.0));
        assert!(ulp(DType::Float64, f64::MAX).is_finite());
    }
}
