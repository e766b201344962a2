//! The lower bound: a loop of the least memory traffic, scheduled as a step is.
//!
//! The clip factor depends on all of a gradient, so a step reads it completely before it writes
//! the first parameter: `Σg`, then `p −= a·g`, 16 bytes per f32 parameter when the gradient does
//! not stay in the cache. State that is not small is read and written once more, what an option
//! needs (a norm, averages) comes on top. Nobody can be faster; how close a step comes is what
//! `cargo xtask bench --suite bound` prints.

use goldstep_core::Element;

use crate::execute::{Context, each_block, fold};
use crate::kernels::elements::Blend;
use crate::kernels::stream::{StreamFullUpdate, StreamState, StreamSum, StreamUpdate};
use crate::pass::Part;
use crate::plan::{Axis, Cut, Plan, SPLIT};
use crate::real::CpuElement;
use crate::tile::{Tile, TileMut};
use crate::variable::{FullShare, Moments, Variable, add};

/// What a bound consists of beside the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extra {
    /// The parameters are read once more, for their root mean square.
    pub parameter_read: bool,
    /// The gradients are read once more, for a norm.
    pub gradient_read: bool,
}

/// The bound's scalars; a `rate` of 0 and a `keep` of 1 change nothing.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    pub(crate) rate: f64,
    pub(crate) keep: f64,
    pub(crate) extra: Extra,
}

impl Stream {
    /// The traffic of one parameter's step; returns a sum, so that nothing is optimised away.
    pub(crate) fn one<T: CpuElement>(
        &self,
        variable: &mut Variable<T>,
        context: &Context<'_, T::Real>,
        parameter: &mut [T],
        gradient: &[T],
    ) -> f64 {
        let elements = variable.plan.elements();
        if elements == 0 {
            return 0.0;
        }
        let serial = context.serial();
        let context = if elements < SPLIT { &serial } else { context };
        let cut = cut_of(&variable.plan);
        let mut total = 0.0;
        if self.extra.parameter_read {
            total += sum(context, cut, parameter);
        }
        if self.extra.gradient_read {
            total += sum(context, cut, gradient);
        }
        total += self.statistics(variable, context, cut, gradient);
        let second_moment: &[T::Real] = match &variable.moments {
            Moments::Full(second_moment) => second_moment,
            Moments::Factored { .. } => &[],
        };
        let average = variable.average.as_deref_mut();
        self.update(context, cut, (parameter, gradient), average, second_moment);
        total
    }

    fn statistics<T: CpuElement>(
        &self,
        variable: &mut Variable<T>,
        context: &Context<'_, T::Real>,
        cut: Cut,
        gradient: &[T],
    ) -> f64 {
        let factor = T::Real::round_from(self.keep);
        let second_moment = match &mut variable.moments {
            Moments::Factored { row_factor, column_factor } => {
                for state in [row_factor, column_factor] {
                    context.isa.run(StreamState { state, factor });
                }
                return sum(context, cut, gradient);
            }
            Moments::Full(second_moment) => second_moment,
        };
        let leaf = |share: FullShare<'_, T>| {
            let mut total = 0.0;
            each_block((cut.axis, cut.block), share, |mut block| {
                total += context.isa.run(StreamSum { elements: block.gradient });
                context.isa.run(StreamState { state: block.second_moment.row(0), factor });
            });
            total
        };
        let share = FullShare {
            gradient: Tile::new(gradient, gradient.len()),
            second_moment: TileMut::new(second_moment, gradient.len()),
        };
        fold(context, (cut.axis, cut.chunk), share, &leaf, &add)
    }

    fn update<T: CpuElement>(
        &self,
        context: &Context<'_, T::Real>,
        cut: Cut,
        (parameter, gradient): (&mut [T], &[T]),
        average: Option<&mut [T::Real]>,
        second_moment: &[T::Real],
    ) {
        let rate = T::Real::round_from(self.rate);
        let length = gradient.len();
        let part = Part {
            parameter: TileMut::new(parameter, length),
            gradient: Tile::new(gradient, length),
            average: average.map(|average| TileMut::new(average, length)),
            row_factor: &[],
            column_factor: second_moment,
        };
        let run = |mut block: Part<'_, T>| {
            let (parameter, gradient) = (block.parameter.reborrow(), block.gradient);
            if block.column_factor.is_empty() {
                context.isa.run(StreamUpdate { parameter, gradient, rate });
            } else {
                let second_moment = block.column_factor;
                let kernel = StreamFullUpdate { parameter, gradient, second_moment, rate };
                context.isa.run(kernel);
            }
            if let Some(average) = block.average {
                context.isa.run(Blend {
                    parameter: block.parameter,
                    average,
                    momentum: T::Real::round_from(self.keep),
                    one_minus_momentum: rate,
                    overwrite: false,
                });
            }
        };
        let leaf = |part| each_block((cut.axis, cut.block), part, run);
        fold(context, (cut.axis, cut.chunk), part, &leaf, &|(), ()| ());
    }
}

/// A parameter as one row, cut into as many elements as a step's tasks have.
fn cut_of(plan: &Plan) -> Cut {
    match *plan {
        Plan::Full { cut, .. } => cut,
        Plan::Factored { rows, columns, cut, .. } => {
            let across = if cut.axis == Axis::Rows { columns } else { rows };
            Cut {
                axis: Axis::Columns,
                chunk: (cut.chunk * across).max(64 * 1024),
                block: 32 * 1024,
            }
        }
    }
}

fn sum<T: CpuElement>(context: &Context<'_, T::Real>, cut: Cut, elements: &[T]) -> f64 {
    let leaf = |part: Tile<'_, T>| {
        let mut total = 0.0;
        each_block((cut.axis, cut.block), part, |elements| {
            total += context.isa.run(StreamSum { elements });
        });
        total
    };
    fold(context, (cut.axis, cut.chunk), Tile::new(elements, elements.len()), &leaf, &add)
}
