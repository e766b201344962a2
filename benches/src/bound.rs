//! The suite `bound`: a step against the least memory traffic that it can have.

use std::fmt;

use anyhow::Result;
use goldstep_core::{AdafactorArguments, Gradient, Parameter, ParameterList};
use goldstep_cpu::{Adafactor, AlignedBuffer, BoundExtra, Isa, ParameterStore};

use crate::measure::{Effort, Paired, paired, to_f64};
use crate::models;
use crate::workloads::Workload;

/// One measurement to make.
#[derive(Debug, Clone)]
pub struct Case {
    /// The shapes.
    pub workload: Workload,
    /// What differs from the plain case, for tables; empty for nothing.
    pub variant: &'static str,
    /// The optimizer's arguments.
    pub arguments: AdafactorArguments,
    /// Threads of the step and of the bound.
    pub threads: usize,
    /// Instruction set of both.
    pub isa: Isa,
    /// Whether `Σp²` is carried; if not, the bound reads the parameters once more.
    pub carried: bool,
    /// Whether the bound reads the gradients once more, for a norm.
    pub gradient_read: bool,
    /// Elements by which parameters and gradients lie off a cache line.
    pub offset: usize,
    /// What is aimed for.
    pub target: Target,
}

/// What a case aims for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At most this ratio of step to bound.
    Ratio(f64),
    /// At most so many nanoseconds per parameter tensor over the bound.
    PerTensorNs(f64),
    /// Nothing: the row is for comparison.
    None,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// Step, then bound.
    pub times: Paired,
}

impl Case {
    /// The plain case of a workload: all default, carried, aligned, best instruction set.
    #[must_use]
    pub fn new(workload: Workload, threads: usize, target: Target) -> Self {
        Self {
            workload,
            variant: "",
            arguments: AdafactorArguments::default(),
            threads,
            isa: Isa::best(),
            carried: true,
            gradient_read: false,
            offset: 0,
            target,
        }
    }

    /// Measures it.
    ///
    /// # Errors
    /// What the optimizer refuses.
    pub fn measure(&self, effort: Effort) -> Result<Row> {
        let shapes = self.workload.shapes.iter().enumerate();
        let parameters = shapes.map(|(i, shape)| Parameter::new(format!("p{i}"), shape));
        let list = ParameterList::new(parameters.collect::<Result<_, _>>()?)?;
        let mut arguments = self.arguments.clone();
        // Thousands of steps with the same gradient must not carry the parameters away.
        arguments.assign_learning_rate(1e-7.into())?;
        let builder = Adafactor::<f32>::builder(&arguments, &list);
        let optimizer = builder.threads(self.threads).isa(self.isa).build()?;
        let mut seed = 1;
        let mut tensors = |scale: f32| -> Vec<AlignedBuffer<f32>> {
            let sizes = list.iter().map(Parameter::elements);
            sizes.map(|elements| random(elements + self.offset, scale, &mut seed)).collect()
        };
        let (mut parameters, gradients) = (tensors(0.05), tensors(1e-3));
        let gradients: Vec<_> =
            gradients.iter().map(|g| Some(Gradient::Dense(&g[self.offset..]))).collect();
        let buffers = parameters.iter_mut().map(|p| &mut p[self.offset..]).collect();
        let mut store = ParameterStore::borrowing(optimizer, buffers)?;
        let extra = BoundExtra { parameter_read: !self.carried, gradient_read: self.gradient_read };
        let mut sink = 0.0;
        let mut failure = None;
        let times = paired(
            effort,
            &mut store,
            |store| {
                if !self.carried {
                    store.forget();
                }
                failure = store.step(&gradients).err().or(failure.take());
            },
            |store| sink += store.stream(&gradients, extra).unwrap_or(f64::NAN),
        );
        std::hint::black_box(sink);
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(Row { case: self.clone(), times }),
        }
    }
}

/// Reproducible values around zero.
fn random(length: usize, scale: f32, seed: &mut u32) -> AlignedBuffer<f32> {
    let mut buffer = AlignedBuffer::zeros(length);
    for value in buffer.iter_mut() {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let bits = 0x3f80_0000 | (*seed >> 9);
        *value = (f32::from_bits(bits) - 1.5) * scale;
    }
    buffer
}

impl Row {
    /// Nanoseconds of the step per parameter.
    #[must_use]
    pub fn step_ns(&self) -> f64 {
        self.times.first().median / to_f64(self.case.workload.elements())
    }

    /// Nanoseconds of the bound per parameter.
    #[must_use]
    pub fn bound_ns(&self) -> f64 {
        self.times.second().median / to_f64(self.case.workload.elements())
    }

    /// Nanoseconds over the bound for each parameter tensor.
    #[must_use]
    pub fn per_tensor_ns(&self) -> f64 {
        self.times.difference_ns().median / to_f64(self.case.workload.shapes.len())
    }

