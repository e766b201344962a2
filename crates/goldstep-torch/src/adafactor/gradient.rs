//! Gradients: dense or rows, and their clipping.

use goldstep_core::{Error, GradientClipping, Parameter};
use tch::{Device, Kind, TchError, Tensor};

use super::is_dense;
use super::scratch::{Scratch, Use};
use super::sums::sum_of_squares;
use crate::error::Context;

/// What is said of a tensor that is neither dense nor COO: sparse in another way, or oneDNN's.
const OTHER_LAYOUT: &str = "a tensor of another layout";

/// The gradient of one parameter in one step, of the parameter's kind and on its device.
///
/// `None` in the list of a step means that there is none.
#[derive(Debug)]
pub enum Gradient {
    /// One value per element, in the parameter's shape; or a sparse COO tensor of that shape.
    Tensor(Tensor),
    /// Rows of the parameter, as TensorFlow's `IndexedSlices`: rows that occur more than once are
    /// summed after clipping, negative indices are dropped, all other rows have gradient zero.
    Rows {
        /// Row numbers along the first axis: int64, shape `[rows]`.
        indices: Tensor,
        /// Shape `[rows] + shape[1..]`.
        values: Tensor,
    },
}

impl From<Tensor> for Gradient {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// A gradient that has been checked, still unclipped.
#[derive(Debug)]
pub(super) enum Checked {
    Dense(Tensor),
    /// COO indices of shape `[sparse axes, entries]` and their values.
    Sparse {
        indices: Tensor,
        values: Tensor,
    },
}

/// What happens to each element of a gradient before it is used.
#[derive(Debug)]
pub(super) enum Clip {
    None,
    /// Limits to `[−value, value]`.
    Value(f64),
    /// Multiplies, then divides; tensors without axes.
    Scale {
        factor: Tensor,
        divisor: Option<Tensor>,
    },
}

impl Checked {
    /// Checks a gradient against the parameter `tensor` that it belongs to.
    pub(super) fn new(
        gradient: &Gradient,
        parameter: &Parameter,
        tensor: &Tensor,
    ) -> Result<Self, Error> {
        let name = parameter.name();
        let wrong = |rule: String, got: String| {
            Err(Error::Tensor { what: "gradient", name: name.to_owned(), rule, got })
        };
        let values = match gradient {
            Gradient::Tensor(values) | Gradient::Rows { values, .. } => values,
        };
        if !values.defined() {
            return wrong("be a defined tensor".into(), "an undefined one".into());
        }
        let kind = values.f_kind().on("kind of the gradient", name)?;
        if kind != tensor.kind() {
            return wrong(format!("be of kind {:?}", tensor.kind()), format!("{kind:?}"));
        }
        if values.device() != tensor.device() {
            return wrong(format!("be on {:?}", tensor.device()), format!("{:?}", values.device()));
        }
        let Gradient::Tensor(values) = gradient else {
            return Self::from_rows(gradient, parameter, tensor);
        };
        if !values.is_sparse() && !is_dense(values) {
            return wrong("be dense or sparse COO".into(), OTHER_LAYOUT.into());
        }
        same_shape(parameter, values, parameter.shape())?;
        if values.is_sparse() {
            // The parts as they are: summing duplicates comes after clipping.
            let indices = values.f_internal_indices().on("indices of the gradient", name)?;
            let values = values.f_internal_values().on("values of the gradient", name)?;
            Ok(Self::Sparse { indices, values })
        } else {
            Ok(Self::Dense(values.shallow_clone()))
        }
    }

