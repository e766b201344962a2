//! The step of one variable as operations on whole tensors: any device, any shape, and every value,
//! subnormal, infinite and NaN included. Nothing is read back from the device.

use goldstep_core::SecondMomentUnderflow;
use tch::{Device, Kind, TchError, Tensor};

use super::Moment;
use super::scalars::{StepTensors, flush, flush_into};
use super::scratch::{Scratch, Use};
use super::sums::sum_of_squares;

/// Elements of the gradient that are copied at a time: enough to keep a device busy.
const PART: i64 = 4 * 1024 * 1024;

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
    squares(&mut work, gradient, scalars)?;
    second_moment(&mut work, moment, scalars)?;
    let underflown = match scalars.underflow {
        SecondMomentUnderflow::Finite => Some(underflow(&work, moment)?),
        _ => None,
    };
    let _inverse_root = work.f_rsqrt_()?;
    multiply(&mut work, gradient, limit, PART, scratch)?;
    if let Some(underflown) = underflown {
        replace(&mut work, &underflown, gradient, moment, limit)?;
    }
    apply(parameter, &mut work, scalars, (kind, device))
}

/// `work = work · g` with 0 for subnormal elements of `g`, in parts of at most `part` elements or of
/// one row. Squares of such elements are 0 anyway, and where `g` is NaN `work` is.
fn multiply(
    work: &mut Tensor,
    gradient: &Tensor,
    limit: f64,
    part: i64,
    scratch: &mut Scratch,
) -> Result<(), TchError> {
    let (kind, device, shape) = (work.f_kind()?, work.device(), work.size());
    let mut one = |work: &mut Tensor, gradient: &Tensor| -> Result<(), TchError> {
        let normal = scratch.take(Use::Normal, &gradient.size(), kind, device)?;
        flush_into(&normal, gradient, limit)?;
        let _update = work.f_mul_(&normal)?;
        Ok(())
    };
    let count = |axes: &[i64]| axes.iter().product::<i64>();
    if count(&shape) <= part {
        return one(work, gradient);
    }
    let rows = (part / count(&shape[1..])).max(1);
    let mut parts = work.f_split(rows, 0)?.into_iter().zip(gradient.f_split(rows, 0)?);
    parts.try_for_each(|(mut work, gradient)| one(&mut work, &gradient))
}

/// Where `v` was rounded to zero, or is 0/0: with an ε₁ of 0, row factors and their mean are 0 in a
/// matrix that has had no gradient.
fn underflow(v: &Tensor, moment: &Moment) -> Result<Tensor, TchError> {
    let mut mask = v.f_eq(0.0)?;
    if let Moment::Factored { row, .. } = moment {
        let mean = row.f_mean_dim([-1].as_slice(), true, None)?;
        let undefined = row.f_eq(0.0)?.f_logical_and(&mean.f_eq(0.0)?)?;
        let _mask = mask.f_logical_or_(&undefined.f_unsqueeze(-1)?)?;
    }
    Ok(mask)
}

/// Where `v` underflowed, forms the update from the factors:
/// `(g · rsqrt(r)) · (√mean(r) · rsqrt(c))`, 0 where a factor, or the full `v`, is itself 0.
fn replace(
    update: &mut Tensor,
    underflown: &Tensor,
    gradient: &Tensor,
    moment: &Moment,
    limit: f64,
) -> Result<(), TchError> {
    let Moment::Factored { row, column } = moment else {
        let _update = update.f_masked_fill_(underflown, 0.0)?;
        return Ok(());
    };
    let inverse_root = |factor: &Tensor| factor.f_rsqrt()?.f_masked_fill(&factor.f_eq(0.0)?, 0.0);
    let root = row.f_mean_dim([-1].as_slice(), true, None)?.f_sqrt()?;
    let down = inverse_root(row)?.f_unsqueeze(-1)?;
    let across = root.f_mul(&inverse_root(column)?)?.f_unsqueeze(-2)?;
    let mut finite = gradient.f_empty_like()?;
    flush_into(&finite, gradient, limit)?;
    let _finite = finite.f_mul_(&down)?.f_mul_(&across)?;
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

#[cfg(test)]
mod tests {
    use super::super::scalars::largest_subnormal;
    use super::*;

    #[test]
    fn parts_of_any_size_give_the_same_product() {
        let gradient = Tensor::arange(30.0, (Kind::Float, Device::Cpu)).reshape([5, 3, 2]);
        let _subnormal = gradient.get(4).fill_(1e-40);
        let product = |part| {
            let mut work = gradient.full_like(2.0);
            let limit = largest_subnormal(Kind::Float);
            multiply(&mut work, &gradient, limit, part, &mut Scratch::default()).unwrap();
            work
        };
        let whole = product(PART);
        let values = [whole.double_value(&[0, 0, 1]), whole.double_value(&[4, 0, 0])];
        assert_eq!(values.to_vec(), vec![2.0, 0.0]);
        for part in [1, 6, 13, 29] {
            assert_eq!(product(part), whole, "{part}");
        }
    }
}