    /// Whether the target is met; nothing where there is none.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        match self.case.target {
            Target::Ratio(limit) => Some(self.times.ratio().median <= limit),
            Target::PerTensorNs(limit) => Some(self.per_tensor_ns() <= limit),
            Target::None => None,
        }
    }
}

/// The head of a table of rows, in Markdown.
pub const TABLE_HEAD: &str = "\
| workload | variant | threads | bound, ns/param | step, ns/param | ratio (quartiles) | aim | |
|---|---|---:|---:|---:|---:|---:|---|";

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.times.ratio();
        let Case { workload, variant, threads, .. } = &self.case;
        write!(formatter, "| {} | {variant} | {threads} ", workload.name)?;
        write!(formatter, "| {:.3} | {:.3} ", self.bound_ns(), self.step_ns())?;
        write!(formatter, "| {:.2} ({:.2}–{:.2}) ", ratio.median, ratio.lower, ratio.upper)?;
        match self.case.target {
            Target::Ratio(limit) => write!(formatter, "| {limit:.2} ")?,
            Target::PerTensorNs(limit) => {
                write!(formatter, "| {limit:.0} ns/tensor (got {:.0}) ", self.per_tensor_ns())?;
            }
            Target::None => write!(formatter, "| ")?,
        }
        let verdict = match self.met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        write!(formatter, "| {verdict} |")
    }
}

/// Which part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Matrices of all sizes.
    Matrices,
    /// Tall, wide, rank 4, vectors.
    Shapes,
    /// Real and artificial parameter lists.
    Lists,
    /// Not carried, unaligned, other instruction sets, options.
    Variants,
}

/// The cases of a part.
///
/// # Errors
/// Arguments that are refused: none.
pub fn cases(part: Part) -> Result<Vec<Case>> {
    Ok(match part {
        Part::Matrices => matrices(),
        Part::Shapes => shapes(),
        Part::Lists => lists(),
        Part::Variants => variants()?,
    })
}

fn matrices() -> Vec<Case> {
    let aims = [
        (256, 1.8, None),
        (512, 1.25, None),
        (1024, 1.25, Some(1.3)),
        (2048, 1.3, Some(1.35)),
        (4096, 1.2, Some(1.3)),
        (8192, 1.2, Some(1.3)),
    ];
    let of = |(size, one, two): (usize, f64, Option<f64>)| {
        let two = two.map_or(Target::None, Target::Ratio);
        [(1, Target::Ratio(one)), (2, two)]
            .map(|(threads, aim)| Case::new(Workload::matrix(size, size), threads, aim))
    };
    aims.into_iter().flat_map(of).collect()
}

fn shapes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (threads, tall, wide) in
        [(1, Target::Ratio(1.5), Target::Ratio(1.7)), (2, Target::None, Target::None)]
    {
        cases.push(Case::new(Workload::matrix(1_000_000, 8), threads, tall));
        cases.push(Case::new(Workload::matrix(8, 1_000_000), threads, wide));
        for shape in [&[512, 512, 3, 3][..], &[3, 3, 512, 512], &[10_000_000]] {
            cases.push(Case::new(Workload::one(shape), threads, Target::Ratio(1.5)));
        }
    }
    cases
}

fn lists() -> Vec<Case> {
    let mut cases = Vec::new();
    for threads in [1, 2] {
        let small = Target::PerTensorNs(600.0);
        cases.push(Case::new(Workload::many_small(4000), threads, small));
        cases.push(Case::new(models::t5_small(), threads, Target::Ratio(1.3)));
        cases.push(Case::new(models::bert_base(), threads, Target::Ratio(1.3)));
    }
    cases
}

fn variants() -> Result<Vec<Case>> {
    let plain = |size| Case::new(Workload::matrix(size, size), 1, Target::None);
    let mut cases = Vec::new();
    for (size, aim) in [(512, 1.25), (1024, 1.25), (2048, 1.3), (4096, 1.2)] {
        let target = Target::Ratio(aim);
        cases.push(Case { variant: "p measured", carried: false, target, ..plain(size) });
        cases.push(Case { variant: "16 bytes off", offset: 4, ..plain(size) });
        for (isa, variant) in Isa::available().into_iter().rev().skip(1).zip(["AVX2", "portable"]) {
            cases.push(Case { variant, isa, ..plain(size) });
        }
    }
    let builder = AdafactorArguments::builder;
    let options = [
        ("decay", builder().weight_decay(0.01).build()?, false),
        ("clipvalue", builder().clipvalue(1e-3).build()?, false),
        ("clipnorm", builder().clipnorm(1e-3).build()?, true),
        ("EMA", builder().use_ema(true).build()?, false),
    ];
    for (variant, arguments, gradient_read) in options {
        for size in [1024, 4096] {
            let arguments = arguments.clone();
            cases.push(Case { variant, arguments, gradient_read, ..plain(size) });
        }
    }
    Ok(cases)
}
