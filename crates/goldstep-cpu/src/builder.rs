//! What an optimizer is made with, and where its steps run.

use std::marker::PhantomData;
use std::sync::Arc;

use goldstep_core::{AdafactorArguments, Error, ParameterList};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::adafactor::Adafactor;
use crate::isa::Isa;
use crate::list::end_costs;
use crate::real::CpuElement;
use crate::scratch::Scratch;
use crate::variable::Variable;
use crate::views::Copies;

/// Cost of a whole list below which a step stays on the thread that called it.
const ALONE: usize = 128 * 1024;

/// Collects where an [`Adafactor`] runs; made by [`Adafactor::builder`].
#[derive(Debug)]
#[must_use]
pub struct AdafactorBuilder<'a, T> {
    arguments: &'a AdafactorArguments,
    parameters: &'a ParameterList,
    threads: Option<usize>,
    isa: Option<Isa>,
    element: PhantomData<T>,
}

impl<'a, T: CpuElement> AdafactorBuilder<'a, T> {
    pub(crate) const fn new(
        arguments: &'a AdafactorArguments,
        parameters: &'a ParameterList,
    ) -> Self {
        Self { arguments, parameters, threads: None, isa: None, element: PhantomData }
    }

    /// The number of threads. Default: those of the rayon pool that calls a step, so that a pool
    /// of the caller's own is respected; outside any it is rayon's global one, which
    /// [`build`](Self::build) then starts.
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The instruction set. Default: [`Isa::detect`].
    pub const fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Plans the optimizer and allocates its state; no parameter is read.
    ///
    /// # Errors
    /// Zero threads, threads that cannot be started, an unknown name in `GOLDSTEP_ISA`.
    pub fn build(self) -> Result<Adafactor<T>, Error> {
        let variables: Vec<_> = self.parameters.iter().map(Variable::new).collect();
        let ends = end_costs(&variables);
        let alone = ends.last().is_none_or(|&end| end < ALONE);
        let (threads, count) = match self.threads {
            Some(0) => {
                let (name, rule) = ("threads", "at least 1");
                return Err(Error::Argument { name, rule, value: "0".to_owned() });
            }
            _ if alone => (Threads::Caller, 1),
            None => (Threads::Ambient, rayon::current_num_threads()),
            Some(1) => (Threads::Caller, 1),
            Some(count) => {
                let pool = ThreadPoolBuilder::new().num_threads(count).build();
                let failed = |error: rayon::ThreadPoolBuildError| Error::Backend {
                    what: format!("starting {count} threads"),
                    message: error.to_string(),
                };
                (Threads::Own(Arc::new(pool.map_err(failed)?)), count)
            }
        };
        let isa = match self.isa {
            Some(isa) => isa,
            None => Isa::detect()?,
        };
        let plans = || variables.iter().map(|variable| variable.plan);
        let lines = plans().map(|plan| plan.scratch_lines()).max().unwrap_or(0);
        let update_lines = plans().map(|plan| plan.update_lines()).max().unwrap_or(0);
        let tasks = plans().map(|plan| plan.tasks()).max().unwrap_or(1);
        // A task holds one array, its pass another, and each level of its tree a finished half.
        let slots = count.saturating_mul(tasks.ilog2() as usize + 3).min(tasks + 2 * count);
        Ok(Adafactor {
            arguments: self.arguments.clone(),
            parameters: self.parameters.clone(),
            ends,
            variables,
            iterations: 0,
            isa,
            threads,
            scratch: Scratch::new(count, slots, lines),
            // A vector whose updates are kept is not split: a thread has one at a time.
            updates: Scratch::new(count, count, update_lines),
            copies: Copies::default(),
        })
    }
}

/// Where a step runs.
#[derive(Debug, Clone)]
pub(crate) enum Threads {
    /// On the thread that calls it.
    Caller,
    /// In the pool that the caller is in, else in rayon's global one.
    Ambient,
    /// In a pool of this optimizer and its clones.
    Own(Arc<ThreadPool>),
}
