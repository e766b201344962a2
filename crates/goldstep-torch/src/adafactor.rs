//! Adafactor over a list of tensors.
//!
//! Where the operations of the algorithm are, by their labels in goldstep-reference:
// A1: `StepTensors::new`. A2: `Clip::of`, `Clip::global_scale`, applied by `Clip::apply`.
// A3: `Checked::into_dense`. A4: `Slot::decay`.
// In host memory, block by block: A5: `sum_of_squares_on_host`. A6, A7: `blocked::step_size`.
// A8, A10, A14: `blocked::statistics`. A11: `blocked::prove`. A12, A13, A16: `blocked::apply`.
// As operations on whole tensors: A8: `whole::squares`. A9–A11: `whole::blend`.
// A12: `whole::rebuild`. A13: `whole::step`. A5–A7, A14–A16: `whole::apply`.
// A15: `blocked::step_size`, `whole::apply`. A17, A18: `Slot::step`. A19: `constrain`.
// A20: `Adafactor::step`.

mod blocked;
mod gradient;
mod groups;
mod scalars;
mod scratch;
mod state;
mod sums;
mod variables;
mod whole;

use std::collections::BTreeMap;

use goldstep_core::{
    AdafactorArguments, AdafactorScalars, Constraint, DType, Error, GradientClipping, Layout,
    LearningRate, Parameter, ParameterList, StepReport,
};
use tch::{Device, Kind, TchError, Tensor};

pub use gradient::Gradient;

use crate::error::Context;
use blocked::Matrices;
pub(crate) use gradient::widened;
use gradient::{Checked, Clip};
pub(crate) use groups::Groups;
use scalars::StepTensors;
use scratch::{Scratch, Use};
pub(crate) use sums::sum_of_squares;
use sums::sum_of_squares_on_host;

/// Below this size a stack of many matrices is stepped as a whole: each matrix of its own costs
/// about ten operations of a microsecond.
const SMALL_MATRIX: usize = 4096;
/// Stacks of at most this many matrices are stepped matrix by matrix whatever their size.
const FEW_MATRICES: usize = 4;

/// Adafactor over tensors of one device, updated in place.
///
/// The optimizer keeps shallow clones: it sees and changes the memory of the tensors it was given.
/// Parameters are of kind float32, float64, float16 or bfloat16, also mixed; for the halves the
/// arithmetic and the state are float32. Gradient tracking is off within each call, whatever the
/// caller's thread has set. On a CPU a subnormal element of a gradient counts as 0, as in tf.keras, but
/// in matrices of more than 64 Ki elements, where it moves a parameter by less than 1e-22 of α.
///
/// # Memory
/// Besides the state: on a CPU blocks of 64 Ki elements. Where a step needs the operations on whole
/// tensors (vectors, other devices, values outside the normal range), one tensor of the largest
/// parameter's size and 4 Mi elements; the first also for the weight decay of halves. One more of
/// that size for sparse gradients, and with whole tensors for clipping and for halves.
///
/// While a parameter is stepped: of a half a copy in float32, on either path; with whole tensors
/// and [`SecondMomentUnderflow::Finite`] two tensors of its size and a mask of a byte per element.
///
/// [`SecondMomentUnderflow::Finite`]: goldstep_core::SecondMomentUnderflow::Finite
#[derive(Debug)]
pub struct Adafactor {
    groups: Groups,
    parameters: ParameterList,
    slots: Vec<Slot>,
    iterations: u64,
    device: Device,
    whole_tensors: bool,
    scratch: Scratch,
}

/// One parameter and its state.
#[derive(Debug)]
struct Slot {
    tensor: Tensor,
    shape: Vec<i64>,
    group: usize,
    kind: Kind,
    /// What the arithmetic and the state are in.
    compute: Kind,
    moment: Moment,
    /// Whether the parameter has had a gradient: before that Keras shows zeros for `v`.
    updated: bool,
    average: Option<Tensor>,
}

