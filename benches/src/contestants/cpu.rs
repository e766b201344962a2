//! goldstep-cpu, and the streaming bound, which it moves itself.

use anyhow::{Context, Result, bail};
use goldstep_core::{AdafactorArguments, Gradient, ParameterList};
use goldstep_cpu::{Adafactor, AlignedBuffer, BoundExtra, CpuElement, ParameterStore};
use half::bf16;

use super::{introduction, plan};
use crate::contestant::{Contestant, Facts, Introduction, Task};
use crate::input::{self, Part};

/// One task in either element type. A process has one task in its life: the store borrows memory
/// that is never given back.
#[derive(Debug, Default)]
pub(super) struct Cpu(Option<Typed>);

#[derive(Debug)]
enum Typed {
    Float32(Run<f32>),
    Bfloat16(Run<bf16>),
}

#[derive(Debug)]
struct Run<T: CpuElement> {
    arguments: AdafactorArguments,
    list: ParameterList,
    threads: usize,
    parameters: Vec<&'static mut [T]>,
    gradients: Vec<Option<Gradient<'static, T>>>,
    store: Option<ParameterStore<'static, T>>,
}

impl Contestant for Cpu {
    fn introduction(&self) -> Introduction {
        introduction("cpu")
    }

    fn prepare(&mut self, task: &Task) -> Result<()> {
        if self.0.is_some() {
            bail!("a process of this contestant has one task");
        }
        self.0 = Some(match task.dtype.as_str() {
            "float32" => Typed::Float32(Run::new(task)?),
            "bfloat16" => Typed::Bfloat16(Run::new(task)?),
            other => bail!("dtype must be float32 or bfloat16, got {other}"),
        });
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        match &mut self.0 {
            Some(Typed::Float32(run)) => run.build(),
            Some(Typed::Bfloat16(run)) => run.build(),
            None => bail!("prepare must come first"),
        }
    }

    fn step(&mut self) -> Result<()> {
        match &mut self.0 {
            Some(Typed::Float32(run)) => run.step(),
            Some(Typed::Bfloat16(run)) => run.step(),
            None => bail!("prepare must come first"),
        }
    }

    fn stream(&mut self) -> Result<()> {
        match &mut self.0 {
            Some(Typed::Float32(run)) => run.stream(),
            Some(Typed::Bfloat16(run)) => run.stream(),
            None => bail!("prepare must come first"),
        }
    }

    fn facts(&mut self) -> Result<Facts> {
        match &mut self.0 {
            Some(Typed::Float32(run)) => run.facts(),
            Some(Typed::Bfloat16(run)) => run.facts(),
            None => bail!("prepare must come first"),
        }
    }
}

impl<T: CpuElement> Run<T> {
    fn new(task: &Task) -> Result<Self> {
        let (arguments, list) = plan(task)?;
        let tensors = |part| -> Vec<&'static mut [T]> {
            let tensor = |(index, parameter): (usize, &goldstep_core::Parameter)| {
                let length = parameter.elements();
                let buffer = Box::leak(Box::new(AlignedBuffer::zeros(length)));
                for (to, value) in buffer.iter_mut().zip(input::values(part, index, length)) {
                    *to = T::round_from(f64::from(value));
                }
                &mut **buffer
            };
            list.iter().enumerate().map(tensor).collect()
        };
        let parameters = tensors(Part::Parameter);
        let gradients = tensors(Part::Gradient);
        let gradients =
            gradients.into_iter().map(|gradient| Some(Gradient::Dense(&*gradient))).collect();
        let threads = task.threads;
        Ok(Self { arguments, list, threads, parameters, gradients, store: None })
    }

    fn build(&mut self) -> Result<()> {
        let builder = Adafactor::<T>::builder(&self.arguments, &self.list);
        let optimizer = builder.threads(self.threads).build()?;
        let parameters = std::mem::take(&mut self.parameters);
        self.store = Some(ParameterStore::borrowing(optimizer, parameters)?);
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let store = self.store.as_mut().context("build must come first")?;
        store.step(&self.gradients)?;
        Ok(())
    }

    fn stream(&mut self) -> Result<()> {
        let store = self.store.as_mut().context("build must come first")?;
        let extra = BoundExtra { parameter_read: false, gradient_read: false };
        std::hint::black_box(store.stream(&self.gradients, extra)?);
        Ok(())
    }

    fn facts(&mut self) -> Result<Facts> {
        let store = self.store.as_ref().context("build must come first")?;
        let parameters = (0..self.list.len()).map(|index| -> Box<dyn Iterator<Item = f32>> {
            #[expect(clippy::cast_possible_truncation, reason = "from float32 or narrower")]
            Box::new(store.get(index).iter().map(|value| value.to_f64() as f32))
        });
        Ok(Facts {
            state_bytes: u64::try_from(store.optimizer().state_bytes())?,
            change: input::change(parameters),
        })
    }
}
