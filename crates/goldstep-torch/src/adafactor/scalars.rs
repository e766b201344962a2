//! The scalars of a step as tensors on the parameters' device.

use goldstep_core::{AdafactorScalars, EmaScalars, SecondMomentUnderflow};
use tch::{Device, Kind, TchError, Tensor};

/// Below this value of an argument, numbers that decide a result may lie below the normal range,
/// where TensorFlow's kernels flush them to zero: about the square root of the smallest normal one,
/// with room to spare.
const SMALL_SCALE: f64 = 1e-12;
/// Below this ε₁ the running means of squares may lie below the normal range.
const SMALL_EPSILON_1: f64 = 1e-30;
/// Below this share of the new square, ε₁ times it may lie below the normal range.
const SMALL_SHARE: f64 = 1e-7;

/// The scalars of a step for one element type, device and learning rate.
///
/// Tensors without axes, since libtorch makes a tensor of every plain number (1.5 µs on a CPU,
/// against 0.4 µs for the operation), and all in one transfer.
#[derive(Debug)]
pub(super) struct StepTensors {
    pub(super) host: AdafactorScalars,
    pub(super) beta_2: Tensor,
    pub(super) one_minus_beta_2: Tensor,
    pub(super) epsilon_1: Tensor,
    pub(super) epsilon_2: Tensor,
    pub(super) relative_step_size: Tensor,
    pub(super) clip_threshold: Tensor,
    pub(super) one: Tensor,
    pub(super) weight_decay: Tensor,
    /// `−lr`.
    pub(super) minus_rate: Tensor,
    pub(super) ema: Option<(EmaScalars, Tensor, Tensor)>,
    /// The largest number below the normal range.
    pub(super) largest_subnormal: f64,
    /// What becomes of elements whose second moment is rounded to zero.
    pub(super) underflow: SecondMomentUnderflow,
}

impl StepTensors {
    pub(super) fn new(
        host: AdafactorScalars,
        kind: Kind,
        device: Device,
        underflow: SecondMomentUnderflow,
    ) -> Result<Self, TchError> {
        let ema = host.ema;
        let values = [
            host.beta_2,
            host.one_minus_beta_2,
            host.epsilon_1,
            host.epsilon_2,
            host.relative_step_size,
            host.clip_threshold,
            1.0,
            host.weight_decay.unwrap_or(0.0),
            -host.learning_rate,
            ema.map_or(0.0, |ema| ema.momentum),
            ema.map_or(0.0, |ema| ema.one_minus_momentum),
        ];
        let all = Tensor::f_from_slice(&values)?.f_to_kind(kind)?.f_to_device(device)?;
        let scalar = |index: i64| all.f_select(0, index);
        Ok(Self {
            host,
            beta_2: scalar(0)?,
            one_minus_beta_2: scalar(1)?,
            epsilon_1: scalar(2)?,
            epsilon_2: scalar(3)?,
            relative_step_size: scalar(4)?,
            clip_threshold: scalar(5)?,
            one: scalar(6)?,
            weight_decay: scalar(7)?,
            minus_rate: scalar(8)?,
            ema: match ema {
                Some(ema) => Some((ema, scalar(9)?, scalar(10)?)),
                None => None,
            },
            largest_subnormal: largest_subnormal(kind),
            underflow,
        })
    }

    /// Whether squares and their running means may leave the normal range.
    pub(super) fn flushes_state(&self) -> bool {
        self.host.epsilon_1 < SMALL_EPSILON_1 * 0.99 || self.host.one_minus_beta_2 < SMALL_SHARE
    }

    /// Whether squares of parameters that leave the normal range may decide the step size.
    pub(super) fn flushes_parameter_scale(&self) -> bool {
        self.host.epsilon_2 < SMALL_SCALE
    }

    /// Whether squares of updates that leave the normal range may decide their clipping.
    pub(super) fn flushes_update_scale(&self) -> bool {
        self.host.clip_threshold < SMALL_SCALE
    }
}

/// The largest number below the normal range of `kind`, Float or Double.
pub(super) fn largest_subnormal(kind: Kind) -> f64 {
    if kind == Kind::Double {
        f64::MIN_POSITIVE.next_down()
    } else {
        f64::from(f32::MIN_POSITIVE.next_down())
    }
}

/// Writes values of either sign to `out`, zero where they lie below the normal range. NaN may
/// become zero, too.
pub(super) fn flush_into(
    out: &Tensor,
    values: &Tensor,
    largest_subnormal: f64,
) -> Result<(), TchError> {
    // tch leaves the limit of `hardshrink` itself at its default.
    let _flushed = values.f_hardshrink_backward_grad_input(out, values, largest_subnormal)?;
    Ok(())
}

/// Sets to zero what lies below the normal range, of values that are not negative; NaN stays.
pub(super) fn flush(values: &mut Tensor, largest_subnormal: f64) -> Result<(), TchError> {
    let _flushed = values.f_threshold_(largest_subnormal, 0.0)?;
    Ok(())
}