/// The running mean of squared gradients.
#[derive(Debug)]
enum Moment {
    Full(Tensor),
    Factored { row: Tensor, column: Tensor },
}

impl Adafactor {
    /// Plans an optimizer for `tensors`, which `parameters` describes in the same order.
    ///
    /// # Errors
    /// Another number of tensors than parameters; a tensor that is undefined, sparse, of another
    /// shape, of a kind other than the four, or on another device than the first; two tensors in
    /// the same memory; no memory for the state.
    pub fn new(
        arguments: &AdafactorArguments,
        parameters: &ParameterList,
        tensors: &[Tensor],
    ) -> Result<Self, Error> {
        parameters.check_count("parameters", tensors.len())?;
        let tensors: Vec<_> = tensors.iter().map(|tensor| (tensor, 0)).collect();
        Self::with_groups(Groups::new(arguments.clone()), parameters.clone(), &tensors)
    }

    /// As [`new`](Self::new), with the group of each tensor.
    pub(crate) fn with_groups(
        groups: Groups,
        parameters: ParameterList,
        tensors: &[(&Tensor, usize)],
    ) -> Result<Self, Error> {
        let first = tensors.first().map(|(tensor, _)| tensor).filter(|tensor| tensor.defined());
        let mut optimizer = Self {
            groups,
            parameters: parameters.clone(),
            slots: Vec::with_capacity(tensors.len()),
            iterations: 0,
            device: first.map_or(Device::Cpu, |tensor| tensor.device()),
            whole_tensors: false,
            scratch: Scratch::default(),
        };
        optimizer.extend(parameters, tensors)?;
        Ok(optimizer)
    }

