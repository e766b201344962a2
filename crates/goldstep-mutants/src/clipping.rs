//! What happens to gradients before the update, and the mistakes that are made there.

use goldstep_conformance::GradientValues;
use goldstep_core::{AdafactorArguments, AdafactorScalars, GradientClipping, Parameter};

use crate::Mistake;
use crate::arithmetic::Arithmetic;

/// A gradient as it travels: values, and the rows they belong to if it is sparse.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) indices: Option<Vec<i64>>,
    pub(crate) values: Vec<f64>,
}

/// Clips all gradients of a step.
pub(crate) fn clip(
    gradients: &mut [Option<Rows>],
    arguments: &AdafactorArguments,
    s: &AdafactorScalars,
    a: Arithmetic,
) {
    let m = a.mistake;
    let value = arguments.clipvalue().filter(|value| *value > 0.0).map(|value| a.round(value));
    match (s.clipping, value) {
        (GradientClipping::Value(_), _) if m == Mistake::ClipvalueIgnored => {}
        (_, Some(value)) if m == Mistake::ClipvalueFirst => by_value(gradients, value, a),
        (GradientClipping::Value(value), _) => by_value(gradients, value, a),
        (GradientClipping::Norm(norm), _) => match m {
            Mistake::ClipnormIgnored | Mistake::ClipnormOnUpdate => {}
            Mistake::ClipnormAsGlobal => by_global_norm(gradients, norm, a),
            _ => gradients.iter_mut().flatten().for_each(|g| by_norm(&mut g.values, norm, a)),
        },
        (GradientClipping::GlobalNorm(norm), _) => match m {
            Mistake::GlobalClipnormIgnored => {}
            Mistake::GlobalClipnormPerTensor => {
                gradients.iter_mut().flatten().for_each(|g| by_norm(&mut g.values, norm, a));
            }
            _ => by_global_norm(gradients, norm, a),
        },
        (GradientClipping::Off, _) => {}
    }
    match (s.clipping, value) {
        (GradientClipping::Norm(_) | GradientClipping::GlobalNorm(_), Some(value))
            if m == Mistake::BothClipsApplied =>
        {
            by_value(gradients, value, a);
        }
        _ => {}
    }
    if m == Mistake::ClipnormZeroClips && arguments.clipnorm().is_some_and(|norm| norm <= 0.0) {
        gradients.iter_mut().flatten().for_each(|g| g.values.fill(0.0));
    }
}

/// `tf.clip_by_norm`.
pub(crate) fn by_norm(values: &mut [f64], limit: f64, a: Arithmetic) {
    let sum = match a.mistake {
        Mistake::ClipnormOfRms => a.mean(values.iter().map(|x| a.times(*x, *x)), values.len()),
        _ => a.sum(values.iter().map(|x| a.times(*x, *x))),
    };
    // Not above 0: zero, or NaN, which goes on as the norm.
    let mut length = if sum > 0.0 { a.round(sum.sqrt()) } else { sum };
    if a.mistake == Mistake::ClipnormPlusEpsilon {
        length = a.round(length + a.round(1e-6));
    }
    let divisor = match a.mistake {
        Mistake::ClipnormScalesUp if length > 0.0 => length,
        _ => a.max(length, limit),
    };
    for value in values {
        *value = match a.mistake {
            Mistake::ClipByFactor => a.times(*value, a.min(1.0, a.round(limit / length))),
            _ => a.round(a.times(*value, limit) / divisor),
        };
    }
}

