//! The step of a matrix in host memory, one block of rows at a time, so that the blocks stay in
//! the cache and the gradient is read twice instead of five times.
//!
//! ```text
//! for each block of rows                     q = g·g       (the only scratch, one block)
//!     r = β₂ r + (1−β₂)(Σ_columns q / n + ε₁)
//!     C += Σ_rows q;   W += Σ_rows q / r      matrix-vector products
//! c = β₂ c + (1−β₂)(C / m + ε₁)
//! Σu² = mean(r) · Σ W / c                     since u² = g² · mean(r) / (r · c)
//! for each block of rows
//!     q = g / √c;   x += q · (−k √(mean(r) / r))     k = α / max(1, rms(u)/d)
//! ```
//!
//! That is exact in real arithmetic. The literal formula forms `r/mean(r)` and `v` in the
//! variable's type, where each may leave the normal range; from the extremes of `r/mean(r)` and `c`
//! it is proved beforehand that none does, else nothing is written and the caller takes the
//! operations on whole tensors.

use goldstep_core::{AdafactorScalars, Element};
use tch::{Device, Kind, TchError, Tensor};

use super::gradient::Clip;
use super::scalars::{flush_into, largest_subnormal};
use super::scratch::{Scratch, Use};

/// Elements of a block: with its part of the gradient it fills half of a 1 MiB second-level cache.
pub(super) const BLOCK: i64 = 64 * 1024;
/// Rows whose column sums are added up in the element type before float64 takes over, and the most
/// rows of a block: with 64 a step of 256² takes 85 µs instead of 59, since each block takes some
/// ten operations of a microsecond.
const FOLD_ROWS: i64 = 256;

/// An element type that the arithmetic runs in.
pub(super) trait Native: Element + tch::kind::Element {
    /// Factors and their products are proved to lie between 1/LIMIT and LIMIT.
    const LIMIT: f64;
}

impl Native for f32 {
    const LIMIT: f64 = 1e36;
}

impl Native for f64 {
    const LIMIT: f64 = 1e290;
}

/// A stack of matrices of shape `[batches, rows, columns]`, contiguous in host memory.
pub(super) struct Matrices<'a> {
    pub(super) parameter: &'a Tensor,
    pub(super) gradient: &'a Tensor,
    pub(super) clip: &'a Clip,
    pub(super) row: &'a mut Tensor,
    pub(super) column: &'a mut Tensor,
    pub(super) kind: Kind,
}

/// Host copies of the factors of one matrix.
#[derive(Debug, Default)]
struct Factors<T> {
    row: Vec<T>,
    column: Vec<T>,
    row_mean: f64,
}