    /// One step. `gradients` holds one entry per parameter, in order; a parameter without a
    /// gradient is left alone.
    ///
    /// # Errors
    /// Another number of gradients than parameters, none at all, one of another shape, kind or
    /// device than its parameter or neither dense nor sparse COO, a parameter whose shape, kind or
    /// device has changed: nothing is changed then. An error of libtorch in the middle of a step
    /// ([`Error::Backend`], out of memory) names the parameter; parameters before it have moved,
    /// and it may have in part.
    pub fn step(&mut self, gradients: &[Option<Gradient>]) -> Result<StepReport, Error> {
        let _guard = tch::no_grad_guard();
        let gradients = self.check(gradients)?;
        let scalars = self.scalars()?;
        self.start_averages()?;
        let global = self.global_scale(&gradients)?;
        for (index, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                let slot = &mut self.slots[index];
                let parameter = &self.parameters[index];
                let key = (slot.group, slot.compute == Kind::Double);
                if let Some(scalars) = scalars.get(&key) {
                    let blocks = !self.whole_tensors;
                    let scratch = &mut self.scratch;
                    slot.step(parameter, gradient, global.as_ref(), scalars, blocks, scratch)
                        .on("adafactor step", parameter.name())?;
                }
            }
        }
        let learning_rate = self.arguments().learning_rate().at(self.iterations);
        self.iterations += 1;
        Ok(StepReport { learning_rate, iterations: self.iterations })
    }

    /// Sets every parameter to its average; without EMA nothing happens.
    ///
    /// # Errors
    /// No step so far.
    pub fn finalize_variable_values(&mut self) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        if !self.arguments().use_ema() {
            return Ok(());
        }
        if self.slots.iter().all(|slot| slot.average.is_none()) {
            return Err(Error::NotBuilt { what: "finalize_variable_values" });
        }
        for (slot, parameter) in self.slots.iter_mut().zip(&self.parameters) {
            if let Some(average) = &slot.average {
                slot.tensor.f_copy_(average).on("finalize_variable_values", parameter.name())?;
            }
        }
        Ok(())
    }

    /// Steps done.
    #[must_use]
    pub const fn iterations(&self) -> u64 {
        self.iterations
    }

    /// The parameters, in the order of every call.
    #[must_use]
    pub const fn parameters(&self) -> &ParameterList {
        &self.parameters
    }

    /// Where the parameters live.
    #[must_use]
    pub const fn device(&self) -> Device {
        self.device
    }

    /// Takes the operations on whole tensors for every parameter, as on devices other than the
    /// CPU: that path can then be tested where there is no such device.
    pub const fn use_whole_tensors(&mut self) {
        self.whole_tensors = true;
    }

    /// Bytes of scratch memory held at the moment, the state not counted.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.bytes()
    }

    /// Assigns the learning rate of all groups, from the next step on.
    ///
    /// # Errors
    /// As [`LearningRate::assign`]; nothing is changed then.
    pub fn set_learning_rate(&mut self, learning_rate: LearningRate) -> Result<(), Error> {
        self.groups.assign(None, |own| own.assign_learning_rate(learning_rate.clone()))
    }

    pub(crate) const fn groups_mut(&mut self) -> &mut Groups {
        &mut self.groups
    }

    /// Appends the parameters of a list that are not there yet, with the group of each; all or none
    /// of them. The one way in which a list grows.
    pub(crate) fn extend(
        &mut self,
        parameters: ParameterList,
        tensors: &[(&Tensor, usize)],
    ) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let starts_average = self.iterations > 0 && self.arguments().use_ema();
        let missing = parameters.iter().skip(self.slots.len()).zip(tensors);
        let mut slots = missing
            .map(|(parameter, (tensor, group))| {
                let mut slot = Slot::new(parameter, tensor, *group, self.device)?;
                if starts_average {
                    slot.start_average(parameter)?;
                }
                Ok(slot)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        check_overlap(self.slots.iter().chain(&slots), &parameters)?;
        self.slots.append(&mut slots);
        self.parameters = parameters;
        Ok(())
    }

    /// Replaces what is known of the parameters, not their tensors.
    pub(crate) fn set_parameters(&mut self, parameters: ParameterList) {
        self.parameters = parameters;
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.slots.iter().map(|slot| &slot.tensor)
    }

    /// Checks everything that a step relies on; nothing has been written yet.
    fn check(&self, gradients: &[Option<Gradient>]) -> Result<Vec<Option<Checked>>, Error> {
        self.parameters.check_count("gradients", gradients.len())?;
        for (slot, parameter) in self.slots.iter().zip(&self.parameters) {
            slot.check(parameter, self.device)?;
        }
        let both = self.slots.iter().zip(&self.parameters).zip(gradients);
        let checked: Vec<Option<Checked>> = both
            .map(|((slot, parameter), gradient)| {
                let check = |gradient| Checked::new(gradient, parameter, &slot.tensor);
                gradient.as_ref().map(check).transpose()
            })
            .collect::<Result<_, _>>()?;
        if checked.iter().all(Option::is_none) {
            return Err(Error::NoGradients { parameters: self.parameters.len() });
        }
        Ok(checked)
    }

    /// The scalars of this step, per group and for float32 and float64 arithmetic.
    fn scalars(&self) -> Result<BTreeMap<(usize, bool), StepTensors>, Error> {
        let mut all = BTreeMap::new();
        for slot in &self.slots {
            let key = (slot.group, slot.compute == Kind::Double);
            if all.contains_key(&key) {
                continue;
            }
            let dtype = if key.1 { DType::Float64 } else { DType::Float32 };
            let arguments = self.groups.of(slot.group);
            let rate = arguments.learning_rate().at(self.iterations);
            let host = AdafactorScalars::new(arguments, rate, self.iterations, dtype);
            let underflow = arguments.second_moment_underflow();
            let tensors = StepTensors::new(host, slot.compute, self.device, underflow);
            all.insert(key, tensors.on("scalars of a step", "the optimizer")?);
        }
        Ok(all)
    }

    /// With EMA, averages begin as what the parameters are before their first step.
    fn start_averages(&mut self) -> Result<(), Error> {
        if !self.arguments().use_ema() {
            return Ok(());
        }
        let mut both = self.slots.iter_mut().zip(&self.parameters);
        both.try_for_each(|(slot, parameter)| slot.start_average(parameter))
    }

    fn global_scale(&self, gradients: &[Option<Checked>]) -> Result<Option<Tensor>, Error> {
        match self.arguments().gradient_clipping() {
            GradientClipping::GlobalNorm(limit) => {
                Clip::global_scale(gradients, limit, self.device)
                    .map(Some)
                    .on("global_clipnorm", "all gradients")
            }
            _ => Ok(None),
        }
    }
}