/// `tf.clip_by_global_norm`.
fn by_global_norm(gradients: &mut [Option<Rows>], limit: f64, a: Arithmetic) {
    let present = || gradients.iter().flatten();
    let length = match a.mistake {
        Mistake::GlobalClipnormSumsNorms => {
            a.round(present().map(|gradient| a.norm(&gradient.values)).sum())
        }
        _ => {
            let half = |gradient: &Rows| {
                a.round(a.sum(gradient.values.iter().map(|x| a.times(*x, *x))) / 2.0)
            };
            let halves: Vec<f64> = present().map(half).collect();
            a.round(a.times(a.sum(halves.into_iter()), 2.0).sqrt())
        }
    };
    let inverse = match a.mistake {
        Mistake::GlobalClipnormScalesUp => a.round(1.0 / length),
        _ => a.min(a.round(1.0 / length), a.round(1.0 / limit)),
    };
    #[expect(clippy::eq_op, reason = "0, or NaN for an infinite or NaN norm, as in TensorFlow")]
    let defect = length - length;
    let scale = a.round(a.times(limit, inverse) + defect);
    for value in gradients.iter_mut().flatten().flat_map(|gradient| &mut gradient.values) {
        *value = a.times(*value, scale);
    }
}

fn by_value(gradients: &mut [Option<Rows>], limit: f64, a: Arithmetic) {
    for value in gradients.iter_mut().flatten().flat_map(|gradient| &mut gradient.values) {
        if a.mistake != Mistake::ClipvalueLowerOnly {
            *value = a.min(*value, limit);
        }
        if a.mistake != Mistake::ClipvalueUpperOnly {
            *value = a.max(*value, -limit);
        }
    }
}

impl Rows {
    /// The gradient as a kernel reads it.
    pub(crate) fn read(gradient: &GradientValues, parameter: &Parameter, a: Arithmetic) -> Self {
        let values = |values: &[f64]| values.iter().map(|value| a.round(*value)).collect();
        match gradient {
            GradientValues::Dense(dense) => Self { indices: None, values: values(dense) },
            GradientValues::Sparse { indices, values: rows } => {
                let rows = Self { indices: Some(indices.clone()), values: values(rows) };
                match a.mistake {
                    Mistake::SparseNegativeDroppedFirst => {
                        let width = parameter.row_elements();
                        let kept = |position: &usize| indices[*position] >= 0;
                        let kept: Vec<usize> = (0..indices.len()).filter(kept).collect();
                        let row = |at: &usize| &rows.values[at * width..(at + 1) * width];
                        Self {
                            indices: Some(kept.iter().map(|at| indices[*at]).collect()),
                            values: kept.iter().flat_map(row).copied().collect(),
                        }
                    }
                    Mistake::SparseMergedFirst => {
                        Self { indices: None, values: rows.densify(parameter, a) }
                    }
                    _ => rows,
                }
            }
        }
    }

    /// The gradient in the parameter's shape.
    pub(crate) fn densify(&self, parameter: &Parameter, a: Arithmetic) -> Vec<f64> {
        let Some(indices) = &self.indices else { return self.values.clone() };
        let width = parameter.row_elements();
        let height = parameter.shape().first().copied().unwrap_or(0);
        let mut dense = vec![0.0; parameter.elements()];
        for (position, index) in indices.iter().enumerate() {
            let Some(row) = Self::row(*index, height, a.mistake) else { continue };
            let share = match a.mistake {
                Mistake::SparseAveraged => indices.iter().filter(|other| *other == index).count(),
                _ => 1,
            };
            #[expect(clippy::cast_precision_loss, reason = "a handful of duplicates")]
            let share = share as f64;
            for column in 0..width {
                let value = a.round(self.values[position * width + column] / share);
                let element = &mut dense[row * width + column];
                *element = match a.mistake {
                    Mistake::SparseLastWins => value,
                    _ => a.round(*element + value),
                };
            }
        }
        dense
    }

    /// Which elements of the parameter the gradient names.
    pub(crate) fn touches(&self, parameter: &Parameter, element: usize) -> bool {
        let Some(indices) = &self.indices else { return true };
        let row = element / parameter.row_elements().max(1);
        indices.iter().any(|index| usize::try_from(*index) == Ok(row))
    }

    fn row(index: i64, height: usize, mistake: Mistake) -> Option<usize> {
        if mistake == Mistake::SparseNegativeWraps && index < 0 {
            return height.checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
        }
        usize::try_from(index).ok()
    }
}
