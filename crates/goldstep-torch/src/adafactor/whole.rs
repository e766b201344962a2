//! The step of one variable as operations on whole tensors: any device, any shape, and every value,
//! subnormal, infinite and NaN included. Nothing is read back from the device.

use goldstep_core::SecondMomentUnderflow;
use tch::{Device, Kind, TchError, Tensor};

use super::Moment;
use super::scalars::{StepTensors, flush};
use super::scratch::{Scratch, Use};
use super::sums::sum_of_squares;

/// Updates `parameter` and `moment`; `gradient` is dense, clipped, and of the same kind.
pub(super) fn step(
    parameter: &mut Tensor,
    gradient: &Tensor,
    moment: &mut Moment,
    scalars: &StepTensors,
    scratch: &mut Scratch,
) -> Result<(), TchError> {
    let (kind, device) = (parameter.f_kind()?, parameter.device());
    let limit = scalars.largest_subnormal;
    let mut work = scratch.take(Use::Update, &parameter.size(), kind, device)?;
    let normal =
        if scalars.flushes_state() { Some(without_subnormal(gradient, limit)?) } else { None };
    let gradient = normal.as_ref().unwrap_or(gradient);
    squares(&mut work, gradient, scalars)?;
    second_moment(&mut work, moment, scalars)?;
    let underflown = match scalars.underflow {
        SecondMomentUnderflow::Finite => Some(work.f_eq(0.0)?),
        _ => None,
    };
    let _inverse_root = work.f_rsqrt_()?;
    let _update = work.f_mul_(gradient)?;
    if let Some(underflown) = underflown {
        replace(&mut work, &underflown, gradient, moment)?;
    }
    apply(parameter, &mut work, scalars, (kind, device))
}

/// The gradient with zeros where it is subnormal; NaN stays.
fn without_subnormal(gradient: &Tensor, limit: f64) -> Result<Tensor, TchError> {
    let zero = Tensor::f_zeros([] as [i64; 0], (gradient.f_kind()?, gradient.device()))?;
    let normal = gradient.f_abs()?.f_le(limit)?.f_logical_not()?;
    gradient.f_where_self(&normal, &zero)
}

/// Where `v` was rounded to zero, forms the update from the factors:
/// `(g · rsqrt(r)) · (√mean(r) · rsqrt(c))`, 0 where a factor, or the full `v`, is itself 0.
fn replace(
    update: &mut Tensor,
    underflown: &Tensor,
    gradient: &Tensor,
    moment: &Moment,
) -> Result<(), TchError> {
    let Moment::Factored { row, column } = moment else {
        let _update = update.f_masked_fill_(underflown, 0.0)?;
        return Ok(());
    };
    let inverse_root = |factor: &Tensor| factor.f_rsqrt()?.f_masked_fill(&factor.f_eq(0.0)?, 0.0);
    let root = row.f_mean_dim([-1].as_slice(), true, None)?.f_sqrt()?;
    let down = inverse_root(row)?.f_unsqueeze(-1)?;
    let across = root.f_mul(&inverse_root(column)?)?.f_unsqueeze(-2)?;
    let finite = gradient.f_mul(&down)?.f_mul(&across)?;
    update.f_copy_(&finite.f_where_self(underflown, update)?)
}

/// `work = g² + ε₁`.
fn squares(work: &mut Tensor, gradient: &Tensor, scalars: &StepTensors) -> Result<(), TchError> {
    let _squares = gradient.f_mul_out(work, gradient)?;
    if scalars.flushes_state() {
        flush(work, scalars.largest_subnormal)?;
    }
    let _squares = work.f_add_(&scalars.epsilon_1)?;
    Ok(())
}

/// Moves the running means on by `work`, then `work = v`.
fn second_moment(
    work: &mut Tensor,
    moment: &mut Moment,
    scalars: &StepTensors,
) -> Result<(), TchError> {
    match moment {
        Moment::Full(v) => {
            blend(v, work, scalars)?;
            work.f_copy_(v)?;
        }
        Moment::Factored { row, column } => {
            let mut row_mean = work.f_mean_dim([-1].as_slice(), false, None)?;
            let mut column_mean = work.f_mean_dim([-2].as_slice(), false, None)?;
            blend(row, &mut row_mean, scalars)?;
            blend(column, &mut column_mean, scalars)?;
            rebuild(work, row, column, scalars.largest_subnormal)?;
        }
    }
    Ok(())
}

/// `v = r / mean(r) ⊗ c` into `out`, flushed where TensorFlow flushes: that decides where an
/// all-zero row that meets an all-zero column turns the variable into NaN.
pub(super) fn rebuild(
    out: &mut Tensor,
    row: &Tensor,
    column: &Tensor,
    largest_subnormal: f64,
) -> Result<(), TchError> {
    let mut ratio = row.f_div(&row.f_mean_dim([-1].as_slice(), true, None)?)?;
    flush(&mut ratio, largest_subnormal)?;
    let _product = ratio.f_unsqueeze(-1)?.f_mul_out(out, &column.f_unsqueeze(-2)?)?;
    flush(out, largest_subnormal)
}

/// `mean = β₂ · mean + (1 − β₂) · new`; destroys `new`.
fn blend(mean: &mut Tensor, new: &mut Tensor, scalars: &StepTensors) -> Result<(), TchError> {
    let _old = mean.f_mul_(&scalars.beta_2)?;
    let _new = new.f_mul_(&scalars.one_minus_beta_2)?;
    if scalars.flushes_state() {
        flush(mean, scalars.largest_subnormal)?;
        flush(new, scalars.largest_subnormal)?;
    }
    let _mean = mean.f_add_(new)?;
    Ok(())
}

/// `x −= α · u / max(1, rms(u)/d)` with `α = max(ε₂, rms(x)) · ρ`. Both maxima let NaN through.
fn apply(
    parameter: &mut Tensor,
    update: &mut Tensor,
    scalars: &StepTensors,
    (kind, device): (Kind, Device),
) -> Result<(), TchError> {
    let limit = Some(scalars.largest_subnormal);
    let flush_parameter = limit.filter(|_| scalars.flushes_parameter_scale());
    let flush_update = limit.filter(|_| scalars.flushes_update_scale());
    #[expect(clippy::cast_precision_loss, reason = "a count of elements, rounded like Keras's")]
    let count = parameter.numel() as f64;
    let count = Tensor::f_full([] as [i64; 0], count, (kind, device))?;
    let rms = |x: &Tensor, flush| sum_of_squares(x, flush)?.f_div(&count)?.f_sqrt();
    let update_rms = rms(update, flush_update)?;
    let divisor = update_rms.f_div(&scalars.clip_threshold)?.f_maximum(&scalars.one)?;
    let scale = rms(parameter, flush_parameter)?.f_maximum(&scalars.epsilon_2)?;
    let step_size = scale.f_mul(&scalars.relative_step_size)?.f_neg()?;
    let _clipped = update.f_div_(&divisor)?;
    let _parameter = parameter.f_addcmul_(update, &step_size)?;
    Ok(())
}