/// First and one-past-last address; empty tensors have none.
fn memory(tensor: &Tensor) -> (usize, usize) {
    if tensor.numel() == 0 {
        return (0, 0);
    }
    let start = tensor.data_ptr() as usize;
    let strides = tensor.stride().into_iter().zip(tensor.size());
    let last: i64 = strides.map(|(stride, length)| stride * (length - 1)).sum();
    let last = usize::try_from(last).unwrap_or(0);
    (start, start + (last + 1) * tensor.kind().elt_size_in_bytes())
}

/// Parameters move one after another: each needs memory of its own.
fn check_overlap<'a>(
    slots: impl Iterator<Item = &'a Slot>,
    parameters: &ParameterList,
) -> Result<(), Error> {
    let mut ranges: Vec<_> = slots.map(|slot| memory(&slot.tensor)).zip(parameters).collect();
    ranges.sort_by_key(|(range, _)| *range);
    // Where any two overlap, two neighbours do.
    match ranges.windows(2).find(|pair| pair[1].0.0 < pair[0].0.1) {
        Some(pair) => Err(Error::Overlap {
            first: pair[0].1.name().to_owned(),
            second: pair[1].1.name().to_owned(),
        }),
        None => Ok(()),
    }
}

/// Whether a tensor is dense: neither sparse in any layout nor one of oneDNN.
fn is_dense(tensor: &Tensor) -> bool {
    // tch can ask for COO only. Of any layout libtorch tells how many axes are sparse; of oneDNN's
    // that is an error.
    !tensor.is_sparse() && tensor.f_sparse_dim().is_ok_and(|axes| axes == 0)
}

impl Slot {
    fn new(
        parameter: &Parameter,
        tensor: &Tensor,
        group: usize,
        device: Device,
    ) -> Result<Self, Error> {
        let wrong = |rule: &str, got: String| {
            let name = parameter.name().to_owned();
            Err(Error::Tensor { what: "parameter", name, rule: rule.to_owned(), got })
        };
        if !tensor.defined() {
            return wrong("be a defined tensor", "an undefined one".into());
        }
        if !is_dense(tensor) {
            return wrong("be dense", "a sparse or oneDNN tensor".into());
        }
        let kind = tensor.f_kind().on("kind of the parameter", parameter.name())?;
        let compute = match kind {
            Kind::Half | Kind::BFloat16 | Kind::Float => Kind::Float,
            Kind::Double => Kind::Double,
            _ => return wrong("be of kind Float, Double, Half or BFloat16", format!("{kind:?}")),
        };
        let shape = tensor.size();
        check_shape(parameter, &shape)?;
        let strides = tensor.stride();
        if shape.iter().zip(&strides).any(|(length, stride)| *length > 1 && *stride == 0) {
            let rule = "have memory of its own for each element";
            return wrong(rule, format!("strides {strides:?}"));
        }
        if tensor.device() != device {
            let rule = format!("be on {device:?}, as the first parameter");
            return wrong(&rule, format!("{:?}", tensor.device()));
        }
        let zeros =
            |shape: &[i64]| Tensor::f_zeros(shape, (compute, device)).on("state", parameter.name());
        let moment = match shape.as_slice() {
            [leading @ .., _, columns] => {
                let mut column = leading.to_vec();
                column.push(*columns);
                let row = zeros(&shape[..shape.len() - 1])?;
                Moment::Factored { row, column: zeros(&column)? }
            }
            _ => Moment::Full(zeros(&shape)?),
        };
        let tensor = tensor.shallow_clone();
        Ok(Self { tensor, shape, group, kind, compute, moment, updated: false, average: None })
    }