/// Updates parameter and factors; `Ok(false)` and nothing written where the proof fails.
pub(super) fn step<T: Native>(
    matrices: &mut Matrices<'_>,
    scalars: &AdafactorScalars,
    parameter_squares: f64,
    scratch: &mut Scratch,
) -> Result<bool, TchError> {
    let (batches, rows, columns) = matrices.gradient.size3()?;
    let mut factors = Vec::with_capacity(usize::try_from(batches).unwrap_or(0));
    let mut update_squares = 0.0;
    let old_row: Vec<T> = read(matrices.row)?;
    let old_column: Vec<T> = read(matrices.column)?;
    let mut old_row = old_row.chunks_exact(usize::try_from(rows).unwrap_or(1));
    let mut old_column = old_column.chunks_exact(usize::try_from(columns).unwrap_or(1));
    for batch in 0..batches {
        let (Some(row), Some(column)) = (old_row.next(), old_column.next()) else {
            return Ok(false);
        };
        let gradient = matrices.gradient.f_select(0, batch)?;
        let sums = statistics(&gradient, matrices, row, scalars, scratch)?;
        let Some((found, squares)) = prove(sums, column, rows, scalars) else { return Ok(false) };
        update_squares += squares;
        factors.push(found);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of elements")]
    let elements = (batches * rows * columns) as f64;
    let Some(step_size) = step_size::<T>(parameter_squares, update_squares, elements, scalars)
    else {
        return Ok(false);
    };
    for (batch, found) in (0..batches).zip(&factors) {
        write(matrices.row, batch, rows, &found.row)?;
        write(matrices.column, batch, columns, &found.column)?;
        apply(matrices, batch, found, step_size, scratch)?;
    }
    Ok(true)
}

/// Row factors of one matrix and the sums over its rows.
struct Sums<T> {
    row: Vec<T>,
    /// `Σ_rows g²`.
    squares: Vec<f64>,
    /// `Σ_rows g² / r`.
    weighted: Vec<f64>,
}

fn statistics<T: Native>(
    gradient: &Tensor,
    matrices: &Matrices<'_>,
    old_row: &[T],
    scalars: &AdafactorScalars,
    scratch: &mut Scratch,
) -> Result<Sums<T>, TchError> {
    let (rows, columns) = gradient.size2()?;
    let width = usize::try_from(columns).unwrap_or(0);
    let ones =
        Tensor::f_ones([columns.max(block_rows(columns, rows))], (matrices.kind, Device::Cpu))?;
    let across = ones.f_narrow(0, 0, columns)?;
    #[expect(clippy::cast_precision_loss, reason = "a count of columns")]
    let per_column = 1.0 / columns as f64;
    let mut sums = Sums {
        row: Vec::with_capacity(old_row.len()),
        squares: vec![0.0; width],
        weighted: vec![0.0; width],
    };
    let mut inverse: Vec<T> = Vec::new();
    let mut block_sums: Vec<T> = Vec::new();
    let mut fold: Option<(Tensor, Tensor, i64)> = None;
    for (start, length) in blocks(rows, columns) {
        let part = gradient.f_narrow(0, start, length)?;
        let part = prepared(&part, matrices, scratch)?;
        let squares = scratch.take(Use::Update, &[length, columns], matrices.kind, Device::Cpu)?;
        let _squares = part.f_mul_out(&squares, &part)?;
        block_sums.resize(usize::try_from(length).unwrap_or(0), T::default());
        let count = block_sums.len();
        squares.f_mv(&across)?.f_copy_data(&mut block_sums, count)?;
        inverse.clear();
        let old = &old_row[sums.row.len()..];
        for (sum, old) in block_sums.iter().zip(old) {
            let mean = sum.to_f64() * per_column + scalars.epsilon_1;
            let new =
                T::round_from(scalars.beta_2 * old.to_f64() + scalars.one_minus_beta_2 * mean);
            sums.row.push(new);
            inverse.push(T::round_from(1.0 / new.to_f64()));
        }
        let inverse = Tensor::f_from_slice(&inverse)?;
        // `sum` adds up in a cascade. A matrix-vector product adds row after row, which cost `c` of a
        // periodic 1026 × 640 gradient 25 epsilon; it is good enough for W, which only enters rms(u).
        let plain = squares.f_sum_dim_intlist([0].as_slice(), false, None)?;
        let transposed = squares.f_tr()?;
        fold = Some(match fold {
            None => (plain, transposed.f_mv(&inverse)?, length),
            Some((mut sum, mut weighted, so_far)) => {
                let _sum = sum.f_add_(&plain)?;
                let _weighted = weighted.f_addmv_(&transposed, &inverse)?;
                (sum, weighted, so_far + length)
            }
        });
        if let Some((plain, weighted, folded)) = &fold
            && (*folded >= FOLD_ROWS || start + length == rows)
        {
            add::<T>(&mut sums.squares, plain)?;
            add::<T>(&mut sums.weighted, weighted)?;
            fold = None;
        }
    }
    Ok(sums)
}

/// The new factors and `Σu²` of a matrix, unless a factor or product might leave the normal range.
fn prove<T: Native>(
    sums: Sums<T>,
    old_column: &[T],
    rows: i64,
    scalars: &AdafactorScalars,
) -> Option<(Factors<T>, f64)> {
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let per_row = 1.0 / rows as f64;
    let Sums { row, squares, weighted } = sums;
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let row_mean = T::round_from(row.iter().map(|r| r.to_f64()).sum::<f64>() / row.len() as f64);
    let row_mean = row_mean.to_f64();
    let mut column = Vec::with_capacity(squares.len());
    let mut update_squares = 0.0;
    for ((sum, weight), old) in squares.iter().zip(&weighted).zip(old_column) {
        let mean = sum * per_row + scalars.epsilon_1;
        let new = scalars.beta_2 * old.to_f64() + scalars.one_minus_beta_2 * mean;
        let new = T::round_from(new);
        update_squares += weight / new.to_f64();
        column.push(new);
    }
    let (row_low, row_high) = extremes(&row)?;
    let (column_low, column_high) = extremes(&column)?;
    let (ratio_low, ratio_high) = (row_low / row_mean, row_high / row_mean);
    let within = |value: f64| value >= 1.0 / T::LIMIT && value <= T::LIMIT;
    let all = [row_low, row_high, row_mean, column_low, column_high, ratio_low, ratio_high];
    // The last is what the `g² / r` of a column are at least about, which `weighted` sums.
    let products = [ratio_low * column_low, ratio_high * column_high, column_low / row_mean];
    let update_squares = update_squares * row_mean;
    (all.into_iter().chain(products).all(within) && update_squares.is_finite())
        .then_some((Factors { row, column, row_mean }, update_squares))
}

/// The smallest and the largest value; nothing if there is none or one is NaN.
fn extremes<T: Native>(values: &[T]) -> Option<(f64, f64)> {
    let mut found: Option<(f64, f64)> = None;
    for value in values {
        let value = value.to_f64();
        if value.is_nan() {
            return None;
        }
        let (low, high) = found.unwrap_or((value, value));
        found = Some((low.min(value), high.max(value)));
    }
    found
}

/// `α / max(1, rms(u)/d)`, unless the parameter holds something that is not finite or the result
/// leaves the normal range.
fn step_size<T: Native>(
    parameter_squares: f64,
    update_squares: f64,
    elements: f64,
    scalars: &AdafactorScalars,
) -> Option<f64> {
    let parameter_squares = T::round_from(parameter_squares).to_f64();
    let scale = (parameter_squares / elements).sqrt().max(scalars.epsilon_2);
    let update_rms = (update_squares / elements).sqrt();
    let step_size =
        scale * scalars.relative_step_size / (update_rms / scalars.clip_threshold).max(1.0);
    let usable = parameter_squares.is_finite()
        && (step_size.abs() >= 1.0 / T::LIMIT && step_size.abs() <= T::LIMIT);
    usable.then_some(step_size)
}

fn apply<T: Native>(
    matrices: &Matrices<'_>,
    batch: i64,
    factors: &Factors<T>,
    step_size: f64,
    scratch: &mut Scratch,
) -> Result<(), TchError> {
    let gradient = matrices.gradient.f_select(0, batch)?;
    let parameter = matrices.parameter.f_select(0, batch)?;
    let (rows, columns) = gradient.size2()?;
    let row_scale = |r: &T| T::round_from(-step_size * (factors.row_mean / r.to_f64()).sqrt());
    let column_scale = |c: &T| T::round_from(1.0 / c.to_f64().sqrt());
    let row: Vec<T> = factors.row.iter().map(row_scale).collect();
    let column: Vec<T> = factors.column.iter().map(column_scale).collect();
    let row = Tensor::f_from_slice(&row)?.f_unsqueeze(1)?;
    let column = Tensor::f_from_slice(&column)?;
    let native = parameter.f_kind()? == matrices.kind;
    // A subnormal element counts as 0. Otherwise it moves a parameter by less than 1e-22·α, which only
    // one of 0 shows: from two blocks on not worth the time, some 1.1 to 1.2 of the step at 1024².
    // `statistics` does without: the squares are 0 anyway.
    let flushes = block_rows(columns, rows) >= rows;
    for (start, length) in blocks(rows, columns) {
        let part = gradient.f_narrow(0, start, length)?;
        let part = prepared(&part, matrices, scratch)?;
        let shape = [length, columns];
        let mut update = scratch.take(Use::Update, &shape, matrices.kind, Device::Cpu)?;
        if flushes {
            flush_into(&update, &part, largest_subnormal(matrices.kind))?;
            let _update = update.f_mul_(&column)?;
        } else {
            let _update = part.f_mul_out(&update, &column)?;
        }
        let row = row.f_narrow(0, start, length)?;
        let mut target = parameter.f_narrow(0, start, length)?;
        if native {
            let _target = target.f_addcmul_(&update, &row)?;
        } else {
            let mut wide = scratch.take(Use::Parameter, &shape, matrices.kind, Device::Cpu)?;
            wide.f_copy_(&target)?;
            let _wide = wide.f_addcmul_(&update, &row)?;
            target.f_copy_(&wide)?;
        }
    }
    Ok(())
}

/// A block of the gradient, clipped and in the type of the arithmetic.
fn prepared(
    part: &Tensor,
    matrices: &Matrices<'_>,
    scratch: &mut Scratch,
) -> Result<Tensor, TchError> {
    if matrices.clip.keeps(part, matrices.kind)? {
        return Ok(part.shallow_clone());
    }
    let out = scratch.take(Use::Clipped, &part.size(), matrices.kind, Device::Cpu)?;
    matrices.clip.apply(part, matrices.kind, Some(out))
}

fn block_rows(columns: i64, rows: i64) -> i64 {
    (BLOCK / columns.max(1)).clamp(1, rows.clamp(1, FOLD_ROWS))
}

/// Start and length of each block of rows.
fn blocks(rows: i64, columns: i64) -> impl Iterator<Item = (i64, i64)> {
    let length = block_rows(columns, rows);
    let mut start = 0;
    std::iter::from_fn(move || {
        let block = (start < rows).then(|| (start, length.min(rows - start)));
        start += length;
        block
    })
}

fn read<T: Native>(tensor: &Tensor) -> Result<Vec<T>, TchError> {
    let count = tensor.numel();
    let mut values = vec![T::default(); count];
    tensor.f_copy_data(&mut values, count)?;
    Ok(values)
}

fn write<T: Native>(
    factor: &mut Tensor,
    batch: i64,
    length: i64,
    values: &[T],
) -> Result<(), TchError> {
    let values = Tensor::f_from_slice(values)?;
    factor.f_view([-1, length])?.f_select(0, batch)?.f_copy_(&values)
}

fn add<T: Native>(sums: &mut [f64], partial: &Tensor) -> Result<(), TchError> {
    let partial: Vec<T> = read(partial)?;
    for (sum, value) in sums.iter_mut().zip(partial) {
        *sum += value.to_f64();
    }
    Ok(())
}