    fn from_rows(
        gradient: &Gradient,
        parameter: &Parameter,
        tensor: &Tensor,
    ) -> Result<Self, Error> {
        let Gradient::Rows { indices, values } = gradient else {
            return Err(Error::NoGradients { parameters: 1 });
        };
        let name = parameter.name();
        let wrong = |rule: &str, got: String| {
            Err(Error::Tensor { what: "gradient", name: name.into(), rule: rule.into(), got })
        };
        let [rows, row @ ..] = parameter.shape() else {
            return wrong("be dense for a scalar", "rows".into());
        };
        if !indices.defined() || indices.kind() != Kind::Int64 || indices.dim() != 1 {
            let got = if indices.defined() {
                format!("{:?} {:?}", indices.kind(), indices.size())
            } else {
                "an undefined tensor".to_owned()
            };
            return wrong("have row indices of kind Int64 and one axis", got);
        }
        if !is_dense(indices) || !is_dense(values) {
            return wrong("have dense rows and row indices", OTHER_LAYOUT.into());
        }
        if indices.device() != tensor.device() {
            return wrong("have row indices on its device", format!("{:?}", indices.device()));
        }
        let shape: Vec<usize> =
            std::iter::once(indices.numel()).chain(row.iter().copied()).collect();
        same_shape(parameter, values, &shape)?;
        if indices.numel() > 0 {
            let largest = indices.f_max().and_then(|largest| largest.f_int64_value(&[]));
            let index = largest.on("row indices", name)?;
            if usize::try_from(index).is_ok_and(|index| index >= *rows) {
                return Err(Error::RowIndex { name: name.into(), rows: *rows, index });
            }
        }
        let indices = indices.f_unsqueeze(0).on("row indices", name)?;
        Ok(Self::Sparse { indices, values: values.shallow_clone() })
    }

    /// The values as they came: duplicates unsummed.
    fn values(&self) -> &Tensor {
        match self {
            Self::Dense(values) | Self::Sparse { values, .. } => values,
        }
    }

    /// The gradient in the parameter's shape and what is still to be done to its elements. Rows are
    /// clipped and summed in `kind`, the type of the arithmetic.
    pub(super) fn into_dense(
        self,
        clip: Clip,
        shape: &[i64],
        kind: Kind,
        scratch: &mut Scratch,
    ) -> Result<(Tensor, Clip), TchError> {
        match self {
            Self::Dense(values) => Ok((values, clip)),
            Self::Sparse { indices, values } => {
                let mut clipped = clip.apply(&values, kind, None)?;
                let mut dense = scratch.take(Use::Gradient, shape, kind, values.device())?;
                let _zeros = dense.f_zero_()?;
                let (axes, _) = indices.size2()?;
                let (row, columns) = flat_indices(&indices, axes, shape)?;
                // An empty parameter may have rows without elements, or indices below 0 and no row.
                if clipped.numel() > 0 && dense.numel() > 0 {
                    let mut rows = dense.f_view([-1, columns])?;
                    // Rows below 0 become zeros that are added to row 0.
                    let dropped = row.f_lt(0)?.f_unsqueeze(1)?;
                    clipped = clipped.f_reshape([-1, columns])?.f_masked_fill(&dropped, 0.0)?;
                    let _sum = rows.f_index_add_(0, &row.f_clamp_min(0)?, &clipped)?;
                }
                Ok((dense, Clip::None))
            }
        }
    }
}

/// The row of each entry when the first `axes` axes are one, and the length of a row.
fn flat_indices(indices: &Tensor, axes: i64, shape: &[i64]) -> Result<(Tensor, i64), TchError> {
    let mut flat = indices.f_select(0, 0)?;
    let leading = usize::try_from(axes).unwrap_or(1).min(shape.len());
    for (axis, length) in shape.iter().enumerate().take(leading).skip(1) {
        let index = indices.f_select(0, i64::try_from(axis).unwrap_or(0))?;
        flat = flat.f_mul_scalar(*length)?.f_add(&index)?;
    }
    Ok((flat, shape[leading..].iter().product()))
}

fn same_shape(parameter: &Parameter, values: &Tensor, expected: &[usize]) -> Result<(), Error> {
    let got: Vec<usize> =
        values.size().into_iter().map(|axis| usize::try_from(axis).unwrap_or(0)).collect();
    if got == expected {
        return Ok(());
    }
    let name = parameter.name().to_owned();
    Err(Error::Shape { what: "gradient", name, expected: expected.to_vec(), got })
}

impl Clip {
    /// The clip of one gradient; `global` is the scale of all of them, if that is how they clip.
    pub(super) fn of(
        clipping: GradientClipping,
        gradient: &Checked,
        global: Option<&Tensor>,
        kind: Kind,
    ) -> Result<Self, TchError> {
        match clipping {
            GradientClipping::Off => Ok(Self::None),
            GradientClipping::Value(value) => Ok(Self::Value(value)),
            GradientClipping::GlobalNorm(_) => match global {
                Some(scale) => Ok(Self::Scale { factor: scale.f_to_kind(kind)?, divisor: None }),
                None => Ok(Self::None),
            },
            GradientClipping::Norm(limit) => {
                // Keras: g · limit / max(norm, limit).
                let device = gradient.values().device();
                let limit = Tensor::f_full([] as [i64; 0], limit, (kind, device))?;
                let norm = widened(gradient.values())
                    .and_then(|values| sum_of_squares(&values, None)?.f_sqrt())?;
                let divisor = norm.f_to_kind(kind)?.f_maximum(&limit)?;
                Ok(Self::Scale { factor: limit, divisor: Some(divisor) })
            }
        }
    }

