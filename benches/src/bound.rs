//! The suite `bound`: a step against the least memory traffic that it can have.

use std::fmt;

use anyhow::Result;
use goldstep_core::{AdafactorArguments, Error, Gradient, Parameter, ParameterList};
use goldstep_cpu::{Adafactor, AlignedBuffer, BoundExtra, Isa, ParameterStore};

use crate::measure::{Effort, Paired, paired, to_f64};
use crate::workloads::Workload;

mod cases;
pub use cases::{GROWTH, Part};

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
    /// Rows that have a gradient, if it is a sparse one.
    pub rows: Option<usize>,
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
    /// At most this ratio to the plain step of the same workload, which stands in the bound's place.
    OverPlain(f64),
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
            rows: None,
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
        let mut seed = 1;
        let (mut values, gradients) =
            (self.tensors(&list, 0.05, &mut seed), self.tensors(&list, 1e-3, &mut seed));
        let indices = self.indices(&list, &mut seed);
        let gradients = match self.rows {
            Some(_) => sparse_gradients(&list, &indices, &gradients),
            None => self.gradients(&gradients),
        };
        let store = self.store(&list, &mut values)?;
        let plain = Self::new(self.workload.clone(), self.threads, Target::None);
        let (mut others, plain_gradients);
        let (plain_gradients, plain) = if let Target::OverPlain(_) = self.target {
            let mut seed = 1;
            others = plain.tensors(&list, 0.05, &mut seed);
            plain_gradients = plain.tensors(&list, 1e-3, &mut seed);
            (plain.gradients(&plain_gradients), Some(plain.store(&list, &mut others)?))
        } else {
            (Vec::new(), None)
        };
        let mut both = Both { store, plain, failure: None };
        let times = paired(
            effort,
            &mut both,
            |both| {
                if !self.carried {
                    both.store.forget();
                }
                both.failure = both.store.step(&gradients).err().or(both.failure.take());
            },
            |both| match &mut both.plain {
                Some(plain) => {
                    both.failure = plain.step(&plain_gradients).err().or(both.failure.take());
                }
                None => {
                    _ = std::hint::black_box(both.store.stream(&gradients, self.extra()));
                }
            },
        );
        match both.failure {
            Some(error) => Err(error.into()),
            None => Ok(Row { case: self.clone(), times }),
        }
    }

    /// Why this cannot be measured here, if it cannot.
    #[must_use]
    pub fn lack_of_memory(&self) -> Option<String> {
        // Parameters and gradients; the caller's own needs are small.
        let needed = self.workload.elements().saturating_mul(2 * size_of::<f32>());
        let free = crate::machine::available_bytes()?;
        (needed > free / 4 * 3).then(|| {
            let gibibytes = |bytes: usize| bytes.div_ceil(1 << 30);
            format!("needs {} GiB of {} free", gibibytes(needed), gibibytes(free))
        })
    }

    /// Whether parameters and gradients are at least twice as large as this machine's caches, or as
    /// 32 MiB where it does not tell.
    #[must_use]
    pub fn is_beyond_caches(&self) -> bool {
        let cache = crate::machine::largest_cache_bytes().unwrap_or(32 << 20);
        self.workload.elements() * 2 * size_of::<f32>() > 2 * cache
    }

    const fn extra(&self) -> BoundExtra {
        BoundExtra { parameter_read: !self.carried, gradient_read: self.gradient_read }
    }

    /// Reproducible tensors, as far off a cache line as the case wants it.
    fn tensors(&self, list: &ParameterList, scale: f32, seed: &mut u32) -> Vec<AlignedBuffer<f32>> {
        let sizes = list.iter().map(Parameter::elements);
        sizes.map(|elements| random(elements + self.offset, scale, seed)).collect()
    }

    fn gradients<'a>(&self, tensors: &'a [AlignedBuffer<f32>]) -> Vec<Option<Gradient<'a, f32>>> {
        tensors.iter().map(|tensor| Some(Gradient::Dense(&tensor[self.offset..]))).collect()
    }

    /// Reproducible rows of each parameter, in no order.
    fn indices(&self, list: &ParameterList, seed: &mut u32) -> Vec<Vec<i64>> {
        let of = |parameter: &Parameter| {
            let all = parameter.shape().first().copied().unwrap_or(1);
            (0..self.rows.unwrap_or_default())
                .map(|_| {
                    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((u64::from(*seed) * all as u64) >> 32).cast_signed()
                })
                .collect()
        };
        list.iter().map(of).collect()
    }

    fn store<'a>(
        &self,
        list: &ParameterList,
        tensors: &'a mut [AlignedBuffer<f32>],
    ) -> Result<ParameterStore<'a, f32>> {
        let mut arguments = self.arguments.clone();
        // Thousands of steps with the same gradient must not carry the parameters away.
        arguments.assign_learning_rate(1e-7.into())?;
        let builder = Adafactor::<f32>::builder(&arguments, list);
        let optimizer = builder.threads(self.threads).isa(self.isa).build()?;
        let buffers = tensors.iter_mut().map(|tensor| &mut tensor[self.offset..]).collect();
        Ok(ParameterStore::borrowing(optimizer, buffers)?)
    }
}

/// Gradients of these rows, with the first values of a tensor.
fn sparse_gradients<'a>(
    list: &ParameterList,
    indices: &'a [Vec<i64>],
    tensors: &'a [AlignedBuffer<f32>],
) -> Vec<Option<Gradient<'a, f32>>> {
    let all = list.iter().zip(indices).zip(tensors);
    let one =
        |((parameter, indices), tensor): ((&Parameter, &'a Vec<i64>), &'a AlignedBuffer<f32>)| {
            let values = &tensor[..indices.len() * parameter.row_elements()];
            Some(Gradient::Sparse { indices, values })
        };
    all.map(one).collect()
}

/// What a round times: the step, and the plain step where that stands in the bound's place.
struct Both<'a> {
    store: ParameterStore<'a, f32>,
    plain: Option<ParameterStore<'a, f32>>,
    failure: Option<Error>,
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

    /// Nanoseconds per parameter of the bound, or of the plain step in its place.
    #[must_use]
    pub fn bound_ns(&self) -> f64 {
        self.times.second().median / to_f64(self.case.workload.elements())
    }

    /// Nanoseconds over the bound for each parameter tensor.
    #[must_use]
    pub fn per_tensor_ns(&self) -> f64 {
        self.times.difference_ns().median / to_f64(self.case.workload.shapes.len())
    }

    /// How far the times per parameter of growing workloads lie apart.
    #[must_use]
    pub fn growth(step_ns: &[f64]) -> String {
        const LIMIT: f64 = 1.3;
        let least = step_ns.iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = step_ns.iter().copied().fold(0.0, f64::max) / least;
        let verdict = if ratio <= LIMIT { "met" } else { "missed" };
        format!(
            "Beyond the cache the time per parameter grows by {ratio:.2}, aim {LIMIT:.2}: {verdict}."
        )
    }

    /// Whether the target is met; nothing where there is none.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        match self.case.target {
            Target::Ratio(limit) | Target::OverPlain(limit) => {
                Some(self.times.ratio().median <= limit)
            }
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
            Target::OverPlain(limit) => write!(formatter, "| {limit:.2} × plain ")?,
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
