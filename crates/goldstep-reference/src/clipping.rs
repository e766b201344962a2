//! What happens to gradients before the update: clipping, then rows to a dense tensor.

use goldstep_core::{Element, Gradient, GradientClipping};

use crate::real::Real;

/// A gradient as it travels: values, and the rows they belong to if it is sparse.
pub(crate) struct Clipped<'a, T> {
    indices: Option<&'a [i64]>,
    values: Vec<Real<T>>,
}

/// Clips all gradients of a step. Rows are clipped as they come, duplicates not yet summed.
///
/// `tf.clip_by_norm`, `tf.clip_by_global_norm`, `tf.clip_by_value`, operation by operation.
pub(crate) fn clip<'a, T: Element>(
    gradients: &[Option<Gradient<'a, T>>],
    clipping: GradientClipping,
) -> Vec<Option<Clipped<'a, T>>> {
    let mut clipped: Vec<_> = gradients.iter().map(|gradient| gradient.map(read)).collect();
    let present = clipped.iter_mut().flatten();
    match clipping {
        GradientClipping::Off => {}
        GradientClipping::Norm(norm) => present.for_each(|g| by_norm(&mut g.values, norm)),
        GradientClipping::GlobalNorm(norm) => {
            by_global_norm(&mut present.collect::<Vec<_>>(), norm)
        }
        GradientClipping::Value(value) => present.for_each(|g| by_value(&mut g.values, value)),
    }
    clipped
}

impl<T: Element> Clipped<'_, T> {
    /// The gradient in the parameter's shape: duplicates are summed in the order in which they
    /// come, rows that do not occur are zero, negative indices are dropped.
    pub(crate) fn densify(self, elements: usize, row_elements: usize) -> Vec<Real<T>> {
        let Some(indices) = self.indices else { return self.values };
        let mut dense = vec![Real::default(); elements];
        for (position, index) in indices.iter().enumerate() {
            let Ok(row) = usize::try_from(*index) else { continue };
            for column in 0..row_elements {
                let element = &mut dense[row * row_elements + column];
                *element = *element + self.values[position * row_elements + column];
            }
        }
        dense
    }
}

fn read<T: Element>(gradient: Gradient<'_, T>) -> Clipped<'_, T> {
    let (indices, values) = match gradient {
        Gradient::Dense(values) => (None, values),
        Gradient::Sparse { indices, values } => (Some(indices), values),
    };
    Clipped { indices, values: values.iter().map(|value| Real::read(*value)).collect() }
}

fn by_norm<T: Element>(values: &mut [Real<T>], norm: f64) {
    let limit = Real::round(norm);
    let sum = Real::sum(values.iter().map(|value| value.square()));
    // Not above 0: zero, or NaN, which goes on as the norm.
    let length = if sum.to_f64() > 0.0 { sum.sqrt() } else { sum };
    for value in values {
        *value = *value * limit / length.max(limit);
    }
}

fn by_global_norm<T: Element>(gradients: &mut [&mut Clipped<'_, T>], norm: f64) {
    let (one, two) = (Real::round(1.0), Real::round(2.0));
    let half_square = |gradient: &&mut Clipped<'_, T>| {
        Real::sum(gradient.values.iter().map(|value| value.square())) / two
    };
    let length = (Real::sum(gradients.iter().map(half_square)) * two).sqrt();
    let limit = Real::round(norm);
    #[expect(clippy::eq_op, reason = "0, or NaN for an infinite or NaN norm, as in TensorFlow")]
    let defect = length - length;
    let scale = limit * (one / length).min(one / limit) + defect;
    for value in gradients.iter_mut().flat_map(|gradient| &mut gradient.values) {
        *value = *value * scale;
    }
}

fn by_value<T: Element>(values: &mut [Real<T>], limit: f64) {
    let limit = Real::round(limit);
    for value in values {
        *value = value.min(limit).max(-limit);
    }
}