    /// The average begins as what the parameter is before its first step.
    fn start_average(&mut self, parameter: &Parameter) -> Result<(), Error> {
        if self.average.is_none() {
            let mut average = Tensor::f_empty(&self.shape, (self.compute, self.tensor.device()))
                .on("average", parameter.name())?;
            average.f_copy_(&self.tensor).on("average", parameter.name())?;
            self.average = Some(average);
        }
        Ok(())
    }

    /// Whether the tensor is still what it was planned as.
    fn check(&self, parameter: &Parameter, device: Device) -> Result<(), Error> {
        let shape = self.tensor.size();
        if shape != self.shape {
            check_shape(parameter, &shape)?;
        }
        let kind = self.tensor.f_kind().on("kind of the parameter", parameter.name())?;
        let rule_and_got = if kind != self.kind {
            (format!("be of kind {:?}, as planned", self.kind), format!("{kind:?}"))
        } else if self.tensor.device() != device {
            (format!("be on {device:?}, as planned"), format!("{:?}", self.tensor.device()))
        } else {
            return Ok(());
        };
        let (rule, got) = rule_and_got;
        Err(Error::Tensor { what: "parameter", name: parameter.name().to_owned(), rule, got })
    }

    fn step(
        &mut self,
        parameter: &Parameter,
        gradient: Checked,
        global: Option<&Tensor>,
        scalars: &StepTensors,
        blocks: bool,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        self.updated = true;
        let clip = Clip::of(scalars.host.clipping, &gradient, global, self.compute)?;
        let (gradient, clip) = gradient.into_dense(clip, &self.shape, self.compute, scratch)?;
        if scalars.host.weight_decay.is_some() && parameter.decays() {
            self.decay(scalars, scratch)?;
        }
        let layout = parameter.layout();
        if !(blocks && self.step_blocks(layout, &gradient, &clip, scalars, scratch)?) {
            self.step_whole(&gradient, &clip, scalars, scratch)?;
        }
        if let (Some(average), Some((ema, momentum, rest))) = (&mut self.average, &scalars.ema) {
            let _average = average.f_mul_(momentum)?;
            if self.kind == self.compute {
                let _average = average.f_addcmul_(&self.tensor, rest)?;
            } else {
                let _average = average.f_addcmul_(&self.tensor.f_to_kind(self.compute)?, rest)?;
            }
            if ema.overwrite {
                self.tensor.f_copy_(average)?;
            }
        }
        match parameter.constraint() {
            None => Ok(()),
            Some(constraint) => constrain(&mut self.tensor, constraint),
        }
    }

    /// `x −= x · wd · lr` in Keras's order, which turns an infinite `x` into NaN; in host memory in
    /// parts that stay in the cache.
    fn decay(&mut self, scalars: &StepTensors, scratch: &mut Scratch) -> Result<(), TchError> {
        let device = self.tensor.device();
        let decay = |x: &mut Tensor, scratch: &mut Scratch| -> Result<(), TchError> {
            let part = scratch.take(Use::Update, &x.size(), self.compute, device)?;
            let _part = x.f_mul_out(&part, &scalars.weight_decay)?;
            let _x = x.f_addcmul_(&part, &scalars.minus_rate)?;
            Ok(())
        };
        if self.kind != self.compute {
            let mut x = self.tensor.f_to_kind(self.compute)?;
            decay(&mut x, scratch)?;
            return self.tensor.f_copy_(&x);
        }
        if device != Device::Cpu || !self.tensor.is_contiguous() {
            return decay(&mut self.tensor, scratch);
        }
        let flat = self.tensor.f_view([-1])?;
        let elements = i64::try_from(flat.numel()).unwrap_or(i64::MAX);
        let mut start = 0;
        while start < elements {
            let length = blocked::BLOCK.min(elements - start);
            decay(&mut flat.f_narrow(0, start, length)?, scratch)?;
            start += length;
        }
        Ok(())
    }

