//! Sums of squares that keep their digits.

use tch::{Device, Kind, TchError, Tensor};

/// Values that are summed in the element type before float64 takes over. libtorch's `norm` of a
/// whole float32 tensor is off by 1e-3 at 4096²; a test below holds the norms of rows of this
/// length, added up in float64, to half an ulp at 3 million elements.
const ROW: i64 = 512;
/// Up to this many values one `dot` does, which runs over more accumulators than `norm`.
const SINGLE: i64 = 4096;

/// `Σ x²` as a tensor without axes in the element type of `x` (infinite where the sum leaves its
/// range, as in Keras), on the device of `x`.
///
/// With `flush`, squares below the normal range count as zero; that takes a copy of `x`.
pub(crate) fn sum_of_squares(x: &Tensor, flush: Option<f64>) -> Result<Tensor, TchError> {
    let kind = x.f_kind()?;
    if let Some(largest_subnormal) = flush {
        let mut squares = x.f_mul(x)?;
        let _flushed = squares.f_threshold_(largest_subnormal, 0.0)?;
        return squares.f_sum(Kind::Double)?.f_to_kind(kind);
    }
    let (rows, tail) = split(x)?;
    let double_sum = |parts: &Tensor| -> Result<Tensor, TchError> {
        let parts = parts.f_to_kind(Kind::Double)?;
        parts.f_dot(&parts)
    };
    let sum = match rows {
        Some(rows) => {
            let sum = double_sum(&rows.f_norm_scalaropt_dim(2.0, [-1], false)?)?;
            sum.f_add(&tail.f_dot(&tail)?.f_to_kind(Kind::Double)?)?
        }
        None => return tail.f_dot(&tail),
    };
    sum.f_to_kind(kind)
}

/// `Σ x²` of a tensor in host memory, without the rounding to its type.
pub(super) fn sum_of_squares_on_host(x: &Tensor) -> Result<f64, TchError> {
    debug_assert_eq!(x.device(), Device::Cpu);
    let (rows, tail) = split(x)?;
    let tail = tail.f_dot(&tail)?.f_double_value(&[])?;
    let Some(rows) = rows else { return Ok(tail) };
    let norms = rows.f_norm_scalaropt_dim(2.0, [-1], false)?;
    let count = norms.numel();
    let squares = if norms.f_kind()? == Kind::Double {
        let mut values = vec![0.0_f64; count];
        norms.f_copy_data(&mut values, count)?;
        values.iter().map(|norm| norm * norm).sum::<f64>()
    } else {
        let mut values = vec![0.0_f32; count];
        norms.f_copy_data(&mut values, count)?;
        values.iter().map(|norm| f64::from(*norm) * f64::from(*norm)).sum()
    };
    Ok(squares + tail)
}

/// Rows of [`ROW`] elements, if there are more than a `dot` does, and the elements after them.
fn split(x: &Tensor) -> Result<(Option<Tensor>, Tensor), TchError> {
    let flat = x.f_reshape([-1])?;
    let elements = i64::try_from(flat.numel()).unwrap_or(i64::MAX);
    if elements <= SINGLE {
        return Ok((None, flat));
    }
    let rows = elements / ROW;
    let body = flat.f_narrow(0, 0, rows * ROW)?.f_view([rows, ROW])?;
    let tail = flat.f_narrow(0, rows * ROW, elements - rows * ROW)?;
    Ok((Some(body), tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn large_sums_keep_their_digits() {
        tch::manual_seed(1);
        let x = Tensor::randn([3_000_017], F32);
        let exact = x.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
        let on_host = sum_of_squares_on_host(&x).unwrap();
        let on_device = sum_of_squares(&x, None).unwrap().double_value(&[]);
        let flushing = sum_of_squares(&x, Some(1e-38)).unwrap().double_value(&[]);
        assert!((on_host / exact - 1.0).abs() < 6e-8, "{on_host} {exact}");
        for rounded in [on_device, flushing] {
            assert!((rounded / exact - 1.0).abs() < 1e-7, "{rounded} {exact}");
        }
    }

    #[test]
    fn empty_and_small_tensors_have_sums() {
        let empty = Tensor::zeros([0, 3], F32);
        assert!(sum_of_squares_on_host(&empty).unwrap().abs() < f64::MIN_POSITIVE);
        let scalar = Tensor::full([] as [i64; 0], 3.0, F32);
        assert!((sum_of_squares(&scalar, None).unwrap().double_value(&[]) - 9.0).abs() < 1e-6);
        assert!((sum_of_squares_on_host(&scalar).unwrap() - 9.0).abs() < 1e-6);
    }

    #[test]
    fn squares_below_the_normal_range_are_flushed_on_request() {
        let x = Tensor::full([5000], 1e-20, F32);
        let limit = f64::from(f32::MIN_POSITIVE.next_down());
        let flushed = sum_of_squares(&x, Some(limit)).unwrap().double_value(&[]);
        assert!(flushed.abs() < f64::MIN_POSITIVE);
    }
}
