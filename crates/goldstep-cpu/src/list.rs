//! A step over a list of parameters: large ones are tasks of their own, small ones share one.

use goldstep_core::Gradient;

use crate::execute::Context;
use crate::real::{CpuElement, Real};
use crate::variable::{Variable, add};

/// Elements that one task takes from a list of small parameters.
const GROUP: usize = 64 * 1024;
/// What a parameter costs beside its elements, in elements.
const OVERHEAD: usize = 1024;

/// Cost of the parameters up to and including each, in elements.
pub(crate) fn end_costs<T: CpuElement>(variables: &[Variable<T>]) -> Vec<usize> {
    let cost = |end: &mut usize, variable: &Variable<T>| {
        *end = end.saturating_add(variable.plan.elements()).saturating_add(OVERHEAD);
        Some(*end)
    };
    variables.iter().scan(0, cost).collect()
}

/// A run of a parameter list with all that belongs to it.
pub(crate) struct List<'a, P, T: CpuElement> {
    pub(crate) variables: &'a mut [Variable<T>],
    pub(crate) parameters: &'a mut [P],
    pub(crate) gradients: &'a [Option<Gradient<'a, T>>],
    /// Costs up to and including each parameter, counted from the beginning of the whole list.
    pub(crate) ends: &'a [usize],
    /// Cost of the parameters before this run.
    pub(crate) before: usize,
}

impl<T: CpuElement, P: AsMut<[T]> + Send> List<'_, P, T> {
    /// The same run, for a shorter time.
    pub(crate) fn reborrow(&mut self) -> List<'_, P, T> {
        List { variables: &mut *self.variables, parameters: &mut *self.parameters, ..*self }
    }

    /// Calls `step` for each parameter that has a gradient, and adds what it returns, in an order
    /// of the list. Large parameters and groups of small ones become tasks; halves have about the
    /// same cost. Nothing if there was no gradient.
    pub(crate) fn each<R: Real>(
        self,
        context: &Context<'_, R>,
        step: &(impl Fn(&mut Variable<T>, &mut [T], &Gradient<'_, T>) -> f64 + Sync),
    ) -> Option<f64> {
        let cost = self.ends.last().map_or(0, |end| end - self.before);
        if self.variables.len() <= 1 || cost <= GROUP || !context.parallel {
            let Self { variables, parameters, gradients, .. } = self;
            let all = variables.iter_mut().zip(parameters).zip(gradients);
            let results = all.filter_map(|((variable, parameter), gradient)| {
                Some(step(variable, parameter.as_mut(), gradient.as_ref()?))
            });
            return results.reduce(add);
        }
        let half = self.before + cost / 2;
        let at = self.ends.partition_point(|&end| end <= half).clamp(1, self.ends.len() - 1);
        let (variables, more_variables) = self.variables.split_at_mut(at);
        let (parameters, more_parameters) = self.parameters.split_at_mut(at);
        let (gradients, more_gradients) = self.gradients.split_at(at);
        let (ends, more_ends) = self.ends.split_at(at);
        let before = self.before;
        let left = List { variables, parameters, gradients, ends, before };
        let right = List {
            variables: more_variables,
            parameters: more_parameters,
            gradients: more_gradients,
            ends: more_ends,
            before: ends.last().copied().unwrap_or(before),
        };
        let join = context.join(|| left.each(context, step), || right.each(context, step));
        match join {
            (Some(left), Some(right)) => Some(left + right),
            (left, right) => left.or(right),
        }
    }
}
