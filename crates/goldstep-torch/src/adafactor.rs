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
mod scalars;
mod scratch;
mod state;
mod sums;
mod variables;
mod whole;

use std::collections::BTreeMap;

use goldstep_core::{
    AdafactorArguments, AdafactorScalars, Constraint, DType, Element, Error, GradientClipping,
    Layout, LearningRate, Parameter, ParameterList, StepReport,
};
use tch::{Device, Kind, TchError, Tensor};

pub use gradient::Gradient;

use crate::error::Context;
use blocked::Matrices;
use gradient::{Checked, Clip};
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
/// caller's thread has set.
///
/// # Memory
/// Besides the state: on a CPU blocks of 64 Ki elements, and one tensor of the largest parameter's
/// size where a step needs the operations on whole tensors (vectors, other devices, values outside
/// the normal range); one more of that size for sparse gradients, and there for clipping or halves.
#[derive(Debug)]
pub struct Adafactor {
    arguments: AdafactorArguments,
    parameters: ParameterList,
    slots: Vec<Slot>,
    /// Learning rate of each group; group 0 always exists.
    rates: BTreeMap<usize, LearningRate>,
    weight_decays: BTreeMap<usize, f64>,
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
        let mut optimizer = Self {
            arguments: arguments.clone(),
            parameters: parameters.clone(),
            slots: Vec::with_capacity(tensors.len()),
            rates: BTreeMap::from([(0, arguments.learning_rate().clone())]),
            weight_decays: BTreeMap::new(),
            iterations: 0,
            device: tensors
                .first()
                .filter(|tensor| tensor.defined())
                .map_or(Device::Cpu, Tensor::device),
            whole_tensors: false,
            scratch: Scratch::default(),
        };
        for (parameter, tensor) in parameters.iter().zip(tensors) {
            let slot = optimizer.slot(parameter, tensor, 0)?;
            optimizer.slots.push(slot);
        }
        Ok(optimizer)
    }

    /// One step. `gradients` holds one entry per parameter, in order; a parameter without a
    /// gradient is left alone.
    ///
    /// # Errors
    /// Another number of gradients than parameters, none at all, one of another shape, kind or
    /// device than its parameter, a parameter whose shape, kind or device has changed: nothing is
    /// changed then. An error of libtorch in the middle of a step (out of memory) names the
    /// parameter; parameters before it have moved.
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
        let learning_rate = self.rates.get(&0).map_or(f32::NAN, |rate| rate.at(self.iterations));
        self.iterations += 1;
        Ok(StepReport { learning_rate, iterations: self.iterations })
    }

    /// Sets every parameter to its average; without EMA nothing happens.
    ///
    /// # Errors
    /// No step so far.
    pub fn finalize_variable_values(&mut self) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        if !self.arguments.use_ema() {
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
        let mut rates = self.rates.clone();
        for rate in rates.values_mut() {
            rate.assign(learning_rate.clone())?;
        }
        self.rates = rates;
        Ok(())
    }

    /// Assigns the learning rate of one group of parameters.
    pub(crate) fn set_group_rate(
        &mut self,
        group: usize,
        learning_rate: LearningRate,
    ) -> Result<(), Error> {
        let default = self.arguments.learning_rate();
        let mut rate = self.rates.get(&group).unwrap_or(default).clone();
        rate.assign(learning_rate)?;
        self.rates.insert(group, rate);
        Ok(())
    }

    /// Assigns the weight decay of one group, or of all.
    pub(crate) fn set_weight_decay(
        &mut self,
        group: Option<usize>,
        weight_decay: f64,
    ) -> Result<(), Error> {
        // The builder holds the rule.
        AdafactorArguments::builder().weight_decay(weight_decay).build()?;
        match group {
            Some(group) => {
                self.weight_decays.insert(group, weight_decay);
            }
            None => {
                let groups = self.slots.iter().map(|slot| slot.group);
                self.weight_decays = groups.map(|group| (group, weight_decay)).collect();
            }
        }
        Ok(())
    }

    /// Appends a parameter of a group; the one way in which a list grows.
    pub(crate) fn push(
        &mut self,
        parameters: ParameterList,
        tensor: &Tensor,
        group: usize,
    ) -> Result<(), Error> {
        let slot = self.slot(&parameters[parameters.len() - 1], tensor, group)?;
        let rate = self.arguments.learning_rate().clone();
        self.rates.entry(group).or_insert(rate);
        self.slots.push(slot);
        self.parameters = parameters;
        Ok(())
    }

    /// Replaces what is known of the parameters, not their tensors.
    pub(crate) fn set_parameters(&mut self, parameters: ParameterList) {
        self.parameters = parameters;
    }

    pub(crate) fn set_group(&mut self, index: usize, group: usize) {
        let rate = self.arguments.learning_rate().clone();
        self.rates.entry(group).or_insert(rate);
        self.slots[index].group = group;
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.slots.iter().map(|slot| &slot.tensor)
    }

    fn slot(&self, parameter: &Parameter, tensor: &Tensor, group: usize) -> Result<Slot, Error> {
        let slot = Slot::new(parameter, tensor, group)?;
        if tensor.device() != self.device {
            return Err(Error::Tensor {
                what: "parameter",
                name: parameter.name().to_owned(),
                rule: format!("be on {:?}, as the first parameter", self.device),
                got: format!("{:?}", tensor.device()),
            });
        }
        let range = memory(tensor);
        let overlaps = |other: &&Slot| {
            let other = memory(&other.tensor);
            range.0 < other.1 && other.0 < range.1
        };
        match self.slots.iter().position(|other| overlaps(&other)) {
            Some(other) => Err(Error::Overlap {
                first: self.parameters[other].name().to_owned(),
                second: parameter.name().to_owned(),
            }),
            None => Ok(slot),
        }
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
            let rate = self.rates.get(&slot.group).unwrap_or(self.arguments.learning_rate());
            let rate = rate.at(self.iterations);
            let mut host = AdafactorScalars::new(&self.arguments, rate, self.iterations, dtype);
            if let Some(decay) = self.weight_decays.get(&slot.group) {
                host.weight_decay = Some(f64::from(f32::round_from(*decay)));
            }
            let underflow = self.arguments.second_moment_underflow();
            let tensors = StepTensors::new(host, slot.compute, self.device, underflow);
            all.insert(key, tensors.on("scalars of a step", "the optimizer")?);
        }
        Ok(all)
    }

    /// With EMA, averages begin as what the parameters are before their first step.
    fn start_averages(&mut self) -> Result<(), Error> {
        if !self.arguments.use_ema() {
            return Ok(());
        }
        for (slot, parameter) in self.slots.iter_mut().zip(&self.parameters) {
            if slot.average.is_none() {
                let mut average = Tensor::f_empty(&slot.shape, (slot.compute, self.device))
                    .on("average", parameter.name())?;
                average.f_copy_(&slot.tensor).on("average", parameter.name())?;
                slot.average = Some(average);
            }
        }
        Ok(())
    }

    fn global_scale(&self, gradients: &[Option<Checked>]) -> Result<Option<Tensor>, Error> {
        match self.arguments.gradient_clipping() {
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

impl Slot {
    fn new(parameter: &Parameter, tensor: &Tensor, group: usize) -> Result<Self, Error> {
        let wrong = |rule: &str, got: String| {
            let name = parameter.name().to_owned();
            Err(Error::Tensor { what: "parameter", name, rule: rule.to_owned(), got })
        };
        if !tensor.defined() {
            return wrong("be a defined tensor", "an undefined one".into());
        }
        if tensor.is_sparse() || tensor.is_mkldnn() {
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
        let zeros = |shape: &[i64]| {
            Tensor::f_zeros(shape, (compute, tensor.device())).on("state", parameter.name())
        };
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
        let (gradient, clip) = gradient.into_dense(clip, &self.shape, scratch)?;
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