    /// Block by block, where the arithmetic is in host memory and provably in the normal range.
    fn step_blocks(
        &mut self,
        layout: Layout,
        gradient: &Tensor,
        clip: &Clip,
        scalars: &StepTensors,
        scratch: &mut Scratch,
    ) -> Result<bool, TchError> {
        let (Moment::Factored { row, column }, Layout::Factored { batches, rows, columns }) =
            (&mut self.moment, layout)
        else {
            return Ok(false);
        };
        let empty = batches * rows * columns == 0;
        let unfit = empty || (batches > FEW_MATRICES && rows * columns < SMALL_MATRIX);
        if unfit
            || gradient.device() != Device::Cpu
            || !gradient.is_contiguous()
            || !self.tensor.is_contiguous()
            || scalars.flushes_state()
            || scalars.flushes_parameter_scale()
            || scalars.flushes_update_scale()
        {
            return Ok(false);
        }
        let squares = if self.kind == self.compute {
            sum_of_squares_on_host(&self.tensor)?
        } else {
            sum_of_squares_on_host(&self.tensor.f_to_kind(self.compute)?)?
        };
        let stack = [batches, rows, columns].map(|axis| i64::try_from(axis).unwrap_or(0));
        let mut matrices = Matrices {
            parameter: &self.tensor.f_view(stack)?,
            gradient: &gradient.f_view(stack)?,
            clip,
            row,
            column,
            kind: self.compute,
        };
        if self.compute == Kind::Double {
            blocked::step::<f64>(&mut matrices, &scalars.host, squares, scratch)
        } else {
            blocked::step::<f32>(&mut matrices, &scalars.host, squares, scratch)
        }
    }

    fn step_whole(
        &mut self,
        gradient: &Tensor,
        clip: &Clip,
        scalars: &StepTensors,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let kind = self.compute;
        let gradient = if clip.keeps(gradient, kind)? {
            gradient.shallow_clone()
        } else {
            let out = scratch.take(Use::Clipped, &self.shape, kind, gradient.device())?;
            clip.apply(gradient, kind, Some(out))?
        };
        if self.kind == kind {
            whole::step(&mut self.tensor, &gradient, &mut self.moment, scalars, scratch)
        } else {
            let mut wide = self.tensor.f_to_kind(kind)?;
            whole::step(&mut wide, &gradient, &mut self.moment, scalars, scratch)?;
            self.tensor.f_copy_(&wide)
        }
    }
}

fn check_shape(parameter: &Parameter, shape: &[i64]) -> Result<(), Error> {
    let got: Vec<usize> = shape.iter().map(|axis| usize::try_from(*axis).unwrap_or(0)).collect();
    if got == parameter.shape() {
        return Ok(());
    }
    Err(Error::Shape {
        what: "parameter",
        name: parameter.name().to_owned(),
        expected: parameter.shape().to_vec(),
        got,
    })
}

fn constrain(tensor: &mut Tensor, constraint: Constraint) -> Result<(), TchError> {
    match constraint {
        Constraint::NonNegative => {
            // x · (x ≥ 0), as Keras: −∞ and NaN become NaN.
            let kept = tensor.f_ge(0.0)?.f_to_kind(tensor.f_kind()?)?;
            let _x = tensor.f_mul_(&kept)?;
        }
        Constraint::Clip { minimum, maximum } => {
            // One after the other, as TensorFlow does: the lower end wins where they are reversed.
            let _x = tensor.f_clamp_max_(maximum)?.f_clamp_min_(minimum)?;
        }
        // `Constraint` may grow; a backend that does not know one must not ignore it.
        _ => return Err(TchError::Kind("unknown constraint".into())),
    }
    Ok(())
}
