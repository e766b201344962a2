//! Steps on ndarray views of any memory layout.

use goldstep_core::{Error, Gradient, HostOptimizer, ParameterList, StepReport};
use ndarray::{ArrayViewD, ArrayViewMutD, Axis};

use crate::adafactor::Adafactor;
use crate::real::CpuElement;

impl<T: CpuElement> Adafactor<T> {
    /// One step on array views. A missing gradient leaves its parameter untouched.
    ///
    /// A view in standard layout (contiguous, row-major) is updated where it lies. Any other –
    /// axes in another order, strides, negative steps – is copied, updated and copied back: right,
    /// and some five times as slow. The copies stay for the next step.
    ///
    /// # Errors
    /// As [`HostOptimizer::step`], and another shape than planned; nothing is changed then.
    ///
    /// # Example
    /// ```
    /// use goldstep_core::{AdafactorArguments, HostOptimizer, Parameter, ParameterList};
    /// use goldstep_cpu::Adafactor;
    /// use ndarray::Array2;
    ///
    /// let list = ParameterList::new(vec![Parameter::new("kernel", &[3, 2])?])?;
    /// let mut optimizer = Adafactor::build(&AdafactorArguments::default(), &list)?;
    /// // Stored by columns: its transposed view is a 3 × 2 matrix.
    /// let mut kernel = Array2::<f32>::ones((2, 3));
    /// let gradient = Array2::<f32>::from_elem((3, 2), 0.5);
    /// optimizer.step_views(
    ///     &mut [kernel.view_mut().reversed_axes().into_dyn()],
    ///     &[Some(gradient.view().into_dyn())],
    /// )?;
    /// assert!(kernel.iter().all(|&x| x < 1.0));
    /// # Ok::<(), goldstep_core::Error>(())
    /// ```
    pub fn step_views(
        &mut self,
        parameters: &mut [ArrayViewMutD<'_, T>],
        gradients: &[Option<ArrayViewD<'_, T>>],
    ) -> Result<StepReport, Error> {
        let list = self.parameters();
        list.check_count("parameters", parameters.len())?;
        list.check_count("gradients", gradients.len())?;
        for (index, parameter) in parameters.iter().enumerate() {
            check_shape(list, index, "parameter", parameter.shape())?;
        }
        for (index, gradient) in gradients.iter().enumerate() {
            if let Some(gradient) = gradient {
                check_shape(list, index, "gradient", gradient.shape())?;
            }
        }
        let mut copies = std::mem::take(&mut self.copies);
        let result = self.step_in_place(parameters, gradients, &mut copies);
        self.copies = copies;
        result
    }

    /// A step on views of the planned shapes.
    fn step_in_place(
        &mut self,
        parameters: &mut [ArrayViewMutD<'_, T>],
        gradients: &[Option<ArrayViewD<'_, T>>],
        copies: &mut Copies<T>,
    ) -> Result<StepReport, Error> {
        let count = parameters.len();
        copies.parameters.resize_with(count, Vec::new);
        copies.gradients.resize_with(count, Vec::new);
        let gradients: Vec<_> = gradients
            .iter()
            .zip(&mut copies.gradients)
            .map(|(view, copy)| view.as_ref().map(|view| Gradient::Dense(row_major(view, copy))))
            .collect();
        let starts_averages = self.arguments.use_ema();
        let mut in_place: Vec<_> = parameters
            .iter_mut()
            .zip(&mut copies.parameters)
            .zip(gradients.iter().zip(&self.variables))
            .map(|((view, copy), (gradient, variable))| {
                let is_read = starts_averages && variable.average.is_none();
                InPlace::of(view, copy, gradient.is_some(), is_read)
            })
            .collect();
        self.forget_all();
        let report = self.step_trusting(&mut in_place, &gradients)?;
        in_place.into_iter().for_each(InPlace::write_back);
        Ok(report)
    }
}

/// Copies in row-major order of views that are laid out otherwise, kept from step to step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copies<T> {
    parameters: Vec<Vec<T>>,
    gradients: Vec<Vec<T>>,
}

fn check_shape(
    list: &ParameterList,
    index: usize,
    what: &'static str,
    got: &[usize],
) -> Result<(), Error> {
    let parameter = &list[index];
    if parameter.shape() == got {
        Ok(())
    } else {
        let (name, expected) = (parameter.name().to_owned(), parameter.shape().to_vec());
        Err(Error::Shape { what, name, expected, got: got.to_vec() })
    }
}

/// The elements of a view in row-major order: the view's own, or a copy of them.
fn row_major<'a, T: CpuElement>(view: &'a ArrayViewD<'_, T>, copy: &'a mut Vec<T>) -> &'a [T] {
    match view.as_slice() {
        Some(elements) => elements,
        None => {
            fill(copy, view.view());
            copy
        }
    }
}

/// Copies a view.
fn fill<T: CpuElement>(copy: &mut Vec<T>, view: ArrayViewD<'_, T>) {
    copy.resize(view.len(), T::default());
    if let Ok(copy) = ArrayViewMutD::from_shape(view.raw_dim(), copy) {
        assign(copy, view);
    }
}

/// Elements of a tile that is copied at a time: its lines of both views stay in a first-level cache.
const TILE: usize = 4096;

/// Copies from one layout to another, tile by tile: in the order of one of both, each element of
/// the other would come from a line of its own.
fn assign<T: CpuElement>(mut target: ArrayViewMutD<'_, T>, source: ArrayViewD<'_, T>) {
    let longest = source.shape().iter().enumerate().max_by_key(|&(_, &length)| length);
    match longest {
        Some((axis, &length)) if source.len() > TILE => {
            let (first, rest) = source.split_at(Axis(axis), length / 2);
            let (first_target, rest_target) = target.split_at(Axis(axis), length / 2);
            assign(first_target, first);
            assign(rest_target, rest);
        }
        _ => target.assign(&source),
    }
}

/// The elements of a parameter in row-major order: the view's own, or a copy.
enum InPlace<'a, 'v, T> {
    Own(&'a mut [T]),
    /// A copy, and where it goes back to if it changes.
    Copy(&'a mut Vec<T>, Option<&'a mut ArrayViewMutD<'v, T>>),
}

impl<'a, 'v, T: CpuElement> InPlace<'a, 'v, T> {
    fn of(
        view: &'a mut ArrayViewMutD<'v, T>,
        copy: &'a mut Vec<T>,
        changes: bool,
        is_read: bool,
    ) -> Self {
        if view.is_standard_layout() {
            // A view in standard layout has a slice.
            return Self::Own(view.as_slice_mut().unwrap_or_default());
        }
        if changes || is_read {
            fill(copy, view.view());
        } else {
            // Only its length is looked at.
            copy.resize(view.len(), T::default());
        }
        Self::Copy(copy, changes.then_some(view))
    }

    fn write_back(self) {
        if let Self::Copy(copy, Some(view)) = self
            && let Ok(copy) = ArrayViewD::from_shape(view.raw_dim(), copy)
        {
            assign(view.view_mut(), copy);
        }
    }
}

impl<T> AsMut<[T]> for InPlace<'_, '_, T> {
    fn as_mut(&mut self) -> &mut [T] {
        match self {
            Self::Own(elements) => elements,
            Self::Copy(copy, _) => copy,
        }
    }
}