    /// The scale that brings all gradients together to the norm `limit`, as
    /// `tf.clip_by_global_norm`: `limit · min(1/N, 1/limit) + (N − N)`, NaN for an infinite `N`.
    pub(super) fn global_scale(
        gradients: &[Option<Checked>],
        limit: f64,
        device: Device,
    ) -> Result<Tensor, TchError> {
        let scalar = |value: f64| Tensor::f_full([] as [i64; 0], value, (Kind::Double, device));
        let mut total = scalar(0.0)?;
        let mut widest = Kind::Float;
        for gradient in gradients.iter().flatten() {
            let values = widened(gradient.values())?;
            if values.f_kind()? == Kind::Double {
                widest = Kind::Double;
            }
            let sum = sum_of_squares(&values, None)?.f_to_kind(Kind::Double)?;
            total = total.f_add(&sum)?;
        }
        // Infinite where Keras's sum in the gradients' own type is.
        let norm = total.f_to_kind(widest)?.f_sqrt()?.f_to_kind(Kind::Double)?;
        let limit = scalar(limit)?;
        let scale = norm.f_reciprocal()?.f_minimum(&limit.f_reciprocal()?)?.f_mul(&limit)?;
        scale.f_add(&norm.f_sub(&norm)?)
    }

    /// Whether elements come out as they went in, in `kind`.
    pub(super) fn keeps(&self, values: &Tensor, kind: Kind) -> Result<bool, TchError> {
        Ok(matches!(self, Self::None) && values.f_kind()? == kind)
    }

    /// The clipped values in `kind`; written to `out` where something changes and `out` is given.
    pub(super) fn apply(
        &self,
        values: &Tensor,
        kind: Kind,
        out: Option<Tensor>,
    ) -> Result<Tensor, TchError> {
        if self.keeps(values, kind)? {
            return Ok(values.shallow_clone());
        }
        let mut out = match out {
            Some(out) => out,
            None => Tensor::f_empty(values.size(), (kind, values.device()))?,
        };
        match self {
            Self::None => out.f_copy_(values)?,
            Self::Value(limit) => {
                if values.f_kind()? == kind {
                    let _out = values.f_clamp_out(&out, -limit, *limit)?;
                } else {
                    out.f_copy_(values)?;
                    let _out = out.f_clamp_(-limit, *limit)?;
                }
            }
            Self::Scale { factor, divisor } => {
                if values.f_kind()? == kind {
                    let _out = values.f_mul_out(&out, factor)?;
                } else {
                    out.f_copy_(values)?;
                    let _out = out.f_mul_(factor)?;
                }
                if let Some(divisor) = divisor {
                    let _out = out.f_div_(divisor)?;
                }
            }
        }
        Ok(out)
    }
}

/// Half types in float32, others as they are.
pub(crate) fn widened(values: &Tensor) -> Result<Tensor, TchError> {
    match values.f_kind()? {
        Kind::Half | Kind::BFloat16 => values.f_to_kind(Kind::Float),
        _ => Ok(values.shallow_clone()),
    }
}
